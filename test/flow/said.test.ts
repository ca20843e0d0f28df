/** What connections say as flows: Hubble's layer 7, names, filters, and the line that is printed. */
import t from 'tap';
import { compact, dict, table } from '../../src/cli/flows/format.js';
import { EVENT_SIZE } from '../../src/flow/event/decode.js';
import { decodeSaid, SAID_EVENT_SIZE } from '../../src/flow/event/said.js';
import type { Flow } from '../../src/flow/event/types.js';
import { compileFilter } from '../../src/flow/filter/filter.js';
import { toHubble, toRecord } from '../../src/flow/hubble.js';
import { Intake } from '../../src/flow/intake.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import { EGRESS, OBSERVER } from '../../src/proto/load.js';
import { pod, rule, snapshot } from './flows.js';
import { never } from './hubs.js';
import { type ReportedSaid, saidEvent } from './said-events.js';

const { EA_SAID_TLS, EA_SAID_HTTP, EA_SAID_OTHER } = ENUMS.ea_said;
const { EA_VERDICT_DENY } = ENUMS.ea_verdict;
const NAME = 'api.stripe.com';
const LEARNED: Readonly<Record<string, string[]>> = { '203.0.113.10': [NAME], '203.0.113.20': ['cdn.example.net'] };

function intake(): Intake {
  const names = { note: () => {}, text: () => undefined, known: (_: number, ip: string) => LEARNED[ip] ?? [] };
  const made = new Intake({ nodeName: 'node-a', stride: EVENT_SIZE, names });
  const denying = rule({ index: 0, staged: true, action: 'deny' });
  made.learn({
    snapshot: snapshot([pod('shop', 'web', '10.0.0.1')]),
    rules: new Map([
      [7, rule()],
      [8, denying],
    ]),
    endpoints: new Map([[1, { pod: 'shop/web', uid: 'uid-shop-web' }]]),
  });
  return made;
}

async function flows(...reported: ReportedSaid[]): Promise<Flow[]> {
  const into = intake();
  for (const r of reported) into.said(saidEvent(r), 0);
  const out: Flow[] = [];
  for await (const item of into.hub.read({}, never())) if ('flow' in item) out.push(item.flow);
  return out;
}

const TLS: ReportedSaid = { kind: EA_SAID_TLS, text: NAME, rule: 7n };
const QUIC: ReportedSaid = { ...TLS, quic: true };
const NAMELESS: ReportedSaid = { ...TLS, text: '', verdict: EA_VERDICT_DENY };
const HTTP: ReportedSaid = { kind: EA_SAID_HTTP, text: `GET ${NAME}:8080 /v1/a%20b?q=1`, rule: 7n };
const DENIED: ReportedSaid = { ...HTTP, text: `POST ${NAME} /v1/charges`, verdict: EA_VERDICT_DENY };
const OTHER: ReportedSaid = { kind: EA_SAID_OTHER, text: '', verdict: EA_VERDICT_DENY, rule: 0n, reason: 13 };
/** Under a name that the address was not learned for. */
const STRANGE: ReportedSaid = { ...TLS, remote: '203.0.113.20', auditVerdict: EA_VERDICT_DENY, auditRule: 8n };

t.test('Hubble’s layer 7', async (t) => {
  const [tls, http, denied, other, strange] = (await flows(TLS, HTTP, DENIED, OTHER, STRANGE)) as Flow[] as [
    Flow,
    Flow,
    Flow,
    Flow,
    Flow,
  ];
  t.match(toHubble(tls), {
    verdict: 'FORWARDED',
    Type: 'L7',
    IP: { source: '10.0.0.1', destination: '203.0.113.10' },
    l4: { TCP: { source_port: 40000, destination_port: 443 } },
    source: { namespace: 'shop', pod_name: 'web' },
    destination_names: [NAME],
    event_type: { type: 129 },
    traffic_direction: 'EGRESS',
    is_reply: { value: false },
    egress_allowed_by: [{ name: 'web' }],
    Summary: `tls ${NAME}`,
  });
  t.same(toHubble(tls).l7, { type: 'REQUEST' }, 'Hubble has no record of TLS');
  t.match(toHubble(http), {
    verdict: 'FORWARDED',
    l7: { type: 'REQUEST', http: { method: 'GET', url: `http://${NAME}:8080/v1/a%20b?q=1` } },
    destination_names: [NAME],
    Summary: `http GET http://${NAME}:8080/v1/a%20b?q=1`,
  });
  t.match(toHubble(denied), {
    verdict: 'DROPPED',
    drop_reason_desc: 'POLICY_DENY',
    egress_denied_by: [{ name: 'web', namespace: 'shop' }],
    l7: { http: { method: 'POST' } },
  });
  t.match(toHubble(other), { verdict: 'DROPPED', drop_reason_desc: 'POLICY_DENIED', l7: { type: 'REQUEST' } });
  t.match(toRecord(other), { event: 'said', verdict: 'deny', reason: 'unsaid', said: { kind: 'other' } });
  t.match(toHubble(strange), {
    verdict: 'AUDIT',
    egress_allowed_by: [{ name: 'web' }],
    egress_denied_by: [{ labels: ['egress-agent.io/rule=np/shop/web#0', 'egress-agent.io/staged=true'] }],
    destination_names: ['cdn.example.net', NAME],
  });
  t.same(toRecord(strange).said, { kind: 'tls', server_name: NAME });
  t.same(toRecord(tls).said, { kind: 'tls', server_name: NAME, learned: true });
  for (const flow of [tls, http, denied, other, strange]) {
    const record = toRecord(flow);
    const sent = EGRESS.GetFlows!.responseDeserialize(EGRESS.GetFlows!.responseSerialize({ record })) as {
      record: { said: object; flow: { l7: object } };
    };
    t.same(sent.record.said, record.said, 'over the wire');
    t.same(sent.record.flow.l7, record.flow.l7);
    const hubble = OBSERVER.GetFlows!.responseSerialize({ flow: toHubble(flow) });
    t.match(OBSERVER.GetFlows!.responseDeserialize(hubble), { flow: { l7: record.flow.l7 as object } });
  }
});

