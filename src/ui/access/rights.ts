/** What each user may see, by SubjectAccessReviews that are kept for some seconds. */
import { type Reviews, type Right, SEE_FLOWS, type User, WRITE_POLICIES } from './reviews.js';
import type { Scope } from './viewer.js';

/**
 * How long an answer counts, milliseconds. A right that was taken away is gone after the first; one that was given is
 * seen after the second, since most users see few of many namespaces, and each costs a review.
 */
const KEPT_MS = { yes: 6000, no: 45_000 };
const NAMESPACES_MS = 6000;
const MOST_USERS = 500;

interface Answer {
  readonly allowed: boolean;
  readonly untilMs: number;
}

interface Known {
  /** By right and namespace. */
  readonly answers: Map<string, Answer>;
  running: Promise<Scope> | undefined;
}

export class Rights {
  readonly #reviews: Pick<Reviews, 'may' | 'namespaces'>;
  readonly #now: () => number;
  /** The user asked for last is the last. */
  readonly #users = new Map<string, Known>();
  #namespaces: { names: Promise<readonly string[]>; untilMs: number } | undefined;

  constructor(reviews: Pick<Reviews, 'may' | 'namespaces'>, now: () => number = () => performance.now()) {
    this.#reviews = reviews;
    this.#now = now;
  }

  /** The namespaces that a user may see. @throws AgentError AGENT if it cannot be decided, of any of them */
  async scopeOf(user: User): Promise<Scope> {
    const known = this.#known(user);
    known.running ??= this.#decide(user, known).finally(() => (known.running = undefined));
    return known.running;
  }

  /** Whether a user may write policies of a namespace. @throws AgentError AGENT */
  async mayWrite(user: User, namespace: string): Promise<boolean> {
    return this.#ask(user, this.#known(user), { ...WRITE_POLICIES, namespace });
  }

  async #decide(user: User, known: Known): Promise<Scope> {
    // One review: asked as often for those who may not.
    if (await this.#ask(user, known, SEE_FLOWS, KEPT_MS.yes)) return undefined;
    const names = await this.#names();
    const allowed = await Promise.all(names.map((namespace) => this.#ask(user, known, { ...SEE_FLOWS, namespace })));
    this.#forget(known);
    return new Set(names.filter((_, n) => allowed[n]));
  }

  async #ask(user: User, known: Known, right: Right, noMs = KEPT_MS.no): Promise<boolean> {
    const key = `${right.verb} ${right.resource}.${right.group} ${right.namespace ?? '*'}`;
    const before = known.answers.get(key);
    if (before && before.untilMs > this.#now()) return before.allowed;
    // It counts from when it was asked, not from when it was answered.
    const asked = this.#now();
    const allowed = await this.#reviews.may(user, right);
    known.answers.set(key, { allowed, untilMs: asked + (allowed ? KEPT_MS.yes : noMs) });
    return allowed;
  }

  /** Namespaces that are gone. */
  #forget({ answers }: Known): void {
    const now = this.#now();
    for (const [key, { untilMs }] of answers) if (untilMs + KEPT_MS.no < now) answers.delete(key);
  }

  async #names(): Promise<readonly string[]> {
    const now = this.#now();
    if (!this.#namespaces || this.#namespaces.untilMs <= now) {
      const names = this.#reviews.namespaces();
      const made = { names, untilMs: now + NAMESPACES_MS };
      this.#namespaces = made;
      names.catch(() => {
        if (this.#namespaces === made) this.#namespaces = undefined;
      });
    }
    return this.#namespaces.names;
  }

  #known(user: User): Known {
    const key = JSON.stringify([user.username, user.uid, user.groups, user.extra]);
    const known = this.#users.get(key) ?? { answers: new Map(), running: undefined };
    this.#users.delete(key);
    this.#users.set(key, known);
    if (this.#users.size > MOST_USERS) this.#users.delete(this.#users.keys().next().value as string);
    return known;
  }
}
