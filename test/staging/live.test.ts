/** Steps and impact without a command line: with the evidence of agents, of a relay, of one agent, and of nobody. */
import t, { type Test } from 'tap';
import { DAY_MS, type EdgeHistory } from '../../src/edges/edge.js';
import { timestampOf } from '../../src/edges/wire.js';
import { AgentError } from '../../src/errors.js';
import type { PreviewRequest } from '../../src/proto/edges.js';
import { Agents } from '../../src/relay/nodes/agents.js';
import { RelayServer } from '../../src/relay/server.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { annotationsIn, isStaged, type PlainObject } from '../../src/staging/forms.js';
import { PolicyApi } from '../../src/staging/live/api.js';
import { Evidence } from '../../src/staging/live/evidence.js';
import { generationOf } from '../../src/staging/live/generation.js';
import { impactNow } from '../../src/staging/live/impact.js';
import { runStep, type StepContext, type StepOptions } from '../../src/staging/live/step.js';
import { parsePolicyName } from '../../src/staging/names.js';
import type { StepName } from '../../src/staging/plan.js';
import { A_DAY, feedOf, makeDay, makeEdge, outside, workload } from '../edges/given.js';
import { quiet, TestAgent } from '../relay/world.js';
import { ObjectsServer } from './objects-server.js';

t.setTimeout(120_000);
const NP = '/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/web';
const WEB = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: {}, spec: { egress: [] } };
const POLICY = parsePolicyName('np/shop/web');
const STAGED = new Date(A_DAY * DAY_MS);
const NOW = new Date((A_DAY + 20) * DAY_MS);

function denied(object: PlainObject, day: number, connections: number): EdgeHistory {
  const policy = { dialect: 'networkpolicy', kind: 'NetworkPolicy', namespace: 'shop', name: 'web' };
  const ref = { policy, index: -1, tier: 'default', staged: true, action: 'deny' as const };
  const edge = makeEdge({
    ...{ source: workload('shop/web'), destination: outside('192.0.2.7'), verdict: 'allow', auditVerdict: 'deny' },
    auditRule: { ref, generation: generationOf(object) },
  });
  return { edge, days: [makeDay(A_DAY + day, { connections })] };
}

/** An API server with a staged policy, and two agents that know it as it is there. */
async function world(t: Test, day: number) {
  const server = await ObjectsServer.start();
  const api = new PolicyApi(server.client, 'egress-ui');
  t.teardown(() => server.stop());
  server.put(NP, WEB);
  const nobody = { api, evidence: new Evidence([]) };
  await runStep('stage', POLICY, nobody, { days: 7, now: STAGED });
  const present = () => server.objects.get(NP) as PlainObject;
  const staged = present();
  const previews: PreviewRequest[] = [];
  let known = present;
  const policyObjects = () => {
    const object = known();
    return {
      objects: [
        {
          ...{ kind: 'NetworkPolicy', api_version: 'networking.k8s.io/v1', namespace: 'shop', name: 'web' },
          ...{ staged: isStaged(object), state: 'in-force', pods: 2, generation: String(generationOf(object)) },
          ...{ since: timestampOf(NOW.getTime()), yaml: JSON.stringify(object) },
        },
      ],
    };
  };
  const preview = async (request: PreviewRequest) => {
    previews.push(request);
    return { edges: [] };
  };
  const agent = async (name: string, ledger: number) => {
    const edges = { ...feedOf([denied(staged, day, 3)]), ledger };
    const one = await new TestAgent(name, { edges, policyObjects, preview }).listen();
    t.teardown(() => one.server.close());
    return one;
  };
  const [a, b] = [await agent('node-a', 1), await agent('node-b', 2)];
  const agents = new Agents(() => undefined);
  agents.set([a, b].map(({ name, address }) => ({ id: name, name, address })));
  t.teardown(() => agents.close());
  const clientOf = (port: number | undefined, name: string) => {
    const client = new AgentClient({ address: `127.0.0.1:${port}`, name });
    t.teardown(() => client.close());
    return client;
  };
  const relay = async () => {
    const relay = new RelayServer({ agents, version: '0', tls: false, log: quiet });
    const { port } = await relay.listenTls('127.0.0.1:0', undefined, { pollMs: 50 });
    t.teardown(() => relay.close());
    return Evidence.of(clientOf(port, 'relay'), 'relay');
  };
  const all = new Evidence(agents.list());
  const cronJobs = async () => [];
  const step = (name: StepName, options: Partial<StepOptions> = {}, context: Partial<StepContext> = {}) =>
    runStep(name, POLICY, { api, evidence: all, cronJobs, ...context }, { days: 7, now: NOW, ...options });
  return {
    ...{ server, api, agents, all, a, b, relay, clientOf, previews, step, present },
    knows: (object: () => PlainObject) => (known = object),
  };
}

