/** The snapshot that is kept up to date object by object; that it ends as one made at once is compile-incremental.test.ts's. */
import t from 'tap';
import { formatProblem } from '../../src/errors.js';
import type { Entry } from '../../src/identity/entry.js';
import type { Section } from '../../src/identity/kinds.js';
import { LiveSnapshot } from '../../src/identity/live.js';
import { EntryReader } from '../../src/kube/read.js';

const reader = new EntryReader();
const read = (apiVersion: string, kind: string, key: string, more: object = {}): Entry => {
  const [namespace, name] = key.includes('/') ? key.split('/') : [undefined, key];
  const { metadata, ...rest } = more as { metadata?: object };
  const named = { name, ...(namespace === undefined ? {} : { namespace }), ...metadata };
  return reader.read({ apiVersion, kind, metadata: named, ...rest });
};

const SECTIONS = {
  Pod: ['v1', 'pods'],
  Namespace: ['v1', 'namespaces'],
  Service: ['v1', 'services'],
  Endpoints: ['v1', 'endpoints'],
  EndpointSlice: ['discovery.k8s.io/v1', 'slices'],
  NetworkPolicy: ['networking.k8s.io/v1', 'policies'],
} as const satisfies Record<string, readonly [string, Section]>;

/** Creates, changes or (without content) deletes one object. */
function put(live: LiveSnapshot, kind: keyof typeof SECTIONS, key: string, more?: object): void {
  const [apiVersion, section] = SECTIONS[kind];
  const entry = more && read(apiVersion, kind, key, more);
  live.apply(`${apiVersion} ${kind}`, section, { changed: new Map([[key, entry]]) });
}

const running = (ip: string, more: object = {}) => ({ status: { phase: 'Running', podIPs: [{ ip }], ...more } });
const slice = (service: string, ...ips: string[]) => ({
  metadata: { labels: { 'kubernetes.io/service-name': service } },
  addressType: 'IPv4',
  ports: [{ name: '', port: 8080 }],
  endpoints: ips.map((ip) => ({ addresses: [ip] })),
});
const service = { spec: { clusterIP: '10.96.0.1', ports: [{ port: 80 }] } };
const backends = (live: LiveSnapshot, key: string) =>
  live
    .snapshot([])
    .services.get(key)
    ?.ports[0]?.backends.map((b) => b.ip);

t.test('the same object while nothing that matters changed; the same maps where they did not', async (t) => {
  const live = new LiveSnapshot('n');
  put(live, 'Pod', 'a/p', running('10.0.0.1'));
  put(live, 'Namespace', 'a', {});
  const first = live.snapshot(['192.168.0.1']);
  t.equal(live.snapshot(['192.168.0.1']), first);
  put(live, 'Pod', 'a/p', running('10.0.0.1', { conditions: [{ type: 'Ready', status: 'False' }] }));
  put(live, 'Pod', 'a/never');
  t.equal(live.snapshot(['192.168.0.1']), first);
  const elsewhere = live.snapshot(['192.168.0.2', 'FD00::1', 'nonsense']);
  t.not(elsewhere, first);
  t.same(elsewhere.ownNode, { name: 'n', ips: ['192.168.0.2', 'fd00::1'] });
  t.equal(elsewhere.pods, first.pods);
  put(live, 'Pod', 'a/q', running('10.0.0.2'));
  const more = live.snapshot(['192.168.0.1']);
  t.same([first.pods.size, more.pods.size], [1, 2], 'what was handed out stays');
  t.equal(more.namespaces, first.namespaces);
  t.equal(more.policies, first.policies);
  t.equal(more.pods.get('a/p'), first.pods.get('a/p'));
  put(live, 'Pod', 'a/q');
  t.same([...live.snapshot([]).pods.keys()], ['a/p']);
});

t.test('all of a kind at once: what is not in it is gone', async (t) => {
  const live = new LiveSnapshot('n');
  for (const name of ['p', 'q', 'r']) put(live, 'Pod', `a/${name}`, running('10.0.0.1'));
  const before = live.snapshot([]);
  const p = read('v1', 'Pod', 'a/p', running('10.0.0.1'));
  const s = read('v1', 'Pod', 'a/s', running('10.0.0.4'));
  live.apply('v1 Pod', 'pods', {
    all: new Map([
      ['a/p', p],
      ['a/s', s],
    ]),
  });
  const after = live.snapshot([]);
  t.same([...after.pods.keys()].sort(), ['a/p', 'a/s']);
  t.equal(after.pods.get('a/p'), before.pods.get('a/p'));
  live.forget('v1 Pod', 'pods');
  t.equal(live.snapshot([]).pods.size, 0);
  t.equal(after.pods.size, 2);
});

