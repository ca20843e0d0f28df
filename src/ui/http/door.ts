/** Lets people in by their Kubernetes tokens, where `egressctl ui` does so by one-time links. */
import { isToken, type People } from '../access/people.js';
import type { Viewer } from '../access/viewer.js';
import { HttpError } from './answers.js';
import { isOver, type TurnLimits, Turns } from './turns.js';

/** Who comes in. */
export interface Door {
  /** The command that makes a token, for people who have none. */
  readonly hint: string;
  /**
   * Whose token it is that somebody typed. Whatever is wrong with a token, the answer is the same.
   * @throws HttpError 401, 429; AgentError AGENT if it cannot be decided
   */
  enter(token: string, address: string): Promise<Viewer>;
  /** Whose token a request brings itself; undefined: it brings none. @throws HttpError 401, 429; AgentError AGENT */
  bearer(authorization: string | undefined): Promise<Viewer | undefined>;
  /** A session is over. */
  forget(viewer: Viewer): void;
}

/** Few at once: an API server that hangs is asked for rights too. */
const LIMITS: TurnLimits = { perSecond: 20, burst: 20, running: 8, own: 20, all: 100 };

/** By tokens that the Kubernetes API reviews. */
export class TokenDoor implements Door {
  readonly #people: Pick<People, 'viewerOf' | 'forget' | 'known'>;
  readonly #turns: Turns;
  readonly #takesHeader: boolean;
  readonly hint: string;

  /**
   * @param options.header requests may bring tokens in `Authorization: Bearer`, put there by a proxy
   * @param options.audience that tokens are for; undefined: the API server's
   * @param options.limits of tries
   */
  constructor(
    people: Pick<People, 'viewerOf' | 'forget' | 'known'>,
    { header, audience, limits = LIMITS }: { header: boolean; audience?: string | undefined; limits?: TurnLimits },
  ) {
    this.#turns = new Turns(limits);
    this.#people = people;
    this.#takesHeader = header;
    this.hint = `kubectl create token NAME${audience === undefined ? '' : ` --audience ${audience}`}`;
  }

  async enter(token: string, address: string): Promise<Viewer> {
    const viewer = await this.#viewerOf(token.trim(), address);
    if (!viewer) throw refused('this token is not good here');
    return viewer;
  }

  async bearer(authorization: string | undefined): Promise<Viewer | undefined> {
    if (!this.#takesHeader || authorization === undefined) return undefined;
    const [, token] = /^bearer +(\S+) *$/i.exec(authorization) ?? [];
    if (token === undefined) return undefined;
    // All come from the proxy: it takes turns with those who type theirs.
    const viewer = await this.#viewerOf(token, 'proxy');
    if (!viewer) throw refused('the token of the proxy is not good here');
    return viewer;
  }

  /** Nobody is asked about what cannot be good, and what is known to be good waits for no turn. @throws HttpError 429 */
  async #viewerOf(token: string, address: string): Promise<Viewer | undefined> {
    if (!isToken(token) || isOver(token, Date.now())) return undefined;
    if (this.#people.known(token)) return await this.#people.viewerOf(token);
    const tried = await this.#turns.take(address, () => this.#people.viewerOf(token));
    if (!tried) throw tooMany();
    return tried.done;
  }

  forget(viewer: Viewer): void {
    this.#people.forget(viewer);
  }
}

function refused(message: string): HttpError {
  return new HttpError(401, message, { signIn: true });
}

function tooMany(): HttpError {
  return new HttpError(429, 'too many tries to sign in', { hint: 'try again in a moment', signIn: true });
}
