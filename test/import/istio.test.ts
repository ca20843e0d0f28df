import t from 'tap';
import type { Kind } from '../../src/import/base/speech.js';
import type { Target } from '../../src/import/names.js';
import type { Subject } from '../../src/import/targets/common.js';
import fc from '../seeded.js';
import { Bed, FAR, isBelow, type Result } from './bed.js';

t.setTimeout(300_000);
const bed = new Bed(t);
const istio = (objects: readonly object[], to: Target = 'cilium', subject: Partial<Subject> = {}): Result =>
  bed.run('istio', { 'istio.yaml': objects.map((one) => JSON.stringify(one)).join('\n---\n') }, to, subject);
const entry = (spec: object, namespace = 'shop', name = 'e') => ({
  apiVersion: 'networking.istio.io/v1',
  kind: 'ServiceEntry',
  metadata: { namespace, name },
  spec,
});
const sidecar = (spec: object, namespace = 'shop') => ({
  apiVersion: 'networking.istio.io/v1',
  kind: 'Sidecar',
  metadata: { namespace, name: 's' },
  spec,
});
const HTTPS = { number: 443, name: 'https', protocol: 'TLS' };
const REGISTRY = { outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } };

t.test('hosts and ports', (t) => {
  for (const to of ['cilium', 'cnp', 'calico'] as const) {
    const r = istio(
      [
        REGISTRY,
        entry({ hosts: ['api.example.com', '*.example.org'], ports: [HTTPS, { number: 80, protocol: 'HTTP' }] }),
      ],
      to,
    );
    t.equal(r.no, '', to);
    for (const name of ['api.example.com', 'a.example.org', 'a.b.example.org'])
      t.ok(r.allows({ name }) && r.allows({ name, port: 80 }), name);
    for (const name of ['example.org', 'x.api.example.com', undefined]) t.notOk(r.allows({ name }), String(name));
    t.notOk(r.allows({ name: 'api.example.com', port: 81 }));
  }
  t.match(istio([entry({ hosts: ['a.com'], ports: [HTTPS] })]).told, /no file tells the outboundTrafficPolicy/);
  t.end();
});

t.test('the mode of the mesh, in each of its places', (t) => {
  const any = { outboundTrafficPolicy: { mode: 'ALLOW_ANY' } };
  for (const one of [
    any,
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'istio' },
      data: { mesh: 'outboundTrafficPolicy:\n  mode: ALLOW_ANY\n' },
    },
    { apiVersion: 'install.istio.io/v1alpha1', kind: 'IstioOperator', spec: { meshConfig: any } },
  ])
    t.ok(istio([one]).allows({}), JSON.stringify(one));
  t.notOk(istio([any, sidecar(REGISTRY)]).allows({}), 'a Sidecar of the namespace');
  t.ok(istio([any, sidecar(REGISTRY, 'other')]).allows({}), 'of another');
  t.notOk(
    istio([REGISTRY, sidecar({ workloadSelector: { labels: { tier: 'x' } }, ...any })]).allows({}),
    'perhaps for others',
  );
  t.ok(
    istio([REGISTRY, sidecar({ workloadSelector: { labels: { app: 'web' } }, ...any })]).allows({}),
    'for these pods',
  );
  t.throws(() => istio([sidecar(REGISTRY)], 'cilium', { namespace: undefined }), {
    code: 'USAGE',
    hint: /--namespace shop/,
  });
  const rooted = [{ ...any, rootNamespace: 'mesh' }, sidecar(REGISTRY, 'mesh')];
  t.notOk(istio(rooted).allows({}), 'of the namespace that counts for all');
  t.throws(() => istio([{ outboundTrafficPolicy: { mode: 'MAYBE' } }]), { message: /no known mode/ });
  t.end();
});

