/** The verification of names and QUIC: the agent's options, and the annotations of policies of every language. */
import t from 'tap';
import { DialectRegistry, toIr } from '../../src/dialects/index.js';
import { QUIC, VERIFY_NAMES, type Hearing } from '../../src/dialects/hearing.js';
import { evaluate } from '../../src/ir/evaluate.js';
import type { NamesPeer, Peer } from '../../src/ir/peers.js';
import type { Rule } from '../../src/ir/types.js';
import { canonicalName } from '../../src/names/pattern.js';
import { readSaid } from '../engines/said-text.js';
import { namespace, packet, pod, problemsOf, show, snapshotOf } from './world.js';

const WORLD =
  namespace('default', { 'kubernetes.io/metadata.name': 'default' }) +
  pod('default/web', '10.1.0.1', { app: 'web' }) +
  pod('default/dns', '10.1.0.53', { app: 'dns' });
const VERIFY = 'egress-agent.io/verify-names';
const BY_QUIC = 'egress-agent.io/quic';

type Annotations = Readonly<Record<string, unknown>>;

function object(apiVersion: string, kind: string, spec: object, annotations?: Annotations): string {
  const metadata = { name: 'p', namespace: 'default', ...(annotations ? { annotations } : {}) };
  return `---\n${JSON.stringify({ apiVersion, kind, metadata, spec })}\n`;
}

const cilium = (egress: object[], annotations?: Annotations) =>
  object('cilium.io/v2', 'CiliumNetworkPolicy', { endpointSelector: {}, egress }, annotations);

/** A policy of each language that means api.example.com on TCP and UDP 443. */
const LANGUAGES: Readonly<Record<string, (annotations?: Annotations) => string>> = {
  cilium: (annotations) =>
    cilium([{ toFQDNs: [{ matchName: 'api.example.com' }], toPorts: [{ ports: [{ port: '443' }] }] }], annotations),
  calico: (annotations) => {
    const destination = { domains: ['api.example.com'] };
    const egress = [{ action: 'Allow', destination }];
    return object(
      'projectcalico.org/v3',
      'NetworkPolicy',
      { selector: 'all()', types: ['Egress'], egress },
      annotations,
    );
  },
  clusternetworkpolicy: (annotations) => {
    const subject = { namespaces: {} };
    const egress = [
      { action: 'Accept', to: [{ domainNames: ['api.example.com'] }] },
      { action: 'Deny', to: [{ networks: ['0.0.0.0/0'] }] },
    ];
    const spec = { tier: 'Admin', priority: 1, subject, egress };
    return object('policy.networking.k8s.io/v1alpha2', 'ClusterNetworkPolicy', spec, annotations);
  },
  fqdn: (annotations) => {
    const egress = [{ matches: [{ name: 'api.example.com' }] }];
    return object('networking.gke.io/v1alpha1', 'FQDNNetworkPolicy', { podSelector: {}, egress }, annotations);
  },
  applicationnetworkpolicy: (annotations) => {
    const spec = { podSelector: {}, policyTypes: ['Egress'], egress: [{ to: [{ domainNames: ['api.example.com'] }] }] };
    return object('networking.k8s.aws/v1alpha1', 'ApplicationNetworkPolicy', spec, annotations);
  },
};

function rulesOf(text: string, hearing: Partial<Hearing> = {}): readonly Rule[] {
  const { ir } = toIr(snapshotOf(WORLD + text), hearing);
  return ir.tiers.flatMap((tier) => tier.policies.flatMap(({ rules }) => rules));
}

function namesIn(peers: readonly Peer[] | null): NamesPeer[] {
  return (peers ?? []).flatMap((peer) =>
    peer.kind === 'all' ? namesIn(peer.of) : peer.kind === 'names' ? [peer] : [],
  );
}

const verified = (rules: readonly Rule[]) =>
  rules.flatMap(({ peers }) => namesIn(peers).map(({ verify }) => verify ?? 'off'));

