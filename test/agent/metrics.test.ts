import t from 'tap';
import { makeMetrics } from '../../agent/serve/metrics.js';
import type { AgentStatus } from '../../src/rpc/view.js';

function status(more: Partial<AgentStatus> = {}): AgentStatus {
  const endpoint = (state: 'enforced' | 'observed', flows: number) =>
    ({ pod: 'a/b', state, hooks: [], flows }) as unknown as AgentStatus['endpoints'][number];
  return {
    version: '1.2.3',
    nodeName: 'n"1\\',
    mode: 'cluster',
    source: 'https://10.96.0.1',
    pid: 1,
    startedAt: 0,
    uptimeNs: 0,
    attachMode: 'tcx',
    denyResponse: 'drop',
    endpoints: [endpoint('enforced', 101), endpoint('enforced', 100), endpoint('observed', 5000)],
    hooks: { attached: 0, expected: 0, problems: [] },
    policies: {
      inForce: 7,
      staged: 2,
      refused: 2,
      problems: [
        { severity: 'error', where: {}, message: 'x' },
        { severity: 'error', where: {}, message: 'y' },
        { severity: 'warning', where: {}, message: 'z' },
      ],
    },
    epoch: 3,
    maps: [
      { name: 'flows', entries: 5, max: 65536 },
      { name: 'rules', entries: 0, max: 10 },
    ],
    flows: { perSecond: 1.5, seen: 1234, inTable: 5, share: 100, notStored: 6, evicted: 8, busy: 9 },
    lost: { ring: [3, 4], queue: 5 },
    drops: { rule: 11, malformed: 0 },
    staleness: { appliedAt: 1_700_000_000_500 },
    namespaces: 1,
    names: {
      names: 12,
      pages: 20,
      share: 512,
      pageShare: 1024,
      refused: 13,
      overflow: 14,
      untrusted: 15,
      seeded: 0,
      resolvers: [{ ip: '10.96.0.10', port: 53, source: 'kube-system/kube-dns' }],
      seen: [],
      dnsEventsLost: 21,
    },
    ledger: { beganMs: 0, edges: 40, max: 41, overflow: 42, forgotten: 43 },
    said: {
      inspected: 31,
      judged: 32,
      denied: 33,
      pending: 34,
      oversize: 35,
      withoutBuffer: 36,
      echWithoutRoom: 41,
      audited: 37,
      eventsLost: 38,
    },
    ...more,
  };
}

/** Every sample by name and labels, each line read strictly as the text format says. */
function parse(text: string): Map<string, number> {
  const samples = new Map<string, number>();
  const types = new Map<string, string>();
  const label = '[a-z_]+="(?:[^"\\\\\\n]|\\\\[\\\\n"])*"';
  const sample = new RegExp(`^([a-z_]+)(\\{${label}(?:,${label})*\\})? (-?[0-9.e+-]+|NaN|[+-]Inf)$`);
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('# HELP ')) continue;
    const type = /^# TYPE ([a-z_]+) (gauge|counter)$/.exec(line);
    if (type) {
      if (types.has(type[1] as string)) throw new Error(`${type[1]} has a type already`);
      types.set(type[1] as string, type[2] as string);
      continue;
    }
    const [, name, labels = '', value] = sample.exec(line) ?? [];
    if (name === undefined || !types.has(name)) throw new Error(`not a sample: ${line}`);
    if (samples.has(name + labels)) throw new Error(`twice: ${line}`);
    if ((types.get(name) === 'counter') !== name.endsWith('_total')) throw new Error(`${name} is a ${types.get(name)}`);
    samples.set(name + labels, Number(value));
  }
  return samples;
}

