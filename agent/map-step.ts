/** What an update of the maps writes, and whether they have room for it. Reads books, writes nothing. */
import { AgentError } from '../src/errors.js';
import { classAt, sizeOf } from '../src/image/edited.js';
import type { Plan } from '../src/image/plan.js';
import type { ServicePlan } from '../src/image/plan-services.js';
import { classRow, fixedRows, portEntries } from '../src/image/rows.js';
import type { EndpointBinding } from '../src/image/store.js';
import type { Image, PolicySet } from '../src/image/types.js';
import type { Leftovers, Shown } from './leftovers.js';
import type { Recovered } from './map-recovery.js';

/** One update, planned from what the maps show. */
export interface Step {
  readonly wanted: readonly (readonly [EndpointBinding, bigint])[];
  readonly flips: boolean;
  /** Classes that the Image has, or had, and that may be new. */
  readonly changed: readonly number[];
  readonly plan: Plan;
  readonly services: ServicePlan;
  readonly batch: Batch;
}

/** Rows to write before anything refers to them. */
export interface Batch {
  readonly sets: readonly PolicySet[];
  /** New ones, with their atoms. */
  readonly classes: ReadonlyMap<number, readonly number[]>;
  readonly rows: readonly { set: PolicySet; classId: number; row: Uint32Array }[];
}

/**
 * New sets, and the rows that old and new sets need for old, new and transitional classes.
 * @param changed classes that may be new
 * @param rowsKnown every set in the maps has its rows of the classes there; otherwise all are written again
 */
export function batchFor(
  inMaps: Recovered,
  image: Image,
  changed: readonly number[],
  transitional: Plan['transitional'],
  rowsKnown: boolean,
): Batch {
  const sets = [...image.sets.values()].filter((s) => !inMaps.sets.has(s.id));
  const fresh = new Map<number, readonly number[]>();
  for (const id of changed) {
    const atoms = image.classes.get(id);
    if (atoms && !inMaps.classes.has(id)) fresh.set(id, atoms);
  }
  for (const [id, atoms] of transitional) if (!inMaps.classes.has(id)) fresh.set(id, atoms);
  const rows: { set: PolicySet; classId: number; row: Uint32Array }[] = [];
  const add = (set: PolicySet, classes: Iterable<readonly [number, readonly number[]]>) => {
    const have = inMaps.rows.get(set.id);
    for (const [classId, atoms] of classes) {
      if (have?.has(classId)) continue;
      const row = classRow(set, atoms);
      if (row) rows.push({ set, classId, row });
    }
  };
  // An agent before this one may have died when the journal knew a class, and not all of its rows were written.
  if (!rowsKnown) for (const set of inMaps.sets.values()) add(set, inMaps.classes);
  if (fresh.size > 0) for (const set of inMaps.sets.values()) add(set, fresh);
  for (const set of sets) {
    add(set, inMaps.classes);
    add(set, fresh);
  }
  return { sets, classes: fresh, rows };
}

/** Entries that each policy map holds, by the books. */
export function entriesOf(inMaps: Recovered, left: Leftovers): Record<string, () => number> {
  const total = (large: boolean, of: (s: PolicySet) => number) => {
    let n = 0;
    for (const s of inMaps.sets.values()) if (s.large === large) n += of(s);
    return n;
  };
  const rows = (s: PolicySet) => (inMaps.rows.get(s.id)?.size ?? 0) + fixedRows(s).length;
  const ports = (s: PolicySet) => portEntries(s).length;
  const rules = (s: PolicySet) => s.rules.length;
  const { destinations4, destinations6, services } = inMaps;
  return {
    destinations4: () => sizeOf(destinations4) + besides(left.destinations4, (key) => classAt(destinations4, key)),
    destinations6: () => sizeOf(destinations6) + besides(left.destinations6, (key) => classAt(destinations6, key)),
    class_rules: () => total(false, rows),
    class_rules_large: () => total(true, rows),
    port_rules: () => total(false, ports),
    port_rules_large: () => total(true, ports),
    rules: () => total(false, rules) + total(true, rules),
    services: () => services.size + besides(left.services, (key) => services.get(key)),
  };
}

/** Entries that are still there, and not in the Image. */
function besides<K>(shown: Shown<K, unknown>, inImage: (key: K) => unknown): number {
  let n = 0;
  for (const key of shown.values.keys()) if (inImage(key) === undefined) n++;
  return n;
}

/**
 * Why a step cannot be done: the first map that has no room.
 * @param maxOf entries that a map can hold
 */
export function tooLarge(
  { batch, plan, services }: Step,
  entries: Record<string, () => number>,
  maxOf: (name: string) => number,
): AgentError | undefined {
  const count = (large: boolean, of: (s: PolicySet) => number) =>
    batch.sets.filter((s) => s.large === large).reduce((n, s) => n + of(s), 0);
  const rows = (large: boolean) =>
    batch.rows.filter((r) => r.set.large === large).length + count(large, (s) => fixedRows(s).length);
  const more: Record<string, number> = {
    destinations4: plan.destinations4.before.length,
    destinations6: plan.destinations6.before.length,
    class_rules: rows(false),
    class_rules_large: rows(true),
    port_rules: count(false, (s) => portEntries(s).length),
    port_rules_large: count(true, (s) => portEntries(s).length),
    rules: batch.sets.reduce((n, s) => n + s.rules.length, 0),
    services: services.added,
  };
  for (const [name, added] of Object.entries(more)) {
    if (added === 0) continue;
    const need = (entries[name]?.() ?? 0) + added;
    const max = maxOf(name);
    if (need <= max) continue;
    return new AgentError(
      'TOO_LARGE',
      `map ${name} holds ${max} entries; these policies need ${need} while they replace the old ones`,
      {
        hint: `raise it with --map-size ${name}=${2 ** Math.ceil(Math.log2(need))}, or use fewer or wider CIDRs; the last complete policy stays in force`,
      },
    );
  }
  return undefined;
}
