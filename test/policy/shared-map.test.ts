import fc from '../seeded.js';
import t from 'tap';
import { type Change, changedKeys, SharedMap } from '../../src/identity/shared-map.js';

const KEYS = 300;
const change = fc.tuple(
  fc.nat(KEYS).map((n) => `k${n}`),
  fc.option(fc.nat(2), { nil: undefined }),
) as fc.Arbitrary<Change<number>>;
/** Steps of one change, as events bring them, and steps of many, which make a new base. */
const steps = fc.array(
  fc.oneof(fc.array(change, { maxLength: 3 }), fc.array(change, { minLength: 60, maxLength: 200 })),
  {
    maxLength: 12,
  },
);
const start = fc.array(
  fc.tuple(
    fc.nat(KEYS).map((n) => `k${n}`),
    fc.nat(2),
  ),
  { maxLength: 200 },
);

const sorted = <V>(entries: Iterable<readonly [string, V]>) => [...entries].sort(([a], [b]) => (a < b ? -1 : 1));
const text = <V>(map: ReadonlyMap<string, V>) => JSON.stringify(sorted(map));

function naive<V>(a: ReadonlyMap<string, V>, b: ReadonlyMap<string, V>): string[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter((key) => a.get(key) !== b.get(key)).sort();
}

/** A Map of its own for each version, made the plain way. */
function versions(entries: readonly (readonly [string, number])[], list: readonly (readonly Change<number>[])[]) {
  const out = [{ shared: SharedMap.of(new Map(entries)), plain: new Map(entries) }];
  for (const changes of list) {
    const last = out.at(-1) as (typeof out)[number];
    const plain = new Map(last.plain);
    for (const [key, value] of changes) {
      if (value === undefined) plain.delete(key);
      else plain.set(key, value);
    }
    out.push({ shared: last.shared.with(changes), plain });
  }
  return out;
}

t.test('says what a Map says, in every version, whatever came later', async (t) => {
  fc.assert(
    fc.property(start, steps, (entries, list) => {
      for (const { shared, plain } of versions(entries, list)) {
        if (text(shared) !== text(plain)) throw new Error('the entries differ');
        if (shared.size !== plain.size) throw new Error(`size ${shared.size}, not ${plain.size}`);
        if ([...shared.keys()].sort().join() !== [...plain.keys()].sort().join()) throw new Error('the keys differ');
        if ([...shared.values()].sort().join() !== [...plain.values()].sort().join())
          throw new Error('the values differ');
        const seen = new Map<string, number>();
        shared.forEach((value, key, map) => {
          if (map !== shared || seen.has(key)) throw new Error(`forEach: ${key}`);
          seen.set(key, value);
        });
        if (text(seen) !== text(plain)) throw new Error('forEach differs');
        for (let n = 0; n <= KEYS + 1; n++) {
          const key = `k${n}`;
          if (shared.get(key) !== plain.get(key) || shared.has(key) !== plain.has(key))
            throw new Error(`${key} differs`);
        }
      }
    }),
    { numRuns: 200 },
  );
  t.pass();
});

t.test('changedKeys: what a comparison of everything finds, between any two versions', async (t) => {
  fc.assert(
    fc.property(start, steps, (entries, list) => {
      const all = versions(entries, list);
      const branch = (all[0] as (typeof all)[number]).shared.with([['k1', 77]]);
      for (const a of all) {
        for (const b of all) {
          const found = changedKeys(a.shared, b.shared);
          if (found.sort().join() !== naive(a.plain, b.plain).join()) throw new Error(`found ${found}`);
          if (changedKeys(a.shared, b.plain).sort().join() !== found.join()) throw new Error('against a Map');
        }
        if (changedKeys(a.shared, branch).sort().join() !== naive(a.shared, branch).join()) throw new Error('a branch');
      }
    }),
    { numRuns: 100 },
  );
  t.pass();
});

t.test('nothing changes: the same map', async (t) => {
  const map = SharedMap.of(new Map([['a', 1]])).with([['b', 2]]);
  t.equal(map.with([]), map);
  t.equal(
    map.with([
      ['a', 1],
      ['b', 2],
      ['c', undefined],
    ]),
    map,
  );
  t.equal(
    map.with([
      ['c', 3],
      ['c', undefined],
    ]).size,
    2,
    'there and back within one step',
  );
  t.same(changedKeys(map, map), []);
  t.same(
    changedKeys(
      map,
      map.with([
        ['c', 3],
        ['c', undefined],
      ]),
    ),
    [],
  );
});

t.test('the cost of a comparison does not grow with the map, also where a new base was made', async (t) => {
  let map = SharedMap.of(new Map(Array.from({ length: 50_000 }, (_, n) => [`p${n}`, n])));
  const start = process.cpuUsage();
  let found = 0;
  for (let n = 0; n < 2000; n++) {
    const next = map.with([[`p${(n * 7919) % 50_000}`, -n - 1]]);
    found += changedKeys(map, next).length;
    map = next;
  }
  const ms = process.cpuUsage(start).user / 1000;
  t.equal(found, 2000);
  // 2,000 comparisons of 50,000 keys each take about 10 s.
  t.ok(ms < 3000, `${Math.round(ms)} ms`);
});
