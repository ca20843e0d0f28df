/**
 * What is known of a pod's interface before the API server says it: the container runtime told it (the gate), or an
 * interface is simply there.
 */
import type { Pod } from '../src/identity/snapshot.js';
import type { Link } from './netlink.js';
import { type Netns, netnsAt } from './netns.js';

/** Stands for the namespace of an endpoint whose pod is not known yet; no namespace is called so. */
export const STARTING = '(starting)';

/** A pod's network namespace, from whoever made it. */
export interface Claim {
  readonly namespace: string;
  readonly name: string;
  /** Some runtimes do not tell it. */
  readonly uid: string | undefined;
  /** Path of the namespace, as the node sees it. */
  readonly netns: string;
}

interface Held extends Claim {
  readonly ns: Netns;
}

/** The gate's word on which pod is in which namespace: held until the namespace or the pod has gone. */
export class Claims {
  /** By `namespace/name`. */
  readonly #held = new Map<string, Held>();

  /** @returns whether there is a network namespace at that path */
  add(claim: Claim): boolean {
    const ns = netnsAt(claim.netns) ?? netnsAt(claim.netns.replace(/^\/var\/run\//, '/run/'));
    if (!ns) return false;
    this.#held.set(`${claim.namespace}/${claim.name}`, { ...claim, ns });
    return true;
  }

  remove(claim: { namespace: string; name: string; netns: string }): void {
    const key = `${claim.namespace}/${claim.name}`;
    // A new pod of that name may have claimed already.
    if (this.#held.get(key)?.netns === claim.netns) this.#held.delete(key);
  }

  netnsOf(pod: Pod): Netns | undefined {
    const key = `${pod.namespace}/${pod.name}`;
    const held = this.#held.get(key);
    if (!held) return undefined;
    // Its successor's claim, heard of before the successor itself.
    if (held.uid !== undefined && held.uid !== pod.uid) return undefined;
    if (netnsAt(held.ns.path)?.id === held.ns.id) return held.ns;
    this.#held.delete(key);
    return undefined;
  }
}

/** Interfaces that came while the agent ran. What was there before it belongs to pods it can find, or to nobody's pods. */
export class StartingVeths {
  #old: Set<number> | undefined;

  /** @param veths ours, by the namespace of their peers. @param taken indices that are bound */
  unclaimed(veths: ReadonlyMap<number, readonly Link[]>, taken: ReadonlySet<number>): Link[] {
    const all = [...veths.values()].flat();
    this.#old ??= new Set(all.map((l) => l.ifindex));
    // Once a pod's, it is no stranger when the pod has gone.
    for (const ifindex of taken) this.#old.add(ifindex);
    const there = new Set(all.map((l) => l.ifindex));
    for (const ifindex of this.#old) if (!there.has(ifindex)) this.#old.delete(ifindex);
    const old = this.#old;
    return all.filter((l) => !old.has(l.ifindex));
  }
}
