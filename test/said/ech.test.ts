/** Hellos whose name is encrypted (--ech deny-known): those that are real are denied, those of browsers pass. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import { DnsServers } from '../../agent/maps/tables/dns-servers.js';
import { NAME_DEFAULTS, type NameOptions, nameSettings } from '../../agent/names/settings.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { eth, IPV4, ip, udp } from '../attacks/craft.js';
import { later } from '../names/wipe.js';
import { encodeMessage, udpFrame } from '../names/wire.js';
import { Connection, type Fate, type Line, POD, SaidBed, SERVER } from './bed.js';
import { encodeHello, type Extension, makeHello, records, serverName } from './make.js';
import { echAnswer, echConfig, echList, outer } from './make-ech.js';

const RESOLVER = '10.96.0.10';
const FRONT = 'front.example';
const GOOD = 'good.example';
const ID = 7;
const OTHER = 8;

/** The front is allowed as well: what it hides would not be. */
const NAMED: Line = { serverNames: [GOOD, FRONT], ports: [{ protocol: null }] };
const DNS: Line = { ports: [{ protocol: 17, ports: [[53, 53]] }] };
const RULES = [DNS, NAMED];

const bed = new SaidBed(RULES);
t.teardown(() => bed.close());
const { names, maps } = bed.kernel.programs;
const known = maps.ech_known as BpfMap;
new DnsServers(maps as Record<string, BpfMap>).set([{ ip: RESOLVER, port: 53 }]);
const set = (ech: NameOptions['ech']) => names.configure(nameSettings({ ...NAME_DEFAULTS, ech }, 128));
set('deny-known');

/** The pod asks the resolver, and is given these configurations. */
function teach(...configs: Buffer[]): void {
  const answer = { id: 5, ...echAnswer(echList(...configs)) };
  const [sport, e] = [bed.port(), { src: POD, dst: RESOLVER, dport: 53 }];
  later(names);
  bed.kernel.run(udpFrame({ ...e, sport }, encodeMessage({ ...answer, flags: 0x0100, answers: [] })));
  bed.kernel.run(udpFrame({ src: RESOLVER, sport: 53, dst: POD, dport: sport }, encodeMessage(answer)), 'toPod');
}

const { ea_ech_config: C, ea_name_holding: H } = STRUCTS;

/** What is known is over, or is forgotten. */
function end(forget: boolean): void {
  for (const { keys, values, count } of known.batches())
    for (let n = 0; n < count; n++) {
      const key = Buffer.from(keys.subarray(n * known.keySize, (n + 1) * known.keySize));
      const value = Buffer.from(values.subarray(n * known.valueSize, (n + 1) * known.valueSize));
      for (let i = 0; i < ENUMS.ea_name_sizes.EA_ECH_CONFIGS; i++)
        value.writeUInt32LE(sys.bootSeconds(), i * C.size + C.fields.life.offset);
      if (forget) known.delete(key);
      else known.update(key, value);
    }
  for (let at = H.fields.ech_full_s.offset; at < names.holdings.length; at += H.size)
    names.holdings.writeUInt32LE(0, at);
}
const forget = () => end(true);

const hello = (name: string | undefined, more: readonly Extension[] = [], sizes: number[] = []): Buffer =>
  records(makeHello({ extensions: [...more, ...(name === undefined ? [] : [serverName(name)])] }), sizes);
/** What became of a hello: `pass`, or why not. */
const fate = (f: Fate): string => (Connection.isDenied(f) ? (f.told.at(-1) ?? 'silent') : 'pass');
const say = (...args: Parameters<typeof hello>) => fate(bed.connect().send(0, hello(...args)));
const quic = (name: string, more: readonly Extension[]) => new Datagrams().send(initial(name, more));
const initial = (name: string, more: readonly Extension[]): Buffer =>
  encodeHello(makeHello({ extensions: [...more, serverName(name)] }), randomBytes(8))[0] as Buffer;

