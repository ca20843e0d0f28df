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

const svc = (spec: object, status = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 's' },
  spec,
  status,
});
const slice = (name: string, endpoints: object[], ports: object[], addressType = 'IPv4') => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  addressType,
  metadata: { name, labels: { 'kubernetes.io/service-name': 's' } },
  endpoints,
  ports,
});
const service = (...objects: object[]) => {
  const snapshot = snapshotOf(yaml(...objects));
  t.same(snapshot.problems, []);
  return snapshot.services.get('default/s');
};
const backends = (...objects: object[]) =>
  service(...objects)?.ports.map((p) => p.backends.map((b) => `${b.ip}:${b.port}`).join(' '));

t.test('Service addresses', async (t) => {
  t.same(
    service(
      svc(
        {
          type: 'LoadBalancer',
          clusterIP: '10.96.0.1',
          clusterIPs: ['10.96.0.1', 'fd96::1'],
          externalIPs: ['203.0.113.1'],
          ports: [
            { name: 'http', port: 80, nodePort: 30080 },
            { name: 'dns', port: 53, protocol: 'UDP' },
          ],
        },
        {
          loadBalancer: {
            ingress: [{ ip: '203.0.113.2' }, { ip: '203.0.113.3', ipMode: 'Proxy' }, { hostname: 'lb.example' }],
          },
        },
      ),
    ),
    {
      namespace: 'default',
      name: 's',
      labels: {},
      vips: ['10.96.0.1', 'fd96::1', '203.0.113.1', '203.0.113.2'],
      ports: [
        { name: 'http', protocol: 6, port: 80, nodePort: 30080, backends: [] },
        { name: 'dns', protocol: 17, port: 53, nodePort: undefined, backends: [] },
      ],
    },
  );
  t.same(service(svc({ clusterIP: 'None', ports: [{ port: 80 }] }))?.vips, [], 'headless');
  t.equal(service(svc({ type: 'ExternalName', externalName: 'x' })), undefined);
});

t.test('EndpointSlices', async (t) => {
  const spec = {
    clusterIP: '10.96.0.1',
    ports: [
      { name: 'a', port: 80 },
      { name: 'b', port: 81 },
      { name: 'a', port: 80, protocol: 'UDP' },
    ],
  };
  t.same(
    backends(
      svc(spec),
      slice(
        's-2',
        [{ addresses: ['10.0.0.3', '10.9.9.9'] }, { addresses: ['10.0.0.2'], conditions: { ready: true } }],
        [
          { name: 'a', port: 8080 },
          { name: 'b', port: 9090 },
        ],
      ),
      slice('s-1', [{ addresses: ['10.0.0.1'] }], [{ name: 'a', port: 8081 }]),
      slice('s-3', [{ addresses: ['fd00::1'] }], [{ name: 'a', port: 8080 }], 'IPv6'),
      slice('s-4', [{ addresses: ['host.example'] }], [{ name: 'a', port: 8080 }], 'FQDN'),
    ),
    ['10.0.0.1:8081 10.0.0.2:8080 10.0.0.3:8080 fd00::1:8080', '10.0.0.2:9090 10.0.0.3:9090', ''],
  );
  const one = { clusterIP: '10.96.0.1', ports: [{ port: 80 }] };
  const state = (ip: string, conditions: object) => ({ addresses: [ip], conditions });
  const ready = state('10.0.0.1', { ready: true });
  const not = state('10.0.0.2', { ready: false });
  const draining = state('10.0.0.3', { ready: false, serving: true, terminating: true });
  const gone = state('10.0.0.4', { ready: false, serving: false, terminating: true });
  t.same(backends(svc(one), slice('x', [ready, not, draining, gone], [{ port: 1 }])), ['10.0.0.1:1']);
  t.same(
    backends(svc(one), slice('x', [not, draining, gone], [{ port: 1 }])),
    ['10.0.0.3:1'],
    'those that drain, if no other serves',
  );
  t.same(backends(svc(one), slice('x', [not], [{ port: 1 }])), ['']);
  t.same(backends(svc(one), slice('x', [state('10.0.0.5', {})], [{ port: 1 }])), ['10.0.0.5:1'], 'unknown is ready');
});

t.test('without slices: Endpoints, then the selector', async (t) => {
  const spec = { clusterIP: '10.96.0.1', selector: { app: 'db' }, ports: [{ port: 80, targetPort: 'pg' }] };
  const endpoints = {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { name: 's' },
    subsets: [{ addresses: [{ ip: '10.0.0.7' }], notReadyAddresses: [{ ip: '10.0.0.8' }], ports: [{ port: 7 }] }],
  };
  const db = (name: string, ip: string, more = {}, status = {}) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: 'db' }, ...more },
    spec: { containers: [{ ports: [{ name: 'pg', containerPort: 5000 + Number(ip.slice(-1)) }] }] },
    status: { podIP: ip, ...status },
  });
  const pods = [
    db('a', '10.0.0.1'),
    db('b', '10.0.0.2'),
    db('c', '10.0.0.3', {}, { conditions: [{ type: 'Ready', status: 'False' }] }),
    db('d', '10.0.0.4', { deletionTimestamp: '2026-01-01T00:00:00Z' }),
    db('e', '10.0.0.5', { namespace: 'other' }),
    db('f', '10.0.0.6', {}, { phase: 'Failed' }),
  ];
  t.same(backends(svc(spec), endpoints, ...pods), ['10.0.0.7:7']);
  t.same(
    backends(svc(spec), ...pods),
    ['10.0.0.1:5001 10.0.0.2:5002'],
    'the name of a target port means what each pod calls so',
  );
  t.same(backends(svc({ ...spec, publishNotReadyAddresses: true }), ...pods), [
    '10.0.0.1:5001 10.0.0.2:5002 10.0.0.3:5003 10.0.0.4:5004',
  ]);
  t.same(backends(svc({ clusterIP: '10.96.0.1', ports: [{ port: 80 }] }), ...pods), [''], 'no selector, no backends');
  t.same(
    backends(svc(spec), endpoints, slice('x', [{ addresses: ['10.0.0.9'] }], [{ port: 9 }]), ...pods),
    ['10.0.0.9:9'],
    'slices before Endpoints',
  );
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
