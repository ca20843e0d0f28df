/** One interface of a pod: the addresses of its creation, and those that it may send from. */
import type { Pod } from '../../../src/identity/snapshot.js';
import type { Nic } from './bound.js';
import type { NicFacts } from '../evidence/evidence.js';
import type { Scan, NamespaceView } from './namespace-scan.js';
import { IFF_UP, type Link } from '../../netlink/netlink.js';
import type { Netns } from '../../netlink/netns.js';

type Facts = ReadonlyMap<string, NicFacts> | undefined;

/** The pod's end of a veth, if it is in that namespace, and the namespace can be entered. */
function podEndOf(link: Link, ns: Netns, scan: Scan): { inner: Link; ips: string[] } | undefined {
  if (link.netnsid === undefined || scan.number(ns) !== link.netnsid) return undefined;
  let view: NamespaceView;
  try {
    view = scan.view(ns);
  } catch {
    return undefined;
  }
  const inner = view.links.find((l) => l.ifindex === link.iflink);
  const ips = view.addresses.filter((a) => a.ifindex === link.iflink && a.scope === 0).map((a) => a.address);
  return inner && { inner, ips };
}

/**
 * The record of a new interface.
 * @param link the node's end
 * @param followed whether its own addresses count if no other source has them
 */
export function makeNic(link: Link, ns: Netns, facts: Facts, scan: Scan, followed: boolean): Nic {
  const podEnd = podEndOf(link, ns, scan);
  const nic: Nic = {
    ifindex: link.ifindex,
    podIfindex: link.iflink ?? 0,
    podIfname: podEnd?.inner.name ?? '',
    mac: podEnd?.inner.mac ?? '',
    settled: false,
    given: undefined,
    main: false,
    followed,
    ips: podEnd?.ips ?? [],
  };
  applyFacts(nic, facts);
  return nic;
}

/** Takes over the creator's facts, which count more than what the interface shows. */
function applyFacts(nic: Nic, facts: Facts): void {
  const fact = facts?.get(nic.podIfname);
  if (!fact) return;
  if (fact.ips.length > 0 && nic.given === undefined) {
    nic.given = fact.ips;
    nic.followed = false;
  }
  if (fact.mac !== undefined && !nic.settled) {
    nic.mac = fact.mac;
    nic.settled = true;
  }
}

/** Reads an interface again, as long as its MAC or addresses are not final. */
export function refreshNic(
  nic: Nic,
  pod: Pod,
  ns: Netns,
  facts: Facts,
  pass: { own: { links: ReadonlyMap<number, Link> }; scan: Scan },
  cluster: boolean,
): void {
  applyFacts(nic, facts);
  const link = pass.own.links.get(nic.ifindex) as Link;
  if (!nic.settled || (nic.followed && !nic.main) || pod.ips.length === 0) {
    const podEnd = podEndOf(link, ns, pass.scan);
    if (podEnd) nic.ips = podEnd.ips;
    if (podEnd && !nic.settled) nic.mac = podEnd.inner.mac;
    const hasAddress = podEnd?.ips.some((ip) => pod.ips.includes(ip)) ?? false;
    // The MAC is final when the creator is done: in a cluster, when kubelet has reported the pod's address; otherwise,
    // when the interface is up.
    const ready = cluster
      ? pod.ips.length > 0
      : hasAddress && podEnd !== undefined && (podEnd.inner.flags & IFF_UP) !== 0;
    if (ready && nic.mac !== '') nic.settled = true;
  }
  nic.main ||= (nic.given ?? nic.ips).some((ip) => pod.ips.includes(ip));
}

/**
 * The source addresses that packets through an interface may have: those of the pod's status, not those set in the pod,
 * which could take another pod's address. Further interfaces, whose addresses are in no status, have those that their
 * creator reported. If it reported none, and the pod had the interface from its start, the interface's own addresses
 * count, except those of other pods.
 */
export function sourcesOf(
  nic: Nic,
  pod: Pod,
  all: readonly Nic[],
  others: () => ReadonlySet<string>,
): readonly string[] {
  if (pod.ips.length > 0 && (nic.main || !all.some((n) => n.main))) return pod.ips;
  if (nic.given) return nic.given;
  if (pod.ips.length > 0 && !nic.followed) return pod.ips;
  const foreign = others();
  const own = nic.ips.filter((ip) => !foreign.has(ip));
  return own.length > 0 ? own : pod.ips;
}

/** All addresses in these pods' status. */
export function addressesOf(pods: readonly Pod[]): Set<string> {
  return new Set(pods.flatMap((p) => p.ips));
}
