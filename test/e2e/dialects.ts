/** Every policy language, as objects of a real cluster: by packet, by flow and by explain; and what becomes of what is not enforced. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { compiled, run, until } from '../netns/shell.js';
import type { Cluster } from './cluster.js';
import { CRDS, established, FQDN_CRD } from './crds.js';
import { Judge, OUTSIDE } from './judge.js';
import { policy } from './objects.js';
import { SHOP, type World } from './world.js';

const NAME = 'egress-e2e';
const CLIENT = { matchLabels: { name: 'client' } };
const NP = `np/${SHOP}/main`;

/** @param namespaced in the namespace of the pods; otherwise cluster-wide */
function object(apiVersion: string, kind: string, namespaced: boolean, name: string, spec: object, more: object = {}) {
  const metadata = { name, ...(namespaced ? { namespace: SHOP } : {}), ...more };
  return { apiVersion, kind, metadata, spec };
}

const sig = (kind: string, spec: object, version = 'v1alpha1', name = NAME) => {
  const subject = { pods: { namespaceSelector: { matchLabels: { team: 'shop' } }, podSelector: CLIENT } };
  return object(`policy.networking.k8s.io/${version}`, kind, false, name, { subject, ...spec });
};
const pods = (name: string) => ({ pods: { namespaceSelector: {}, podSelector: { matchLabels: { name } } } });
const calico = (kind: string, name: string, spec: object, more: object = {}) =>
  object('crd.projectcalico.org/v1', kind, !/^(Global|StagedGlobal|Tier)/.test(kind), name, spec, more);
const cilium = (kind: string, name: string, spec: object) =>
  object('cilium.io/v2', kind, kind === 'CiliumNetworkPolicy', name, spec);
/** A NetworkPolicy that allows the client everything. */
const everything = policy(SHOP, 'main', CLIENT, [{}]);

export async function dialects(t: Test, cluster: Cluster, world: World): Promise<void> {
  const judge = await Judge.of(cluster, world);
  const scene: Scene = { cluster, world, judge };
  try {
    await t.test('definitions that come while the agent runs', (t) => install(t, scene, CRDS));
    await cluster.apply(everything);
    await judge.allowed(t, 'web-1', `${NP}#0`, 'a NetworkPolicy');
    await t.test('ClusterNetworkPolicy', (t) => clusterWide(t, scene));
    await t.test('AdminNetworkPolicy', (t) => admin(t, scene));
    await t.test('Calico', (t) => calicos(t, scene));
    await t.test('Cilium', (t) => ciliums(t, scene));
    await remove(cluster, 'networkpolicies.networking.k8s.io/main');
    await t.test('ApplicationNetworkPolicy', (t) => application(t, scene));
    await t.test('what is not enforced', (t) => notEnforced(t, scene));
    await t.test('FQDNNetworkPolicy, and a definition that goes', (t) => fqdn(t, scene));
    await t.test('policies that are only watched', (t) => audit(t, scene));
  } finally {
    judge.close();
    await cluster.kubectl('-n', SHOP, 'delete', 'networkpolicies.networking.k8s.io', '--all');
    await cluster.kubectl('delete', 'crds', '-l', 'egress-e2e=yes', '--ignore-not-found');
  }
}

interface Scene {
  readonly cluster: Cluster;
  readonly world: World;
  readonly judge: Judge;
}

async function remove(cluster: Cluster, ...names: string[]): Promise<void> {
  await cluster.kubectl('-n', SHOP, 'delete', '--wait=false', ...names);
}

/** Which kinds the agent follows. */
async function kindsOf(judge: Judge): Promise<string[]> {
  const { api } = await judge.status();
  return (api?.kinds ?? []).filter((k) => k.synced).map((k) => k.kind);
}

async function install(t: Test, { cluster, judge }: Scene, crds: readonly object[]): Promise<void> {
  await cluster.apply(...crds);
  await established(cluster);
  for (const crd of crds as readonly {
    spec: { group: string; versions: { name: string }[]; names: { kind: string } };
  }[]) {
    const { group, versions, names } = crd.spec;
    const kind = `${group}/${versions[0]?.name} ${names.kind}`;
    const followed = await until(kind, async () => (await kindsOf(judge)).includes(kind), 30_000).catch(() => false);
    t.ok(followed, `${kind} is followed`);
  }
}

