/** Random Calico objects: policies of all kinds, tiers, network sets; selectors of the whole language. */
import type { Random } from '../random.js';
import { calicoDomain } from './domains.js';
import { ACCOUNTS, APPS, CIDRS, list, type Manifest, NAMESPACES, PORTS } from './names.js';
import { networkPolicySpec } from './kubernetes.js';

export const TIER_NAMES = ['first', 'last'] as const;
const TIERS = ['first', 'last', 'kube-admin', 'kube-baseline', 'default'] as const;

function group(r: Random): string {
  return r.chance(80) ? 'projectcalico.org/v3' : 'crd.projectcalico.org/v1';
}

/** A selector over pods' labels, and over those of network sets. */
export function selector(r: Random, depth = 0): string {
  if (depth < 2 && r.chance(30)) {
    const parts = [selector(r, depth + 1), selector(r, depth + 1)];
    return r.pick([`(${parts[0]}) && (${parts[1]})`, `(${parts[0]}) || (${parts[1]})`, `!(${parts[0]})`]);
  }
  const [app, other] = [r.pick(APPS), r.pick(APPS)];
  return r.pick([
    'all()',
    `app == '${app}'`,
    `app == "${app}"`,
    `app != '${app}'`,
    `app in {'${app}', '${other}'}`,
    `app not in { "${app}" }`,
    `app contains '${app.slice(1)}'`,
    `app starts with '${app.slice(0, 1)}'`,
    `app ends with '${app.slice(-1)}'`,
    'has(app)',
    '!has(app)',
    'has(tier)',
    `role == '${r.pick(['x', 'y'])}'`,
    `projectcalico.org/namespace == '${r.pick(NAMESPACES)}'`,
    `projectcalico.org/serviceaccount == '${r.pick(ACCOUNTS)}'`,
    `pcns.env == '${r.pick(['prod', 'test'])}'`,
    `pcsa.projectcalico.org/name == '${r.pick(ACCOUNTS)}'`,
    `pcsa.team == '${r.pick(['a', 'b'])}'`,
    'has(pcsa.team)',
  ]);
}

function accounts(r: Random): string {
  return r.pick([`projectcalico.org/name == '${r.pick(ACCOUNTS)}'`, `team == '${r.pick(['a', 'b'])}'`, '!has(team)']);
}

function namespaces(r: Random): string {
  return r.pick([
    'all()',
    `env == '${r.pick(['prod', 'test'])}'`,
    `env != 'prod'`,
    `projectcalico.org/name == '${r.pick(NAMESPACES)}'`,
    `has(team) && projectcalico.org/name in {'default', 'third'}`,
  ]);
}

const nets = (r: Random, max: number) => list(r, max, () => (r.chance(90) ? r.pick(CIDRS) : '10.244.0.3'));

function port(r: Random): number | string {
  const [a, b] = [r.pick(PORTS), r.pick(PORTS)];
  return r.pick([a, a, `${Math.min(a, b)}:${Math.max(a, b)}`, '0:65535', 'http', 'dns']);
}

function destination(r: Random, ported: boolean): object {
  if (r.chance(7)) return { services: { name: r.pick(['s0', 's1']), namespace: 'default' } };
  const notPorts = ported && r.chance(15);
  const ports = list(r, 2, () => port(r)).filter((p) => !notPorts || !/^[a-z]/.test(String(p)));
  return {
    ...(r.chance(40) ? { nets: nets(r, 3) } : {}),
    ...(r.chance(15) ? { notNets: nets(r, 2) } : {}),
    ...(r.chance(30) ? { selector: selector(r) } : {}),
    ...(r.chance(12) ? { notSelector: selector(r) } : {}),
    ...(r.chance(18) ? { namespaceSelector: r.chance(25) ? 'global()' : namespaces(r) } : {}),
    ...(r.chance(8)
      ? { serviceAccounts: r.chance(50) ? { names: [r.pick(ACCOUNTS)] } : { selector: accounts(r) } }
      : {}),
    ...(ported && r.chance(55) && ports.length > 0 ? { ports } : {}),
    ...(notPorts ? { notPorts: [r.pick(PORTS), '1000:2000', ...(r.chance(40) ? ['http'] : [])] } : {}),
  };
}

