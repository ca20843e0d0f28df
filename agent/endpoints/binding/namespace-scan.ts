/** The content of the network namespaces behind the node's veths, each read at most once in a pass. */
import { closeSync, openSync } from 'node:fs';
import { AgentError } from '../../../src/errors.js';
import { type Address, type Link, type NetlinkSocket, withNetlink } from '../../netlink/netlink.js';
import { listNamespaces, type Netns } from '../../netlink/netns.js';

export interface ScanOptions {
  runDir?: string;
  procDir?: string;
}

/** Links and addresses of one namespace, read inside it. */
export interface NamespaceView {
  readonly ns: Netns;
  readonly links: readonly Link[];
  readonly addresses: readonly Address[];
}

/** The agent's own namespace during one resolve(). */
export interface OwnNamespace {
  readonly nl: NetlinkSocket;
  readonly ns: Netns;
  /** By index. */
  readonly links: ReadonlyMap<number, Link>;
  /** Veths by the namespace id of their peers. */
  readonly veths: ReadonlyMap<number, readonly Link[]>;
}

/** The namespaces that one pass reads; each is entered at most once. */
export class Scan {
  readonly #own: OwnNamespace;
  readonly #opts: ScanOptions;
  readonly #views = new Map<string, NamespaceView | AgentError>();
  readonly #numbers = new Map<string, number | undefined>();
  #list: Netns[] | undefined;
  #owners: Map<string, NamespaceView[]> | undefined;

  constructor(own: OwnNamespace, opts: ScanOptions) {
    this.#own = own;
    this.#opts = opts;
  }

  /** The namespace's id in the agent's own; undefined: no link leads there, or it no longer exists. */
  number(ns: Netns): number | undefined {
    if (this.#numbers.has(ns.id)) return this.#numbers.get(ns.id);
    let fd: number | undefined;
    let id: number | undefined;
    try {
      fd = openSync(ns.path, 'r');
      id = this.#own.nl.netnsid(fd);
    } catch {
      // The namespace has been removed.
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
    this.#numbers.set(ns.id, id);
    return id;
  }

  /** The veths whose other ends are in the namespace. */
  veths(ns: Netns): readonly Link[] {
    const number = this.number(ns);
    return number === undefined ? [] : (this.#own.veths.get(number) ?? []);
  }

  /** The namespace's content. Throws KERNEL or NETNS if it cannot be entered or no longer exists. */
  view(ns: Netns): NamespaceView {
    const cached = this.#views.get(ns.id);
    if (cached instanceof AgentError) throw cached;
    if (cached) return cached;
    try {
      const view = withNetlink(ns.path, (nl): NamespaceView => {
        if (nl.cookie() !== ns.id) throw new AgentError('NETNS', `${ns.path} is another namespace by now`);
        return { ns, links: nl.links(), addresses: nl.addresses() };
      });
      this.#views.set(ns.id, view);
      return view;
    } catch (e) {
      const error = e instanceof AgentError ? e : new AgentError('NETNS', `${ns.path}: ${(e as Error).message}`);
      this.#views.set(ns.id, error);
      throw error;
    }
  }

  /** All namespaces that have a file, except the agent's own. */
  list(): readonly Netns[] {
    this.#list ??= listNamespaces(this.#opts).filter((ns) => ns.id !== this.#own.ns.id);
    return this.#list;
  }

  /** The namespaces, each once, to which a veth leads and which have one of the addresses. */
  owners(ips: readonly string[]): NamespaceView[] {
    this.#owners ??= this.#index();
    const out = new Set<NamespaceView>();
    for (const ip of ips) for (const view of this.#owners.get(ip) ?? []) out.add(view);
    return [...out];
  }

  #index(): Map<string, NamespaceView[]> {
    const index = new Map<string, NamespaceView[]>();
    for (const ns of this.list()) {
      if (this.veths(ns).length === 0) continue;
      let view: NamespaceView;
      try {
        view = this.view(ns);
      } catch {
        continue; // It cannot be entered, or no longer exists.
      }
      for (const a of view.addresses) {
        const list = index.get(a.address);
        if (!list) index.set(a.address, [view]);
        else if (!list.includes(view)) list.push(view);
      }
    }
    return index;
  }
}
