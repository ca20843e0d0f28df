/** The trie of IPv4 destinations under the map store: agents that die between its stores, that come again, and that find no room. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { KernelMapStore } from '../../agent/maps/store.js';
import { reference, ROOT_BITS, TrieMemory } from '../../agent/maps/tables/trie-memory.js';
import { Compiler } from '../../src/compile/index.js';
import { toIr } from '../../src/dialects/index.js';
import { simulate } from '../../src/image/simulate.js';
import type { EndpointBinding } from '../../src/image/store.js';
import { cidr } from '../bench/worlds.js';
import { seeded } from '../fuzz/random.js';
import { packet, pod, policy, snapshotOf } from '../policy/world.js';
import { IFINDEX, Kernel, loadForTest, type World } from './engine.js';
import { frame } from './packets.js';

const random = seeded();
const SMALL = { flows: 1024, events: 1 << 18 };
const POD = '10.0.0.1';

/** One pod that may reach these. */
function reaching(blocks: readonly string[], except: readonly string[] = []): World {
  const to = blocks.map((cidr) => ({ ipBlock: cidr.endsWith('/8') ? { cidr, except } : { cidr } }));
  const text =
    pod('default/web', POD, { app: 'web' }) +
    policy('default/p', { podSelector: {}, policyTypes: ['Egress'], egress: [{ to }] });
  const snapshot = snapshotOf(text);
  return { snapshot, ir: toIr(snapshot).ir };
}

const binding: EndpointBinding = {
  ...{ key: 'default/web', uid: 'u', ifindex: IFINDEX, ifname: 'lo', id: 7, mac: '', ips: [POD] },
  kind: 'pod',
  l3: false,
};

/** Calls `look` after each store into the trie; it may throw, as if the agent died there. */
function watching<T>(look: () => void, run: () => T): T {
  const plain = TrieMemory.prototype.store;
  TrieMemory.prototype.store = function (...args) {
    plain.apply(this, args);
    look();
  };
  try {
    return run();
  } finally {
    TrieMemory.prototype.store = plain;
  }
}

t.test(`killed between two stores, FUZZ_SEED=${random.seed}`, async (t) => {
  const kernel = new Kernel(loadForTest(SMALL));
  const statePath = mkdtempSync(join(tmpdir(), 'flat-'));
  t.teardown(() => {
    kernel.close();
    rmSync(statePath, { recursive: true });
  });
  const { maps } = kernel.programs;
  const worlds = [
    reaching(['20.0.0.0/8', '10.1.0.0/16', '10.2.3.4/32', '10.2.3.5/32'], ['20.1.0.0/16', '20.2.3.0/28']),
    reaching(['20.0.0.0/8', '10.0.0.0/12', '10.2.3.4/31', '30.0.0.0/30'], ['20.1.2.0/24', '20.2.3.8/29']),
    reaching(['20.0.0.0/8', '10.2.3.4/32']),
    reaching([]),
  ];
  const asked = [
    '10.1.2.3',
    '10.2.3.4',
    '10.2.3.5',
    '10.2.3.6',
    '20.1.2.3',
    '20.1.3.3',
    '20.2.3.1',
    '20.2.3.9',
    '20.9.9.9',
  ];
  asked.push('30.0.0.3', '30.0.0.4', '40.0.0.1');
  const images = worlds.map(({ ir, snapshot }) => new Compiler().compile(ir, snapshot, ['default/web']));
  const said = (i: number, to: string) =>
    simulate(images[i] as (typeof images)[number], packet('default/web', `${to}:80/tcp`), [POD]).verdict;
  let store = new KernelMapStore(maps, { statePath });
  store.apply(images[0] as (typeof images)[number], [binding]);
  store.tidy();
  let [sport, states, deaths] = [1024, 0, 0];
  const verdict = (to: string) => {
    sport = sport >= 65000 ? 1024 : sport + 1;
    const bytes = frame({ to, protocol: 6, port: 80 }, { src: POD, sport, tcpFlags: 2 });
    return kernel.run(bytes).verdict;
  };
  let now = 0;
  for (let round = 0; round < 40; round++) {
    const next = random.below(worlds.length);
    const image = images[next] as (typeof images)[number];
    let until = random.below(60);
    const look = () => {
      for (const to of random.some(asked, 3)) {
        states++;
        const [found, a, b] = [verdict(to), said(now, to), said(next, to)];
        if (found !== a && found !== b) throw new Error(`round ${round}, ${now} to ${next}: ${to} ${found}`);
      }
    };
    const death = new Error('killed');
    try {
      watching(
        () => {
          look();
          if (until-- === 0) throw death;
        },
        () => {
          store.apply(image, [binding]);
          store.tidy();
        },
      );
    } catch (e) {
      if (e !== death) throw e;
      deaths++;
      watching(look, () => {
        store = new KernelMapStore(maps, { statePath });
        store.apply(image, [binding]);
        store.tidy();
      });
    }
    now = next;
    const differences = store.verify(false);
    if (differences.length > 0) t.same(differences, [], `round ${round}`);
    for (const to of asked) if (verdict(to) !== said(now, to)) t.fail(`round ${round}: ${to}`);
  }
  t.ok(deaths > 3, `${deaths} deaths, ${states} packets between stores`);

  watching(
    () => t.fail('an agent that comes again writes where all is right'),
    () => {
      const again = new KernelMapStore(maps, { statePath });
      again.apply(images[now] as (typeof images)[number], [binding]);
      again.tidy();
    },
  );
});

