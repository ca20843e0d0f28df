/** Random CiliumNetworkPolicies and CIDR groups, whole and mangled. */
import { ciliumName } from '../fuzz/objects/domains.js';
import type { Random } from '../fuzz/random.js';

const CIDRS = ['0.0.0.0/0', '10.0.0.0/8', '10.244.0.2/31', '192.0.2.0/24', '192.0.2.128/25', '::/0', '2001:db8::/32'];
const PORTS = ['0', '1', '53', '79', '80', '81', '443', '1023', '8080', '65535', 'http', 'dns'];
const ENTITIES = [
  'all',
  'world',
  'world-ipv4',
  'world-ipv6',
  'cluster',
  'host',
  'remote-node',
  'kube-apiserver',
  'none',
  'init',
];
const APPS = ['web', 'db', 'ops'];
const KEYS = ['app', 'k8s:app', 'any:app'];

export function randomCilium(r: Random, n: number): Record<string, unknown> {
  const wide = r.chance(25);
  const kind = wide ? 'CiliumClusterwideNetworkPolicy' : 'CiliumNetworkPolicy';
  const metadata = { name: `c${n}`, ...(wide ? {} : { namespace: r.pick(['default', 'default', 'other']) }) };
  const body = r.chance(80) ? { spec: spec(r, wide) } : { specs: [spec(r, wide), spec(r, wide)] };
  return { apiVersion: 'cilium.io/v2', kind, metadata, ...body };
}

export function randomGroup(r: Random): Record<string, unknown> {
  const metadata = { name: 'g', labels: { use: r.pick(['a', 'b']) } };
  return { apiVersion: 'cilium.io/v2', kind: 'CiliumCIDRGroup', metadata, spec: { externalCIDRs: r.some(CIDRS, 3) } };
}

function spec(r: Random, wide: boolean): object {
  const ofNodes = wide && r.chance(30);
  return {
    ...(ofNodes
      ? { nodeSelector: r.chance(50) ? {} : { matchLabels: { zone: r.pick(['z1', 'z2']) } } }
      : { endpointSelector: r.chance(40) ? {} : { matchLabels: { [r.pick(KEYS)]: r.pick(APPS) } } }),
    ...(r.chance(85) ? { egress: [...asked(r), ...r.some([1, 2, 3], 3).map(() => rule(r, false))] } : {}),
    ...(r.chance(40) ? { egressDeny: r.some([1, 2], 2).map(() => rule(r, true)) } : {}),
    ...(r.chance(20) ? { enableDefaultDeny: { egress: r.chance(50) } } : {}),
  };
}

/** Often a rule about the names that may be asked for, wherever the servers are. */
function asked(r: Random): object[] {
  if (r.chance(55)) return [];
  const place = r.pick<object>([{}, { toEntities: ['all'] }, { toCIDR: ['0.0.0.0/0', '::/0'] }]);
  const group = { ports: [{ port: '53', protocol: r.pick(['UDP', 'ANY', 'ANY']) }], rules: { dns: names(r) } };
  return [{ ...place, toPorts: [group] }];
}

const names = (r: Random) => [ciliumName(r), ...r.some([1, 2], 2).map(() => ciliumName(r))];

function rule(r: Random, deny: boolean): object {
  const place = (): object => {
    switch (r.below(9)) {
      case 0:
        return { toEndpoints: r.some([1, 2], 2).map(() => selector(r)) };
      case 1:
        return { toCIDR: r.some(CIDRS, 3) };
      case 2:
        return { toCIDRSet: [{ cidr: '10.0.0.0/8', except: r.some(['10.244.0.0/24', '10.244.0.2/31'], 2) }] };
      case 3:
        return {
          toCIDRSet: [r.chance(50) ? { cidrGroupRef: 'g' } : { cidrGroupSelector: { matchLabels: { use: 'a' } } }],
        };
      case 4:
        return { toEntities: r.some(ENTITIES, 2) };
      case 5:
        return {
          toServices: [
            r.chance(60)
              ? { k8sService: { serviceName: r.pick(['s1', 's2']), ...(r.chance(80) ? { namespace: 'default' } : {}) } }
              : { k8sServiceSelector: { selector: { matchLabels: { kind: r.pick(['in', 'out']) } } } },
          ],
        };
      case 6:
        return { toNodes: [r.chance(50) ? {} : { matchLabels: { zone: r.pick(['z1', 'z2']) } }] };
      case 7:
        return { toEntities: [r.pick(ENTITIES)] };
      default:
        return {};
    }
  };
  if (!deny && r.chance(30)) return namesRule(r);
  const layer4 = (): object => {
    if (r.chance(40)) return {};
    if (r.chance(15))
      return { icmps: [{ fields: [{ type: r.pick([0, 8, 13]) }, { family: 'IPv6', type: 'EchoRequest' }] }] };
    return { toPorts: r.some([1, 2], 2).map(() => ({ ports: [port(r), port(r)] })) };
  };
  const there = place();
  if (!deny && r.chance(25))
    return { ...there, toPorts: [...r.some([1], 1).map(() => ({ ports: [port(r)] })), queries(r)] };
  return { ...there, ...layer4() };
}

