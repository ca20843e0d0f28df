/** The flow table by itself: what finds room in it, what makes room, and what user space sees of it and takes out. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { FlowRoom } from '../../agent/serve/flow-room.js';
import { FlowSweeper } from '../../agent/events/sweeper.js';
import type { FlowTable } from '../../agent/events/flow-table.js';
import { BpfMap, MapType } from '../../agent/kernel/libbpf/map.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import { OlderFlows } from '../../agent/events/older-flows.js';
import { flowKey, SeedProgram } from '../../agent/hooks/seed.js';
import * as L from '../../src/image/layout.gen.js';
import { IFINDEX, Kernel, loadForTest } from '../engines/engine.js';
import { frame } from '../engines/packets.js';
import { cidr, POD_IP, world } from '../bench/worlds.js';
import { checkTable } from '../engines/table-check.js';

const { ea_endpoint: EP, ea_flow: F, ea_flow_key: K } = L.STRUCTS;
const OBJ_PIN = 6;
const { EA_ENTRY_VALID } = L.ENUMS.ea_entry_state;
const CAPACITY = 4096;
const [SYN, ACK] = [2, 16];
/** Interfaces of endpoints that exist for the table alone. */
const [NEIGHBOUR, OTHER] = [7, 8];

function start(t: Test) {
  const kernel = new Kernel(loadForTest({ flows: CAPACITY, events: 65536 }));
  t.teardown(() => kernel.close());
  kernel.use(world(10, 10));
  kernel.become('default/web');
  const { table, programs } = kernel.programs;
  table.divide(16);
  const endpoints = kernel.programs.maps.endpoints?.mmap() as Buffer;
  /** Whether there is an endpoint at an interface. */
  const exists = (ifindex: number, does: boolean) =>
    endpoints.writeUInt32LE(does ? ifindex : 0, ifindex * EP.size + EP.fields.ifindex.offset);
  for (const ifindex of [NEIGHBOUR, OTHER]) exists(ifindex, true);
  const flows = kernel.programs.maps.flows as FlowTable;
  const seeds = new SeedProgram(programs.seed);
  const address = (n: number) => {
    const b = Buffer.alloc(16);
    b.writeUInt16BE(0xffff, 10);
    b.writeUInt32BE(n, 12);
    return b;
  };
  const key = (endpoint: number, n: number) =>
    flowKey(endpoint, {
      local: address(0x0a000001),
      remote: address(0xc0000200),
      localPort: 80,
      remotePort: n,
      protocol: 6,
    });
  return {
    kernel,
    table,
    flows,
    exists,
    seed: (ifindex: number, n: number) => seeds.enter(key(ifindex, n), ifindex, false),
    has: (ifindex: number, n: number) => flows.lookup(key(ifindex, n)) !== undefined,
    key,
    /** Whether the endpoint's packet passes. */
    send: (n: number, tcpFlags = SYN, to = '192.0.2.1') =>
      kernel.run(
        frame(
          { to, protocol: 6, port: 1 + (n % 60_000) },
          { src: POD_IP, sport: 1024 + Math.floor(n / 60_000), tcpFlags },
        ),
      ).verdict,
    count: () => [...flows.batches(512)].reduce((sum, b) => sum + b.count, 0),
    check: () => t.same(checkTable(table), [], 'the table is sound'),
  };
}

t.test('user space finds what programs entered, and takes it out', async (t) => {
  const { seed, has, flows, table, key, count, check } = start(t);
  for (let n = 0; n < 1000; n++) if (seed(NEIGHBOUR, n) !== 'entered') t.fail(`${n} has no room`);
  t.equal(count(), 1000);
  t.equal(table.holdings(NEIGHBOUR), 1000);
  for (let n = 0; n < 1000; n++) if (!has(NEIGHBOUR, n)) t.fail(`${n} is not found`);
  t.equal(seed(NEIGHBOUR, 5), 'known');
  check();
  for (let n = 0; n < 500; n++) if (!flows.delete(key(NEIGHBOUR, n))) t.fail(`${n} is not deleted`);
  t.equal(flows.delete(key(NEIGHBOUR, 3)), false, 'not twice');
  t.equal(count(), 500);
  t.equal(table.holdings(NEIGHBOUR), 500);
  check();
});

