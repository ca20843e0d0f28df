/**
 * The users of a server in a cluster, each by a token of theirs. Tokens are kept in memory while they are used, and
 * nowhere else: no log and no answer has them.
 */
import { createHash } from 'node:crypto';
import { KubeConfig } from '@kubernetes/client-node';
import { KubeClient } from '../../kube/client/client.js';
import type { Reviews, User } from './reviews.js';
import { Rights } from './rights.js';
import { shareOf, toEnd } from './shares.js';
import { type Scope, SignedOut, type Viewer } from './viewer.js';

/** A token is reviewed again after this, milliseconds. */
const REVIEWED_MS = 45_000;
/** Tokens that are remembered. With more, those of whoever has most are forgotten, the longest unused first. */
const MOST_PEOPLE = { own: 50, share: 200, all: 1000 };
/** A JWT, or whatever an authenticator takes: RFC 6750's b64token. */
const TOKEN = /^[\w~+/.-]{1,8000}=*$/;

/** Whether a text can be a token at all. */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

export interface PeopleOptions {
  readonly reviews: Reviews;
  /** The API server, for clients with a user's own token; undefined: nothing can be written. */
  readonly server: KubeConfig | undefined;
  readonly now?: () => number;
}

export class People {
  readonly #options: PeopleOptions;
  readonly #rights: Rights;
  readonly #now: () => number;
  /** By the digest of the token; the one used last is the last. */
  readonly #people = new Map<string, Person>();

  constructor(options: PeopleOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#rights = new Rights(options.reviews, this.#now);
  }

  /**
   * Whose token it is. The token is reviewed, unless it was within the last minute.
   * @returns undefined: nobody's
   * @throws AgentError AGENT if it cannot be decided
   */
  async viewerOf(token: string): Promise<Viewer | undefined> {
    if (!isToken(token)) return undefined;
    const digest = digestOf(token);
    const known = this.#people.get(digest);
    const person = known && !known.isOver ? known : new Person(token, this.#rights, this.#options, this.#now);
    try {
      await person.review();
    } catch (e) {
      if (!(e instanceof SignedOut)) throw e;
      this.#people.delete(digest);
      return undefined;
    }
    if (!this.#people.delete(digest)) this.#makeRoom(person);
    this.#people.set(digest, person);
    return person;
  }

  #makeRoom(person: Person): void {
    const over = toEnd(this.#people.values(), person, MOST_PEOPLE);
    for (const [digest, one] of over ? this.#people : []) if (one === over) this.#people.delete(digest);
  }

  /** Whether a token is somebody's who is here, so that a review of it is not due for everybody who sends one. */
  known(token: string): boolean {
    return this.#people.get(digestOf(token))?.isOver === false;
  }

  /** Forgets a user's token: every session that it began is over. */
  forget(viewer: Viewer): void {
    if (viewer instanceof Person) viewer.end();
    for (const [digest, person] of this.#people) if (person === viewer) this.#people.delete(digest);
  }
}

function digestOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

class Person implements Viewer {
  readonly #token: string;
  readonly #rights: Rights;
  readonly #options: PeopleOptions;
  readonly #now: () => number;
  #user: User | undefined;
  #untilMs = 0;
  #isOver = false;
  #running: Promise<void> | undefined;
  #client: KubeClient | undefined;
  /** Absent unless a client can be made. */
  readonly kube?: () => KubeClient;

  constructor(token: string, rights: Rights, options: PeopleOptions, now: () => number) {
    this.#token = token;
    this.#rights = rights;
    this.#options = options;
    this.#now = now;
    const { server } = options;
    if (server) this.kube = () => (this.#client ??= clientWith(server, token));
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get id(): string {
    const { username = '', uid = '' } = this.#user ?? {};
    return `${username} ${uid}`;
  }

  get share(): string {
    return shareOf(this.name, this.id);
  }

  get name(): string {
    return this.#user?.username ?? '';
  }

  async scope(): Promise<Scope> {
    return this.#rights.scopeOf(await this.review());
  }

  async mayWrite(namespace: string): Promise<boolean> {
    return this.#rights.mayWrite(await this.review(), namespace);
  }

  /** @throws SignedOut if the token is not good any more, AgentError AGENT if nobody can say */
  async review(): Promise<User> {
    if (this.#untilMs <= this.#now())
      await (this.#running ??= this.#again().finally(() => (this.#running = undefined)));
    if (this.#isOver || !this.#user) throw new SignedOut();
    return this.#user;
  }

  end(): void {
    this.#isOver = true;
    this.#client?.close();
  }

  async #again(): Promise<void> {
    if (this.#isOver) return;
    const asked = this.#now();
    const user = await this.#options.reviews.userOf(this.#token);
    const before = this.#user;
    // The same token is somebody else's: no session goes on with another user.
    if (this.#isOver) return;
    if (!user || (before !== undefined && (before.username !== user.username || before.uid !== user.uid))) {
      this.end();
      return;
    }
    this.#user = user;
    this.#untilMs = asked + Math.min(REVIEWED_MS, msLeft(this.#token));
  }
}

/** Milliseconds until the time that a JWT names as its end; endless if it names none. It was reviewed before. */
function msLeft(token: string): number {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    const { exp } = claims as { exp?: unknown };
    return typeof exp === 'number' ? Math.max(exp * 1000 - Date.now(), 0) : Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** A client of the same API server with another's token, and nothing of this server's own credentials. */
function clientWith(server: KubeConfig, token: string): KubeClient {
  const cluster = server.getCurrentCluster();
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: cluster ? [cluster] : [],
    users: [{ name: 'user', token }],
    contexts: [{ name: 'user', user: 'user', cluster: cluster?.name ?? '' }],
    currentContext: 'user',
  });
  return new KubeClient(config, { userAgent: 'egress-ui' });
}
