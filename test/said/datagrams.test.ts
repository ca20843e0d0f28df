/** Flows of UDP that are judged by the hellos of QUIC in them, datagram by datagram, through the hooks. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { saidStatus } from '../../agent/serve/said.js';
import type { Rule } from '../../src/ir/types.js';
import { eth, IPV4, ip, udp } from '../attacks/craft.js';
import { type Line, POD, SaidBed, SERVER } from './bed.js';
import { cryptoFrame, encodeHello, encodeInitial, makeHello, serverName } from './make.js';

const PORTS: Rule['ports'] = [{ protocol: 17, ports: [[443, 443]] }];
const NAMES: readonly Line[] = [{ serverNames: ['good.test', '*.good.test'], ports: PORTS }];
const LINK = { src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' };
const SHORT = Buffer.concat([Buffer.from([0x40]), Buffer.alloc(1199, 7)]);

const hello = (name?: string, size = 0): Buffer =>
  makeHello({ extensions: [...(name === undefined ? [] : [serverName(name)]), [21, Buffer.alloc(size)]] });
/** The datagrams of a hello, half of it in each. */
const halves = (name: string, id = randomBytes(8)): Buffer[] => {
  const whole = hello(name, 600);
  const half = whole.length >> 1;
  return encodeHello(whole, id, [[[0, half]], [[half, whole.length]]]);
};
const initial = (name?: string, id = randomBytes(8)): Buffer => encodeHello(hello(name), id)[0] as Buffer;
/** A part of a hello that is larger than is kept. */
const beyond = (number: number): Buffer =>
  encodeInitial({
    dcid: Buffer.alloc(8, 77),
    number,
    padTo: 1200,
    frames: cryptoFrame(0, Buffer.concat([Buffer.from([1, 0, 0xff, 0xff, 3, 3]), Buffer.alloc(900)])),
  });
/** A packet with a long header that is no Initial one: 0-RTT, or a handshake. */
const long = (type: number, size = 1200): Buffer => {
  const head = Buffer.from([0xc0 | (type << 4), 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0x40 | 0x10, 0]);
  head.writeUInt16BE(0x4000 | (size - head.length), head.length - 2);
  return Buffer.concat([head, Buffer.alloc(size - head.length, 9)]);
};
const ZERO_RTT = long(1);
const HANDSHAKE = long(2);

class Flow {
  readonly port: number;
  constructor(
    readonly bed: SaidBed,
    readonly dport = 443,
  ) {
    this.port = bed.port();
  }

  frame(payload: Buffer, f: { more?: boolean } = {}): Buffer {
    return eth(LINK, IPV4, ip({ src: POD, dst: SERVER, ...f }, udp(this.port, this.dport, payload)));
  }

  /** @returns what became of it: `pass`, or the reasons that were told, in order */
  send(payload: Buffer, f: { more?: boolean } = {}): string {
    this.bed.kernel.forget('drop_notes');
    const { verdict, events } = this.bed.kernel.run(this.frame(payload, f));
    if (verdict === 'allow') return 'pass';
    return events.map((e) => e.reason).join(' ') || 'silent';
  }

  receive(payload: Buffer): void {
    const packet = ip({ src: SERVER, dst: POD }, udp(this.dport, this.port, payload));
    this.bed.kernel.run(eth(LINK, IPV4, packet), 'toPod');
  }
}

const all = new SaidBed(NAMES);
t.teardown(() => all.close());

/** The bed, with these rules in force. */
function bedOf(lines: readonly Line[], more: Parameters<SaidBed['rules']>[1] = {}): SaidBed {
  all.rules(lines, more);
  all.names();
  return all;
}

