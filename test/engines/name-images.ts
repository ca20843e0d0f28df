/** Images with names, made by hand: random sets whose rules name patterns, and the names to ask about. */
import { contents } from '../../src/image/fault.js';
import { type Ids, contentName } from '../../src/ids.js';
import { emptyRow, type Row } from '../../src/image/rows.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Image, PolicySet, SetRule } from '../../src/image/types.js';
import { matchesName, readAtom } from '../../src/names/pattern.js';
import type { Random } from '../fuzz/random.js';

const PATTERNS = [
  'api.example.com',
  '*.example.com',
  '**.example.com',
  'a*.example.com',
  '*i.example.*',
  'www.example.com',
  'db-*.prod.*.net',
  '**.net',
  '*.x',
  'x',
  '***',
  'b.a.c',
  '**.c',
];

export const NAMES = [
  'api.example.com',
  'www.example.com',
  'a.b.example.com',
  'example.com',
  'ai.example.org',
  'db-1.prod.eu.net',
  'db-.prod.eu.net',
  'net',
  'q.x',
  'x',
  'b.a.c',
  'a.c',
  'nothing.at.all',
  'under_score.x',
];

/** Destination classes: which addresses have which atoms. */
const CLASSES = [['d1'], ['d2'], ['d1', 'd2']];

export const ENDPOINTS = ['default/a', 'default/b', 'default/c'];

export function bindings(): EndpointBinding[] {
  return ENDPOINTS.map((key, i) => ({
    ...{ key, uid: key, ifindex: 1000 + i, ifname: `veth${i}`, id: i + 1, mac: '', ips: [`10.0.0.${i + 1}`] },
    kind: 'pod' as const,
    l3: false,
  }));
}

/** A set of these rules, as the compiler gives it. */
export function setOf(rules: readonly Omit<SetRule, 'id' | 'tierEnd'>[], ids: Ids): PolicySet {
  const complete = rules.map((rule, n) => ({ ...rule, id: ids.of(`rule|${n}`), tierEnd: rules.length }));
  const name = contentName(JSON.stringify(complete));
  return {
    id: ids.of(contents.set(name)),
    name,
    rules: complete,
    large: false,
    staged: false,
    names: rules.some(({ names }) => names),
    queries: rules.some(({ queries }) => queries),
    says: rules.some(({ said }) => said),
  };
}

export function rule(more: Partial<SetRule>): Omit<SetRule, 'id' | 'tierEnd'> {
  return { action: 'allow', staged: false, log: false, atoms: null, self: false, ports: null, ...more };
}

function randomSet(random: Random, ids: Ids): PolicySet {
  const some = (...kinds: string[]) => {
    const patterns = [...new Set([random.pick(PATTERNS), ...random.some(PATTERNS, 2)])];
    return [...new Set(patterns.map((p) => `${random.pick(kinds)}:${p}`))].sort();
  };
  const rules = Array.from({ length: random.below(5) }, () =>
    rule({
      action: random.pick(['allow', 'deny'] as const),
      ...(random.chance(30) ? { atoms: [random.pick(['d1', 'd2'])] } : {}),
      ...(random.chance(50) ? { names: some('name', 'alias') } : {}),
      ...(random.chance(25) ? { queries: some('query') } : {}),
    }),
  );
  return setOf(rules, ids);
}

/** An Image of these endpoints' sets. */
export function imageOf(sets: readonly (PolicySet | undefined)[], ids: Ids, destinations: readonly number[]): Image {
  const classes = new Map(CLASSES.map((atoms) => [ids.of(contents.class(atoms)), atoms]));
  const classIds = [...classes.keys()];
  return {
    sets: new Map(sets.flatMap((set) => (set ? [[set.id, set] as const] : []))),
    classes,
    destinations4: {
      keys: Float64Array.from(destinations, (_, i) => (0x0a010000 + i) * 64 + 32),
      classes: Float64Array.from(destinations, (n) => classIds[n] as number),
    },
    destinations6: { keys: [], classes: new Float64Array(0) },
    services: new Map(),
    nodes: new Map(),
    tunnels: new Map(),
    endpoints: new Map(ENDPOINTS.map((key, i) => [key, sets[i]?.id ?? 0])),
    rules: new Map(),
    refused: new Map(),
    refusedServices: new Map(),
  };
}

/** @param before an Image some of whose sets stay */
export function randomImage(random: Random, ids: Ids, before?: Image): Image {
  const old = before ? [...before.sets.values()] : [];
  const sets = ENDPOINTS.map(() => {
    if (random.chance(15)) return undefined;
    return old.length > 0 && random.chance(40) ? random.pick(old) : randomSet(random, ids);
  });
  const destinations = Array.from({ length: 3 }, () => random.below(CLASSES.length));
  return imageOf(sets, ids, destinations);
}

/** The row by which a set judges a name that was learned so, from the rules alone. */
export function expectedRow(set: PolicySet, kind: 'name' | 'alias' | 'query', name: string): Row {
  const field = kind === 'query' ? 'queries' : 'names';
  const kinds = { name: ['name', 'alias'], alias: ['alias'], query: ['query'] }[kind];
  const row = emptyRow(set);
  set.rules.forEach((rule, bit) => {
    const atoms = rule[field];
    const matches = atoms?.some((atom) => {
      const read = readAtom(atom);
      return read && kinds.includes(read.kind) && matchesName(read.pattern, name);
    });
    if (!atoms || matches) row[bit >> 5] = (row[bit >> 5] as number) | (1 << (bit & 31));
  });
  return row;
}
