import t from 'tap';
import { toIr } from '../../src/dialects/index.js';
import type { LabelExpr, Peer } from '../../src/ir/peers.js';
import type { Action, Ir, IrPolicy, PolicyRef, PortMatch, Rule } from '../../src/ir/types.js';
import { evaluate, tiersFor } from '../../src/ir/evaluate.js';
import { ruleId } from '../../src/ir/names.js';
import { staysInside, withoutAddresses } from '../../src/ir/outcome.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { Packet } from '../../src/ir/packet.js';
import type { Problem } from '../../src/errors.js';
import { byNode } from '../../src/tools/nodes.js';
import { lint } from '../../src/tools/lint/index.js';
import { boundaryPackets, servicePlaces, type World } from '../../src/tools/packets.js';
import { reach, reachKey } from '../../src/tools/lint/reach.js';
import { seeded } from '../fuzz/random.js';
import { randomWorld } from '../fuzz/worlds.js';
import { pod, policy, snapshotOf } from '../policy/world.js';

const PODS = pod('shop/web', ['10.0.0.1'], { app: 'web' }) + pod('shop/db', ['10.0.0.2'], { app: 'db' });
const DNS = pod('kube-system/dns', ['10.0.0.53'], { 'k8s-app': 'kube-dns' });
const dns = { to: [{ namespaceSelector: {} }], ports: [{ port: 53, protocol: 'UDP' }] };

const found = (world: World, problems: readonly Problem[] = []) =>
  lint(world, problems).map((f) => `${f.severity} ${f.check} ${f.where.field ?? ''}: ${f.message}`);
const objects = (text: string): World => {
  const snapshot = snapshotOf(text);
  return { snapshot, ir: toIr(snapshot).ir };
};

const ALL: LabelExpr = { op: 'true' };
/** A tier of one policy, of these rules. */
function tier(
  name: string,
  rules: [Action, Peer[] | null, PortMatch[] | null][],
  defaultAction: 'deny' | 'pass' = 'pass',
): Ir['tiers'][number] {
  const ref: PolicyRef = { dialect: 'test', kind: 'Test', name };
  const of = ([action, peers, ports]: (typeof rules)[number], index: number): Rule => ({
    ref: { policy: ref, index, tier: name, staged: false, action },
    action,
    peers,
    ports,
  });
  const one: IrPolicy = {
    ref,
    subject: { namespaces: { labels: ALL }, pods: ALL },
    rules: rules.map(of),
    staged: false,
  };
  return { name, order: 0, policies: [one], defaultAction };
}
const cidr = (text: string): Peer => ({ kind: 'cidr', cidr: text, except: [] });
const tcp = (lo: number, hi = lo): PortMatch => ({ protocol: 6, ports: [[lo, hi]] });

t.test('nothing to say of what is as it should be', async (t) => {
  const web = policy('shop/web', {
    podSelector: { matchLabels: { app: 'web' } },
    policyTypes: ['Egress'],
    egress: [dns, { to: [{ podSelector: { matchLabels: { app: 'db' } } }] }],
  });
  t.same(found(objects(PODS + DNS + web)), []);
});

