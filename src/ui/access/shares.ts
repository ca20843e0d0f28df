/** Who gives way when something that many use is full: never those who have little of it. */
import type { Viewer } from './viewer.js';

/** Who has a part. */
export interface Holder {
  /** One user. */
  readonly id: string;
  /** Whom a user counts as together with others, since one of them may make more of them. */
  readonly share: string;
}

/** Parts at most. */
export interface Most {
  readonly own: number;
  readonly share: number;
  readonly all: number;
}

/** A viewer as one who has a part. */
export function holderOf({ id, share }: Viewer): Holder {
  return { id, share: share ?? id };
}

/**
 * Whom a user counts as. Who may make a ServiceAccount in a namespace may make any number of them: all of a namespace are
 * one.
 * @param id of the user
 */
export function shareOf(username: string, id: string): string {
  const [, namespace] = /^system:serviceaccount:([^:]+):/.exec(username) ?? [];
  return namespace === undefined ? id : `system:serviceaccount:${namespace}:`;
}

/**
 * The part that ends so that another one can begin: the oldest of whoever has most; in doubt of the one who asks.
 * @param held the oldest first
 * @returns undefined: there is room
 */
export function toEnd<T extends Holder>(held: Iterable<T>, who: Holder, most: Most): T | undefined {
  const all = [...held];
  const own = all.filter(({ id }) => id === who.id);
  if (own.length >= most.own) return own[0];
  const near = all.filter(({ share }) => share === who.share);
  if (near.length >= most.share) return oldestOfMost(near, 'id', who.id);
  if (all.length < most.all) return undefined;
  const largest = oldestOfMost(all, 'share', who.share)?.share;
  return oldestOfMost(
    all.filter(({ share }) => share === largest),
    'id',
    who.id,
  );
}

function oldestOfMost<T extends Holder>(held: readonly T[], by: keyof Holder, own: string): T | undefined {
  const counts = new Map<string, number>();
  for (const one of held) counts.set(one[by], (counts.get(one[by]) ?? 0) + 1);
  const highest = Math.max(...counts.values());
  return (
    held.find((one) => one[by] === own && counts.get(own) === highest) ??
    held.find((one) => counts.get(one[by]) === highest)
  );
}
