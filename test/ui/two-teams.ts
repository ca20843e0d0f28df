/**
 * A cluster of two teams, of which one may see nothing of the other but who talks to it: whatever only the other may
 * know has the word HUSH in it. It answers like an agent, by the agent's own code, so that what a user is told is what the
 * server leaves, and not what a test expects.
 */
import { toIr } from '../../src/dialects/index.js';
import { activityOf } from '../../src/edges/activity.js';
import type { EdgeHistory } from '../../src/edges/edge.js';
import { edgeQueryOf } from '../../src/edges/query.js';
import { edgeHistoryOf, timestampOf } from '../../src/edges/wire.js';
import { explain } from '../../src/explain/explain.js';
import type { EdgesRequest, EdgesResponse, PreviewRequest, RecommendRequest } from '../../src/proto/edges.js';
import type { FlowRecord, HubbleEndpoint, RuleMessage } from '../../src/proto/messages.js';
import type { ClusterStatusResponse } from '../../src/proto/status.js';
import { answer } from '../../src/recommend/request.js';
import { policyObjects } from '../../src/tools/policies/objects.js';
import { preview } from '../../src/tools/policies/preview.js';
import type { AgentClient } from '../../src/rpc/transport/client.js';
import { makeDay, makeEdge, outside, workload } from '../edges/given.js';
import { namespace, NODE, pod, policy, snapshotOf } from '../policy/world.js';
import { edgesOf, silence } from './source.js';

/** In everything that only the other team, or who may see the cluster, may be told. */
export const HUSH = 'hush';
/** The namespace of the viewer, and the other. */
export const [OWN, OTHER] = ['shop', 'vault'];
const NOW = Date.now();
const TODAY = Math.floor(NOW / 86_400_000);

