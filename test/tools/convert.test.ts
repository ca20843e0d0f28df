/** Conversions of each language into each other: what is proven, and what is refused with which words. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseAllDocuments } from 'yaml';
import { TARGETS, type Target } from '../../src/convert/terms/common.js';
import type { Conversion } from '../../src/convert/index.js';
import { Grounds, placesOf } from '../../src/convert/proof/grounds.js';
import { documentText, policiesIn } from '../../src/convert/text.js';
import { prove } from '../../src/convert/proof/proof.js';
import { witnesses } from '../../src/convert/proof/witness.js';
import { toIr } from '../../src/dialects/index.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Ir } from '../../src/ir/types.js';
import { boundaryPackets } from '../../src/tools/packets.js';
import { seeded } from '../fuzz/random.js';
import { readCases } from '../engines/cases.js';
import { root } from '../netns/shell.js';
import { policy, snapshotOf } from '../policy/world.js';
import { after, converted, differences, IN_CLUSTER, type Taken } from './convert-check.js';

t.setTimeout(240_000);

interface Example {
  name: string;
  to: Target;
  taken?: Taken;
  policies: string;
  /** Objects that are made, as far as is said. */
  makes?: object[];
  /** `title: field: message`. */
  refuses?: string[];
}

const file = readFileSync(join(root, 'test/tools/convert.yaml'), 'utf8');
const examples = parseAllDocuments(file).map((d): Example => d.toJS());

function reasons({ refused }: Conversion): string[] {
  return refused.flatMap(({ source, reasons: all }) =>
    all.map(({ field, message }) => [source.title, field, message].filter((s) => s !== '').join(': ')),
  );
}

for (const { name, to, taken = {}, policies, makes, refuses = [] } of examples) {
  t.test(`${name} → ${to}`, async (t) => {
    const own = { ...taken, ...(taken.cluster ? { cluster: taken.cluster } : {}) };
    const snapshot = snapshotOf(policies);
    t.same(snapshot.problems, []);
    const conversion = converted(snapshot, to, own);
    t.same(reasons(conversion), refuses);
    const objects = conversion.converted.flatMap((one) => one.objects);
    if (makes) t.match(objects, makes);
    t.equal(objects.length, makes?.length ?? 0);
    if (makes) t.ok(conversion.packets > 0);
    const read = snapshotOf(conversion.converted.flatMap((one) => one.texts).join(''));
    t.same(
      toIr(read).problems.filter((p) => p.severity === 'error'),
      [],
    );
  });
}

t.test('a rule read as more than it says is found, though it is read alike on both sides', async (t) => {
  const egress = [{ toEndpoints: [{ matchExpressions: [{ key: 'k', operator: 'NotIn', values: ['v'] }] }] }];
  const metadata = { namespace: 'shop', name: 'web' };
  const object = {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata,
    spec: { endpointSelector: {}, egress },
  };
  const { policies } = snapshotOf(JSON.stringify(object));
  const { ir } = toIr(snapshotOf(JSON.stringify(object)));
  const misread: Ir = {
    tiers: ir.tiers.map((tier) => ({
      ...tier,
      policies: tier.policies.map((p) => ({
        ...p,
        rules: p.rules.map((rule) => ({
          ...rule,
          peers: (rule.peers ?? []).map((peer): Peer => {
            if (peer.kind !== 'pods') return peer;
            return { kind: 'not', of: { ...peer, pods: { op: 'not', of: peer.pods } } };
          }),
        })),
      })),
    })),
  };
  const faults = (read: Ir) =>
    witnesses([read], undefined).map((one) => prove(read, read, one, false, new Grounds(policies)).counterexample);
  for (const found of faults(ir)) t.equal(found, undefined);
  for (const found of faults(misread)) {
    t.match(found, { misread: { means: 'pods' } });
    t.equal(found?.was.text, found?.is.text, 'both sides agree');
  }
});

