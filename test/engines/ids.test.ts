/** Ids in the real maps: contents that collide, sets that do not fit, and agents that come with another key. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { KernelMapStore } from '../../agent/maps/store.js';
import { Compiler } from '../../src/compile/index.js';
import { toIr } from '../../src/dialects/index.js';
import { type Ids, keyedIds, PLAIN_IDS } from '../../src/ids.js';
import { simulate } from '../../src/image/simulate.js';
import type { EndpointBinding } from '../../src/image/store.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { NODE_SENDER, senderOf } from '../../src/ir/sender.js';
import { cidr } from '../bench/worlds.js';
import { Random, seeded } from '../fuzz/random.js';
import { randomPacket, randomWorld } from '../fuzz/worlds.js';
import { ATTACKED, ATTACKER, COLLIDING_BLOCKS, COLLIDING_CLASSES, victims } from '../policy/attacks-ids.js';
import { packet, pod, policy, snapshotOf } from '../policy/world.js';
import { isUntold, printer, readCases } from './cases.js';
import { comparable, IFINDEX, Kernel, loadForTest, localPods, type World } from './engine.js';
import { frame } from './packets.js';
import { inPlainIds, reasons, weakIds } from './weak-ids.js';

const random = seeded();

/** Large ones take long to make. */
const SMALL = { flows: 1024, events: 1 << 18 };

t.test('the attacks', async (t) => {
  const kernel = new Kernel(loadForTest(SMALL));
  t.teardown(() => kernel.close());
  for (const pair of [COLLIDING_BLOCKS, COLLIDING_CLASSES]) {
    const snapshot = victims(pair);
    kernel.use({ ir: toIr(snapshot).ir, snapshot });
    for (const [from, mine, theirs] of [
      [ATTACKED, ...pair],
      [ATTACKER, ...[...pair].reverse()],
    ] as [string, string, string][]) {
      t.equal(kernel.judge(packet(from, `${mine}:80/tcp`)).verdict, 'allow');
      t.equal(kernel.judge(packet(from, `${theirs}:80/tcp`)).verdict, 'deny', `${from} does not reach ${theirs}`);
    }
    t.same(kernel.store.verify(false), []);
  }
});

t.test('ids of 10 bits, one world after the other in the same maps', async (t) => {
  t.comment(`seed ${random.seed}`);
  let [judged, refused] = [0, 0];
  const kernel = new Kernel(loadForTest(SMALL), weakIds(10, random.below(1000)));
  t.teardown(() => kernel.close());
  for (const c of readCases()) {
    const print = printer(c.ir);
    kernel.use(c);
    for (const { text, packet, expected } of c.rows) {
      const verdict = kernel.judge(packet);
      if (isUntold(c, packet, verdict)) continue;
      const found = print(inPlainIds(verdict, kernel.image), packet);
      // Becoming the pod is what may have it refused.
      if (kernel.image.refused.has(packet.from)) {
        refused++;
        continue;
      }
      judged++;
      const wanted = packet.fragment ? expected.split(' ')[0] : expected;
      if (found !== wanted) t.equal(found, wanted, `${c.file}: ${text}`);
    }
    const differences = kernel.store.verify(false);
    if (differences.length > 0) t.same(differences, [], c.file);
  }

  t.ok(refused > 5, `${refused} packets of senders that were refused`);
  t.ok(judged > 200, `${judged} packets of others`);
});

t.test(
  'random worlds with ids of 12 bits: the maps agree with simulate() and, but for what is refused, with evaluate()',
  async (t) => {
    const kernel = new Kernel(loadForTest(SMALL), weakIds(12, random.below(1000)));
    t.teardown(() => kernel.close());
    let [judged, refused] = [0, 0];
    for (let round = 0; round < 8; round++) {
      const world = randomWorld(new Random(random.below(2 ** 31) + 1), 20);
      kernel.use(world);
      for (const from of localPods(world.snapshot).filter((key) => key !== NODE_SENDER)) {
        for (let n = 0; n < 25; n++) {
          const asked = { ...randomPacket(random, world.snapshot), from };
          const found = kernel.judge(asked);
          if (isUntold(world, asked, found)) continue;
          const ips = senderOf(world.snapshot, from)?.ips ?? [];
          const said = comparable(simulate(kernel.image, asked, ips), asked);
          if (JSON.stringify(comparable(found, asked)) !== JSON.stringify(said))
            t.same(comparable(found, asked), said, `round ${round}: ${JSON.stringify(asked)}`);
          if (kernel.image.refused.has(from)) {
            refused++;
            continue;
          }
          judged++;
          const { verdict } = evaluate(world.ir, world.snapshot, asked);
          if (verdict !== found.verdict) t.equal(found.verdict, verdict, `round ${round}: ${JSON.stringify(asked)}`);
        }
      }
    }
    t.ok(judged > 100, `${judged} packets, ${refused} of senders that were refused`);
  },
);

