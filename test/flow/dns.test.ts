/** DNS queries and answers as flows: Hubble's layer 7, filters, and the line that is printed. */
import t from 'tap';
import { compact, dict } from '../../src/cli/flows/format.js';
import { decodeDns, DNS_EVENT_SIZE } from '../../src/flow/event/dns.js';
import { EVENT_SIZE } from '../../src/flow/event/decode.js';
import type { Flow } from '../../src/flow/event/types.js';
import { compileFilter } from '../../src/flow/filter/filter.js';
import { toHubble, toRecord } from '../../src/flow/hubble.js';
import { Intake } from '../../src/flow/intake.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { parseAddr } from '../../src/net/addr.js';
import { EGRESS, OBSERVER } from '../../src/proto/load.js';
import { a, cname, encodeMessage, TYPES, type WireMessage } from '../names/wire.js';
import { pod, rule, service, snapshot } from './flows.js';
import { never } from './hubs.js';

const E = STRUCTS.ea_dns_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const KIND = ENUMS.ea_dns_event_kind;
const { EA_VERDICT_ALLOW, EA_VERDICT_DENY } = ENUMS.ea_verdict;
const NAME = 'api.example.com';

interface Reported {
  kind: number;
  message?: WireMessage | Buffer;
  verdict?: number;
  rule?: bigint;
  latencyNs?: bigint;
  protocol?: number;
}

/** struct ea_dns_event of shop/web, asking kube-dns. */
function bytes({
  kind,
  message = {},
  verdict = EA_VERDICT_ALLOW,
  rule = 0n,
  latencyNs = 0n,
  protocol = 17,
}: Reported): Buffer {
  const b = Buffer.from(new ArrayBuffer(DNS_EVENT_SIZE));
  const payload = Buffer.isBuffer(message) ? message : encodeMessage(message);
  b.writeBigUInt64LE(1000n * 10n ** 9n, E.time_ns.offset);
  if (latencyNs > 0n) b.writeBigUInt64LE(1000n * 10n ** 9n - latencyNs, E.asked_ns.offset);
  b.writeBigUInt64LE(rule, E.rule.offset);
  b.writeUInt32LE(payload.length, E.length.offset);
  b[E.kind.offset] = kind;
  b[E.family.offset] = 4;
  b[E.verdict.offset] = verdict;
  b[E.reason.offset] = ENUMS.ea_reason.EA_REASON_RULE;
  const key = E.flow.offset;
  b.set(parseAddr('10.0.0.1').bytes, key + K.local.offset);
  b.set(parseAddr('10.96.0.10').bytes, key + K.remote.offset);
  b.writeUInt16BE(40000, key + K.local_port.offset);
  b.writeUInt16BE(53, key + K.remote_port.offset);
  b.writeUInt32LE(1, key + K.endpoint.offset);
  b[key + K.protocol.offset] = protocol;
  payload.copy(b, E.bytes.offset);
  return b;
}

const untrusted: string[] = [];
function intake(): Intake {
  const made = new Intake({
    nodeName: 'node-a',
    stride: EVENT_SIZE,
    resolvers: { asked: () => {}, untrusted: (endpoint, ip, port) => untrusted.push(`${endpoint} ${ip} ${port}`) },
  });
  made.learn({
    snapshot: snapshot([pod('shop', 'web', '10.0.0.1')], [service('kube-system', 'kube-dns', '10.96.0.10')]),
    rules: new Map([[7, rule()]]),
    endpoints: new Map([[1, { pod: 'shop/web', uid: 'uid-shop-web' }]]),
  });
  return made;
}

async function flows(...reported: Reported[]): Promise<Flow[]> {
  const into = intake();
  for (const r of reported) into.dns(bytes(r), 0);
  const out: Flow[] = [];
  for await (const item of into.hub.read({}, never())) if ('flow' in item) out.push(item.flow);
  return out;
}

const question = (name = NAME, type: number = TYPES.A) => [{ name, type }];
const ASKED: Reported = { kind: KIND.EA_DNS_ASKED, message: { flags: 0x100, questions: question() } };
const REFUSED: Reported = { ...ASKED, kind: KIND.EA_DNS_REFUSED, verdict: EA_VERDICT_DENY, rule: 7n };
const WITHHELD: Reported = {
  kind: KIND.EA_DNS_WITHHELD,
  verdict: EA_VERDICT_DENY,
  message: { flags: 0x100, questions: question(NAME, TYPES.HTTPS) },
};
const ANSWERED: Reported = {
  kind: KIND.EA_DNS_ANSWERED,
  latencyNs: 2_000_000n,
  message: {
    questions: question(),
    answers: [cname(NAME, 'cdn.example.net', 20), a('cdn.example.net', '203.0.113.1', 30)],
  },
};
const NONE: Reported = { kind: KIND.EA_DNS_ANSWERED, message: { flags: 0x8183, questions: question() } };

