/** diff, and the tables of expected verdicts, where policies have names. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from '../seeded.js';
import t from 'tap';
import { outcomeOf } from '../../src/ir/outcome.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Action, Ir, IrPolicy, Rule } from '../../src/ir/types.js';
import { diff } from '../../src/tools/diff.js';
import { runFile } from '../../src/tools/expect.js';
import { situationText } from '../../src/tools/names/changes.js';
import { learnedFor } from '../../src/tools/names/kinds.js';
import { boundaryProbes, type World } from '../../src/tools/packets.js';
import { spansText } from '../../src/tools/ranges.js';
import { NO_TUNNELS } from '../../src/net/tunnels.js';
import { pod, snapshotOf } from '../policy/world.js';

const PODS = pod('shop/web', '10.1.0.1', { app: 'web' }) + pod('shop/db', '10.1.0.2', { app: 'db' });
/** As the tools load it. */
const snapshot = { ...snapshotOf(PODS), tunnels: NO_TUNNELS };

type Body = Pick<Rule, 'peers' | 'ports' | 'queries'> & { action?: Action };

function irOf(bodies: readonly Body[]): Ir {
  const ref = { dialect: 'test', kind: 'Test', name: 'p' };
  const rules = bodies.map(
    ({ action = 'allow', ...body }, index): Rule => ({
      ...body,
      action,
      ref: { policy: ref, index, tier: 'one', staged: false, action },
    }),
  );
  const subject = { namespaces: { names: ['shop'] }, pods: { op: 'in', key: 'app', values: ['web'] } } as const;
  const policy: IrPolicy = { ref, subject, rules, staged: false };
  return { tiers: [{ name: 'one', order: 0, policies: [policy], defaultAction: 'deny' }] };
}
const world = (...bodies: Body[]): World => ({ ir: irOf(bodies), snapshot });
const names = (...patterns: string[]): Peer => ({ kind: 'names', patterns });
const https = [{ protocol: 6, ports: [[443, 443]] as const }];
const dns = [{ protocol: 17, ports: [[53, 53]] as const }];

const said = (a: World, b: World) =>
  diff(a, b).changes.map(({ to, ports, was, is, ...when }) =>
    [`${to.kind}${situationText(when)}`, spansText(ports), `${was.verdict} → ${is.verdict}`].join(' | '),
  );

t.test('diff says which names', async (t) => {
  const one = world({ peers: [names('api.example.com')], ports: https });
  const other = world({ peers: [names('*.example.com')], ports: https });
  t.same(said(one, one), []);
  t.same(said(one, other), ['addresses learned for x.example.com | tcp/443 | deny → allow']);
  t.same(said(other, one), ['addresses learned for x.example.com | tcp/443 | allow → deny']);
  t.same(said(one, world()), ['addresses learned for api.example.com | tcp/443 | allow → deny']);
  const open = world({ peers: null, ports: https });
  t.same(said(one, open), ['addresses | tcp/443 | deny → allow'], 'what changes for every address has no name');
});

t.test('diff: two names of one address', async (t) => {
  const allow: Body = { peers: [names('a.x')], ports: null };
  const deny: Body = { action: 'deny', peers: [names('b.x')], ports: null };
  t.same(said(world(deny, allow), world(allow, deny)), [
    'addresses learned for a.x and b.x | every port | deny → allow',
  ]);
});

t.test('diff: names in queries', async (t) => {
  const ask = (...queries: string[]) => world({ peers: null, ports: dns, queries });
  t.same(said(ask('a.x'), ask('a.x', 'b.x')), ['addresses asking for b.x | udp/53 | deny → allow']);
  t.match(said(ask('a.x'), ask('**')), [/^addresses asking for .* \| udp\/53 \| deny → allow$/]);
  t.same(said(ask('**'), world({ peers: null, ports: dns })).length > 0, true);
});

// Random rules with few names.
const pattern = fc.constantFrom('a.x', '*.x', '**.x', '*a.x', '***');
const patterns = fc.uniqueArray(pattern, { minLength: 1, maxLength: 2 });
const address = fc.constantFrom<Peer>(
  { kind: 'cidr', cidr: '192.0.2.0/24', except: [] },
  { kind: 'pods', namespaces: { names: ['shop'] }, pods: { op: 'true' } },
);
const peer: fc.Arbitrary<Peer> = fc.oneof(
  address,
  patterns.map((p) => names(...p)),
  patterns.map((p): Peer => ({ kind: 'names', patterns: p, aliases: true })),
  fc.tuple(patterns, address).map(([p, a]): Peer => ({ kind: 'all', of: [names(...p), { kind: 'not', of: a }] })),
);
const body: fc.Arbitrary<Body> = fc.record({
  action: fc.constantFrom<Action>('allow', 'allow', 'deny', 'pass'),
  peers: fc.oneof(fc.constant(null), fc.array(peer, { minLength: 1, maxLength: 2 })),
  ports: fc.constantFrom(null, https, dns),
  queries: fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: patterns }),
});