t.test('a name that is allowed', async (t) => {
  const bed = bedOf(NAMES);
  const f = new Flow(bed);
  t.equal(f.send(ZERO_RTT), 'unsaid', 'nothing before the hello');
  const first = initial('a.good.test');
  t.equal(f.send(first), 'pass');
  t.same(bed.names(), ['a.good.test allow']);
  t.equal(f.send(first), 'pass', 'it may be sent again');
  t.same(bed.names(), []);
  for (const part of [ZERO_RTT, HANDSHAKE, SHORT]) t.equal(f.send(part), 'pass');
  f.receive(SHORT);
  t.equal(f.send(initial('evil.test')), 'rule', 'another connection with the same ports');
  t.same(bed.names(), ['evil.test deny']);
  t.equal(f.send(SHORT), 'silent');
  t.equal(f.send(initial('good.test')), 'pass', 'it may begin anew');
  t.equal(f.send(SHORT), 'pass');
});

t.test('a name that is denied', async (t) => {
  const bed = bedOf(NAMES);
  for (const name of ['evil.test', undefined]) {
    const f = new Flow(bed);
    t.equal(f.send(initial(name)), 'rule');
    t.same(bed.names(), [`${name ?? ''} deny`]);
    for (const part of [ZERO_RTT, HANDSHAKE, SHORT, initial(name)]) t.not(f.send(part), 'pass');
    t.not(f.send(Buffer.alloc(0)), 'pass');
    bed.names();
  }
});

t.test('a hello in two datagrams', async (t) => {
  const bed = bedOf(NAMES);
  const good = new Flow(bed);
  const [a, b] = halves('good.test') as [Buffer, Buffer];
  t.equal(good.send(a), 'pass', 'a part names nobody');
  t.equal(good.send(SHORT), 'unsaid');
  t.equal(good.send(b), 'pass');
  t.equal(good.send(SHORT), 'pass');
  const evil = new Flow(bed);
  const [c, d] = halves('evil.test') as [Buffer, Buffer];
  t.equal(evil.send(c), 'pass');
  t.equal(evil.send(d), 'rule');
  t.not(evil.send(SHORT), 'pass');
});

t.test('what is no QUIC', async (t) => {
  const strict = new Flow(bedOf(NAMES));
  t.equal(strict.send(Buffer.from('anything')), 'rule');
  t.equal(strict.send(initial('good.test')), 'pass', 'it is by now');
  // Of a deny rule: whatever else is said is allowed.
  const bed = bedOf([
    { action: 'deny', serverNames: ['evil.test'], ports: PORTS },
    { action: 'allow', ports: PORTS },
  ]);
  const f = new Flow(bed);
  t.equal(f.send(Buffer.from('anything')), 'pass');
  t.equal(f.send(SHORT), 'pass');
  t.equal(f.send(initial('evil.test')), 'rule', 'long headers are looked at later as well');
  t.not(f.send(SHORT), 'pass');
  t.equal(f.send(initial('good.test')), 'pass');
  const empty = new Flow(bed);
  t.equal(empty.send(Buffer.alloc(0)), 'pass');
  t.equal(empty.send(initial('evil.test')), 'rule');
});

t.test('what cannot be judged', async (t) => {
  const bed = bedOf(NAMES);
  const f = new Flow(bed);
  t.equal(f.send(initial('good.test'), { more: true }), 'unsaid', 'a fragment');
  const bad = initial('good.test');
  bad[1199] = (bad[1199] as number) ^ 1;
  t.equal(f.send(bad), 'unreadable-hello', 'a wrong tag');
  const strange = Buffer.from(initial('good.test'));
  strange.writeUInt32BE(0xff00001d, 1);
  t.equal(f.send(strange), 'unreadable-hello', 'an unknown version');
  t.equal(f.send(initial('good.test')), 'pass');
  t.equal(f.send(SHORT, { more: true }), 'unsaid', 'a fragment of an open flow');
});

t.test('a change of policy judges by what was said', async (t) => {
  const bed = bedOf(NAMES);
  const [a, b] = [new Flow(bed), new Flow(bed)];
  t.equal(a.send(initial('a.good.test')), 'pass');
  t.equal(b.send(initial('good.test')), 'pass');
  bed.rules([{ serverNames: ['good.test'], ports: PORTS }]);
  t.not(a.send(SHORT), 'pass');
  t.equal(b.send(SHORT), 'pass');
  t.equal(b.send(HANDSHAKE), 'pass');
  bed.rules(NAMES);
  t.equal(a.send(SHORT), 'pass');
  bed.rules([{ ports: PORTS }]);
  t.equal(a.send(SHORT), 'pass', 'nobody asks any more');
  t.equal(new Flow(bed).send(initial('evil.test')), 'pass');
});