const LEARNED = new Map([
  [
    'default/web',
    new Map([
      ['203.0.113.10', [{ name: 'api.example.com' }]],
      ['203.0.113.53', [{ name: 'dns.example.com' }]],
    ]),
  ],
]);

/** `203.0.113.10:443/tcp sni api.example.com` */
function judged(text: string, row: string, hearing: Partial<Hearing> = {}): string {
  const snapshot = snapshotOf(WORLD + text);
  const { ir } = toIr(snapshot, hearing);
  const [to = '', ...says] = row.split(' ');
  const query = says[0] === 'query' ? { query: canonicalName(says[1] ?? '') } : {};
  const said = readSaid(says.join(' '));
  const verdict = evaluate(
    ir,
    snapshot,
    { ...packet('default/web', to), ...query, ...(said ? { said } : {}) },
    LEARNED,
  );
  const audit = verdict.audit === undefined ? '' : ` audit ${verdict.audit.verdict}`;
  return show(ir, verdict).replace(/ \[.*/, '') + audit;
}

t.test('every language: the option, and what the annotation says instead', async (t) => {
  for (const [language, text] of Object.entries(LANGUAGES)) {
    t.same(verified(rulesOf(text())), ['off'], `${language}: nothing by default`);
    for (const verifyNames of VERIFY_NAMES) {
      t.same(verified(rulesOf(text(), { verifyNames })), [verifyNames], `${language}: --verify-names ${verifyNames}`);
      const own = text({ [VERIFY]: verifyNames });
      t.same(verified(rulesOf(own, { verifyNames: 'tls' })), [verifyNames], `${language}: by annotation`);
      t.same(verified(rulesOf(own)), [verifyNames], `${language}: by annotation alone`);
    }
    const at = (says: string, verifyNames: Hearing['verifyNames']) =>
      judged(text(), `203.0.113.10:443/tcp ${says}`, { verifyNames });
    t.equal(at('sni api.example.com', 'strict'), 'allow', language);
    t.equal(at('sni other.example.com', 'strict'), 'deny', language);
    t.equal(at('sni other.example.com', 'tls'), 'deny', language);
    t.equal(at('sni -', 'tls'), 'allow', language);
    t.equal(at('sni -', 'strict'), 'deny', language);
    t.equal(at('sni other.example.com', 'audit'), 'allow audit deny', language);
    t.equal(at('says other', 'audit'), 'allow audit allow', language);
    t.equal(at('sni other.example.com', 'off'), 'allow', language);
  }
});

t.test('annotations that mean nothing change nothing, and are told', async (t) => {
  for (const [key, flag] of [
    [VERIFY, '--verify-names'],
    [BY_QUIC, '--quic'],
  ] as const) {
    for (const value of ['Strict', '', 7]) {
      const text = LANGUAGES.cilium!({ [key]: value });
      t.same(verified(rulesOf(text, { verifyNames: 'tls' })), ['tls']);
      t.match(problemsOf(WORLD + text), [
        new RegExp(`warning .*metadata.annotations\\["${key}"\\].*${flag} stays in force`),
      ]);
    }
  }
  for (const verify of VERIFY_NAMES)
    for (const quic of QUIC) t.same(problemsOf(WORLD + LANGUAGES.cilium!({ [VERIFY]: verify, [BY_QUIC]: quic })), []);
});

t.test('only rules that allow by names are verified', async (t) => {
  const dns = { toEndpoints: [{ matchLabels: { app: 'dns' } }], toPorts: [{ ports: [{ port: '53' }] }] };
  const filter = { ...dns.toPorts[0], rules: { dns: [{ matchPattern: '*' }] } };
  const asking = cilium([
    { ...dns, toPorts: [filter] },
    { toFQDNs: [{ matchName: 'dns.example.com' }], toPorts: [filter] },
    {
      toFQDNs: [{ matchName: 'api.example.com' }],
      toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }], serverNames: ['b'] }],
    },
    { toCIDR: ['192.0.2.0/24'] },
  ]);
  t.same(verified(rulesOf(asking, { verifyNames: 'strict' })), ['off', 'off'], 'queries, and who names servers itself');
  t.equal(judged(asking, '203.0.113.53:53/udp query x.example', { verifyNames: 'strict' }), 'allow');
  const log = object('projectcalico.org/v3', 'NetworkPolicy', {
    selector: 'all()',
    types: ['Egress'],
    egress: [{ action: 'Deny', destination: { nets: ['192.0.2.0/24'] } }],
  });
  t.same(rulesOf(log, { verifyNames: 'strict', quic: 'reject' }), rulesOf(log), 'nothing to verify');
  const wide = { apiVersion: 'cilium.io/v2', kind: 'CiliumClusterwideNetworkPolicy', metadata: { name: 'n' } };
  const node = { ...wide, spec: { nodeSelector: {}, egress: [{ toFQDNs: [{ matchName: 'api.example.com' }] }] } };
  t.same(verified(rulesOf(`---\n${JSON.stringify(node)}\n`, { verifyNames: 'strict' })), ['off'], 'what nodes send');
});