t.test('a flood of one endpoint takes nothing that is within another one’s share', async (t) => {
  const { seed, has, send, table, check } = start(t);
  const { share } = table;
  t.equal(share, CAPACITY / 2 / 16);
  const own = IFINDEX;
  t.equal(send(0), 'deny');
  for (let n = 0; n < share; n++) if (seed(NEIGHBOUR, n) !== 'entered') t.fail(`${n} has no room before the flood`);
  for (let n = 1; n < 5 * CAPACITY; n++) send(n);
  for (let n = 0; n < share; n++) if (!has(NEIGHBOUR, n)) t.fail(`${n} was pushed out`);
  for (let n = 0; n < share; n++) if (seed(OTHER, n) !== 'entered') t.fail(`${n} has no room during the flood`);
  for (let n = 0; n < CAPACITY; n++) send(100_000 + n);
  for (let n = 0; n < share; n++) if (!has(OTHER, n)) t.fail(`${n} was pushed out`);
  t.equal(table.holdings(NEIGHBOUR), share);
  t.equal(table.holdings(OTHER), share);
  t.ok(table.holdings(own) <= share, `what is denied keeps to a part of its share: ${table.holdings(own)} of ${share}`);
  check();
});

t.test('room that nobody has a right to is everybody’s, until somebody has', async (t) => {
  const { seed, has, table, check } = start(t);
  const many = 3 * CAPACITY;
  let entered = 0;
  for (let n = 0; n < many; n++) if (seed(NEIGHBOUR, n % 65_536) === 'entered') entered++;
  t.ok(table.holdings(NEIGHBOUR) > 0.9 * CAPACITY, `one alone has nearly all: ${table.holdings(NEIGHBOUR)}`);
  t.ok(entered > CAPACITY, 'the last ones replace the first');
  for (let n = 0; n < table.share; n++) if (seed(OTHER, n) !== 'entered') t.fail(`${n} has no room`);
  for (let n = 0; n < table.share; n++) if (!has(OTHER, n)) t.fail(`${n} was pushed out`);
  for (let n = 0; n < CAPACITY; n++) seed(NEIGHBOUR, 20_000 + n);
  for (let n = 0; n < table.share; n++) if (!has(OTHER, n)) t.fail(`${n} was pushed out afterwards`);
  check();
});

t.test('what made room and what found none is counted, and shown', async (t) => {
  const { seed, send, table, kernel } = start(t);
  const counters = kernel.programs.maps.counters as BpfMap;
  const room = new FlowRoom(table, counters, (ifindex) => ifindex);
  t.same(room.view(), { share: table.share, notStored: 0, evicted: 0, busy: 0 });
  t.equal(room.holdings(NEIGHBOUR), 0);
  for (let n = 0; n < table.share / 4; n++) send(n);
  t.match(room.view(), { notStored: 0, evicted: 0 }, 'there is room');
  // Connections that were opened to them: worth more than what is denied.
  for (let n = 0; n < 4 * CAPACITY; n++) seed(IFINDEX, n);
  const { evicted, notStored } = room.view();
  t.ok(evicted > CAPACITY, `${evicted} made room`);
  for (let n = 0; n < 1000; n++) send(1000 + n);
  t.ok(room.view().notStored - notStored > 500, `${room.view().notStored} found none`);
  t.equal(room.holdings(IFINDEX), table.holdings(IFINDEX));
  t.ok(room.holdings(IFINDEX) > table.share);
});

t.test('what is established goes last, of an endpoint’s own', async (t) => {
  const { seed, has, send, table, check, kernel } = start(t);
  // Connections that were opened to the endpoint that sends.
  for (let n = 0; n < 100; n++) t.equal(seed(IFINDEX, n), 'entered');
  for (let n = 0; n < 4 * CAPACITY; n++) {
    send(n);
    kernel.run(
      frame({ to: POD_IP, protocol: 6, port: 81 }, { src: '198.51.100.7', sport: 1 + n, tcpFlags: SYN }),
      'toPod',
    );
  }
  for (let n = 0; n < 100; n++) if (!has(IFINDEX, n)) t.fail(`${n} was pushed out by packets that nobody answered`);
  t.ok(table.holdings(IFINDEX) > table.share);
  check();
});

