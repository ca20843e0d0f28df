/** Every field of the policies of Calico, Cilium and GKE, with a value, and what it does. */
import * as calico from '../../src/dialects/calico/schema.js';
import * as cilium from '../../src/dialects/cilium/schema.js';
import { addOnSchema, gkeSchema } from '../../src/dialects/fqdn/schema.js';
import { DB, NET, networkPolicy, type Outcome, type Row, type Table, WEB } from './field-tables.js';

const entity = (path: string, outcome: Outcome): Row[] => [
  [`${path}.selector`, "app == 'db'", outcome],
  [`${path}.notSelector`, "app == 'db'", outcome],
  [`${path}.namespaceSelector`, "team == 'a'", outcome],
  [`${path}.serviceAccounts`, { names: ['x'] }, outcome],
  [`${path}.serviceAccounts`, { selector: "team == 'a'" }, outcome],
];

const calicoRules: Row[] = [
  ['spec.egress[0].action', 'Pass', 'means'],
  ['spec.egress[0].action', 'Accept', 'error'],
  ['spec.egress[0].ipVersion', 4, 'means'],
  ['spec.egress[0].protocol', 'UDP', 'means'],
  ['spec.egress[0].notProtocol', 6, 'means'],
  ['spec.egress[1].icmp', { type: 8, code: 0 }, 'means'],
  ['spec.egress[1].notICMP', { type: 8, code: 0 }, 'means'],
  ...entity('spec.egress[0].destination', 'means'),
  ['spec.egress[0].destination.nets', [NET], 'means'],
  ['spec.egress[0].destination.notNets', [NET], 'means'],
  ['spec.egress[0].destination.ports', [443, '1:9', 'http'], 'means'],
  ['spec.egress[0].destination.notPorts', [443], 'means'],
  ['spec.egress[0].destination.services', { name: 'x', namespace: 'default' }, 'means'],
  ...entity('spec.egress[0].source', 'means'),
  ['spec.egress[0].destination.domains', ['*.example.com'], 'means'],
  ['spec.egress[0].destination.domains', ['*.*.example.com'], 'error'],
  ['spec.egress[0].destination', { domains: ['a.b'], nets: [NET] }, 'error'],
  ['spec.egress[0].destination', { domains: ['a.b'], ports: ['http'] }, 'error'],
  ['spec.egress[0]', { action: 'Deny', destination: { domains: ['a.b'] } }, 'error'],
  ['spec.egress[0].source.domains', ['example.com'], 'error'],
  ['spec.egress[0].source.nets', [NET], 'error'],
  ['spec.egress[0].source.notNets', [NET], 'error'],
  ['spec.egress[0].source.ports', [443], 'error'],
  ['spec.egress[0].source.notPorts', [443], 'error'],
  ['spec.egress[0].source.services', { name: 'x', namespace: 'default' }, 'error'],
  // An extension, which is told.
  ['spec.egress[0].http', { methods: ['GET'], paths: [{ exact: '/' }, { prefix: '/a/' }] }, 'warning'],
  ['spec.egress[0].http.paths', [{ exact: '/', prefix: '/' }], 'error'],
  ['spec.egress[0].http.paths', [{}], 'error'],
  ['spec.egress[0].http.methods', ['G T'], 'error'],
  ['spec.egress[0]', { action: 'Deny', http: {} }, 'error', 'spec.egress[0].http'],
  ['spec.egress[0].metadata', { annotations: { why: 'x' } }, 'says nothing'],
];
const calicoSpec: Row[] = [
  ['spec.tier', 'mine', 'means'],
  ['spec.tier', 'nobodys', 'error'],
  // The only policy: its order does not show.
  ['spec.order', 'first', 'error'],
  ['spec.selector', "app == 'db'", 'means'],
  ['spec.selector', 'app =', 'error'],
  ['spec.serviceAccountSelector', "projectcalico.org/name == 'x'", 'means'],
  ['spec.serviceAccountSelector', "team == 'a'", 'means'],
  ['spec.serviceAccountSelector', "tier == 'a'", 'means'],
  ['spec.types', ['Ingress'], 'warning', 'spec.egress'],
  ...calicoRules,
  ['spec.ingress', [{ action: 'Deny' }], 'says nothing'],
  // Which policies Felix is to prepare: no verdict depends on it.
  ['spec.performanceHints', ['AssumeNeededOnEveryNode'], 'says nothing'],
];
const calicoEgress = [
  { action: 'Allow', protocol: 'TCP' },
  { action: 'Allow', protocol: 'ICMP' },
];
const calicoBase = (kind: string) => ({
  apiVersion: 'projectcalico.org/v3',
  kind,
  spec: { selector: "app == 'web'", types: ['Egress'], egress: calicoEgress },
});
const TIER = { apiVersion: 'projectcalico.org/v3', kind: 'Tier', metadata: { name: 'mine' }, spec: { order: 5 } };
const ACCOUNT = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', labels: { team: 'a' } } };
const forHosts: Row[] = [
  ['spec.namespaceSelector', "team == 'a'", 'means'],
  ['spec.doNotTrack', true, 'aside'],
  ['spec.preDNAT', true, 'aside'],
  ['spec.applyOnForward', true, 'warning'],
];
const stagedAction: Row[] = [
  ['spec.stagedAction', 'Ignore', 'means'],
  ['spec.stagedAction', 'Delete', 'error'],
  ['spec.stagedAction', 'Set', 'says nothing'],
  ['spec.stagedAction', 'set', 'error'],
];
const calicoTable = (kind: string, schema: object, ...more: Row[]): Table => ({
  base: calicoBase(kind),
  beside: [TIER, ACCOUNT],
  schema,
  rows: [...calicoSpec, ...more],
});

