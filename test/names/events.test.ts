/** What is reported of DNS: refused queries, and, where asked for, all queries and answers. */
import t, { type Test } from 'tap';
import { RingReader } from '../../agent/events/ring.js';
import { nameSettings, NAME_DEFAULTS, type NameOptions } from '../../agent/names/settings.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { decodeDns, DNS_EVENT_SIZE } from '../../src/flow/event/dns.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import type { Ir } from '../../src/ir/types.js';
import { snapshot } from '../bench/worlds.js';
import { DnsBed, POD, RESOLVER } from './bed.js';
import { a, cname, encodeMessage, TYPES, type WireMessage } from './wire.js';

const NAME = 'api.example.com';
const bed = new DnsBed();
t.teardown(() => bed.close());
const { maps, names } = bed.kernel.programs;
const content = { size: DNS_EVENT_SIZE, lost: ENUMS.ea_counter.EA_COUNT_DNS_EVENTS_LOST };
const ring = new RingReader(maps.dns_events as BpfMap, maps.counters as BpfMap, content);

function report(dnsFlows: NameOptions['dnsFlows'], more: Partial<NameOptions> = {}): void {
  names.configure(nameSettings({ ...NAME_DEFAULTS, dnsFlows, ...more }, 2));
}

function events(): ReturnType<typeof decodeDns>[] {
  const out: ReturnType<typeof decodeDns>[] = [];
  ring.records((buf, at) => out.push(decodeDns(buf, at)));
  return out;
}

const question = (name = NAME, type: number = TYPES.A) => [{ name, type }];
const query = (name: string, type: number = TYPES.A): Buffer =>
  encodeMessage({ flags: 0x0100, questions: question(name, type) });

/** The pod may ask only for what is below example.com. */
function filter(t: Test): void {
  const policy = { dialect: 'test', kind: 'Test', name: 'p' };
  const ref = { policy, index: 0, tier: 't', staged: false, action: 'allow' as const };
  const rule = { ref, action: 'allow' as const, peers: null, ports: [{ protocol: 17 }], queries: ['*.example.com'] };
  const subject = { namespaces: { names: ['default'] }, pods: { op: 'true' as const } };
  const ir: Ir = {
    tiers: [
      {
        name: 't',
        order: 1,
        defaultAction: 'deny',
        policies: [{ ref: policy, subject, rules: [rule], staged: false }],
      },
    ],
  };
  bed.kernel.use({ ir, snapshot: snapshot() });
  bed.kernel.become('default/web');
  t.teardown(() => {
    bed.kernel.use({ ir: { tiers: [] }, snapshot: snapshot() });
    bed.kernel.become('default/web');
  });
}

t.test('all queries and answers', async (t) => {
  report('all');
  const answer: WireMessage = {
    id: 7,
    questions: question('API.example.com'),
    answers: [
      cname(NAME, 'cdn.example.net', 20),
      a('cdn.example.net', '203.0.113.1', 30),
      a('cdn.example.net', '203.0.113.2', 300),
    ],
  };
  bed.exchange(answer);
  const [asked, answered, ...rest] = events();
  t.equal(rest.length, 0);
  t.match(asked, {
    kind: 'asked',
    event: {
      type: 'dns',
      verdict: 'allow',
      hook: 'from-pod',
      local: POD,
      remote: RESOLVER,
      remotePort: 53,
      protocol: 17,
      isReply: false,
    },
    dns: { query: NAME, queryType: 'A', isAnswer: false, rcode: 0, ips: [], latencyNs: 0 },
  });
  t.match(answered, {
    kind: 'answered',
    event: { hook: 'to-pod', isReply: true, reason: 'answer' },
    dns: {
      query: NAME,
      isAnswer: true,
      ips: ['203.0.113.1', '203.0.113.2'],
      cnames: ['cdn.example.net'],
      ttl: 20,
      recordTypes: ['CNAME', 'A'],
    },
  });
  t.ok((answered?.dns.latencyNs ?? -1) >= 0 && (answered?.dns.latencyNs ?? 0) < 30e9);
  t.ok(answered && asked && answered.event.timeNs >= asked.event.timeNs);

  bed.exchange({ flags: 0x8183, questions: question('none.example') });
  t.match(events()[1]?.dns, { query: 'none.example', rcode: 3, ips: [] });
  const many = Array.from({ length: 200 }, (_, i) => a(NAME, `203.0.${i >> 6}.${i & 63}`));
  bed.exchange({ questions: question(), answers: many });
  const long = events()[1];
  t.match(long?.dns, { query: NAME, isRead: true, ips: [] }, 'of an answer that is too long, the question is left');
  t.ok((long?.event.length ?? 0) > 3000);
  const tcp = bed.connect();
  const message = encodeMessage({ flags: 0x0100, questions: question() });
  tcp.segment('fromPod', 0, Buffer.concat([Buffer.from([0, message.length]), message]));
  t.match(events(), [{ kind: 'asked', event: { protocol: 6 }, dns: { query: NAME } }], 'over TCP');
});

t.test('answers that do not count', async (t) => {
  report('denied');
  const port = bed.port();
  bed.send(query(NAME), port);
  bed.receive(encodeMessage({ id: 99, questions: question(), answers: [a(NAME, '203.0.113.1')] }), port);
  t.match(events(), [
    { kind: 'untrusted', event: { remote: RESOLVER, remotePort: 53, isReply: true }, dns: { isRead: false } },
  ]);
});

t.test('only what is denied', async (t) => {
  report('denied');
  bed.exchange({ questions: question(), answers: [a(NAME, '203.0.113.1')] });
  t.same(events(), [], 'no rule asks for names');
  filter(t);
  bed.send(query(NAME), bed.port());
  bed.send(query('evil.example.org', TYPES.TXT), bed.port());
  bed.send(Buffer.from('no query at all'), bed.port());
  const [refused, unreadable, ...rest] = events();
  t.equal(rest.length, 0);
  t.match(refused, {
    kind: 'refused',
    event: { verdict: 'deny', reason: 'rule', drops: 1 },
    dns: { query: 'evil.example.org', queryType: 'TXT', isAnswer: false, isRead: true },
  });
  t.ok((refused?.event.rule ?? 0) !== 0, 'with its rule');
  t.match(unreadable, {
    kind: 'refused',
    event: { reason: 'unreadable-query', rule: 0 },
    dns: { isRead: false, query: '' },
  });
});

t.test('records that are withheld', async (t) => {
  report('denied', { httpsRecords: 'strip' });
  bed.send(query(NAME, TYPES.HTTPS), bed.port());
  t.match(events(), [
    { kind: 'withheld', event: { verdict: 'deny', reason: 'withheld-record' }, dns: { queryType: 'HTTPS' } },
  ]);
});

t.test('nothing, where nothing is asked for', async (t) => {
  report('off');
  filter(t);
  bed.send(query('evil.example.org'), bed.port());
  bed.receive(encodeMessage({ questions: question(), answers: [a(NAME, '203.0.113.1')] }), bed.port());
  t.same(events(), []);
});

t.test('a flood fills the ring, and what is lost is counted', async (t) => {
  report('all');
  const before = ring.lost().reduce((sum, n) => sum + n, 0);
  for (let i = 0; i < 4000; i++) bed.send(query(`n${i}.example.com`), bed.port());
  const got = events().length;
  const lost = ring.lost().reduce((sum, n) => sum + n, 0) - before;
  t.ok(got > 300, `${got} were reported`);
  t.equal(got + lost, 4000);
  report('denied');
});
