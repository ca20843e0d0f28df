/**
 * The ledger of one agent: who talked to whom, which rule decided, how often and when. Its memory is bounded. Half of
 * the edges are for whoever comes first; beyond, each namespace has an equal share, and each source an equal share of
 * that, for which those that have more give way: who may write pods in a namespace says what their controllers are called,
 * and has as many sources as he likes. What finds no room, or gives way, is counted under an edge to `other` of the same
 * source and rule.
 */
import { randomInt } from 'node:crypto';
import { DAY_MS, type DayRow, dayOf, type Edge, edgeId, edgeText, type EdgeHistory } from './edge.js';
import { isRest, KEPT_DAYS, NOBODY, ownParty, sourceKey } from './edge.js';
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
/** Edges that give way at once. */
const MOST_AT_ONCE = 256;
const NONE = -1;
/** Times before this year are those of a clock that was never set. */
const EARLIEST_MS = Date.UTC(2020, 0, 1);
const LATEST_MS = Date.UTC(2100, 0, 1);

interface Share {
  /** Without those to `other`. */
  edges: number;
  others: number;
}

/** A namespace; nodes are one. */
interface Tenant extends Share {
  readonly sources: Set<Source>;
}

interface Source extends Share {
  readonly tenant: Tenant;
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
  readonly #tenants = new Map<string, Tenant>();
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
      const days = this.#daysOf(slot);
      if (days.length > 0) yield { edge, days };
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
    const source = this.#sourceOf(edge);
    if (isOther ? !this.#roomForOther(source) : !this.#hasRoom(source) && !this.#evictFor(source)) return undefined;
    this.#keep(edge, source);
    this.#add(source, isOther, 1);
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
    return size < this.#most && (size < this.#most / 2 || source.edges < this.#share(source));
  }

  /** Of all sources, or of those of its namespace: whichever is more. */
  #share({ tenant }: Source): number {
    return Math.max(part(this.#most, this.#sources.size), part(this.#tenantShare, tenant.sources.size));
  }

  get #tenantShare(): number {
    return part(this.#most, this.#tenants.size);
  }

  /** The source of an edge; one that has no edges is not kept yet. */
  #sourceOf(edge: NewEdge): Source {
    const tenant = this.#tenants.get(ownParty(edge).namespace) ?? { edges: 0, others: 0, sources: new Set<Source>() };
    return this.#sources.get(sourceKey(edge)) ?? { edges: 0, others: 0, tenant };
  }

  #keep(edge: NewEdge, source: Source): void {
    this.#sources.set(sourceKey(edge), source);
    this.#tenants.set(ownParty(edge).namespace, source.tenant);
    source.tenant.sources.add(source);
  }

  #add(source: Source, isOther: boolean, n: number): void {
    for (const one of [source, source.tenant]) {
      if (isOther) one.others += n;
      else one.edges += n;
    }
    if (isOther) this.#others += n;
  }

  /**
   * Makes room for a source: at the cost of the namespace that has most, if its own has less than its share; otherwise at
   * the cost of its own, if it has less than its share of that.
   */
  #evictFor(source: Source): boolean {
    if (this.#own < this.#most) return false;
    const { tenant } = source;
    const from = tenant.edges < this.#tenantShare ? largest(this.#tenants.values(), 'edges', tenant) : tenant;
    if (from === tenant && source.edges >= part(tenant.edges, tenant.sources.size)) return false;
    const victim = largest(from.sources, 'edges', from === tenant ? source : undefined);
    if (!victim || victim === source) return false;
    const slots = this.#oldest((o) => o.tenant === from && o !== source && nearly(o.edges, victim.edges), false);
    for (const slot of slots) this.#fold(slot);
    this.overflow += slots.length;
    return slots.length > 0;
  }

  /** Room for an edge to `other`, at the cost of the namespace that has most of them: everybody has some. */
  #roomForOther({ tenant }: Source): boolean {
    if (this.#others < this.#mostOthers) return true;
    const from = largest(this.#tenants.values(), 'others', tenant);
    const slots = this.#oldest((o) => nearly(o.tenant.others, from.others), true);
    for (const slot of slots) this.#drop(slot);
    this.overflow += slots.length;
    return slots.length > 0;
  }

  /** Some of the edges of owners, which were seen least recently: several at once, since looking for them costs the most. */
  #oldest(isOwner: (owner: Source) => boolean, others: boolean): number[] {
    const seen: { slot: number; last: number }[] = [];
    for (let slot = 0; slot < this.#edges.length; slot++) {
      const [edge, owner] = [this.#edges[slot], this.#owner[slot]];
      if (!edge || !owner || !isOwner(owner) || isRest(edge) !== others) continue;
      const head = this.#heads[slot] as number;
      seen.push({ slot, last: head === NONE ? 0 : this.#rows.value(head).lastMs });
    }
    seen.sort((a, b) => a.last - b.last);
    return seen.slice(0, Math.min(MOST_AT_ONCE, Math.max(1, seen.length >> 4))).map(({ slot }) => slot);
  }

  /** Gives an edge up. What was counted on it is counted on the one to `other` from now on. */
  #fold(slot: number): void {
    const edge = this.#edges[slot] as Edge;
    const days = this.#daysOf(slot);
    this.#drop(slot);
    const other = days.length > 0 ? this.otherOf(edge) : undefined;
    if (other === undefined) return;
    for (const value of days) {
      const row = this.#rowOf(other, value.day);
      if (row !== NONE) this.#rows.add(row, value, this.#version);
    }
  }

  /** Ascending. */
  #daysOf(slot: number): DayRow[] {
    const days: DayRow[] = [];
    for (let row = this.#heads[slot] as number; row !== NONE; row = this.#rows.older(row))
      days.push(this.#rows.value(row));
    return days.reverse();
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
    this.#add(owner, isRest(edge), -1);
    const { tenant } = owner;
    if (owner.edges + owner.others === 0) {
      this.#sources.delete(sourceKey(edge));
      tenant.sources.delete(owner);
    }
    if (tenant.sources.size === 0) this.#tenants.delete(ownParty(edge).namespace);
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

/** The key of an edge. */
function nameOf(edge: NewEdge): string {
  return contentName(edgeText(edge));
}

/** Those that have as good as most give way together: looking for one at a time would stop the agent. */
function nearly(many: number, most: number): boolean {
  return many * 8 >= most * 7;
}

function part(edges: number, of: number): number {
  return Math.max(LEAST_SHARE, Math.floor(edges / Math.max(1, of)));
}

/** Whoever has most. @param first counts where others have as many */
function largest<S extends Share, F extends S | undefined>(all: Iterable<S>, what: keyof Share, first: F): S | F {
  let found: S | F = first;
  for (const one of all) if (!found || one[what] > found[what]) found = one;
  return found;
}
