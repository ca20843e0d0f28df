/** Numbers and errors of the whole cluster are not told to viewers of some namespaces; that they are left out is. */
import t from 'tap';
import { AgentError } from '../../src/errors.js';
import type { AgentClient } from '../../src/rpc/transport/client.js';
import { seenNode } from '../../src/ui/access/mask.js';
import { EVERYTHING, type Viewer } from '../../src/ui/access/viewer.js';
import { allHandlers } from '../../src/ui/api/handlers.js';
import { Feeds } from '../../src/ui/api/stream.js';
import { viewOf } from '../../src/ui/http/read.js';
import { isUnused } from '../../src/ui/wire/board.js';
import type { StreamMessage } from '../../src/ui/wire/messages.js';
import type { ActivityAnswer, PoliciesAnswer, PolicyAnswer } from '../../src/ui/wire/policies.js';
import type { ClusterFacts } from '../../src/ui/wire/status.js';
import { until } from '../netns/shell.js';
import { silence } from './source.js';
import { client, histories, OTHER, OWN } from './two-teams.js';
import { activityOf } from '../../src/edges/activity.js';
import { edgeQueryOf } from '../../src/edges/query.js';

const ANN: Viewer = { id: 'ann', name: 'ann', scope: async () => new Set([OWN]) };
const AWAY: Viewer = { id: 'away', name: 'away', scope: () => Promise.reject(new AgentError('AGENT', 'of 10.0.0.9')) };

/** A policy of the whole cluster, and one of the viewer, have decided something of everybody. */
const { objects = [] } = await client.policyObjects({});
const by = (kind: string, name: string, namespace?: string) => ({
  generation: Number(objects.find((o) => o.kind === kind && o.name === name)?.generation),
  ref: {
    policy: {
      dialect: kind === 'NetworkPolicy' ? 'networkpolicy' : 'cnp',
      ...{ kind, name },
      ...(namespace ? { namespace } : {}),
    },
    ...{ index: 0, tier: 'Admin', staged: false, action: 'deny' as const },
  },
});
const decided = histories.map(({ edge, days }, n) => ({
  days,
  edge: {
    ...edge,
    rule: n % 2 === 0 ? by('ClusterNetworkPolicy', 'platform') : by('NetworkPolicy', 'web', OWN),
  },
}));
const [node] = (await client.clusterStatus()).nodes ?? [];
const counting = {
  ...client,
  activity: async (request: object) => activityOf(decided, edgeQueryOf(request)),
  clusterStatus: async () => ({
    nodes: [
      {
        ...node,
        status: {
          ...node?.status,
          ...{ policies_in_force: 7777, policies_staged: 7777, policies_refused: 7777, flows_per_second: 7777 },
          ...{ hooks_attached: 7777, hooks_expected: 7777, lost_in_ring: [7777], lost_in_queues: 7777 },
        },
      },
    ],
  }),
} as unknown as AgentClient;
const handlers = allHandlers(counting, () => '');
const ask = <A>(name: string, body: object, viewer: Viewer): Promise<A> =>
  handlers[name]?.(body as never, viewer, new AbortController().signal) as Promise<A>;

t.test('what policies of the whole cluster have decided', async (t) => {
  const all = await ask<ActivityAnswer>('activity', {}, EVERYTHING);
  const id = Object.keys(all.hits).find((policy) => policy.endsWith('platform')) ?? '';
  t.ok(id, 'it has decided something');
  const own = await ask<ActivityAnswer>('activity', {}, ANN);
  t.strictSame(Object.keys(own.hits), [`np/${OWN}/web`], 'only one’s own are counted');
  const { policies } = await ask<PoliciesAnswer>('policies', {}, ANN);
  const platform = policies.find((policy) => policy.id === id);
  t.match(platform, { hidden: true, pods: 0, rules: 0 });
  t.equal(platform && isUnused(platform, undefined), false, 'which is not to say that nobody needs it');
  t.equal(policies.find(({ namespace }) => namespace === OWN)?.hidden, undefined);
  const detail = await ask<PolicyAnswer>('policy', { policy: id }, ANN);
  t.match(detail, { hidden: true, ruleHits: [], earlier: 0 });
  t.notMatch(JSON.stringify(detail), /first/, 'nor what its rules are called');
  const whole = await ask<PolicyAnswer>('policy', { policy: id }, EVERYTHING);
  t.match(whole.ruleHits[0], { title: 'first', action: 'deny' });
  t.equal(whole.hidden, undefined);
});

t.test('numbers of nodes', async (t) => {
  t.match(JSON.stringify(await ask('status', {}, EVERYTHING)), /7777/);
  const { nodes } = await ask<ClusterFacts>('status', {}, ANN);
  t.notMatch(JSON.stringify(nodes), /7777/);
  t.notMatch(JSON.stringify(await ask('node', { name: 'node-a' }, ANN)), /7777/);
  t.strictSame([nodes[0]?.inForce, nodes[0]?.lost, nodes[0]?.flowsPerSecond], [undefined, undefined, undefined]);
  t.equal(nodes[0]?.pods, 2, 'one’s own pods are counted');
  const brief = { name: 'a', connected: true, message: 'x', policiesRefused: 1, flowsPerSecond: 2, lost: 3 };
  t.strictSame(seenNode(brief, new Set([OWN])), { name: 'a', connected: true, message: '' });
});

