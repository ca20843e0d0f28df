/** What is wrong with policies, as Events, over real HTTP. */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Problem } from '../../src/errors.js';
import { type EventOptions, type PolicyProblem, PolicyEvents } from '../../src/kube/events.js';
import { makeLogger } from '../../src/log.js';
import { FakeCluster } from './fake-cluster.js';
import { until } from './viewer.js';

const HOUR = 3_600_000;

async function bed(t: Test, more: Partial<EventOptions> = {}) {
  const server = await new FakeCluster().start();
  const log: string[] = [];
  const clock = { now: 1_800_000_000_000 };
  const make = (nodeName: string) =>
    new PolicyEvents({
      client: server.client(),
      nodeName,
      log: makeLogger('debug', (line) => log.push(line)),
      spreadMs: 0,
      now: () => clock.now,
      ...more,
    });
  const events = make('n1');
  t.teardown(async () => {
    events.close();
    await server.stop();
  });
  return { server, events, log, clock, make };
}

function broken(key: string, problem: Partial<Problem> = {}, uid = `uid of ${key}`): PolicyProblem {
  const [namespace, name = ''] = key.includes('/') ? key.split('/') : [undefined, key];
  const kind = namespace === undefined ? 'ClusterNetworkPolicy' : 'NetworkPolicy';
  const object = `${kind} ${key}`;
  return {
    policy: {
      apiVersion: 'networking.k8s.io/v1',
      kind,
      name,
      ...(namespace === undefined ? {} : { namespace }),
      object: { metadata: { name, namespace, uid } },
      where: { object },
    },
    problem: {
      severity: 'error',
      where: { object, field: 'spec.egress[0].to[0].ipBlock.cidr' },
      message: '"x" is not a CIDR',
      hint: 'write it as address/prefix length',
      ...problem,
    },
  };
}

t.test('an Event on the policy, in its namespace', async (t) => {
  const { server, events } = await bed(t);
  events.report([broken('shop/web')]);
  await until(() => server.posted.length === 1);
  const [{ path, body }] = server.posted as [(typeof server.posted)[number]];
  t.equal(path, '/api/v1/namespaces/shop/events');
  t.match(body, {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { namespace: 'shop', name: /^web\.[0-9a-f]{16}$/ },
    involvedObject: {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      namespace: 'shop',
      name: 'web',
      uid: 'uid of shop/web',
      fieldPath: 'spec.egress[0].to[0].ipBlock.cidr',
    },
    type: 'Warning',
    reason: 'PolicyRefused',
    message: 'spec.egress[0].to[0].ipBlock.cidr: "x" is not a CIDR — write it as address/prefix length',
    source: { component: 'egress-agent', host: 'n1' },
    reportingComponent: 'egress-agent.io/egress-agent',
    reportingInstance: 'n1',
    firstTimestamp: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
    count: 1,
  });
});

t.test('a cluster-wide object: in `default`, without a namespace of its own; a warning is Normal', async (t) => {
  const { server, events } = await bed(t);
  events.report([broken('all', { severity: 'warning' })]);
  await until(() => server.posted.length === 1);
  t.equal(server.posted[0]?.path, '/api/v1/namespaces/default/events');
  t.match(server.posted[0]?.body, { type: 'Normal', reason: 'PolicyQuestionable', metadata: { namespace: 'default' } });
  t.notOk(Object.hasOwn(server.posted[0]!.body.involvedObject as object, 'namespace'));
});

