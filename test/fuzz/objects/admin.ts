/**
 * Random policies of the admin's: ClusterNetworkPolicy, AdminNetworkPolicy, BaselineAdminNetworkPolicy, AWS' and the articles'. What
 * is meant, and how each of the shapes writes it down.
 */
import type { Random } from '../random.js';
import { domainName } from './domains.js';
import { CIDRS, type Manifest } from './names.js';

export const APPS = ['web', 'db', 'ops'];
const NETWORKS = CIDRS;
const PORTS = [1, 53, 79, 80, 81, 443, 8080, 65535];

export interface Selector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}
export interface Workloads {
  namespaces?: Selector;
  pods?: { namespaceSelector?: Selector; podSelector: Selector };
}
/** A rule as it is meant; each shape writes it down in its own way. */
export interface Meant {
  action: 'Accept' | 'Deny' | 'Pass';
  to: (Workloads & { nodes?: Selector; networks?: string[]; domainNames?: string[] })[];
  ports?: { protocol?: string; range?: [number, number]; named?: string }[];
}
export interface MeantPolicy {
  shape: 'cnp' | 'anp' | 'banp' | 'aws' | 'article';
  name: string;
  tier: 'Admin' | 'Baseline';
  priority: number;
  subject: Workloads;
  egress: Meant[];
}

function selector(r: Random, key: string, values: readonly string[]): Selector {
  if (r.chance(25)) return {};
  if (r.chance(50)) return { matchLabels: { [key]: r.pick(values) } };
  const operator = r.pick(['In', 'NotIn', 'Exists', 'DoesNotExist']);
  return {
    matchExpressions: [
      { key, operator, ...(operator.endsWith('In') ? { values: r.some(values, 1).concat(r.pick(values)) } : {}) },
    ],
  };
}

function workloads(r: Random): Workloads {
  const namespaces = selector(r, 'env', ['prod', 'test']);
  return r.chance(40)
    ? { namespaces }
    : { pods: { namespaceSelector: namespaces, podSelector: selector(r, 'app', APPS) } };
}

/** @param names whether rules may name domains */
function rule(r: Random, shape: MeantPolicy['shape'], names: boolean): Meant {
  const some = <T>(make: () => T) => Array.from({ length: 1 + r.below(2) }, make);
  const named = r.chance(25);
  const action = r.pick<Meant['action']>(shape === 'banp' ? ['Accept', 'Deny'] : ['Accept', 'Deny', 'Pass']);
  // Only rules that accept may name domains; AWS' ones that pass, too.
  const mayName = action === 'Accept' || (action === 'Pass' && shape === 'aws') || r.chance(1);
  const domains = names && shape !== 'article' && !named && mayName && r.chance(50);
  const peer = (): Meant['to'][number] => {
    if (domains && r.chance(75)) return { domainNames: some(() => domainName(r)) };
    if (shape !== 'article' && (named || r.chance(45))) return workloads(r);
    if (shape === 'article') return { networks: [r.pick(NETWORKS)] };
    return shape !== 'aws' && r.chance(30)
      ? { nodes: selector(r, 'role', ['a', 'b']) }
      : { networks: some(() => r.pick(NETWORKS)) };
  };
  const port = () => {
    if (named && shape !== 'article' && r.chance(60)) return { named: r.pick(['http', 'dns']) };
    const [lo, hi] = [r.pick(PORTS), r.pick(PORTS)].sort((a, b) => a - b) as [number, number];
    return {
      protocol: r.pick(['tcp', 'tcp', 'udp', 'sctp']),
      range: (r.chance(50) ? [lo, lo] : [lo, hi]) as [number, number],
    };
  };
  return {
    action,
    to: some(peer),
    ...(r.chance(55) ? { ports: some(port) } : {}),
  };
}

export function meantPolicy(r: Random, n: number, names = false): MeantPolicy {
  const shape = r.pick(['cnp', 'cnp', 'cnp', 'anp', 'banp', 'aws', 'article'] as const);
  const tier = shape === 'anp' ? 'Admin' : shape === 'banp' ? 'Baseline' : r.pick(['Admin', 'Baseline'] as const);
  return {
    shape,
    name: shape === 'banp' ? 'default' : `p${n}`,
    tier,
    priority: shape === 'banp' ? 1001 : r.pick([0, 1, 2, 1000]),
    subject: r.chance(40) ? { namespaces: {} } : workloads(r),
    egress: Array.from({ length: 1 + r.below(4) }, () => rule(r, shape, names)),
  };
}

export function written({ shape, name, tier, priority, subject, egress }: MeantPolicy): Manifest {
  const old = shape === 'anp' || shape === 'banp';
  const rules = egress.map(({ action, to, ports }) => ({
    action: old && action === 'Accept' ? 'Allow' : action,
    to: shape === 'article' ? to.map(({ networks }) => ({ ipBlock: { cidr: networks?.[0] } })) : to,
    ...(ports ? { [shape === 'cnp' ? 'protocols' : 'ports']: ports.map((p) => writePort(shape, p)) } : {}),
  }));
  const [group, kind] = {
    cnp: ['policy.networking.k8s.io/v1alpha2', 'ClusterNetworkPolicy'],
    anp: ['policy.networking.k8s.io/v1alpha1', 'AdminNetworkPolicy'],
    banp: ['policy.networking.k8s.io/v1alpha1', 'BaselineAdminNetworkPolicy'],
    aws: ['networking.k8s.aws/v1alpha1', 'ClusterNetworkPolicy'],
    article: ['networking.x-k8s.io/v1alpha1', 'ClusterNetworkPolicy'],
  }[shape] as [string, string];
  const place = { ...(old ? {} : { tier }), ...(shape === 'banp' ? {} : { priority }) };
  return { apiVersion: group, kind, metadata: { name }, spec: { ...place, subject, egress: rules } };
}

function writePort(
  shape: MeantPolicy['shape'],
  { protocol = 'tcp', range = [0, 0], named }: NonNullable<Meant['ports']>[number],
) {
  const [start, end] = range;
  if (shape === 'cnp') {
    if (named !== undefined) return { destinationNamedPort: named };
    return { [protocol]: { destinationPort: start === end ? { number: start } : { range: { start, end } } } };
  }
  if (shape === 'article') return { protocol: protocol.toUpperCase(), port: start, endPort: end };
  if (named !== undefined) return { namedPort: named };
  if (start !== end) return { portRange: { protocol: protocol.toUpperCase(), start, end } };
  return { portNumber: { protocol: protocol.toUpperCase(), port: start } };
}
