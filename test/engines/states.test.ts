/** Sequences of packets through the loaded programs: what the flow table makes of them, hook by hook. */
import t from 'tap';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import type { Rule } from '../../src/ir/types.js';
import { snapshot } from '../bench/worlds.js';
import { Kernel, type World } from './engine.js';
import { frame } from './packets.js';

const POD = '10.244.0.1';
const PEER = '192.0.2.1';
const NODE = '192.168.0.1';
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
    snapshot: { ...snapshot(), ownNode: { name: 'n', ips: [NODE] } },
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
const { EA_FLOW_CONFIRMED } = ENUMS.ea_flow_flags;
/** Connections that were opened to the pod and answered: the last to make room for others. */
const accepted = () =>
  [...flows.batches(64)].reduce((n, { values, count }) => {
    const flags = Array.from(
      { length: count },
      (_, i) => values[i * STRUCTS.ea_flow.size + STRUCTS.ea_flow.fields.flags.offset],
    );
    const closed = (i: number) =>
      (values[i * STRUCTS.ea_flow.size + STRUCTS.ea_flow.fields.tcp_state.offset] as number) &
      ENUMS.ea_tcp_state.EA_TCP_CLOSED;
    return n + flags.filter((f, i) => ((f as number) & EA_FLOW_CONFIRMED) !== 0 && closed(i) === 0).length;
  }, 0);
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
  t.equal(accepted(), 0, 'a SYN that was answered is no connection yet');
  const opened = back({ ...c, flags: ACK });
  t.match(
    opened.events,
    [{ type: 'verdict', verdict: 'allow', reason: 'reply', inbound: true }],
    'told when it is open',
  );
  t.equal(accepted(), 1);
  t.equal(out({ ...c, flags: SYN }).verdict, 'deny', 'but its ports open nothing in the other direction');
  t.equal(out({ ...c, flags: ACK }).verdict, 'allow', 'which does it no harm');
  out({ ...c, flags: FIN | ACK });
  const end = back({ ...c, flags: FIN | ACK });
  t.match(end.events, [{ type: 'end', inbound: true }]);
  t.equal(accepted(), 0, 'worth nothing when it has ended');
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
  t.equal(accepted(), 0);
  t.equal(out({ ...c, flags: ACK }).verdict, 'allow');
  t.equal(accepted(), 1, 'and its replies are safe again');
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
  t.match(back({ local: 40001, flags: ACK }), { verdict: 'allow', retval: -1, events: [] }, 'what was on its way');
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

t.test('an answer in fragments', async (t) => {
  const udp = { protocol: 17, local: 53, remote: 5000 };
  back(udp);
  t.equal(out(udp).verdict, 'allow');
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

/** Sets the field of struct ea_state that turns on the post-DNAT check at uplinks. */
function looks(value: 0 | 1): void {
  kernel.programs.maps.state?.mmap().writeUInt32LE(value, STRUCTS.ea_state.fields.post_dnat.offset);
}

t.test('what has no owner behind the translation never arrived: it is no right to answer', async (t) => {
  t.teardown(() => looks(0));
  const asks = (protocol: number, came: number) =>
    kernel.run(frame({ to: POD, protocol, port: 53 }, { src: NODE, sport: 5000, tcpFlags: SYN }), 'toPod', came);
  const answers = (protocol: number) =>
    kernel.run(frame({ to: NODE, protocol, port: 5000 }, { src: POD, sport: 53, tcpFlags: SYN | ACK })).verdict;
  looks(1);
  for (const protocol of [6, 17, 132]) {
    t.match(asks(protocol, 77), { verdict: 'deny' }, `protocol ${protocol}: masqueraded, and nobody knows for whom`);
    t.equal(answers(protocol), 'deny', 'what was dropped is not answered');
    t.equal(asks(protocol, 0).verdict, 'allow', 'the node itself');
    t.equal(answers(protocol), 'allow', 'is answered');
    asks(protocol, 77);
    t.equal(answers(protocol), 'deny', 'nor by what another one may have opened');
    asks(protocol, 0);
    t.equal(answers(protocol), 'allow', 'who goes on asking is heard');
  }
});

t.test('a pod of this node without an endpoint reaches nobody, whether or not there are Services', async (t) => {
  const other = '10.244.0.9';
  const [id, ifindex] = [900, 99];
  const near = { ...kernel.binding('default/near'), ips: [other], id, ifindex, uid: 'near', ifname: 'near' };
  kernel.store.apply(kernel.image, [...(binding ? [binding] : []), near]);
  kernel.store.tidy();
  const asks = (more: object = {}) =>
    kernel.run(frame({ to: POD, protocol: 17, port: 53 }, { src: other, sport: 5000, ...more }), 'toPod', ifindex);
  const answers = () => kernel.run(frame({ to: other, protocol: 17, port: 5000 }, { src: POD, sport: 53 })).verdict;
  t.equal(asks().verdict, 'allow');
  t.equal(answers(), 'allow');
  const memory = (kernel.programs.maps.endpoints as BpfMap).mmap();
  const { size } = STRUCTS.ea_endpoint;
  memory.fill(0, ifindex * size, (ifindex + 1) * size);
  kernel.forget();
  t.match(asks(), { verdict: 'deny', events: [{ reason: 'no-owner' }] });
  t.equal(answers(), 'deny');
  t.equal(asks({ fragment: { offset: 1480, more: false, id: 9 } }).verdict, 'deny', 'nor by a later fragment');
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