async function clusterWide(t: Test, { cluster, judge }: Scene): Promise<void> {
  const put = (tier: string, action: string, name = 'no web') =>
    cluster.apply(
      sig('ClusterNetworkPolicy', { tier, priority: 10, egress: [{ name, action, to: [pods('web-1')] }] }, 'v1alpha2'),
    );
  await put('Admin', 'Deny');
  await judge.denied(t, 'web-1', `cnp/${NAME}#0 "no web"`, 'Admin Deny goes before a NetworkPolicy');
  await judge.shown(t, 'web-1', 'DENIED', `cnp/${NAME}#0 "no web"`);
  await judge.allowed(t, 'db', `${NP}#0`, 'others are not concerned');
  await put('Admin', 'Pass', 'as they like');
  await judge.allowed(t, 'web-1', `${NP}#0`, 'Pass leaves it to the NetworkPolicy');
  await put('Baseline', 'Deny', 'no web by default');
  await judge.allowed(t, 'web-1', `${NP}#0`, 'Baseline comes after the NetworkPolicy');
  await remove(cluster, 'networkpolicies.networking.k8s.io/main');
  await judge.denied(t, 'web-1', `cnp/${NAME}#0 "no web by default"`, 'and decides where there is none');
  await cluster.apply(everything);
  await remove(cluster, `clusternetworkpolicies/${NAME}`);
}

async function admin(t: Test, { cluster, judge }: Scene): Promise<void> {
  const egress = [
    { name: 'no db', action: 'Deny', to: [pods('db')], ports: [{ portNumber: { protocol: 'TCP', port: 8080 } }] },
  ];
  await cluster.apply(sig('AdminNetworkPolicy', { priority: 5, egress }));
  await judge.denied(t, 'db', `anp/${NAME}#0 "no db"`, 'AdminNetworkPolicy');
  await remove(cluster, `adminnetworkpolicies/${NAME}`, 'networkpolicies.networking.k8s.io/main');
  await cluster.apply(sig('BaselineAdminNetworkPolicy', { egress }, 'v1alpha1', 'default'));
  await judge.denied(t, 'db', 'banp/default#0 "no db"', 'BaselineAdminNetworkPolicy');
  await cluster.apply(everything);
  await judge.allowed(t, 'db', `${NP}#0`, 'it comes after the NetworkPolicy');
  await remove(cluster, 'baselineadminnetworkpolicies/default');
}

async function calicos(t: Test, { cluster, world, judge }: Scene): Promise<void> {
  const before = await judge.status();
  const gnp = (name: string, order: number, egress: object[]) => {
    const whom = { selector: "name == 'client'", namespaceSelector: "team == 'shop'" };
    return calico('GlobalNetworkPolicy', `e2e.${name}`, { tier: 'e2e', order, ...whom, types: ['Egress'], egress });
  };
  const set = (kind: string, pod: string) =>
    calico(kind, 'places', { nets: [`${world.ip(pod)}/32`] }, { labels: { e2e: kind.toLowerCase() } });
  const toSet = (kind: string) => ({ action: 'Deny', destination: { selector: `e2e == '${kind.toLowerCase()}'` } });
  await cluster.apply(
    calico('Tier', 'e2e', { order: 500, defaultAction: 'Deny' }),
    set('NetworkSet', 'web-1'),
    set('GlobalNetworkSet', 'db'),
    gnp('deny', 20, [toSet('NetworkSet'), toSet('GlobalNetworkSet')]),
    gnp('pass', 30, [{ action: 'Pass', destination: { selector: "app in {'web', 'db'}" } }]),
  );
  await judge.denied(t, 'web-1', 'gnp/e2e.deny#0', 'a tier of its own goes before the default tier; a NetworkSet');
  await judge.denied(t, 'db', 'gnp/e2e.deny#1', 'a GlobalNetworkSet');
  await judge.shown(t, 'db', 'DENIED', 'gnp/e2e.deny#1');
  await judge.allowed(t, 'web-2', `${NP}#0`, 'Pass goes on with the next tier');
  await judge.denied(t, OUTSIDE, 'gnp/e2e.deny#default', 'the tier’s default');
  await cluster.apply(set('NetworkSet', 'web-2'));
  await judge.denied(t, 'web-2', 'gnp/e2e.deny#0', 'the set has another address');
  await judge.allowed(t, 'web-1', `${NP}#0`, 'and not the one it had');
  await cluster.apply(gnp('pass', 10, [{ action: 'Pass', destination: { selector: "app in {'web', 'db'}" } }]));
  await judge.allowed(t, 'web-2', `${NP}#0`, 'a smaller order goes first');
  const status = await judge.status();
  t.equal(
    (status.policies_in_force ?? 0) - (before.policies_in_force ?? 0),
    2,
    'two policies more; tiers and sets are none',
  );
  await cluster.apply(
    calico('NetworkPolicy', 'default.main', {
      order: 10,
      selector: "name == 'client'",
      types: ['Egress'],
      egress: [{ action: 'Deny', protocol: 'TCP', destination: { selector: "name == 'web-1'", ports: ['8080:8081'] } }],
    }),
  );
  await judge.denied(
    t,
    'web-1',
    `calico/${SHOP}/default.main#0`,
    'in the default tier, before a NetworkPolicy’s order',
  );
  await remove(
    cluster,
    'globalnetworkpolicies/e2e.deny',
    'globalnetworkpolicies/e2e.pass',
    'networkpolicies.crd.projectcalico.org/default.main',
    'tiers/e2e',
  );
  await judge.allowed(t, 'web-1', `${NP}#0`, 'without them');
}

