/** CiliumNetworkPolicy: what is wrong with an object closes and is named; what its cases in test/cases do not say. */
import t, { type Test } from 'tap';
import { formatRule } from '../../src/ir/names.js';
import { toIr } from '../../src/dialects/index.js';
import { parseManifest } from '../../src/identity/files/yaml.js';
import { comparable, Evaluate, Simulate } from '../engines/engine.js';
import { type Random, seeded } from '../fuzz/random.js';
import { randomPacket, randomWorld } from '../fuzz/worlds.js';
import { mangled, randomCilium, randomGroup } from './cilium-random.js';
import { judgeOf, namespace, pod, problemsOf, snapshotOf } from './world.js';

const WORLD =
  namespace('default') +
  namespace('data') +
  pod('default/web', ['10.1.0.1', 'fd00:1::1'], { app: 'web' }) +
  pod('default/db', '10.1.0.2', { app: 'db' }) +
  pod('data/db', '10.1.0.3', { app: 'db' });

function cilium(key: string, body: object, kind = 'CiliumNetworkPolicy', apiVersion = 'cilium.io/v2'): string {
  const [ns, name] = key.split('/');
  const metadata = name === undefined ? { name: ns } : { namespace: ns, name };
  return `---\n${JSON.stringify({ apiVersion, kind, metadata, ...body })}\n`;
}

const WEB = { endpointSelector: { matchLabels: { app: 'web' } } };
const web = (spec: object) => WORLD + cilium('default/p', { spec: { ...WEB, ...spec } });
const OUT = '203.0.113.1:80/tcp';

/** Problems without the file's name. */
const told = (text: string) =>
  problemsOf(text).map((p) => p.replace(/test\.yaml[^ ]* /, '').replace(/\S+ doc \d+ ?/, ''));
const tells = (t: Test, text: string, ...parts: string[]) => {
  const problems = told(text).join('\n');
  for (const part of parts) t.ok(problems.includes(part), `${part} in:\n${problems}`);
};

t.test('what is refused closes its rule, by field path', async (t) => {
  const everything = { toEntities: ['all'] };
  const rows: [string, object, string, string][] = [
    ['a name and a pattern', { toFQDNs: [{ matchName: 'a', matchPattern: 'a' }] }, 'toFQDNs[0]', 'has a matchName and'],
    [
      'a name beside a place',
      { toFQDNs: [{ matchPattern: '*' }], toCIDR: ['0.0.0.0/0'] },
      '',
      'has toCIDR and toFQDNs: they cannot be combined',
    ],
    [
      'a port name',
      { toFQDNs: [{ matchPattern: '*' }], toPorts: [{ ports: [{ port: 'http' }] }] },
      'toPorts',
      'has a port name',
    ],
    ['a pattern', { toFQDNs: [{ matchPattern: 'a b' }] }, 'toFQDNs[0].matchPattern', 'is not a pattern of names'],
    ['a name of nothing', { toFQDNs: [{}] }, 'toFQDNs[0]', 'names nothing'],
    ['a wrong name', { toFQDNs: [{ matchName: '*' }] }, 'toFQDNs[0].matchName', 'is not a name'],
    ['toGroups', { toGroups: [{ aws: {} }] }, 'toGroups', 'cloud providers'],
    ['toRequires', { ...everything, toRequires: [{}] }, 'toRequires', 'is not enforced'],
    ['authentication', { ...everything, authentication: { mode: 'required' } }, 'authentication', 'is not enforced'],
    ['two places', { ...everything, toCIDR: ['1.0.0.0/8'] }, '', 'cannot be combined'],
    ['an entity', { toEntities: ['all', 'mars'] }, 'toEntities[1]', 'is not an entity'],
    ['a CIDR', { toCIDR: ['0.0.0.0/0', '010.0.0.0/8'] }, 'toCIDR[1]', 'is not a CIDR'],
    ['no CIDR', { toCIDRSet: [{ except: [] }] }, 'toCIDRSet[0]', 'names no addresses'],
    [
      'two CIDRs',
      { toCIDRSet: [{ cidr: '0.0.0.0/0', cidrGroupRef: 'x' }] },
      'toCIDRSet[0]',
      'has cidr and cidrGroupRef',
    ],
    ['an address', { toCIDRSet: [{ cidr: '1.2.3.4' }] }, 'toCIDRSet[0].cidr', 'is not a CIDR'],
    [
      'except',
      { toCIDRSet: [{ cidr: '1.0.0.0/8', except: ['2.0.0.0/9'] }] },
      'toCIDRSet[0].except[0]',
      'is not a part of',
    ],
    ['a Service', { toServices: [{}] }, 'toServices[0]', 'names no Service'],
    [
      'a source',
      { toEndpoints: [{ matchLabels: { 'container:a': 'b' } }] },
      'toEndpoints[0].matchLabels',
      'source of labels',
    ],
    [
      'a cluster',
      { toEndpoints: [{ matchLabels: { 'io.cilium.k8s.policy.cluster': 'x' } }] },
      'toEndpoints[0]',
      'no names here',
    ],
    [
      'a reserved value',
      { toEndpoints: [{ matchLabels: { 'reserved:host': 'x' } }] },
      'toEndpoints[0]',
      'no reserved label',
    ],
    [
      'a label value',
      { toEndpoints: [{ matchLabels: { 'k8s:a': '-' } }] },
      'toEndpoints[0].matchLabels["k8s:a"]',
      'is not a label value',
    ],
    ['a node label', { toNodes: [{ matchLabels: { 'fqdn:a': 'b' } }] }, 'toNodes[0]', 'source of labels'],
    ['unknown field', { ...everything, toPort: [] }, 'toPort', 'is not a field'],
  ];
  for (const [name, rule, field, message] of rows) {
    const text = web({ egress: [rule] });
    tells(t, text, field === '' ? 'spec.egress[0]' : `spec.egress[0].${field}`, message, 'egress[0] allows nothing');
    t.equal(judgeOf(text)('default/web', OUT), 'deny [cilium/default/p#default]', name);
  }
});

