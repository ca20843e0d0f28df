/** Checks whether the maps have room for an update, and which sets need it. Reads bookkeeping, writes nothing. */
import { AgentError } from '../../src/errors.js';
import { classAt, sizeOf } from '../../src/image/edited.js';
import { SetFault } from '../../src/image/fault.js';
import { fixedRows, portEntries } from '../../src/image/rows.js';
import { patternAtoms } from '../../src/image/names.js';
import type { AtomExpr, Image, PolicySet } from '../../src/image/types.js';
import type { AddressMaps } from './address-maps.js';
import type { FlatTrie } from './tables/flat-trie.js';
import type { HttpPrograms } from './tables/http-cells.js';
import type { Leftovers } from './books/leftovers.js';
import type { NameMaps } from './name-maps.js';
import type { RecoveredMaps } from './recovery.js';
import type { Batch, Step } from './step.js';

/** Functions that count the entries of each policy map, by the bookkeeping. */
export function entriesOf(
  inMaps: RecoveredMaps,
  leftovers: Leftovers,
  addressMaps: AddressMaps,
  flat: Pick<FlatTrie, 'chunks'>,
  names: Pick<NameMaps, 'chunks'>,
  http: Pick<HttpPrograms, 'ids'>,
): Record<string, () => number> {
  const total = (large: boolean, of: (s: PolicySet) => number) => {
    let n = 0;
    for (const s of inMaps.sets.values()) if (s.large === large) n += of(s);
    return n;
  };
  const rows = (s: PolicySet) => (inMaps.rows.get(s.id)?.size ?? 0) + fixedRows(s).length;
  const ports = (s: PolicySet) => portEntries(s).length;
  const rules = (s: PolicySet) => s.rules.length;
  const { destinations4, destinations6, services } = inMaps;
  const { addresses, tunnels } = addressMaps.wanted;
  return {
    destinations4: () =>
      sizeOf(destinations4) + leftovers.destinations4.countOutside((key) => classAt(destinations4, key)),
    destinations4_nodes: () => flat.chunks,
    destinations6: () =>
      sizeOf(destinations6) + leftovers.destinations6.countOutside((key) => classAt(destinations6, key)),
    class_rules: () => total(false, rows),
    class_rules_large: () => total(true, rows),
    port_rules: () => total(false, ports),
    port_rules_large: () => total(true, ports),
    rules: () => total(false, rules) + total(true, rules),
    name_cells: () => names.chunks,
    http_programs: () => http.ids.length,
    services: () => services.size + leftovers.services.countOutside((key) => services.get(key)),
    addresses: () => addresses.size + leftovers.addresses.countOutside((ip) => addresses.get(ip)),
    tunnels: () => tunnels.size + leftovers.tunnels.countOutside((key) => tunnels.get(key)),
  };
}

/** Whether the rows of a batch without sets fit. @param maxOf capacity of a map, entries */
export function rowsFit(batch: Batch, { sets, rows }: RecoveredMaps, maxOf: (name: string) => number): boolean {
  return [false, true].every((large) => {
    let n = batch.rows.filter(({ set }) => set.large === large).length;
    if (n === 0) return true;
    for (const set of sets.values())
      if (set.large === large) n += (rows.get(set.id)?.size ?? 0) + fixedRows(set).length;
    return n <= maxOf(large ? 'class_rules_large' : 'class_rules');
  });
}

/**
 * The error of a step that does not fit: it names the first map without room. If new sets need the room, the error
 * lists them, the one that needs most first: they are refused, and sets in force keep their room. undefined: the step
 * fits.
 * @param maxOf capacity of a map, entries
 * @param flat its chunks are the entries of a map; so are those of `names`
 */
