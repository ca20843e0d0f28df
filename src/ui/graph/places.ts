/** Who is drawn, and where: places are given once, and kept while the data changes. */
import { type Column, COLUMNS, fixedColumn, isOwnUnit, type Level, restUnit } from './levels.js';
import { byImportance, type Graph, type GraphLink, type GraphNode, linkKey, type Seen, VERDICTS } from './model.js';

/** Nodes that are drawn before somebody asks for more. */
export const MOST_NODES = 150;
/** Of them outside of the cluster: more names and addresses than a column shows are counted in one box. */
const MOST_OUTSIDE = 40;
/** Lines that are drawn: of more, nobody can follow one with the eye. */
export const MOST_LINES = 180;
/** Of them those denied, if there are others that have room then. */
const MOST_DENIED = 120;
const OUTSIDE: Column = 4;

export interface Place {
  readonly column: Column;
  readonly slot: number;
}

/** A line as it is drawn: of links whose ends are drawn, or stand for those that are not. */
export interface Line {
  readonly key: string;
  readonly from: string;
  readonly to: string;
  readonly seen: Seen;
  connections: number;
}

export interface Lines {
  readonly lines: readonly Line[];
  /** Lines that are not drawn. */
  readonly more: number;
}

/** The places of one graph. */
export class Places {
  readonly #level: Level;
  readonly #most: number;
  readonly #at = new Map<string, Place>();
  /** Of all nodes, drawn or not. */
  readonly #column = new Map<string, Column>();
  readonly #slots = new Map<Column, (string | undefined)[]>(COLUMNS.map((c) => [c, []]));
  readonly #summed = new Map<string, Line>();
  readonly #lineOf = new Map<GraphLink, Line>();
  #drawn: Lines = { lines: [], more: 0 };
  #version = 0;
  /** For what the lines were made. */
  #made: { graph?: Graph; shape: number; version: number; always: string } = { shape: -1, version: 0, always: '' };
  /** Nodes without a place, by column. */
  readonly rest = new Map<Column, GraphNode[]>();
  #isFirst = true;

  /** @param most nodes that are drawn */
  constructor(level: Level, most = MOST_NODES) {
    this.#level = level;
    this.#most = most;
  }

  /** Of what is drawn. */
  get all(): ReadonlyMap<string, Place> {
    return this.#at;
  }

  slots(column: Column): readonly (string | undefined)[] {
    return this.#slots.get(column) as readonly (string | undefined)[];
  }

  /** What a node is drawn as: itself, or the rest of its column. */
  drawnAs(key: string): string {
    return this.#at.has(key) ? key : restUnit(this.#column.get(key) ?? 4).key;
  }

