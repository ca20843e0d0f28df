import { createSocket } from 'node:dgram';
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import t from 'tap';
import { flowKey, writeSeeds } from '../../agent/seed.js';
import { inboundConnections, inboundOf } from '../../agent/sockets.js';
import { BpfMap } from '../../agent/libbpf/map.js';
import { mapped } from '../../agent/netlink.js';
import * as L from '../../src/image/layout.gen.js';
import { formatBytes16 } from '../../src/net/addr.js';
import { Bed } from './attach-bed.js';

const { ea_flow_key: K, ea_flow: F } = L.STRUCTS;

const bed = new Bed();
t.teardown(() => bed.close());
bed.addNs('a');
bed.veth('a', 'eth0', ['10.97.1.2/24', 'fd97:1::2/64'], ['10.97.1.1/24', 'fd97:1::1/64']);

/** A server in the pod on TCP 7001 (dual stack) and UDP 7002, with a connected UDP socket for its first client, which also opens one connection itself. */
const SERVER = `
import socket, sys
l = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); l.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
        c.bind(("10.97.1.2", 7002)); c.connect(peer); kept.append(c)
    if w[0] == "dial": kept.append(socket.create_connection((w[1], int(w[2]))))
    if w[0] == "dialudp":
        c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.connect((w[1], int(w[2]))); kept.append(c)
    if w[0] == "loop":
        kept.append(socket.create_connection(("127.0.0.1", 7001))); kept.append(l.accept()[0])
    if w[0] == "closefirst": kept[0].close()
    print("done", flush=True)
`;

t.test('connections opened to the pod, and no others', async (t) => {
  const path = `/run/netns/${bed.ns('a')}`;
  const server = spawn('nsenter', [`--net=${path}`, 'python3', '-c', SERVER], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => server.kill());
  await once(server.stdout, 'data');
  const tell = async (line: string) => {
    server.stdin.write(`${line}\n`);
    await once(server.stdout, 'data');
  };
  const shown = () =>
    inboundConnections(path)
      .map((c) => {
        const text = (b: Buffer) =>
          formatBytes16(b, b.subarray(0, 12).equals(mapped(Buffer.alloc(4)).subarray(0, 12)) ? 4 : 6);
        return `${c.protocol} ${text(c.local)} ${c.localPort} ${text(c.remote)} ${c.remotePort}`;
      })
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
  const own = (await import('node:net')).createServer(() => undefined).listen(0, '10.97.1.1');
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
  await tell('closefirst');
  t.same(shown(), expected, 'half closed (FIN_WAIT) it still answers');
});

t.test('every pair of an SCTP association’s addresses', async (t) => {
  const ip = (n: number) => mapped(Buffer.from([10, 0, 0, n]));
  const none = { locals: [], peers: [] };
  const base = { protocol: 132, local: ip(1), remote: ip(3), localPort: 7, remotePort: 99 };
  const listener = { ...base, ...none, remotePort: 0, state: 1 << 10 };
  const association = { ...base, state: 1 << 3, locals: [ip(1), ip(2)], peers: [ip(3), ip(4)] };
  t.equal(inboundOf([listener, association]).length, 4);
  t.equal(inboundOf([association]).length, 0, 'without a listener the pod opened it');
  t.equal(inboundOf([listener, { ...association, state: 1 << 1 }]).length, 0, 'COOKIE_WAIT: a client');
  t.equal(inboundOf([{ ...listener, protocol: 6 }, association]).length, 0, 'a listener of another protocol');
});

t.test('what is written, and what is left alone', async (t) => {
  const LRU_HASH = 9;
  const table = (name: string, valueSize: number) =>
    BpfMap.create({ name, type: LRU_HASH, keySize: K.size, valueSize, maxEntries: 64 });
  const maps = { flows: table('eat_flows', F.size), accepted: table('eat_accepted', 8) };
  const connection = {
    local: mapped(Buffer.from([10, 97, 1, 2])),
    remote: mapped(Buffer.from([10, 97, 1, 1])),
    ...{ localPort: 7001, remotePort: 40000, protocol: 6 },
  };
  const known = { ...connection, remotePort: 40001 };
  const theirs = Buffer.alloc(F.size, 7);
  maps.flows.update(flowKey(5, known), theirs);
  const time = { nanos: 123n, jiffies: 456n };
  writeSeeds(maps, 5, [connection, known], time);
  writeSeeds(maps, 5, [connection], { nanos: 0n, jiffies: 456n });
  writeSeeds(maps, 5, [], time);

  const key = flowKey(5, connection);
  t.equal(key.readUInt16BE(K.fields.local_port.offset), 7001);
  t.equal(key.readUInt16BE(K.fields.remote_port.offset), 40000);
  t.equal(key.readUInt32LE(K.fields.endpoint.offset), 5);
  t.equal(key[K.fields.protocol.offset], 6);
  const flow = maps.flows.lookup(key);
  t.ok(flow);
  const { EA_FLOW_INBOUND, EA_FLOW_SEEDED, EA_FLOW_CONFIRMED } = L.ENUMS.ea_flow_flags;
  t.equal(flow?.[F.fields.flags.offset], EA_FLOW_INBOUND | EA_FLOW_SEEDED | EA_FLOW_CONFIRMED);
  t.equal(flow?.[F.fields.verdict.offset], L.ENUMS.ea_verdict.EA_VERDICT_ALLOW);
  t.equal(flow?.readBigUInt64LE(F.fields.created_ns.offset), 123n, 'not written twice');
  t.equal(flow?.readBigUInt64LE(F.fields.last_jiffies.offset), 456n);
  t.equal(maps.accepted.lookup(key)?.readBigUInt64LE(0), 456n);
  t.same(maps.flows.lookup(flowKey(5, known)), theirs, 'what the delivery hook has seen stays');
  t.ok(maps.accepted.lookup(flowKey(5, known)));
  maps.flows.close();
  maps.accepted.close();
});