class Datagrams {
  readonly port = bed.port();
  send(payload: Buffer): string {
    bed.kernel.forget('drop_notes');
    const packet = ip({ src: POD, dst: SERVER }, udp(this.port, 443, payload));
    const { verdict, events } = bed.kernel.run(
      eth({ src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' }, IPV4, packet),
    );
    return verdict === 'allow' ? 'pass' : events.map((e) => e.reason).join(' ') || 'silent';
  }
}

const ENCRYPTED = 'encrypted-hello';
const INNER: Extension = [0xfe0d, Buffer.from([1])];
const cut = (size: number): Extension => [0xfe0d, outer(OTHER)[1].subarray(0, size)];

for (const [how, ask] of [
  ['TLS', say],
  ['QUIC', quic],
] as const) {
  t.test(`${how}: which hellos are real`, async (t) => {
    forget();
    for (const name of [GOOD, FRONT])
      for (const more of [outer(ID), outer(OTHER), INNER, cut(4)])
        t.equal(ask(name, [more]), 'pass', `${name}: nothing is known`);
    teach(echConfig({ id: ID, name: FRONT }));
    t.equal(ask(FRONT, [outer(ID)]), ENCRYPTED, 'as clients say it');
    t.equal(ask('FRONT.Example', [outer(ID)]), ENCRYPTED);
    t.equal(ask(FRONT, [outer(OTHER)]), ENCRYPTED, 'another config_id: by chance, or given in a handshake');
    t.equal(ask(GOOD, [outer(ID)]), ENCRYPTED, 'another outer name');
    t.equal(ask(GOOD, [outer(ID, { enc: 0 })]), ENCRYPTED, 'as in a second hello');
    t.equal(ask(GOOD, [outer(OTHER)]), 'pass', 'GREASE');
    t.equal(ask(FRONT, []), 'pass', 'the front itself');
    t.equal(ask('evil.example', [outer(ID)]), ENCRYPTED, 'that would be denied anyway');
    t.equal(ask('evil.example', [outer(OTHER)]), 'rule');
    for (const [what, odd] of [
      ['of an inner hello', INNER],
      ['empty', cut(0)],
      ['cut in its config_id', cut(5)],
      ['cut in `enc`', cut(20)],
      ['without `payload`', cut(40)],
      ['with an empty one', outer(OTHER, { payload: 0 })],
      ['cut by a byte', cut(outer(OTHER)[1].length - 1)],
      ['with a byte behind it', [0xfe0d, Buffer.concat([outer(OTHER)[1], Buffer.alloc(1)])] as Extension],
    ] as const)
      t.equal(ask(GOOD, [odd]), ENCRYPTED, `no client says it: ${what}`);
    t.equal(ask(GOOD, [outer(OTHER, { enc: 0, payload: 1 })]), 'pass');
    set('allow');
    t.equal(ask(FRONT, [outer(ID)]), 'pass', 'where nobody asks for it');
    set('deny-known');
    end(false);
    t.equal(ask(FRONT, [outer(ID)]), 'pass', 'its time is over');
    teach(echConfig({ id: OTHER, name: 'a b' }));
    t.equal(ask(GOOD, [outer(OTHER)]), ENCRYPTED, 'of a front that cannot be named');
    t.equal(ask(FRONT, [outer(ID)]), 'pass');
  });
}

t.test('where no more is remembered, each of them is taken for real', async (t) => {
  forget();
  const many = Array.from({ length: 17 }, (_, i) => echConfig({ id: 20 + i, name: `n${i}.example` }));
  teach(...many.slice(0, 16));
  t.equal(say(GOOD, [outer(ID)]), 'pass');
  teach(many[16] as Buffer);
  t.equal(say(GOOD, [outer(ID)]), ENCRYPTED);
  t.equal(quic(GOOD, [outer(ID)]), ENCRYPTED);
  t.equal(say(GOOD), 'pass', 'others pass');
  forget();
  t.equal(say(GOOD, [outer(ID)]), 'pass');
});

t.test('however a hello is cut', async (t) => {
  forget();
  teach(echConfig({ id: ID, name: FRONT }));
  const inPieces = (name: string, id: number, size: number, sizes: number[]): string => {
    const [c, bytes] = [bed.connect(), hello(name, [[51, Buffer.alloc(1200, 9)], outer(id)], sizes)];
    for (let at = 0; at < bytes.length; at += size) {
      const f = fate(c.send(at, bytes.subarray(at, at + size)));
      if (f !== 'pass') return f;
    }
    return 'pass';
  };
  for (const size of [1, 3, 100, 1448])
    for (const sizes of [[], [1, 1, 1, 1, 1, 5, 30], [1216, 40]]) {
      t.equal(inPieces(FRONT, OTHER, size, sizes), ENCRYPTED);
      t.equal(inPieces(GOOD, ID, size, sizes), ENCRYPTED);
      t.equal(inPieces(GOOD, OTHER, size, sizes), 'pass');
    }
  const c = bed.connect();
  const first = hello(GOOD);
  t.equal(fate(c.send(0, first)), 'pass');
  c.acknowledge(first.length);
  t.equal(fate(c.send(first.length, hello(GOOD, [outer(ID, { enc: 0 })]))), ENCRYPTED, 'in the second hello');
  const whole = makeHello({ extensions: [[51, Buffer.alloc(900)], outer(ID), serverName(GOOD)] });
  const f = new Datagrams();
  const [a, b] = encodeHello(whole, randomBytes(8), [[[0, 700]], [[700, whole.length]]]) as [Buffer, Buffer];
  t.same([f.send(a), f.send(b)], ['pass', ENCRYPTED], 'in two datagrams');
});

t.test('an answer of another second is learned, whatever was learned meanwhile', async (t) => {
  const { learned } = H.fields;
  const learn = (count: number) => {
    for (let at = learned.offset; at < names.holdings.length; at += H.size) names.holdings.writeUInt32LE(count, at);
  };
  const nextSecond = async () => {
    const before = sys.bootSeconds();
    while (sys.bootSeconds() === before) await sleep(20);
    return sys.bootSeconds();
  };
  forget();
  const first = await nextSecond();
  learn(1000);
  teach(echConfig({ id: ID, name: FRONT }));
  const [batch] = known.batches();
  const endpoint = batch?.keys.readUInt32LE() as number;
  forget();
  // A sum of both would be the same.
  const second = await nextSecond();
  learn(1000 + (first ^ endpoint) - (second ^ endpoint));
  teach(echConfig({ id: ID, name: FRONT }));
  t.equal(say(FRONT, [outer(ID)]), ENCRYPTED);
});

t.test('what becomes of the flow', async (t) => {
  forget();
  teach(echConfig({ id: ID, name: FRONT }));
  bed.names();
  const c = bed.connect();
  const f = c.send(0, hello(FRONT, [outer(ID)]));
  t.match(f.events, [{ type: 'verdict', verdict: 'deny', reason: ENCRYPTED }]);
  t.same(bed.names(), [`${FRONT} deny`], 'the outer name is told');
  const [u, open] = [new Datagrams(), bed.connect()];
  t.equal(u.send(initial(FRONT, [outer(ID)])), ENCRYPTED);
  const grease = hello(GOOD, [outer(OTHER)]);
  t.equal(fate(open.send(0, grease)), 'pass');
  open.acknowledge(grease.length);
  teach(echConfig({ id: OTHER, name: FRONT }));
  bed.rules([DNS, NAMED, { ports: [{ protocol: null }] }]);
  const [free, last] = [bed.connect(), new Datagrams()];
  const front = hello(FRONT, [outer(ID)]);
  t.equal(fate(free.send(0, front)), 'pass', 'whomever it names');
  t.equal(last.send(initial(FRONT, [outer(ID)])), 'pass');
  free.acknowledge(front.length);
  bed.rules([DNS, NAMED, { serverNames: ['new.example'] }]);
  t.notOk(
    free.send(front.length, Buffer.from('170303000100', 'hex')).passes,
    'its outer name counts for nothing later',
  );
  t.not(last.send(Buffer.concat([Buffer.from([0x40]), Buffer.alloc(40)])), 'pass');
  t.notOk(c.send(0, Buffer.from('more')).passes, 'after a change of policy');
  t.not(u.send(Buffer.concat([Buffer.from([0x40]), Buffer.alloc(40)])), 'pass', 'of UDP, too');
  t.not(u.send(initial(FRONT, [outer(ID)])), 'pass');
  t.ok(open.send(grease.length, Buffer.from('170303000100', 'hex')).passes, 'what had passed goes on');
  bed.rules(RULES);
});

t.test('only where it matters what is said', async (t) => {
  forget();
  teach(echConfig({ id: ID, name: FRONT }));
  t.teardown(() => bed.rules(RULES));
  bed.rules([DNS, { ports: [{ protocol: null }] }]);
  for (const ask of [say, quic]) t.equal(ask(FRONT, [outer(ID)]), 'pass', 'no rule asks');
  bed.rules([DNS, NAMED, { ports: [{ protocol: null }] }]);
  for (const ask of [say, quic]) t.equal(ask(FRONT, [outer(ID)]), 'pass', 'rules unite');
  bed.rules([DNS, { ...NAMED, action: 'deny', serverNames: ['evil.example'] }, { ports: [{ protocol: null }] }]);
  for (const ask of [say, quic]) t.equal(ask(GOOD, [outer(ID)]), ENCRYPTED, 'it may hide what a rule denies');
  bed.rules([DNS, NAMED], { staged: true });
  const c = bed.connect();
  const f = c.send(0, hello(FRONT, [outer(ID)]));
  t.equal(fate(f), 'pass', 'where only the audit verdict depends on it');
  t.match(f.events, [{ type: 'changed', verdict: 'allow', auditVerdict: 'deny' }], 'that is another one');
  t.equal(quic(FRONT, [outer(ID)]), 'pass');
});
