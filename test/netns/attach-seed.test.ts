import { createSocket } from 'node:dgram';
import { connect, createServer, type Socket } from 'node:net';
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import t, { type Test } from 'tap';
import { type TrackedConnection, TrackedReader, provesOpener } from '../../agent/netlink/conntrack.js';
import type { FlowTable } from '../../agent/events/flow-table.js';
import { flowKey, Seeder, SeedProgram, writeSeeds } from '../../agent/hooks/seed.js';
import { loadForTest } from '../engines/engine.js';
import { type Connection, claims, claimsOf, dialledOf } from '../../agent/netlink/sockets.js';
import { mappedAddress } from '../../agent/netlink/netlink.js';
import { attr, attrNested } from '../../agent/netlink/nlmsg.js';
import * as L from '../../src/image/layout.gen.js';
import { makeLogger } from '../../src/log.js';
import { formatBytes16, parseAddr } from '../../src/net/addr.js';
import { Bed } from './attach-bed.js';

const { ea_flow_key: K, ea_flow: F } = L.STRUCTS;

const bed = new Bed();
t.teardown(() => bed.close());
bed.addNs('a');
bed.addNs('b');
bed.veth('a', 'eth0', ['10.97.1.2/24', 'fd97:1::2/64'], ['10.97.1.1/24', 'fd97:1::1/64']);
bed.veth('b', 'eth0', ['10.97.2.2/24'], ['10.97.2.1/24']);

/** A server in the pod on TCP 7001 (dual stack) and UDP 7002, with a connected UDP socket for its first client, which also opens one connection itself. */
const SERVER = `
import socket, sys
l = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); l.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
l.bind(("::", 7001)); l.listen(8)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); u.bind(("0.0.0.0", 7002))
print("ready", flush=True)
kept = []
for line in sys.stdin:
    w = line.split()
    if w[0] == "accept": kept.append(l.accept()[0])
    if w[0] == "recv":
        data, peer = u.recvfrom(100)
        c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        c.bind((sys.argv[1], 7002)); c.connect(peer); kept.append(c)
    if w[0] == "dial": kept.append(socket.create_connection((w[1], int(w[2]))))
    if w[0] == "dialfrom":
        c = socket.socket(); c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); c.bind((sys.argv[1], 7001))
        c.connect((w[1], int(w[2]))); kept.append(c)
    if w[0] == "unlisten": l.close()
    if w[0] == "write": kept[-1].sendall(b"x" * int(w[1]))
    if w[0] == "dialudp":
        c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.connect((w[1], int(w[2]))); kept.append(c)
    if w[0] == "loop":
        kept.append(socket.create_connection(("127.0.0.1", 7001))); kept.append(l.accept()[0])
    if w[0] == "closefirst": kept[0].close()
    print("done", flush=True)
`;

/** Starts it in a namespace; what it is told it has done when `tell` resolves. */
async function serve(
  t: Test,
  ns: string,
  address: string,
): Promise<{ path: string; tell: (line: string) => Promise<void> }> {
  const path = `/run/netns/${bed.ns(ns)}`;
  const command = [`--net=${path}`, 'python3', '-c', SERVER, address];
  const server = spawn('nsenter', command, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => server.kill());
  await once(server.stdout, 'data');
  const tell = async (line: string) => {
    server.stdin.write(`${line}\n`);
    await once(server.stdout, 'data');
  };
  return { path, tell };
}

const text = (b: Buffer) => formatBytes16(b, b.subarray(10, 12).readUInt16BE(0) === 0xffff ? 4 : 6);
const line = (c: Connection) => `${c.protocol} ${text(c.local)} ${c.localPort} ${text(c.remote)} ${c.remotePort}`;

