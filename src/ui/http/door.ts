/** Lets people in by their Kubernetes tokens, where `egressctl ui` does so by one-time links. */
import type { People } from '../access/people.js';
import type { Viewer } from '../access/viewer.js';
import { HttpError } from './answers.js';
import { Attempts } from './attempts.js';

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

/** By tokens that the Kubernetes API reviews. */
export class TokenDoor implements Door {
  readonly #people: Pick<People, 'viewerOf' | 'forget' | 'known'>;
  readonly #typed = new Attempts({ own: 10, all: 120 });
  readonly #brought = new Attempts({ own: 600, all: 600 });
  readonly #takesHeader: boolean;
  readonly hint: string;

  /**
   * @param options.header requests may bring tokens in `Authorization: Bearer`, put there by a proxy
   * @param options.audience that tokens are for; undefined: the API server's
   */
  constructor(
    people: Pick<People, 'viewerOf' | 'forget' | 'known'>,
    { header, audience }: { header: boolean; audience?: string | undefined },
  ) {
    this.#people = people;
    this.#takesHeader = header;
    this.hint = `kubectl create token NAME${audience === undefined ? '' : ` --audience ${audience}`}`;
  }

  async enter(token: string, address: string): Promise<Viewer> {
    if (!this.#typed.take(address)) throw tooMany();
    const viewer = await this.#people.viewerOf(token.trim());
    if (!viewer) throw refused('this token is not good here');
    return viewer;
  }

  async bearer(authorization: string | undefined): Promise<Viewer | undefined> {
    if (!this.#takesHeader || authorization === undefined) return undefined;
    const [, token] = /^bearer +(\S+) *$/i.exec(authorization) ?? [];
    if (token === undefined) return undefined;
    // All come from the proxy: one that is known costs nothing.
    if (!this.#people.known(token) && !this.#brought.take('')) throw tooMany();
    const viewer = await this.#people.viewerOf(token);
    if (!viewer) throw refused('the token of the proxy is not good here');
    return viewer;
  }

  forget(viewer: Viewer): void {
    this.#people.forget(viewer);
  }
}

function refused(message: string): HttpError {
  return new HttpError(401, message, { signIn: true });
}

function tooMany(): HttpError {
  return new HttpError(429, 'too many tries to sign in', { hint: 'try again in a minute', signIn: true });
}
