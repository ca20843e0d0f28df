/** Every field of Kubernetes' own policy languages, with a value, and what it does. */
import {
  adminNetworkPolicySchema,
  articleClusterNetworkPolicySchema,
  awsClusterNetworkPolicySchema,
  baselineAdminNetworkPolicySchema,
} from '../../src/dialects/clusternetworkpolicy/admin.schema.js';
import { clusterNetworkPolicySchema } from '../../src/dialects/clusternetworkpolicy/schema.js';
import { applicationNetworkPolicySchema, networkPolicySchema } from '../../src/dialects/networkpolicy/schema.js';

/**
 * The policy means something else; a problem names the field; an error names it, and the policy is not for pods at all; or it says
 * nothing of egress.
 */
export type Outcome = 'means' | 'error' | 'warning' | 'aside' | 'says nothing';
/** A field, a value, what it does; and the path that the problem names, where it is another one. */
export type Row = readonly [path: string, value: unknown, outcome: Outcome, named?: string];

export interface Table {
  readonly base: {
    readonly apiVersion: string;
    readonly kind: string;
    readonly spec?: object;
    readonly specs?: readonly object[];
  };
  /** Objects that the policy refers to. */
  readonly beside?: readonly object[];
  readonly schema: object;
  readonly rows: readonly Row[];
}

export const WEB = { matchLabels: { app: 'web' } };
/** With every field that a label selector has. */
export const DB = { matchLabels: { app: 'db' }, matchExpressions: [{ key: 'app', operator: 'In', values: ['db'] }] };
export const NET = '203.0.113.0/24';

const ports = (path: string): Row[] => [
  [`${path}[0].protocol`, 'UDP', 'means'],
  [`${path}[0].port`, 80, 'means'],
  [`${path}[0].port`, 'http', 'means'],
  [`${path}[0].endPort`, 500, 'means'],
];

export const networkPolicy: Table = {
  base: {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    spec: {
      podSelector: WEB,
      policyTypes: ['Egress'],
      egress: [{ to: [{ ipBlock: { cidr: NET } }], ports: [{ port: 443 }] }],
    },
  },
  schema: networkPolicySchema,
  rows: [
    ['apiVersion', 'extensions/v1beta1', 'warning'],
    ['spec.podSelector', DB, 'means'],
    ['spec.podSelector.matchExpressions', [{ key: 'app', operator: 'Equals', values: ['x'] }], 'error'],
    ['spec.policyTypes', ['Ingress'], 'warning', 'spec.egress'],
    ['spec.egress[0].to[0].ipBlock', { cidr: NET, except: ['203.0.113.0/28'] }, 'means'],
    ['spec.egress[0].to[1].podSelector', DB, 'means'],
    ['spec.egress[0].to[1].namespaceSelector', DB, 'means'],
    ...ports('spec.egress[0].ports'),
    [
      'spec.ingress',
      [
        {
          from: [{ podSelector: DB, namespaceSelector: DB, ipBlock: { cidr: NET, except: [] } }],
          ports: [{ protocol: 'TCP', port: 1, endPort: 2 }],
        },
      ],
      'says nothing',
    ],
  ],
};

const applicationNetworkPolicy: Table = {
  base: {
    ...networkPolicy.base,
    apiVersion: 'networking.k8s.aws/v1alpha1',
    kind: 'ApplicationNetworkPolicy',
  },
  schema: applicationNetworkPolicySchema,
  rows: [
    ...networkPolicy.rows.filter(([path]) => path !== 'apiVersion'),
    ['apiVersion', 'networking.k8s.aws/v9', 'warning'],
    ['spec.egress[0].to[1].domainNames', ['*.example.com'], 'means'],
    ['spec.egress[0].to[1].domainNames', [], 'error'],
    ['spec.egress[0].to[1].domainNames', ['example'], 'error'],
    ['spec.egress[0].to[0].domainNames', ['example.com'], 'error', 'spec.egress[0].to[0]'],
    ['spec.egress[0]', { to: [{ domainNames: ['a.b'] }], ports: [{ port: 'http' }] }, 'warning'],
  ],
};

