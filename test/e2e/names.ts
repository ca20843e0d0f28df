/**
 * Policies by name on a real cluster: the first act of a pod is a lookup and a connection by name, under default deny, with the
 * kubelet's resolv.conf (a search list, ndots 5) and a real resolver behind the cluster's DNS Service.
 */
import type { Test } from 'tap';
import { until } from '../netns/shell.js';
import type { Cluster } from './cluster.js';
import { CRDS, established } from './crds.js';
import { namespace, pod, policy } from './objects.js';
import { API, ELSEWHERE, makeOutside } from './outside.js';
import { said, saidObjects } from './said.js';

const NS = 'egress-e2e-names';
const PORTS = [{ port: '8080', protocol: 'TCP' }];
/** Kinds that this test needs the definitions of. */
const KINDS = ['CiliumNetworkPolicy', 'ClusterNetworkPolicy'];

export async function names(t: Test, cluster: Cluster): Promise<void> {
  const outside = await makeOutside(cluster);
  if (!outside) return void t.comment('left out: this cluster has a DNS of its own');
  try {
    const crds = CRDS.filter((crd) => KINDS.includes((crd as { spec: { names: { kind: string } } }).spec.names.kind));
    await cluster.apply(...crds);
    await established(cluster);
    await followed(cluster);
    const before = await policiesInForce(cluster);
    await cluster.apply(...namespace(NS), policy(NS, 'deny', {}, []), cilium(), ...clusterWide());
    await cluster.apply(...saidObjects(NS, RESOLVER));
    await inForce(cluster, before);
    await t.test('CiliumNetworkPolicy', (t) => firstActs(t, cluster, 'cilium', `cilium/${NS}/names#1`));
    await t.test('ClusterNetworkPolicy', (t) => firstActs(t, cluster, 'sig', 'cnp/e2e-names#1'));
    await t.test('what is seen of it', (t) => seen(t, cluster));
    await t.test('what connections say', (t) => said(t, cluster, NS, outside));
  } finally {
    await cluster.kubectl('delete', 'clusternetworkpolicies', '--all', '--ignore-not-found').catch(() => undefined);
    await cluster.kubectl('delete', 'namespace', NS, '--ignore-not-found');
    await cluster.kubectl('delete', 'crds', '-l', 'egress-e2e=yes', '--ignore-not-found');
    await outside.close();
  }
}

const RESOLVER = {
  matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system', 'k8s:k8s-app': 'kube-dns' },
};

/** DNS by two patterns, the cluster's own names among them: what the search list asks for. */
function cilium(): object {
  const dns = [{ matchPattern: '*.e2e.example' }, { matchPattern: '**.cluster.local' }];
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name: 'names', namespace: NS },
    spec: {
      endpointSelector: { matchLabels: { language: 'cilium' } },
      egress: [
        { toEndpoints: [RESOLVER], toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns } }] },
        { toFQDNs: [{ matchName: 'api.e2e.example' }], toPorts: [{ ports: PORTS }] },
      ],
    },
  };
}

/** It goes before the NetworkPolicy that denies everything. */
function clusterWide(): object[] {
  const ports = (protocol: string, number: number) => ({ [protocol]: { destinationPort: { number } } });
  const subject = {
    pods: {
      namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': NS } },
      podSelector: { matchLabels: { language: 'sig' } },
    },
  };
  const dns = { pods: { namespaceSelector: {}, podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } } } };
  return [
    {
      apiVersion: 'policy.networking.k8s.io/v1alpha2',
      kind: 'ClusterNetworkPolicy',
      metadata: { name: 'e2e-names' },
      spec: {
        tier: 'Admin',
        priority: 10,
        subject,
        egress: [
          { name: 'dns', action: 'Accept', to: [dns], protocols: [ports('udp', 53), ports('tcp', 53)] },
          {
            name: 'api',
            action: 'Accept',
            to: [{ domainNames: ['api.e2e.example'] }],
            protocols: [ports('tcp', 8080)],
          },
        ],
      },
    },
  ];
}

/** The agent follows both kinds. */
async function followed(cluster: Cluster): Promise<void> {
  const both = async () => {
    const text = await cluster.egressctl('status', '-o', 'json');
    return KINDS.every((kind) => text.includes(`${kind}"`));
  };
  await until('the kinds are followed', both, 30_000);
}

/** @param before policies that were in force without ours */
async function inForce(cluster: Cluster, before: number): Promise<void> {
  await until('the policies are in force', async () => (await policiesInForce(cluster)) >= before + 5, 20_000);
}

async function policiesInForce(cluster: Cluster): Promise<number> {
  const status = JSON.parse(await cluster.egressctl('status', '-o', 'json')) as { policies_in_force?: number };
  return status.policies_in_force ?? 0;
}

/** Each name by a new pod, whose first act it is. */
async function firstActs(t: Test, cluster: Cluster, language: string, rule: string): Promise<void> {
  const expected: Readonly<Record<string, RegExp>> = {
    'api.e2e.example': /^ok/,
    'www.e2e.example': /^timeout/,
    'elsewhere.e2e.example': /^timeout/,
    ...(language === 'cilium' ? { 'odd.example': /^EAI_AGAIN|^ENOTFOUND/ } : {}),
  };
  const podOf = (name: string) => `${language}-${name.split('.')[0]}`;
  const first = (name: string) =>
    pod(NS, podOf(name), {
      labels: { language },
      args: ['first', name, '8080', name.startsWith('api') ? '900' : '1500'],
    });
  await cluster.apply(...Object.keys(expected).map(first));
  for (const [name, result] of Object.entries(expected)) {
    const said = await until(
      `${podOf(name)} says something`,
      async () => (await cluster.kubectl('-n', NS, 'logs', podOf(name))).trim() || false,
      90_000,
    );
    t.match(said, result, `the first act of a pod is to connect to ${name}`);
  }
  const from = `${NS}/${podOf('api.e2e.example')}`;
  const flows = await cluster.egressctl('flows', '--last', '20', '--from-pod', from, '--to-fqdn', 'api.e2e.example');
  t.match(flows, `api.e2e.example (${API}):8080/tcp ALLOWED ${rule}`, 'egressctl flows shows the name, and the rule');
}

async function seen(t: Test, cluster: Cluster): Promise<void> {
  const denied = await cluster.egressctl('flows', '--last', '200', '--to-fqdn', 'elsewhere.e2e.example');
  t.match(denied, `elsewhere.e2e.example (${ELSEWHERE}):8080`, 'what is denied has its name too');
  t.match(denied, 'DENIED', 'and is denied');
  const known = await cluster.egressctl('names', '--name', 'api.e2e.example');
  t.match(known, API, 'egressctl names knows the address');
  t.match(known, `${NS}/cilium-api`, 'and the pod that learned it');
  // Reports of queries come some time after the answer that the pod has got already.
  const blocked = await until('the query that was refused', async () => {
    const told = await cluster.egressctl('flows', '--last', '200', '--from-pod', `${NS}/cilium-odd`);
    return told.includes('odd.example') && told;
  });
  t.match(blocked, 'odd.example', 'a query that was refused is told of');
}
