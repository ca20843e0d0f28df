/**
 * The ledger of one agent: who talked to whom, which rule decided, how often and when. Its memory is bounded. Half of
 * the edges are for whoever comes first; beyond, each source has an equal share, for which those that have more give
 * way. What finds no room is counted under an edge to `other` of the same source and rule.
 */
import { randomInt } from 'node:crypto';
import {
  DAY_MS,
  type DayRow,
  dayOf,
  type Edge,
  edgeId,
  edgeText,
  type EdgeHistory,
  KEPT_DAYS,
  NOBODY,
} from './edge.js';
import { contentName } from '../ids.js';
import { dayMatches, type EdgeChanges, type EdgeFeed, edgeMatches, type EdgeQuery } from './query.js';
import { DayRows } from './rows.js';

export type NewEdge = Omit<Edge, 'id'>;

/** Edges, and days of edges, that an agent keeps. */
export const LEDGER_EDGES = 20_000;
const LEDGER_ROWS = 131_072;
/** Edges that each source may have, however many sources there are. */
const LEAST_SHARE = 16;
/** Edges to `other` that there is room for beside the edges: a part of their number. */
const OTHERS = 1 / 16;
const NONE = -1;
/** Times before this year are those of a clock that was never set. */
const EARLIEST_MS = Date.UTC(2020, 0, 1);
const LATEST_MS = Date.UTC(2100, 0, 1);

interface Source {
  /** Without those to `other`. */
  edges: number;
  others: number;
}

/** What a ledger begins with: what an earlier process has saved. */
export interface LedgerStart {
  readonly ledger: number;
  readonly beganMs: number;
  readonly overflow: number;
}

export class Ledger implements EdgeFeed {
  readonly ledger: number;
  readonly beganMs: number;
  overflow: number;
  readonly #most: number;
  readonly #mostOthers: number;
  #others = 0;
  readonly #edges: (Edge | undefined)[] = [];
  /** Raised when a slot gets another edge: what somebody has remembered of it is no longer true. */
  readonly #incarnation: Uint32Array;
  readonly #owner: (Source | undefined)[] = [];
  readonly #byName = new Map<string, number>();
  readonly #byId = new Map<number, number>();
  readonly #sources = new Map<string, Source>();
  readonly #heads: Int32Array;
  readonly #rows: DayRows;
  readonly #free: number[] = [];
  readonly #parties = new Map<string, Edge['source']>();
  #version = 1;

  constructor(start: LedgerStart, most = LEDGER_EDGES, rows = LEDGER_ROWS) {
    this.ledger = start.ledger;
    this.beganMs = start.beganMs;
    this.overflow = start.overflow;
    this.#most = most;
    this.#mostOthers = Math.max(1, Math.floor(most * OTHERS));
    const slots = most + this.#mostOthers;
    this.#heads = new Int32Array(slots).fill(NONE);
    this.#incarnation = new Uint32Array(slots);
    this.#rows = new DayRows(rows);
  }

  /** A ledger that has seen nothing. */
  static fresh(nowMs: number, most?: number, rows?: number): Ledger {
    const ledger = randomInt(1, 2 ** 48 - 1);
    return new Ledger({ ledger, beganMs: nowMs, overflow: 0 }, most, rows);
  }

  /** Number of edges. */
  get size(): number {
    return this.#byName.size;
  }

  /** Days of edges that were given up for others. */
  get forgotten(): number {
    return this.#rows.forgotten;
  }

  /**
   * The slot of an edge, for count(). Where it finds no room it is that of the edge to `other` instead, and the flow is
   * counted in `overflow`; undefined if even that finds none.
   */
  slotOf(edge: NewEdge): number | undefined {
    const known = this.#byName.get(nameOf(edge));
    if (known !== undefined) {
      this.#noteAddress(known, edge.address);
      return known;
    }
    const made = this.#make(edge);
    if (made !== undefined) return made;
    this.overflow++;
    return this.otherOf(edge);
  }

  /** The slot of the edge to `other` that stands for an edge without room; undefined: there is none for that either. */
  otherOf(edge: NewEdge): number | undefined {
    const other = { ...edge, ...(edge.inbound ? { source: NOBODY } : { destination: NOBODY }), address: '', port: 0 };
    const folded: NewEdge = { ...other, service: '', servicePort: 0 };
    return this.#byName.get(nameOf(folded)) ?? this.#make(folded);
  }

