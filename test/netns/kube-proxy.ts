/** Services as kube-proxy's iptables mode translates them: the same chains, marks and order of rules. */
import { createHash } from 'node:crypto';

export interface ServiceSpec {
  namespace?: string;
  name: string;
  /** One or two cluster addresses, at most one of each family. */
  vips: readonly string[];
  ports: readonly { name: string; port: number; protocol?: 'TCP' | 'UDP'; targetPort: number }[];
  /** Addresses of the ready backends, of both families. */
  backends: readonly string[];
  /** Masquerade whatever is sent to the address, as kube-proxy does with `--masquerade-all`. */
  masquerade?: boolean;
}

const hash = (...parts: readonly (string | number)[]): string =>
  createHash('sha256').update(parts.join('/')).digest('hex').toUpperCase().slice(0, 16);

const isV6 = (addr: string): boolean => addr.includes(':');

/**
 * The whole nat and filter tables for `iptables-restore`.
 * @param masqueradePods what a CNI adds: pods reach the outside under the node's address
 */
export function translationRules(
  services: readonly ServiceSpec[],
  masqueradePods: boolean,
): { v4: string; v6: string } {
  return { v4: tables(services, false, masqueradePods), v6: tables(services, true, masqueradePods) };
}

function tables(services: readonly ServiceSpec[], six: boolean, masqueradePods: boolean): string {
  const chains = ['KUBE-SERVICES', 'KUBE-MARK-MASQ', 'KUBE-POSTROUTING'];
  const rejects: string[] = [];
  const pods = six ? 'fd00:244::/32' : '10.244.0.0/16';
  const rules = [
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
    '-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000',
    '-A KUBE-POSTROUTING -j MASQUERADE --random-fully',
    '-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000',
    ...(masqueradePods ? [`-A POSTROUTING -s ${pods} ! -d ${pods} -o eth0 -j MASQUERADE`] : []),
  ];
  for (const service of services) {
    const vip = service.vips.find((v) => isV6(v) === six);
    const backends = service.backends.filter((b) => isV6(b) === six);
    if (vip === undefined) continue;
    for (const port of service.ports) {
      const proto = (port.protocol ?? 'TCP').toLowerCase();
      if (backends.length === 0) {
        const why = `"${service.namespace ?? 'default'}/${service.name}:${port.name} has no endpoints"`;
        const to = `-d ${vip} -p ${proto} -m ${proto} --dport ${port.port}`;
        rejects.push(`-A KUBE-SERVICES ${to} -m comment --comment ${why} -j REJECT`);
        continue;
      }
      const svc = `KUBE-SVC-${hash(service.namespace ?? 'default', service.name, port.name)}`;
      chains.push(svc);
      rules.push(`-A KUBE-SERVICES -d ${vip} -p ${proto} -m ${proto} --dport ${port.port} -j ${svc}`);
      if (service.masquerade)
        rules.push(`-A ${svc} -d ${vip} -p ${proto} -m ${proto} --dport ${port.port} -j KUBE-MARK-MASQ`);
      backends.forEach((backend, i) => {
        const sep = `KUBE-SEP-${hash(svc, backend)}`;
        const left = backends.length - i;
        const chance = left === 1 ? '' : `-m statistic --mode random --probability ${(1 / left).toFixed(11)} `;
        chains.push(sep);
        rules.push(`-A ${svc} ${chance}-j ${sep}`);
        rules.push(`-A ${sep} -s ${backend} -j KUBE-MARK-MASQ`);
        const target = six ? `[${backend}]:${port.targetPort}` : `${backend}:${port.targetPort}`;
        rules.push(`-A ${sep} -p ${proto} -m ${proto} -j DNAT --to-destination ${target}`);
      });
    }
  }
  return [
    '*nat',
    ...chains.map((c) => `:${c} - [0:0]`),
    ...rules,
    'COMMIT',
    '*filter',
    ':KUBE-SERVICES - [0:0]',
    '-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES',
    '-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES',
    ...rejects,
    'COMMIT',
    '',
  ].join('\n');
}

/** The Service and its EndpointSlices. */
export function serviceManifests(service: ServiceSpec): object[] {
  const namespace = service.namespace ?? 'default';
  const slices = [false, true].map((six) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${service.name}-${six ? 'v6' : 'v4'}`,
      namespace,
      labels: { 'kubernetes.io/service-name': service.name },
    },
    addressType: six ? 'IPv6' : 'IPv4',
    ports: service.ports.map((p) => ({ name: p.name, port: p.targetPort, protocol: p.protocol ?? 'TCP' })),
    endpoints: service.backends
      .filter((b) => isV6(b) === six)
      .map((b) => ({ addresses: [b], conditions: { ready: true } })),
  }));
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: service.name, namespace },
      spec: {
        clusterIP: service.vips[0],
        clusterIPs: service.vips,
        ports: service.ports.map((p) => ({ ...p, protocol: p.protocol ?? 'TCP' })),
        selector: {},
      },
    },
    ...slices,
  ];
}