t.test('shadowed, redundant, and neither', async (t) => {
  const snapshot = snapshotOf(PODS);
  const rules = (...list: [Action, Peer[] | null, PortMatch[] | null][]) =>
    found({ snapshot, ir: { tiers: [tier('a', list)] } });
  t.same(rules(['deny', [cidr('10.0.0.0/8')], null], ['allow', [cidr('10.1.0.0/16')], [tcp(80)]]), [
    'warning shadowed spec.egress[1]: test/a#1 is never reached: test/a#0 decides first, wherever it matches',
  ]);
  t.same(rules(['allow', [cidr('10.0.0.0/8')], [tcp(79, 81)]], ['allow', [cidr('10.1.0.0/16')], [tcp(80)]]), [
    'info redundant spec.egress[1]: test/a#1 adds nothing: test/a#0 allows all of it already',
  ]);
  t.same(rules(['deny', [cidr('10.0.0.0/9')], null], ['allow', [cidr('10.0.0.0/8')], null]), [], 'half of it is left');
  t.same(rules(['deny', null, [tcp(80, 81)]], ['allow', null, [tcp(80, 82)]]), [], 'one port is left');
  const two = [cidr('10.0.0.0/9'), cidr('10.128.0.0/9')];
  t.match(
    rules(['deny', [two[0] as Peer], null], ['deny', [two[1] as Peer], null], ['allow', [cidr('10.0.0.0/8')], null]),
    [/test\/a#2 is never reached: test\/a#0, test\/a#1 decides first/],
  );
  const tiers = [
    tier('a', [
      ['pass', [cidr('10.0.0.0/8')], null],
      ['deny', [cidr('10.0.0.0/8')], null],
    ]),
    tier('b', [['deny', null, null]]),
  ];
  t.match(found({ snapshot, ir: { tiers } }), [/test\/a#1 is never reached: test\/a#0/]);
  const floor = [
    tier('a', [['allow', [cidr('10.0.0.0/8')], null]], 'deny'),
    tier('b', [['allow', [cidr('192.0.2.0/24')], null]]),
  ];
  t.match(
    found({ snapshot, ir: { tiers: floor } }).filter((f) => !f.includes('no-dns')),
    [/^info shadowed spec\.egress\[0\]: test\/b#0 .* test\/a#default/],
  );
});

t.test('what matches nothing', async (t) => {
  const web = policy('shop/web', {
    podSelector: { matchLabels: { app: 'web' } },
    policyTypes: ['Egress'],
    egress: [dns, { to: [{ podSelector: { matchLabels: { app: 'x' } } }] }, { ports: [{ port: 'sql' }] }],
  });
  t.same(
    found(
      objects(
        PODS + DNS + web + policy('shop/no', { podSelector: { matchLabels: { app: 'no' } }, policyTypes: ['Egress'] }),
      ),
    ),
    [
      'warning no-pods : selects no pod',
      'warning empty-selector spec.egress[1]: np/shop/web#1: no pod matches app=x, namespace shop',
      'warning empty-selector spec.egress[2]: np/shop/web#2: no pod has a port named sql',
    ],
  );
  t.same(found(objects(web)), [], 'without pods nothing is known of them');
  const ir = { tiers: [tier('a', [['allow', [], null]])] };
  t.match(found({ snapshot: snapshotOf(PODS), ir }), [/^warning no-destination spec\.egress\[0\]/]);
});

t.test('no DNS', async (t) => {
  const some = { to: [{ ipBlock: { cidr: '192.0.2.0/24' } }], ports: [{ port: 443 }] };
  const of = (...egress: object[]) => policy('shop/all', { podSelector: {}, policyTypes: ['Egress'], egress });
  t.match(found(objects(PODS + DNS + of(some))), [
    /^warning no-dns : shop\/db, shop\/web may not reach the DNS of the cluster/,
  ]);
  t.match(found(objects(PODS + of(some))), [/^warning no-dns .* may not reach port 53 anywhere/]);
  t.match(found(objects(PODS + DNS + of())), [/^info no-dns .* may reach nothing/]);
  const anyPort = { to: [{ ipBlock: { cidr: '192.0.2.0/24' } }] };
  t.match(
    found(objects(PODS + DNS + of(anyPort))),
    [/^warning no-dns/],
    'another port 53 is not the DNS of the cluster',
  );
  t.same(found(objects(PODS + of(anyPort))), []);
  t.same(found(objects(PODS + DNS + of(some, dns))), []);
});

t.test('a block that means no pods', async (t) => {
  const pods: Peer = { kind: 'pods', namespaces: { labels: ALL }, pods: ALL };
  const outside: Peer = { kind: 'all', of: [cidr('10.0.0.0/8'), { kind: 'not', of: { kind: 'some', of: [pods] } }] };
  const ir = { tiers: [tier('a', [['allow', [outside], null]])] };
  t.match(found({ snapshot: snapshotOf(PODS), ir }), [
    /^info cidr-covers-pods .*10\.0\.0\.0\/8 has pods in it.*shop\/web, shop\/db/,
  ]);
});

t.test('a rule that means a network set means something', async (t) => {
  const calico = (kind: string, name: string, body: string) =>
    `---\n{apiVersion: projectcalico.org/v3, kind: ${kind}, metadata: {name: ${name}${kind === 'GlobalNetworkSet' ? ', labels: {role: partner}' : ''}}, spec: ${body}}\n`;
  const set = calico('GlobalNetworkSet', 'partners', '{nets: [198.51.100.0/24]}');
  const to = (selector: string, field = 'selector') =>
    calico(
      'GlobalNetworkPolicy',
      'p',
      `{types: [Egress], egress: [{action: Allow, destination: {${field}: "${selector}"}}]}`,
    );
  const empty = (text: string) => found(objects(text)).filter((f) => f.includes('empty-selector'));
  t.same(empty(PODS + set + to("role == 'partner'")), []);
  t.same(empty(PODS + set + to("role == 'partner'", 'notSelector')), []);
  t.match(empty(PODS + set + to("role == 'x'")), [/no pod and no network set matches role=x/]);
  t.match(empty(PODS + to("role == 'partner'")), [/no pod matches role=partner/]);
  t.match(empty(PODS + to("role == 'x'", 'notSelector')), [/no pod matches role=x/]);
});

t.test('an order is advised where there is one', async (t) => {
  const hints = (text: string) =>
    lint(objects(PODS + text))
      .filter((f) => f.check === 'shadowed')
      .map((f) => f.hint);
  const cilium = (body: string) =>
    `---\n{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: c}, spec: {endpointSelector: {}, ${body}}}\n`;
  const shadowed = 'egress: [{toCIDR: [192.0.2.0/25]}], egressDeny: [{toCIDR: [192.0.2.0/24]}]';
  t.same(hints(cilium(shadowed)), ['narrow them, or remove it']);
  const cnp = (rules: string) =>
    `---\n{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: n}, spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [${rules}]}}\n`;
  const [deny, accept] = [
    '{action: Deny, to: [{networks: [192.0.2.0/24]}]}',
    '{action: Accept, to: [{networks: [192.0.2.0/25]}]}',
  ];
  t.same(hints(cnp(`${deny}, ${accept}`)), ['put it before them, narrow them, or remove it']);
});

t.test('a rule that was refused: why', async (t) => {
  const all = (text: string) => {
    const snapshot = snapshotOf(text);
    const { ir, problems } = toIr(snapshot);
    return found({ snapshot, ir }, problems).filter((f) => !f.includes('no-dns'));
  };
  const np = policy('shop/web', {
    podSelector: {},
    policyTypes: ['Egress'],
    egress: [{ to: [{ podSelector: {} }] }, { to: [{ ipBlock: { cidr: '1.2.3.4' } }] }],
  });
  t.match(all(PODS + np), [
    /^warning refused spec\.egress\[1\]: np\/shop\/web#1 matches nothing, it was refused: spec\.egress\[1\]\.to\[0\]\.ipBlock\.cidr: /,
  ]);
  const cilium = (egress: string) =>
    `---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop, name: c}, specs: [{endpointSelector: {}, egress: [{toEntities: [all]}]}, {endpointSelector: {}, egress: ${egress}}]}\n`;
  t.match(all(PODS + cilium('[{toGroups: [{aws: {}}]}]')), [
    /refused .*specs\[1\]\.egress\[0\]\.toGroups: groups of cloud providers are not resolved/,
  ]);
  t.match(all(PODS + cilium('[{toEndpoints: []}]')), [/no-destination .* names no destination/]);
});

t.test('a block that is the address of a Service', async (t) => {
  const service =
    '---\n{apiVersion: v1, kind: Service, metadata: {namespace: kube-system, name: kube-dns}, spec: {clusterIP: 10.96.0.10, ports: [{port: 53, protocol: UDP}]}}\n';
  const to = (cidr: string) =>
    policy('shop/web', { podSelector: {}, policyTypes: ['Egress'], egress: [dns, { to: [{ ipBlock: { cidr } }] }] });
  const of = (cidr: string) => found(objects(PODS + service + to(cidr))).filter((f) => f.includes('service-address'));
  t.match(of('10.96.0.10/32'), [
    /^info service-address spec\.egress\[1\]: .*10\.96\.0\.10 is the address of Service kube-system\/kube-dns, .*NodeLocal DNSCache/,
  ]);
  t.same(of('10.96.0.11/32'), []);
  t.same(of('10.96.0.0/24'), []);
});

/** By the reference alone: every rule that is the first match of a packet at a boundary. */
function reachedByReference(world: World): Set<string> {
  const out = new Set<string>();
  for (const { worlds, keys } of byNode([world] as const)) {
    const [{ ir, snapshot }] = worlds;
    const judge = (seen: Snapshot, packet: Packet) => {
      const sender = snapshot.pods.get(packet.from);
      if (!sender) return;
      const v = evaluate(ir, seen, packet);
      const rules = tiersFor(ir, snapshot, sender).flatMap((view) => view.rules);
      for (const id of [v.rule, ...v.logged]) {
        const rule = rules.find((r) => ruleId(r.ref) === id);
        if (rule && rule.ref.index >= 0) out.add(reachKey(rule.ref));
      }
    };
    // To the address of the pod that stands for its kind the others of the kind send.
    for (const packet of boundaryPackets(worlds, new Set(keys)))
      for (const from of staysInside(snapshot, packet) ? keys : [packet.from])
        if (!staysInside(snapshot, { ...packet, from })) judge(snapshot, { ...packet, from });
    // A pod behind a Service meets itself there.
    const bare = { ...snapshot, services: withoutAddresses(snapshot) };
    for (const from of keys)
      for (const { protocol, backends } of servicePlaces(snapshot).values())
        for (const { ip: to, port } of backends)
          if (staysInside(snapshot, { from, to })) judge(bare, { from, to, protocol, port });
  }
  return out;
}

const random = seeded();
t.test(`what the reference reaches is reached, FUZZ_SEED=${random.seed}`, async (t) => {
  const until = Date.now() + 6_000;
  let worlds = 0;
  for (; worlds < 60 && Date.now() < until; worlds++) {
    const world = randomWorld(random);
    lint(world);
    // The reference takes its time with hundreds of rules.
    if (world.ir.tiers.some((one) => one.policies.some((p) => p.rules.length > 100))) continue;
    const { rules } = reach(world);
    const reference = reachedByReference(world);
    for (const key of reference) {
      if (!rules.get(key)?.reached) {
        t.fail(`FUZZ_SEED=${random.seed}: ${key} is reached`);
        return;
      }
    }
    for (const [key, { reached, ref }] of rules) {
      // Those that pass on leave no trace in a verdict.
      if (!reached || ref.action === 'pass' || ref.staged || reference.has(key)) continue;
      t.fail(`FUZZ_SEED=${random.seed}: ${key} is not reached`);
      return;
    }
  }
  t.ok(worlds > 5, `${worlds} worlds`);
});

t.test('what connections say', async (t) => {
  const said = (text: string) => found(objects(text)).filter((f) => !/no-dns/.test(f));
  const cilium = (egress: object[], more: object = {}, name = 'c') => {
    const metadata = { namespace: 'shop', name };
    const spec = { endpointSelector: { matchLabels: { app: 'web' } }, egress, ...more };
    return `---\n${JSON.stringify({ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy', metadata, spec })}\n`;
  };
  const at = (cidr: string, port: string, more: object = {}) => ({
    toCIDR: [cidr],
    toPorts: [{ ports: [{ port, protocol: 'TCP' }], ...more }],
  });
  const net = '203.0.113.0/24';
  const tls = (...serverNames: string[]) => at(net, '443', { serverNames });
  const http = (...requests: object[]) => at(net, '80', { rules: { http: requests } });
  t.same(
    said(PODS + cilium([tls('a.example'), tls('b.example', 'a.example'), http({ path: '/a' }, { path: '/b' })])),
    [],
  );
  t.same(said(PODS + cilium([http({ path: '/a', headerMatches: [{ name: 'X', mismatch: 'LOG' }] })])), []);
  t.same(said(PODS + cilium([tls('a.example'), at('203.0.113.0/28', '443')])), [], 'the rest is filtered');
  t.match(said(PODS + cilium([tls('a.example'), at(net, '443')])), [
    /^warning void-filter spec\.egress\[0\]: .*c#0 .* narrows nothing: .*c#1 "egress\[1\]" allows every connection there/,
  ]);
  t.match(said(PODS + cilium([at('203.0.113.0/25', '80'), at('203.0.113.128/25', '80'), http({})])), [
    /^warning void-filter spec\.egress\[2\]: .*: .*c#0 .*c#1 "egress\[1\]" allows every connection there/,
  ]);
  const world = { toEntities: ['world'] };
  t.match(
    said(PODS + cilium([http({})]) + cilium([world], {}, 'w')),
    [/void-filter .*cilium\/shop\/w#0/],
    'of another',
  );
  t.same(
    said(PODS + cilium([http({}), world], { egressDeny: [at(net, '80')] })).filter((f) => /void/.test(f)),
    [],
  );
  const strict = { toFQDNs: [{ matchName: 'a.example' }] };
  const annotated = cilium([strict, tls('a.example')]).replace(
    '"name":"c"',
    '"name":"c","annotations":{"egress-agent.io/verify-names":"strict"}',
  );
  t.same(
    said(PODS + DNS + annotated).filter((f) => /void|shadow|redundant/.test(f)),
    [],
    'names that are verified filter by themselves',
  );
});

t.test('names', async (t) => {
  const NAMES = /unresolved|void-filter|service-name|wide-pattern|unfiltered-names/;
  const said = (text: string) => found(objects(text)).filter((f) => NAMES.test(f));
  const cilium = (egress: string, name = 'c') =>
    `---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop, name: ${name}}, spec: {endpointSelector: {matchLabels: {app: web}}, egress: ${egress}}}\n`;
  const toDns = (rules = '') =>
    `{toEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system}}], toPorts: [{ports: [{port: "53", protocol: ANY}]${rules}}]}`;
  const filter = (...names: string[]) =>
    toDns(`, rules: {dns: [${names.map((n) => `{matchPattern: "${n}"}`).join()}]}`);
  const to = (...names: string[]) => `{toFQDNs: [${names.map((n) => `{matchPattern: "${n}"}`).join()}]}`;
  t.same(said(PODS + DNS + cilium(`[${filter('*')}, ${to('api.x.com')}]`)), [], 'all is well');
  t.same(said(PODS + DNS + cilium(`[${filter('*.x.com')}, ${to('api.x.com', '*.x.com')}]`)), [], 'all is well');

  t.match(said(PODS + DNS + cilium(`[${to('api.x.com')}]`)), [
    /^warning unresolved spec\.egress\[0\]: .*c#0 "egress\[0\]" means names, and shop\/web may ask no DNS server: it allows nothing$/,
  ]);
  t.match(said(PODS + cilium(`[${to('api.x.com')}]`)), [/unresolved .* may ask no DNS server/], 'no DNS is known');
  t.match(said(PODS + DNS + cilium(`[${filter('api.x.com')}, ${to('api.x.com', 'b.x.com', 'c.x.com')}]`)), [
    /^warning unresolved spec\.egress\[1\]: .* means b\.x\.com, c\.x\.com, which shop\/web may not ask a DNS server for/,
  ]);
  t.same(
    said(PODS + DNS + cilium(`[${filter('api.x.com')}, ${to('**.x.com')}]`)),
    [],
    'one of its names may be asked for',
  );
  const far = '{toCIDR: [192.0.2.1/32], toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: api.x.com}]}}]}';
  t.match(said(PODS + cilium(`[${far}, ${to('b.x.com', 'api.x.com')}]`)), [/unresolved .* means b\.x\.com, which/]);
  t.match(said(PODS + DNS + cilium(`[${toDns()}, ${to('api.x.com')}]`)), [
    /^info unfiltered-names spec\.egress\[1\]: .* means names without rules\.dns: Cilium itself would learn none/,
  ]);

  t.match(said(PODS + DNS + cilium(`[${filter('a.com')}, ${filter('*')}, ${to('a.com')}]`)), [
    /^warning void-filter spec\.egress\[0\]: .*c#0 .* narrows nothing: .*c#1 "egress\[1\]" allows every query there/,
  ]);
  t.match(
    said(PODS + DNS + cilium(`[${filter('a.com')}]`) + cilium(`[${toDns()}]`, 'wide')),
    [/void-filter .*cilium\/shop\/wide#0 .*allows every query there/],
    'of another policy',
  );
  t.match(
    said(PODS + DNS + cilium(`[${filter('a.com')}, {toEntities: [cluster]}]`)),
    [/void-filter .*c#1 "egress\[1\]" allows every query there/],
    'by what it means, whatever its words',
  );
  const other = '{toCIDR: [192.0.2.1/32], toPorts: [{ports: [{port: "53", protocol: ANY}]}]}';
  t.same(said(PODS + DNS + cilium(`[${filter('a.com')}, ${other}]`)), [], 'other servers');

  const wide = (pattern: string) => said(PODS + DNS + cilium(`[${filter('*')}, ${to(pattern)}]`));
  t.match(wide('*foo.com'), [
    /^warning wide-pattern spec\.egress\[1\]: .* means \*foo\.com: it matches evilfoo\.com too/,
  ]);
  t.match(wide('**.'), [/wide-pattern .* means \*: every name, so whoever answers/]);
  t.match(wide('*.com'), [/wide-pattern .*: every name in com,/]);
  t.match(wide('**.com'), [/wide-pattern .*: every name in com,/]);
  t.match(wide('google.*'), [/wide-pattern .*: names in every top-level domain/]);
  t.match(wide('*.s3.a*z.com'), [/wide-pattern .*: it matches x\.s3\.aevilz\.com too/]);
  for (const fine of ['*.foo.com', '**.foo.com', '*-x.foo.com', 'foo.com', 'localhost']) t.same(wide(fine), [], fine);

  const service = (ip: string) =>
    `---\n{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: db}, spec: {clusterIP: ${ip}, ports: [{port: 80}]}}\n`;
  const db = 'db.shop.svc.cluster.local';
  t.match(said(PODS + DNS + service('10.96.0.9') + cilium(`[${filter('*')}, ${to(db)}]`)), [
    /^warning service-name spec\.egress\[1\]: .*that is the address of Service shop\/db, in place of which the pods/,
  ]);
  t.match(said(PODS + DNS + service('None') + cilium(`[${filter('*')}, ${to(`pod-0.${db}`)}]`)), [
    /service-name .*Service shop\/db stands for pods, which no name means in this language/,
  ]);
  const cnp = `---\n{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: p}, spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Accept, to: [{domainNames: [${db}]}]}]}}\n`;
  t.same(said(PODS + DNS + service('None') + cnp), [], 'where names may mean pods');
  t.match(said(PODS + DNS + service('10.96.0.9') + cnp), [/service-name/]);
});

t.test('rules with names hide no others, and are hidden by what allows everything', async (t) => {
  const anp = (egress: object[]) =>
    `---\n${JSON.stringify({ apiVersion: 'policy.networking.k8s.io/v1alpha1', kind: 'AdminNetworkPolicy', metadata: { name: 'a' }, spec: { priority: 1, subject: { namespaces: {} }, egress } })}\n`;
  const names = { action: 'Allow', to: [{ domainNames: ['a.example.com'] }] };
  const net = { action: 'Deny', to: [{ networks: ['203.0.113.0/24'] }] };
  const said = (...egress: object[]) => found(objects(PODS + anp(egress))).filter((f) => /shadowed|redundant/.test(f));
  t.same(said(names, net), []);
  t.same(said(net, names), []);
  t.match(said({ action: 'Deny', to: [{ networks: ['0.0.0.0/0', '::/0'] }] }, names), [/shadowed spec\.egress\[1\]/]);
  const dns = (query: string) =>
    `{toPorts: [{ports: [{port: "53", protocol: UDP}], rules: {dns: [{matchPattern: "${query}"}]}}]}`;
  const cilium = (egress: string) =>
    `---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop, name: c}, spec: {endpointSelector: {}, egress: ${egress}}}\n`;
  const hidden = (text: string) => found(objects(PODS + text)).filter((f) => /shadowed|redundant/.test(f));
  t.same(hidden(cilium(`[${dns('a')}, ${dns('b')}]`)), []);
  t.match(hidden(cilium(`[${dns('a*')}, ${dns('ab')}]`)), [/redundant spec\.egress\[1\]/]);
});