export function tooLarge(
  step: Step,
  image: Image,
  entries: Record<string, () => number>,
  maxOf: (name: string) => number,
  flat: Pick<FlatTrie, 'missing'>,
  names: Pick<NameMaps, 'missing'>,
  http: Pick<HttpPrograms, 'hasRoom'>,
): AgentError | undefined {
  const { batch, plan, services, places } = step;
  const count = (large: boolean, of: (s: PolicySet) => number) =>
    batch.sets.filter((s) => s.large === large).reduce((n, s) => n + of(s), 0);
  const rows = (large: boolean) =>
    batch.rows.filter((r) => r.set.large === large).length + count(large, (s) => fixedRows(s).length);
  const additions: Record<string, number> = {
    destinations4: plan.destinations4.before.length,
    destinations4_nodes: flat.missing(plan.destinations4.before),
    destinations6: plan.destinations6.before.length,
    class_rules: rows(false),
    class_rules_large: rows(true),
    port_rules: count(false, (s) => portEntries(s).length),
    port_rules_large: count(true, (s) => portEntries(s).length),
    rules: batch.sets.reduce((n, s) => n + s.rules.length, 0),
    name_cells: names.missing(step.names),
    http_programs: batch.sets.filter((s) => s.says).length,
    services: services.added,
    addresses: places.addresses.added,
    tunnels: places.tunnels.added,
  };
  for (const [name, added] of Object.entries(additions)) {
    if (added === 0) continue;
    const need = (entries[name]?.() ?? 0) + added;
    const max = maxOf(name);
    if (need <= max) continue;
    const message = `map ${name} holds ${max} entries; these policies need ${need} while they replace the old ones`;
    const hint = `${adviceFor(name, need)}; the last complete policy stays in force`;
    const sets = newSetsByNeed(name, step, image);
    return sets.length > 0
      ? new SetFault('TOO_LARGE', message, { sets }, { hint })
      : new AgentError('TOO_LARGE', message, { hint });
  }
  if (http.hasRoom(batch.sets)) return undefined;
  const sets = batch.sets.filter((s) => s.says).sort((a, b) => b.rules.length - a.rules.length);
  return new SetFault(
    'TOO_LARGE',
    'what these policies ask of HTTP requests needs more memory than there is, while they replace the old ones',
    { sets: sets.map(({ id }) => id) },
    { hint: 'use fewer or simpler regular expressions in rules about HTTP; the last complete policy stays in force' },
  );
}

function adviceFor(name: string, need: number): string {
  if (name === 'name_cells') return 'use fewer patterns of names, or patterns with fewer stars';
  return `raise it with --map-size ${name}=${2 ** Math.ceil(Math.log2(need))}, or use fewer or wider CIDRs`;
}

/** New sets that need room in a map, the one that needs most first. */
function newSetsByNeed(name: string, { batch, plan }: Step, image: Image): number[] {
  const needs = new Map(batch.sets.map((set) => [set.id, 0]));
  const add = (id: number, n: number) => {
    const need = needs.get(id);
    if (need !== undefined) needs.set(id, need + n);
  };
  const large = name.endsWith('_large');
  const sized = batch.sets.filter((set) => set.large === large);
  if (name === 'rules') for (const set of batch.sets) add(set.id, set.rules.length);
  if (name === 'http_programs') for (const set of batch.sets) add(set.id, set.says ? set.rules.length : 0);
  if (name.startsWith('port_rules')) for (const set of sized) add(set.id, portEntries(set).length);
  if (name === 'name_cells') for (const set of batch.sets) add(set.id, patternAtoms([set]).length);
  const byClass = new Map<number, number>();
  const countClass = (classId: number) => byClass.set(classId, (byClass.get(classId) ?? 0) + 1);
  if (name.startsWith('class_rules'))
    for (const { set, classId } of batch.rows) {
      if (set.large !== large) continue;
      if (needs.has(set.id)) add(set.id, 1);
      else countClass(classId);
    }
  if (name.startsWith('destinations4')) for (const { classId } of plan.destinations4.before) countClass(classId);
  if (name === 'destinations6') for (const { classId } of plan.destinations6.before) countClass(classId);
  if (byClass.size > 0) {
    const setsByAtom = new Map<string, number[]>();
    for (const set of batch.sets) {
      for (const atom of atomsOf(set)) {
        const list = setsByAtom.get(atom);
        if (list) list.push(set.id);
        else setsByAtom.set(atom, [set.id]);
      }
    }
    for (const [classId, n] of byClass) {
      const atoms = image.classes.get(classId) ?? batch.classes.get(classId) ?? plan.transitional.get(classId) ?? [];
      for (const id of new Set(atoms.flatMap((atom) => setsByAtom.get(atom) ?? []))) add(id, n);
    }
  }
  return [...needs]
    .filter(([, n]) => n > 0)
    .sort(([, a], [, b]) => b - a)
    .map(([id]) => id);
}

/** The atoms that the set's rules name. */
function atomsOf({ rules }: PolicySet): Set<string> {
  const out = new Set<string>();
  const add = (expr: AtomExpr): void => {
    if (typeof expr === 'string') out.add(expr);
    else if ('not' in expr) add(expr.not);
    else for (const one of 'all' in expr ? expr.all : expr.some) add(one);
  };
  for (const { atoms, exprs, names, queries, said } of rules) {
    const saying = [...(said?.servers ?? []), ...(said?.hosts ?? [])];
    for (const atom of [...(atoms ?? []), ...(names ?? []), ...(queries ?? []), ...saying]) out.add(atom);
    for (const expr of exprs ?? []) add(expr);
  }
  return out;
}
