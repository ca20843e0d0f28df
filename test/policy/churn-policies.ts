/** Random policies whose peers are Services and nodes, and whose ports are names: of the dialects that can say so. Names are Churn's. */
import type { Random } from '../fuzz/random.js';

const NAMESPACES = ['a', 'b', 'c'];
const ZONES = ['z1', 'z2'];

export const CHURNED = {
  admin: 'policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy',
  calico: 'projectcalico.org/v3 GlobalNetworkPolicy',
  cilium: 'cilium.io/v2 CiliumClusterwideNetworkPolicy',
} as const;

/** Its `spec`. */
export function churnedSpec(r: Random, dialect: keyof typeof CHURNED): object {
  if (dialect === 'admin') return admin(r);
  return dialect === 'calico' ? calico(r) : cilium(r);
}

const some = <T>(r: Random, max: number, make: () => T): T[] => Array.from({ length: 1 + r.below(max) }, make);

function zones(r: Random): object {
  if (r.chance(30)) return {};
  if (r.chance(60)) return { matchLabels: { zone: r.pick(ZONES) } };
  const operator = r.pick(['NotIn', 'DoesNotExist', 'Exists']);
  const values = operator === 'NotIn' ? { values: [r.pick(ZONES)] } : {};
  return { matchExpressions: [{ key: 'zone', operator, ...values }] };
}

function admin(r: Random): object {
  const named = () => ({
    to: [{ namespaces: r.chance(50) ? {} : { matchLabels: { env: r.pick(['prod', 'test']) } } }],
    protocols: [{ destinationNamedPort: r.pick(['http', 'dns']) }],
  });
  const nodes = () => ({
    to: some(r, 2, () => (r.chance(75) ? { nodes: zones(r) } : { networks: ['192.168.0.0/30'] })),
    ...(r.chance(50) ? { protocols: [{ tcp: { destinationPort: { number: r.pick([80, 443]) } } }] } : {}),
  });
  return {
    tier: r.pick(['Admin', 'Baseline']),
    priority: r.below(3),
    subject: { namespaces: {} },
    egress: some(r, 3, () => ({ action: r.pick(['Accept', 'Deny', 'Pass']), ...(r.chance(50) ? named() : nodes()) })),
  };
}

function calico(r: Random): object {
  const services = () => ({ destination: { services: { name: r.pick(['s0', 's1']), namespace: r.pick(NAMESPACES) } } });
  const named = () => ({
    protocol: r.pick(['TCP', 'UDP']),
    destination: {
      ...(r.chance(60)
        ? { selector: r.pick(["app == 'web'", '!has(tier)', "projectcalico.org/namespace == 'b'"]) }
        : {}),
      ports: some(r, 2, () => r.pick<number | string>(['http', 'dns', 80, '1:100'])),
    },
  });
  const rule = () => ({
    action: r.pick(['Allow', 'Allow', 'Deny', 'Pass', 'Log']),
    ...(r.chance(50) ? services() : named()),
  });
  return {
    order: r.below(2),
    selector: r.pick(['all()', "app == 'web'"]),
    types: ['Egress'],
    egress: some(r, 4, rule),
  };
}

function cilium(r: Random): object {
  const service = () =>
    r.chance(60)
      ? {
          k8sService: { serviceName: r.pick(['s0', 's1']), ...(r.chance(80) ? { namespace: r.pick(NAMESPACES) } : {}) },
        }
      : { k8sServiceSelector: { selector: r.chance(50) ? {} : { matchLabels: { kind: 'in' } } } };
  const place = () =>
    r.pick<() => object>([
      () => ({ toServices: some(r, 2, service) }),
      () => ({ toNodes: [zones(r)] }),
      () => ({ toEntities: [r.pick(['host', 'remote-node', 'cluster', 'world'])] }),
      () => ({}),
    ])();
  const ports = () => ({
    toPorts: [{ ports: [{ port: r.pick(['http', 'dns', '80', '0']), protocol: r.pick(['TCP', 'ANY']) }] }],
  });
  const rule = () => ({ ...place(), ...(r.chance(60) ? ports() : {}) });
  const whose = r.chance(25)
    ? { nodeSelector: zones(r) }
    : { endpointSelector: r.chance(50) ? {} : { matchLabels: { app: 'web' } } };
  return { ...whose, egress: some(r, 3, rule), ...(r.chance(40) ? { egressDeny: some(r, 2, rule) } : {}) };
}
