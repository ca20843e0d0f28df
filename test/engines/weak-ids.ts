/** Ids that collide, and what an engine that has them says in the words of those that have none. */
import { createHash } from 'node:crypto';
import type { Ids } from '../../src/ids.js';
import type { Image } from '../../src/image/types.js';
import type { Verdict } from '../../src/ir/packet.js';
import { ruleId } from '../../src/ir/names.js';

/**
 * So few bits that contents meet all the time. The ids are large: a small one may be a state of the matcher of names,
 * and is no class of a name then (src/image/plan/names.ts).
 * @param salt another one, other meetings
 */
export function weakIds(bits: number, salt: number): Ids {
  return {
    of(content) {
      const digest = createHash('sha256').update(`${salt}|${content}`).digest();
      return 2 ** 40 + 2 ** 31 + (digest.readUInt32BE(0) % 2 ** bits);
    },
  };
}

/** The verdict with the rules' ids of evaluate(). */
export function inPlainIds<V extends Verdict>(verdict: V, image: Image): V {
  const plain = (id: number) => {
    const ref = image.rules.get(id);
    return ref ? ruleId(ref) : id;
  };
  const { rule, audit, logged } = verdict;
  return {
    ...verdict,
    rule: plain(rule),
    logged: logged.map(plain),
    ...(audit ? { audit: { ...audit, rule: plain(audit.rule) } } : {}),
  };
}

/** Who was refused, and why. */
export function reasons({ refused }: Image): [string, string][] {
  return [...refused].map(([key, { reason }]) => [key, reason]);
}
