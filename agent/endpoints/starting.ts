/** Interfaces of unknown pods: they appear before their pod is reported, or belong to none. */
import { closeSync, openSync } from 'node:fs';
import type { Link, NetlinkSocket } from '../netlink/netlink.js';
import { isRuntimeNamed, namedNamespaces } from '../netlink/netns.js';

/** Ids, in the socket's namespace, of the namespaces in a directory that a container runtime made. */
export function runtimeNamespaces(nl: NetlinkSocket, dir?: string): Set<number> {
  const ids = new Set<number>();
  for (const ns of namedNamespaces(dir).filter(isRuntimeNamed)) {
    let fd: number | undefined;
    try {
      fd = openSync(ns.path, 'r');
      const id = nl.netnsid(fd);
      if (id !== undefined) ids.add(id);
    } catch {
      // The namespace has been removed.
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }
  return ids;
}

/**
 * Veths that appeared while the agent ran, or shortly before. Older ones belong to pods that it can find, or to none.
 */
export class StartingVeths {
  #longstanding: Set<number> | undefined;

  /**
   * The veths that are new and not bound.
   * @param veths of the agent's namespace, by the namespace of their peers. @param taken indices that are bound
   * @param first called once. `runtimes`: ids of the namespaces that a container runtime made for pods; one that is not
   *   bound when the agent starts belongs to a pod that is just starting. `hooked`: indices that an earlier agent
   *   closed
   *   or judged.
   */
  unclaimed(
    veths: ReadonlyMap<number, readonly Link[]>,
    taken: ReadonlySet<number>,
    first: { runtimes: () => ReadonlySet<number>; hooked: () => ReadonlySet<number> },
  ): Link[] {
    const all = [...veths.values()].flat();
    if (!this.#longstanding) {
      const empty = new Set<number>();
      const [young, hooked] = all.every((l) => taken.has(l.ifindex))
        ? [empty, empty]
        : [first.runtimes(), first.hooked()];
      const isOld = (l: Link) => !hooked.has(l.ifindex) && (l.netnsid === undefined || !young.has(l.netnsid));
      this.#longstanding = new Set(all.filter(isOld).map((l) => l.ifindex));
    }
    // An interface that was a pod's is not new after the pod's end.
    for (const ifindex of taken) this.#longstanding.add(ifindex);
    const existing = new Set(all.map((l) => l.ifindex));
    for (const ifindex of this.#longstanding) if (!existing.has(ifindex)) this.#longstanding.delete(ifindex);
    const longstanding = this.#longstanding;
    return all.filter((l) => !longstanding.has(l.ifindex));
  }
}
