/**
 * Determines from the original object what the fields of a rule can match at all. The proof compares two results of the
 * same parser, so an overly broad interpretation would occur on both sides and remain undetected. This check is
 * independent of that parser.
 */
import { isRecord } from '../../identity/fields.js';
import type { RawPolicy, Snapshot } from '../../identity/snapshot.js';
import { podsAt } from '../../ir/evaluate.js';
import { ownNodeAddresses } from '../../ir/services.js';
import { ruleField } from '../../ir/names.js';
import type { RuleRef } from '../../ir/types.js';

export type Place = 'pods' | 'nodes' | 'the outside';

/** Fields of a peer that always match one kind of destination, by dialect. */
const PEERS: Readonly<Record<string, Readonly<Record<string, Place>>>> = {
  networkpolicy: { podSelector: 'pods', namespaceSelector: 'pods' },
  applicationnetworkpolicy: { podSelector: 'pods', namespaceSelector: 'pods' },
  clusternetworkpolicy: { namespaces: 'pods', pods: 'pods', nodes: 'nodes' },
  adminnetworkpolicy: { namespaces: 'pods', pods: 'pods', nodes: 'nodes' },
};

/** @returns the kinds that a rule's fields can match; undefined: any kind, or unknown */
export function placesOf(rule: unknown, dialect: string): ReadonlySet<Place> | undefined {
  if (!isRecord(rule)) return undefined;
  if (dialect === 'cilium') return ciliumPlaces(rule);
  if (dialect === 'calico') return calicoPlaces(rule);
  // GKE's names.
  if (dialect === 'fqdn') return Array.isArray(rule.matches) ? new Set<Place>(['the outside']) : undefined;
  const known = PEERS[dialect];
  if (!known || !Array.isArray(rule.to) || rule.to.length === 0) return undefined;
  const places = new Set<Place>();
  for (const peer of rule.to) {
    const fields = isRecord(peer) ? Object.keys(peer) : [];
    if (fields.length === 0) return undefined;
    for (const field of fields) {
      const place = known[field];
      if (place === undefined) return undefined;
      places.add(place);
    }
  }
  return places;
}

/**
 * A selector without reserved entities matches pods, toNodes matches nodes, toFQDNs neither. The other fields may match
 * anything.
 */
function ciliumPlaces(rule: Record<string, unknown>): ReadonlySet<Place> | undefined {
  if (Array.isArray(rule.toFQDNs)) return new Set<Place>(['the outside']);
  if (Array.isArray(rule.toNodes)) return new Set<Place>(['nodes']);
  if (!Array.isArray(rule.toEndpoints)) return undefined;
  return JSON.stringify(rule.toEndpoints).includes('"reserved:') ? undefined : new Set<Place>(['pods']);
}

/** Valid if there are no network sets. */
function calicoPlaces({ destination }: Record<string, unknown>): ReadonlySet<Place> | undefined {
  const asks = isRecord(destination) && (destination.selector || destination.namespaceSelector);
  return asks ? new Set<Place>(['pods']) : undefined;
}

/** Checks for the rules of some policies which destinations they cannot match. */
export class Grounds {
  readonly #known = new Map<string, ReadonlySet<Place> | undefined>();
  /** undefined: several objects have the name. */
  readonly #objects = new Map<string, RawPolicy | undefined>();
  readonly #sets: boolean;

  constructor(policies: readonly RawPolicy[]) {
    for (const raw of new Set(policies)) this.#objects.set(keyOf(raw), this.#objects.has(keyOf(raw)) ? undefined : raw);
    this.#sets = policies.some(({ kind }) => kind.endsWith('NetworkSet'));
  }

  /** @returns what the rule's fields can match, if the address is none of it */
  fault(ref: RuleRef, address: string, snapshot: Snapshot): string | undefined {
    if (ref.index < 0 || (ref.policy.dialect === 'calico' && this.#sets)) return undefined;
    const id = `${keyOf(ref.policy)} ${ruleField(ref)}`;
    if (!this.#known.has(id)) {
      const raw = this.#objects.get(keyOf(ref.policy));
      this.#known.set(id, raw && placesOf(at(raw.object, ruleField(ref)), ref.policy.dialect));
    }
    const places = this.#known.get(id);
    if (!places || whatIs(address, snapshot).some((place) => places.has(place))) return undefined;
    return [...places].join(' and ');
  }
}

function keyOf({ kind, namespace = '', name }: { kind: string; namespace?: string; name: string }): string {
  return [kind, namespace, name].join('\0');
}

/** The value at a path of an object, such as `spec.egress[1]`. */
function at(object: unknown, path: string): unknown {
  return path.split(/[.[\]]+/).reduce<unknown>((value, step) => {
    if (step === '') return value;
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[step] : undefined;
  }, object);
}

function whatIs(address: string, snapshot: Snapshot): Place[] {
  const ofNode =
    ownNodeAddresses(snapshot).includes(address) ||
    [...snapshot.nodes.values()].some((node) => node.ips.includes(address));
  const is: Place[] = [
    ...(podsAt(snapshot, address).length > 0 ? ['pods' as const] : []),
    ...(ofNode ? ['nodes' as const] : []),
  ];
  return is.length === 0 ? ['the outside'] : is;
}
