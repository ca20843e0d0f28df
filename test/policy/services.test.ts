/** Services and what stands behind them, as kube-proxy sees both. */
import t from 'tap';
import { readEntry } from '../../src/identity/entry.js';
import { snapshotOf } from './world.js';

const yaml = (...objects: object[]) => objects.map((o) => `---\n${JSON.stringify(o)}\n`).join('');
const errors = (text: string) =>
  snapshotOf(text).problems.map((p) => `${p.where.object}: ${p.where.field}: ${p.message}`);

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
      external: ['203.0.113.1', '203.0.113.2'],
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

const PROXY = 'service.kubernetes.io/service-proxy-name';
const HEADLESS = 'service.kubernetes.io/headless';
const labelled = (object: { metadata: { name: string; labels?: object } }, label: string) => ({
  ...object,
  metadata: { ...object.metadata, labels: { ...object.metadata.labels, [label]: '' } },
});

t.test('Services that kube-proxy passes over have backends, and no addresses', async (t) => {
  const spec = { type: 'NodePort', externalIPs: ['203.0.113.1'], ports: [{ port: 80, nodePort: 30080 }] };
  const status = { loadBalancer: { ingress: [{ ip: '203.0.113.2' }] } };
  const listed = slice('x', [{ addresses: ['10.0.0.1'] }], [{ port: 8080 }]);
  const proxied = { ...spec, clusterIP: '10.96.0.1' };
  const none: [string, object][] = [
    ['None', svc({ ...spec, clusterIP: 'None' }, status)],
    ['None, both fields', svc({ ...spec, clusterIP: 'None', clusterIPs: ['None'] }, status)],
    ['None, the other field', svc({ ...spec, clusterIPs: ['None'] }, status)],
    ['empty', svc({ ...spec, clusterIP: '' }, status)],
    ['absent', svc(spec, status)],
    ['of another proxy', labelled(svc(proxied, status), PROXY)],
    ['labelled as headless', labelled(svc(proxied, status), HEADLESS)],
  ];
  for (const [what, object] of none) {
    for (const behind of [listed, labelled(listed, HEADLESS), labelled(listed, PROXY)]) {
      const found = service(object, behind);
      t.same(found?.vips, [], what);
      t.same(found?.ports, [
        { name: undefined, protocol: 6, port: 80, nodePort: undefined, backends: [{ ip: '10.0.0.1', port: 8080 }] },
      ]);
    }
  }
  t.same(service(svc(proxied, status), listed)?.vips, ['10.96.0.1', '203.0.113.1', '203.0.113.2']);
  t.same(backends(svc(proxied), labelled(listed, HEADLESS)), [''], 'slices likewise');
  t.same(backends(svc(proxied), labelled(listed, PROXY)), ['']);
  const other = slice('y', [{ addresses: ['10.0.0.2'] }], [{ port: 8080 }]);
  t.same(backends(svc(proxied), labelled(listed, PROXY), other), ['10.0.0.2:8080']);
  const endpoints = {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { name: 's' },
    subsets: [{ addresses: [{ ip: '10.0.0.7' }], ports: [{ port: 7 }] }],
  };
  t.same(backends(svc(proxied), endpoints), ['10.0.0.7:7']);
  t.same(backends(svc(proxied), labelled(endpoints, HEADLESS)), ['']);
});

t.test('conditions that are not there; choosing on one node alone', async (t) => {
  const spec = { clusterIP: '10.96.0.1', ports: [{ port: 80 }] };
  const state = (ip: string, conditions: object) => ({ addresses: [ip], conditions });
  const draining = state('10.0.0.2', { ready: false, terminating: true });
  t.same(backends(svc(spec), slice('x', [draining], [{ port: 1 }])), ['10.0.0.2:1'], 'serving');
  t.same(
    backends(svc(spec), slice('x', [state('10.0.0.2', { ready: false })], [{ port: 1 }])),
    [''],
    'not terminating',
  );
  const both = slice('x', [state('10.0.0.1', {}), draining], [{ port: 1 }]);
  t.same(backends(svc(spec), both), ['10.0.0.1:1']);
  for (const which of ['internalTrafficPolicy', 'externalTrafficPolicy'])
    t.same(backends(svc({ ...spec, [which]: 'Local' }), both), ['10.0.0.1:1 10.0.0.2:1'], which);
});

