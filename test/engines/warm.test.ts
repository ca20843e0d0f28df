/**
 * Invariant 2 with memories that are warm: a packet that comes between two writes of an update is judged by the old policy or by the
 * new one, although packets like it came just before, at the same CPU, and what was found for them is remembered
 * (bpf/decided.h, recall.h). Histories of random updates, a packet of each kind between any two writes of each.
 */
import { execFileSync } from 'node:child_process';
import t from 'tap';
import { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { EndpointTable } from '../../agent/maps/tables/endpoint-table.js';
import { ServiceFilter } from '../../agent/maps/tables/service-filter.js';
import { StateWords } from '../../agent/maps/tables/state-words.js';
import { TrieMemory } from '../../agent/maps/tables/trie-memory.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { simulate } from '../../src/image/simulate.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Image } from '../../src/image/types.js';
import { NODE_SENDER } from '../../src/ir/sender.js';
import type { Packet } from '../../src/ir/packet.js';
import { seeded, Random } from '../fuzz/random.js';
import { randomPacket, randomWorld } from '../fuzz/worlds.js';
import { pod, policy, snapshotOf } from '../policy/world.js';
import { toIr } from '../../src/dialects/index.js';
import { boundIps, frameOf, IFINDEX, Kernel, localPods, toldOf, type World } from './engine.js';

const HISTORIES = Number(process.env.FUZZ_SEQUENCES ?? 15);
const PACKETS = 12;
const random = seeded();
const E = STRUCTS.ea_endpoint;

const kernel = new Kernel();
t.teardown(() => kernel.close());
// The memories are each CPU's own.
execFileSync('taskset', ['-p', '-c', '0', String(process.pid)], { stdio: 'ignore' });

const endpoints = (kernel.programs.maps.endpoints as BpfMap).mmap();
const state = (kernel.programs.maps.state as BpfMap).mmap();

/** Maps whose entries packets find at once: a packet comes between any two of them. */
const READ = ['destinations6', 'services', 'addresses', 'tunnels', 'sources', 'endpoints_more'];

/** Called between any two writes. */
let stores = 0;
let between: (step: string) => void = () => undefined;

function after<T extends object, K extends keyof T & string>(of: T, method: K): void {
  const own = of[method] as (...args: unknown[]) => unknown;
  (of as Record<string, unknown>)[method] = function (this: unknown, ...args: unknown[]) {
    const result = own.apply(this, args);
    // A prefix that covers much is many stores, each of which is about other addresses.
    if (method === 'store' && ++stores > 50 && stores % 997 !== 0) return result;
    between(`${method} ${(this as { name?: string }).name ?? ''}`);
    return result;
  };
}
const { updateBatch, deleteBatch } = BpfMap.prototype;
BpfMap.prototype.updateBatch = function (keys, values, count) {
  const single = READ.includes(this.name) && count > 1 ? 1 : count;
  for (let i = 0; i < count; i += single) {
    const [k, v] = [keys.subarray(i * this.keySize), values.subarray(i * this.valueSize)];
    updateBatch.call(this, k.subarray(0, single * this.keySize), v.subarray(0, single * this.valueSize), single);
    between(`update ${this.name}`);
  }
};
BpfMap.prototype.deleteBatch = function (keys, count) {
  const single = READ.includes(this.name) && count > 1 ? 1 : count;
  for (let i = 0; i < count; i += single) {
    deleteBatch.call(this, keys.subarray(i * this.keySize, (i + single) * this.keySize), single);
    between(`delete ${this.name}`);
  }
};
after(TrieMemory.prototype, 'store');
after(EndpointTable.prototype, 'put');
after(EndpointTable.prototype, 'retain');
after(ServiceFilter.prototype, 'add');
after(ServiceFilter.prototype, 'remove');
after(StateWords.prototype, 'bumpEpoch');

const PODS = ['default/p1', 'default/p2', 'default/p3', 'default/p4', 'other/p1', 'other/p2', 'other/p3', 'other/p4'];
const ifindexOf = (key: string) => 1000 + PODS.indexOf(key);

function bindingsOf({ snapshot }: World): EndpointBinding[] {
  return localPods(snapshot).flatMap((key) => {
    if (key === NODE_SENDER) return [];
    const ips = boundIps(snapshot.pods.get(key)?.ips ?? []);
    const ifindex = ifindexOf(key);
    return [
      { key, uid: key, ifindex, ifname: `veth${ifindex}`, id: ifindex, mac: '', ips, kind: 'pod' as const, l3: false },
    ];
  });
}