t.test('the proof knows names, their aliases, and queries', async (t) => {
  const irOf = (egress: string) => {
    const spec = `{endpointSelector: {}, egress: ${egress}}`;
    return toIr(
      snapshotOf(
        `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop, name: c}, spec: ${spec}}`,
      ),
    ).ir;
  };
  const differs = (a: Ir, b: Ir) => {
    const found = witnesses([a, b], undefined).map((one) => prove(a, b, one, false, new Grounds([])).counterexample);
    return found.find((one) => one !== undefined)?.packet ?? '';
  };
  const names = (pattern: string) => irOf(`[{toFQDNs: [{matchPattern: "${pattern}"}]}]`);
  t.equal(differs(names('*.x.com'), names('*.X.com.')), '');
  t.match(differs(names('*.x.com'), names('**.x.com')), /learned for x\.x\.x\.com$/);
  t.match(differs(names('*.x.com'), names('*x.com')), /learned for /);
  t.match(differs(names('x.com'), names('*')), /learned for /);
  const aliased: Ir = JSON.parse(JSON.stringify(names('x.com')), (key, value) =>
    key !== 'of' && value?.kind === 'names' ? { ...value, aliases: true } : value,
  );
  t.match(differs(names('x.com'), aliased), /learned for x\.com \(an alias\)$/);
  const asking = (dns: string) => irOf(`[{toPorts: [{ports: [{port: "53", protocol: UDP}], rules: {dns: ${dns}}}]}]`);
  t.equal(differs(asking('[{matchName: a}]'), asking('[{matchName: A.}]')), '');
  t.match(differs(asking('[{matchName: a}]'), asking('[{matchPattern: "a*"}]')), /:53\/udp query ax$/);
  t.match(differs(asking('[]'), asking('[{matchPattern: "*"}]')), / query /);
});

t.test('what the fields of a rule can mean at all', async (t) => {
  const rows: [string, object, string[] | undefined][] = [
    ['networkpolicy', { to: [{ podSelector: {} }, { namespaceSelector: {} }] }, ['pods']],
    ['networkpolicy', { to: [{ podSelector: {} }, { ipBlock: {} }] }, undefined],
    ['networkpolicy', { to: [] }, undefined],
    ['networkpolicy', {}, undefined],
    ['clusternetworkpolicy', { to: [{ namespaces: {} }, { nodes: {} }] }, ['pods', 'nodes']],
    ['clusternetworkpolicy', { to: [{ networks: [] }] }, undefined],
    ['cilium', { toEndpoints: [{}] }, ['pods']],
    ['cilium', { toEndpoints: [{ matchLabels: { 'reserved:host': '' } }] }, undefined],
    ['cilium', { toNodes: [{}] }, ['nodes']],
    ['cilium', { toEntities: ['all'] }, undefined],
    ['cilium', { toFQDNs: [{ matchName: 'a' }] }, ['the outside']],
    ['fqdn', { matches: [{ name: 'a' }] }, ['the outside']],
    ['applicationnetworkpolicy', { to: [{ podSelector: {} }] }, ['pods']],
    ['applicationnetworkpolicy', { to: [{ podSelector: {} }, { domainNames: ['a.b'] }] }, undefined],
    ['calico', { destination: { selector: '!has(k)' } }, ['pods']],
    ['calico', { destination: { notSelector: 'has(k)' } }, undefined],
    ['fqdn', { to: [{ podSelector: {} }] }, undefined],
  ];
  for (const [dialect, rule, places] of rows) {
    const found = placesOf(rule, dialect);
    t.same(found && [...found], places, `${dialect} ${JSON.stringify(rule)}`);
  }
});

t.test('every pair of languages has an example of both', async (t) => {
  const language = (text: string): Target =>
    /cilium\.io/.test(text)
      ? 'cilium'
      : /projectcalico/.test(text)
        ? 'calico'
        : /policy\.networking/.test(text)
          ? 'cnp'
          : 'networkpolicy';
  for (const from of TARGETS)
    for (const to of TARGETS.filter((target) => target !== from)) {
      const of = examples.filter((e) => e.to === to && language(e.policies) === from);
      t.ok(
        of.some((e) => e.makes && !e.refuses),
        `${from} → ${to}: one is made`,
      );
      t.ok(
        of.some((e) => e.refuses),
        `${from} → ${to}: one is refused`,
      );
    }
});

/** A NetworkPolicy's spec, with one thing changed at a time. */
const BASE = {
  podSelector: { matchLabels: { app: 'web' } },
  policyTypes: ['Egress'],
  egress: [
    {
      to: [
        { podSelector: { matchExpressions: [{ key: 'app', operator: 'In', values: ['a', 'b', 'c'] }] } },
        { namespaceSelector: { matchLabels: { env: 'prod' } }, podSelector: { matchLabels: { tier: 'x' } } },
        { ipBlock: { cidr: '203.0.113.0/24', except: ['203.0.113.7/32'] } },
      ],
      ports: [{ port: 80, endPort: 90 }, { port: 'http' }, { protocol: 'UDP', port: 53 }],
    },
  ],
};

