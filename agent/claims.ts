/**
 * What is known of a pod's interface before the API server says it: the container runtime told it (the gate), or an
 * interface is simply there.
 */
import { closeSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Pod } from '../src/identity/snapshot.js';
import type { Link, NetlinkSocket } from './netlink.js';
import { type Netns, netnsAt, RUN_NETNS } from './netns.js';

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

  get size(): number {
    return this.#held.size;
  }

  /** @returns the network namespace at that path; undefined: there is none, and nothing is held */
  add(claim: Claim): Netns | undefined {
    const ns = netnsAt(claim.netns) ?? netnsAt(plain(claim.netns));
    // Whose end was never told: an agent that was down then, or a runtime that forgot.
    for (const [key, held] of this.#held) if (!isThere(held)) this.#held.delete(key);
    if (ns) this.#held.set(`${claim.namespace}/${claim.name}`, { ...claim, ns });
    return ns;
  }

  /** @param claim its `netns` is empty where the runtime has taken the namespace away already */
  remove(claim: { namespace: string; name: string; netns: string }): void {
    const key = `${claim.namespace}/${claim.name}`;
    const held = this.#held.get(key);
    // A new pod of that name may have claimed already.
    if (held && (plain(held.netns) === plain(claim.netns) || !isThere(held))) this.#held.delete(key);
  }

  /** @returns `sure`: claimed for this pod, and not only for one of its name */
  netnsOf(pod: Pod): { ns: Netns; sure: boolean } | undefined {
    const key = `${pod.namespace}/${pod.name}`;
    const held = this.#held.get(key);
    if (!held) return undefined;
    // Its successor's claim, heard of before the successor itself.
    if (held.uid !== undefined && held.uid !== pod.uid) return undefined;
    if (isThere(held)) return { ns: held.ns, sure: held.uid !== undefined };
    this.#held.delete(key);
    return undefined;
  }
}

function isThere({ ns }: Held): boolean {
  return netnsAt(ns.path)?.id === ns.id;
}

/** /var/run is a link to /run. */
function plain(path: string): string {
  return path.replace(/^\/var\/run\//, '/run/');
}

/** How containerd (`cni-` and a UUID) and CRI-O (a UUID) name the namespaces that they make. */
const RUNTIME_NAME = /^(cni-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Ids of the namespaces below a directory that a container runtime made. */
export function runtimeNamespaces(nl: NetlinkSocket, dir = RUN_NETNS): Set<number> {
  const ids = new Set<number>();
  let names: string[] = [];
  try {
    names = readdirSync(dir).filter((name) => RUNTIME_NAME.test(name));
  } catch {
    // No such directory: no such namespaces.
  }
  for (const name of names) {
    let fd: number | undefined;
    try {
      fd = openSync(join(dir, name), 'r');
      const id = nl.netnsid(fd);
      if (id !== undefined) ids.add(id);
    } catch {
      // Gone meanwhile.
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }
  return ids;
}

/** Interfaces that came while the agent ran, or just before. What was there longer belongs to pods it can find, or to nobody's pods. */
export class StartingVeths {
  #old: Set<number> | undefined;

  /**
   * @param veths ours, by the namespace of their peers. @param taken indices that are bound
   * @param runtimes asked once: ids of the namespaces that a container runtime made for pods. One of those that is not bound when the
   *   agent comes belongs to a pod that started just then.
   */
  unclaimed(
    veths: ReadonlyMap<number, readonly Link[]>,
    taken: ReadonlySet<number>,
    runtimes: () => ReadonlySet<number>,
  ): Link[] {
    const all = [...veths.values()].flat();
    if (!this.#old) {
      const young = all.every((l) => taken.has(l.ifindex)) ? new Set<number>() : runtimes();
      this.#old = new Set(all.filter((l) => l.netnsid === undefined || !young.has(l.netnsid)).map((l) => l.ifindex));
    }
    // Once a pod's, it is no stranger when the pod has gone.
    for (const ifindex of taken) this.#old.add(ifindex);
    const there = new Set(all.map((l) => l.ifindex));
    for (const ifindex of this.#old) if (!there.has(ifindex)) this.#old.delete(ifindex);
    const old = this.#old;
    return all.filter((l) => !old.has(l.ifindex));
  }
}
