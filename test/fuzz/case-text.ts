/** A world and a packet as a case file: what a fuzzer found goes into test/cases as it stands. */
import type { Node, Pod, Service, Snapshot } from '../../src/identity/snapshot.js';
import type { Packet } from '../../src/ir/packet.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { protocolName } from '../../src/net/protocol.js';
import { printer } from '../engines/cases.js';
import type { World } from '../engines/engine.js';
import { saidText } from './sayings.js';

/** The packets' rows expect what the reference says. Pods, Nodes and Services are written out, policies as IR. @param names what pods learned */
export function caseText(
  name: string,
  { ir, snapshot, learned }: World,
  packets: readonly Packet[],
  names: readonly string[] = [],
): string {
  const print = printer(ir);
  const rows = packets.map(
    (p) => `- ${JSON.stringify(`${packetText(p)}: ${print(evaluate(ir, snapshot, p, learned), p)}`)}`,
  );
  return [
    `name: ${JSON.stringify(name)}`,
    `nodeIps: ${JSON.stringify(snapshot.ownNode.ips)}`,
    'manifests: |',
    ...manifests(snapshot).map((m, i) => `${i > 0 ? '  ---\n' : ''}  ${JSON.stringify(m)}`),
    `ir: ${JSON.stringify(ir)}`,
    ...names,
    'packets:',
    ...rows,
    '',
  ].join('\n');
}

export function packetText(p: Packet): string {
  const to = p.to.includes(':') ? `[${p.to}]` : p.to;
  if (p.fragment) return `${p.from} → ${to}/${p.protocol} fragment`;
  if (p.protocol === 1 || p.protocol === 58) {
    return `${p.from} → ${to}/${p.protocol === 1 ? 'icmp' : 'icmpv6'} ${p.port >> 8}/${p.port & 255}`;
  }
  const query = p.query === undefined ? '' : ` query ${p.query === '' ? '.' : p.query}`;
  const says = p.said ? ` ${saidText(p.said)}` : '';
  return `${p.from} → ${to}:${p.port}/${p.protocol}${query}${says}`;
}

function manifests(snapshot: Snapshot): object[] {
  return [
    ...[...snapshot.namespaces.values()].map(({ name, labels }) => object('v1', 'Namespace', { name, labels }, {})),
    ...[...snapshot.nodes.values()].map(node),
    ...[...snapshot.pods.values()].map(pod),
    ...[...snapshot.services.values()].flatMap(service),
  ];
}

function object(apiVersion: string, kind: string, metadata: object, rest: object): object {
  return { apiVersion, kind, metadata, ...rest };
}

function node({ name, labels, ips }: Node): object {
  const addresses = ips.map((address) => ({ type: 'InternalIP', address }));
  return object('v1', 'Node', { name, labels }, { status: { addresses } });
}

function pod(p: Pod): object {
  const ports = p.ports.map(({ name, protocol, port }) => ({
    name,
    protocol: protocolName(protocol),
    containerPort: port,
  }));
  const spec = { nodeName: p.nodeName, hostNetwork: p.hostNetwork, containers: [{ name: 'c', ports }] };
  const status = { podIPs: p.ips.map((ip) => ({ ip })), ...(p.ended ? { phase: 'Succeeded' } : {}) };
  return object('v1', 'Pod', { namespace: p.namespace, name: p.name, labels: p.labels }, { spec, status });
}

/** The Service with a slice for each port, family and backend's port. */
function service(s: Service): object[] {
  const slices = new Map<string, object>();
  for (const { name = '', protocol, backends } of s.ports) {
    for (const { ip, port } of backends) {
      const family = ip.includes(':') ? 'IPv6' : 'IPv4';
      const key = `${s.name}-${name}-${protocol}-${family}-${port}`.toLowerCase();
      const labels = { 'kubernetes.io/service-name': s.name };
      const same = backends.filter((b) => b.port === port && b.ip.includes(':') === ip.includes(':'));
      const endpoints = same.map((b) => ({ addresses: [b.ip] }));
      const ports = [{ name, protocol: protocolName(protocol), port }];
      const rest = { addressType: family, ports, endpoints };
      slices.set(
        key,
        object('discovery.k8s.io/v1', 'EndpointSlice', { namespace: s.namespace, name: key, labels }, rest),
      );
    }
  }
  const ports = s.ports.map(({ name, protocol, port, nodePort }) => ({
    name,
    protocol: protocolName(protocol),
    port,
    nodePort,
  }));
  const cluster = s.vips.filter((ip) => !s.external?.includes(ip));
  const addresses = cluster.length > 0 ? { clusterIPs: cluster } : { clusterIP: 'None' };
  const made = s.created === undefined ? {} : { creationTimestamp: s.created };
  const spec = { ...addresses, ...(s.external ? { externalIPs: s.external } : {}), ports };
  return [
    object('v1', 'Service', { namespace: s.namespace, name: s.name, labels: s.labels, ...made }, { spec }),
    ...slices.values(),
  ];
}
