/** Shared by the makers of policies: what the policies are for, and what a language cannot say. */
import type { Manifest } from '../../convert/terms/common.js';
import { chunks } from '../../convert/terms/common.js';
import type { Part } from '../base/decide.js';
import type { Listing, Place, Remarks } from '../base/model.js';
import type { Ports, Range } from '../base/spans.js';

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

/** Metadata of the n-th object. */
export function metadataOf({ name, namespace }: Subject, index: number, wide: boolean): Record<string, unknown> {
  const own = index === 0 ? name : `${name}-${index + 1}`;
  return { name: own, ...(wide || namespace === undefined ? {} : { namespace }) };
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

/** Packs names into rules, and rules into objects. */
export function packed<R>(rules: readonly { readonly rule: R; readonly names: number }[], most: number): R[][] {
  const out: R[][] = [];
  let left = 0;
  for (const { rule, names } of rules) {
    if (out.length === 0 || left < names || out.at(-1)!.length >= most) {
      out.push([]);
      left = NAMES_OF_OBJECT;
    }
    out.at(-1)!.push(rule);
    left -= names;
  }
  return out;
}

/** Splits the patterns of an item. */
export function splitNames(patterns: readonly string[], most = NAMES_OF_RULE): (readonly string[])[] {
  return chunks(patterns, most);
}