t.test('Hubble’s layer 7', async (t) => {
  const [asked, answered, refused] = (await flows(ASKED, ANSWERED, REFUSED)) as [Flow, Flow, Flow];
  t.match(toHubble(asked), {
    verdict: 'FORWARDED',
    Type: 'L7',
    IP: { source: '10.0.0.1', destination: '10.96.0.10' },
    l4: { UDP: { source_port: 40000, destination_port: 53 } },
    source: { namespace: 'shop', pod_name: 'web' },
    destination_service: { namespace: 'kube-system', name: 'kube-dns' },
    l7: { type: 'REQUEST', dns: { query: `${NAME}.`, qtypes: ['A'], rcode: 0 } },
    event_type: { type: 129 },
    is_reply: { value: false },
    Summary: `DNS Query ${NAME}. A`,
  });
  t.match(toHubble(answered), {
    verdict: 'FORWARDED',
    IP: { source: '10.96.0.10', destination: '10.0.0.1' },
    l7: {
      type: 'RESPONSE',
      latency_ns: 2_000_000,
      dns: { query: `${NAME}.`, ips: ['203.0.113.1'], ttl: 20, cnames: ['cdn.example.net.'], rrtypes: ['CNAME', 'A'] },
    },
    is_reply: { value: true },
    Summary: `DNS Answer "203.0.113.1,CNAME cdn.example.net." TTL: 20 (${NAME}. A)`,
  });
  t.match(toHubble(refused), {
    verdict: 'DROPPED',
    drop_reason_desc: 'POLICY_DENY',
    egress_denied_by: [{ name: 'web', namespace: 'shop' }],
    l7: { type: 'REQUEST' },
  });
  t.match(toRecord(refused), { event: 'dns', verdict: 'deny', reason: 'rule', rule: { text: 'np/shop/web#2' } });
  for (const flow of [asked, answered, refused]) {
    const sent = EGRESS.GetFlows!.responseDeserialize(
      EGRESS.GetFlows!.responseSerialize({ record: toRecord(flow) }),
    ) as {
      record: { flow: object };
    };
    t.match(sent.record.flow, { l7: { dns: { query: `${NAME}.` } } }, 'over the wire');
    const hubble = OBSERVER.GetFlows!.responseSerialize({ flow: toHubble(flow) });
    t.match(OBSERVER.GetFlows!.responseDeserialize(hubble), { flow: { l7: { dns: { query: `${NAME}.` } } } });
  }
  t.not(asked.uuid, answered.uuid);
});

t.test('filters', async (t) => {
  const all = await flows(ASKED, ANSWERED, REFUSED, NONE);
  const count = (filter: object) => all.filter(compileFilter([filter], [])).length;
  t.equal(count({ dns_query: ['^api\\.'] }), 4);
  t.equal(count({ dns_query: ['example\\.com\\.$'] }), 4, 'with its final dot');
  t.equal(count({ dns_query: ['^example'] }), 0);
  t.equal(count({ protocol: ['dns'] }), 4);
  t.equal(count({ protocol: ['udp'] }), 4);
  t.equal(count({ event_type: [{ type: 129 }] }), 4);
  t.equal(count({ verdict: ['DROPPED'] }), 1);
  t.equal(count({ reply: [true] }), 2);
  t.equal(count({ source_pod: ['shop/web'] }), 2);
  t.equal(count({ destination_service: ['kube-system/kube-dns'] }), 2);
});

t.test('the line of a flow', async (t) => {
  const all = await flows(ASKED, ANSWERED, REFUSED, NONE, WITHHELD, { ...REFUSED, message: Buffer.from('?') });
  const lines = all.map((flow) => compact(toRecord(flow), (_, s) => s));
  const to = ' shop\\/web +→ \\S.*:53\\/udp +';
  t.match(lines[0], new RegExp(`${to}ALLOWED query \\(A api\\.example\\.com\\)$`));
  t.match(lines[1], new RegExp(`${to}reply   answer \\(A api\\.example\\.com → 203\\.0\\.113\\.1, TTL 20, 2ms\\)$`));
  t.match(lines[2], new RegExp(`${to}DENIED  np\\/shop\\/web#2 \\(A api\\.example\\.com\\)$`));
  t.match(lines[3], /reply {3}answer \(A api\.example\.com → NXDOMAIN\)$/);
  t.match(lines[4], /DENIED {2}withheld-record \(HTTPS api\.example\.com, withheld\)$/);
  t.match(lines[5], /DENIED {2}np\/shop\/web#2 \(DNS message that cannot be read\)$/);
  t.match(dict(toRecord(all[1] as Flow)), /SUMMARY: +DNS Answer "203/);
});

t.test('answers that do not count are told to those who keep them, and are no flows', async (t) => {
  t.same(await flows({ kind: KIND.EA_DNS_UNTRUSTED, message: Buffer.alloc(0) }), []);
  t.same(untrusted, ['1 10.96.0.10 53']);
});

t.test('what is cut off or damaged', async (t) => {
  const whole = encodeMessage({ questions: question(), answers: [a(NAME, '203.0.113.1')] });
  const of = (message: Buffer) => decodeDns(bytes({ kind: KIND.EA_DNS_ANSWERED, message }), 0).dns;
  t.match(of(whole), { query: NAME, ips: ['203.0.113.1'] });
  for (let length = 0; length < whole.length; length++) {
    const { isRead, ips, query } = of(Buffer.from(whole.subarray(0, length)));
    t.same(ips, []);
    if (isRead) t.equal(query, NAME);
  }
  t.match(of(Buffer.alloc(ENUMS.ea_dns_event_size.EA_DNS_EVENT_BYTES, 0xc0)), { isRead: false, query: '' });
});