function rule(r: Random): object {
  const protocol = r.pick(['TCP', 'TCP', 'UDP', 'SCTP', 'ICMP', 'ICMPv6', 47, 'UDPLite', undefined, undefined]);
  const icmp = protocol === 'ICMP' || protocol === 'ICMPv6';
  const version = protocol === 'ICMP' ? 4 : protocol === 'ICMPv6' ? 6 : r.pick([4, 6]);
  const ported = protocol === 'TCP' || protocol === 'UDP' || protocol === 'SCTP';
  const source = r.pick([
    { selector: selector(r) },
    { namespaceSelector: namespaces(r) },
    { serviceAccounts: { names: [r.pick(ACCOUNTS)] } },
  ]);
  if (r.chance(18)) return namesRule(r);
  return {
    action: r.pick(['Allow', 'Allow', 'Allow', 'Deny', 'Deny', 'Pass', 'Log']),
    ...(protocol === undefined ? {} : { protocol }),
    ...(r.chance(8) ? { notProtocol: r.pick(['TCP', 'UDP', 47]) } : {}),
    ...(icmp && r.chance(60)
      ? { icmp: { type: r.pick([0, 3, 8, 128]), ...(r.chance(30) ? { code: r.below(2) } : {}) } }
      : {}),
    ...(icmp && r.chance(25) ? { notICMP: { type: 8, code: 1 } } : {}),
    ...(r.chance(15) ? { ipVersion: version } : {}),
    ...(r.chance(15) ? { source } : {}),
    ...(r.chance(92) ? { destination: destination(r, ported) } : {}),
  };
}

/** To domains: they stand alone, and in rules that allow. */
function namesRule(r: Random): object {
  const protocol = r.pick(['TCP', 'TCP', 'UDP', undefined, undefined]);
  const ports = protocol !== undefined && r.chance(50) ? { ports: [r.pick(PORTS), '400:500'] } : {};
  return {
    action: r.chance(99) ? 'Allow' : 'Deny',
    ...(protocol === undefined ? {} : { protocol }),
    ...(r.chance(15) ? { ipVersion: r.pick([4, 6]) } : {}),
    destination: { domains: list(r, 3, () => calicoDomain(r)), ...ports },
  };
}

const KINDS = [
  'NetworkPolicy',
  'NetworkPolicy',
  'GlobalNetworkPolicy',
  'GlobalNetworkPolicy',
  'StagedNetworkPolicy',
  'StagedGlobalNetworkPolicy',
  'StagedKubernetesNetworkPolicy',
] as const;

/** @param name of the policy; its namespace, where it has one, is random */
export function calicoPolicy(r: Random, name: string): Manifest {
  const kind = r.pick(KINDS);
  const global = kind.includes('Global');
  const staged = kind.startsWith('Staged') && r.chance(40) ? { stagedAction: r.pick(['Set', 'Learn', 'Ignore']) } : {};
  const metadata = { name, ...(global ? {} : { namespace: r.pick(NAMESPACES) }) };
  if (kind === 'StagedKubernetesNetworkPolicy')
    return { apiVersion: group(r), kind, metadata, spec: { ...networkPolicySpec(r), ...staged } };
  const spec = {
    ...(r.chance(45) ? { tier: r.pick(TIERS) } : {}),
    ...(r.chance(60) ? { order: r.pick([0, 1, 1.5, 1000, 2000]) } : {}),
    ...(r.chance(85) ? { selector: r.chance(40) ? 'all()' : selector(r) } : {}),
    ...(global && r.chance(25) ? { namespaceSelector: namespaces(r) } : {}),
    ...(r.chance(10) ? { serviceAccountSelector: accounts(r) } : {}),
    ...(r.chance(90) ? { types: r.pick([['Egress'], ['Egress'], ['Ingress', 'Egress'], ['Ingress']]) } : {}),
    egress: Array.from({ length: r.below(5) }, () => rule(r)),
    ...staged,
  };
  return { apiVersion: group(r), kind, metadata, spec };
}

export function tier(r: Random, name: string): Manifest {
  const order = r.pick([5, 500, 999_999.5, 2_000_000, 20_000_000]);
  const spec = {
    ...(r.chance(90) ? { order } : {}),
    ...(r.chance(80) ? { defaultAction: r.pick(['Pass', 'Deny']) } : {}),
  };
  return { apiVersion: 'projectcalico.org/v3', kind: 'Tier', metadata: { name }, spec };
}

export function networkSet(r: Random, name: string): Manifest {
  const kind = r.pick(['GlobalNetworkSet', 'NetworkSet']);
  const labels = {
    ...(r.chance(80) ? { role: r.pick(['x', 'y']) } : {}),
    ...(r.chance(30) ? { app: r.pick(APPS) } : {}),
  };
  const domains = r.chance(55) ? { allowedEgressDomains: list(r, 3, () => calicoDomain(r)) } : {};
  const spec = { ...(r.chance(domains.allowedEgressDomains ? 60 : 100) ? { nets: nets(r, 4) } : {}), ...domains };
  const metadata = { name, labels, ...(kind === 'NetworkSet' ? { namespace: r.pick(NAMESPACES) } : {}) };
  return { apiVersion: 'projectcalico.org/v3', kind, metadata, spec };
}