t.test('ports that cannot be read close their rule', async (t) => {
  const rows: [object, string, string][] = [
    [{ ports: [{ port: '65536' }] }, 'ports[0].port', 'is not a port'],
    [{ ports: [{ port: '080' }] }, 'ports[0].port', 'is not a port'],
    [{ ports: [{ port: '80', endPort: 79 }] }, 'ports[0].endPort', 'must be from 80'],
    [{ ports: [{ port: '80', endPort: 65536 }] }, 'ports[0].endPort', 'must be from 80'],
    [{ ports: [{ port: '0', endPort: 5 }] }, 'ports[0].endPort', 'must be from'],
    [{ ports: [{ protocol: 'TCP' }] }, 'ports[0].port', 'is missing'],
    [{ ports: [{ port: 'a--b' }] }, 'ports[0].port', 'is not a port name'],
    [{ ports: [{ port: '80', protocol: 'VRRP' }] }, 'ports[0].port', 'has no ports'],
    [{ ports: [{ port: 'http', protocol: 'IGMP' }] }, 'ports[0].port', 'has no ports'],
    [{ ports: [{ port: '256', protocol: 'ICMP' }] }, 'ports[0].port', 'is not a type of ICMP'],
    [{ ports: [{ port: 80 }] }, 'ports[0].port', 'must be a string'],
    [{ ports: [{ port: '80', protocol: 'tcp' }] }, 'ports[0].protocol', 'must be one of'],
    [{ ports: [] }, 'ports', 'names no port'],
    [{}, 'ports', 'names no port'],
    [{ ports: Array(41).fill({ port: '80' }) }, 'ports', 'has 41 items'],
    [{ ports: [{ port: '53' }], rules: { dns: [{ matchName: '*' }] } }, 'rules.dns[0].matchName', 'is not a name'],
    [{ ports: [{ port: '0' }], rules: { dns: [] } }, 'ports[0].port', 'must be a single port or a range'],
    [{ ports: [{ protocol: 'ANY' }], rules: { dns: [] } }, 'ports[0].port', 'is missing'],
    [{ rules: { dns: [] } }, 'ports', 'names no port'],
    [{ ports: [{ port: '53', protocol: 'SCTP' }], rules: { dns: [] } }, 'ports[0].protocol', 'is not asked over SCTP'],
    [{ ports: [{ port: '80' }], rules: { kafka: [{}] } }, 'rules.kafka', 'requests are not looked into'],
    [{ ports: [{ port: '80' }], rules: { l7proto: 'x', l7: [] } }, 'rules.l7proto', 'requests are not looked into'],
    [{ ports: [{ port: '80' }], rules: { htp: [] } }, 'rules.htp', 'is not a field'],
    [{ ports: [{ port: '80' }], terminatingTLS: {} }, 'terminatingTLS', 'no proxy'],
    [{ ports: [{ port: '80' }], originatingTLS: {} }, 'originatingTLS', 'no proxy'],
    [{ ports: [{ port: '80' }], listener: {} }, 'listener', 'no proxy'],
  ];
  for (const [entry, field, message] of rows) {
    const text = web({ egress: [{ toEntities: ['all'], toPorts: [entry] }] });
    tells(t, text, `spec.egress[0].toPorts[0].${field}`, message, 'egress[0] allows nothing');
    t.equal(judgeOf(text)('default/web', OUT), 'deny [cilium/default/p#default]', JSON.stringify(entry).slice(0, 60));
  }
  const fields = (f: unknown) => web({ egress: [{ icmps: [{ fields: f }] }] });
  tells(t, fields([{ type: 256 }]), 'icmps[0].fields[0].type', 'is not a type of ICMP');
  tells(t, fields([{ type: 'PacketTooBig' }]), 'of the family IPv4');
  tells(t, fields([{ type: 'Photuris', family: 'IPv6' }]), 'of the family IPv6');
  tells(t, fields([{ family: 'IPv4' }]), 'icmps[0].fields[0].type: is missing');
  tells(t, fields([]), 'names no type');
  tells(t, fields(Array(41).fill({ type: 1 })), 'has 41 items');
  tells(
    t,
    web({ egress: [{ icmps: [{ fields: [{ type: 8 }] }], toPorts: [{ ports: [{ port: '1' }] }] }] }),
    'beside toPorts',
  );
});

