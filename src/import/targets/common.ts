/** Shared by the makers of policies: what the policies are for, and what a language cannot say. */
import type { Manifest } from '../../convert/terms/common.js';
import { chunks } from '../../convert/terms/common.js';
import type { Part } from '../base/decide.js';
import type { Listing, Place, Remarks } from '../base/model.js';
import type { Ports, Range } from '../base/spans.js';
import type { NamesItem } from '../base/walk.js';

/** A DNS server that pods may ask. */
export type Resolver =
  | { readonly namespace: string; readonly labels: Readonly<Record<string, string>> }
  | { readonly cidr: string };

/** The pods for which the policies are, and how they are called. */
export interface Subject {
  readonly name: string;
  /** undefined: every namespace. */
  readonly namespace: string | undefined;
  /** Pods with these labels; none: every pod. */
  readonly labels: Readonly<Record<string, string>>;
  readonly resolvers: readonly Resolver[];
  /** The place of a ClusterNetworkPolicy or of a Calico policy among others. */
  readonly priority: number;
  /** For rules about queries: also allow every connection that is no query. */
  readonly connections: boolean;
}

export interface Order {
  readonly subject: Subject;
  readonly listing: Listing;
  readonly parts: readonly Part[];
  readonly refused: Remarks;
  readonly notes: Remarks;
}

export type Maker = (order: Order) => Manifest[];

/** Names of a rule, and of an object, so that an object stays below what an API server stores (1.5 MB). */
export const NAMES_OF_RULE = 500;
export const NAMES_OF_OBJECT = 5000;

/**
 * What a policy asks of connections to addresses of its names: that they name one of these themselves, or nothing. `tls`
 * would be wider than every source: what names nobody would pass.
 */
export type Verify = 'strict' | 'off';

const VERIFY = 'egress-agent.io/verify-names';

/** Metadata of the n-th object. @param verify undefined: it has no names, or its rules say what they ask for */
export function metadataOf(
  { name, namespace }: Subject,
  index: number,
  wide: boolean,
  verify?: Verify,
): Record<string, unknown> {
  const own = index === 0 ? name : `${name}-${index + 1}`;
  return {
    name: own,
    ...(wide || namespace === undefined ? {} : { namespace }),
    ...(verify === undefined ? {} : { annotations: { [VERIFY]: verify } }),
  };
}

/**
 * Names in a language that has no words for what connections say: its names mean addresses, and the annotation asks for
 * the rest. @returns undefined, with a reason, if that is not what the item says
 */
export function verifiedNames(order: Order, item: NamesItem, language: string): Verify | undefined {
  const { by, at, where } = item;
  if (at) {
    const places = 'blocks' in at ? 'some addresses' : 'the addresses of other names';
    order.refused.say(
      where,
      `allows what names some servers, at ${places} only: ${language} has not both in one rule`,
      '--to cilium',
    );
    return undefined;
  }
  if (by === 'lookup') return 'off';
  if (by !== 'either')
    order.notes.say(
      order.listing.last,
      `${language} does not tell TLS from HTTP: a name for one of them may be said in the other, too: wider`,
    );
  order.notes.say(
    order.listing.last,
    `${language} has no words for what a connection says: the annotation ${VERIFY}: strict asks for it, which other engines pass over`,
  );
  return 'strict';
}

export const NAMESPACE_LABEL = 'kubernetes.io/metadata.name';

/** Where the domain of a pattern is named. */
export function originOf({ listing }: Order, pattern: string, where: Place): Place {
  return listing.origins.get(pattern.replace(/^\*\*\./, '')) ?? where;
}

/** The protocols with ports of a part. */
export function protocolsOf({ tcp, udp }: Ports): { name: 'TCP' | 'UDP'; ranges: readonly Range[] }[] {
  return [
    { name: 'TCP' as const, ranges: tcp },
    { name: 'UDP' as const, ranges: udp },
  ].filter(({ ranges }) => ranges.length > 0);
}

/** Whether every protocol and port is meant, so that a rule needs no ports. */
export function isEveryPort({ tcp, udp, other }: Ports): boolean {
  return other && [tcp, udp].every((ranges) => ranges.length === 1 && ranges[0]![0] === 1 && ranges[0]![1] === 65535);
}

/** Tells of other protocols, where a language has rules for ports alone. */
export function tellOthers(order: Order, { ports, items }: Part, language: string): void {
  const first = items.find(({ kind }) => kind !== 'deny');
  if (!ports.other || isEveryPort(ports) || !first) return;
  order.refused.say(
    first.where,
    `allows protocols without ports, but not every port: ${language} does not say that, so only TCP and UDP are allowed`,
  );
}

/** A rule, with the number of its names, and what its object must ask for. */
export interface Packable<R = object> {
  readonly rule: R;
  readonly names: number;
  readonly verify?: Verify | undefined;
}

/** Rules that become one object. */
export interface Pack<R> {
  readonly rules: R[];
  readonly verify: Verify | undefined;
}

/** Packs rules into objects, in order: an object asks for one thing. */
export function packed<R>(rules: readonly Packable<R>[], most: number, namesOfObject = NAMES_OF_OBJECT): Pack<R>[] {
  const out: { rules: R[]; verify: Verify | undefined }[] = [];
  let left = 0;
  for (const { rule, names, verify } of rules) {
    let last = out.at(-1);
    const differs = last?.verify !== undefined && verify !== undefined && last.verify !== verify;
    if (!last || left < names || last.rules.length >= most || differs) {
      out.push((last = { rules: [], verify }));
      left = namesOfObject;
    }
    last.rules.push(rule);
    last.verify ??= verify;
    left -= names;
  }
  return out;
}

/** Splits the patterns of an item. */
export function splitNames(patterns: readonly string[], most = NAMES_OF_RULE): (readonly string[])[] {
  return chunks(patterns, most);
}