async function ciliums(t: Test, { cluster, world, judge }: Scene): Promise<void> {
  const to = (name: string, place = SHOP) => ({
    toEndpoints: [{ matchLabels: { 'k8s:name': name, 'k8s:io.kubernetes.pod.namespace': place } }],
  });
  const main = (more: object) => cilium('CiliumNetworkPolicy', NAME, { endpointSelector: CLIENT, ...more });
  await cluster.apply(main({ egressDeny: [to('web-1')] }));
  await judge.denied(
    t,
    'web-1',
    `cilium/${SHOP}/${NAME}#0 "egressDeny[0]"`,
    'egressDeny over what a NetworkPolicy allows',
  );
  await judge.shown(t, 'web-1', 'DENIED', `cilium/${SHOP}/${NAME}#0 "egressDeny[0]"`);
  await judge.allowed(t, 'db', `${NP}#0`, 'their allows unite');
  await remove(cluster, 'networkpolicies.networking.k8s.io/main');
  await judge.denied(t, 'db', `cilium/${SHOP}/${NAME}#default`, 'egressDeny isolates');
  await cluster.apply(
    cilium('CiliumClusterwideNetworkPolicy', NAME, {
      endpointSelector: { matchLabels: { 'k8s:name': 'client', 'k8s:io.kubernetes.pod.namespace': SHOP } },
      egress: [{ ...to('db'), toPorts: [{ ports: [{ port: '8080', protocol: 'TCP' }] }] }],
    }),
  );
  await judge.allowed(t, 'db', `ccnp/${NAME}#0 "egress[0]"`, 'a clusterwide policy');

  // A group that changes while the client goes on connecting.
  const group = (cidr: string) => cilium('CiliumCIDRGroup', NAME, { externalCIDRs: [cidr] });
  await cluster.apply(group('198.51.100.0/24'), main({ egress: [{ toCIDRSet: [{ cidrGroupRef: NAME }] }] }));
  const handle = await world.client.ask<number>('steady', { host: OUTSIDE, port: 8080, timeout: 100, everyMs: 50 });
  await judge.denied(t, OUTSIDE, `ccnp/${NAME}#default`, 'outside of the group');
  await cluster.apply(group('203.0.113.0/24'));
  await judge.allowed(t, OUTSIDE, `cilium/${SHOP}/${NAME}#0 "egress[0]"`, 'the group changed under traffic');
  await remove(cluster, `ciliumcidrgroups/${NAME}`);
  await judge.denied(t, OUTSIDE, `ccnp/${NAME}#default`, 'a group that is gone has no addresses');
  await world.client.ask('stop', { handle });
  await cluster.apply(everything);
  await remove(cluster, `ciliumnetworkpolicies/${NAME}`, `ciliumclusterwidenetworkpolicies/${NAME}`);
}

async function application(t: Test, { cluster, judge }: Scene): Promise<void> {
  const to = [{ podSelector: { matchLabels: { name: 'db' } } }, { domainNames: ['*.example.com'] }];
  await cluster.apply(
    object('networking.k8s.aws/v1alpha1', 'ApplicationNetworkPolicy', true, NAME, {
      podSelector: CLIENT,
      policyTypes: ['Egress'],
      egress: [{ to, ports: [{ port: 8080 }] }],
    }),
  );
  await judge.allowed(t, 'db', `appnp/${SHOP}/${NAME}#0`, 'a pod');
  await judge.denied(t, 'web-1', `appnp/${SHOP}/${NAME}#default`, 'it isolates');
  await judge.denied(t, OUTSIDE, `appnp/${SHOP}/${NAME}#default`, 'an address that was learned for no name');
  await remove(cluster, `applicationnetworkpolicies/${NAME}`);
}

