/** Asks the Kubernetes API who somebody is and what they may do: TokenReview, SubjectAccessReview. */
import { AgentError } from '../../errors.js';
import { isRecord } from '../../identity/fields.js';
import { type KubeClient, KubeError } from '../../kube/client/client.js';

/** Milliseconds for one answer: rights that nobody confirms in time are none. */
const ANSWER_MS = 2500;
/** Reviews that are asked for at once; the others wait. */
const AT_ONCE = 16;
/** Reviews that may wait. Beyond, they are refused. */
const MOST_WAITING = 20_000;
/** Names, groups and the like, as they come from an authenticator. */
const LONGEST_NAME = 4096;
const MOST_GROUPS = 5000;
const MOST_EXTRA = 100;
/** Namespaces of one cluster. */
const MOST_NAMESPACES = 20_000;
const PAGE_SIZE = 500;

/** Who has a token, as the API server says. */
export interface User {
  readonly username: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

/** A right, on one namespace or, without it, on all. */
export interface Right {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly namespace?: string;
}

/** The right to see who talks to whom. */
export const SEE_FLOWS: Right = { verb: 'get', group: 'egress-agent.io', resource: 'flows' };
/** The right that whoever writes policies of a namespace has. */
export const WRITE_POLICIES: Right = { verb: 'create', group: 'networking.k8s.io', resource: 'networkpolicies' };

/** The reviews, with the rights of this server itself. Errors are AgentErrors AGENT: it cannot be decided. */
export class Reviews {
  readonly #client: KubeClient;
  readonly #audiences: readonly string[];
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  /** @param audiences that a token must be for; empty: the API server's own */
  constructor(client: KubeClient, audiences: readonly string[]) {
    this.#client = client;
    this.#audiences = audiences;
  }

  /** Whose token it is. @returns undefined: nobody's, or for somebody else */
  async userOf(token: string): Promise<User | undefined> {
    const spec = { token, ...(this.#audiences.length > 0 ? { audiences: this.#audiences } : {}) };
    const status = await this.#review('/apis/authentication.k8s.io/v1/tokenreviews', {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      spec,
    });
    if (status.authenticated !== true) return undefined;
    // An authenticator that knows no audiences says none: its tokens are for the API server alone.
    const audiences = texts(status.audiences, MOST_GROUPS) ?? [];
    if (this.#audiences.length > 0 && !audiences.some((a) => this.#audiences.includes(a))) return undefined;
    return readUser(status.user);
  }

  /** Whether a user has a right. */
  async may(user: User, { namespace, ...right }: Right): Promise<boolean> {
    const { username, uid, groups, extra } = user;
    const status = await this.#review('/apis/authorization.k8s.io/v1/subjectaccessreviews', {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: {
        ...{ user: username, groups, extra },
        ...(uid === '' ? {} : { uid }),
        resourceAttributes: { ...right, ...(namespace === undefined ? {} : { namespace }) },
      },
    });
    return status.allowed === true && status.denied !== true;
  }

  /** The names of all namespaces. */
  async namespaces(): Promise<string[]> {
    const found: string[] = [];
    let next = '';
    do {
      const query = { limit: String(PAGE_SIZE), ...(next === '' ? {} : { continue: next }) };
      const keep = { metadata: { continue: true }, items: { metadata: { name: true } } } as const;
      const page = await this.#asked(() =>
        this.#client.request('GET', '/api/v1/namespaces', { query, keep, timeoutMs: ANSWER_MS }),
      );
      if (!isRecord(page) || !Array.isArray(page.items)) throw undecided('a list of namespaces is malformed');
      for (const item of page.items as unknown[]) {
        const name = isRecord(item) && isRecord(item.metadata) ? item.metadata.name : undefined;
        if (typeof name === 'string' && name !== '' && name.length <= 253) found.push(name);
      }
      if (found.length > MOST_NAMESPACES) throw undecided(`there are more than ${MOST_NAMESPACES} namespaces`);
      next = isRecord(page.metadata) && typeof page.metadata.continue === 'string' ? page.metadata.continue : '';
    } while (next !== '');
    return found;
  }

  async #review(path: string, body: unknown): Promise<Record<string, unknown>> {
    const answer = await this.#asked(() => this.#client.request('POST', path, { body, timeoutMs: ANSWER_MS }));
    const status = isRecord(answer) ? answer.status : undefined;
    if (!isRecord(status)) throw undecided('a review has no status');
    return status;
  }

  async #asked<T>(question: () => Promise<T>): Promise<T> {
    if (this.#running >= AT_ONCE) {
      if (this.#waiting.length >= MOST_WAITING) throw undecided('too many reviews are asked for');
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else this.#running++;
    try {
      return await question();
    } catch (e) {
      // The API server's own words may repeat what was sent, and that is a token.
      if (e instanceof KubeError) throw undecided(`the API server says ${e.status || e.reason}`);
      throw e;
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running--;
    }
  }
}

function undecided(why: string): AgentError {
  return new AgentError('AGENT', `it cannot be decided what you may see: ${why}`, {
    hint: 'nothing is shown until the Kubernetes API answers',
  });
}

function readUser(value: unknown): User | undefined {
  if (!isRecord(value)) return undefined;
  const { username, uid = '' } = value;
  const groups = texts(value.groups ?? [], MOST_GROUPS);
  const extra = extraOf(value.extra ?? {});
  if (!isName(username) || username === '' || !isName(uid) || !groups || !extra) return undefined;
  return { username, uid, groups, extra };
}

function extraOf(value: unknown): User['extra'] | undefined {
  if (!isRecord(value)) return undefined;
  const entries = Object.entries(value).map(([key, list]) => [key, texts(list, MOST_GROUPS)] as const);
  if (entries.length > MOST_EXTRA || entries.some(([key, list]) => !isName(key) || !list)) return undefined;
  return Object.fromEntries(entries) as User['extra'];
}

function texts(value: unknown, most: number): string[] | undefined {
  return Array.isArray(value) && value.length <= most && value.every(isName) ? value : undefined;
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value.length <= LONGEST_NAME;
}