t.test('what sockets claim', async (t) => {
  const { path, tell } = await serve(t, 'a', '10.97.1.2');
  const shown = () =>
    [...claims(path).values()]
      .map((c) => `${line(c)}${c.dialled ? ' dialled' : ''}${c.listening ? '' : ' alone'}`)
      .sort();
  t.same(shown(), [], 'listening is not a connection');

  const clients: Socket[] = [];
  t.teardown(() => {
    for (const c of clients) c.destroy();
  });
  for (const host of ['10.97.1.2', 'fd97:1::2']) {
    const client = connect({ host, port: 7001 });
    client.on('error', () => undefined);
    clients.push(client);
    await once(client, 'connect');
    await tell('accept');
  }
  const udp = createSocket('udp4');
  t.teardown(() => udp.close());
  udp.send('hello', 7002, '10.97.1.2');
  await tell('recv');

  // Opened by the pod: to a listener of ours, and a connected UDP socket.
  const own = createServer(() => undefined).listen(0, '10.97.1.1');
  await once(own, 'listening');
  t.teardown(() => own.close());
  const port = (own.address() as { port: number }).port;
  await tell(`dial 10.97.1.1 ${port}`);
  await tell('dialudp 10.97.1.1 5353');
  await tell('loop');

  const [one, two] = clients.map((c) => c.localPort);
  const expected = [
    `17 10.97.1.2 7002 10.97.1.1 ${udp.address().port}`,
    `6 10.97.1.2 7001 10.97.1.1 ${one}`,
    `6 fd97:1::2 7001 fd97:1::1 ${two}`,
  ];
  t.same(shown(), expected);
  await tell(`dialfrom 10.97.1.1 ${port}`);
  const staged = `6 10.97.1.2 7001 10.97.1.1 ${port} dialled`;
  const withStaged = [expected[0], ...[expected[1], staged].sort(), expected[2]];
  t.same(shown(), withStaged, 'one that it opened from the port where it listens');
  for (const bytes of [1, 5000]) {
    await tell(`write ${bytes}`);
    t.same(shown(), withStaged, `after ${bytes} more bytes`);
  }
  await tell('closefirst');
  t.same(shown(), withStaged, 'half closed (FIN_WAIT) it still answers');
  await tell('unlisten');
  t.same(
    shown(),
    [expected[0], `${expected[2]} alone`],
    'what was accepted is known without its listener, as long as it has its counters',
  );
});

t.test('who sent the SYN, by the counters', async (t) => {
  const info = (acknowledged: number, unsent: number, sent: number, again = 0) => {
    const b = Buffer.alloc(232);
    b.writeBigUInt64LE(BigInt(acknowledged), 120);
    b.writeUInt32LE(unsent, 144);
    b.writeBigUInt64LE(BigInt(sent), 200);
    b.writeBigUInt64LE(BigInt(again), 208);
    return b;
  };
  const [established, finWait] = [1 << 1, 1 << 4];
  t.equal(dialledOf(established, 0, info(0, 0, 0)), false);
  t.equal(dialledOf(established, 0, info(1, 0, 0)), true);
  t.equal(dialledOf(established, 30, info(71, 10, 90)), true, '71 acknowledged, 20 on their way, 10 not sent');
  t.equal(dialledOf(established, 30, info(70, 10, 100, 10)), false, '10 of them sent twice');
  t.equal(dialledOf(finWait, 1, info(100, 0, 100)), false, 'the FIN is on its way');
  t.equal(dialledOf(finWait, 0, info(102, 0, 100)), true, 'the FIN is acknowledged');
  t.equal(dialledOf(finWait, 11, info(90, 11, 90)), false, 'the FIN waits behind data');
  t.equal(dialledOf(established, 5, info(0, 0, 9)), undefined, 'read at two moments');
  t.equal(dialledOf(established, 0, info(0, 0, 0).subarray(0, 200)), undefined, 'an older kernel');
  t.equal(dialledOf(established, 0, undefined), undefined);
});

t.test('every pair of an SCTP association’s addresses', async (t) => {
  const ip = (n: number) => mappedAddress(Buffer.from([10, 0, 0, n]));
  const none = { locals: [], peers: [] };
  const base = { protocol: 132, local: ip(1), remote: ip(3), localPort: 7, remotePort: 99 };
  const listener = { ...base, ...none, remotePort: 0, state: 1 << 10 };
  const association = { ...base, state: 1 << 3, locals: [ip(1), ip(2)], peers: [ip(3), ip(4)] };
  t.equal(claimsOf([listener, association]).size, 4);
  t.equal(claimsOf([association]).size, 0, 'without a listener the pod opened it');
  t.equal(claimsOf([listener, { ...association, state: 1 << 1 }]).size, 0, 'COOKIE_WAIT: a client');
  t.equal(claimsOf([{ ...listener, protocol: 6 }, association]).size, 0, 'a listener of another protocol');
});

const be = (value: number, bytes: 2 | 4) => {
  const b = Buffer.alloc(bytes);
  if (bytes === 2) b.writeUInt16BE(value);
  else b.writeUInt32BE(value);
  return b;
};

interface Side {
  from: string;
  to: string;
  sport: number;
  dport: number;
}

