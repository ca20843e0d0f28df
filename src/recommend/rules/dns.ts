/** The DNS servers that every workload needs, whether its questions were seen or not. */
import type { EdgeHistory } from '../../edges/edge.js';
import { tryCanonicalAddr } from '../../net/addr.js';
import { TCP, UDP } from '../../net/protocol.js';
import { DNS_PORT } from '../../ir/services.js';
import { type Cluster, compare, workloadKey } from '../base/cluster.js';
import { isLinkLocal, type Placed, type Resolver } from './resolve.js';

/**
 * Workloads that ask a link-local address, and namespaces that they are of, before all are said to need it. It is a
 * server of the nodes then; whoever learned of one workload, or of those of one tenant, would give all what that one
 * chose.
 */
const ASKED_BY = 3;
const ASKED_FROM = 2;

export interface DnsServers {
  readonly placed: readonly Placed[];
  readonly warnings: readonly string[];
}

/** @param resolvers addresses that are said to be servers of the nodes */
export function dnsServers(cluster: Cluster, resolver: Resolver, seen: readonly string[]): DnsServers {
  const pods = resolver.dns();
  const local = new Set([...(cluster.snapshot.ownNode.dns ?? []), ...seen]);
  const placed: Placed[] = [...pods];
  for (const ip of [...local].sort(compare))
    placed.push({ target: { kind: 'local', ip }, protocol: UDP, port: DNS_PORT });
  if (pods.length > 0) return { placed, warnings: [] };
  const target = { kind: 'pods', namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } } as const;
  placed.push({ target, protocol: UDP, port: DNS_PORT });
  const warning = 'no DNS Service with backends is known: k8s-app=kube-dns in kube-system is meant to be the server';
  return { placed, warnings: [warning] };
}

/** Link-local addresses that several workloads ask: NodeLocal DNSCache, or the resolver of a cloud. */
export function localResolvers(histories: readonly EdgeHistory[]): string[] {
  const asked = new Map<string, { workloads: Set<string>; namespaces: Set<string> }>();
  for (const { edge } of histories) {
    const { port, protocol, inbound, source, verdict, address } = edge;
    if (port !== DNS_PORT || (protocol !== UDP && protocol !== TCP) || inbound) continue;
    if (source.kind !== 'workload' || verdict === 'deny') continue;
    const ip = tryCanonicalAddr(address === '' ? edge.destination.name : address);
    if (ip === undefined || !isLinkLocal(ip)) continue;
    let by = asked.get(ip);
    if (!by) asked.set(ip, (by = { workloads: new Set(), namespaces: new Set() }));
    by.workloads.add(workloadKey(source));
    by.namespaces.add(source.namespace);
  }
  return [...asked]
    .filter(([, { workloads, namespaces }]) => workloads.size >= ASKED_BY && namespaces.size >= ASKED_FROM)
    .map(([ip]) => ip);
}