/** Event, status and validate name the field. */
async function named(t: Test, { cluster, judge }: Scene, resource: string, kind: string, field: string): Promise<void> {
  interface Event {
    reason: string;
    message: string;
    type: string;
    involvedObject: { kind: string; fieldPath?: string };
  }
  const event = await until(
    'the Event',
    async () => {
      const selector = `involvedObject.name=${NAME},involvedObject.kind=${kind}`;
      const { items } = await cluster.json<{ items: Event[] }>('get', 'events', '-A', '--field-selector', selector);
      return items.find((e) => e.involvedObject.fieldPath === field);
    },
    20_000,
  ).catch(() => undefined);
  t.match(event, { reason: 'PolicyRefused', type: 'Warning', message: field }, `${kind}: an Event names ${field}`);
  const status = await judge.ctl('status');
  t.ok(
    status.stdout.split('\n').some((line) => line.includes(`${kind} ${SHOP}/${NAME}`) && line.includes(field)),
    `${kind}: status names it\n${status.stdout}`,
  );
  t.match(await judge.status(), { policies_refused: 1 }, `${kind}: it is counted as refused`);
  const dir = mkdtempSync(join(tmpdir(), 'egress-e2e-'));
  try {
    writeFileSync(
      join(dir, 'policy.yaml'),
      await cluster.kubectl('-n', SHOP, 'get', `${resource}/${NAME}`, '-o', 'yaml'),
    );
    const main = join(compiled, 'src/cli/main.js');
    const { status: code, stdout } = await run(process.execPath, [main, 'validate', dir], { check: false });
    t.not(code, 0, `${kind}: validate fails`);
    t.match(stdout, field, `${kind}: and names it`);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

async function notEnforced(t: Test, scene: Scene): Promise<void> {
  const { cluster, judge } = scene;
  await judge.allowed(t, 'web-1', undefined, 'no policy');
  const ports = [{ port: '8080', protocol: 'TCP' }];
  const egress = [{ toEntities: ['all'], toPorts: [{ ports, rules: { l7proto: 'memcache' } }] }];
  await cluster.apply(cilium('CiliumNetworkPolicy', NAME, { endpointSelector: CLIENT, egress }));
  await judge.denied(
    t,
    'web-1',
    `cilium/${SHOP}/${NAME}#default`,
    'a rule with a field that is not enforced allows nothing',
  );
  await named(t, scene, 'ciliumnetworkpolicies', 'CiliumNetworkPolicy', 'spec.egress[0].toPorts[0].rules.l7proto');
  await remove(cluster, `ciliumnetworkpolicies/${NAME}`);
}

async function fqdn(t: Test, scene: Scene): Promise<void> {
  const { cluster, judge } = scene;
  await install(t, scene, [FQDN_CRD]);
  await cluster.apply(
    object('networking.gke.io/v1alpha1', 'FQDNNetworkPolicy', true, NAME, {
      podSelector: CLIENT,
      egress: [{ matches: [{ name: 'no name' }], ports: [{ protocol: 'TCP', port: 443 }] }],
    }),
  );
  await judge.denied(t, 'web-1', `fqdn/${SHOP}/${NAME}#default`, 'it isolates, and allows nothing');
  await judge.shown(t, 'web-1', 'DENIED', `fqdn/${SHOP}/${NAME}#default`);
  await named(t, scene, 'fqdnnetworkpolicies', 'FQDNNetworkPolicy', 'spec.egress[0].matches[0].name');
  await cluster.kubectl('delete', 'crds/fqdnnetworkpolicies.networking.gke.io');
  await judge.allowed(t, 'web-1', undefined, 'with its definition the policy ends');
  const gone = async () => !(await kindsOf(judge)).some((kind) => kind.includes('FQDNNetworkPolicy'));
  t.ok(await until('the kind is gone', gone, 40_000).catch(() => false), 'and the kind is followed no longer');
  t.equal((await judge.status()).policies_refused ?? 0, 0, 'nothing is refused any more');
}

async function audit(t: Test, { cluster, judge }: Scene): Promise<void> {
  const ENFORCEMENT = 'egress-agent.io/enforcement';
  const watched = policy(SHOP, 'main', CLIENT, []) as { metadata: object };
  const metadata = { ...watched.metadata, annotations: { [ENFORCEMENT]: 'audit' } };
  await cluster.apply({ ...watched, metadata });
  await judge.audited(t, 'web-1', `${NP}#default`, 'a policy with the annotation');
  await judge.shown(t, 'web-1', 'AUDIT', `${NP}#default`);
  await cluster.apply(watched);
  await judge.denied(t, 'web-1', `${NP}#default`, 'without it');
  await cluster.kubectl('annotate', 'namespace', SHOP, `${ENFORCEMENT}=audit`);
  await judge.audited(t, 'web-1', `${NP}#default`, 'a namespace with the annotation');
  await cluster.kubectl('annotate', 'namespace', SHOP, `${ENFORCEMENT}-`);
  await judge.denied(t, 'web-1', `${NP}#default`, 'without it again');
  await remove(cluster, 'networkpolicies.networking.k8s.io/main');
  await cluster.apply(
    calico('StagedNetworkPolicy', 'default.staged', {
      selector: "name == 'client'",
      types: ['Egress'],
      egress: [{ action: 'Deny', destination: { selector: "name == 'web-1'" } }],
    }),
  );
  await judge.audited(t, 'web-1', `snp/${SHOP}/default.staged#0`, 'a staged policy of Calico');
  await remove(cluster, 'stagednetworkpolicies/default.staged');
}