t.test('diff finds a change exactly where a packet at a boundary is judged differently', async (t) => {
  let different = 0;
  fc.assert(
    fc.property(fc.array(body, { maxLength: 3 }), fc.array(body, { maxLength: 3 }), (one, two) => {
      const worlds = [world(...one), world(...two)] as const;
      const { changes } = diff(...worlds);
      let found = false;
      for (const packet of boundaryProbes(worlds, new Set(['shop/web']))) {
        const learned = learnedFor(packet, packet.names);
        const [was, is] = worlds.map(({ ir, snapshot }) => outcomeOf(ir, snapshot, packet, learned).verdict);
        found ||= was !== is;
      }
      if (found !== changes.length > 0)
        throw new Error(JSON.stringify(changes, (_, v) => (typeof v === 'bigint' ? `${v}` : v)));
      if (found) different++;
    }),
    { numRuns: 200 },
  );
  t.ok(different > 50, `${different} differ`);
});

t.test('boundary packets have a name that just matches each pattern, and one that does not', async (t) => {
  const probes = [
    ...boundaryProbes([
      world({ peers: [names('*.example.com')], ports: https }, { peers: null, ports: dns, queries: ['api.x'] }),
    ]),
  ];
  const learned = new Set(probes.flatMap((p) => p.names ?? []).map(({ name }) => name));
  const queries = new Set(probes.flatMap((p) => p.query ?? []));
  t.ok(learned.has('x.example.com'));
  t.ok(
    [...learned].some((name) => !name.endsWith('.example.com') || name.split('.').length !== 3),
    [...learned].join(),
  );
  t.ok(queries.has('api.x') && queries.size > 1, [...queries].join());
  t.notOk(probes.some((p) => p.query !== undefined && p.fragment));
});

const CILIUM = `---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress:
  - toFQDNs: [{matchName: api.example.com}, {matchPattern: '*.wild.example'}]
    toPorts: [{ports: [{port: '443', protocol: TCP}]}]
  - toEndpoints: [{matchLabels: {k8s-app: kube-dns, 'k8s:io.kubernetes.pod.namespace': kube-system}}]
    toPorts: [{ports: [{port: '53', protocol: ANY}]}]
`;

t.test('tables of expected verdicts', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'names-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  writeFileSync(
    join(dir, 'all.yaml'),
    `${PODS}${pod('kube-system/dns', '10.1.0.53', { 'k8s-app': 'kube-dns' })}${CILIUM.replace('protocol: ANY}]}]', "protocol: ANY}], rules: {dns: [{matchPattern: '*.example.com'}]}}]")}`,
  );
  const run = (rows: string, names: string) => {
    writeFileSync(join(dir, 'table.yaml'), `manifests: all.yaml\nnames: ${names}\ntests:\n${rows}`);
    const { rows: results, problems } = runFile(join(dir, 'table.yaml'));
    return {
      results: results.map(({ name, ok, actual }) => `${ok ? '' : '✗ '}${name}: ${actual}`),
      problems: problems.map((p) => `${p.where.field}: ${p.message}`),
    };
  };
  const known =
    '{shop/web: {API.example.com.: [192.0.2.1, "2001:db8::1"], w.wild.example: {aliases: [cdn.example], addresses: [192.0.2.2]}}}';
  t.same(
    run(
      [
        '- shop/web → api.example.com:443/tcp: allow [cilium/shop/web#0]',
        '- shop/web → 192.0.2.2:443/tcp: allow',
        '- shop/web → 192.0.2.2:80/tcp: deny',
        '- shop/web → 192.0.2.3:443/tcp: deny',
        '- shop/web → 10.1.0.53:53/udp query api.example.com: allow [cilium/shop/web#1]',
        '- {from: shop/web, to: kube-system/dns, port: 53/udp, query: api.example.org, expect: deny}',
        '- {from: shop/web, to: kube-system/dns, port: 53/udp, query: api.example.com, expect: deny}',
        '',
      ].join('\n'),
      known,
    ),
    {
      results: [
        'shop/web → api.example.com:443/tcp: allow [cilium/shop/web#0]',
        'shop/web → 192.0.2.2:443/tcp: allow [cilium/shop/web#0]',
        'shop/web → 192.0.2.2:80/tcp: deny [cilium/shop/web#default]',
        'shop/web → 192.0.2.3:443/tcp: deny [cilium/shop/web#default]',
        'shop/web → 10.1.0.53:53/udp query api.example.com: allow [cilium/shop/web#1]',
        'shop/web → kube-system/dns:53/udp query api.example.org: deny [cilium/shop/web#default]',
        '✗ shop/web → kube-system/dns:53/udp query api.example.com: allow [cilium/shop/web#1]',
      ],
      problems: [],
    },
  );
  t.match(run('- shop/web → nobody.example:443/tcp: allow\n', '{shop/web: {a.b: [x], c.d: 7}}'), {
    results: [],
    problems: [
      /^names\.shop\/web\.a\.b: x is no address/,
      /^names\.shop\/web\.c\.d: must be a list/,
      /^tests\[0\]\.to: nobody\.example is no destination/,
    ],
  });
});