/** To names; now and then the servers of DNS themselves have one. */
function namesRule(r: Random): object {
  const numeric = { port: r.pick(['0', '53', '80', '443', '443']), protocol: r.pick(['TCP', 'UDP', 'ANY']) };
  const toPorts = r.chance(15) ? [queries(r)] : r.chance(50) ? [{ ports: [numeric, numeric] }] : undefined;
  return { toFQDNs: names(r), ...(toPorts ? { toPorts } : {}) };
}

/** An item of toPorts with the names that may be asked for. */
function queries(r: Random): object {
  const protocol = r.pick(['UDP', 'TCP', 'ANY', 'ANY']);
  const range = r.chance(10) ? { endPort: 80 } : {};
  const ports = r.chance(92) ? [{ port: '53', protocol, ...range }] : [port(r)];
  return { ports, rules: { dns: r.some([1, 2, 3], 3).map(() => ciliumName(r)) } };
}

function port(r: Random): object {
  const number = r.pick(PORTS);
  const endPort =
    /^[1-9]/.test(number) && r.chance(30) ? { endPort: Math.max(Number(number), r.pick([81, 444, 65535])) } : {};
  return { port: number, ...endPort, ...(r.chance(75) ? { protocol: r.pick(['TCP', 'UDP', 'SCTP', 'ANY']) } : {}) };
}

function selector(r: Random): object {
  const labels = r.pick<Record<string, string>>([
    {},
    { [r.pick(KEYS)]: r.pick(APPS) },
    { 'k8s:io.kubernetes.pod.namespace': r.pick(['default', 'other']) },
    { 'io.cilium.k8s.namespace.labels.env': r.pick(['prod', 'test']) },
    { [`reserved:${r.pick(['host', 'world', 'remote-node', 'kube-apiserver', 'all'])}`]: '' },
  ]);
  const key = r.pick([...KEYS, 'io.kubernetes.pod.namespace', 'io.cilium.k8s.policy.cluster', 'reserved:world']);
  const asks = key.startsWith('reserved')
    ? { operator: r.pick(['Exists', 'DoesNotExist']) }
    : r.chance(50)
      ? { operator: r.pick(['In', 'NotIn']), values: [r.pick([...APPS, 'default'])] }
      : { operator: r.pick(['Exists', 'DoesNotExist']) };
  return { matchLabels: labels, ...(r.chance(40) ? { matchExpressions: [{ key, ...asks }] } : {}) };
}

const JUNK: readonly unknown[] = [null, 7, -1, 'x', '', true, [], {}, [null], ['x'], [[]], { a: 1 }, [{ a: null }]];

/** The same object with a few of its values replaced, removed or renamed. */
export function mangled(r: Random, object: Record<string, unknown>): Record<string, unknown> {
  const copy = structuredClone(object);
  for (let n = r.below(4); n >= 0; n--) mangle(r, copy, ['apiVersion', 'kind', 'metadata']);
  return copy;
}

function mangle(r: Random, within: Record<string, unknown>, keep: readonly string[]): void {
  const keys = Object.keys(within).filter((key) => !keep.includes(key));
  if (keys.length === 0) return;
  const key = r.pick(keys);
  const inner = within[key];
  if (typeof inner === 'object' && inner !== null && r.chance(75)) {
    mangle(r, inner as Record<string, unknown>, []);
  } else if (r.chance(20) && !Array.isArray(within)) {
    delete within[key];
    within[`${key}x`] = inner;
  } else within[key] = structuredClone(r.pick(JUNK));
}