t.test(
  'what is denied takes nothing of others beyond a quarter of its share, and no room of theirs while there is other',
  async (t) => {
    const { seed, has, send, table, check } = start(t);
    const many = 4 * table.share;
    for (let n = 0; n < many; n++) if (seed(NEIGHBOUR, n) !== 'entered') t.fail(`${n} has no room`);
    for (let n = 0; n < 4 * CAPACITY; n++) send(n);
    for (let n = 0; n < many; n++)
      if (!has(NEIGHBOUR, n)) t.fail(`${n} was pushed out of a table that is far from full`);
    t.ok(table.holdings(IFINDEX) <= table.share / 4 + 1);
    check();
  },
);

t.test('a count below nothing is nothing, not more than everything', async (t) => {
  const { seed, has, table } = start(t);
  for (let n = 0; n < table.share / 2; n++) t.equal(seed(NEIGHBOUR, n), 'entered');
  table.adjustHoldings(NEIGHBOUR, -table.share);
  for (let n = 0; n < 3 * CAPACITY; n++) seed(OTHER, n);
  for (let n = 0; n < table.share / 2; n++) if (!has(NEIGHBOUR, n)) t.fail(`${n} was pushed out`);
  for (let n = 0; n < table.share / 2; n++) if (seed(NEIGHBOUR, 1000 + n) !== 'entered') t.fail(`${n} has no room`);
  table.adjustHoldings(NEIGHBOUR, table.share);
});

t.test('first fragments have room, whatever else an endpoint has open', async (t) => {
  const { seed, kernel, table, check } = start(t);
  const [to] = cidr(0).split('/') as [string];
  const fragment = (id: number, offset: number) =>
    kernel.run(
      frame(
        { to, protocol: 6, port: 1000 },
        { src: POD_IP, sport: 999, tcpFlags: SYN, fragment: { offset, more: offset === 0, id } },
      ),
    ).verdict;
  for (let n = 0; n < 2 * table.share; n++) t.equal(seed(IFINDEX, n), 'entered');
  for (let id = 1; id < 50; id++) {
    t.equal(fragment(id, 0), 'allow');
    t.equal(fragment(id, 1480), 'allow', 'follows its first');
  }
  check();
});

t.test('what endpoints that have gone have left is room for others', async (t) => {
  const { seed, has, table, exists, check } = start(t);
  const gone = Array.from({ length: 40 }, (_, i) => 100 + i);
  for (const ifindex of gone) {
    exists(ifindex, true);
    for (let n = 0; n < table.share; n++) seed(ifindex, n);
    t.ok(table.holdings(ifindex) <= table.share);
  }
  for (let n = 0; n < table.share; n++) seed(OTHER, n);
  for (const ifindex of gone) exists(ifindex, false);
  for (let n = 0; n < table.share; n++) if (seed(NEIGHBOUR, n) !== 'entered') t.fail(`${n} has no room`);
  for (let n = 0; n < table.share; n++) if (!has(NEIGHBOUR, n)) t.fail(`${n} is not there`);
  check();
});

t.test('drops of a denied flow are counted in its entry', async (t) => {
  const { flows, send } = start(t);
  send(5);
  for (let i = 0; i < 10; i++) send(5, ACK);
  const [batch] = [...flows.batches(16)];
  const drops = batch?.values.readBigUInt64LE(F.fields.drops.offset);
  t.equal(drops, 11n);
});

