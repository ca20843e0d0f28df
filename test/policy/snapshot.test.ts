import t from 'tap';
import { snapshotOf } from './world.js';

const yaml = (...objects: object[]) => objects.map((o) => `---\n${JSON.stringify(o)}\n`).join('');
const errors = (text: string) =>
  snapshotOf(text).problems.map((p) => `${p.where.object}: ${p.where.field}: ${p.message}`);

t.test('pods', async (t) => {
  const snapshot = snapshotOf(
    yaml(
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: {
          name: 'web-5d4f8-x',
          uid: 'u1',
          labels: { app: 'web', 'pod-template-hash': '5d4f8' },
          annotations: { 'egress-agent.io/netns': 'web' },
          ownerReferences: [
            { kind: 'Other', name: 'x' },
            { kind: 'ReplicaSet', name: 'web-5d4f8', controller: true },
          ],
        },
        spec: {
          nodeName: 'node-a',
          serviceAccountName: 'sa',
          containers: [
            { ports: [{ name: 'http', containerPort: 80 }] },
            { ports: [{ containerPort: 53, protocol: 'UDP' }] },
          ],
          initContainers: [
            { ports: [{ containerPort: 1 }] },
            { restartPolicy: 'Always', ports: [{ name: 'side', containerPort: 2 }] },
          ],
        },
        status: { podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }, { ip: 'FD00::1' }] },
      },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { namespace: 'x', name: 'done' },
        status: { phase: 'Succeeded', podIP: '10.0.0.2' },
      },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'job', ownerReferences: [{ kind: 'Job', name: 'backup-28391040' }] },
      },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'own', ownerReferences: [{ kind: 'ReplicaSet', name: 'own-set', controller: true }] },
      },
    ),
  );
  t.same(snapshot.problems, []);
  t.same(snapshot.pods.get('default/web-5d4f8-x'), {
    uid: 'u1',
    namespace: 'default',
    name: 'web-5d4f8-x',
    labels: { app: 'web', 'pod-template-hash': '5d4f8' },
    annotations: { 'egress-agent.io/netns': 'web' },
    ips: ['10.0.0.1', 'fd00::1'],
    nodeName: 'node-a',
    serviceAccount: 'sa',
    hostNetwork: false,
    ended: false,
    ports: [
      { name: 'http', protocol: 6, port: 80 },
      { name: undefined, protocol: 17, port: 53 },
      { name: 'side', protocol: 6, port: 2 },
    ],
    workload: { kind: 'Deployment', name: 'web' },
  });
  t.match(snapshot.pods.get('x/done'), {
    ended: true,
    ips: [],
    uid: 'x/done',
    serviceAccount: 'default',
    workload: undefined,
  });
  t.same(snapshot.pods.get('default/job')?.workload, { kind: 'CronJob', name: 'backup' });
  t.same(snapshot.pods.get('default/own')?.workload, { kind: 'ReplicaSet', name: 'own-set' });
});

t.test('owners of pods: names, and nothing else', async (t) => {
  const owned = (owner: object) => {
    const metadata = { name: 'web', ownerReferences: [owner] };
    return snapshotOf(yaml({ apiVersion: 'v1', kind: 'Pod', metadata })).pods.get('default/web')?.workload;
  };
  t.same(owned({ kind: 'Node', name: 'ip-10-0-0-1.ec2.internal' }), { kind: 'Node', name: 'ip-10-0-0-1.ec2.internal' });
  // The API server takes all of these.
  for (const name of ['a'.repeat(254), '../../etc', '..', 'a\nb', '\u001b[2J', 'shop/web', 'a b'])
    t.equal(owned({ kind: 'Deployment', name }), undefined, JSON.stringify(name.slice(0, 20)));
  for (const kind of ['K'.repeat(64), 'a\nb', 'a/b', '-x'])
    t.equal(owned({ kind, name: 'web' }), undefined, JSON.stringify(kind.slice(0, 20)));
});

t.test('namespaces and nodes', async (t) => {
  const snapshot = snapshotOf(
    yaml(
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a', labels: { x: 'y' } } },
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'b', deletionTimestamp: '2026-01-01T00:00:00Z' } },
      {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name: 'n' },
        status: {
          addresses: [
            { type: 'InternalIP', address: 'fd00:0::1' },
            { type: 'Hostname', address: 'n' },
            { type: 'ExternalIP', address: '1.2.3.4' },
          ],
        },
      },
    ),
    ['192.168.0.1', 'fe80::1%eth0', 'FD00::2'],
  );
  t.same(snapshot.namespaces.get('a')?.labels, { x: 'y', 'kubernetes.io/metadata.name': 'a' });
  t.equal(snapshot.namespaces.get('b')?.terminating, true);
  t.same(snapshot.nodes.get('n')?.ips, ['fd00::1', '1.2.3.4']);
  t.same(snapshot.ownNode, { name: 'node-a', ips: ['192.168.0.1', 'fd00::2'] });
});

t.test('objects that are wrong', async (t) => {
  t.same(errors('kind: Pod\n'), [
    'undefined: apiVersion: is not a Kubernetes object: apiVersion and kind must be strings',
  ]);
  t.same(errors(yaml({ apiVersion: 'v1', kind: 'Pod', metadata: { generateName: 'x-' } })), [
    'Pod default/: metadata.name: must be a name',
  ]);
  const wrong = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', labels: { version: 1, 'a/b': true } },
    spec: { hostNetwork: 'yes', containers: { a: 1 } },
    status: { podIP: '010.0.0.1' },
  };
  t.same(errors(yaml(wrong)), [
    'Pod default/p: metadata.labels.version: must be a string',
    'Pod default/p: metadata.labels["a/b"]: must be a string',
    'Pod default/p: status.podIP: "010.0.0.1" is not an IP address',
    'Pod default/p: spec.hostNetwork: must be true or false',
    'Pod default/p: spec.containers: must be a list',
  ]);
  t.same(
    snapshotOf(yaml(wrong)).pods.get('default/p')?.labels,
    { version: '1', 'a/b': 'true' },
    'labels count as the text they look like',
  );
});

t.test('duplicates: the first counts', async (t) => {
  const named = (app: string) => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', labels: { app } } });
  const snapshot = snapshotOf(yaml(named('a'), named('b')));
  t.equal(snapshot.pods.get('default/p')?.labels.app, 'a');
  t.match(snapshot.problems, [
    {
      severity: 'error',
      where: { document: 1, object: 'Pod default/p' },
      message: 'is defined a second time; the first, in test.yaml (document 1), counts',
    },
  ]);
});

t.test('other kinds are named once', async (t) => {
  const other = (kind: string, apiVersion = 'v1') => ({ apiVersion, kind, metadata: { name: 'x' } });
  const snapshot = snapshotOf(
    yaml(
      other('ConfigMap'),
      other('ConfigMap'),
      other('NetworkPolicy', 'example.com/v3'),
      other('NetworkPolicy', 'networking.k8s.io/v1'),
    ),
  );
  t.same(
    snapshot.problems.map((p) => `${p.severity} ${p.message}`),
    [
      'warning objects of kind ConfigMap (v1) are not read and have no effect',
      'warning objects of kind NetworkPolicy (example.com/v3) are not read and have no effect',
    ],
  );
  t.equal(snapshot.policies.length, 1);
});