t.test('a deny rule that cannot be read denies everything', async (t) => {
  for (const rule of [
    { toCIDR: ['nonsense'] },
    { toEntities: ['health'] },
    { toGroups: [{}] },
    { toFQDNs: [{ matchName: 'a' }] },
    { toPorts: [{ ports: [{ port: '80' }], serverNames: ['a'] }] },
    { toPorts: [{}] },
    7,
  ]) {
    const text = web({ egress: [{ toEntities: ['all'] }], egressDeny: [{ toCIDR: ['9.9.9.9'] }, rule] });
    tells(t, text, 'spec.egressDeny[1]', 'egressDeny[1] denies everything');
    t.equal(judgeOf(text)('default/web', OUT), 'deny [cilium/default/p#1]', JSON.stringify(rule));
    t.equal(judgeOf(text)('default/db', OUT), 'allow');
  }
});

t.test('a selector that cannot be read isolates all that it could select', async (t) => {
  const egress = [{ toEntities: ['all'] }];
  for (const spec of [
    { egress },
    { egress, endpointSelector: 'x' },
    { egress, endpointSelector: { matchLabel: {} } },
    { egress, endpointSelector: { matchLabels: { 'x y': 'z' } } },
    { egress, endpointSelector: { matchLabels: { 'gen:x': 'z' } } },
    'x',
  ]) {
    const own = judgeOf(WORLD + cilium('default/p', { spec }));
    t.equal(own('default/db', OUT), 'deny [cilium/default/p#default]', JSON.stringify(spec));
    t.equal(own('data/db', OUT), 'allow', 'in its namespace');
    const wide = judgeOf(WORLD + cilium('p', { spec }, 'CiliumClusterwideNetworkPolicy'));
    t.equal(wide('data/db', OUT), 'deny [ccnp/p#default]', 'clusterwide');
    tells(t, WORLD + cilium('default/p', { spec }), 'isolates every pod of namespace default and allows nothing');
  }
  const both =
    WORLD + cilium('default/p', { spec: { ...WEB, nodeSelector: {}, egress, egressDeny: [{ toCIDR: ['9.9.9.9'] }] } });
  t.equal(judgeOf(both)('default/web', OUT), 'deny [cilium/default/p#default]', 'both selectors');
  t.equal(judgeOf(both)('default/db', OUT), 'allow');
});

