/** What one flow takes of a message is bounded, whatever an agent, a pod or a server of DNS says. */
import t from 'tap';
import { EVERYTHING } from '../../src/ui/access/viewer.js';
import { Feeds } from '../../src/ui/api/stream.js';
import { flowRow } from '../../src/ui/feeds/flow-row.js';
import { viewOf } from '../../src/ui/http/read.js';
import type { FlowRecord, HubbleEndpoint } from '../../src/proto/messages.js';
import type { StreamMessage } from '../../src/ui/wire/messages.js';
import { until } from '../netns/shell.js';
import { silentSource } from './source.js';

const LONG = 'x'.repeat(100_000);
const end: HubbleEndpoint = {
  ...{ namespace: LONG, pod_name: LONG, labels: Array.from({ length: 5000 }, (_, n) => `k8s:l${n}=${LONG}`) },
  workloads: [{ kind: LONG, name: LONG }],
};
const rule = {
  ...{ text: LONG, kind: LONG, namespace: LONG, name: LONG, dialect: LONG, tier: LONG, action: LONG },
  ...{ index: 0, staged: false },
};
const names = Array.from({ length: 5000 }, (_, n) => `${n}${LONG}`);
const hostile: FlowRecord = {
  flow: {
    ...{ time: { seconds: 1, nanos: 0 }, IP: { source: LONG, destination: LONG } },
    ...{ source: end, destination: end, node_name: LONG, source_names: names, destination_names: names },
    destination_service: { namespace: LONG, name: LONG },
  } as FlowRecord['flow'],
  ...{ event: 'said', verdict: LONG, reason: LONG, hook: 'egress', rule, audit_rule: rule },
  said: { kind: 'http', method: LONG, host: LONG, path: LONG },
};

t.test('a row is cut', (t) => {
  const row = flowRow(hostile, 1);
  t.ok(JSON.stringify(row).length < 32_000, `${JSON.stringify(row).length} characters`);
  t.equal(row.detail.length, 300);
  t.match(row.detail, /^http x+…$/);
  t.equal(row.source.names.length, 16);
  t.equal(row.source.names[0]?.length, 254);
  t.ok(row.source.labels.length <= 64);
  const many = { ...end, labels: Array.from({ length: 5000 }, (_, n) => `${n}`) };
  t.equal(flowRow({ ...hostile, flow: { ...hostile.flow, source: many } }, 1).source.labels.length, 64);
  t.end();
});

t.test('what Kubernetes and DNS allow is not cut', (t) => {
  const label = `k8s:${'p'.repeat(253)}/${'n'.repeat(63)}=${'v'.repeat(63)}`;
  const name = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}.`;
  const own = { ...end, namespace: 'n'.repeat(63), pod_name: 'p'.repeat(253), labels: [label], workloads: [] };
  const { source } = flowRow({ ...hostile, flow: { ...hostile.flow, source: own, source_names: [name] } }, 1);
  t.strictSame([source.namespace, source.pod], [own.namespace, own.pod_name]);
  t.strictSame([source.labels, source.names], [[label], [name]]);
  t.end();
});

t.test('a pair of surrogates is not torn', (t) => {
  const said = { kind: 'tls', server_name: `${'x'.repeat(294)}\u{1f600}${LONG}` };
  const { detail } = flowRow({ ...hostile, said }, 1);
  t.equal(detail, `tls ${'x'.repeat(294)}…`);
  t.end();
});

t.test('the past comes in parts', async (t) => {
  const feeds = new Feeds({
    ...silentSource(),
    async *getRecords() {
      for (let n = 0; n < 1200; n++) yield { record: hostile };
    },
  });
  t.teardown(() => feeds.close());
  const leaving = new AbortController();
  const got: StreamMessage[] = [];
  const outlet = { signal: leaving.signal, send: (m: StreamMessage) => got.push(m) > 0, drained: async () => {} };
  const done = feeds.serve(viewOf({ flows: { last: 5000 } }), EVERYTHING, () => outlet);
  const flows = () => got.flatMap((m) => (m.type === 'flows' ? [m] : []));
  const all = () => flows().flatMap((m) => m.flows);
  await until('all have come', () => all().length === 1200);
  t.strictSame(
    flows().map((m) => [m.flows.length, m.seen]),
    [
      [500, 1200],
      [500, 0],
      [200, 0],
    ],
  );
  t.strictSame(
    all().map(({ id }) => id),
    Array.from({ length: 1200 }, (_, n) => n + 1),
  );
  leaving.abort();
  await done;
});