t.test('what stands behind a Service, in any order', async (t) => {
  const live = new LiveSnapshot('n');
  put(live, 'EndpointSlice', 'a/s-1', slice('s', '10.0.0.2', '10.0.0.1'));
  t.equal(live.snapshot([]).services.size, 0);
  put(live, 'Service', 'a/s', service);
  t.same(backends(live, 'a/s'), ['10.0.0.1', '10.0.0.2']);
  put(live, 'EndpointSlice', 'a/s-2', slice('s', '10.0.0.3'));
  put(live, 'Service', 'a/other', service);
  t.same([backends(live, 'a/s'), backends(live, 'a/other')], [['10.0.0.1', '10.0.0.2', '10.0.0.3'], []]);
  put(live, 'EndpointSlice', 'a/s-1', slice('other', '10.0.0.1'));
  t.same([backends(live, 'a/s'), backends(live, 'a/other')], [['10.0.0.3'], ['10.0.0.1']], 'one goes over');
  put(live, 'EndpointSlice', 'a/s-2');
  t.same(backends(live, 'a/s'), []);
  put(live, 'Service', 'a/other', { spec: { type: 'ExternalName', externalName: 'example.org' } });
  t.notOk(live.snapshot([]).services.has('a/other'), 'a name, no addresses');
  put(live, 'Service', 'a/other', service);
  t.same(backends(live, 'a/other'), ['10.0.0.1'], 'and back');
  put(live, 'Service', 'a/other', {
    metadata: { labels: { 'service.kubernetes.io/service-proxy-name': 'x' } },
    ...service,
  });
  t.match(live.snapshot([]).services.get('a/other'), { vips: [], ports: [{ backends: [{ ip: '10.0.0.1' }] }] });
  put(live, 'Service', 'a/s');
  t.same([...live.snapshot([]).services.keys()], ['a/other']);
});

t.test('Endpoints where slices are missing, and slices in their place', async (t) => {
  const live = new LiveSnapshot('n');
  put(live, 'Service', 'a/s', service);
  const subsets = [{ addresses: [{ ip: '10.0.0.9' }], ports: [{ port: 8080 }] }];
  put(live, 'Endpoints', 'a/s', { subsets });
  t.same(backends(live, 'a/s'), ['10.0.0.9']);
  live.forget('v1 Endpoints', 'endpoints');
  // A slice may have its Service's own name.
  put(live, 'EndpointSlice', 'a/s', slice('s', '10.0.0.1'));
  t.same(backends(live, 'a/s'), ['10.0.0.1']);
  live.forget('discovery.k8s.io/v1 EndpointSlice', 'slices');
  t.same(backends(live, 'a/s'), []);
});

t.test('problems: those of objects that are there, and those that are handed in', async (t) => {
  const live = new LiveSnapshot('n');
  const texts = () => live.snapshot([]).problems.map(formatProblem);
  put(live, 'Pod', 'a/p', running('10.0.0.256'));
  t.match(texts(), [/^Pod a\/p: status\.podIPs\[0\]\.ip: "10\.0\.0\.256" is not an IP address/]);
  put(live, 'Pod', 'a/q', { metadata: { labels: { app: 5 } }, ...running('10.0.0.2') });
  t.equal(texts().length, 2);
  put(live, 'Pod', 'a/p', running('10.0.0.1'));
  t.match(texts(), [/^Pod a\/q: metadata\.labels/]);
  put(live, 'Pod', 'a/q');
  t.same(texts(), []);
  const given = { severity: 'warning', where: { object: 'X' }, message: 'y' } as const;
  const snapshot = live.snapshot([], [given]);
  t.same(snapshot.problems, [given]);
  t.equal(live.snapshot([], [{ ...given }]), snapshot, 'equal ones are the same');
  t.same(live.snapshot([]).problems, []);
});

t.test('policies: versions and status are no change, everything else is', async (t) => {
  const live = new LiveSnapshot('n');
  const np = (metadata: object, more: object = {}) =>
    put(live, 'NetworkPolicy', 'a/np', { metadata: { uid: 'u', ...metadata }, spec: { podSelector: {} }, ...more });
  np({ resourceVersion: '1', generation: 1 });
  const [first] = live.snapshot([]).policies;
  np({ resourceVersion: '2', generation: 1, managedFields: [{ manager: 'x' }] }, { status: { conditions: [] } });
  t.equal(live.snapshot([]).policies[0], first);
  t.match(first, { kind: 'NetworkPolicy', namespace: 'a', name: 'np', object: { metadata: { uid: 'u' } } });
  np({ labels: { a: 'b' } });
  t.not(live.snapshot([]).policies[0], first, 'labels are shown with its verdicts');
  np({ uid: 'another' });
  t.match(live.snapshot([]).policies, [{ object: { metadata: { uid: 'another' } } }]);
  put(live, 'NetworkPolicy', 'a/np');
  t.same(live.snapshot([]).policies, []);
});
