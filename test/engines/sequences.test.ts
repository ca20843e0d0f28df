/**
 * Invariant 6 and the map store: after any sequence of updates the maps hold exactly what the last Image says, and the
 * end is the same whatever came before, in whatever order and batches.
 */
import t from 'tap';
import { KernelMapStore } from '../../agent/maps/store.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { Compiler } from '../../src/compile/index.js';
import type { EndpointBinding } from '../../src/image/store.js';
import { USUAL_TUNNELS } from '../../src/net/tunnels.js';
import { Random, seeded } from '../fuzz/random.js';
import { randomWorld } from '../fuzz/worlds.js';
import { loadForTest, localPods, type World } from './engine.js';

const SEQUENCES = Number(process.env.FUZZ_SEQUENCES ?? 15);
const random = seeded();
const POLICY_MAPS = [
  'destinations4',
  'destinations6',
  'class_rules',
  'class_rules_large',
  'port_rules',
  'port_rules_large',
  'rules',
  'services',
  'addresses',
  'tunnels',
];

/** Small maps are quick to make and to read; large enough for the random worlds. */
const SIZES = Object.fromEntries([...POLICY_MAPS.map((m) => [m, 65536]), ['flows', 1024], ['events', 65536]]);

function bindings({ snapshot }: World): EndpointBinding[] {
  return localPods(snapshot).map((key, i) => ({
    key,
    uid: key,
    // The first two share a slot of the array: one of them stands in another.
    ifindex: i === 1 ? 1000 + 65536 : 1000 + i,
    ifname: `veth${i}`,
    id: i + 1,
    mac: '',
    ips: snapshot.pods.get(key)?.ips ?? [],
    kind: 'pod' as const,
    l3: false,
  }));
}

/** Now and then nodes unwrap something else. */
function tunnelled(world: World): World {
  if (random.chance(50)) return world;
  const some = USUAL_TUNNELS.filter(() => random.chance(60));
  const tunnels = some.map((tunnel) => (random.chance(30) ? { ...tunnel, allowed: true as const } : tunnel));
  return { ...world, snapshot: { ...world.snapshot, tunnels } };
}

/** Every entry of the policy maps, as text in order. */
function dump(maps: Readonly<Record<string, BpfMap>>): string[] {
  const out: string[] = [];
  for (const name of POLICY_MAPS) {
    const map = maps[name] as BpfMap;
    for (const { keys, values, count } of map.batches()) {
      for (let i = 0; i < count; i++) {
        const key = keys.subarray(i * map.keySize, (i + 1) * map.keySize).toString('hex');
        out.push(`${name} ${key} ${values.subarray(i * map.valueSize, (i + 1) * map.valueSize).toString('hex')}`);
      }
    }
  }
  return [...new Set(out)].sort();
}

t.test(`${SEQUENCES} sequences of updates, FUZZ_SEED=${random.seed}`, async (t) => {
  for (let n = 0; n < SEQUENCES; n++) {
    const worlds = Array.from({ length: 3 + random.below(5) }, () =>
      tunnelled(randomWorld(new Random(random.below(2 ** 31) + 1))),
    );
    const last = worlds.at(-1) as World;
    const ends: string[][] = [];
    // The whole sequence; some of it; its reverse; the last alone: always ending in the same world.
    for (const sequence of [worlds, worlds.filter((_, i) => i % 2 === 0), [...worlds].reverse(), []]) {
      const programs = loadForTest(SIZES);
      const store = new KernelMapStore(programs.maps);
      const compiler = new Compiler();
      for (const world of [...sequence, last]) {
        store.apply(compiler.compile(world.ir, world.snapshot, localPods(world.snapshot)), bindings(world));
        // The next one finds it settled, or about to be, or as it was left.
        const how = random.below(4);
        if (how === 0) store.tidy();
        else if (how === 1) await store.tidyLater();
        else if (how === 2) void store.tidyLater();
        if (random.chance(20)) await new Promise((resolve) => setTimeout(resolve, random.below(25)));
        const differences = random.chance(30) || world === last ? store.verify(false) : [];
        if (differences.length > 0) {
          t.same(differences, [], `sequence ${n}: the maps are what the Image says`);
          return;
        }
      }
      store.tidy();
      ends.push(dump(programs.maps));
      store.close();
      programs.close();
    }
    const same = ends.every((e) => e.length === ends[0]?.length && e.every((line, i) => line === ends[0]?.[i]));
    if (!same) {
      const [a, b] = [ends[0] ?? [], ends.find((e) => e.join() !== ends[0]?.join()) ?? []];
      t.same(
        a.filter((x) => !b.includes(x)).slice(0, 5),
        b.filter((x) => !a.includes(x)).slice(0, 5),
        `sequence ${n}: the same end`,
      );
      return;
    }
  }
  t.pass('the same end each time, nothing left over');
});

t.test('what someone else changed in the maps is found and mended', async (t) => {
  const programs = loadForTest(SIZES);
  t.teardown(() => programs.close());
  const store = new KernelMapStore(programs.maps);
  let before: string[] = [];
  // Of some worlds nothing is in the maps: their policies, if any, select no pod.
  while (before.length === 0) {
    const world = randomWorld(random);
    store.apply(new Compiler().compile(world.ir, world.snapshot, localPods(world.snapshot)), bindings(world));
    store.tidy();
    before = dump(programs.maps);
  }
  for (const name of POLICY_MAPS) {
    const map = programs.maps[name] as BpfMap;
    for (const { keys, count } of map.batches(64)) {
      if (count > 0) map.delete(Buffer.from(keys.subarray(0, map.keySize)));
      break;
    }
  }
  t.not(store.verify(true).length, 0, 'the differences are named');
  t.same(store.verify(false), [], 'and gone');
  t.same(dump(programs.maps), before);
});
