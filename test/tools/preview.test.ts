/** What a change of policies would do, compared with evaluate() on every flow; and the list of policy objects. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readAges, writeAges } from '../../agent/serve/ages.js';
import t from 'tap';
import { toIr } from '../../src/dialects/index.js';
import { type Edge, type EdgeHistory, type EdgeParty, partyName } from '../../src/edges/edge.js';
import { edgeOf } from '../../src/edges/wire.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { viewOf } from '../../src/ir/sender.js';
import { formatPolicy } from '../../src/ir/names.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { PreviewResponse } from '../../src/proto/edges.js';
import { policyObjects } from '../../src/tools/policies/objects.js';
import { PolicyAges } from '../../src/tools/policies/since.js';
import { preview } from '../../src/tools/policies/preview.js';
import { A_DAY, makeDay, makeEdge, outside, workload } from '../edges/given.js';
import { type Random, seeded } from '../fuzz/random.js';
import { namespace, NODE, pod, policy, snapshotOf } from '../policy/world.js';

const random = seeded();
const HEARING = { verifyNames: 'off', quic: 'inspect' } as const;
const APPS = ['web', 'api', 'db', 'job'];
const SPACES = ['shop', 'pay', 'ops'];
const OUTSIDE = ['192.0.2.7', '192.0.2.200', '198.51.100.1', '2001:db8::7'];

const cluster = [
  ...SPACES.map((name) => namespace(name, { team: name })),
  ...SPACES.flatMap((ns, n) =>
    APPS.map((app, i) => pod(`${ns}/${app}`, [`10.244.${n}.${i + 1}`, `fd00::${n}:${i + 1}`], { app })),
  ),
  `---\n{apiVersion: v1, kind: Node, metadata: {name: ${NODE}}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}\n`,
].join('');

function networkPolicy(r: Random, name: string, annotations: object = {}): string {
  const peer = () =>
    r.pick<object>([
      { podSelector: { matchLabels: { app: r.pick(APPS) } } },
      { namespaceSelector: { matchLabels: { team: r.pick(SPACES) } } },
      { ipBlock: { cidr: r.pick(['192.0.2.0/24', '0.0.0.0/0', '10.244.1.0/24', '::/0']) } },
    ]);
  const rule = () => ({
    ...(r.chance(80) ? { to: Array.from({ length: 1 + r.below(2) }, peer) } : {}),
    ...(r.chance(60) ? { ports: [{ port: r.pick([80, 443, 5432]), protocol: r.pick(['TCP', 'UDP']) }] } : {}),
  });
  const spec = {
    podSelector: r.chance(30) ? {} : { matchLabels: { app: r.pick(APPS) } },
    policyTypes: ['Egress'],
    egress: Array.from({ length: r.below(3) }, rule),
  };
  const metadata = { namespace: r.pick(SPACES), name, annotations };
  return `---\n${JSON.stringify({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec })}\n`;
}

function globalPolicy(r: Random, name: string): string {
  const selector = `app == '${r.pick(APPS)}'`;
  const spec = {
    order: r.below(3) * 900,
    selector,
    types: ['Egress'],
    egress: [
      { action: r.pick(['Allow', 'Deny', 'Pass']), destination: { nets: [r.pick(['192.0.2.0/24', '10.0.0.0/8'])] } },
    ],
  };
  return `---\n${JSON.stringify({ apiVersion: 'projectcalico.org/v3', kind: 'GlobalNetworkPolicy', metadata: { name }, spec })}\n`;
}

const some = (r: Random, annotations?: object) =>
  Array.from({ length: r.below(5) }, () =>
    r.chance(70) ? networkPolicy(r, `p${r.below(4)}`, annotations) : globalPolicy(r, `g${r.below(3)}`),
  );

function party(r: Random): EdgeParty {
  if (r.chance(60)) return workload(`${r.pick(SPACES)}/${r.pick(APPS)}`, 'Pod');
  if (r.chance(20)) return { kind: 'node', namespace: '', workloadKind: '', name: NODE };
  return outside(r.pick(OUTSIDE));
}

function randomEdge(r: Random): EdgeHistory {
  const edge = makeEdge({
    source: workload(`${r.pick(SPACES)}/${r.pick(APPS)}`, 'Pod'),
    destination: party(r),
    port: r.pick([80, 443, 5432]),
    protocol: r.pick([6, 6, 17]),
    verdict: r.pick(['allow', 'deny']),
  });
  return { edge, days: [makeDay(A_DAY, { connections: 1 + r.below(9) })] };
}

function unique(documents: readonly string[]): string[] {
  const key = (text: string) => JSON.stringify(Object.values(JSON.parse(text.slice(4)).metadata).slice(0, 2));
  return [...new Map(documents.map((text) => [key(text), text])).values()];
}

function naive(before: Snapshot, after: Snapshot, { source, destination, port, protocol }: Edge) {
  const from = partyName(source);
  const ipOf = (p: EdgeParty) =>
    p.kind === 'workload' ? before.pods.get(partyName(p))?.ips[0] : p.kind === 'node' ? '192.168.0.1' : p.name;
  const to = ipOf(destination) as string;
  const judge = (s: Snapshot) => evaluate(toIr(s).ir, viewOf(s, from), { from, to, port, protocol }).verdict;
  return { was: judge(before), is: judge(after), itself: from === partyName(destination) };
}

const textOf = (e: Edge) => `${partyName(e.source)} ${partyName(e.destination)} ${e.port} ${e.protocol}`;

function told(response: PreviewResponse): string[] {
  return (response.edges ?? []).map((c) => `${textOf(edgeOf(c.edge ?? {}))} ${c.was} ${c.is}`).sort();
}

t.test(`the flows that change are those that evaluate() tells, FUZZ_SEED=${random.seed}`, async (t) => {
  let changes = 0;
  for (let n = 0; n < 150; n++) {
    const existing = unique(some(random));
    const given = unique(some(random));
    const before = snapshotOf(cluster + existing.join(''));
    const deleted = before.policies.filter(() => random.chance(20));
    const kept = before.policies.filter((raw) => !deleted.includes(raw));
    const own = snapshotOf(given.join('')).policies;
    const same = (a: (typeof own)[number], b: (typeof own)[number]) => a.where.object === b.where.object;
    const policies = [...kept.filter((raw) => !own.some((other) => same(raw, other))), ...own];
    const after: Snapshot = { ...before, policies };
    const evidence = Array.from({ length: 40 }, () => randomEdge(random));
    const response = preview({
      snapshot: before,
      hearing: HEARING,
      change: {
        manifests: given.join(''),
        deleted: deleted.map((raw) => String(raw.where.object)),
        enforceStaged: false,
      },
      evidence,
      limit: 1000,
    });
    const expected = new Set<string>();
    for (const { edge } of evidence) {
      const { was, is, itself } = naive(before, after, edge);
      if (was !== is && !itself) expected.add(`${textOf(edge)} ${was} ${is}`);
    }
    t.same(told(response), [...expected].sort(), existing.join('') + given.join(''));
    t.equal((response.opened ?? 0) + (response.closed ?? 0), expected.size);
    t.ok(JSON.parse(response.diff ?? '').changes);
    changes += expected.size;
  }
  t.ok(changes > 100, `${changes} changes`);
});

t.test('staged policies count as enforced where it is asked for', async (t) => {
  const staged = policy('shop/all', { podSelector: {}, policyTypes: ['Egress'] }).replace(
    'name: all',
    'name: all, annotations: {egress-agent.io/enforcement: audit}',
  );
  const calico = `---\n{apiVersion: projectcalico.org/v3, kind: StagedNetworkPolicy, metadata: {namespace: pay, name: none}, spec: {types: [Egress]}}\n`;
  const snapshot = snapshotOf(cluster + staged + calico);
  const edge = (from: string) => ({
    edge: makeEdge({ source: workload(from, 'Pod'), destination: outside('192.0.2.7') }),
    days: [makeDay(A_DAY)],
  });
  const evidence = [edge('shop/web'), edge('pay/web'), edge('ops/web'), edge('gone/web')];
  const ask = (enforceStaged: boolean) =>
    preview({ snapshot, hearing: HEARING, change: { manifests: '', deleted: [], enforceStaged }, evidence, limit: 0 });
  const without = ask(false);
  t.same(told(without), []);
  t.equal(without.judged, 3);
  t.equal(without.unknown, 1, 'whose pods are gone');
  const answer = ask(true);
  t.same(told(answer), ['pay/web 192.0.2.7 443 6 allow deny', 'shop/web 192.0.2.7 443 6 allow deny']);
  t.equal(answer.closed, 2);
  t.same(answer.edges?.map((e) => e.is_rule).sort(), ['calico/pay/none#default', 'np/shop/all#default']);
  const { changes } = JSON.parse(answer.diff ?? '') as { changes: { senders: string[] }[] };
  t.ok(changes.length > 0 && changes.every((c) => c.senders.every((s) => !s.startsWith('ops/'))));
});

t.test('problems of what is given are told, and those of others are not', async (t) => {
  const snapshot = snapshotOf(cluster + policy('shop/old', '{podSelector: {}, egres: []}'));
  const ask = (manifests: string, deleted: string[] = []) =>
    preview({
      snapshot,
      hearing: HEARING,
      change: { manifests, deleted, enforceStaged: false },
      evidence: [],
      limit: 0,
    });
  const { problems = [] } = ask(
    policy('shop/new', '{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 1.2.3.4/99}}]}]}'),
    ['NetworkPolicy shop/none'],
  );
  t.ok(problems.some((p) => p.object === 'NetworkPolicy shop/new' && p.field === 'spec.egress[0].to[0].ipBlock.cidr'));
  t.ok(problems.some((p) => p.object === 'NetworkPolicy shop/none' && /is not there/.test(p.message ?? '')));
  t.notOk(problems.some((p) => p.object === 'NetworkPolicy shop/old'));
  t.match(ask('{{{').problems?.[0]?.severity, 'error', 'text that is no YAML');
  t.match(ask(pod('shop/x', '10.9.9.9')).problems?.[0]?.message, /left out/);
  t.throws(() => ask(`# ${'x'.repeat(1 << 20)}`), { code: 'USAGE' }, 'more than 1 MiB');
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefghij'].map((c, i) => `${c}: &${c} [${Array.from({ length: 9 }, () => `*${'abcdefghij'[i]}`).join()}]`).join('\n')}\n`;
  t.ok((ask(bomb).problems ?? []).length > 0, 'aliases of aliases');
});

t.test('names, and what depends on what is asked', async (t) => {
  const fqdn = (rules: string) =>
    `---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop, name: names}, spec: {endpointSelector: {}, egress: [${rules}]}}\n`;
  const snapshot = snapshotOf(cluster);
  const to = (destination: EdgeParty, port: number, protocol: number, address = '') => ({
    edge: makeEdge({ source: workload('shop/web', 'Pod'), destination, port, protocol, address }),
    days: [makeDay(A_DAY)],
  });
  const evidence = [
    to(outside('api.example.com', 'name'), 443, 6, '192.0.2.7'),
    to(outside('evil.example.com', 'name'), 443, 6, '192.0.2.7'),
    to(outside('lost.example.com', 'name'), 443, 6),
    to(workload('ops/db', 'Pod'), 53, 17),
  ];
  const manifests = fqdn(
    `{toFQDNs: [{matchName: api.example.com}]}, {toEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': ops}}], toPorts: [{ports: [{port: '53', protocol: ANY}], rules: {dns: [{matchPattern: '*.example.com'}]}}]}`,
  );
  const answer = preview({
    snapshot,
    hearing: HEARING,
    change: { manifests, deleted: [], enforceStaged: false },
    evidence,
    limit: 0,
  });
  t.same(told(answer), ['shop/web evil.example.com 443 6 allow deny', 'shop/web ops/db 53 17 allow partial']);
  t.equal(answer.unknown, 1, 'a name without an address');
});

t.test('policy objects come in the order in which they are judged', async (t) => {
  for (let n = 0; n < 30; n++) {
    const snapshot = snapshotOf(
      cluster + unique([...some(random), ...some(random, { 'egress-agent.io/enforcement': 'audit' })]).join(''),
    );
    const { ir, problems } = toIr(snapshot);
    const ages = new PolicyAges();
    ages.take(snapshot, 1000);
    const objects = await policyObjects({ ir, snapshot, problems, since: (raw) => ages.since(raw) });
    const order = ir.tiers.flatMap(({ name, policies }) => [
      ...new Set(policies.map((p) => `${name} ${formatPolicy(p.ref)}`)),
    ]);
    const named = objects.filter((o) => o.tier !== undefined);
    const nameOf = (o: (typeof objects)[number]) =>
      formatPolicy({
        dialect: o.dialect ?? '',
        kind: o.kind ?? '',
        name: o.name ?? '',
        ...(o.namespace ? { namespace: o.namespace } : {}),
      });
    t.same(
      named.map((o) => `${o.tier} ${nameOf(o)}`),
      order,
    );
    t.equal(objects.length, snapshot.policies.length);
    for (const { pods, rules = [], staged, yaml } of named) {
      t.ok(Number.isInteger(pods));
      t.ok(rules.every((r) => r.staged === staged));
      t.match(yaml, /^apiVersion: /);
    }
  }
});

t.test('what a policy object says of itself', async (t) => {
  const metadata = {
    name: 'web',
    namespace: 'shop',
    managedFields: [{ manager: 'x' }],
    annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}', note: 'kept' },
  };
  const spec = { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Egress'], egress: [{}] };
  const text = JSON.stringify({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec });
  const set =
    '---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: nets}, spec: {nets: [192.0.2.0/24]}}\n';
  const ingress = policy('pay/in', '{podSelector: {}, policyTypes: [Ingress], ingress: [{}]}');
  const wrong = policy('pay/wrong', '{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: x}}]}]}');
  const snapshot = snapshotOf(`${cluster}---\n${text}\n${set}${ingress}${wrong}`);
  const { ir, problems } = toIr(snapshot);
  const ages = new PolicyAges();
  ages.take(snapshot, 1000);
  const state = { ir, snapshot, problems, since: (raw: (typeof snapshot.policies)[number]) => ages.since(raw) };
  const all = await policyObjects(state);
  const web = all.find((o) => o.name === 'web');
  t.match(web, {
    tier: 'default',
    tier_default: 'deny',
    pods: 1,
    state: 'in-force',
    staged: false,
    since: { seconds: 1 },
  });
  t.notMatch(web?.yaml, /managedFields|last-applied/);
  t.match(web?.yaml, /note: kept/);
  t.match(
    all.find((o) => o.name === 'nets'),
    { supporting: true, kind: 'GlobalNetworkSet' },
  );
  t.equal(all.find((o) => o.name === 'in')?.tier, undefined, 'nothing of it is for egress');
  t.match(
    all.find((o) => o.name === 'wrong'),
    { state: 'refused', problems: [{ field: 'spec.egress[0].to[0].ipBlock.cidr' }] },
  );
  t.same(
    (await policyObjects(state, new Set(['shop']))).map((o) => o.name),
    ['web', 'nets'],
  );
  ages.take(snapshotOf(`${cluster}---\n${text.replace('[{}]', '[]')}\n`), 5000);
  t.equal(ages.since(snapshot.policies.find((p) => p.name === 'web') as never), undefined, 'its earlier content');
  t.equal(ages.since(snapshotOf(`---\n${text.replace('[{}]', '[]')}`).policies[0] as never), 5000);
});

t.test('since when a policy has its content, staged or not', async (t) => {
  const ages = new PolicyAges();
  const text = (annotations = '', egress = '[]', created = '') =>
    `---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: shop, name: web, ${created}annotations: {${annotations}}}, spec: {podSelector: {}, egress: ${egress}}}\n`;
  const other = policy('shop/other', '{podSelector: {}}');
  const at = (ms: number, ...documents: string[]) => {
    const snapshot = snapshotOf(documents.join(''));
    ages.take(snapshot, ms);
    const raw = snapshot.policies.find((p) => p.name === 'web');
    return raw && ages.since(raw);
  };
  const created = "generation: 1, creationTimestamp: '1970-01-01T00:00:00.100Z', ";
  t.equal(at(1000, text('', '[]', created)), 100, 'it was never edited');
  t.equal(at(2000, text('note: x', '[]', created), other), 100, 'a note is no edit');
  const audit = 'egress-agent.io/enforcement: audit';
  t.equal(at(3000, other, text(audit, '[]', created)), 3000, 'staged');
  t.equal(at(4000, text(audit, '[{}]')), 4000, 'edited');
  t.equal(at(5000, text('', '[{}]')), 5000, 'enforced');
  t.equal(
    at(
      6000,
      namespace('shop', {}).replace('"labels"', `"annotations":{"egress-agent.io/enforcement":"audit"},"labels"`),
      text('', '[{}]'),
    ),
    6000,
  );
  t.equal(at(7000, other), undefined);
  t.equal(at(8000, text('', '[{}]')), 8000, 'it was gone');
  t.equal(new PolicyAges().since(snapshotOf(text()).policies[0] as never), undefined);
});

t.test('since when is kept by the next agent', async (t) => {
  const path = join(t.testdir(), 'policy-ages');
  t.same(readAges(path), []);
  const [kept, edited, gone] = ['kept', 'edited', 'gone'].map((name) => policy(`shop/${name}`, '{podSelector: {}}'));
  const before = new PolicyAges();
  before.take(snapshotOf(`${kept}${edited}${gone}`), 1000);
  t.ok(before.isChanged);
  writeAges(path, before.all);
  const after = new PolicyAges(readAges(path));
  const snapshot = snapshotOf(`${kept}${edited?.replace('{podSelector: {}}', '{podSelector: {}, egress: [{}]}')}`);
  after.take(snapshot, 9000);
  const since = (name: string) => after.since(snapshot.policies.find((p) => p.name === name) as never);
  t.equal(since('kept'), 1000);
  t.equal(since('edited'), 9000);
  t.equal(after.all.size, 2, 'of what is gone nothing is kept');
  writeFileSync(path, '[["x",{"generation":"many"}],3,null]');
  t.same(readAges(path), []);
  writeFileSync(path, '[[');
  t.same(readAges(path), []);
});