t.test('policies for nodes leave pods alone, and close no node that they do not name', async (t) => {
  const CLUSTERWIDE = 'CiliumClusterwideNetworkPolicy';
  const of = (spec: object, kind = CLUSTERWIDE) => WORLD + cilium('n', { spec }, kind);
  const DENIED = 'deny [ccnp/n#default]';
  const closing = of({ nodeSelector: {}, egress: [{}] });
  t.same(told(closing), []);
  t.equal(judgeOf(closing)('default/web', OUT), 'allow');
  t.equal(judgeOf(closing)('@node', OUT), DENIED);
  t.equal(judgeOf(of({ nodeSelector: { matchLabels: { no: 'body' } }, egress: [{}] }))('@node', OUT), 'allow');
  t.equal(judgeOf(of({ nodeSelector: {}, enableDefaultDeny: { egress: true } }))('@node', OUT), DENIED);
  const dns = (rules: object) =>
    of({ nodeSelector: {}, egress: [{ toPorts: [{ ports: [{ port: '53' }], ...rules }] }] });
  t.equal(judgeOf(dns({}))('@node', '203.0.113.1:53/tcp'), 'allow [ccnp/n#0]');
  const filter = dns({ rules: { dns: [{ matchPattern: '*' }] } });
  t.equal(judgeOf(filter)('@node', '203.0.113.1:53/tcp'), DENIED, 'no query of a node is judged');
  tells(t, filter, 'spec.egress[0].toPorts[0].rules.dns', 'what the node itself asks for is not read');
  const empty = of({ nodeSelector: {}, egress: [] });
  tells(t, empty, 'warning', 'spec.egress: is empty');
  t.equal(judgeOf(empty)('@node', OUT), 'allow', 'as for Cilium');
  for (const text of [
    of({ nodeSelector: { matchLabels: 'all' }, egress: [{}] }),
    of({ nodeSelector: { matchExpressions: [{ key: 'a', operator: 'In', values: [] }] }, egress: [{}] }),
    of({ nodeSelector: { matchLabels: { 'what:a': 'b' } }, egress: [{}] }),
    of({ nodeSelector: {}, egress: [{}] }, 'CiliumNetworkPolicy'),
  ]) {
    tells(t, text, 'spec.nodeSelector', 'what nodes themselves send is not judged by it');
    t.equal(judgeOf(text)('default/web', OUT), 'allow');
    t.equal(judgeOf(text)('@node', OUT), 'allow');
  }
  const broken = of({ nodeSelector: {}, egress: [{ toCIDR: ['all'] }] });
  tells(t, broken, 'spec.egress[0].toCIDR[0]', 'spec.egress[0] allows nothing');
  t.equal(judgeOf(broken)('@node', OUT), DENIED, 'a rule that cannot be read closes, as for pods');
});