t.test('what a killed agent left, and what it miscounted, is mended within two passes', async (t) => {
  const { seed, table, key, count, check } = start(t);
  for (let n = 0; n < 50; n++) seed(NEIGHBOUR, n);
  const { buckets, tag } = table.locate(key(NEIGHBOUR, 7));
  const slot = buckets
    .flatMap((b) => Array.from({ length: L.ENUMS.ea_table.EA_WAYS }, (_, way) => b * L.ENUMS.ea_table.EA_WAYS + way))
    .find((s) => table.tag(s) === tag) as number;
  // Killed between the two stores of free(): the state is free, the tag stands, nobody has counted.
  const states = new Uint32Array(table.entries.buffer, table.entries.byteOffset);
  const word = (slot * L.STRUCTS.ea_entry.size + L.STRUCTS.ea_entry.fields.state.offset) / 4;
  states[word] = ((states[word] as number) & ~EA_ENTRY_VALID) + L.ENUMS.ea_entry_state.EA_ENTRY_NEXT;
  t.equal(table.holdings(NEIGHBOUR), 50);
  t.equal(count(), 49);
  const ended: number[] = [];
  const sweeper = new FlowSweeper(table, 1000, () => ended.push(1));
  for (let pass = 0; pass < 4; pass++) sweeper.tick(0);
  t.equal(table.tag(slot), 0, 'the way can be used again');
  t.equal(table.holdings(NEIGHBOUR), 49, 'the count is right');
  t.equal(sweeper.entries, 49);
  t.equal(ended.length, 0);
  check();
  for (let pass = 0; pass < 2; pass++) sweeper.tick(Number.MAX_SAFE_INTEGER);
  t.equal(count(), 0, 'what was silent for too long has ended');
  t.equal(ended.length, 49);
  t.equal(table.holdings(NEIGHBOUR), 0);
});

t.test('a count is not corrected by flows that come and go while it is counted', async (t) => {
  const { seed, table, flows, key, check } = start(t);
  const sweeper = new FlowSweeper(table, 1000, () => {});
  for (let pass = 0; pass < 5; pass++) {
    for (let n = 0; n < 100; n++) seed(NEIGHBOUR, 100 * pass + n);
    sweeper.tick(0);
  }
  t.equal(table.holdings(NEIGHBOUR), 500, 'while there are more and more');
  for (let pass = 0; pass < 5; pass++) {
    for (let n = 0; n < 100; n++) flows.delete(key(NEIGHBOUR, 100 * pass + n));
    sweeper.tick(0);
  }
  t.equal(table.holdings(NEIGHBOUR), 0, 'and fewer and fewer');
  check();
});

t.test('flows that have not said yet what decides about them are counted', async (t) => {
  const { seed, table, flows, key } = start(t);
  const sweeper = new FlowSweeper(table, 1000, () => {});
  const { EA_TCP_INSPECT, EA_TCP_SAYS } = L.ENUMS.ea_tcp_state;
  const { EA_SAID_HANDSHAKE, EA_SAID_PENDING, EA_SAID_JUDGED } = L.ENUMS.ea_said_state;
  const state = F.fields.extra.offset + L.STRUCTS.ea_said_stream.fields.state.offset;
  for (const [n, tcp, said] of [
    [0, EA_TCP_INSPECT | EA_TCP_SAYS, EA_SAID_HANDSHAKE],
    [1, EA_TCP_INSPECT | EA_TCP_SAYS, EA_SAID_PENDING],
    [2, EA_TCP_INSPECT | EA_TCP_SAYS, EA_SAID_JUDGED],
    [3, EA_TCP_INSPECT, 0],
    [4, 0, 0],
  ] as const) {
    seed(NEIGHBOUR, n);
    const flow = flows.lookup(key(NEIGHBOUR, n)) as Buffer;
    flow[F.fields.tcp_state.offset] = tcp;
    flow[state] = said;
    flows.edit(key(NEIGHBOUR, n), flow);
  }
  for (let pass = 0; pass < 2; pass++) sweeper.tick(0);
  t.equal(sweeper.pending, 2);
  flows.delete(key(NEIGHBOUR, 0));
  for (let pass = 0; pass < 2; pass++) sweeper.tick(0);
  t.equal(sweeper.pending, 1);
});