  incarnation(slot: number): number {
    return this.#incarnation[slot] as number;
  }

  /**
   * Counts what happened on an edge. @param timeMs milliseconds since 1970; of a clock that cannot be right nothing is
   * counted
   */
  count(slot: number, timeMs: number, connections: number, bytes: number, drops: number): void {
    if (!(timeMs >= EARLIEST_MS && timeMs < LATEST_MS)) return;
    const day = Math.floor(timeMs / DAY_MS);
    const row = this.#rowOf(slot, day);
    if (row === NONE) this.overflow++;
    else this.#rows.count(row, Math.floor(timeMs - day * DAY_MS), this.#version, connections, bytes, drops);
  }

  /** Takes what was saved, with the id that it had. @returns whether there was room */
  restore(edge: Edge, days: readonly DayRow[]): boolean {
    const slot = this.#byName.get(nameOf(edge)) ?? this.#make(edge, edge.id);
    if (slot === undefined) return false;
    for (const value of days) {
      const row = this.#rowOf(slot, value.day);
      if (row !== NONE) this.#rows.add(row, value, this.#version);
    }
    return true;
  }

  histories(query: EdgeQuery): EdgeHistory[] {
    const out: EdgeHistory[] = [];
    for (const history of this.all()) {
      if (!edgeMatches(history.edge, query)) continue;
      const days = history.days.filter((d) => dayMatches(d, query));
      if (days.length > 0) out.push({ edge: history.edge, days });
    }
    return out;
  }

