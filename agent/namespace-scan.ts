/** What is in the network namespaces behind our veths, looked into no more often than needed. */
import { AgentError } from '../src/errors.js';
import { type Address, type Link, type NetlinkSocket, withNetlink } from './netlink.js';
import { listNamespaces, type Netns } from './netns.js';

export interface ScanOptions {
  runDir?: string;
  procDir?: string;
}

/** What one namespace has, as seen from inside. */
export interface View {
  readonly ns: Netns;
  readonly links: readonly Link[];
  readonly addresses: readonly Address[];
  /** The id by which our namespace knows it; undefined: no link leads there. */
  readonly netnsid: number | undefined;
  /** `ours:theirs` indices of our veths whose peers are there: unchanged, the view holds. */
  readonly pairs: readonly string[];
}

/** The agent's side of the world during one resolve(). */
export interface Own {
  readonly nl: NetlinkSocket;
  readonly ns: Netns;
  /** By index. */
  readonly links: ReadonlyMap<number, Link>;
  /** Our veths by the namespace id of their peers. */
  readonly veths: ReadonlyMap<number, readonly Link[]>;
}

function pairsOf(own: Own, netnsid: number | undefined): string[] {
  const veths = netnsid === undefined ? [] : (own.veths.get(netnsid) ?? []);
  return veths.map((l) => `${l.ifindex}:${l.iflink}`);
}

/** The namespaces at the other ends of our veths, looked into at most once, and not if it is known what is there. */
export class Scan {
  readonly #own: Own;
  readonly #opts: ScanOptions;
  readonly #views = new Map<string, View | AgentError>();
  #all: Map<string, View[]> | undefined;

  constructor(own: Own, opts: ScanOptions, known: Iterable<View>) {
    this.#own = own;
    this.#opts = opts;
    for (const view of known) if (this.holds(view)) this.#views.set(view.ns.id, view);
  }

  /**
   * Whether the same veths still lead to the same namespace. Sure, although an inode
   * and a namespace's id may be used again: an index of ours is not.
   */
  holds(view: View): boolean {
    return view.pairs.length > 0 && pairsOf(this.#own, view.netnsid).join() === view.pairs.join();
  }

  /** Throws KERNEL or NETNS where the namespace cannot be entered or has gone meanwhile. */
  view(ns: Netns): View {
    const known = this.#views.get(ns.id);
    if (known instanceof AgentError) throw known;
    if (known) return known;
    try {
      const view = withNetlink(ns.path, (nl, nsFd): View => {
        const netnsid = this.#own.nl.netnsid(nsFd as number);
        return { ns, netnsid, pairs: pairsOf(this.#own, netnsid), links: nl.links(), addresses: nl.addresses() };
      });
      this.#views.set(ns.id, view);
      return view;
    } catch (e) {
      const error = e instanceof AgentError ? e : new AgentError('NETNS', `${ns.path}: ${(e as Error).message}`);
      this.#views.set(ns.id, error);
      throw error;
    }
  }

  /** The namespaces, each once, in which one of the addresses is. */
  owners(ips: readonly string[]): View[] {
    this.#all ??= this.#index();
    const out = new Set<View>();
    for (const ip of ips) for (const view of this.#all.get(ip) ?? []) out.add(view);
    return [...out];
  }

  #index(): Map<string, View[]> {
    const index = new Map<string, View[]>();
    for (const ns of listNamespaces({ runDir: this.#opts.runDir, procDir: this.#opts.procDir })) {
      if (ns.id === this.#own.ns.id) continue;
      let view: View;
      try {
        view = this.view(ns);
      } catch {
        continue; // Of no pod that we know of, or gone meanwhile.
      }
      if (view.pairs.length === 0) continue;
      for (const a of view.addresses) {
        const list = index.get(a.address);
        if (!list) index.set(a.address, [view]);
        else if (!list.includes(view)) list.push(view);
      }
    }
    return index;
  }
}