t.test('who is isolated', async (t) => {
  const verdict = (spec: object) => judgeOf(web(spec))('default/web', OUT);
  const DENIED = 'deny [cilium/default/p#default]';
  t.equal(verdict({}), 'allow', 'neither egress nor egressDeny');
  t.equal(verdict({ ingress: [{}] }), 'allow');
  t.equal(verdict({ egress: null }), 'allow', 'null is absent');
  t.equal(verdict({ egress: [{}] }), DENIED, 'an empty rule allows nothing');
  t.equal(verdict({ egress: [] }), DENIED, 'an empty list: who writes it means to close');
  tells(t, web({ egress: [] }), 'spec.egress: is empty', 'Cilium would not isolate');
  t.equal(verdict({ egressDeny: [{}] }), DENIED);
  tells(t, web({ egressDeny: [{}] }), 'warning', 'denies nothing');
  t.equal(verdict({ egressDeny: [{}], enableDefaultDeny: { egress: false } }), 'allow');
  t.equal(verdict({ egress: [{}], enableDefaultDeny: { egress: false } }), 'allow');
  t.equal(verdict({ egress: [{}], enableDefaultDeny: { ingress: false } }), DENIED);
  t.equal(verdict({ enableDefaultDeny: { egress: true } }), DENIED);
  t.equal(verdict({ egress: [{}], enableDefaultDeny: { egress: 'no' } }), DENIED, 'cannot be read');
  t.equal(verdict({ egres: [{}] }), DENIED, 'a misspelt egress?');
  t.equal(verdict({ egress: 'x' }), DENIED);
  t.equal(judgeOf(WORLD + cilium('default/p', {}))('default/web', OUT), 'allow', 'no spec');
  t.equal(judgeOf(WORLD + cilium('default/p', { specs: 7 }))('default/web', OUT), DENIED, 'specs that cannot be read');
});

t.test('warnings', async (t) => {
  tells(t, web({ egress: [{ toEntities: ['health'] }] }), 'warning', 'it matches nothing');
  tells(t, web({ egress: [{ toCIDRSet: [{ cidrGroupRef: 'x' }] }] }), 'warning', 'there is no CiliumCIDRGroup x');
  tells(
    t,
    web({ egress: [{ toPorts: [{ ports: [{ port: 'http', endPort: 5 }] }] }] }),
    'has no effect beside a port name',
  );
  const elsewhere = { endpointSelector: { matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'data' } }, egress: [{}] };
  tells(t, WORLD + cilium('default/p', { spec: elsewhere }), "is not the policy's own namespace, default");
  t.equal(
    judgeOf(WORLD + cilium('default/p', { spec: elsewhere }))('default/web', OUT),
    'deny [cilium/default/p#default]',
  );
  const health = { endpointSelector: { matchLabels: { 'reserved:health': '' } }, egress: [{}] };
  tells(t, WORLD + cilium('p', { spec: health }, 'CiliumClusterwideNetworkPolicy'), 'the policy selects none');
  t.equal(
    judgeOf(WORLD + cilium('p', { spec: health }, 'CiliumClusterwideNetworkPolicy'))('default/web', OUT),
    'allow',
  );
  tells(
    t,
    WORLD + cilium('default/p', { spec: WEB }, 'CiliumNetworkPolicy', 'cilium.io/v3'),
    'it is read as cilium.io/v2',
  );
});

t.test('a selector that says only which namespace not to have means pods of the others', async (t) => {
  const judge = judgeOf(
    web({
      egress: [
        {
          toEndpoints: [
            { matchExpressions: [{ key: 'io.kubernetes.pod.namespace', operator: 'NotIn', values: ['data'] }] },
          ],
        },
      ],
    }),
  );
  t.equal(judge('default/web', OUT), 'deny [cilium/default/p#default]', 'cilium#46949');
  t.equal(judge('default/web', '10.1.0.2:1/tcp'), 'allow [cilium/default/p#0]');
  t.equal(judge('default/web', '10.1.0.3:1/tcp'), 'deny [cilium/default/p#default]');
});

t.test('the name of the cluster is not known, that there is one is', async (t) => {
  const to = (operator: string, extra: object = {}) =>
    web({
      egress: [{ toEndpoints: [{ matchExpressions: [{ key: 'io.cilium.k8s.policy.cluster', operator, ...extra }] }] }],
    });
  t.same(told(to('Exists')), []);
  tells(t, to('NotIn', { values: ['x'] }), 'error', 'clusters have no names here');
  const key = 'k8s:io.cilium.k8s.policy.cluster';
  const reserved = { matchLabels: { 'reserved:world': '' }, matchExpressions: [{ key, operator: 'Exists' }] };
  tells(t, web({ egress: [{ toEndpoints: [reserved] }] }), 'error', 'is not known of what is reserved');
});