const inside = { pods: { namespaceSelector: {}, podSelector: WEB } };
const workloads = (path: string): Row[] => [
  [path, { namespaces: DB }, 'means'],
  [path, { pods: { namespaceSelector: DB, podSelector: DB } }, 'means'],
  [path, {}, 'error'],
];
const ADMIN_FROM = [{ namespaces: DB }, { pods: { namespaceSelector: DB, podSelector: DB } }];
const portNumbers: Row[] = [
  ['spec.egress[0].ports', [{ portNumber: { protocol: 'UDP', port: 443 } }], 'means'],
  ['spec.egress[0].ports', [{ portRange: { protocol: 'UDP', start: 1, end: 9 } }], 'means'],
  ['spec.egress[1].ports', [{ namedPort: 'http' }], 'means'],
];
const ADMIN_PORTS = [
  { portNumber: { protocol: 'TCP', port: 1 } },
  { portRange: { protocol: 'TCP', start: 1, end: 2 } },
  { namedPort: 'x' },
];
const adminRules: Row[] = [
  ['spec.egress[0].name', 'a name', 'means'],
  ['spec.egress[0].action', 'Deny', 'means'],
  ['spec.egress[0].action', 'Log', 'error'],
  ...workloads('spec.egress[0].to[0]'),
];
const nodes: Row = ['spec.egress[0].to[0]', { nodes: DB }, 'means'];
const networks: Row = ['spec.egress[0].to[0].networks[1]', '198.51.100.0/24', 'means'];
const far: Row[] = [
  networks,
  ['spec.egress[0].to[0]', { domainNames: ['*.example.com'] }, 'means'],
  ['spec.egress[0].to[0]', { domainNames: ['*'] }, 'error'],
  ['spec.egress[1]', { action: 'Deny', to: [{ domainNames: ['example.com'] }] }, 'error'],
  ['spec.egress[0].to[0]', { domainNames: Array(26).fill('a.b') }, 'warning'],
];
const passed: readonly [string, object] = [
  'spec.egress[1]',
  { action: 'Pass', to: [{ domainNames: ['example.com'] }] },
];
const adminEgress = (allow: string) => [
  { action: allow, to: [{ networks: [NET] }] },
  { action: 'Deny', to: [{ namespaces: {} }] },
];
/** What was proposed for AdminNetworkPolicy, and went again. */
const proposed: Row[] = [
  ['spec.egress[0].to[0]', { namespaces: { sameLabels: ['team'] } }, 'error'],
  ['spec.egress[0].to[0]', { namespaces: { notSameLabels: ['team'] } }, 'error'],
];

const clusterNetworkPolicy: Table = {
  base: {
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    spec: { tier: 'Baseline', priority: 10, subject: inside, egress: adminEgress('Accept') },
  },
  schema: clusterNetworkPolicySchema,
  rows: [
    ['apiVersion', 'policy.networking.k8s.io/v9', 'warning'],
    ['spec.tier', 'Admin', 'means'],
    ['spec.tier', 'admin', 'error'],
    // The only policy: its order does not show.
    ['spec.priority', 1001, 'error'],
    ...workloads('spec.subject'),
    ...adminRules,
    nodes,
    ...far,
    [...passed, 'error'],
    ...proposed,
    ...(['tcp', 'udp', 'sctp'] as const).flatMap((protocol): Row[] => [
      ['spec.egress[0].protocols', [{ [protocol]: { destinationPort: { number: 443 } } }], 'means'],
      ['spec.egress[0].protocols', [{ [protocol]: { destinationPort: { range: { start: 1, end: 9 } } } }], 'means'],
      ['spec.egress[0].protocols', [{ [protocol]: {} }], 'error'],
    ]),
    ['spec.egress[1].protocols', [{ destinationNamedPort: 'http' }], 'means'],
    ['spec.egress[0].ports', ADMIN_PORTS.slice(0, 2), 'warning'],
    ['spec.egress[1].ports', ADMIN_PORTS, 'warning'],
    [
      'spec.ingress',
      [
        {
          name: 'x',
          action: 'Deny',
          from: ADMIN_FROM,
          protocols: [
            {
              tcp: { destinationPort: { number: 1, range: { start: 1, end: 2 } } },
              udp: { destinationPort: { number: 1, range: { start: 1, end: 2 } } },
              sctp: { destinationPort: { number: 1, range: { start: 1, end: 2 } } },
              destinationNamedPort: 'x',
            },
          ],
          ports: ADMIN_PORTS,
        },
      ],
      'says nothing',
    ],
  ],
};