t.test('addresses, endpoints, exportTo and Sidecars', (t) => {
  const TCP = { number: 5432, name: 'pg', protocol: 'TCP' };
  const r = istio([
    entry({ hosts: ['db.internal'], addresses: ['203.0.113.0/24'], ports: [TCP] }),
    entry({
      hosts: ['s.internal'],
      resolution: 'STATIC',
      endpoints: [{ address: '198.51.100.1' }, { address: '198.51.100.2', ports: { pg: 6543 } }],
      ports: [TCP],
    }),
    entry({ hosts: ['d.internal'], resolution: 'DNS', endpoints: [{ address: 'real.example.com' }], ports: [TCP] }),
    entry({ hosts: ['w.internal'], workloadSelector: { labels: { a: 'b' } }, ports: [TCP] }),
    entry({ hosts: ['v.internal'], addresses: ['192.168.0.1'], ports: [HTTPS] }),
    entry({
      hosts: ['*.dns.internal', 'bad_*.x'],
      resolution: 'DNS',
      ports: [HTTPS, { number: 1, protocol: 'UDP' }, {}],
    }),
  ]);
  t.ok(r.allows({ to: '203.0.113.7', port: 5432 }) && r.allows({ to: '198.51.100.1', port: 5432 }));
  t.ok(r.allows({ to: '198.51.100.2', port: 6543 }) && r.allows({ name: 'real.example.com', port: 5432 }));
  t.notOk(r.allows({ to: '198.51.100.2', port: 5432 }) || r.allows({ name: 'd.internal', port: 5432 }));
  const vip = { to: '192.168.0.1', by: 'tls' } as const;
  t.ok(r.allows({ ...vip, says: 'v.internal' }), 'both address and host');
  t.notOk(r.allows({ ...vip, says: 'w.internal' }) || r.allows({ ...vip, by: 'http', says: 'v.internal' }));
  for (const message of [
    /istio\.yaml:\d+: ServiceEntry shop\/e: spec\.workloadSelector: its endpoints are pods/,
    /spec\.hosts\[0\]: "\*\.dns\.internal" cannot be resolved, as resolution DNS demands/,
    /spec\.hosts\[1\]: "bad_\*\.x" is neither a name nor/,
    /spec\.ports\[1\]\.protocol: UDP is not known/,
    /spec\.ports\[2\]: has no port number/,
  ])
    t.match(r.no, message);
  const exported = (exportTo: string[], namespace: string | undefined) =>
    istio([entry({ hosts: ['a.com'], exportTo, ports: [HTTPS] }, 'other')], 'cilium', { namespace });
  t.ok(exported(['*'], undefined).allows({ name: 'a.com' }) && exported(['shop'], 'shop').allows({ name: 'a.com' }));
  t.notOk(exported(['.'], 'shop').allows({ name: 'a.com' }) || exported(['~'], 'shop').allows({ name: 'a.com' }));
  t.match(exported(['shop'], undefined).no, /spec\.exportTo: is for pods of some namespaces: .* \(--namespace\)/);
  const hosts = (...of: string[]) =>
    istio([sidecar({ egress: [{ hosts: of }] }), entry({ hosts: ['*.a.com', 'b.com'], ports: [HTTPS] }, 'other')]);
  t.ok(hosts('*/*').allows({ name: 'x.a.com' }) && hosts('other/b.com').allows({ name: 'b.com' }));
  t.notOk(hosts('./*').allows({ name: 'b.com' }) || hosts('other/b.com').allows({ name: 'x.a.com' }));
  t.ok(hosts('other/*.x.a.com').allows({ name: 'y.x.a.com' }));
  t.notOk(hosts('other/*.x.a.com').allows({ name: 'x.a.com' }));
  t.end();
});

t.test('what the protocol of a port says', (t) => {
  const ports = [
    HTTPS,
    { number: 80, protocol: 'HTTP' },
    { number: 5432, protocol: 'TCP' },
    { number: 50051, protocol: 'GRPC' },
  ];
  const one = entry({ hosts: ['a.com', '*.b.com'], ports });
  for (const to of ['cilium', 'cnp', 'calico'] as const) {
    const r = istio([REGISTRY, one], to);
    const ask = (port: number, by: Kind, says?: string | null) =>
      r.allows({ name: 'a.com', port, by, ...(says === undefined ? {} : { says }) });
    t.match(
      r.no,
      /^istio\.yaml:3: ServiceEntry shop\/e: spec\.ports\[3\]\.protocol: GRPC is HTTP\/2 without TLS[^\n]*$/,
      to,
    );
    t.ok(ask(443, 'tls') && ask(80, 'http'), to);
    t.equal(ask(443, 'http') || ask(80, 'tls'), to !== 'cilium', `${to}: said in the other way`);
    t.equal(/does not tell TLS from HTTP/.test(r.told), to !== 'cilium', to);
    for (const says of ['evil.com', null]) t.notOk(ask(443, 'tls', says) || ask(80, 'http', says), `${to} ${says}`);
    t.notOk(ask(443, 'other') || ask(80, 'other') || ask(50051, 'other'), to);
    t.ok(ask(5432, 'other') && ask(5432, 'tls', 'evil.com'), `${to}: the address decides`);
    t.match(r.texts.join(''), /verify-names: "off"/, 'whatever the agent asks for; a text, in YAML 1.1 too');
  }
  t.end();
});

