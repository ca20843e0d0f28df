/** Sequences of packets through the loaded programs: what the flow table makes of them, hook by hook. */
import t from 'tap';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import type { BpfMap } from '../../agent/libbpf/map.js';
import type { Rule } from '../../src/ir/types.js';
import { snapshot } from '../bench/worlds.js';
import { Kernel, type World } from './engine.js';
import { frame } from './packets.js';

const POD = '10.244.0.1';
const PEER = '192.0.2.1';
const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];

/** Egress is denied, but for these. */
function world(allow: readonly Partial<Rule>[]): World {
  const ref = { dialect: 'test', kind: 'Test', name: 'p' };
  const rules = allow.map(
    (r, index): Rule => ({
      ref: { policy: ref, index, tier: 't', staged: false, action: 'allow' },
      action: 'allow',
      peers: null,
      ports: null,
      ...r,
    }),
  );
  const policy = {
    ref,
    staged: false,
    subject: { namespaces: { names: ['default'] }, pods: { op: 'true' } as const },
    rules,
  };
  return {
    snapshot: snapshot(),
    ir: { tiers: [{ name: 't', order: 0, defaultAction: 'deny', policies: [policy] }] },
  };
}

const kernel = new Kernel();
t.teardown(() => kernel.close());
let binding: ReturnType<Kernel['binding']> | undefined;

/** The same endpoint under another policy: its open flows are judged again. */
function policy(...allow: Partial<Rule>[]): void {
  kernel.use(world(allow));
  binding ??= kernel.binding('default/web');
  kernel.store.apply(kernel.image, [binding]);
  kernel.store.tidy();
}

const flows = kernel.programs.maps.flows as BpfMap;
const accepted = kernel.programs.maps.accepted as BpfMap;
const count = (map: BpfMap) => [...map.batches(64)].reduce((n, b) => n + b.count, 0);
function forget(map: BpfMap): void {
  for (const { keys, count } of map.batches(64)) map.deleteBatch(Buffer.from(keys), count);
}

interface Segment {
  protocol?: number;
  local?: number;
  remote?: number;
  flags?: number;
}
/** From the pod's `local` port to the peer's `remote`. */
const out = ({ protocol = 6, local = 40000, remote = 443, flags = SYN }: Segment) =>
  kernel.run(frame({ to: PEER, protocol, port: remote }, { src: POD, sport: local, tcpFlags: flags }));
/** From the peer's `remote` port to the pod's `local`. */
const back = ({ protocol = 6, local = 40000, remote = 443, flags = SYN }: Segment) =>
  kernel.run(frame({ to: POD, protocol, port: local }, { src: PEER, sport: remote, tcpFlags: flags }), 'toPod');

t.beforeEach(() => {
  policy();
  forget(flows);
  forget(accepted);
});

t.test('a datagram on its way does not reopen what was denied meanwhile', async (t) => {
  const udp = { protocol: 17 };
  policy({});
  t.equal(out(udp).verdict, 'allow');
  back(udp);
  policy();
  t.equal(out(udp).verdict, 'deny', 'the change is in force');
  for (let i = 0; i < 3; i++) {
    back(udp);
    t.equal(out(udp).verdict, 'deny', 'and stays so, whatever still arrives');
  }
});

t.test('an answer to a datagram that the peer sent first passes', async (t) => {
  const udp = { protocol: 17, local: 53, remote: 5000 };
  t.equal(out(udp).verdict, 'deny', 'nobody asked');
  back(udp);
  t.equal(out(udp).verdict, 'allow', 'the peer asked');
  t.equal(out({ ...udp, remote: 5001 }).verdict, 'deny', 'from another port it did not');
});

t.test('a connection opened to the pod, from SYN to FIN', async (t) => {
  const c = { local: 80, remote: 50000 };
  back({ ...c, flags: SYN });
  t.equal(out({ ...c, flags: SYN | ACK }).verdict, 'allow', 'SYN and ACK');
  t.equal(count(accepted), 0, 'a SYN that was answered is no connection yet');
  const opened = back({ ...c, flags: ACK });
  t.match(
    opened.events,
    [{ type: 'verdict', verdict: 'allow', reason: 'reply', inbound: true }],
    'told when it is open',
  );
  t.equal(count(accepted), 1);
  forget(flows);
  t.equal(out({ ...c, flags: ACK }).verdict, 'allow', 'it outlives its entry in the flow table');
  t.equal(out({ ...c, flags: SYN }).verdict, 'deny', 'but its ports open nothing in the other direction');
  t.equal(out({ ...c, flags: ACK }).verdict, 'allow', 'which does it no harm');
  out({ ...c, flags: FIN | ACK });
  const end = back({ ...c, flags: FIN | ACK });
  t.match(end.events, [{ type: 'end', inbound: true }]);
  t.equal(count(accepted), 0, 'forgotten when it ends');
  t.equal(out({ ...c, flags: ACK }).verdict, 'allow', 'the last ACK passes');
});

