/** One-time tokens and the sessions that they begin. Nothing of it is written to disk. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

/** A token that nobody used is over after this, milliseconds. */
const TOKEN_MS = 5 * 60_000;
/** A session that nobody uses is over after this. */
const SESSION_MS = 12 * 3600_000;
const MOST_SESSIONS = 1000;

/** Tokens and sessions of one server. @typeParam U who a session is of */
export class Sessions<U> {
  readonly #now: () => number;
  #token: { digest: Buffer; until: number; user: U } | undefined;
  readonly #sessions = new Map<string, { user: U; until: number }>();

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** A token that begins one session. The one before is over. */
  newToken(user: U): string {
    const token = randomBytes(32).toString('base64url');
    this.#token = { digest: digest(token), until: this.#now() + TOKEN_MS, user };
    return token;
  }

  /** Uses the token up. @returns the new session's secret; undefined: it is not the token, or no more */
  redeem(token: string): string | undefined {
    const wanted = this.#token;
    if (!wanted || wanted.until < this.#now() || !timingSafeEqual(digest(token), wanted.digest)) return undefined;
    this.#token = undefined;
    return this.begin(wanted.user);
  }

  /** Begins a session. @returns its secret */
  begin(user: U): string {
    const secret = randomBytes(32).toString('base64url');
    if (this.#sessions.size >= MOST_SESSIONS) this.#sessions.delete(this.#sessions.keys().next().value as string);
    this.#sessions.set(digest(secret).toString('hex'), { user, until: this.#now() + SESSION_MS });
    return secret;
  }

  /** Whose session it is. undefined: there is none, or it is over */
  user(secret: string): U | undefined {
    const key = digest(secret).toString('hex');
    const session = this.#sessions.get(key);
    if (!session) return undefined;
    this.#sessions.delete(key);
    if (session.until < this.#now()) return undefined;
    session.until = this.#now() + SESSION_MS;
    this.#sessions.set(key, session);
    return session.user;
  }

  end(secret: string): void {
    this.#sessions.delete(digest(secret).toString('hex'));
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** The value of a cookie of a request. */
export function cookieOf(header: string | undefined, name: string): string | undefined {
  for (const part of (header ?? '').split(';')) {
    const at = part.indexOf('=');
    if (at > 0 && part.slice(0, at).trim() === name) return part.slice(at + 1).trim();
  }
  return undefined;
}