t.test('two connections of one flow, by other names: neither is kept', async (t) => {
  const bed = bedOf(NAMES);
  const f = new Flow(bed);
  t.equal(f.send(initial('a.good.test')), 'pass');
  t.equal(f.send(initial('good.test')), 'pass');
  t.equal(f.send(SHORT), 'pass');
  bed.rules([{ serverNames: ['good.test'], ports: PORTS }]);
  t.not(f.send(SHORT), 'pass');
});

/** A hello with a field that is wrong. */
const malformed = (): Buffer =>
  encodeHello(
    makeHello({ extensions: [serverName('good.test'), serverName('good.test')] }),
    randomBytes(8),
  )[0] as Buffer;

t.test('where only the audit depends on it, nothing is dropped', async (t) => {
  const bed = bedOf(NAMES, { staged: true, defaultAction: 'pass' });
  for (const first of [
    ZERO_RTT,
    SHORT,
    initial('evil.test'),
    halves('good.test')[0] as Buffer,
    malformed(),
    beyond(0),
  ]) {
    const f = new Flow(bed);
    for (const part of [first, initial('evil.test'), SHORT]) t.equal(f.send(part), 'pass');
  }
});

t.test('it is counted', async (t) => {
  const bed = bedOf(NAMES);
  const counters = bed.kernel.programs.maps.counters as BpfMap;
  const status = () => saidStatus(counters, { pending: 0 }, { audited: 0 });
  let before = status();
  const since = () => {
    const now = status();
    const changes = Object.entries(now).map(
      ([key, value]) => [key, value - before[key as keyof typeof before]] as const,
    );
    before = now;
    return Object.fromEntries(changes.filter(([, n]) => n > 0));
  };
  const says = (...parts: Buffer[]) => {
    const f = new Flow(bed);
    for (const part of parts) f.send(part);
    return since();
  };
  const id = randomBytes(8);
  t.same(says(initial('good.test', id), initial('good.test', id), SHORT), { inspected: 1, judged: 1 });
  t.same(says(initial('evil.test')), { inspected: 1, judged: 1, denied: 1 });
  t.same(says(initial('good.test'), initial('evil.test')), { inspected: 1, judged: 2, denied: 1 }, 'two on one flow');
  t.same(says(malformed()), { inspected: 1, judged: 1, denied: 1 });
  t.same(says(SHORT), { inspected: 1, judged: 1, denied: 1 }, 'what is no hello');
  t.same(says(ZERO_RTT, halves('good.test')[0] as Buffer), { inspected: 1 }, 'which has said nothing yet');
  t.same(says(beyond(0), beyond(0), beyond(1)), { inspected: 1, oversize: 1 }, 'larger than is kept, several times');
});

t.test('a packet of a flow that is open takes', async (t) => {
  const took = (flow: Flow, payload: Buffer): number =>
    Math.min(
      ...Array.from({ length: 20 }, () => {
        const { fromPod } = all.kernel.programs.programs;
        return fromPod.testRun(flow.frame(payload), { ctx: all.kernel.context, repeat: 1000 }).durationNs;
      }),
    );
  const f = new Flow(bedOf(NAMES));
  const first = initial('good.test');
  t.equal(f.send(first), 'pass');
  const [open, again] = [took(f, SHORT), took(f, first)];
  const known = new Flow(bedOf([{ ports: PORTS }]));
  t.equal(known.send(SHORT), 'pass');
  const fast = took(known, SHORT);
  t.comment(`${open} ns; on the fast path ${fast} ns; its hello again ${again} ns`);
  t.ok(open < fast * 20 + 500);
});
