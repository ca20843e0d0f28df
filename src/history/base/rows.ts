/** Rows of ledgers as columns of numbers: two million of them a minute are no objects. */
import { DAY_MS, type DayRow } from '../../edges/edge.js';

/** The columns, in the order in which the engines store them. Times are milliseconds since 1970. */
export const COLUMNS = ['ledger', 'id', 'day', 'first', 'last', 'connections', 'bytes', 'drops', 'hours'] as const;
export type Column = (typeof COLUMNS)[number];

/** A growing table. Every number is a whole one below 2^53, so doubles hold it exactly. */
export class Rows {
  #columns: Record<Column, Float64Array>;
  #size = 0;

  constructor(capacity = 64) {
    this.#columns = Object.fromEntries(COLUMNS.map((name) => [name, new Float64Array(capacity)])) as Record<
      Column,
      Float64Array
    >;
  }

  get size(): number {
    return this.#size;
  }

  /** The first `size` values of a column. Only valid until rows are added. */
  column(name: Column): Float64Array {
    return this.#columns[name].subarray(0, this.#size);
  }

  add(ledger: number, id: number, row: DayRow): void {
    const n = this.grow(1);
    const c = this.#columns;
    c.ledger[n] = ledger;
    c.id[n] = id;
    c.day[n] = row.day;
    c.first[n] = row.firstMs;
    c.last[n] = row.lastMs;
    c.connections[n] = row.connections;
    c.bytes[n] = row.bytes;
    c.drops[n] = row.drops;
    c.hours[n] = row.hours;
  }

  /** Adds all rows of another table. */
  addAll(other: Rows): void {
    const n = this.grow(other.size);
    for (const name of COLUMNS) this.#columns[name].set(other.column(name), n);
  }

  /** Makes room for rows at the end. Their values are undefined. @returns the number of the first */
  grow(count: number): number {
    const at = this.#size;
    this.#size += count;
    const capacity = this.#columns.id.length;
    if (this.#size <= capacity) return at;
    const next = Math.max(this.#size, capacity * 2);
    for (const name of COLUMNS) {
      const wider = new Float64Array(next);
      wider.set(this.#columns[name].subarray(0, at));
      this.#columns[name] = wider;
    }
    return at;
  }

  /**
   * Keeps the rows whose day is from `firstDay` to `lastDay`, and puts their times inside of their day: a clock that was
   * set between two flows may have left them elsewhere.
   * @returns how many were before and after the days
   */
  clamp(firstDay: number, lastDay: number): { early: number; late: number } {
    const c = this.#columns;
    let [to, early, late] = [0, 0, 0];
    for (let n = 0; n < this.#size; n++) {
      const day = c.day[n] as number;
      if (day < firstDay) early++;
      else if (day > lastDay) late++;
      else {
        if (to !== n) for (const name of COLUMNS) c[name][to] = c[name][n] as number;
        const [begin, end] = [day * DAY_MS, (day + 1) * DAY_MS - 1];
        c.first[to] = Math.min(Math.max(c.first[to] as number, begin), end);
        c.last[to] = Math.min(Math.max(c.last[to] as number, c.first[to] as number), end);
        to++;
      }
    }
    this.#size = to;
    return { early, late };
  }
}