t.test('the impact, of all agents, of a relay, of one agent', async (t) => {
  const { all, relay, a, b, clientOf, previews } = await world(t, 15);
  const expected = {
    policy: 'np/shop/web',
    stage: 'staged',
    connections: 6,
    pods: 2,
    since: STAGED.toISOString(),
    windowSeconds: 20 * 86_400,
    missing: ['it would have denied 6 connections in the last 7 days'],
    denied: [
      { workload: 'shop/web', flows: [{ destination: '192.0.2.7', protocol: 'tcp', rule: 'np/shop/web#default' }] },
    ],
    warnings: [],
  };
  const options = { days: 7, now: NOW };
  t.match(await impactNow(POLICY, { evidence: all, ...options }), expected);
  t.same(
    previews.splice(0).map((p) => p.evidence?.length ?? 0),
    [0, 0],
    'each agent judges its own flows',
  );
  const ofRelay = await relay();
  t.match(await impactNow(POLICY, { evidence: ofRelay, ...options }), expected);
  t.same(
    previews.splice(0).map((p) => p.evidence?.length),
    [1],
    'the relay asks one of them about all',
  );
  const one = await Evidence.of(clientOf(a.port, 'node-a'), 'agent');
  t.match(await impactNow(POLICY, { evidence: one, ...options }), { connections: 3 });
  const status = async () => ({ mode: 'cluster', node_name: 'node-c' });
  t.equal((await Evidence.of({ status } as never, 'agent')).only, 'node-c', 'of a cluster, one agent is not enough');
  await t.rejects(impactNow(parsePolicyName('np/shop/x'), { evidence: all, ...options }), { code: 'USAGE' });
  const cronJobs = () => Promise.reject(new Error('forbidden'));
  t.match(await impactNow(POLICY, { evidence: all, ...options, cronJobs }), {
    warnings: ['CronJobs cannot be read, and are not looked at: forbidden'],
  });
  await b.server.close();
  t.match(await impactNow(POLICY, { evidence: ofRelay, ...options, days: 0 }), {
    connections: 3,
    missing: ['it would have denied 3 connections', 'node node-b did not answer'],
  });
  await t.rejects(impactNow(POLICY, { evidence: all, ...options }), { code: 'AGENT' }, 'nobody speaks for node-b');
  await t.rejects(impactNow(POLICY, { evidence: new Evidence([]), ...options }), {
    code: 'AGENT',
    message: /no agent/,
  });
});

t.test('a stream of edges ends with its signal', async (t) => {
  const { relay } = await world(t, 15);
  const end = new AbortController();
  const book = await (await relay()).edges({ follow: true }, end.signal);
  t.equal(book.histories().length, 1);
  end.abort();
});