t.test('what opens nothing', async (t) => {
  for (const flags of [ACK, RST, SYN | ACK, FIN | ACK]) {
    const c = { local: 81, remote: 1000 + flags };
    back({ ...c, flags });
    t.equal(out({ ...c, flags: ACK }).verdict, 'deny', `flags ${flags}`);
  }
});

t.test('a change of policy meets the next packet of an open connection, both ways', async (t) => {
  policy({});
  out({});
  back({ flags: SYN | ACK });
  t.equal(out({ flags: ACK }).verdict, 'allow');
  policy();
  const denied = out({ flags: ACK });
  t.equal(denied.verdict, 'deny');
  t.match(denied.events, [{ type: 'changed', verdict: 'deny', drops: 1 }]);
  policy({});
  const allowed = out({ flags: ACK });
  t.equal(allowed.verdict, 'allow');
  t.match(allowed.events, [{ type: 'changed', verdict: 'allow' }]);
});

t.test('a reset that nobody meant: who goes on talking is heard', async (t) => {
  const c = { local: 80, remote: 50001 };
  back({ ...c, flags: SYN });
  out({ ...c, flags: SYN | ACK });
  back({ ...c, flags: ACK });
  t.match(back({ ...c, flags: RST }).events, [{ type: 'end' }]);
  t.equal(count(accepted), 0);
  t.equal(out({ ...c, flags: ACK }).verdict, 'allow');
  t.equal(count(accepted), 1, 'and its replies are safe again');
});

t.test('a connection that its opener resets leaves the table, told of once; what the peer resets stays', async (t) => {
  policy({});
  const open = (local: number) => {
    out({ local });
    back({ local, flags: SYN | ACK });
    out({ local, flags: ACK });
  };
  open(40001);
  const end = out({ local: 40001, flags: RST | ACK });
  t.equal(end.verdict, 'allow');
  t.match(end.events, [{ type: 'end', packetsOut: 3, packetsIn: 1 }]);
  t.equal(count(flows), 0);
  t.same(back({ local: 40001, flags: ACK }), { verdict: 'allow', retval: -1, events: [] }, 'what was on its way');
  open(40002);
  t.match(back({ local: 40002, flags: RST }).events, [{ type: 'end' }]);
  t.equal(count(flows), 1);
  t.same(out({ local: 40002, flags: ACK }).events, [], 'who goes on talking has not begun anew');
  policy();
  out({ local: 40003 });
  out({ local: 40003, flags: RST });
  t.equal(count(flows), 2, 'nor does what is denied');
});

t.test('fragments follow their first', async (t) => {
  policy({ ports: [{ protocol: 17, ports: [[53, 53]] }] });
  const fragment = (port: number, offset: number, more: boolean, id: number) =>
    kernel.run(frame({ to: PEER, protocol: 17, port }, { src: POD, sport: 999, fragment: { offset, more, id } }))
      .verdict;
  t.equal(fragment(53, 0, true, 1), 'allow');
  t.equal(fragment(53, 16, false, 1), 'allow');
  t.equal(fragment(54, 0, true, 2), 'deny');
  t.equal(fragment(54, 16, false, 2), 'deny');
  t.equal(fragment(53, 16, false, 3), 'deny', 'without a first: no rule for a port can match');
  t.equal(fragment(53, 0, true, 4), 'allow');
  const overlap = frame(
    { to: PEER, protocol: 6, port: 53 },
    { src: POD, sport: 999, fragment: { offset: 8, more: false, id: 5 } },
  );
  t.match(kernel.run(overlap).events, [{ reason: 'overlapping-fragment' }]);
});