const manifests = [
  namespace(OWN, { team: 'shop' }),
  namespace(OTHER, { team: HUSH }),
  namespace('kube-system', {}),
  pod('shop/web', ['10.244.0.1'], { app: 'web' }),
  pod('shop/api', ['10.244.0.2'], { app: 'api' }),
  pod('vault/store', ['10.244.1.1'], { app: 'store', clearance: HUSH }),
  pod(`vault/${HUSH}-signer`, ['10.244.1.2'], { app: `${HUSH}-signer` }),
  pod('kube-system/dns', ['10.244.9.1'], { 'k8s-app': 'kube-dns' }),
  policy('shop/web', { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Egress'], egress: [] }),
  policy(`vault/${HUSH}`, {
    podSelector: { matchLabels: { clearance: HUSH } },
    policyTypes: ['Egress'],
    egress: [{ to: [{ ipBlock: { cidr: '192.0.2.0/24' } }] }],
  }),
  policy(`vault/${HUSH}-broken`, {
    podSelector: {},
    policyTypes: ['Egress'],
    egress: [{ to: [{ ipBlock: { cidr: HUSH } }] }],
  }),
  `---\n${JSON.stringify({
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata: { name: 'platform' },
    spec: {
      tier: 'Admin',
      priority: 10,
      subject: { namespaces: {} },
      egress: [
        {
          name: 'first',
          action: 'Deny',
          to: [
            {
              pods: {
                namespaceSelector: { matchLabels: { team: HUSH } },
                podSelector: { matchLabels: { clearance: HUSH } },
              },
            },
          ],
          ports: [{ portNumber: { protocol: 'TCP', port: 9 } }],
        },
      ],
    },
  })}\n`,
  `---\n${JSON.stringify({
    apiVersion: 'projectcalico.org/v3',
    kind: 'GlobalNetworkPolicy',
    metadata: { name: 'audit' },
    spec: {
      order: 5,
      selector: `clearance == '${HUSH}'`,
      types: ['Egress'],
      egress: [{ action: 'Allow', destination: { nets: ['10.0.0.0/8'] } }],
    },
  })}\n`,
].join('');

const rule = (kind: string, ns: string, name: string): NonNullable<EdgeHistory['edge']['rule']> => ({
  ref: {
    policy: { dialect: 'networkpolicy', kind, ...(ns === '' ? {} : { namespace: ns }), name },
    index: 0,
    tier: 'NetworkPolicy',
    staged: false,
    action: 'allow',
  },
  generation: 1,
});

/** Seen each day of a week, so that a recommendation has something to go by. */
const days = [6, 5, 4, 3, 2, 1, 0].map((ago) => makeDay(TODAY - ago, { connections: 10, bytes: 100_000 }));
export const histories: EdgeHistory[] = [
  makeEdge({ source: workload('shop/web', 'Pod'), destination: workload('shop/api', 'Pod'), port: 8080 }),
  // Each team sees that they talk, and not by whose rule of the other.
  makeEdge({ source: workload('shop/api', 'Pod'), destination: workload('vault/store', 'Pod'), port: 5432 }),
  makeEdge({
    source: workload('vault/store', 'Pod'),
    destination: workload('shop/api', 'Pod'),
    port: 8080,
    reason: 'rule',
    rule: rule('NetworkPolicy', OTHER, HUSH),
    auditRule: rule('NetworkPolicy', OTHER, `${HUSH}-staged`),
    auditVerdict: 'deny',
  }),
  makeEdge({ source: workload('shop/api', 'Pod'), destination: outside('192.0.2.9'), port: 443 }),
  makeEdge({ source: workload(`vault/${HUSH}-signer`, 'Pod'), destination: outside(`${HUSH}.example.com`, 'name') }),
  makeEdge({ source: workload('vault/store', 'Pod'), destination: workload(`vault/${HUSH}-signer`, 'Pod') }),
].map((edge) => ({ edge, days }));

const end = (ns: string, name: string, labels: string[]): HubbleEndpoint => ({
  namespace: ns,
  pod_name: name,
  labels,
  workloads: [{ kind: 'Pod', name }],
});
const WEB = end(OWN, 'web', ['k8s:app=web']);
const STORE = end(OTHER, 'store', ['k8s:app=store', `k8s:clearance=${HUSH}`]);
const SIGNER = end(OTHER, `${HUSH}-signer`, [`k8s:app=${HUSH}-signer`]);

function record(source: HubbleEndpoint, destination: HubbleEndpoint, more: Partial<FlowRecord> = {}): FlowRecord {
  return {
    flow: {
      time: timestampOf(Date.now()),
      IP: { source: '10.244.0.1', destination: '10.244.1.1' },
      l4: { TCP: { source_port: 40_000, destination_port: 5432 } },
      source,
      destination,
      node_name: NODE,
    } as FlowRecord['flow'],
    event: 'verdict',
    verdict: 'allow',
    reason: 'rule',
    hook: 'egress',
    ...more,
  };
}

const hushed: RuleMessage = {
  ...{ text: `np/vault/${HUSH}#0`, kind: 'NetworkPolicy', namespace: OTHER, name: HUSH },
  ...{ index: 0, staged: false },
};
export const records: FlowRecord[] = [
  record(WEB, STORE),
  record(STORE, WEB, {
    rule: hushed,
    audit_rule: hushed,
    event: 'said',
    said: { kind: 'http', method: 'GET', host: `${HUSH}.example.com`, path: `/${HUSH}` },
    flow: { ...record(STORE, WEB).flow, destination_names: [`${HUSH}.example.com`] },
  }),
  record(SIGNER, STORE),
];

const status: ClusterStatusResponse = {
  nodes: [
    {
      name: NODE,
      address: `${HUSH}:4245`,
      state: 'NODE_CONNECTED',
      message: `${HUSH} said so`,
      status: {
        version: '1',
        node_name: NODE,
        mode: 'cluster',
        source: `https://${HUSH}`,
        pid: 1,
        started_at: timestampOf(NOW),
        uptime_ns: 1,
        attach_mode: 'tcx',
        deny_response: 'drop',
        endpoints: ['shop/web', 'shop/api', 'vault/store', `vault/${HUSH}-signer`].map((name, n) => ({
          ...{ pod: name, uid: `u${n}`, interface: `${name.includes(OTHER) ? HUSH : 'veth'}${n}`, ifindex: n },
          state: 'enforced',
        })),
        hook_problems: [`veth of vault/${HUSH}-signer is gone`],
        problems: [
          { severity: 'error', object: `NetworkPolicy vault/${HUSH}`, message: HUSH, text: HUSH },
          { severity: 'error', object: 'ClusterNetworkPolicy platform', field: HUSH, message: HUSH, text: HUSH },
          { severity: 'error', message: HUSH, text: HUSH, file: HUSH },
        ],
        failing_since: timestampOf(NOW),
        last_error: `the set of vault/${HUSH} is too large`,
        api: { error: HUSH, kinds: [{ kind: 'NetworkPolicy', error: HUSH }] },
        gate: { file: HUSH, error: HUSH },
        names: { seen: [{ address: '10.0.0.1', port: 53, pod: `vault/${HUSH}-signer` }] },
        exports: [{ target: `https://${HUSH}`, last_error: HUSH }],
      },
    },
  ],
};

const snapshot = snapshotOf(manifests);
const { ir, problems } = toIr(snapshot);

/** What was asked, so that a test can tell that nothing was. */
export const asked: { method: string; request: object }[] = [];

/** An agent, or a relay, of this cluster. */
export const client = {
  async *edges(request: EdgesRequest, signal?: AbortSignal): AsyncGenerator<EdgesResponse> {
    asked.push({ method: 'edges', request });
    yield* edgesOf(histories, request, signal);
  },
  async *getRecords(request: object) {
    asked.push({ method: 'getRecords', request });
    for (const one of records) yield { record: one };
  },
  async *sampleFlows(request: object, signal?: AbortSignal) {
    asked.push({ method: 'sampleFlows', request });
    yield { records, seen: records.length, lost: 0 };
    yield* silence(signal);
  },
  status: async () => status.nodes?.[0]?.status,
  clusterStatus: async () => status,
  history: async () => ({ place: `/${HUSH}`, error: HUSH }),
  policyObjects: async (request: { namespaces?: string[] }) => ({
    objects: await policyObjects(
      { ir, snapshot, problems: [...snapshot.problems, ...problems], since: () => NOW },
      request.namespaces?.length ? new Set(request.namespaces) : undefined,
    ),
  }),
  activity: async (request: object) => activityOf(histories, edgeQueryOf(request)),
  explain: async ({
    from,
    to,
    port = 0,
    protocol = 6,
  }: {
    from: string;
    to: string;
    port?: number;
    protocol?: number;
  }) => {
    const address = [...snapshot.pods].find(([key]) => key === to)?.[1].ips[0] ?? to;
    return { json: JSON.stringify(explain(ir, snapshot, { from, to: address, port, protocol })) };
  },
  names: async () => ({ names: [{ name: `${HUSH}.example.com` }] }),
  preview: async ({ manifests: text = '', evidence, limit = 0 }: PreviewRequest) =>
    preview({
      snapshot,
      hearing: { verifyNames: 'off', quic: 'inspect' },
      change: { manifests: text, deleted: [], enforceStaged: false },
      evidence: evidence?.length ? evidence.map(edgeHistoryOf) : histories,
      limit,
    }),
  recommend: async (request: RecommendRequest) => {
    asked.push({ method: 'recommend', request });
    const own = request.evidence?.length ? {} : { own: { beganMs: 0, overflow: 0, histories } };
    return answer({ request, snapshot, ...own });
  },
} as unknown as AgentClient;
