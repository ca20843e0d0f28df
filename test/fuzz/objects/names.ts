/** Of what random clusters are made: few names and addresses, so that all of it meets itself, on both sides of every edge. */
import { NODE } from '../../policy/world.js';
import type { Random } from '../random.js';

/** A Kubernetes object as a manifest has it. */
export type Manifest = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string } & Readonly<Record<string, unknown>>;
} & Readonly<Record<string, unknown>>;

export const NAMESPACES = ['default', 'other', 'third'] as const;
export const APPS = ['web', 'db', 'ops'] as const;
export const NODES = [NODE, 'node-b', 'node-c'] as const;
export const ACCOUNTS = ['default', 'builder'] as const;
export const SERVICES = ['s0', 's1', 's2'] as const;

export const POD_IPS4 = ['10.244.0.1', '10.244.0.2', '10.244.0.3', '10.244.0.4', '10.244.1.0', '192.0.2.200'] as const;
export const POD_IPS6 = ['fd00::1', 'fd00::2', 'fd00::3', '2001:db8:1::42'] as const;
export const NODE_IPS = [
  '192.168.0.1',
  '192.168.0.2',
  '192.168.0.3',
  '10.244.0.254',
  'fd00:1::1',
  'fd00:1::2',
] as const;
export const VIPS4 = ['10.96.0.1', '10.96.0.2', '10.96.0.3', '192.0.2.130'] as const;
export const VIPS6 = ['fd00:96::1', 'fd00:96::2'] as const;

/** Each block inside the one before it: pods and nodes lie in some, and on edges. */
export const CHAINS: readonly (readonly string[])[] = [
  ['0.0.0.0/0', '10.0.0.0/8', '10.244.0.0/16', '10.244.0.0/24', '10.244.0.2/31', '10.244.0.3/32'],
  ['192.0.2.0/24', '192.0.2.128/25', '192.0.2.200/29', '192.0.2.200/32'],
  ['192.168.0.0/16', '192.168.0.0/30', '192.168.0.2/32'],
  ['10.96.0.0/16', '10.96.0.1/32'],
  ['::/0', 'fd00::/8', 'fd00::/64', 'fd00::2/127', 'fd00::2/128'],
  ['2001:db8::/32', '2001:db8:1::/48', '2001:db8:1::42/128'],
];
export const CIDRS: readonly string[] = CHAINS.flat();

/** First and last addresses of the blocks, and their neighbours. */
export const EDGES: readonly string[] = [
  ...['0.0.0.1', '9.255.255.255', '10.0.0.0', '10.243.255.255', '10.244.0.0', '10.244.0.255', '10.244.255.255'],
  ...['10.245.0.0', '192.0.2.0', '192.0.2.127', '192.0.2.128', '192.0.2.199', '192.0.2.207', '192.0.2.208'],
  ...['192.0.3.0', '192.168.0.0', '192.168.0.4', '255.255.255.255', '198.51.100.7', '10.96.0.0', '10.97.0.0'],
  ...[
    '::1',
    'fcff::',
    'fd00::',
    'fd00:0:0:1::',
    'fe00::1',
    '2001:db8::',
    '2001:db8:1::43',
    '2001:db8:2::',
    '2001:db9::',
  ],
];

/** Range ends, their neighbours, and the ports of containers and Services. */
export const PORTS = [1, 53, 79, 80, 81, 443, 444, 1023, 1024, 5353, 8080, 8443, 65534, 65535] as const;

/** A block, and now and then exceptions inside of it. */
export function block(r: Random): { cidr: string; except: string[] } {
  const chain = r.pick(CHAINS);
  const at = r.below(chain.length);
  const inside = chain.slice(at + 1);
  return { cidr: chain[at] as string, except: inside.length > 0 && r.chance(45) ? r.some(inside, 2) : [] };
}

export function list<T>(r: Random, max: number, make: () => T): T[] {
  return Array.from({ length: 1 + r.below(max) }, make);
}

/** metav1.LabelSelector over one key. */
export function labelSelector(r: Random, key: string, values: readonly string[]): Record<string, unknown> {
  if (r.chance(20)) return {};
  if (r.chance(60)) return { matchLabels: { [key]: r.pick(values) } };
  const operator = r.pick(['In', 'NotIn', 'Exists', 'DoesNotExist']);
  const some = operator.endsWith('n') ? { values: [r.pick(values), r.pick(values)] } : {};
  return { matchExpressions: [{ key, operator, ...some }] };
}

/** Labels of pods: `app`, and now and then `tier`. */
export function podSelector(r: Random): Record<string, unknown> {
  return r.chance(85) ? labelSelector(r, 'app', APPS) : labelSelector(r, 'tier', ['x', 'y']);
}

export function namespaceSelector(r: Random): Record<string, unknown> {
  return r.chance(75)
    ? labelSelector(r, 'env', ['prod', 'test'])
    : labelSelector(r, 'kubernetes.io/metadata.name', NAMESPACES);
}
