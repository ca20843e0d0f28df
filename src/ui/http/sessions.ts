/** One-time tokens and the sessions that they begin. Nothing of it is written to disk. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { type Holder, holderOf, toEnd } from '../access/shares.js';
import type { Viewer } from '../access/viewer.js';

/** A token that nobody used is over after this, milliseconds. */
const TOKEN_MS = 5 * 60_000;
/** A session that nobody uses is over after this. */
const SESSION_MS = 12 * 3600_000;
/** Sessions at most. With more, those of whoever has most end, the oldest first. */
const MOST_SESSIONS = { own: 50, share: 200, all: 1000 };

/**
 * What a session is used with. Browsers send cookies of a host to every port of it, so also to servers of others on the
 * same machine: with the cookie alone nothing is answered. The key is kept by the page, and browsers let only pages of the
 * same port read it; scripts do not see the cookie.
 */
export interface Opened {
  readonly secret: string;
  readonly key: string;
}

interface Session<U> extends Holder {
  readonly name: string;
  readonly user: U;
  readonly key: Buffer;
  until: number;
}

/** Tokens and sessions of one server. @typeParam U who a session is of */
export class Sessions<U extends Viewer> {
  readonly #now: () => number;
  #token: { digest: Buffer; until: number; user: U } | undefined;
  readonly #sessions = new Map<string, Session<U>>();

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** A token that begins one session. The one before is over. */
  newToken(user: U): string {
    const token = randomBytes(32).toString('base64url');
    this.#token = { digest: digest(token), until: this.#now() + TOKEN_MS, user };
    return token;
  }

  /** Uses the token up. @returns the new session; undefined: it is not the token, or no more */
  redeem(token: string): Opened | undefined {
    const wanted = this.#token;
    if (!wanted || wanted.until < this.#now() || !timingSafeEqual(digest(token), wanted.digest)) return undefined;
    this.#token = undefined;
    return this.begin(wanted.user);
  }

  begin(user: U): Opened {
    const [secret, key] = [randomBytes(32).toString('base64url'), randomBytes(32).toString('base64url')];
    const holder = holderOf(user);
    const over = toEnd(this.#sessions.values(), holder, MOST_SESSIONS);
    if (over) this.#sessions.delete(over.name);
    const name = digest(secret).toString('hex');
    this.#sessions.set(name, { ...holder, name, user, key: digest(key), until: this.#now() + SESSION_MS });
    return { secret, key };
  }

  /** Whose session it is. undefined: there is none, it is over, or the key is another's */
  user({ secret, key }: Opened): U | undefined {
    const name = digest(secret).toString('hex');
    const session = this.#sessions.get(name);
    if (!session || !timingSafeEqual(digest(key), session.key)) return undefined;
    this.#sessions.delete(name);
    if (session.until < this.#now()) return undefined;
    session.until = this.#now() + SESSION_MS;
    this.#sessions.set(name, session);
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