  /** Gives places to those that have none. @returns whether anything has come or gone */
  update(graph: Graph): boolean {
    let changed = false;
    for (const [key, { column, slot }] of this.#at) {
      if (graph.nodes.has(key)) continue;
      this.#at.delete(key);
      this.#list(column)[slot] = undefined;
      changed = true;
    }
    for (const key of this.#column.keys()) if (!graph.nodes.has(key)) this.#column.delete(key);
    this.#assignColumns(graph);
    const { chosen, waiting } = this.#choosePlaced(graph);
    if (this.#isFirst) this.#placeFirst(graph, chosen);
    else for (const node of chosen) this.#place(node.unit.key);
    changed ||= chosen.length > 0;
    this.#isFirst &&= graph.nodes.size === 0;
    // Who is denied must be seen, and takes the place of who has the least to tell.
    for (const [n, denied] of waiting.entries()) {
      if (denied.connections.denied === 0) break;
      const least = this.#least(graph, this.#isOutside(denied) && this.#hasRoomOutside() <= 0);
      if (!least) continue;
      this.#remove(least.unit.key);
      this.#place(denied.unit.key);
      waiting[n] = least;
      changed = true;
    }
    const before = [...this.rest].map(([c, list]) => `${c}:${list.length}`).join();
    this.rest.clear();
    for (const node of waiting) {
      const column = this.#column.get(node.unit.key) as Column;
      const list = this.rest.get(column);
      if (list) list.push(node);
      else this.rest.set(column, [node]);
    }
    changed ||= before !== [...this.rest].map(([c, list]) => `${c}:${list.length}`).join();
    if (changed) this.#version++;
    return changed;
  }

  #isOutside({ unit }: GraphNode): boolean {
    return this.#column.get(unit.key) === OUTSIDE;
  }

  /** Who asks for more nodes gets more of those outside too. */
  #hasRoomOutside(): number {
    const taken = this.slots(OUTSIDE).reduce((n, key) => (key === undefined ? n : n + 1), 0);
    return MOST_OUTSIDE + Math.max(0, this.#most - MOST_NODES) - taken;
  }

  /** Those without a place, the most important first: who gets one, and who has to wait. */
  #choosePlaced(graph: Graph): { chosen: GraphNode[]; waiting: GraphNode[] } {
    const open = [...graph.nodes.values()].filter(({ unit }) => !this.#at.has(unit.key)).sort(byImportance);
    const chosen: GraphNode[] = [];
    const waiting: GraphNode[] = [];
    let room = this.#most - this.#at.size;
    let outside = this.#hasRoomOutside();
    for (const node of open) {
      const isOutside = this.#isOutside(node);
      if (room <= 0 || (isOutside && outside <= 0)) {
        waiting.push(node);
        continue;
      }
      chosen.push(node);
      room--;
      if (isOutside) outside--;
    }
    return { chosen, waiting };
  }

  /**
   * The lines to be drawn, the most important last, so that they are on top; the same list until others are drawn.
   * @param always a node whose lines are all drawn
   */
  lines(graph: Graph, always = ''): Lines {
    const made = this.#made;
    const isOld = made.graph === graph && made.shape === graph.shape && made.version === this.#version;
    if (!isOld) this.#join(graph);
    for (const line of this.#summed.values()) line.connections = 0;
    for (const [link, line] of this.#lineOf) line.connections += link.connections;
    if (!isOld || made.always !== always) {
      this.#made = { graph, shape: graph.shape, version: this.#version, always };
      this.#drawn = this.#choose(always);
    }
    return this.#drawn;
  }

  /** Which line shows which link. */
  #join(graph: Graph): void {
    this.#summed.clear();
    this.#lineOf.clear();
    for (const link of graph.links.values()) {
      if (link.from === link.to) continue;
      const from = this.drawnAs(link.from);
      const to = this.drawnAs(link.to);
      if (from === to) continue;
      const key = linkKey(link.seen, from, to);
      let line = this.#summed.get(key);
      if (!line) this.#summed.set(key, (line = { key, from, to, seen: link.seen, connections: 0 }));
      this.#lineOf.set(link, line);
    }
  }

  #choose(always: string): Lines {
    const all = [...this.#summed.values()];
    const keys = new Set(this.#drawn.lines.map((line) => line.key));
    // What was drawn stays, so that lines do not come and go at the border.
    const weight = (line: Line) =>
      (line.from === always || line.to === always ? 8 : 0) +
      (line.seen === 'denied' ? 4 : line.seen === 'would-deny' ? 2 : 0) +
      (keys.has(line.key) ? 1 : 0);
    const lines = all.length > MOST_LINES ? this.#strongest(all, weight) : all;
    const rank = (line: Line) => VERDICTS.indexOf(line.seen);
    lines.sort((a, b) => rank(b) - rank(a) || (a.key < b.key ? -1 : 1));
    return { lines, more: all.length - lines.length };
  }

  #strongest(all: Line[], weight: (line: Line) => number): Line[] {
    all.sort((a, b) => weight(b) - weight(a) || b.connections - a.connections);
    const lines: Line[] = [];
    const left: Line[] = [];
    let denied = 0;
    for (const line of all) {
      const isLate = weight(line) < 8 && line.seen === 'denied' && ++denied > MOST_DENIED;
      if (isLate || lines.length >= MOST_LINES) left.push(line);
      else lines.push(line);
    }
    return lines.concat(left.slice(0, MOST_LINES - lines.length));
  }

  #list(column: Column): (string | undefined)[] {
    return this.#slots.get(column) as (string | undefined)[];
  }

  /** The first free slot of its column. */
  #place(key: string): void {
    const column = this.#column.get(key) as Column;
    const list = this.#list(column);
    const free = list.indexOf(undefined);
    const slot = free < 0 ? list.length : free;
    list[slot] = key;
    this.#at.set(key, { column, slot });
  }