t.test('values are those of status', async (t) => {
  const metrics = makeMetrics(() => status());
  const { type, text } = await metrics();
  t.match(type, /^text\/plain; version=0\.0\.4/);
  const m = parse(text);
  const is = (name: string, value: number) => t.equal(m.get(`egress_agent_${name}`), value, name);
  is('info{version="1.2.3",node="n\\"1\\\\",mode="cluster"}', 1);
  is('endpoints{state="enforced"}', 2);
  is('endpoints{state="observed"}', 1);
  is('endpoints{state="missing"}', 0);
  is('policies{state="in-force"}', 7);
  is('policies{state="staged"}', 2);
  is('policies{state="refused"}', 2);
  is('problems{severity="error"}', 2);
  is('problems{severity="warning"}', 1);
  is('map_entries{map="flows"}', 5);
  is('map_max_entries{map="rules"}', 10);
  is('policies_applied_timestamp_seconds', 1_700_000_000.5);
  is('policies_failing_seconds', 0);
  is('flows_total', 1234);
  is('flow_share_entries', 100);
  is('endpoints_over_flow_share', 2);
  is('flows_not_stored_total', 6);
  is('flows_evicted_total', 8);
  is('flows_busy_total', 9);
  is('names', 12);
  is('dns_servers', 1);
  is('names_refused_total', 13);
  is('names_overflow_total', 14);
  is('dns_answers_untrusted_total', 15);
  is('lost_events_total{where="dns"}', 21);
  is('lost_events_total{where="said"}', 38);
  is('edges', 40);
  is('edges_overflow_total', 42);
  is('said_inspected_total', 31);
  is('said_judged_total', 32);
  is('said_denied_total', 33);
  is('said_pending', 34);
  is('said_oversize_total', 35);
  is('said_without_buffer_total', 36);
  is('ech_without_room_total', 41);
  is('said_audited_total', 37);
  is('lost_events_total{where="ring"}', 7);
  is('lost_events_total{where="reader"}', 5);
  is('dropped_packets_total{reason="rule"}', 11);
  is('dropped_packets_total{reason="malformed"}', 0);
  t.ok((m.get('egress_agent_memory_resident_bytes') as number) > 1e6);
  t.notOk(
    [...m.keys()].some((k) => k.includes('gate_pods_total')),
    'no gate, no figures of one',
  );
  t.notOk(
    [...m.keys()].some((k) => k.includes('api_objects')),
    'nor of a cluster',
  );
});

t.test('a cluster and a gate', async (t) => {
  const kind = { kind: 'v1 Pod', objects: 50_000, synced: true, staleSince: undefined, error: undefined };
  const gate = { installed: true, pending: 3, passed: 40, refused: 1, timedOut: 2 };
  const cluster = { synced: false, staleSince: Date.now() - 90_000, error: 'x', kinds: [kind] };
  const failing = { appliedAt: 0, failingSince: Date.now() - 5_000 };
  const m = parse((await makeMetrics(() => status({ cluster, gate, staleness: failing }))()).text);
  const about = (name: string, value: number) =>
    t.ok(Math.abs((m.get(`egress_agent_${name}`) ?? Number.NaN) - value) < 5, name);
  about('api_stale_seconds', 90);
  about('policies_failing_seconds', 5);
  t.equal(m.get('egress_agent_api_synced'), 0);
  t.equal(m.get('egress_agent_api_objects{kind="v1 Pod"}'), 50_000);
  t.equal(m.get('egress_agent_gate_waiting'), 3);
  t.equal(m.get('egress_agent_gate_pods_total{result="passed"}'), 40);
  t.equal(m.get('egress_agent_gate_pods_total{result="refused"}'), 1);
  t.equal(m.get('egress_agent_gate_pods_total{result="timed-out"}'), 2);
});

t.test('scrapes: what is gone is gone, nothing is counted twice, also of two at once', async (t) => {
  let now = status({ maps: [{ name: 'old', entries: 1, max: 1 }], drops: { odd: 2 } });
  const metrics = makeMetrics(() => now);
  await metrics();
  now = status();
  const texts = (await Promise.all([metrics(), metrics(), metrics()])).map((a) => a.text);
  for (const text of texts) {
    const m = parse(text);
    t.equal(m.get('egress_agent_flows_total'), 1234);
    t.equal(m.get('egress_agent_lost_events_total{where="ring"}'), 7);
    t.notOk(m.has('egress_agent_map_entries{map="old"}'));
    t.notOk(m.has('egress_agent_dropped_packets_total{reason="odd"}'));
  }
  const failing = makeMetrics(() => {
    throw new Error('no status');
  });
  await t.rejects(failing(), { message: 'no status' });
});
