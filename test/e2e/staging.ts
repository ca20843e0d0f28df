/** A policy is staged, what it would deny is counted, it is corrected, enforced and undone: by egressctl alone. */
import { join } from 'node:path';
import type { Test } from 'tap';
import { compiled, type Output, run, until } from '../netns/shell.js';
import { CRDS, established } from './crds.js';
import type { Cluster } from './cluster.js';
import { byName, policy } from './objects.js';
import { SHOP, settled, type World } from './world.js';

const POLICY = `np/${SHOP}/staged`;

interface ImpactJson {
  readonly stage: string;
  readonly generation: string;
  readonly connections: number;
  readonly judged: number;
  readonly earlier: number;
  readonly missing: readonly string[];
  readonly denied: readonly { readonly workload: string; readonly flows: readonly { readonly rule: string }[] }[];
}

export async function staging(t: Test, cluster: Cluster, { client, ip }: World): Promise<void> {
  const main = join(compiled, 'src/cli/main.js');
  const ctl = (...args: string[]): Promise<Output> =>
    run(process.execPath, [main, '--kubeconfig', cluster.place.kubeconfig, ...args], { check: false });
  const done = async (...args: string[]) => {
    const { status, stdout, stderr } = await ctl(...args);
    t.equal(status, 0, args.join(' '), { stdout, stderr });
    return stdout;
  };
  const impact = async () => JSON.parse(await done('impact', POLICY, '--days', '0', '-o', 'json')) as ImpactJson;
  const counted = async (what: string, is: (i: ImpactJson) => boolean) => {
    let last: ImpactJson | undefined;
    const isSo = async () =>
      is((last = JSON.parse((await ctl('impact', POLICY, '--days', '0', '-o', 'json')).stdout || '{}')));
    await until(what, isSo, 30_000).catch(() => t.comment(JSON.stringify(last)));
    return last as ImpactJson;
  };
  const call = (name: string) => client.tcp(ip(name), 8080, 700);
  // A Secret that was made after the agents started reaches their files when kubelet looks again.
  await until('the agents listen', async () => (await ctl('status')).status === 0, 150_000);

  const put = (...names: string[]) =>
    cluster.apply(policy(SHOP, 'staged', { matchLabels: { name: 'client' } }, [{ to: names.map(byName) }]));
  await put('web-1');
  t.equal(await settled('in force', 'timeout', () => call('db')), 'timeout', 'a policy is in force');
  t.match(await done('stage', POLICY, '--dry-run'), /dry run/);
  t.match(await call('db'), /timeout/, 'a dry run changes nothing');
  await done('stage', POLICY);
  t.equal(await settled('staged', 'ok', () => call('db')), 'ok', 'once it is staged, everything passes');

  const first = await counted('it would have denied', ({ connections, judged }) => connections > 0 && judged >= 0);
  t.match(first, { stage: 'staged', denied: [{ workload: `${SHOP}/client`, flows: [{ rule: `${POLICY}#default` }] }] });
  const refused = await ctl('enforce', POLICY, '--days', '0');
  t.equal(refused.status, 3, 'it is not enforced');
  t.match(refused.stderr, new RegExp(`${SHOP}/client`), 'and whom it would deny is named');
  t.match(await call('db'), /^ok/);
  t.equal((await ctl('enforce', POLICY)).status, 3);

  await put('web-1', 'db');
  const second = await counted('the edit', ({ generation, earlier }) => generation !== first.generation && earlier > 0);
  t.equal(second.connections, 0, 'an edit begins the count anew');
  t.match(await call('db'), /^ok/);
  const third = await counted('what it allows', ({ judged }) => judged > 0);
  t.match(third, { stage: 'ready', connections: 0, missing: [] });
  t.equal((await ctl('impact', POLICY, '--exit-code')).status, 3, 'a week has not passed');

  await done('enforce', POLICY, '--days', '0');
  t.equal(await settled('enforced', 'timeout', () => call('web-2')), 'timeout', 'it is enforced');
  t.match(await call('db'), /^ok/, 'as it was corrected');
  t.equal((await impact()).stage, 'enforced');

  const activity = JSON.parse(await done('activity', POLICY, '-o', 'json')) as {
    policies: {
      staged: boolean;
      connections: number;
      earlier: { connections: number };
      rules: { connections: number }[];
    }[];
  };
  t.match(activity.policies, [{ staged: false }]);
  t.ok((activity.policies[0]?.rules[0]?.connections ?? 0) > 0, 'its rule has decided', activity);
  t.ok((activity.policies[0]?.earlier.connections ?? 0) > 0, 'and so did its earlier content', activity);

  await done('undo', POLICY);
  t.equal(await settled('undone', 'ok', () => call('web-2')), 'ok', 'it is staged again');
  t.equal((await ctl('undo', POLICY)).status, 2, 'once');
  const events = await cluster.json<{ items: { reason: string; message: string; involvedObject: { name: string } }[] }>(
    ...['-n', SHOP, 'get', 'events', '--field-selector', 'involvedObject.kind=NetworkPolicy'],
  );
  const own = events.items.filter((e) => e.involvedObject.name === 'staged').map((e) => e.reason);
  t.same(own.sort(), ['Enforced', 'Staged', 'Undone'], 'each step is an Event');
  await cluster.kubectl('-n', SHOP, 'delete', 'networkpolicy', 'staged');
  await stagedKinds(t, cluster, done);
}

/** Calico's Staged kinds are objects of their own. */
async function stagedKinds(t: Test, cluster: Cluster, done: (...args: string[]) => Promise<string>): Promise<void> {
  const kinds = ['StagedNetworkPolicy', 'NetworkPolicy', 'GlobalNetworkPolicy', 'Tier'];
  const crds = CRDS.filter((crd) => {
    const { group, names } = (crd as { spec: { group: string; names: { kind: string } } }).spec;
    return group === 'crd.projectcalico.org' && kinds.includes(names.kind);
  });
  await cluster.apply(...crds);
  t.teardown(async () => {
    await cluster.kubectl('delete', 'crds', '-l', 'egress-e2e=yes', '--ignore-not-found');
  });
  await established(cluster);
  const spec = (order: number) => ({
    order,
    selector: "name == 'db'",
    types: ['Egress'],
    egress: [{ action: 'Allow' }],
  });
  const object = (kind: string, order: number) => ({
    apiVersion: 'crd.projectcalico.org/v1',
    kind,
    metadata: { namespace: SHOP, name: 'default.db' },
    spec: spec(order),
  });
  const names = async () =>
    (
      await cluster.kubectl(
        '-n',
        SHOP,
        'get',
        'stagednetworkpolicies.crd.projectcalico.org,networkpolicies.crd.projectcalico.org',
        '-o',
        'jsonpath={range .items[*]}{.kind} {.spec.order}{"\\n"}{end}',
      )
    )
      .trim()
      .split('\n')
      .sort();
  const name = `calico/${SHOP}/default.db`;
  await cluster.apply(object('NetworkPolicy', 1), object('StagedNetworkPolicy', 2));
  t.same(await names(), ['NetworkPolicy 1', 'StagedNetworkPolicy 2']);
  await until(
    'the agents know it',
    async () => /Staged/.test(await done('activity', name, '-o', 'json').catch(() => '')),
    30_000,
  );
  await done('enforce', name, '--days', '0');
  t.same(await names(), ['NetworkPolicy 2'], 'the staged one takes the place of the other');
  await done('undo', name);
  t.same(await names(), ['NetworkPolicy 1', 'StagedNetworkPolicy 2'], 'and gives it back');
}