/** As ctnetlink writes it. */
function entry(
  original: Side,
  reply: Side,
  more: { protocol?: number; state?: number; flags?: number; status?: number } = {},
) {
  const { protocol = 6, state = 3, flags = 0x23, status = 14 } = more;
  const tuple = (type: number, { from, to, sport, dport }: Side) => {
    const [a, b] = [parseAddr(from), parseAddr(to)];
    const bytes = (x: typeof a) => Buffer.from(x.bytes.subarray(x.family === 4 ? 12 : 0));
    const first = a.family === 4 ? 1 : 3;
    return attrNested(
      type,
      attrNested(1, attr(first, bytes(a)), attr(first + 1, bytes(b))),
      attrNested(2, attr(1, Buffer.from([protocol])), attr(2, be(sport, 2)), attr(3, be(dport, 2))),
    );
  };
  const tcp = attrNested(
    1,
    attr(1, Buffer.from([state])),
    attr(4, Buffer.from([flags, 0])),
    attr(5, Buffer.from([0x23, 0])),
  );
  const parts = [tuple(1, original), tuple(2, reply), attr(3, be(status, 4)), attr(7, be(100, 4))];
  if (protocol === 6) parts.push(attrNested(4, tcp));
  return { type: 0x100, flags: 2, seq: 1, body: Buffer.concat([Buffer.alloc(4), ...parts]) };
}

const CLIENT = { from: '198.51.100.7', to: '10.97.1.2', sport: 4000, dport: 7001 };
const ANSWER = { from: '10.97.1.2', to: '198.51.100.7', sport: 7001, dport: 4000 };

t.test('what conntrack says', async (t) => {
  const reader = new TrackedReader();
  const six = { from: 'fd97:1::1', to: 'fd97:1::2', sport: 4001, dport: 7001 };
  const back = { from: 'fd97:1::2', to: 'fd97:1::1', sport: 7001, dport: 4001 };
  for (const [a, b] of [
    [CLIENT, ANSWER],
    [six, back],
  ] as const) {
    const read = reader.read(entry(a, b)) as TrackedConnection;
    t.match(read, { protocol: 6, status: 14, tcpState: 3, tcpFlags: 0x23 });
    t.same([text(read.original.source), text(read.original.destination)], [a.from, a.to]);
    t.same([read.reply.sourcePort, read.reply.destinationPort], [b.sport, b.dport]);
    t.ok(provesOpener(read));
  }
  const whole = entry(CLIENT, ANSWER);
  for (let cut = 0; cut < 90; cut += 3) {
    t.doesNotThrow(() => reader.read({ ...whole, body: whole.body.subarray(0, cut) }), `cut after ${cut} bytes`);
  }
  t.equal(reader.read({ ...whole, body: whole.body.subarray(0, 60) }), undefined, 'one direction is missing');
  t.equal(reader.read({ ...whole, type: 0x102 }), undefined, 'another message');
  const shows = (more: Parameters<typeof entry>[2]) =>
    provesOpener(reader.read(entry(CLIENT, ANSWER, more)) as TrackedConnection);
  for (const state of [2, 3, 4, 5, 6, 7]) t.ok(shows({ state }), `state ${state}`);
  for (const state of [0, 1, 8, 9])
    t.notOk(shows({ state }), `state ${state}: both have not spoken, or nothing is open`);
  t.notOk(shows({ status: 8 }), 'not answered');
  t.notOk(shows({ flags: 0x0a }), 'picked up in the midst of it');
  t.notOk(shows({ flags: 0xa3 }), 'both sent a SYN');
  t.notOk(shows({ protocol: 17 }), 'UDP has no opener');
});