t.test('numbers in a stream', async (t) => {
  const feeds = new Feeds({
    ...client,
    clusterStatus: () => counting.clusterStatus(),
    async *edges(request: object, signal?: AbortSignal) {
      for await (const message of client.edges({ ...request, follow: false }, signal))
        yield { ...message, overflow: 7777 };
      yield* silence(signal);
    },
    async *sampleFlows(request: object, signal?: AbortSignal) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      for (let n = 0; n < 3; n++) yield { records: [], seen: 0, lost: 7777 };
      for await (const message of client.sampleFlows(request, signal)) yield { ...message, lost: 7777 };
    },
  } as unknown as AgentClient);
  t.teardown(() => feeds.close());
  for (const [viewer, isTold] of [
    [EVERYTHING, true],
    [ANN, false],
  ] as const) {
    const leaving = new AbortController();
    const got: StreamMessage[] = [];
    const outlet = { signal: leaving.signal, send: (m: StreamMessage) => got.push(m) > 0, drained: async () => {} };
    const done = feeds.serve(viewOf({ window: '7d', edges: true, flows: { last: 5 } }), viewer, () => outlet);
    const of = (type: string) => got.filter((m) => m.type === type);
    await until('all has come', () => ['edges', 'nodes', 'flows'].every((type) => of(type).length > 0));
    await new Promise((resolve) => setTimeout(resolve, 500));
    leaving.abort();
    await done;
    for (const type of ['edges', 'flows', 'nodes'])
      t.equal(/7777/.test(JSON.stringify(of(type))), isTold, `${type} for ${viewer.id}`);
    if (!isTold)
      t.equal(
        of('flows').some((m) => m.type === 'flows' && !m.past && m.flows.length === 0),
        false,
      );
  }
});

t.test('errors of a source', async (t) => {
  const said = 'rpc to 10.0.0.7:4244 of node-secret failed';
  const failing = new Proxy(client, {
    get: (_, method) => {
      const fault = new AgentError('AGENT', said, { hint: said, where: { file: said } });
      if (method !== 'edges') return () => Promise.reject(fault);
      return async function* () {
        yield* await Promise.reject<never[]>(fault);
      };
    },
  });
  const broken = allHandlers(failing, () => '');
  const bodies: Record<string, object> = {
    policy: { policy: `np/${OWN}/web` },
    node: { name: 'node-a' },
    why: {
      from: { kind: 'workload', namespace: OWN, workloadKind: 'Pod', name: 'web' },
      to: { kind: 'address', namespace: '', workloadKind: '', name: '192.0.2.1' },
    },
    preview: { manifests: '' },
    recommendation: { workload: `${OWN}/web`, language: 'networkpolicy' },
  };
  for (const name of [
    'status',
    'node',
    'policies',
    'activity',
    'policy',
    'why',
    'preview',
    'recommend',
    'recommendation',
  ]) {
    const told = (viewer: Viewer) =>
      (broken[name] as NonNullable<(typeof broken)[string]>)(
        (bodies[name] as never) ?? {},
        viewer,
        new AbortController().signal,
      ).then(
        () => 'nothing',
        (e: AgentError) => JSON.stringify([e.code, e.message, e.hint, e.where]),
      );
    t.match(await told(EVERYTHING), said, `${name}: whoever sees everything is told`);
    const own = await told(ANN);
    t.match(own, /"AGENT","the source does not answer"/, name);
    t.notMatch(own, /10\.0\.0|node-secret/, name);
    t.notMatch(await told(AWAY), /10\.0\.0|node-secret/, `${name}: nor where rights cannot be decided`);
  }
  const usage = { ...client, preview: () => Promise.reject(new AgentError('USAGE', 'limit is wrong')) };
  await t.rejects(
    allHandlers(usage as unknown as AgentClient, () => '').preview?.(
      { manifests: '' },
      ANN,
      new AbortController().signal,
    ) as Promise<unknown>,
    { message: 'limit is wrong' },
    'what is wrong with a question is told',
  );
});

t.test('a recommended policy has no labels of pods of others', async (t) => {
  const ofApi = { workload: `${OWN}/api` };
  // What is left out cannot be asked back in.
  for (const language of ['networkpolicy', 'cnp', 'calico', 'cilium', 'fqdn', 'applicationnetworkpolicy'])
    for (const also of [[], [`${OTHER}/store: 5432/tcp`]]) {
      const text = JSON.stringify(await ask('recommendation', { ...ofApi, language, also }, ANN));
      t.notMatch(text.replaceAll(JSON.stringify(also[0]), ''), /app: store|clearance|team: hush/, language);
      t.match(text, /1 flow goes to pods of namespaces that you may not see: they are left out/, 'with a reason');
    }
  const both: Viewer = { id: 'both', name: 'both', scope: async () => new Set([OWN, OTHER]) };
  const seen = JSON.stringify(await ask('recommendation', { ...ofApi, language: 'networkpolicy' }, both));
  t.match(seen, /app: store/, 'who may see the other namespace is told');
  t.notMatch(seen, /left out, and this policy would deny/);
});
