/**
 * The edges of a level, summed to what is drawn. What an edge belongs to is looked up once; its numbers are summed anew
 * with each change, which costs less than to find out what has changed.
 */
import type { EdgeInfo } from '../wire/messages.js';
import { isOf, type Level, type Unit, exactUnit, unitOf } from './levels.js';

/** As the page shows verdicts; the one to be seen first comes first. */
export const VERDICTS = ['denied', 'would-deny', 'partial', 'allowed', 'no-policy'] as const;
export type Seen = (typeof VERDICTS)[number];

/** An edge with its numbers. */
export interface Counted {
  readonly info: EdgeInfo;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly connections: number;
  readonly bytes: number;
  readonly drops: number;
  readonly days: number;
  readonly hours: number;
}

/** Why an edge of the level is not drawn. */
export type Hidden = 'dns' | 'system' | 'filter';

export interface Rules {
  readonly level: Level;
  /** @returns undefined: it is drawn */
  readonly hide: (info: EdgeInfo) => Hidden | undefined;
  readonly seen: (info: EdgeInfo) => Seen;
}

export interface GraphNode {
  readonly unit: Unit;
  /** Workloads of a namespace by their keys, with the number of their edges. */
  readonly members: Map<string, { readonly unit: Unit; edges: number }>;
  /** Connections by verdict, both ways. */
  readonly connections: Record<Seen, number>;
  total: number;
  /** Edges that end here. */
  edges: number;
  /** Edges from here, and to here, of others. */
  sends: number;
  receives: number;
}

/** All edges of one verdict from one node to another. */
export interface GraphLink {
  readonly key: string;
  readonly from: string;
  readonly to: string;
  readonly seen: Seen;
  connections: number;
  edges: number;
}

/** An edge, and where it is drawn. */
export interface Entry {
  readonly edge: Counted;
  readonly seen: Seen;
  readonly from: GraphNode;
  readonly to: GraphNode;
  readonly link: GraphLink;
}

type Kept = { readonly info: EdgeInfo; pass: number } & (
  | { readonly entry: Entry; readonly hidden?: undefined }
  | { readonly entry?: undefined; readonly hidden: Hidden | 'elsewhere' }
);

export function linkKey(seen: Seen, from: string, to: string): string {
  return `${seen}|${from}|${to}`;
}

function noConnections(): Record<Seen, number> {
  return { denied: 0, 'would-deny': 0, partial: 0, allowed: 0, 'no-policy': 0 };
}

/** The graph of one level, with some edges hidden. */
export class Graph {
  readonly #rules: Rules;
  readonly #kept = new Map<number, Kept>();
  #pass = 0;
  readonly nodes = new Map<string, GraphNode>();
  readonly links = new Map<string, GraphLink>();
  /** Edges of the level that are not drawn, and how many of them are denied. */
  readonly hidden: Record<Hidden, { edges: number; denied: number }> = {
    dns: { edges: 0, denied: 0 },
    system: { edges: 0, denied: 0 },
    filter: { edges: 0, denied: 0 },
  };
  /** Another number: nodes or links have come or gone. */
  shape = 0;

  constructor(rules: Rules) {
    this.#rules = rules;
  }

  get level(): Level {
    return this.#rules.level;
  }