t.test('CiliumCIDRGroups', async (t) => {
  const group = (name: string, externalCIDRs: unknown) => cilium(name, { spec: { externalCIDRs } }, 'CiliumCIDRGroup');
  const rule = [{ toCIDRSet: [{ cidrGroupRef: 'g' }, { cidr: '9.0.0.0/8' }] }];
  const good = judgeOf(web({ egress: rule }) + group('g', ['203.0.113.0/24']));
  t.equal(good('default/web', OUT), 'allow [cilium/default/p#0]');
  const broken = web({ egress: rule, egressDeny: [] }) + group('g', ['203.0.113.0/24', 'x']);
  tells(t, broken, 'spec.externalCIDRs[1]', 'CiliumCIDRGroup g cannot be read', 'egress[0] allows nothing');
  t.equal(judgeOf(broken)('default/web', '9.9.9.9:1/tcp'), 'deny [cilium/default/p#default]');
  const denied = web({ egress: [{ toEntities: ['all'] }], egressDeny: rule }) + group('g', 'x');
  t.equal(judgeOf(denied)('default/web', '8.8.8.8:1/tcp'), 'deny [cilium/default/p#0]');
  const { ir } = toIr(snapshotOf(web({ egress: [], egressDeny: rule, log: { value: 'seen' } }) + group('g', [])));
  t.equal(ir.tiers[0]?.policies[0]?.rules[1]?.ref.name, 'egressDeny[0] seen', 'the name of a rule');
  const both = toIr(snapshotOf(web({ egress: [{ toEntities: ['all'] }], egressDeny: rule }) + group('g', []))).ir;
  const refs = both.tiers.flatMap((tier) => tier.policies.flatMap((p) => p.rules.map((r) => r.ref)));
  t.same(
    refs.filter((ref) => ref.index >= 0).map(formatRule),
    ['cilium/default/p#0 "egressDeny[0]"', 'cilium/default/p#0 "egress[0]"'],
    'the rules of both lists are told apart',
  );
});

const random = seeded();

t.test(`mangled objects never throw, FUZZ_SEED=${random.seed}`, async (t) => {
  const r: Random = random;
  for (let n = 0; n < 1500; n++) {
    const object = mangled(r, r.chance(85) ? randomCilium(r, n) : randomGroup(r));
    const text = `${WORLD}---\n${JSON.stringify(object)}\n`;
    const documents = parseManifest('test.yaml', text);
    if (documents.some((d) => d.problems.length > 0)) continue;
    try {
      toIr(snapshotOf(text));
    } catch (e) {
      t.fail(`FUZZ_SEED=${random.seed} ${JSON.stringify(object)}: ${(e as Error).stack}`);
      return;
    }
  }
  t.pass();
});

t.test(`random policies: evaluate and simulate agree, FUZZ_SEED=${random.seed}`, async (t) => {
  const engines = [new Evaluate(), new Simulate()] as const;
  const seen: Record<string, number> = {};
  for (let n = 0; n < 150; n++) {
    const base = randomWorld(random).snapshot;
    const objects = Array.from({ length: 1 + random.below(4) }, (_, i) => randomCilium(random, i));
    const text = [...objects, randomGroup(random)].map((o) => `---\n${JSON.stringify(o)}\n`).join('');
    const policies = [...base.policies, ...snapshotOf(text).policies];
    const snapshot = { ...base, policies };
    const { ir } = toIr(snapshot);
    for (const e of engines) e.use({ ir, snapshot });
    for (let i = 0; i < 80; i++) {
      const packet = randomPacket(random, snapshot);
      const [a, b] = engines.map((e) => JSON.stringify(comparable(e.judge(packet), packet)));
      const verdict = /"verdict":"(\w+)"/.exec(a as string)?.[1] as string;
      seen[verdict] = (seen[verdict] ?? 0) + 1;
      if (a !== b) {
        t.fail(`FUZZ_SEED=${random.seed} ${JSON.stringify(packet)}: ${a} ≠ ${b}\n${text}`);
        return;
      }
    }
  }
  t.ok((seen.allow ?? 0) > 100 && (seen.deny ?? 0) > 100, JSON.stringify(seen));
});