let sport = 1024;
/** What the pod's endpoint makes of a new flow: its entry is shown where BPF_PROG_TEST_RUN sends from. */
function judged(packet: Packet, ips: readonly string[]): string {
  const from = ifindexOf(packet.from) * E.size;
  endpoints.copy(endpoints, IFINDEX * E.size, from, from + E.size);
  endpoints.writeUInt32LE(IFINDEX, IFINDEX * E.size + E.fields.ifindex.offset);
  sport = sport >= 65000 ? 1024 : sport + 1;
  const { verdict, events } = kernel.run(frameOf(packet, ips, sport));
  const { verdict: told, rule } = toldOf(packet, verdict, events);
  return `${told} ${rule}`;
}

/** The same by what the maps say at this moment, whatever is remembered. */
function afresh(packet: Packet, ips: readonly string[]): string {
  const flags = STRUCTS.ea_state.fields.flags.offset;
  state.writeUInt32LE(ENUMS.ea_state_flags.EA_STATE_NO_CACHE, flags);
  try {
    return judged(packet, ips);
  } finally {
    state.writeUInt32LE(0, flags);
  }
}

function expected(image: Image, packet: Packet, ips: readonly string[]): string {
  const { verdict, rule } = simulate(image, packet, ips);
  return `${verdict} ${rule}`;
}

/**
 * While a Service changes, its entry names the backends of both Images: it is denied where one of them is, and allowed where
 * all of them are, by the one policy or the other. What passes is judged behind the translation.
 */
function isOfService(got: string, packet: Packet, images: readonly Image[], ips: readonly string[]): boolean {
  const key = `${packet.to}|${packet.port}|${packet.protocol}`;
  const services = images.flatMap((i) => i.services.get(key) ?? []);
  if (services.length === 0) return false;
  const alone = images.map((i): Image => ({ ...i, services: new Map() }));
  const places = services.flatMap((s) => s.backends).map(({ ip, port }) => ({ ...packet, to: ip, port }));
  if (services.length < images.length) places.push(packet);
  const may = (verdict: string) => (p: Packet) => alone.some((i) => simulate(i, p, ips).verdict === verdict);
  const [verdict] = got.split(' ');
  return verdict === 'partial' || (verdict === 'allow' ? places.every(may('allow')) : places.some(may('deny')));
}

/** p1 may send to pods that are `db`. @param other what p2 may do, of another policy */
function small(label: string, other: 'allow' | 'deny', backend?: string): World {
  const service =
    `---\n{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"default","name":"s"},"spec":{"clusterIPs":["10.96.0.1"],"ports":[{"port":80,"protocol":"TCP"}]}}\n` +
    `---\n{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"namespace":"default","name":"s-1","labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4","ports":[{"name":"","port":8080,"protocol":"TCP"}],"endpoints":[{"addresses":["${backend}"]}]}\n`;
  const snapshot = snapshotOf(
    pod('default/p1', ['10.244.0.1'], { app: 'web' }) +
      pod('default/p2', ['10.244.0.2'], { app: 'ops' }) +
      pod('default/p3', ['10.244.0.3'], { app: label }) +
      pod('default/p4', ['10.244.0.4'], { app: 'none' }) +
      policy('default/np1', {
        podSelector: { matchLabels: { app: 'web' } },
        policyTypes: ['Egress'],
        egress: [{ to: [{ podSelector: { matchLabels: { app: 'db' } } }] }],
      }) +
      policy('default/np2', {
        podSelector: { matchLabels: { app: 'ops' } },
        policyTypes: ['Egress'],
        egress: other === 'allow' ? [{}] : [],
      }) +
      (backend === undefined ? '' : service),
  );
  return { snapshot, ir: toIr(snapshot).ir };
}

