/** Whose addresses are and what nodes unwrap, in the maps: who comes, who goes, who shares, and what an agent finds of the one before it. */
import t, { type Test } from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { KernelMapStore } from '../../agent/maps/store.js';
import { readAddress, readTunnel } from '../../agent/maps/tables/encode.js';
import { Compiler } from '../../src/compile/index.js';
import type { Node, Snapshot } from '../../src/identity/snapshot.js';
import { SharedMap } from '../../src/identity/shared-map.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import type { EndpointBinding } from '../../src/image/store.js';
import { type Tunnel, tunnelKey, tunnelTable, USUAL_TUNNELS } from '../../src/net/tunnels.js';
import { snapshotOf } from '../policy/world.js';
import { loadForTest } from './engine.js';

const { EA_ADDR_NODE: NODE, EA_ADDR_OWN_NODE: OWN } = ENUMS.ea_address_flags;
const SMALL = { flows: 1024, events: 65536 };

function programs(t: Test, sizes: Record<string, number> = {}) {
  const loaded = loadForTest({ ...SMALL, ...sizes });
  t.teardown(() => loaded.close());
  return loaded.maps;
}

/** `address → [interface, flags]`. */
function addresses(maps: Record<string, BpfMap>): Record<string, number[]> {
  const map = maps.addresses as BpfMap;
  const out: Record<string, number[]> = {};
  for (const { keys, values, count } of map.batches()) {
    for (let i = 0; i < count; i++) {
      const { ip, ifindex, flags } = readAddress(keys, i * map.keySize, values, i * map.valueSize);
      out[ip] = [ifindex, flags];
    }
  }
  return out;
}

function tunnels(maps: Record<string, BpfMap>): Tunnel[] {
  const map = maps.tunnels as BpfMap;
  return [...map.batches()].flatMap(({ keys, values, count }) =>
    Array.from({ length: count }, (_, i) => readTunnel(keys, i * map.keySize, values, i * map.valueSize)),
  );
}

const node = (name: string, ...ips: string[]): [string, Node] => [name, { name, labels: {}, ips }];
const plain = snapshotOf('', []);
const world = (nodes: Snapshot['nodes'], more: Partial<Snapshot> = {}): Snapshot => ({
  ...plain,
  nodes,
  ownNode: { name: 'a', ips: ['192.168.0.1', 'fd00::1'] },
  ...more,
});
const binding = (
  name: string,
  ifindex: number,
  ips: string[],
  more: Partial<EndpointBinding> = {},
): EndpointBinding => ({
  ...{ key: `default/${name}`, uid: name, ifindex, ifname: name, id: ifindex, mac: '', ips, kind: 'pod', l3: false },
  ...more,
});
const image = (snapshot: Snapshot, compiler = new Compiler()) => compiler.compile({ tiers: [] }, snapshot, []);

t.test('pods and nodes come and go', async (t) => {
  const maps = programs(t);
  const store = new KernelMapStore(maps);
  const compiler = new Compiler();
  let nodes = SharedMap.of(new Map([node('a', '192.168.0.1'), node('b', '192.168.0.2', '10.0.0.2')]));
  const uplink = binding('eth0', 9, ['192.168.0.1'], { kind: 'uplink' });
  const one = binding('one', 10, ['10.244.0.1', 'fd00:244::1']);
  store.apply(image(world(nodes), compiler), [uplink, one]);
  const there = {
    '192.168.0.1': [0, OWN | NODE],
    'fd00::1': [0, OWN | NODE],
    '192.168.0.2': [0, NODE],
    '10.0.0.2': [0, NODE],
  };
  t.same(addresses(maps), { ...there, '10.244.0.1': [10, 0], 'fd00:244::1': [10, 0] });
  t.same(tunnels(maps).length, tunnelTable().size);
  t.ok(store.settled);

  // Its address is another pod's; what it had besides goes, but not while it may be looked for.
  const two = binding('two', 11, ['10.244.0.1']);
  nodes = nodes.with([node('b', '192.168.0.2'), node('c', '10.244.0.7')]);
  const epoch = store.epoch;
  store.apply(image(world(nodes), compiler), [uplink, two]);
  t.not(store.epoch, epoch, 'flows are judged again');
  t.notOk(store.settled);
  const now = { ...there, '10.244.0.7': [0, NODE], '10.244.0.1': [11, 0] };
  t.same(addresses(maps), { ...now, 'fd00:244::1': [10, 0] });
  store.tidy();
  const { '10.0.0.2': _, ...left } = now;
  t.same(addresses(maps), left);
  t.same(store.verify(false), []);

  // A pod on a node's address: both, until neither.
  store.apply(image(world(nodes), compiler), [uplink, two, binding('odd', 12, ['10.244.0.7', '192.168.0.1'])]);
  t.match(addresses(maps), { '10.244.0.7': [12, NODE], '192.168.0.1': [12, OWN | NODE] });
  nodes = nodes.with([['c', undefined]]);
  store.apply(image(world(nodes), compiler), [uplink, two, binding('odd', 12, ['10.244.0.7'])]);
  t.match(addresses(maps), { '10.244.0.7': [12, NODE], '192.168.0.1': [12, OWN | NODE] }, 'as before, for a moment');
  await store.tidyLater();
  t.match(addresses(maps), { '10.244.0.7': [12, 0], '192.168.0.1': [0, OWN | NODE] });
  const allowed = USUAL_TUNNELS.map((tunnel) => ({ ...tunnel, allowed: true as const }));
  store.apply(image(world(nodes, { tunnels: allowed }), compiler), []);
  t.notOk(
    tunnels(maps).some((tunnel) => tunnel.allowed),
    'denied until no packet is judged by what denied it',
  );
  store.tidy();
  t.same(new Set(tunnels(maps).map(tunnelKey)), new Set(tunnelTable().keys()), 'known still');
  t.ok(tunnels(maps).every((tunnel) => tunnel.allowed));
  t.same(store.verify(false), []);
  store.apply(image(world(nodes), compiler), []);
  t.notOk(tunnels(maps).some((tunnel) => tunnel.allowed));
  store.apply(image(world(nodes, { tunnels: [] }), compiler), []);
  t.equal(tunnels(maps).length, tunnelTable().size);
  store.tidy();
  t.same(tunnels(maps), []);
  t.same(Object.keys(addresses(maps)).sort(), ['192.168.0.1', '192.168.0.2', 'fd00::1']);
  t.same(store.verify(false), []);
  store.close();
});