t.test('what only the audit verdict denies is counted', async (t) => {
  const into = intake();
  for (const r of [TLS, STRANGE, STRANGE, NAMELESS]) into.said(saidEvent(r), 0);
  t.equal(into.audited, 2);
});

t.test('filters', async (t) => {
  const all = await flows(TLS, QUIC, NAMELESS, HTTP, DENIED, OTHER, STRANGE);
  const passing = (filter: object) => all.flatMap((flow, i) => (compileFilter([filter], [])(flow) ? [i] : []));
  t.same(passing({ protocol: ['tls'] }), [0, 2, 6]);
  t.same(passing({ protocol: ['QUIC'] }), [1]);
  t.same(passing({ protocol: ['http'] }), [3, 4]);
  t.same(passing({ protocol: ['udp'] }), [1]);
  t.same(passing({ protocol: ['dns'] }), []);
  t.same(passing({ event_type: [{ type: 129 }] }).length, 7);
  t.same(passing({ verdict: ['AUDIT'] }), [6]);
  t.same(passing({ server_name: ['*.stripe.com'] }), [0, 1, 6]);
  t.same(passing({ server_name: ['API.Stripe.com.'] }), [0, 1, 6]);
  t.same(passing({ server_name: ['stripe.com'] }), []);
  t.same(passing({ destination_fqdn: [NAME] }), [0, 1, 2, 3, 4, 5, 6], 'learned, or said');
  t.same(passing({ destination_fqdn: ['cdn.example.net'] }), [6]);
  t.same(passing({ http_method: ['get'] }), [3], 'whatever its case');
  t.same(passing({ http_method: ['GET', 'POST'] }), [3, 4]);
  t.same(passing({ http_path: ['^/v1/a b$'] }), [3], 'decoded, without its query');
  t.same(passing({ http_path: ['q=1'] }), []);
  t.same(passing({ http_path: ['charges'] }), [4], 'any part of it');
  t.same(passing({ http_url: ['^http://api\\.stripe\\.com:8080/.*q=1$'] }), [3]);
  t.same(passing({ http_url: ['stripe'] }), [3, 4]);
  t.same(passing({ http_status_code: ['200'] }), [], 'answers are not read');
  for (const filter of [
    { http_method: ['a b'] },
    { http_path: ['('] },
    { http_url: ['(?<=a)'] },
    { server_name: [''] },
    { server_name: ['a/b'] },
  ])
    t.throws(() => compileFilter([filter], []), { code: 'USAGE' }, JSON.stringify(filter));
});