t.test('no room for nodes: refused before the first store, and what fits goes in again', async (t) => {
  const kernel = new Kernel(loadForTest({ ...SMALL, destinations4_nodes: 1 }));
  t.teardown(() => kernel.close());
  const many = Array.from({ length: 8000 }, (_, n) => cidr(n));
  const reaches = (block: string) => kernel.judge(packet('default/web', `${block.slice(0, -3)}:80/tcp`)).verdict;
  kernel.use(reaching(many.slice(0, 2)));
  t.equal(reaches(many[0] as string), 'allow');
  watching(
    () => t.fail('written'),
    () => {
      kernel.use(reaching(many));
      t.equal(reaches(many[0] as string), 'allow', 'the last complete set stays in force');
    },
  );
  t.match(
    kernel.image.refused.get('default/web')?.reason,
    /^np\/default\/p: map destinations4_nodes holds 1 entries; .* need [2-9] .*--map-size destinations4_nodes=/,
  );
  t.equal(reaches(many[9] as string), 'deny');
  kernel.use(reaching(many.slice(0, 1000)));
  t.equal(reaches(many[9] as string), 'allow', 'what fits goes in again');
  t.same(kernel.store.verify(false), []);
  t.match(
    kernel.store.fill().find(({ name }) => name === 'destinations4_nodes'),
    { entries: 1, max: 1 },
  );
});

t.test('what is not a class closes', async (t) => {
  const kernel = new Kernel(loadForTest(SMALL));
  t.teardown(() => kernel.close());
  kernel.use(reaching(['0.0.0.0/0']));
  const judged = () => kernel.judge(packet('default/web', '192.0.2.1:80/tcp')).verdict;
  t.equal(judged(), 'allow');
  new TrieMemory(kernel.programs.maps).store(0xc0000201 >>> (32 - ROOT_BITS), reference(12345678));
  // Another address than before: what is remembered of that one does not answer.
  const bytes = frame({ to: '192.0.2.77', protocol: 6, port: 80 }, { src: POD, sport: 999, tcpFlags: 2 });
  const { verdict, events } = kernel.run(bytes);
  t.equal(verdict, 'deny');
  t.match(events, [{ reason: 'no-set' }]);
  t.match(kernel.store.verify(true), [/packets find another class for 192.0.0.0\/14/]);
  t.same(kernel.store.verify(false), []);
  t.equal(judged(), 'allow');
});