t.test('packets of no connection are not remembered as one, though they look it', async (t) => {
  const { kernel, seed, flows, count } = start(t);
  const [remote] = cidr(0).split('/') as [string];
  const out = (sport: number) =>
    kernel.run(frame({ to: remote, protocol: 6, port: 1000 }, { src: POD_IP, sport, tcpFlags: ACK })).verdict;
  for (let n = 0; n < 10; n++) t.equal(out(5000 + n), 'allow');
  kernel.run(frame({ to: POD_IP, protocol: 6, port: 5000 }, { src: remote, sport: 1000, tcpFlags: ACK }), 'toPod');
  seed(NEIGHBOUR, 1);
  t.equal(count(), 11);
  const hz = 1000;
  const sweeper = new FlowSweeper(kernel.programs.table, hz, () => {});
  const [batch] = [...flows.batches(64)];
  const last = Number(batch?.values.readBigUInt64LE(F.fields.last_jiffies.offset));
  sweeper.tick(last + 300 * hz);
  t.equal(count(), 2, 'what was answered, and what a peer had opened');
});

t.test('what the tables of other versions know of connections that were opened to an endpoint', async (t) => {
  const parent = `/sys/fs/bpf/ea-older-${process.pid}`;
  t.teardown(() => rmSync(parent, { recursive: true, force: true }));
  const pin = (map: BpfMap, dir: string, name: string) => {
    mkdirSync(join(parent, dir), { recursive: true });
    const text = Buffer.from(`${join(parent, dir, name)}\0`);
    const attr = Buffer.alloc(16);
    attr.writeBigUInt64LE(sys.address(text), 0);
    attr.writeUInt32LE(map.fd, 8);
    sys.bpf(OBJ_PIN, attr, text);
  };
  const { kernel, seed, key, flows } = start(t);
  // A hash map of those that were answered, as it was; and a table like this one.
  const accepted = BpfMap.create({
    name: 'accepted',
    type: MapType.LRU_HASH,
    keySize: K.size,
    valueSize: 8,
    maxEntries: 64,
  });
  for (let n = 0; n < 3; n++) accepted.update(key(NEIGHBOUR, n), Buffer.alloc(8));
  pin(accepted, 'first', 'accepted');
  for (let n = 3; n < 8; n++) seed(NEIGHBOUR, n);
  seed(OTHER, 9);
  // Denied by the post-DNAT check meanwhile; and masqueraded.
  const change = (n: number, field: { offset: number }, value: number) => {
    const flow = flows.lookup(key(NEIGHBOUR, n)) as Buffer;
    flow[field.offset] = value;
    flows.edit(key(NEIGHBOUR, n), flow);
  };
  change(6, F.fields.verdict, L.ENUMS.ea_verdict.EA_VERDICT_DENY);
  const { EA_FLOW_INBOUND, EA_FLOW_CONFIRMED, EA_FLOW_MASQUERADED } = L.ENUMS.ea_flow_flags;
  change(7, F.fields.flags, EA_FLOW_INBOUND | EA_FLOW_CONFIRMED | EA_FLOW_MASQUERADED);
  kernel.run(frame({ to: POD_IP, protocol: 6, port: 81 }, { src: '198.51.100.7', sport: 9, tcpFlags: SYN }), 'toPod');
  const raw = new BpfMap((kernel.programs.maps.flows as BpfMap).fd);
  pin(raw, 'second', 'flows');
  mkdirSync(join(parent, 'ours'));
  const found = OlderFlows.beside(parent, 'ours').answered(new Set([NEIGHBOUR, 12345]));
  t.same([...found.keys()], [NEIGHBOUR], 'of others nothing is asked');
  const ports = found
    .get(NEIGHBOUR)
    ?.map((k) => k.readUInt16BE(K.fields.remote_port.offset))
    .sort();
  t.same(ports, [0, 1, 2, 3, 4, 5]);
  t.same(OlderFlows.beside(parent, 'second').answered(new Set([OTHER])).size, 0, 'ours is left out');
  t.same(OlderFlows.beside(join(parent, 'none'), 'ours').answered(new Set([OTHER])).size, 0);
  accepted.close();
});