for (const [name, before, after] of [
  ['is new', small('db', 'deny'), small('none', 'deny', '10.244.0.3')],
  ['has another backend, while sets change', small('db', 'deny', '10.244.0.4'), small('none', 'allow', '10.244.0.3')],
] as const)
  t.test(`a Service that ${name} does not meet what is remembered of its backend's last class`, async (t) => {
    const ips = boundIps(['10.244.0.1']);
    const send = (to: string, port: number) => judged({ from: 'default/p1', to, port, protocol: 6 }, ips).split(' ')[0];
    kernel.use(before);
    kernel.store.apply(kernel.image, bindingsOf(before));
    kernel.store.tidy();
    t.same([send('10.96.0.1', 80), send('10.244.0.3', 8080)], ['deny', 'allow']);
    kernel.use(after);
    const seen = new Set<string>();
    between = () => {
      const armed = between;
      between = () => undefined;
      seen.add(String(send('10.96.0.1', 80)));
      send('10.244.0.3', 8080);
      between = armed;
    };
    kernel.store.apply(kernel.image, bindingsOf(after));
    kernel.store.tidy();
    between = () => undefined;
    t.notOk(seen.has('allow'), 'both policies deny it');
    t.same([send('10.96.0.1', 80), send('10.244.0.3', 8080)], ['deny', 'deny']);
  });

t.test(`${HISTORIES} histories, FUZZ_SEED=${random.seed}`, async (t) => {
  let [steps, sent] = [0, 0];
  const wrong: string[] = [];
  for (let n = 0; n < HISTORIES && wrong.length < 20; n++) {
    const seed = random.below(2 ** 31) + 1;
    const mode = random.pick(['both', 'policies', 'cluster']);
    const base = randomWorld(new Random(seed));
    let old: { world: World; image: Image } | undefined;
    for (let m = 0; m < 5; m++) {
      const other = randomWorld(new Random(random.below(2 ** 31) + 1));
      const world: World =
        m === 0
          ? base
          : mode === 'both'
            ? other
            : mode === 'policies'
              ? { snapshot: base.snapshot, ir: other.ir }
              : { snapshot: other.snapshot, ir: base.ir };
      kernel.use(world);
      const image = kernel.image;
      const bindings = bindingsOf(world);
      if (old) {
        const last = old;
        const here = localPods(world.snapshot);
        const r = new Random(random.below(2 ** 31) + 1);
        const cases = Array.from({ length: PACKETS * 4 }, () =>
          randomPacket(r, r.chance(50) ? last.world.snapshot : world.snapshot),
        )
          .filter(
            (p) =>
              !p.fragment &&
              [6, 17, 132].includes(p.protocol) &&
              p.from !== NODE_SENDER &&
              here.includes(p.from) &&
              localPods(last.world.snapshot).includes(p.from),
          )
          .slice(0, PACKETS)
          .map((packet) => {
            const [a, b] = [last.world, world].map((w) => boundIps(w.snapshot.pods.get(packet.from)?.ips ?? []));
            return {
              packet,
              ips: b as readonly string[],
              same: a?.join() === b?.join(),
              may: [expected(last.image, packet, a as string[]), expected(image, packet, b as string[])],
            };
          })
          .filter((c) => c.same);
        const [seen, mixtures] = [new Set<string>(), new Set<string>()];
        between = (step) => {
          const armed = between;
          between = () => undefined;
          steps++;
          for (const { packet, ips, may } of cases) {
            sent++;
            const got = judged(packet, ips);
            if (may.includes(got)) continue;
            if (isOfService(got, packet, [last.image, image], ips)) continue;
            // A pod's labels and the rules that name them change at once: until that settles, the pod has both labels. What
            // the maps said at one moment of it may be remembered until the next epoch.
            const mixture = `${JSON.stringify(packet)} ${got}`;
            if (mixtures.has(mixture)) continue;
            if (mode !== 'policies' && got === afresh(packet, ips)) {
              mixtures.add(mixture);
              continue;
            }
            const line = `${mode} seed ${seed} update ${m} after ${step}: ${JSON.stringify(packet)} got ${got}, may ${may.join(' or ')}`;
            if (!seen.has(JSON.stringify(packet))) wrong.push(line);
            seen.add(JSON.stringify(packet));
          }
          between = armed;
        };
        between('before');
      }
      stores = 0;
      kernel.store.apply(image, bindings);
      stores = 0;
      between('apply');
      kernel.store.tidy();
      between('tidy');
      between = () => undefined;
      kernel.forget();
      old = { world, image };
    }
  }
  t.comment(`${steps} moments, ${sent} packets`);
  t.same(wrong, []);
});
