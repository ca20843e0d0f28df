/** A viewer of one namespace who asks cleverly: no answer differs by what is hidden. */
import t from 'tap';
import type { FlowRecord, GetFlowsRequest } from '../../src/proto/messages.js';
import { seenFlow } from '../../src/ui/access/mask.js';
import type { Scope, Viewer } from '../../src/ui/access/viewer.js';
import { allHandlers } from '../../src/ui/api/handlers.js';
import { Feeds, type Outlet } from '../../src/ui/api/stream.js';
import { flowRow } from '../../src/ui/feeds/flow-row.js';
import { Shared } from '../../src/ui/feeds/shared.js';
import { viewOf } from '../../src/ui/http/read.js';
import type { StreamMessage } from '../../src/ui/wire/messages.js';
import { until } from '../netns/shell.js';
import { policy } from '../policy/world.js';
import { silence, silentSource } from './source.js';
import { client, HUSH, OTHER, OWN, records } from './two-teams.js';

const viewerOf = (scope: Scope, id: string, writes = false): Viewer => ({
  id,
  name: id,
  scope: async () => scope,
  mayWrite: async () => writes,
});
const OWNER = viewerOf(new Set([OWN]), 'ann');
const handlers = allHandlers(client, () => 'nothing is written');
const ask = (name: string, body: object, viewer = OWNER): Promise<unknown> =>
  (handlers[name] as NonNullable<(typeof handlers)[string]>)(body as never, viewer, new AbortController().signal);
const party = (kind: string, namespace: string, name: string) => ({ kind, namespace, workloadKind: 'Pod', name });

t.test('why: a name that is the name of a pod of others is no question', async (t) => {
  const to = (name: string) =>
    ask('why', { from: party('workload', OWN, 'web'), to: party('name', '', name), port: 80 });
  const there = JSON.stringify(await to(`${OTHER}/${HUSH}-signer`));
  t.notMatch(there, /10\.244\.1\.2/, 'its address is not told');
  const away = JSON.stringify(await to(`${OTHER}/nobody`));
  t.equal(there.replaceAll(`${HUSH}-signer`, 'nobody'), away, 'nor that it is there');
});

t.test('why: a node is of no namespace, whatever is said of it', async (t) => {
  for (const kind of ['node', 'name', 'address', 'service', 'other'])
    await t.rejects(
      ask('why', { from: party(kind, OWN, 'node-a'), to: party('address', '', '192.0.2.1'), port: 80 }),
      { message: /you may not see/ },
      kind,
    );
});

/** web to store, store to web, signer to store. */
const [TO_STORE, TO_WEB, HIDDEN] = records as [FlowRecord, FlowRecord, FlowRecord];
const WEB = TO_WEB.flow.destination;
const OWNED: FlowRecord = { ...TO_STORE, flow: { ...TO_STORE.flow, ...(WEB ? { destination: WEB } : {}) } };

t.test('flows: a filter by a label of others is asked of nobody', async (t) => {
  for (const not of [false, true])
    for (const key of ['label', 'from-label', 'to-label', 'fqdn', 'to-fqdn', 'dns-query', 'http-path']) {
      const value = key.endsWith('label') ? `clearance=${HUSH}` : key.endsWith('fqdn') ? `${HUSH}.example.com` : HUSH;
      const asked: GetFlowsRequest[] = [];
      const feeds = new Feeds({
        ...silentSource(),
        async *getRecords(request: GetFlowsRequest) {
          asked.push(request);
          yield* [];
        },
      });
      const leaving = new AbortController();
      const got: StreamMessage[] = [];
      const outlet: Outlet = { signal: leaving.signal, send: (m) => got.push(m) > 0, drained: async () => {} };
      const view = viewOf({ chips: [{ key, value, not }], flows: { last: 5 } });
      const done = feeds.serve(view, OWNER, () => outlet);
      await until('an answer', () => got.some((m) => m.type === 'flows'));
      const knows = { label: 'label', fqdn: 'fqdn' }[key.replace(/^(from|to)-/, '')] ?? key.replace('-', '_');
      for (const filter of [...(asked[0]?.whitelist ?? []), ...(asked[0]?.blacklist ?? [])] as Record<
        string,
        string[]
      >[])
        for (const [field, of] of [
          ['source_label', 'source_pod'],
          ['destination_label', 'destination_pod'],
          ['source_fqdn', 'destination_pod'],
          ['destination_fqdn', 'source_pod'],
          ['dns_query', 'source_pod'],
          ['http_path', 'source_pod'],
        ] as const)
          if (filter[field]) t.strictSame(filter[of], [`${OWN}/`], `${not ? '!' : ''}${key}: ${field} of one’s own`);
      t.ok(JSON.stringify(asked).includes(knows), key);
      for (const filter of (asked[0]?.whitelist ?? []) as Record<string, string[]>[])
        t.match(JSON.stringify([filter.source_pod, filter.destination_pod]), `"${OWN}/`, 'all of one’s own');
      leaving.abort();
      await done;
      feeds.close();
    }
});