/** Ids of which some are as said. */
function except(given: Record<string, number>): Ids {
  return {
    of: (content) => Object.entries(given).find(([part]) => content.includes(part))?.[1] ?? PLAIN_IDS.of(content),
  };
}

/** A pod each for the lists of hosts that it may reach. */
function reaching(...lists: (readonly string[])[]): World {
  const text = lists.map(
    (list, i) =>
      pod(`default/web-${i}`, `10.0.0.${i + 1}`, { app: `${i}` }) +
      policy(`default/p-${i}`, {
        podSelector: { matchLabels: { app: `${i}` } },
        policyTypes: ['Egress'],
        egress: [{ to: list.map((ip) => ({ ipBlock: { cidr: `${ip}/32` } })) }],
      }),
  );
  const snapshot = snapshotOf(text.join(''));
  return { snapshot, ir: toIr(snapshot).ir };
}

const reaches = (kernel: Kernel, i: number, ip: string) =>
  kernel.judge(packet(`default/web-${i}`, `${ip}:80/tcp`)).verdict;

t.test('a new set that has the id of the one it replaces waits until that is gone', async (t) => {
  const old = reaching(['192.0.2.1']);
  const next = reaching(['192.0.2.2']);
  const names = [old, next].map((w) => {
    const image = new Compiler().compile(w.ir, w.snapshot, ['default/web-0']);
    return `set|${[...image.sets.values()][0]?.name}`;
  }) as [string, string];
  const kernel = new Kernel(loadForTest(SMALL), except({ [names[0]]: 4711, [names[1]]: 4711 }));
  t.teardown(() => kernel.close());
  kernel.use(old);
  t.equal(reaches(kernel, 0, '192.0.2.1'), 'allow');
  kernel.use(next);
  t.equal(reaches(kernel, 0, '192.0.2.1'), 'allow', 'the last complete set stays in force');
  t.equal(reaches(kernel, 0, '192.0.2.2'), 'deny');
  t.same(reasons(kernel.image), [['default/web-0', 'np/default/p-0: its set and one in the maps have the id 4711']]);
  kernel.use(reaching());
  kernel.become('default/web-0');
  kernel.use(next);
  kernel.retry();
  t.equal(reaches(kernel, 0, '192.0.2.2'), 'allow');
  t.equal(kernel.image.refused.size, 0);
  t.same(kernel.store.verify(false), []);
});

t.test('what does not fit is refused, and all else goes on', async (t) => {
  const kernel = new Kernel(loadForTest({ ...SMALL, destinations4: 256 }));
  t.teardown(() => kernel.close());
  const many = Array.from({ length: 400 }, (_, n) => cidr(n).slice(0, -3));
  const first = many[0] as string;
  kernel.use(reaching([first], ['192.0.2.1']));
  t.equal(reaches(kernel, 0, first), 'allow');
  t.equal(reaches(kernel, 1, '192.0.2.1'), 'allow');
  kernel.use(reaching(many, ['192.0.2.2']));
  t.equal(reaches(kernel, 1, '192.0.2.2'), 'allow', "another pod's change is in force");
  t.equal(reaches(kernel, 1, '192.0.2.1'), 'deny');
  t.same([...kernel.image.refused.keys()], ['default/web-0']);
  t.match(
    kernel.image.refused.get('default/web-0')?.reason,
    /^np\/default\/p-0: map destinations4 holds 256 entries; .*--map-size/,
  );
  t.equal(reaches(kernel, 0, first), 'allow', 'the last complete set stays in force');
  t.equal(reaches(kernel, 0, many[1] as string), 'deny');
  kernel.use(reaching(many.slice(0, 100), ['192.0.2.2']));
  t.equal(reaches(kernel, 0, many[1] as string), 'allow', 'what fits goes in again');
  t.equal(kernel.image.refused.size, 0);
  t.same(kernel.store.verify(false), []);
});