t.test('fragments follow their first until policies change, and its flow from then on', async (t) => {
  const fragment = (offset: number, id: number) =>
    kernel.run(
      frame(
        { to: PEER, protocol: 17, port: 53 },
        { src: POD, sport: 999, fragment: { offset, more: offset === 0, id } },
      ),
    );
  policy({ ports: [{ protocol: 17, ports: [[53, 53]] }] });
  t.equal(fragment(0, 1).verdict, 'allow');
  policy();
  const denied = fragment(16, 1);
  t.equal(denied.verdict, 'deny');
  t.match(denied.events, [{ type: 'changed', verdict: 'deny', remotePort: 53 }]);
  policy({ ports: [{ protocol: 17, ports: [[53, 54]] }] });
  t.equal(fragment(16, 1).verdict, 'allow', 'as its flow would by now');
  t.equal(fragment(0, 2).verdict, 'allow');
  policy({ ports: [{ protocol: 17, ports: [[53, 53]] }], peers: null });
  t.equal(fragment(16, 2).verdict, 'allow', 'a change that is not about it');
});

t.test('an answer in fragments, whose flow was forgotten', async (t) => {
  const udp = { protocol: 17, local: 53, remote: 5000 };
  back(udp);
  t.equal(out(udp).verdict, 'allow');
  forget(flows);
  const fragment = (offset: number) =>
    kernel.run(
      frame(
        { to: PEER, protocol: 17, port: 5000 },
        { src: POD, sport: 53, fragment: { offset, more: offset === 0, id: 7 } },
      ),
    ).verdict;
  t.equal(fragment(0), 'allow');
  t.equal(fragment(1480), 'allow');
});

/** That the pod tells of a datagram from the peer's `remote` port to its own 53. */
function unreachable(remote: number, { to = PEER, src = POD } = {}) {
  const quoted = frame({ to: POD, protocol: 17, port: 53 }, { src: PEER, sport: remote }).subarray(14);
  const bytes = frame({ to, protocol: 1, port: 3 * 256 + 3 }, { src, sport: 0 });
  quoted.copy(bytes, 14 + 20 + 8, 0, 28);
  return kernel.run(bytes);
}

t.test('ICMP errors about a flow that policies deny by now', async (t) => {
  const udp = { protocol: 17, local: 53, remote: 5000 };
  policy({ ports: [{ protocol: 17, ports: [[5000, 5000]] }] });
  t.equal(out(udp).verdict, 'allow');
  back(udp);
  t.equal(unreachable(5000).verdict, 'allow');
  policy();
  const { verdict, events } = unreachable(5000);
  t.equal(verdict, 'deny');
  t.match(events, [{ type: 'changed', verdict: 'deny', protocol: 17, remotePort: 5000 }], 'the flow is judged with it');
  policy({ ports: [{ protocol: 17, ports: [[5000, 5000]] }] });
  t.equal(unreachable(5000).verdict, 'allow');
});

t.test('ICMP errors pass with the flow that they are about, and only to its peer', async (t) => {
  back({ protocol: 17, local: 53, remote: 5000 });
  t.equal(unreachable(5000).verdict, 'allow');
  t.equal(unreachable(5001).verdict, 'deny', 'about nothing');
  t.equal(unreachable(5000, { to: '192.0.2.2' }).verdict, 'deny', 'to somebody else');
  t.match(unreachable(5000, { src: '192.0.2.3' }), { verdict: 'deny', events: [{ reason: 'spoofed-address' }] });
});

t.test('echo requests of both sides with one identifier are two flows', async (t) => {
  const echo = (type: number, inward: boolean) => {
    const s = { to: inward ? POD : PEER, protocol: 1, port: type * 256 };
    return kernel.run(frame(s, { src: inward ? PEER : POD, sport: 7 }), inward ? 'toPod' : 'fromPod').verdict;
  };
  t.equal(echo(8, false), 'deny', "the pod's own");
  t.equal(echo(0, false), 'deny', 'a reply that nobody asked for');
  echo(8, true);
  t.equal(echo(0, false), 'allow', "the reply to the peer's");
  t.equal(echo(8, false), 'deny', "which does not open the pod's own");
});

t.test('a slot of another interface judges nothing', async (t) => {
  const endpoints = kernel.programs.maps.endpoints as BpfMap;
  const at = STRUCTS.ea_endpoint.size + STRUCTS.ea_endpoint.fields.ifindex.offset;
  const memory = endpoints.mmap();
  memory.writeUInt32LE(1 + 65536, at);
  t.match(out({}), { verdict: 'deny', events: [{ reason: 'no-endpoint' }] });
  memory.writeUInt32LE(1, at);
  t.ok(ENUMS.ea_reason.EA_REASON_NO_ENDPOINT);
});