t.test('once for each problem, whoever finds it, until it goes and comes back', async (t) => {
  const { server, events, clock, make } = await bed(t);
  const names = () => server.posted.map((p) => (p.body.metadata as { name: string }).name);
  const two = [broken('a/one'), broken('a/two'), broken('a/two', { message: 'is another problem' })];
  events.report(two);
  events.report(two);
  await until(() => server.posted.length === 3);
  events.report(two);
  await sleep(300);
  t.equal(server.posted.length, 3);
  t.equal(new Set(names()).size, 3, 'names of their own');

  const other = make('n2');
  t.teardown(() => other.close());
  server.answers.push({ status: 409, reason: 'AlreadyExists', message: 'it is there' });
  other.report([broken('a/one')]);
  await until(() => server.posted.length === 4);
  t.equal(names()[3], names()[0], 'another node gives it the same name');

  events.report([]);
  events.report([broken('a/one')]);
  await until(() => server.posted.length === 5);
  t.equal(names()[4], names()[0], 'it went and is back: told again');

  events.report([broken('a/one', {}, 'a new uid')]);
  await until(() => server.posted.length === 6);
  t.not(names()[5], names()[0], 'another object of the name');

  clock.now += 64 * 60_000;
  events.report([broken('a/one', {}, 'a new uid')]);
  await sleep(250);
  t.equal(server.posted.length, 6);
  clock.now += HOUR / 30;
  events.report([broken('a/one', {}, 'a new uid')]);
  await until(() => server.posted.length === 7);
  t.pass('one that stands outlives the Event');
});

t.test('answers: what is expected is silent, what is not is logged once, and trouble is tried again', async (t) => {
  const { server, events, log, clock } = await bed(t);
  server.answers.push(
    { status: 409, reason: 'AlreadyExists' },
    { status: 404, reason: 'NotFound' },
    { status: 403, reason: 'Forbidden', message: 'unable to create in a: it is being terminated' },
  );
  events.report(['a/1', 'a/2', 'a/3'].map((k) => broken(k)));
  await until(() => server.posted.length === 3);
  await sleep(50);
  t.same(log, []);
  server.answers.push({ status: 403, reason: 'Forbidden', message: 'no' }, { status: 500, message: 'trouble' });
  const all = ['a/1', 'a/2', 'a/3', 'a/4', 'a/5'].map((k) => broken(k));
  events.report(all);
  await until(() => server.posted.length === 5 && log.length > 0);
  await sleep(50);
  t.match(log, [/warn .*an Event about a policy could not be written: .*403 no/], 'once');
  t.equal(log.length, 1);
  events.report(all);
  await sleep(250);
  t.equal(server.posted.length, 5, 'not at once');
  clock.now += 61_000;
  events.report(all);
  await until(() => server.posted.length === 6);
  await sleep(250);
  t.equal(server.posted.length, 6, 'only what the server could not take');
  t.equal((server.posted[5]!.body.involvedObject as { name: string }).name, '5');
});

t.test('bounded: in number, in pace, in length, in names', async (t) => {
  const { server, events } = await bed(t);
  const start = performance.now();
  events.report(Array.from({ length: 5000 }, (_, n) => broken(`a/p${n}`, { message: 'x'.repeat(5000) })));
  await until(() => server.posted.length >= 3);
  const ms = performance.now() - start;
  t.ok(ms > 350 && server.posted.length <= 4, `${server.posted.length} in ${Math.round(ms)} ms`);
  t.ok((server.posted[0]!.body.message as string).length <= 1001);
  events.report([]);
  const { length } = server.posted;
  await sleep(300);
  t.ok(server.posted.length <= length + 1, 'what is mended is not told');

  const names: string[] = [];
  for (const name of ['x'.repeat(253), `${'x'.repeat(199)}-${'y'.repeat(50)}`, `${'x'.repeat(198)}.-y`]) {
    const before = server.posted.length;
    events.report([broken(`a/${name}`)]);
    await until(() => server.posted.length > before);
    names.push((server.posted.at(-1)!.body.metadata as { name: string }).name);
  }
  const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
  for (const name of names) t.ok(name.length <= 253 && subdomain.test(name), name.slice(190));
});

t.test('not all nodes at the same moment; nothing after the end', async (t) => {
  const { server, make } = await bed(t, { spreadMs: 400, random: () => 0.5 });
  const events = make('n3');
  events.report([broken('a/one'), broken('a/two')]);
  await sleep(120);
  t.equal(server.posted.length, 0);
  await until(() => server.posted.length === 1);
  events.close();
  await sleep(300);
  t.equal(server.posted.length, 1);
});