t.test('leading zeros, as kube-proxy reads them', async (t) => {
  const status = { loadBalancer: { ingress: [{ ip: '203.0.113.010' }] } };
  const spec = {
    clusterIP: '010.096.0.010',
    clusterIPs: ['010.096.0.010', 'fd00::0008'],
    externalIPs: ['000203.0.113.1', '::ffff:010.000.0.09'],
    ports: [{ port: 80 }],
  };
  const listed = slice('x', [{ addresses: ['010.00.000.08'] }, { addresses: ['00fd::00001'] }], [{ port: 1 }]);
  const found = service(svc(spec, status), listed);
  t.same(found?.vips, ['10.96.0.10', 'fd00::8', '203.0.113.1', '10.0.0.9', '203.0.113.10']);
  t.same(
    found?.ports[0]?.backends.map((b) => b.ip),
    ['10.0.0.8', 'fd::1'],
  );
  const endpoints = {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { name: 's' },
    subsets: [{ addresses: [{ ip: '10.0.0.07' }], ports: [{ port: 7 }] }],
  };
  t.same(backends(svc(spec), endpoints), ['10.0.0.7:7']);
  t.same(
    errors(
      yaml(
        svc({ ...spec, externalIPs: ['0256.0.0.1', '0x1.2.3.4'] }),
        slice('x', [{ addresses: ['', '10.0.0.1'] }, { addresses: ['10.0.0.1.'] }], [{ port: 1 }]),
      ),
    ),
    [
      'Service default/s: spec.externalIPs[0]: "0256.0.0.1" is not an IP address',
      'Service default/s: spec.externalIPs[1]: "0x1.2.3.4" is not an IP address',
      'EndpointSlice default/x: endpoints[1].addresses[0]: "10.0.0.1." is not an IP address',
    ],
  );
});

t.test('many endpoints on many ports: only what the Service asks for is looked at', async (t) => {
  const endpoints = Array.from({ length: 1000 }, (_, i) => ({ addresses: [`10.0.${i >> 8}.${i & 255}`, 'nonsense'] }));
  const ports = Array.from({ length: 20_000 }, (_, i) => ({ name: `p${i}`, port: 1 + i }));
  const big = slice('x', endpoints, ports);
  const { value } = readEntry({ object: big, where: {} });
  t.match(value, { value: [{ ports: { length: 20_000 }, endpoints: { length: 1000 } }] }, 'kept as they are');
  const found = service(
    svc({
      clusterIP: '10.96.0.1',
      ports: [
        { name: 'p7', port: 80 },
        { name: 'none', port: 81 },
      ],
    }),
    big,
  );
  t.same(
    found?.ports.map((p) => p.backends.length),
    [1000, 0],
  );
  const same = Array.from({ length: 20_000 }, () => ({ name: 'p', port: 1 }));
  t.same(
    service(svc({ clusterIP: '10.96.0.1', ports: [{ name: 'p', port: 80 }] }), slice('x', endpoints, same))?.ports[0]
      ?.backends.length,
    1000,
  );
});

t.test('thousands of wrong addresses are a few lines and a count', async (t) => {
  const wrong = Array.from({ length: 60_000 }, (_, i) => `wrong-${i}`);
  for (const [object, title] of [
    [svc({ clusterIP: '10.96.0.1', externalIPs: wrong, ports: [] }), 'Service default/s'],
    [
      slice(
        'x',
        wrong.map((ip) => ({ addresses: [ip] })),
        [],
      ),
      'EndpointSlice default/x',
    ],
  ] as const) {
    const problems = errors(yaml(object));
    t.equal(problems.length, 101);
    t.match(problems[0], 'wrong-0');
    t.equal(problems[100], `${title}: undefined: has 59900 more problems`);
  }
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