t.test('two pods with one address', async (t) => {
  const maps = programs(t);
  const store = new KernelMapStore(maps);
  const nobody = image(world(new Map()));
  const old = binding('old', 30, ['10.244.0.1'], { ending: true });
  const young = binding('young', 20, ['10.244.0.1']);
  for (const both of [
    [old, young],
    [young, old],
  ]) {
    store.apply(nobody, both);
    t.same(addresses(maps)['10.244.0.1'], [20, 0], 'not the one that ends');
  }
  store.apply(nobody, [{ ...old }, { ...young, ending: true }]);
  t.same(addresses(maps)['10.244.0.1'], [30, 0], 'of two that end the one that came last');
  store.apply(nobody, [old]);
  t.same(addresses(maps)['10.244.0.1'], [30, 0], 'it has it to itself');
  store.close();
});

t.test('what an agent finds that comes later', async (t) => {
  const maps = programs(t);
  const first = new KernelMapStore(maps);
  const pods = [binding('bound', 10, ['10.244.0.1', '10.244.0.9']), binding('late', 11, ['10.244.0.2'])];
  first.apply(image(world(new Map([node('b', '192.168.0.2', '10.244.0.2')]))), [
    ...pods,
    binding('gone', 12, ['10.244.0.3']),
  ]);
  first.close();

  const second = new KernelMapStore(maps);
  const now = image(world(new Map([node('b', '192.168.0.2'), node('c', '192.168.0.3')])));
  second.apply(now, [binding('bound', 10, ['10.244.0.1'])]);
  second.tidy();
  const own = { '192.168.0.1': [0, OWN | NODE], 'fd00::1': [0, OWN | NODE], '192.168.0.2': [0, NODE] };
  const known = { ...own, '192.168.0.3': [0, NODE], '10.244.0.1': [10, 0], '10.244.0.2': [11, 0] };
  t.same(addresses(maps), { ...known, '10.244.0.3': [12, 0] }, 'pods that are not bound yet keep their addresses');
  t.same(second.verify(false), []);
  second.dropStrangers(new Set([10, 11]));
  t.same(addresses(maps), known, 'whose hooks are gone is gone');
  t.same(second.verify(false), []);
  second.apply(now, [binding('bound', 10, ['10.244.0.1']), binding('late', 11, ['10.244.0.4'])]);
  second.tidy();
  const { '10.244.0.2': _, ...rest } = known;
  t.same(addresses(maps), { ...rest, '10.244.0.4': [11, 0] }, 'bound, it has the addresses that it is said to have');
  const written = second.apply(now, [
    binding('bound', 10, ['10.244.0.1']),
    binding('late', 11, ['10.244.0.4']),
  ]).written;
  t.equal(written, 0, 'and nothing is written twice');
  second.close();
});

t.test('room, and what somebody else wrote', async (t) => {
  const maps = programs(t, { addresses: 8, tunnels: 32 });
  const store = new KernelMapStore(maps);
  const many = (n: number) => world(new Map(Array.from({ length: n }, (_, i) => node(`n${i}`, `10.0.0.${i}`))));
  store.apply(image(many(4)), []);
  const before = addresses(maps);
  t.throws(() => store.apply(image(many(9)), []), { code: 'TOO_LARGE', message: /^map addresses holds 8 entries/ });
  t.same(addresses(maps), before, 'nothing was written');
  t.same(
    store.fill().filter((f) => ['addresses', 'tunnels'].includes(f.name)),
    [
      { name: 'addresses', entries: 6, max: 8 },
      { name: 'tunnels', entries: tunnelTable().size, max: 32 },
    ],
  );
  for (const name of ['addresses', 'tunnels']) {
    const map = maps[name] as BpfMap;
    for (const { keys } of map.batches()) map.delete(Buffer.from(keys.subarray(0, map.keySize)));
    map.update(Buffer.alloc(map.keySize, 7), Buffer.alloc(map.valueSize, 1));
  }
  t.equal(store.verify(true).length, 4);
  t.same(store.verify(false), []);
  t.same(addresses(maps), before);
  store.close();
});