t.test('the line of a flow', async (t) => {
  const all = await flows(TLS, NAMELESS, HTTP, DENIED, OTHER, STRANGE, QUIC);
  const records = all.map(toRecord);
  const [tls = '', nameless = '', http = '', denied = '', other = '', strange = '', quic = ''] = records.map((r) =>
    compact(r, (_, s) => s),
  );
  const to = ' shop/web +→ api\\.stripe\\.com \\(203\\.0\\.113\\.10\\):443/tcp ';
  t.match(tls, new RegExp(`${to}ALLOWED tls api\\.stripe\\.com np/shop/web#2$`));
  t.match(nameless, new RegExp(`${to}DENIED  tls without a name np/shop/web#2$`));
  t.match(http, new RegExp(`${to}ALLOWED http GET http://api\\.stripe\\.com:8080/v1/a%20b\\?q=1 np/shop/web#2$`));
  t.match(denied, new RegExp(`${to}DENIED  http POST http://api\\.stripe\\.com/v1/charges np/shop/web#2$`));
  t.match(other, new RegExp(`${to}DENIED  neither TLS nor HTTP unsaid$`));
  t.match(
    strange,
    /→ cdn\.example\.net \(203\.0\.113\.20\):443\/tcp AUDIT {3}tls api\.stripe\.com np\/shop\/web#2 \(staged: deny np\/shop\/web#0\)$/,
    'the name in the place of the destination is the one that was learned',
  );
  t.match(quic, /:443\/udp +ALLOWED quic api\.stripe\.com np\/shop\/web#2$/);
  const [unknown] = (await flows({ ...TLS, remote: '198.51.100.1' })).map((f) => compact(toRecord(f), (_, s) => s));
  t.match(unknown, / → 198\.51\.100\.1:443\/tcp +ALLOWED tls api\.stripe\.com /, 'not one that was only said');
  for (const record of records) t.ok(compact(record, (_, s) => s, 100).length <= 100);
  t.match(dict(records[5]!), /^NAMES: +cdn\.example\.net$/m);
  t.match(dict(records[3]!), /^SUMMARY: +http POST http:/m);
  t.match(table(records), /http POST http:\/\/api\.stripe\.com\/v1\/charges/);
});

t.test('what a pod says is no text to trust', async (t) => {
  const of = (kind: number, text: string, more: Partial<ReportedSaid> = {}) =>
    decodeSaid(saidEvent({ kind, text, ...more }), 0).said;
  t.match(of(EA_SAID_HTTP, 'GET evil\u001b[31m /\u0000\u009b\\ü b'), {
    method: 'GET',
    host: 'evil\\x1b[31m',
    path: '/\\x00\\x9b\\x5c\\xfc b',
  });
  const [flow] = await flows({ ...HTTP, text: 'GET h\u001b[31m /\u009b' });
  t.notMatch(JSON.stringify(toRecord(flow!)), /[^ -~]/, 'in no form that anybody reads');
  t.match(of(EA_SAID_HTTP, ''), { kind: 'http', method: '', host: '', path: '' });
  t.match(of(EA_SAID_HTTP, 'GET'), { method: 'GET', host: '', path: '' });
  t.match(of(EA_SAID_HTTP, 'GET  /a'), { method: 'GET', host: '', path: '/a' }, 'HTTP/1.0 names no host');
  t.match(of(EA_SAID_HTTP, 'CONNECT a:443 '), { method: 'CONNECT', host: 'a:443', path: '' });
  t.match(of(9, 'GET a /'), { kind: 'other', method: '', serverName: '' }, 'of a later version');
  t.match(of(EA_SAID_TLS, 'A.Example'), { kind: 'tls', serverName: 'a.example', isCut: false });
  const long = 'x'.repeat(ENUMS.ea_said_sizes.EA_SAID_EVENT_BYTES);
  t.match(of(EA_SAID_HTTP, `GET a /${long}`), { isCut: true, path: `/${long.slice(7)}` });
  t.match(of(EA_SAID_TLS, long), { isCut: false, serverName: long });
  t.match(of(EA_SAID_TLS, 'a', { length: 0xffff }), { isCut: true });

  const random = Buffer.from(new ArrayBuffer(SAID_EVENT_SIZE));
  for (let seed = 1, i = 0; i < 300; i++) {
    for (let at = 0; at < random.length; at++) random[at] = (seed = (seed * 48271) % 0x7fffffff) & 255;
    const { said, event } = decodeSaid(random, 0);
    t.notMatch(said.serverName + said.method + said.host + said.path, /[^ -~]/);
    t.equal(event.type, 'said');
  }
});

t.test('the names of hosts and hellos', async (t) => {
  const named = async (r: ReportedSaid) => (await flows({ ...r, remote: '198.51.100.1' }))[0]?.destinationNames;
  t.same(await named(TLS), [NAME]);
  t.same(await named({ ...HTTP, text: 'GET API.Stripe.com:80 /' }), [NAME], 'without the port, in lower case');
  for (const host of ['203.0.113.10', '203.0.113.10:80', '[2001:db8::1]:80', 'a..:x', ''])
    t.same(await named({ ...HTTP, text: `GET ${host} /` }), undefined, `${host} is no name`);
  t.same(await named({ ...TLS, text: '203.0.113.10' }), undefined);
  t.same(await named(NAMELESS), undefined);
  t.same(await named(OTHER), undefined);
});
