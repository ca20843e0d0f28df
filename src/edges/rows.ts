/**
 * The days of a ledger's edges, as columns of plain memory: an edge has one row for each day on which it was seen. When
 * all rows are taken, those of the oldest day are given up.
 */
import { DAY_MS, type DayRow } from './edge.js';

const NONE = -1;
const HOUR_MS = 3_600_000;
const MOST = 0xffff_ffff;

export class DayRows {
  readonly capacity: number;
  readonly #edge: Int32Array;
  readonly #day: Uint32Array;
  /** Milliseconds of the day. */
  readonly #first: Uint32Array;
  readonly #last: Uint32Array;
  readonly #connections: Uint32Array;
  readonly #bytes: Float64Array;
  readonly #drops: Float64Array;
  readonly #hours: Uint32Array;
  /** When it changed last, in the ledger's versions. */
  readonly #version: Float64Array;
  /** The next older row of the same edge, or the next free row. */
  readonly #next: Int32Array;
  #free = NONE;
  #used = 0;
  /** Rows that were given up for others. */
  forgotten = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#edge = new Int32Array(capacity).fill(NONE);
    this.#day = new Uint32Array(capacity);
    this.#first = new Uint32Array(capacity);
    this.#last = new Uint32Array(capacity);
    this.#connections = new Uint32Array(capacity);
    this.#bytes = new Float64Array(capacity);
    this.#drops = new Float64Array(capacity);
    this.#hours = new Uint32Array(capacity);
    this.#version = new Float64Array(capacity);
    this.#next = new Int32Array(capacity).fill(NONE);
  }

  day(row: number): number {
    return this.#day[row] as number;
  }

  version(row: number): number {
    return this.#version[row] as number;
  }

  /** The next older row of the same edge; negative: there is none. */
  older(row: number): number {
    return this.#next[row] as number;
  }

  /** The row of this day in a chain; negative: there is none. @param head the latest row, negative: none */
  find(head: number, day: number): number {
    let row = head;
    while (row !== NONE && (this.#day[row] as number) > day) row = this.#next[row] as number;
    return row !== NONE && this.#day[row] === day ? row : NONE;
  }

  /**
   * Adds the row of a day to an edge's chain, which stays in order of days. @returns the row, and the chain's new head;
   * undefined: no row is free
   */
  insert(edge: number, head: number, day: number): { row: number; head: number } | undefined {
    const row = this.#take();
    if (row === undefined) return undefined;
    this.#edge[row] = edge;
    this.#day[row] = day;
    this.#first[row] = DAY_MS - 1;
    this.#last[row] = this.#connections[row] = this.#hours[row] = 0;
    this.#bytes[row] = this.#drops[row] = 0;
    if (head === NONE || (this.#day[head] as number) < day) {
      this.#next[row] = head;
      return { row, head: row };
    }
    let before = head;
    for (let next = this.#next[before] as number; next !== NONE && (this.#day[next] as number) > day; ) {
      before = next;
      next = this.#next[before] as number;
    }
    this.#next[row] = this.#next[before] as number;
    this.#next[before] = row;
    return { row, head };
  }

  /** Counts. @param ms milliseconds of the day */
  count(row: number, ms: number, version: number, connections: number, bytes: number, drops: number): void {
    if (ms < (this.#first[row] as number)) this.#first[row] = ms;
    if (ms > (this.#last[row] as number)) this.#last[row] = ms;
    this.#connections[row] = Math.min((this.#connections[row] as number) + connections, MOST);
    this.#bytes[row] = (this.#bytes[row] as number) + bytes;
    this.#drops[row] = (this.#drops[row] as number) + drops;
    this.#hours[row] = (this.#hours[row] as number) | (1 << Math.floor(ms / HOUR_MS));
    this.#version[row] = version;
  }

  /** Adds what a value says. */
  add(row: number, value: DayRow, version: number): void {
    const start = value.day * DAY_MS;
    this.count(row, value.firstMs - start, version, value.connections, value.bytes, value.drops);
    this.count(row, value.lastMs - start, version, 0, 0, 0);
    this.#hours[row] = (this.#hours[row] as number) | value.hours;
  }

  value(row: number): DayRow {
    const day = this.#day[row] as number;
    const start = day * DAY_MS;
    return {
      day,
      firstMs: start + (this.#first[row] as number),
      lastMs: start + (this.#last[row] as number),
      connections: this.#connections[row] as number,
      bytes: this.#bytes[row] as number,
      drops: this.#drops[row] as number,
      hours: this.#hours[row] as number,
    };
  }

  /** Gives up all rows of an edge. @param head its latest row */
  release(head: number): void {
    for (let row = head; row !== NONE; ) {
      const next = this.#next[row] as number;
      this.#edge[row] = NONE;
      this.#next[row] = this.#free;
      this.#free = row;
      row = next;
    }
  }

  /**
   * Gives up all rows before a day. @param heads the latest row of each edge, corrected here; negative: none
   * @returns the number of rows
   */
  releaseBefore(day: number, heads: Int32Array): number {
    let released = 0;
    for (let edge = 0; edge < heads.length; edge++) {
      let before = NONE;
      let row = heads[edge] as number;
      while (row !== NONE && (this.#day[row] as number) >= day) {
        before = row;
        row = this.#next[row] as number;
      }
      if (row === NONE) continue;
      for (let r = row; r !== NONE; r = this.#next[r] as number) released++;
      if (before === NONE) heads[edge] = NONE;
      else this.#next[before] = NONE;
      this.release(row);
    }
    return released;
  }

  /** Whether no row is free. */
  get isFull(): boolean {
    return this.#free === NONE && this.#used >= this.capacity;
  }

  /** The oldest and the latest day of all rows; undefined: there are none. */
  get span(): { oldest: number; latest: number } | undefined {
    let oldest = Number.POSITIVE_INFINITY;
    let latest = Number.NEGATIVE_INFINITY;
    for (let row = 0; row < this.#used; row++) {
      if (this.#edge[row] === NONE) continue;
      oldest = Math.min(oldest, this.#day[row] as number);
      latest = Math.max(latest, this.#day[row] as number);
    }
    return oldest === Number.POSITIVE_INFINITY ? undefined : { oldest, latest };
  }

  #take(): number | undefined {
    if (this.#free !== NONE) {
      const row = this.#free;
      this.#free = this.#next[row] as number;
      return row;
    }
    return this.#used < this.capacity ? this.#used++ : undefined;
  }
}
