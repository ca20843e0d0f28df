/** What `egressctl diff` tells of a difference, as data and as texts. */
import type { World } from '../packets.js';
import type { Change, Destination } from '../diff.js';
import { type AddressNames, bounded, rangesText, rangeText, spansText } from '../ranges.js';

/** Maximum number of pods or destinations in one list. */
export const LISTED = 6;

/** The names of the pods and nodes that have the addresses. */
export function namesOf(worlds: readonly World[]): AddressNames {
  const names = new Map<string, string>();
  for (const { snapshot } of worlds) {
    for (const [name, node] of snapshot.nodes) for (const ip of node.ips) names.set(ip, `node ${name}`);
    for (const [key, pod] of snapshot.pods)
      if (!pod.hostNetwork && !pod.ended) for (const ip of pod.ips) names.set(ip, key);
  }
  return (ip) => names.get(ip);
}

/** A destination as texts, one for each range of addresses. */
export function destinationTexts(to: Destination, names: AddressNames): string[] {
  if (to.kind === 'service') return [`Service ${to.service} (${bounded(to.ips, LISTED)})`];
  return rangesText(to.ranges, names);
}

/** A change for JSON output, complete, with ranges as text. */
export function changeObject(
  { senders, to, ports, was, is, names: learned, queries, says }: Change,
  names: AddressNames,
) {
  const destination = to.kind === 'addresses' ? { kind: to.kind, ranges: to.ranges.map(rangeText) } : to;
  const when = { ...(learned && { names: learned }), ...(queries && { queries }), ...(says && { says }) };
  const text = { to: destinationTexts(to, names), ports: spansText(ports) };
  return { senders, to: destination, ports, ...when, was, is, text };
}