const ADMIN_INGRESS: Row = [
  'spec.ingress',
  [{ name: 'x', action: 'Deny', from: ADMIN_FROM, ports: ADMIN_PORTS }],
  'says nothing',
];

const adminNetworkPolicy: Table = {
  base: {
    apiVersion: 'policy.networking.k8s.io/v1alpha1',
    kind: 'AdminNetworkPolicy',
    spec: { priority: 10, subject: inside, egress: adminEgress('Allow') },
  },
  schema: adminNetworkPolicySchema,
  rows: [
    ['spec.priority', 1001, 'error'],
    ...workloads('spec.subject'),
    ...adminRules,
    ['spec.egress[0].action', 'Pass', 'means'],
    nodes,
    ...far,
    ...proposed,
    ...portNumbers,
    ADMIN_INGRESS,
  ],
};

const baselineAdminNetworkPolicy: Table = {
  base: {
    apiVersion: 'policy.networking.k8s.io/v1alpha1',
    kind: 'BaselineAdminNetworkPolicy',
    spec: { subject: inside, egress: adminEgress('Allow') },
  },
  schema: baselineAdminNetworkPolicySchema,
  rows: [
    ['spec.priority', 1, 'error'],
    ...workloads('spec.subject'),
    ...adminRules,
    ['spec.egress[0].action', 'Pass', 'error'],
    nodes,
    networks,
    ['spec.egress[0].to[0]', { domainNames: ['example.com'] }, 'error'],
    ...proposed,
    ...portNumbers,
    ADMIN_INGRESS,
  ],
};

const aws: Table = {
  base: {
    apiVersion: 'networking.k8s.aws/v1alpha1',
    kind: 'ClusterNetworkPolicy',
    spec: { tier: 'Baseline', priority: 10, subject: inside, egress: adminEgress('Accept') },
  },
  schema: awsClusterNetworkPolicySchema,
  rows: [
    ['spec.tier', 'Admin', 'means'],
    ['spec.priority', 1001, 'error'],
    ...workloads('spec.subject'),
    ...adminRules,
    ['spec.egress[0].to[0].nodes', { matchLabels: { app: 'db' } }, 'error'],
    ...far,
    [...passed, 'means'],
    ...portNumbers,
    ADMIN_INGRESS,
  ],
};

const article: Table = {
  base: {
    apiVersion: 'networking.x-k8s.io/v1alpha1',
    kind: 'ClusterNetworkPolicy',
    spec: {
      policyTypes: ['Egress'],
      egress: [
        { action: 'Deny', to: [{ ipBlock: { cidr: NET } }] },
        { action: 'Deny', to: [{ namespaces: {} }] },
      ],
    },
  },
  schema: articleClusterNetworkPolicySchema,
  rows: [
    ['spec.tier', 'Baseline', 'means'],
    ['spec.priority', 1001, 'error'],
    ...workloads('spec.subject'),
    ['spec.policyTypes', ['Ingress'], 'warning', 'spec.egress'],
    ...adminRules.filter(([path]) => path !== 'spec.egress[0].action'),
    ['spec.egress[0].action', 'Accept', 'means'],
    ['spec.egress[0].to[0].ipBlock', { cidr: NET, except: ['203.0.113.0/28'] }, 'means'],
    ['spec.egress[0].protocols', [{ tcp: { destinationPort: { number: 443 } } }], 'means'],
    ['spec.egress[0].protocols', [{ udp: { destinationPort: { range: { start: 1, end: 9 } } } }], 'means'],
    ['spec.egress[0].protocols', [{ sctp: { destinationPort: { number: 443 } } }], 'means'],
    [
      'spec.egress[0].protocols',
      ['tcp', 'udp', 'sctp'].map((p) => ({ [p]: { destinationPort: { number: 1, range: { start: 1, end: 2 } } } })),
      'error',
    ],
    ['spec.egress[1].protocols', [{ destinationNamedPort: 'http' }], 'means'],
    ['spec.egress[0].ports', [{ protocol: 'UDP', port: 1, endPort: 2 }], 'means'],
    ['spec.ingress', [{}], 'says nothing'],
  ],
};

export const TABLES: Readonly<Record<string, Table>> = {
  networkPolicy,
  applicationNetworkPolicy,
  clusterNetworkPolicy,
  adminNetworkPolicy,
  baselineAdminNetworkPolicy,
  aws,
  article,
};