t.test('the proof notices any one thing that is another', async (t) => {
  const changes: [RegExp, string][] = [
    [/"app":"web"/, '"app":"webb"'],
    [/"app":"web"/, '"app":"web","x":"y"'],
    [/,"c"\]/, ']'],
    [/"In"/, '"NotIn"'],
    [/"key":"app"/, '"key":"application"'],
    [/"env":"prod"/, '"env":"test"'],
    [/"env":"prod"/, '"env":"prod","team":"x"'],
    [/"matchLabels":{"env":"prod"}/, ''],
    [/"tier":"x"/, '"tier":"y"'],
    [/,"podSelector":{"matchLabels":{"tier":"x"}}/, ''],
    [/0\/24/, '0/23'],
    [/0\/24/, '0/25'],
    [/,"except":\["203.0.113.7\/32"\]/, ''],
    [/113.7\/32/, '113.8/32'],
    [/113.7\/32/, '113.6/31'],
    [/"port":80/, '"port":79'],
    [/"endPort":90/, '"endPort":91'],
    [/,"endPort":90/, ''],
    [/"port":"http"/, '"port":"https"'],
    [/{"port":"http"}/, '{"protocol":"SCTP","port":"http"}'],
    [/"UDP"/, '"SCTP"'],
    [/"port":53/, '"port":54'],
  ];
  const text = JSON.stringify(BASE);
  const irOf = (spec: string) => toIr(snapshotOf(policy('shop/web', spec))).ir;
  const equal = (a: string, b: string) => {
    const irs = [irOf(a), irOf(b)] as const;
    const clusters = [...witnesses(irs, undefined), ...witnesses(irs, [])];
    return clusters.every((cluster) => prove(...irs, cluster, false, new Grounds([])).counterexample === undefined);
  };
  t.ok(equal(text, text));
  for (const [from, to] of changes) {
    const changed = text.replace(from, to);
    t.not(changed, text, String(from));
    t.notOk(equal(text, changed), `${from} → ${to}`);
    t.notOk(equal(changed, text), `${from} → ${to}, the other way`);
  }
});

t.test('policies of the case files: what is converted judges their packets as before', async (t) => {
  const until = Date.now() + 30_000;
  const pairs = readCases().flatMap((one) => TARGETS.map((to) => ({ ...one, to })));
  // Each run as many as there is time for, others each time.
  const random = seeded();
  const shuffled = pairs.map((one) => [random.below(1 << 30), one] as const).sort(([a], [b]) => a - b);
  for (const [, { file: name, snapshot, rows, to }] of shuffled) {
    if (snapshot.policies.length === 0 || Date.now() > until) continue;
    const taken: Taken = { cluster: IN_CLUSTER, ignoreOwn: true };
    const conversion = converted(snapshot, to, taken);
    const packets = rows.map((row) => row.packet).filter((p) => p.from !== '@node');
    t.same(differences(snapshot, conversion, packets, taken), [], `${name} → ${to}`);
    t.ok(conversion.refused.every((one) => one.reasons.length > 0));
  }
});

t.test('policies of several objects: all are replaced together', async (t) => {
  const snapshot = snapshotOf(
    policy('shop/a', '{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}') +
      policy(
        'shop/b',
        '{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 198.51.100.0/24}}]}]}',
      ),
  );
  for (const to of ['cnp', 'calico'] as const) {
    const conversion = converted(snapshot, to, { ignoreOwn: true });
    t.same(reasons(conversion), []);
    const both = toIr({ ...snapshot, policies: after(snapshot.policies, conversion) }).ir;
    t.ok([...boundaryPackets([{ ir: both, snapshot }])].length === 0, 'no pods were given');
  }
});

t.test('names that steer: nothing of them leaves a comment or a string', async (t) => {
  const metadata = { namespace: 'shop', name: 'web', labels: { x: 'a\u001b[2Jb\n---\nkind: Pod\u2028' } };
  const object = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec: { podSelector: {} } };
  const text = documentText(object, ['from x{\nkind: Pod\u001b']);
  t.match(text, /^---\n# from x\{\\u000akind: Pod\\u001b\n/);
  t.notMatch(text, /[^\x20-\x7e\n]/);
  t.same(policiesIn(text).policies[0]?.object, object);
});