t.test('QUIC', async (t) => {
  const names = LANGUAGES.cilium!;
  const tls = { verifyNames: 'tls' } as const;
  const rows: readonly [string, Record<Hearing['quic'], string>][] = [
    ['203.0.113.10:443/udp sni api.example.com', { inspect: 'allow', reject: 'deny', 'by-address': 'allow' }],
    ['203.0.113.10:443/udp sni x.example.com', { inspect: 'deny', reject: 'deny', 'by-address': 'allow' }],
    ['203.0.113.10:443/udp', { inspect: 'allow', reject: 'allow', 'by-address': 'allow' }],
    ['203.0.113.10:443/tcp sni api.example.com', { inspect: 'allow', reject: 'allow', 'by-address': 'allow' }],
    ['203.0.113.10:443/tcp sni x.example.com', { inspect: 'deny', reject: 'deny', 'by-address': 'deny' }],
  ];
  for (const [row, wanted] of rows) {
    for (const quic of QUIC) {
      t.equal(judged(names(), row, { ...tls, quic }), wanted[quic], `${row}, --quic ${quic}`);
      t.equal(judged(names({ [BY_QUIC]: quic }), row, { ...tls, quic: 'reject' }), wanted[quic], `${row}, ${quic}`);
      t.equal(judged(names(), row, { quic }), 'allow', `${row}: nothing is asked, --quic ${quic}`);
    }
  }
  const servers = cilium([
    {
      toCIDR: ['203.0.113.0/24'],
      toPorts: [{ ports: [{ port: '443', protocol: 'ANY' }], serverNames: ['a.example'] }],
    },
  ]);
  for (const [quic, wanted] of Object.entries({ inspect: 'allow', reject: 'deny', 'by-address': 'allow' }))
    t.equal(judged(servers, '203.0.113.9:443/udp sni a.example', { quic: quic as Hearing['quic'] }), wanted, quic);
  t.equal(judged(servers, '203.0.113.9:443/udp sni b.example', { quic: 'by-address' }), 'deny', 'a rule that asks');
  t.equal(judged(servers, '203.0.113.9:443/tcp sni a.example', { quic: 'reject' }), 'allow');
  const audited = (quic: Hearing['quic']) =>
    judged(names(), '203.0.113.10:443/udp sni api.example.com', { verifyNames: 'audit', quic });
  t.same([audited('inspect'), audited('reject')], ['allow audit allow', 'allow audit deny'], 'the audit alone');
});

t.test('an object that two agents read with other options', async (t) => {
  const snapshot = snapshotOf(WORLD + LANGUAGES.cilium!());
  const registries = (['off', 'strict', 'tls'] as const).map((verifyNames) => new DialectRegistry({ verifyNames }));
  for (const _ of [1, 2]) {
    const found = registries.map((registry) =>
      verified(registry.toIr(snapshot).ir.tiers.flatMap(({ policies }) => policies.flatMap(({ rules }) => rules))),
    );
    t.same(found, [['off'], ['strict'], ['tls']]);
  }
});