t.test('flows: those of others leave no trace', async (t) => {
  const tell = async (of: FlowRecord[]) => {
    let more: () => void = () => {};
    const feeds = new Feeds({
      ...silentSource(),
      async *sampleFlows(_: unknown, signal?: AbortSignal) {
        await new Promise<void>((resolve) => (more = resolve));
        yield { records: of, seen: of.length, lost: 0 };
        yield { records: [OWNED], seen: 1, lost: 0 };
        yield* silence(signal);
      },
    });
    const leaving = new AbortController();
    const got: StreamMessage[] = [];
    const outlet: Outlet = { signal: leaving.signal, send: (m) => got.push(m) > 0, drained: async () => {} };
    const chips = [{ key: 'to-label', value: 'app=web' }];
    const done = feeds.serve(viewOf({ chips, flows: { last: 5 } }), OWNER, () => outlet);
    await until('the past', () => got.some((m) => m.type === 'flows'));
    more();
    await until('a flow', () => got.some((m) => m.type === 'flows' && m.flows.length > 0));
    leaving.abort();
    await done;
    feeds.close();
    return JSON.stringify(got.filter((m) => m.type === 'flows'));
  };
  t.equal(await tell([TO_STORE, HIDDEN]), await tell([]));
});

t.test('flows: what the other side calls one’s own pods', async (t) => {
  const row = flowRow({ ...TO_STORE, flow: { ...TO_STORE.flow, source_names: [HUSH] } }, 1);
  const seen = seenFlow(row, new Set([OWN]));
  t.strictSame(seen?.source.names, [], 'what the other has learned is the other’s');
});

t.test('preview: a limit does not tell of flows that are not told', async (t) => {
  const guess = (clearance: string) =>
    policy(`${OWN}/guess`, {
      podSelector: { matchLabels: { app: 'api' } },
      policyTypes: ['Egress'],
      egress: [
        { to: [{ ipBlock: { cidr: '192.0.2.0/24' } }] },
        { to: [{ namespaceSelector: {}, podSelector: { matchLabels: { clearance } } }] },
      ],
    });
  const [right, wrong] = await Promise.all(
    [HUSH, 'guess'].map((label) =>
      ask('preview', { manifests: guess(label), limit: 1 }, viewerOf(new Set([OWN]), label)),
    ),
  );
  t.strictSame(right, wrong);
  t.match(wrong, { more: false });
});

t.test('preview: an object of the whole cluster is of no namespace, whatever it names', async (t) => {
  for (const kind of ['GlobalNetworkPolicy', 'CiliumClusterwideNetworkPolicy', 'AdminNetworkPolicy', 'Namespace'])
    await t.rejects(
      ask('preview', {
        manifests: JSON.stringify({ apiVersion: 'v1', kind, metadata: { name: 'x', namespace: OWN } }),
      }),
      { message: /of no namespace/ },
      kind,
    );
});

t.test('preview: aliases do not make gigabytes of a text', async (t) => {
  const long = 'x'.repeat(900_000);
  const manifests = `apiVersion: projectcalico.org/v3
kind: StagedNetworkPolicy
metadata: {name: x, namespace: ${OWN}, annotations: {a: &a ${long}, ${Array.from({ length: 90 }, (_, n) => `b${n}: *a`).join(', ')}}}
spec: {selector: all(), types: [Egress]}
`;
  await t.rejects(ask('preview', { manifests }), { message: /aliases/ });
});

t.test('what nobody uses any more is kept of few', async (t) => {
  let open = 0;
  const shared = new Shared(() => {
    open++;
    return { end: () => void open-- };
  });
  for (let n = 0; n < 100; n++) shared.take(`${n}`).leave();
  t.ok(open <= 8, `${open}`);
  const { leave } = shared.take('99');
  t.ok(open <= 8, 'the last one is still there');
  leave();
  shared.close();
  t.equal(open, 0);
});

t.test('a page that reads nothing is sent nothing more', async (t) => {
  let asked = 0;
  const feeds = new Feeds({
    ...silentSource(),
    clusterStatus: async () => ({ nodes: [{ name: `n${asked++}`, state: 'NODE_CONNECTED' }] }),
  });
  const leaving = new AbortController();
  let sent = 0;
  const outlet: Outlet = {
    signal: leaving.signal,
    send: () => ++sent < 0,
    drained: () => new Promise((resolve) => leaving.signal.addEventListener('abort', () => resolve())),
  };
  const done = feeds.serve(viewOf({}), viewerOf(undefined, 'all'), () => outlet);
  await until('the nodes were asked for again', () => asked >= 3);
  t.equal(sent, 1);
  leaving.abort();
  await done;
  feeds.close();
});