t.test('what is not ready is not enforced', async (t) => {
  const { server, step, present, relay } = await world(t, 15);
  const told: unknown[] = [];
  const onImpact = (impact: unknown) => told.push(impact);
  const writes = server.writes.length;
  const refused = await step('enforce', {}, { onImpact, evidence: await relay() });
  t.match(refused, {
    refused: true,
    says: /not ready/,
    changes: [],
    impact: { stage: 'staged', connections: 6, denied: [{ workload: 'shop/web' }] },
  });
  t.match(told, [{ impact: { stage: 'staged' }, known: { pods: 2 } }]);
  t.equal(server.writes.length, writes);
  const dry = await step('enforce', { force: true, dryRun: true });
  t.match(dry, { refused: false, changes: ['annotate NetworkPolicy shop/web'], says: 'is in force' });
  t.equal(server.writes.length, writes);
  t.ok(isStaged(present()));
  server.refuse = (_, path) => (path.endsWith('/events') ? 403 : undefined);
  t.match(await step('enforce', { force: true }), { refused: false, eventError: /403/, impact: { connections: 6 } });
  t.notOk(isStaged(present()), 'without its Event it is made nevertheless');
  t.match(await step('enforce'), { changes: [], says: 'is in force already', warnings: [] });
});

t.test('what is ready is, and undone', async (t) => {
  const { server, step, present } = await world(t, 2);
  const cronJobs = '/apis/batch/v1/namespaces/shop/cronjobs';
  const job = (lastScheduleTime: string) => ({
    items: [
      { metadata: { name: 'job', namespace: 'shop' }, spec: { schedule: '0 3 * * *' }, status: { lastScheduleTime } },
    ],
  });
  const ofApi = (namespace: string | undefined) => new PolicyApi(server.client, 'egress-ui').cronJobs(namespace);
  server.objects.set(cronJobs, job('2020-01-01T00:00:00Z') as never);
  t.match(await step('enforce', {}, { cronJobs: ofApi }), {
    refused: true,
    impact: { missing: [/CronJob shop\/job/] },
  });
  server.objects.set(cronJobs, job(NOW.toISOString()) as never);
  const done = await step('enforce', {}, { cronJobs: ofApi });
  t.match(done, { refused: false, impact: { stage: 'ready' }, warnings: [] });
  t.match(server.events.at(-1), {
    reason: 'Enforced',
    message: 'np/shop/web is in force. It would have denied 6 connections of shop/web.',
    source: { component: 'egress-ui' },
  });
  t.match(await step('undo'), { says: 'is staged again', warnings: [/it was in force/] });
  t.ok(isStaged(present()));
  await t.rejects(step('undo'), { code: 'USAGE', message: /^np\/shop\/web: .*nothing to undo/ });
});

t.test('where nothing is known of the impact', async (t) => {
  const { server, api, step, present, knows, all } = await world(t, 2);
  const before = present();
  server.put(NP, { ...before, spec: { egress: [{}] } });
  knows(() => before);
  await t.rejects(step('enforce'), { code: 'AGENT', message: /do not know np\/shop\/web as it is now yet/ });
  const down = () => Promise.reject(new AgentError('AGENT', 'nobody is there'));
  await t.rejects(step('enforce', {}, { evidence: down }), { message: /nobody is there/ });
  const told: unknown[] = [];
  const forced = await step('enforce', { force: true }, { evidence: down, onImpact: (impact) => told.push(impact) });
  t.match(forced, { refused: false, impactError: 'nobody is there' });
  t.notOk(Object.hasOwn(forced, 'impact'));
  t.match(told, [{ message: 'nobody is there' }]);
  t.match(server.events.at(-1)?.message, /is in force\. Its impact is not known\.$/);
  knows(present);
  await step('stage');
  const own = await runStep('enforce', POLICY, { api, evidence: all }, { days: 0, force: true, now: NOW });
  t.match(own.warnings, [/^CronJobs cannot be read/], 'CronJobs are asked of the API if nobody gives them');
  t.notOk(Object.hasOwn(annotationsIn(present()), 'egress-agent.io/enforcement'));
});
