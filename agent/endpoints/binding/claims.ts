/**
 * Evidence from the CNI gate: the container runtime's calls name a pod's namespace before the API server reports it.
 */
import type { Pod } from '../../../src/identity/snapshot.js';
import { type Evidence, type EvidenceSource, isUidOf, type NicFacts, plainPath } from '../evidence/evidence.js';
import { type Netns, netnsAt } from '../../netlink/netns.js';

/** A pod's network namespace, as the container runtime reported it. */
export interface Claim {
  readonly namespace: string;
  readonly name: string;
  /** Some runtimes do not report it. */
  readonly uid: string | undefined;
  /** Path of the namespace, as the node sees it. */
  readonly netns: string;
  /** The new interface, and its addresses by the CNI that made it. */
  readonly ifname?: string;
  readonly facts?: NicFacts;
}

interface HeldClaim extends Claim {
  readonly ns: Netns;
  readonly nics: ReadonlyMap<string, NicFacts>;
}

/** The claims that the gate received, each kept as long as the namespace and the pod exist. */
export class Claims implements EvidenceSource {
  readonly by = 'gate';
  /** By `namespace/name`. */
  readonly #claims = new Map<string, HeldClaim>();

  get size(): number {
    return this.#claims.size;
  }

  /** Keeps a claim. @returns the network namespace at its path; undefined: there is none, and nothing is kept */
  add(claim: Claim): Netns | undefined {
    const ns = netnsAt(claim.netns) ?? netnsAt(plainPath(claim.netns));
    // Claims whose end was not reported: the agent was not running, or the runtime omitted the call.
    for (const [key, held] of this.#claims) if (!exists(held)) this.#claims.delete(key);
    if (!ns) return undefined;
    const key = `${claim.namespace}/${claim.name}`;
    const previous = this.#claims.get(key);
    const nics = new Map(previous?.ns.id === ns.id ? previous.nics : []);
    if (claim.ifname !== undefined && claim.facts) nics.set(claim.ifname, claim.facts);
    this.#claims.set(key, { ...claim, ns, nics });
    return ns;
  }

  /** Drops a claim. @param claim its `netns` is empty if the runtime has removed the namespace already */
  remove(claim: { namespace: string; name: string; netns: string }): void {
    const key = `${claim.namespace}/${claim.name}`;
    const held = this.#claims.get(key);
    // A new pod of that name may have claimed already.
    if (held && (plainPath(held.netns) === plainPath(claim.netns) || !exists(held))) this.#claims.delete(key);
  }

  begin(): void {
    // Claims arrive by add(); there is nothing to read.
  }

  find(pod: Pod): Evidence | undefined {
    const key = `${pod.namespace}/${pod.name}`;
    const held = this.#claims.get(key);
    if (!held) return undefined;
    // The claim of the pod's successor, which the API server has not reported yet.
    if (held.uid !== undefined && !isUidOf(pod, held.uid)) return undefined;
    if (exists(held)) return { ns: held.ns, by: this.by, sure: held.uid !== undefined, nics: held.nics };
    this.#claims.delete(key);
    return undefined;
  }
}

function exists({ ns }: HeldClaim): boolean {
  return netnsAt(ns.path)?.id === ns.id;
}