t.test('socket and conntrack together', async (t) => {
  const programs = loadForTest();
  t.teardown(() => programs.close());
  const flows = programs.maps.flows as FlowTable;
  const { path, tell } = await serve(t, 'b', '10.97.2.2');
  const client = connect({ host: '10.97.2.2', port: 7001 });
  client.on('error', () => undefined);
  t.teardown(() => client.destroy());
  await once(client, 'connect');
  await tell('accept');
  const udp = createSocket('udp4');
  t.teardown(() => udp.close());
  udp.send('hello', 7002, '10.97.2.2');
  await tell('recv');
  const own = createServer(() => undefined).listen(0, '10.97.2.1');
  await once(own, 'listening');
  t.teardown(() => own.close());
  const port = (own.address() as { port: number }).port;
  await tell(`dialfrom 10.97.2.1 ${port}`);

  const logged: string[] = [];
  const log = makeLogger('warn', (text) => logged.push(text));
  const sides = (remotePort: number, source = '10.97.2.1', pod = '10.97.2.2') => ({
    original: { from: source, to: '10.96.0.1', sport: 4000, dport: 80 },
    reply: { from: pod, to: '10.97.2.1', sport: 7001, dport: remotePort },
  });
  const clientPort = client.localPort as number;
  const endpoint = {
    id: 5,
    key: 'default/web',
    uid: 'u',
    ifindex: 7,
    ifname: 'v',
    mac: '',
    kind: 'pod',
    l3: false,
  } as const;
  let asked: string[] = [];
  /** Remote ports of what is seeded while conntrack knows of these. */
  const seeded = (
    known: readonly ReturnType<typeof sides>[],
    ips = ['10.97.2.2'],
    ns: { path: string } | undefined = { path },
  ) => {
    for (const { keys, count } of [...flows.batches(64)]) flows.deleteBatch(keys, count);
    const seeder = new Seeder({
      seeds: new SeedProgram(programs.programs.seed),
      log,
      answeredBy: (addresses, visit) => {
        asked = addresses.map(text);
        const reader = new TrackedReader();
        for (const { original, reply } of known) visit(reader.read(entry(original, reply)) as TrackedConnection);
      },
    });
    const it = { ...endpoint, ips, ...(ns ? { netns: ns } : {}) };
    seeder.prepare([it])(it);
    const ports: number[] = [];
    for (const { keys, count } of flows.batches(64)) {
      for (let i = 0; i < count; i++) ports.push(keys.readUInt16BE(i * K.size + K.fields.remote_port.offset));
    }
    return { ports: ports.sort(), unproven: seeder.unproven(5) };
  };
  t.same(
    seeded([sides(clientPort)]),
    { ports: [clientPort], unproven: 1 },
    'through a Service; the UDP socket is not believed',
  );
  t.same(asked, ['10.97.2.2'], 'conntrack is asked for what has a socket');
  t.match(logged.at(-1), /1 connection without proof .*default\/web/);
  t.same(seeded([]), { ports: [], unproven: 2 }, 'not known to conntrack');
  t.same(
    seeded([sides(port)]),
    { ports: [], unproven: 2 },
    'what the pod opened, though conntrack was made to say otherwise',
  );
  t.same(
    seeded([sides(clientPort, '10.97.2.2')]),
    { ports: [], unproven: 2 },
    'opened by the pod, to a Service that it is behind',
  );
  t.same(seeded([sides(clientPort, '10.97.2.1', '10.97.2.9')]), { ports: [], unproven: 2 }, 'opened to another');
  t.same(seeded([sides(clientPort)], ['10.97.2.9']), { ports: [], unproven: 2 }, 'an address that is not its own');
  t.same(asked, []);
  t.throws(() => seeded([], [], { path: '/run/netns/eat-none' }), { code: 'NETNS', message: /eat-none/ });
});

t.test('what is written, and what is left alone', async (t) => {
  const programs = loadForTest();
  t.teardown(() => programs.close());
  const flows = programs.maps.flows as FlowTable;
  const seeds = new SeedProgram(programs.programs.seed);
  const endpoint = { id: 5, ifindex: 7 };
  const connection = {
    local: mappedAddress(Buffer.from([10, 97, 1, 2])),
    remote: mappedAddress(Buffer.from([10, 97, 1, 1])),
    ...{ localPort: 7001, remotePort: 40000, protocol: 6 },
  };
  const known = { ...connection, remotePort: 40001 };
  const value = (c: typeof connection) => flows.lookup(flowKey(5, c));
  writeSeeds(seeds, endpoint, [known]);
  const theirs = Buffer.from(value(known) as Buffer);
  theirs.writeUInt8(0, F.fields.flags.offset);
  t.ok(flows.edit(flowKey(5, known), theirs));
  t.equal(writeSeeds(seeds, endpoint, [connection, known]), 0);
  const before = value(connection);
  writeSeeds(seeds, endpoint, [connection]);
  writeSeeds(seeds, endpoint, []);

  const key = flowKey(5, connection);
  t.equal(key.readUInt16BE(K.fields.local_port.offset), 7001);
  t.equal(key.readUInt16BE(K.fields.remote_port.offset), 40000);
  t.equal(key.readUInt32LE(K.fields.endpoint.offset), 5);
  t.equal(key[K.fields.protocol.offset], 6);
  const flow = value(connection);
  t.ok(flow);
  const { EA_FLOW_INBOUND, EA_FLOW_SEEDED, EA_FLOW_CONFIRMED } = L.ENUMS.ea_flow_flags;
  t.equal(flow?.[F.fields.flags.offset], EA_FLOW_INBOUND | EA_FLOW_SEEDED | EA_FLOW_CONFIRMED);
  t.equal(flow?.[F.fields.verdict.offset], L.ENUMS.ea_verdict.EA_VERDICT_ALLOW);
  t.equal(flow?.readUInt32LE(F.fields.payer.offset), 7, 'the endpoint pays');
  t.same(flow, before, 'not written twice');
  t.same(value(known), theirs, 'what the delivery hook has seen stays');
  writeSeeds(seeds, endpoint, [known], 'replace');
  t.equal(value(known)?.[F.fields.flags.offset], EA_FLOW_INBOUND | EA_FLOW_SEEDED | EA_FLOW_CONFIRMED);
});