  /**
   * Takes all edges as they are now.
   * @param edges all that there are, by id
   * @param most new edges that are taken; the next call takes more
   * @returns whether all are taken
   */
  update(edges: ReadonlyMap<number, Counted>, most = Number.POSITIVE_INFINITY): boolean {
    let isWhole = true;
    let taken = 0;
    const pass = ++this.#pass;
    for (const node of this.nodes.values()) {
      Object.assign(node.connections, noConnections());
      node.total = 0;
    }
    for (const link of this.links.values()) link.connections = 0;
    for (const [id, edge] of edges) {
      let kept = this.#kept.get(id);
      // The numbers of another stream are others.
      if (kept && kept.info !== edge.info) {
        this.#forget(id, kept);
        kept = undefined;
      }
      if (!kept) {
        if (taken++ >= most) {
          isWhole = false;
          continue;
        }
        this.#kept.set(id, (kept = this.#take(edge)));
      }
      kept.pass = pass;
      if (!kept.entry) continue;
      const { from, to, link, seen } = kept.entry;
      const { connections } = edge;
      from.connections[seen] += connections;
      from.total += connections;
      if (to !== from) {
        to.connections[seen] += connections;
        to.total += connections;
      }
      link.connections += connections;
    }
    // Those that have not been taken yet are not among them, so only what has gone makes more of them.
    for (const [id, kept] of this.#kept) if (kept.pass !== pass) this.#forget(id, kept);
    return isWhole;
  }

  /** The edges that are drawn. */
  *entries(): Iterable<Entry> {
    for (const { entry } of this.#kept.values()) if (entry) yield entry;
  }

  #take(edge: Counted): Kept {
    const { info } = edge;
    const { level, hide, seen: seenOf } = this.#rules;
    if (!isOf(level, info.source, info.destination)) return { info, pass: 0, hidden: 'elsewhere' };
    const seen = seenOf(info);
    const hidden = hide(info);
    if (hidden) {
      this.hidden[hidden].edges++;
      if (seen === 'denied') this.hidden[hidden].denied++;
      return { info, pass: 0, hidden };
    }
    const from = this.#node(unitOf(level, info.source));
    const to = this.#node(unitOf(level, info.destination));
    for (const [node, party] of [
      [from, info.source],
      [to, info.destination],
    ] as const) {
      node.edges++;
      if (node.unit.kind !== 'namespace' && node.unit.kind !== 'nodes') continue;
      const unit = exactUnit(party);
      const member = node.members.get(unit.key);
      if (member) member.edges++;
      else node.members.set(unit.key, { unit, edges: 1 });
    }
    if (from !== to) {
      from.sends++;
      to.receives++;
    }
    const key = linkKey(seen, from.unit.key, to.unit.key);
    let link = this.links.get(key);
    if (!link) {
      link = { key, from: from.unit.key, to: to.unit.key, seen, connections: 0, edges: 0 };
      this.links.set(key, link);
      this.shape++;
    }
    link.edges++;
    return { info, pass: 0, entry: { edge, seen, from, to, link } };
  }

  #node(unit: Unit): GraphNode {
    let node = this.nodes.get(unit.key);
    if (!node) {
      node = { unit, members: new Map(), connections: noConnections(), total: 0, edges: 0, sends: 0, receives: 0 };
      this.nodes.set(unit.key, node);
      this.shape++;
    }
    return node;
  }

  #forget(id: number, { info, entry, hidden }: Kept): void {
    this.#kept.delete(id);
    if (hidden && hidden !== 'elsewhere') {
      this.hidden[hidden].edges--;
      if (this.#rules.seen(info) === 'denied') this.hidden[hidden].denied--;
    }
    if (!entry) return;
    const { from, to, link } = entry;
    for (const [node, party] of [
      [from, info.source],
      [to, info.destination],
    ] as const) {
      node.edges--;
      const { key } = exactUnit(party);
      const member = node.members.get(key);
      if (member && --member.edges === 0) node.members.delete(key);
      if (node.edges > 0 || !this.nodes.delete(node.unit.key)) continue;
      this.shape++;
    }
    if (from !== to) {
      from.sends--;
      to.receives--;
    }
    if (--link.edges > 0) return;
    this.links.delete(link.key);
    this.shape++;
  }
}

/** What is drawn first: who is denied, then who has the most connections, then by name. */
export function byImportance(a: GraphNode, b: GraphNode): number {
  const [x, y] = [a.connections.denied > 0, b.connections.denied > 0];
  if (x !== y) return x ? -1 : 1;
  return b.total - a.total || (a.unit.key < b.unit.key ? -1 : 1);
}