/** A NetworkPolicy that is only watched. */
const stagedKubernetes: Table = {
  base: { ...networkPolicy.base, apiVersion: 'projectcalico.org/v3', kind: 'StagedKubernetesNetworkPolicy' },
  schema: networkPolicy.schema,
  rows: [...networkPolicy.rows.filter(([path]) => path !== 'apiVersion'), ...stagedAction],
};

const ciliumCommon = (list: string): Row[] => [
  [`${list}[0]`, { toEndpoints: [DB] }, 'means'],
  [`${list}[0]`, { toNodes: [DB] }, 'means'],
  [`${list}[0]`, { toCIDR: ['198.51.100.0/24'] }, 'means'],
  [`${list}[0]`, { toCIDRSet: [{ cidr: NET, except: ['203.0.113.0/28'] }] }, 'means'],
  [`${list}[0]`, { toCIDRSet: [{ cidrGroupRef: 'group' }] }, 'means'],
  [`${list}[0]`, { toCIDRSet: [{ cidrGroupRef: 'none' }] }, 'warning'],
  [`${list}[0]`, { toCIDRSet: [{ cidrGroupSelector: DB }] }, 'means'],
  [`${list}[0]`, { toEntities: ['cluster'] }, 'means'],
  [`${list}[0]`, { toEntities: ['planet'] }, 'error'],
  [`${list}[0]`, { toServices: [{ k8sService: { serviceName: 'x', namespace: 'default' } }] }, 'means'],
  [`${list}[0]`, { toServices: [{ k8sServiceSelector: { selector: DB, namespace: 'default' } }] }, 'means'],
  [`${list}[0].toGroups`, [{ aws: { securityGroupsIds: ['sg-1'] } }], 'error', `${list}[0]`],
  [`${list}[0]`, { toGroups: [{ aws: { securityGroupsIds: ['sg-1'] } }] }, 'error', `${list}[0].toGroups`],
  [`${list}[0].toRequires`, [DB], 'error'],
  [`${list}[0].icmps`, [{ fields: [{ family: 'IPv6', type: 'EchoRequest' }] }], 'error'],
  [`${list}[0]`, { toCIDR: [NET], icmps: [{ fields: [{ family: 'IPv6', type: 8 }] }] }, 'means'],
  [`${list}[0].toPorts[0].ports[0]`, { port: '1', endPort: 9, protocol: 'UDP' }, 'means'],
];
const TOP = 'spec.egress[0].toPorts[0]';
const aboveTransport: Row[] = [
  [`${TOP}.rules.http`, [{ method: 'GET', path: '/a', host: 'x', headers: ['X', 'Y: z'] }], 'means'],
  [`${TOP}.rules.http`, [{ headerMatches: [{ name: 'X', value: 'y', mismatch: 'LOG' }] }], 'means'],
  [`${TOP}.rules.http`, [{ headerMatches: [{ name: 'X', value: 'y', mismatch: 'ADD' }] }], 'error'],
  [
    `${TOP}.rules.http`,
    [{ headerMatches: [{ name: 'X', value: 'y', secret: { namespace: 'x', name: 'y' } }] }],
    'warning',
  ],
  [`${TOP}.rules.http`, [{ headerMatches: [{ name: 'X', secret: { name: 'y' } }] }], 'error'],
  [`${TOP}.rules.http`, [{ path: '(' }], 'error'],
  // As without it.
  [`${TOP}.rules.http`, [], 'says nothing'],
  [`${TOP}.rules.dns`, [{ matchPattern: '*' }, { matchName: 'example.com' }], 'means'],
  [`${TOP}.rules.dns`, [], 'means'],
  [`${TOP}.rules.dns`, [{}], 'warning'],
  [`${TOP}.rules.dns`, [{ matchName: 'a', matchPattern: 'a' }], 'error'],
  [`${TOP}.rules.kafka`, [{ topic: 'x' }], 'error'],
  [`${TOP}.rules.l7`, [{ cmd: 'x' }], 'error'],
  [`${TOP}.rules.l7proto`, 'r2d2', 'error'],
  [`${TOP}.rules.smtp`, [{}], 'error'],
  [`${TOP}.serverNames`, ['example.com', '**.example.com'], 'means'],
  [`${TOP}.serverNames`, ['example.com.'], 'error'],
  // As without it.
  [`${TOP}.serverNames`, [], 'says nothing'],
  [`${TOP}.terminatingTLS`, { secret: { name: 'x' } }, 'error'],
  [`${TOP}.originatingTLS`, { secret: { name: 'x' } }, 'error'],
  [`${TOP}.listener`, { envoyConfig: { name: 'x' }, name: 'y' }, 'error'],
  ['spec.egress[0].authentication', { mode: 'required' }, 'error'],
  ['spec.egress[0].authentication', { mode: 'test-always-fail' }, 'error'],
  // As without it.
  ['spec.egress[0].authentication', { mode: 'disabled' }, 'says nothing'],
  ['spec.egress[0]', { toFQDNs: [{ matchName: 'example.com' }] }, 'means'],
  ['spec.egress[0]', { toFQDNs: [{ matchPattern: '*.example.com' }] }, 'means'],
  ['spec.egress[0].toFQDNs', [{ matchName: 'example.com' }], 'error', 'spec.egress[0]'],
];
const CILIUM_RULE = { toCIDR: [NET], toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }] }] };
const ciliumSpec: Row[] = [
  ['spec.endpointSelector', DB, 'means'],
  ['spec.nodeSelector', DB, 'error'],
  ['spec.description', 'why', 'says nothing'],
  ['spec.labels', [{ key: 'a', value: 'b' }], 'says nothing'],
  ['spec.enableDefaultDeny', { egress: false, ingress: false }, 'means'],
  ['spec.log', { value: 'seen' }, 'means'],
  ...ciliumCommon('spec.egress'),
  ...aboveTransport,
  ...ciliumCommon('spec.egressDeny'),
  ['spec.egressDeny[0].toFQDNs', [{ matchName: 'example.com' }], 'error'],
  ['spec.egressDeny[0].authentication', { mode: 'required' }, 'error'],
  ['spec.egressDeny[0].toPorts[0].rules', { http: [{}] }, 'error'],
  ['spec.ingress', [{ fromEndpoints: [{}] }], 'says nothing'],
  ['spec.ingressDeny', [{ fromEndpoints: [{}] }], 'says nothing'],
];
const GROUP = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumCIDRGroup',
  metadata: { name: 'group', labels: { app: 'db' } },
  spec: { externalCIDRs: ['198.51.100.0/24'] },
};
const ciliumRules = { endpointSelector: WEB, egress: [CILIUM_RULE], egressDeny: [CILIUM_RULE] };
const ciliumTable = (kind: string, nodes: Outcome): Table => ({
  base: { apiVersion: 'cilium.io/v2', kind, spec: ciliumRules },
  beside: [GROUP],
  schema: cilium.policySchema.properties.spec,
  rows: [
    ['apiVersion', 'cilium.io/v3', 'warning'],
    ['spec', { nodeSelector: DB, egress: [CILIUM_RULE] }, nodes, 'spec.nodeSelector'],
    ...ciliumSpec,
  ],
});
const inSpecs = (path: string) => path.replace(/^spec\b/, 'specs[0]');
const ciliumSpecs: Table = {
  base: { apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy', specs: [ciliumRules] },
  beside: [GROUP],
  schema: cilium.policySchema.properties.spec,
  rows: ciliumSpec.map(([path, value, outcome, named = path]) => [inSpecs(path), value, outcome, inSpecs(named)]),
};

const gke: Table = {
  base: { apiVersion: 'networking.gke.io/v1alpha1', kind: 'FQDNNetworkPolicy', spec: { podSelector: WEB, egress: [] } },
  schema: gkeSchema,
  rows: [
    ['spec.podSelector', DB, 'means'],
    ['spec.egress', [{ matches: [{ name: 'example.com' }], ports: [{ protocol: 'TCP', port: 443 }] }], 'means'],
    ['spec.egress', [{ matches: [{ pattern: '*.example.com' }] }], 'means'],
    ['spec.egress', [{ matches: [] }], 'error'],
    ['spec.egress', [{ ports: [{ protocol: 'ALL', port: 0 }] }], 'error'],
  ],
};

const addOn: Table = {
  base: {
    apiVersion: 'networking.gke.io/v1alpha3',
    kind: 'FQDNNetworkPolicy',
    spec: { podSelector: WEB, policyTypes: ['Egress'], egress: [] },
  },
  schema: addOnSchema,
  rows: [
    ['spec.podSelector', DB, 'means'],
    ['spec.policyTypes', ['Ingress'], 'means'],
    ['spec.egress', [{ to: [{ fqdns: ['example.com'] }], ports: [{ protocol: 'TCP', port: 1, endPort: 9 }] }], 'means'],
    ['spec.egress', [{ to: [{ fqdns: ['*.example.com'] }] }], 'error'],
    ['spec.egress', [{ to: [{ fqdns: ['example.com'] }], ports: [{ port: 'http' }] }], 'error'],
    [
      'spec.ingress',
      [{ from: [{ fqdns: ['x.y'] }], ports: [{ protocol: 'TCP', port: 1, endPort: 2 }] }],
      'says nothing',
    ],
  ],
};

export const VENDOR_TABLES: Readonly<Record<string, Table>> = {
  'Calico NetworkPolicy': calicoTable('NetworkPolicy', calico.networkPolicySchema),
  GlobalNetworkPolicy: calicoTable('GlobalNetworkPolicy', calico.globalNetworkPolicySchema, ...forHosts),
  StagedNetworkPolicy: calicoTable('StagedNetworkPolicy', calico.stagedNetworkPolicySchema, ...stagedAction),
  StagedGlobalNetworkPolicy: calicoTable(
    'StagedGlobalNetworkPolicy',
    calico.stagedGlobalNetworkPolicySchema,
    ...stagedAction,
    ...forHosts,
  ),
  StagedKubernetesNetworkPolicy: stagedKubernetes,
  CiliumNetworkPolicy: ciliumTable('CiliumNetworkPolicy', 'aside'),
  CiliumClusterwideNetworkPolicy: ciliumTable('CiliumClusterwideNetworkPolicy', 'means'),
  'CiliumNetworkPolicy with specs': ciliumSpecs,
  gke,
  addOn,
};