  /** Every edge with its days, one after the other: who saves them does not stop the agent meanwhile. */
  *all(): Generator<EdgeHistory> {
    for (let slot = 0; slot < this.#edges.length; slot++) {
      const edge = this.#edges[slot];
      if (!edge) continue;
      const days: DayRow[] = [];
      for (let row = this.#heads[slot] as number; row !== NONE; row = this.#rows.older(row))
        days.push(this.#rows.value(row));
      if (days.length > 0) yield { edge, days: days.reverse() };
    }
  }

  changesSince(version: number, query: EdgeQuery): EdgeChanges {
    const rows: { edge: Edge; row: DayRow }[] = [];
    for (let slot = 0; slot < this.#edges.length; slot++) {
      const edge = this.#edges[slot];
      const head = this.#heads[slot] as number;
      if (!edge || head === NONE || !edgeMatches(edge, query)) continue;
      for (let row = head; row !== NONE; row = this.#rows.older(row)) {
        if (this.#rows.version(row) <= version) continue;
        const value = this.#rows.value(row);
        if (dayMatches(value, query)) rows.push({ edge, row: value });
      }
    }
    return { version: this.#version++, rows };
  }

  /**
   * Gives up the days that are older than is kept, and edges without any. To be called about once an hour.
   * @param nowMs milliseconds since 1970
   */
  prune(nowMs: number): void {
    this.#rows.releaseBefore(dayOf(nowMs) - KEPT_DAYS, this.#heads);
    for (let slot = 0; slot < this.#edges.length; slot++)
      if (this.#edges[slot] && this.#heads[slot] === NONE) this.#drop(slot);
  }

  #rowOf(slot: number, day: number): number {
    const head = this.#heads[slot] as number;
    const found = this.#rows.find(head, day);
    if (found !== NONE) return found;
    if (this.#rows.isFull) this.#forgetOldest(day);
    const inserted = this.#rows.insert(slot, this.#heads[slot] as number, day);
    if (!inserted) return NONE;
    this.#heads[slot] = inserted.head;
    return inserted.row;
  }

  /** Gives up the oldest day, unless it is this one. */
  #forgetOldest(day: number): void {
    const span = this.#rows.span;
    if (!span || span.oldest >= day) return;
    this.#rows.forgotten += this.#rows.releaseBefore(span.oldest + 1, this.#heads);
  }

  /** @param given its id; 0: it has none yet */
  #make(edge: NewEdge, given = 0): number | undefined {
    const isOther = isRest(edge);
    const key = sourceKey(edge);
    const source = this.#sources.get(key) ?? { edges: 0, others: 0 };
    if (isOther ? this.#others >= this.#mostOthers : !this.#hasRoom(source) && !this.#evictFor(source))
      return undefined;
    this.#sources.set(key, source);
    if (isOther) {
      source.others++;
      this.#others++;
    } else source.edges++;
    const slot = this.#free.pop() ?? this.#edges.length;
    const text = edgeText(edge);
    let id = given;
    for (let attempt = 0; id === 0 || this.#byId.has(id); attempt++) id = edgeId(text, attempt);
    this.#edges[slot] = { ...edge, source: this.#party(edge.source), destination: this.#party(edge.destination), id };
    this.#owner[slot] = source;
    this.#byName.set(contentName(text), slot);
    this.#byId.set(id, slot);
    this.#incarnation[slot] = ((this.#incarnation[slot] as number) + 1) >>> 0;
    this.#heads[slot] = NONE;
    return slot;
  }

  /** Number of edges that are not to `other`. */
  get #own(): number {
    return this.#byName.size - this.#others;
  }

  #hasRoom(source: Source): boolean {
    const size = this.#own;
    return size < this.#most && (size < this.#most / 2 || source.edges < this.#share());
  }

  #share(): number {
    return Math.max(LEAST_SHARE, Math.floor(this.#most / Math.max(1, this.#sources.size)));
  }

  /** Makes room for a source that has less than its share: at the cost of the one that has most. */
  #evictFor(source: Source): boolean {
    if (this.#own < this.#most || source.edges >= this.#share()) return false;
    let largest = source;
    for (const other of this.#sources.values()) if (other.edges > largest.edges) largest = other;
    if (largest === source) return false;
    const seen: { slot: number; last: number }[] = [];
    for (let slot = 0; slot < this.#edges.length; slot++) {
      const edge = this.#edges[slot];
      if (this.#owner[slot] !== largest || !edge || isRest(edge)) continue;
      const head = this.#heads[slot] as number;
      seen.push({ slot, last: head === NONE ? 0 : this.#rows.value(head).lastMs });
    }
    // Several at once, since looking for them costs the most.
    seen.sort((a, b) => a.last - b.last);
    const victims = seen.slice(0, Math.max(1, seen.length >> 4));
    for (const { slot } of victims) this.#drop(slot);
    this.overflow += victims.length;
    return true;
  }

  #drop(slot: number): void {
    const edge = this.#edges[slot];
    if (!edge) return;
    this.#rows.release(this.#heads[slot] as number);
    this.#heads[slot] = NONE;
    this.#byName.delete(nameOf(edge));
    this.#byId.delete(edge.id);
    this.#edges[slot] = undefined;
    this.#incarnation[slot] = ((this.#incarnation[slot] as number) + 1) >>> 0;
    const owner = this.#owner[slot] as Source;
    this.#owner[slot] = undefined;
    if (isRest(edge)) {
      owner.others--;
      this.#others--;
    } else owner.edges--;
    if (owner.edges + owner.others === 0) this.#sources.delete(sourceKey(edge));
    this.#free.push(slot);
  }

  #noteAddress(slot: number, address: string): void {
    const edge = this.#edges[slot] as Edge;
    if (address !== '' && edge.address !== address) this.#edges[slot] = { ...edge, address };
  }

  /** One object for equal parties. */
  #party(party: Edge['source']): Edge['source'] {
    const key = JSON.stringify([party.kind, party.namespace, party.workloadKind, party.name]);
    const known = this.#parties.get(key);
    if (known) return known;
    // Names of outside come and go: the memory of them follows the number of edges.
    if (this.#parties.size >= 2 * this.#most) this.#parties.clear();
    this.#parties.set(key, party);
    return party;
  }
}

/** The key of an edge: its text, shorter. */
function nameOf(edge: NewEdge): string {
  return contentName(edgeText(edge));
}

/** Whether it stands for edges without room; or for packets without addresses, which are as few. */
function isRest({ inbound, source, destination }: NewEdge): boolean {
  return (inbound ? source : destination).kind === 'other';
}

/** Whose share an edge takes: that of the pods at this node's end. */
function sourceKey({ inbound, source, destination }: NewEdge): string {
  const own = inbound ? destination : source;
  return `${own.kind} ${own.namespace} ${own.workloadKind} ${own.name}`;
}