t.test('endpoints: their addresses, and the names of the hosts', (t) => {
  const endpoints = (address: string, resolution: string) =>
    entry({ hosts: ['a.com'], resolution, endpoints: [{ address }], ports: [HTTPS] });
  const named = istio([endpoints('real.example.com', 'DNS')]);
  t.equal(named.no, '');
  t.ok(named.allows({ name: 'real.example.com', says: 'a.com' }));
  t.notOk(named.allows({ name: 'real.example.com' }) || named.allows({ name: 'a.com' }));
  const fixed = istio([endpoints('203.0.113.1', 'STATIC')]);
  t.equal(fixed.no, '');
  t.ok(fixed.allows({ to: '203.0.113.1', by: 'tls', says: 'a.com' }));
  t.notOk(fixed.allows({ to: '203.0.113.1', by: 'tls', says: 'b.com' }) || fixed.allows({ to: '203.0.113.1' }));
  for (const to of ['cnp', 'calico', 'fqdn'] as const) {
    const r = istio([endpoints('203.0.113.1', 'STATIC'), endpoints('real.example.com', 'DNS')], to);
    t.match(r.no, /spec\.endpoints\[0\]: allows what names some servers, at some addresses only: .* \(--to cilium\)/);
    t.match(r.no, /endpoints\[0\]\.address: allows what names some servers, at the addresses of other names only/);
    t.notOk(r.allows({ to: '203.0.113.1', by: 'tls', says: 'a.com' }) || r.allows({ name: 'real.example.com' }));
  }
  const moved = istio([entry({ hosts: ['a.com'], ports: [{ number: 80, targetPort: 443, protocol: 'HTTP' }] })]);
  t.ok(moved.allows({ name: 'a.com' }) && moved.allows({ name: 'a.com', by: 'http' }), 'the proxy may begin TLS there');
  t.end();
});

const label = fc.constantFrom('a', 'b');
const host = fc
  .tuple(fc.boolean(), fc.array(label, { minLength: 1, maxLength: 3 }))
  .map(([star, labels]) => `${star ? '*.' : ''}${labels.join('.')}.com`);

t.test('random entries', (t) => {
  const entries = fc.array(
    fc.record({
      hosts: fc.array(host, { minLength: 1, maxLength: 4 }),
      ports: fc.uniqueArray(fc.constantFrom(80, 443), { minLength: 1 }),
      exported: fc.constantFrom('*', '.', 'shop', 'far'),
      namespace: fc.constantFrom('shop', 'other'),
    }),
    { maxLength: 4 },
  );
  fc.assert(
    fc.property(entries, fc.boolean(), fc.constantFrom<Target>('cilium', 'cnp', 'calico', 'fqdn'), (all, open, to) => {
      const r = istio(
        [
          { outboundTrafficPolicy: { mode: open ? 'ALLOW_ANY' : 'REGISTRY_ONLY' } },
          ...all.map(({ hosts, ports, exported, namespace }, i) =>
            entry(
              {
                hosts,
                exportTo: [exported],
                ports: ports.map((number) => ({ number, protocol: number === 80 ? 'HTTP' : 'TLS' })),
              },
              namespace,
              `e${i}`,
            ),
          ),
        ],
        to,
      );
      for (const name of [undefined, 'a.com', 'b.a.com', 'a.b.a.com', 'z.a.com', 'z.y.a.com', 'com', 'far.org'])
        for (const [port, by] of [
          [80, 'http'],
          [443, 'tls'],
          [443, 'http'],
          [444, 'tls'],
          [444, 'other'],
        ] as const) {
          const said =
            open ||
            all.some(
              (one) =>
                (one.exported === '*' ||
                  one.exported === 'shop' ||
                  (one.exported === '.' && one.namespace === 'shop')) &&
                (one.ports as number[]).includes(port) &&
                (to !== 'cilium' || by === (port === 80 ? 'http' : 'tls')) &&
                by !== 'other' &&
                name !== undefined &&
                one.hosts.some((x) => (x.startsWith('*.') ? isBelow(name, x.slice(2)) : x === name)),
            );
          const is = r.allows({ name, port, to: FAR, by });
          if (name !== undefined && !open && r.allows({ name, port, to: FAR, by, says: 'far.org' }))
            throw new Error(`${name} ${port} is allowed for another name\n${r.texts.join('')}`);
          if (is && !said) throw new Error(`${name} ${port} is allowed\n${r.texts.join('')}`);
          if (!is && said && r.refused.length === 0 && (open || by === (port === 80 ? 'http' : 'tls')))
            throw new Error(`${name} ${port} is not allowed\n${r.texts.join('')}`);
        }
    }),
    { numRuns: 200 },
  );
  t.pass('none was wider');
  t.end();
});
