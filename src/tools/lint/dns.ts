/** Finds pods that cannot resolve names. */
import type { Snapshot } from '../../identity/snapshot.js';
import { DNS_PORT } from '../../ir/services.js';
import { staysInside } from '../../ir/outcome.js';
import type { Packet } from '../../ir/packet.js';
import { asksForName } from '../../ir/peers.js';
import { IMPLICIT_RULE, type Rule } from '../../ir/types.js';
import { matchesName } from '../../names/pattern.js';
import { distinctNames } from '../../names/samples.js';
import type { World } from '../packets.js';
import { bounded, groupBy } from '../ranges.js';
import { adder, type Finding, NAMES } from './findings.js';
import type { Reached, SenderFacts } from './reach.js';

/** Groups senders of one kind on different nodes, since the same finding on several nodes is one finding. */
export function alike(senders: readonly SenderFacts[]): [SenderFacts, ...SenderFacts[]][] {
  const key = ({ senders: { policies }, allows, refused }: SenderFacts) =>
    JSON.stringify([(policies[0] ?? []).map((p) => p.ref), allows, refused]);
  return [...groupBy(senders, key).values()] as [SenderFacts, ...SenderFacts[]][];
}

export function podsOf(senders: readonly SenderFacts[]): string[] {
  return senders.flatMap((facts) => facts.senders.pods).sort();
}

/** Address of node-local DNS caches (Kubernetes' NodeLocal DNSCache). */
const LOCAL_DNS = '169.254.20.10';

/** An address and port of a DNS server. */
export type DnsPlace = Pick<Packet, 'to' | 'port' | 'protocol'>;

/**
 * Whether they may ask one of these servers, or a cache of the node, for some name. Without known servers: whether they
 * reach port 53 anywhere.
 * @param names default: any name
 */
export function resolves(facts: SenderFacts, places: readonly DnsPlace[], names?: readonly string[]): boolean {
  const { senders, judge, dns } = facts;
  if (places.length === 0) return names === undefined ? dns : dns && asked(facts, names);
  const [from] = senders.pods as [string];
  const filters = senders.rules.flatMap((rule) => rule.queries ?? []);
  const queries = names ?? (filters.length === 0 ? [undefined] : distinctNames(filters));
  return [...places, { to: LOCAL_DNS, port: DNS_PORT, protocol: 17 }].some(
    (place) =>
      staysInside(judge.world.snapshot, { from, ...place }) ||
      queries.some((query) => judge.any({ from, ...place, query }).verdict !== 'deny'),
  );
}

/**
 * Whether a rule that allows port 53 lets one of these names be asked for, wherever that is. A server that is itself
 * meant by name does not count.
 */
function asked({ senders }: SenderFacts, names: readonly string[]): boolean {
  const atDns = (rule: Rule) =>
    rule.ports?.some(({ ports }) => ports?.some(([lo, hi]) => lo <= DNS_PORT && DNS_PORT <= hi) ?? true) ?? true;
  return senders.rules.some(
    ({ queries, ...rule }) =>
      rule.action === 'allow' &&
      rule.ref.index !== IMPLICIT_RULE &&
      (rule.peers?.some((peer) => !asksForName(peer)) ?? true) &&
      atDns(rule) &&
      (queries === undefined || names.some((name) => queries.some((pattern) => matchesName(pattern, name)))),
  );
}

/**
 * Finds pods that can reach something, but not the cluster's DNS. If the manifests do not contain it: not port 53
 * anywhere.
 */
export function dnsFindings(world: World, { senders }: Reached, findings: Finding[]): void {
  const places = dnsPlaces(world.snapshot);
  const without = senders.filter((facts) => facts.denies && facts.refused === undefined && !resolves(facts, places));
  for (const [facts, ...more] of alike(without)) {
    const { allows } = facts;
    const policy = facts.senders.policies[0]?.find((p) => p.isolates !== false && !p.staged);
    if (!policy) continue;
    const pods = bounded(podsOf([facts, ...more]), NAMES);
    const add = adder(findings, world.snapshot, policy);
    const hint = 'allow UDP and TCP port 53 to kube-dns, if they are to look up names';
    const where = places.length > 0 ? 'the DNS of the cluster' : 'port 53 anywhere';
    if (allows) add('warning', 'no-dns', undefined, `${pods} may not reach ${where}: names cannot be resolved`, hint);
    else add('info', 'no-dns', undefined, `${pods} may reach nothing, not even DNS`, hint);
  }
}

/**
 * Addresses and ports of DNS servers: the Service and the pods with the label of kube-dns, or with that Service's name.
 */
export function dnsPlaces(snapshot: Snapshot): DnsPlace[] {
  const out: DnsPlace[] = [];
  for (const service of snapshot.services.values()) {
    const named =
      service.namespace === 'kube-system' &&
      ['kube-dns', 'coredns', 'rke2-coredns-rke2-coredns'].includes(service.name);
    if (!named && service.labels['k8s-app'] !== 'kube-dns') continue;
    for (const { port, protocol } of service.ports)
      if (port === 53) for (const to of service.vips) out.push({ to, port, protocol });
  }
  for (const pod of snapshot.pods.values()) {
    if (pod.hostNetwork || pod.ended || pod.labels['k8s-app'] !== 'kube-dns') continue;
    for (const to of pod.ips) for (const protocol of [17, 6]) out.push({ to, port: 53, protocol });
  }
  return out;
}