/** Two blocks may not be reached, whatever else may: a set that is met with classes that it does not know would let them pass. */
function denying(): World {
  const snapshot = snapshotOf(pod('default/web', '10.0.0.1'));
  const ref = { dialect: 'test', kind: 'Test', name: 'p' };
  const rule = (index: number, action: 'allow' | 'deny', blocks: readonly string[] | null) => ({
    ref: { policy: ref, index, tier: 'admin', staged: false, action },
    action,
    peers: blocks?.map((cidr) => ({ kind: 'cidr' as const, cidr, except: [] })) ?? null,
    ports: null,
  });
  const rules = [rule(0, 'deny', ['192.0.2.0/24', '198.51.100.0/24']), rule(1, 'allow', null)];
  const subject = { namespaces: { names: ['default'] }, pods: { op: 'true' } } as const;
  const policies = [{ ref, subject, rules, staged: false }];
  return { snapshot, ir: { tiers: [{ name: 'admin', order: 1, defaultAction: 'pass', policies }] } };
}

const binding: EndpointBinding = {
  ...{ key: 'default/web', uid: 'u', ifindex: IFINDEX, ifname: 'lo', id: 7, mac: '', ips: ['10.0.0.1'] },
  kind: 'pod',
  l3: false,
};

for (const journal of [true, false]) {
  t.test(`an agent with another key, ${journal ? 'and the journal' : 'and no journal'}`, async (t) => {
    const kernel = new Kernel(loadForTest(SMALL));
    const { maps } = kernel.programs;
    const statePath = mkdtempSync(join(tmpdir(), 'ids-'));
    t.teardown(() => {
      kernel.close();
      rmSync(statePath, { recursive: true });
    });
    const { ir, snapshot } = denying();
    const start = (key: string) => {
      const store = new KernelMapStore(maps, { statePath, ids: keyedIds(key.repeat(32)) });
      return { store, image: new Compiler(store.ids).compile(ir, snapshot, ['default/web']) };
    };
    const first = start('aa');
    first.store.apply(first.image, [binding]);
    first.store.tidy();
    first.store.close();
    if (!journal) {
      rmSync(statePath, { recursive: true });
    }
    const second = start('bb');
    const same = [...second.image.sets.keys()].join() === [...first.image.sets.keys()].join();
    t.equal(same, journal, journal ? 'keeps what stands in the maps' : 'gives other ids');

    let [port, states, open] = [1024, 0, 0];
    const look = () => {
      // Another address each time: what is remembered of one must not answer.
      for (const block of ['192.0.2', '198.51.100']) {
        states++;
        const bytes = frame(
          { to: `${block}.${states % 256}`, protocol: 6, port: 443 },
          { src: '10.0.0.1', sport: ++port, tcpFlags: 2 },
        );
        if (kernel.run(bytes).verdict === 'allow') open++;
      }
    };
    const watched = [maps.destinations4, maps.class_rules, maps.rules, maps.port_rules] as BpfMap[];
    for (const map of watched) {
      for (const method of ['updateBatch', 'deleteBatch'] as const) {
        const plain = map[method].bind(map) as (...args: unknown[]) => never;
        // One entry after the other: each state that a packet may meet.
        Object.assign(map, {
          [method]: (keys: Buffer, ...rest: unknown[]) => {
            const count = rest.at(-1) as number;
            const [values] = rest as [Buffer];
            for (let i = 0; i < count; i++) {
              const key = keys.subarray(i * map.keySize, (i + 1) * map.keySize);
              const value =
                method === 'updateBatch' ? [values.subarray(i * map.valueSize, (i + 1) * map.valueSize)] : [];
              plain(Buffer.from(key), ...value.map((v) => Buffer.from(v)), 1);
              look();
            }
          },
        });
      }
    }
    const { written } = second.store.apply(second.image, [binding]);
    second.store.tidy();
    look();
    t.equal(open, 0, `${states} packets in between`);
    if (journal) t.equal(written, 0);
    else t.ok(states > 20);
    t.same(second.store.verify(false), []);
    const other = frame({ to: '203.0.113.1', protocol: 6, port: 443 }, { src: '10.0.0.1', sport: 9, tcpFlags: 2 });
    t.equal(kernel.run(other).verdict, 'allow', 'and what is allowed passes');
    second.store.close();
  });
}