  #remove(key: string): void {
    const place = this.#at.get(key);
    if (!place) return;
    this.#list(place.column)[place.slot] = undefined;
    this.#at.delete(key);
  }

  /** Whose place may be taken. @param onlyOutside of those outside of the cluster */
  #least(graph: Graph, onlyOutside: boolean): GraphNode | undefined {
    let least: GraphNode | undefined;
    for (const [key, { column }] of this.#at) {
      if (onlyOutside && column !== OUTSIDE) continue;
      const node = graph.nodes.get(key) as GraphNode;
      if (node.connections.denied > 0 || isOwnUnit(this.#level, node.unit)) continue;
      if (!least || byImportance(least, node) < 0) least = node;
    }
    return least;
  }

  /**
   * Columns of nodes that have none. Who connects to others and is connected to has one place all the same: where more
   * lines go from left to right than back, counted once, when it is met first.
   */
  #assignColumns(graph: Graph): void {
    const open: GraphNode[] = [];
    for (const node of graph.nodes.values()) {
      const { key } = node.unit;
      if (this.#column.has(key)) continue;
      const fixed = fixedColumn(this.#level, node.unit);
      if (fixed !== undefined) this.#column.set(key, fixed);
      else open.push(node);
    }
    if (open.length === 0) return;
    const between = new Map<string, { to: Set<string>; from: Set<string> }>(
      open.map(({ unit }) => [unit.key, { to: new Set(), from: new Set() }]),
    );
    for (const { from, to } of graph.links.values()) {
      if (from === to) continue;
      between.get(from)?.to.add(to);
      between.get(to)?.from.add(from);
    }
    const right = this.#level.kind === 'cluster' ? 1 : 2;
    open.sort((a, b) => b.sends + b.receives - a.sends - a.receives || (a.unit.key < b.unit.key ? -1 : 1));
    for (const { unit } of open) {
      const { to, from } = between.get(unit.key) as { to: Set<string>; from: Set<string> };
      let score = 0;
      for (const key of to) score += this.#pull(key);
      for (const key of from) score -= this.#pull(key, true);
      this.#column.set(unit.key, score >= 0 && (to.size > 0 || this.#level.kind !== 'cluster') ? 0 : right);
      if (this.#level.kind !== 'cluster' && to.size === 0) this.#column.set(unit.key, right);
    }
  }

  /** How much a peer speaks for a place on its left (as its source), or on its right. */
  #pull(peer: string, isSource = false): number {
    const column = this.#column.get(peer);
    if (column === undefined) return 1;
    if (this.#level.kind !== 'cluster') return 1;
    // Everybody talks to the platform and to the outside: it says nothing about who is a source.
    if (column >= 3) return isSource ? 0 : 0.0001;
    return (isSource ? column === 0 : column === 1) ? 2 : 0;
  }

  /** The first places, in an order in which few lines cross: each where the mean of its peers on the left is. */
  #placeFirst(graph: Graph, chosen: readonly GraphNode[]): void {
    const columns = new Map<Column, GraphNode[]>(COLUMNS.map((c) => [c, []]));
    for (const node of chosen) columns.get(this.#column.get(node.unit.key) as Column)?.push(node);
    const peers = new Map<string, string[]>();
    for (const { from, to } of graph.links.values()) {
      for (const [key, other] of [
        [from, to],
        [to, from],
      ] as const) {
        const list = peers.get(key);
        if (list) list.push(other);
        else peers.set(key, [other]);
      }
    }
    const height = new Map<string, number>();
    const settle = (list: readonly GraphNode[]) =>
      list.forEach(({ unit }, n) => height.set(unit.key, (n + 0.5) / list.length));
    for (const list of columns.values()) {
      list.sort((a, b) => (a.unit.key < b.unit.key ? -1 : 1));
      settle(list);
    }
    for (const column of [1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3, 4] as const) {
      const list = columns.get(column) as GraphNode[];
      const mean = new Map<string, number>();
      for (const { unit } of list) {
        const others = (peers.get(unit.key) ?? []).flatMap((key) => height.get(key) ?? []);
        mean.set(unit.key, others.length === 0 ? 1 : others.reduce((sum, y) => sum + y, 0) / others.length);
      }
      list.sort(
        (a, b) =>
          (mean.get(a.unit.key) as number) - (mean.get(b.unit.key) as number) || (a.unit.key < b.unit.key ? -1 : 1),
      );
      settle(list);
    }
    for (const list of columns.values()) for (const { unit } of list) this.#place(unit.key);
  }
}
