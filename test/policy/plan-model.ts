/** A plain table of prefixes, to which a plan is applied write by write. */
import { atomPrefix } from '../../src/image/prefix.js';
import { key6 } from '../../src/compile/destinations/sweep.js';
import type { DestinationPlan, Plan } from '../../src/image/plan/plan.js';
import type { Image } from '../../src/image/types.js';
import { ADDRESSES } from './churn.js';

/** Keys that cover an address, the longest first; as in Destinations4 and 6. */
const covering: readonly { readonly ip: string; readonly keys: readonly (number | string)[] }[] = ADDRESSES.map(
  (ip) => {
    const p = atomPrefix(ip, 1);
    if (p.family === 4) {
      const at = (length: number) => Math.floor(p.addr4 / 2 ** (32 - length)) * 2 ** (32 - length) * 64 + length;
      return { ip, keys: Array.from({ length: 33 }, (_, i) => at(32 - i)) };
    }
    const whole = BigInt(`0x${p.addr6}`);
    const at = (length: number) => {
      const shift = BigInt(128 - length);
      return key6({ ...p, addr6: ((whole >> shift) << shift).toString(16).padStart(32, '0'), prefix: length });
    };
    return { ip, keys: Array.from({ length: 129 }, (_, i) => at(128 - i)) };
  },
);

type Table = Map<number | string, number>;

function tableOf({ destinations4: d4, destinations6: d6 }: Image): Table {
  const table: Table = new Map();
  d4.keys.forEach((key, i) => table.set(key, d4.classes[i] as number));
  d6.keys.forEach((key, i) => table.set(key, d6.classes[i] as number));
  return table;
}

function find(table: Table, keys: readonly (number | string)[]): number {
  for (const key of keys) {
    const found = table.get(key);
    if (found !== undefined) return found;
  }
  return 0;
}

/** Atoms that some set asks for: others are seen by nobody. */
function asked({ sets }: Image): Set<string> {
  const out = new Set<string>();
  for (const { rules } of sets.values()) for (const { atoms } of rules) for (const atom of atoms ?? []) out.add(atom);
  return out;
}

const within = (a: ReadonlySet<string>, b: ReadonlySet<string>) => [...a].every((x) => b.has(x));

/**
 * Applies a plan, one write after the other. Whatever moment a packet chooses, it finds what it found before or will find after:
 *
 * - until the sets flip, the atoms that it had, and of those that the old sets ask for no others than it had or will have;
 * - from then on the same of the new atoms and the new sets;
 * - where no set flips, one of the two and nothing between.
 *
 * @returns what is wrong, and how many states were looked at
 */
export function walkPlan(old: Image, next: Image, plan: Plan, flips: boolean): { wrong?: string; states: number } {
  const table = tableOf(old);
  const target = tableOf(next);
  const atoms = (id: number): Set<string> => {
    const found = id === 0 ? [] : (plan.transitional.get(id) ?? next.classes.get(id) ?? old.classes.get(id));
    if (!found) throw new Error(`class ${id} is none`);
    return new Set(found);
  };
  const edges = covering.map(({ ip, keys }) => {
    const was = atoms(find(table, keys));
    const will = atoms(find(target, keys));
    return { ip, keys, was, will, either: new Set([...was, ...will]) };
  });
  const [oldAsked, newAsked] = [asked(old), asked(next)];
  let states = 0;
  let wrong: string | undefined;
  const look = (phase: string, key: number | string, flipped: boolean) => {
    states++;
    for (const { ip, keys, was, will, either } of edges) {
      if (wrong !== undefined || !keys.includes(key)) continue;
      const shown = atoms(find(table, keys));
      const seen = new Set([...shown].filter((a) => (flipped ? newAsked : oldAsked).has(a)));
      const needed = flipped ? will : was;
      const good = flips
        ? within(needed, shown) && within(seen, either)
        : (within(seen, was) && within(was, shown)) || (within(seen, will) && within(will, shown));
      if (!good) wrong = `${phase} ${key}: ${ip} shows ${[...shown]}, was ${[...was]}, will be ${[...will]}`;
    }
  };
  const each = (phase: 'before' | 'settle' | 'remove') => {
    const plans: DestinationPlan<number | string>[] = [plan.destinations4, plan.destinations6];
    for (const part of plans) {
      if (phase === 'remove') {
        for (const key of part.remove) {
          if (!table.delete(key)) wrong ??= `remove ${key}: is not there`;
          look(phase, key, true);
        }
      } else {
        for (const { key, classId } of part[phase]) {
          table.set(key, classId);
          look(phase, key, phase === 'settle');
        }
      }
    }
  };
  each('before');
  for (const { ip, keys, will } of edges) {
    if (flips && !within(will, atoms(find(table, keys)))) wrong ??= `flip: ${ip} lacks some of its new atoms`;
  }
  each('settle');
  each('remove');
  for (const [key, id] of target) if (table.get(key) !== id) wrong ??= `end: ${key} is ${table.get(key)}, not ${id}`;
  for (const key of table.keys()) if (!target.has(key)) wrong ??= `end: ${key} is left over`;
  return wrong === undefined ? { states } : { wrong, states };
}
