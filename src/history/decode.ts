/**
 * Reads an EdgesResponse into rows. The general decoder makes an object of each message, a text of each number and
 * an array of each column: for a thousand agents that costs more than all the rest.
 */
import type { Edge } from '../edges/edge.js';
import { edgeOf } from '../edges/wire.js';
import type { EdgeMessage } from '../proto/edges.js';
import { decode, fieldNumber } from '../proto/load.js';
import { markOf } from './base/marks.js';
import { COLUMNS, type Column, Rows } from './base/rows.js';

/** An edge that is longer is not kept, nor are its rows: texts in it are names, and those have limits. */
const LONGEST_EDGE = 16_384;

const MESSAGE = 'egress.v1.EdgesResponse';
const [LEDGER, NODE, BEGAN, OVERFLOW, EDGES, CAUGHT_UP] = (
  ['ledger', 'node_name', 'began_at', 'overflow', 'edges', 'caught_up'] as const
).map((name) => fieldNumber(MESSAGE, name)) as [number, number, number, number, number, number];
const NAMES: Record<Exclude<Column, 'ledger'>, string> = {
  ...{ id: 'id', day: 'day', first: 'first_ms', last: 'last_ms' },
  ...{ connections: 'connections', bytes: 'bytes', drops: 'drops', hours: 'hours' },
};
const COLUMN_OF = new Map(
  Object.entries(NAMES).map(([column, name]) => [fieldNumber(MESSAGE, name), column as Column]),
);
const EDGE_ID = fieldNumber('egress.v1.Edge', 'id');
const SECONDS = fieldNumber('google.protobuf.Timestamp', 'seconds');

/** An edge as it is on the wire. */
export interface Description {
  id: number;
  mark: number;
  bytes: Buffer;
}

export interface DecodedEdges {
  ledger: number;
  node: string;
  beganMs: number;
  overflow: number;
  /** The descriptions that are not known. */
  described: Description[];
  rows: Rows;
  caughtUp: boolean;
}

/** @param knows whether a description has been taken before @throws Error if the bytes are no message */
export function decodeEdges(bytes: Buffer, knows: (id: number, mark: number) => boolean): DecodedEdges {
  const reader = new Wire(bytes, 0, bytes.length);
  const out: DecodedEdges = {
    ledger: 0,
    node: '',
    beganMs: 0,
    overflow: 0,
    described: [],
    rows: new Rows(0),
    caughtUp: false,
  };
  const columns = new Map<Column, Float64Array>();
  while (reader.more) {
    const tag = reader.number();
    const [field, type] = [Math.floor(tag / 8), tag % 8];
    const column = COLUMN_OF.get(field);
    if (column && type === 2) columns.set(column, reader.packed(columns.get(column)));
    else if (field === EDGES && type === 2) {
      const one = descriptionIn(reader.part());
      if (one && !knows(one.id, one.mark)) out.described.push(one);
    } else if (field === LEDGER && type === 0) out.ledger = reader.number();
    else if (field === OVERFLOW && type === 0) out.overflow = reader.number();
    else if (field === CAUGHT_UP && type === 0) out.caughtUp = reader.number() !== 0;
    else if (field === NODE && type === 2) out.node = reader.part().text();
    else if (field === BEGAN && type === 2) out.beganMs = secondsIn(reader.part()) * 1000;
    else reader.skip(type);
  }
  out.rows = rowsOf(columns, out.ledger);
  return out;
}

function rowsOf(columns: ReadonlyMap<Column, Float64Array>, ledger: number): Rows {
  const size = columns.get('id')?.length ?? 0;
  const rows = new Rows(size);
  rows.grow(size);
  for (const name of COLUMNS) {
    if (name === 'ledger') {
      rows.column(name).fill(ledger);
      continue;
    }
    const values = columns.get(name);
    if ((values?.length ?? 0) !== size) throw new Error(`EdgesResponse: ${name} has not as many values as id`);
    if (values) rows.column(name).set(values);
  }
  return rows;
}

function descriptionIn(wire: Wire): Description | undefined {
  if (wire.length > LONGEST_EDGE) return undefined;
  const bytes = wire.bytes;
  while (wire.more) {
    const tag = wire.number();
    if (tag !== EDGE_ID * 8) {
      wire.skip(tag % 8);
      continue;
    }
    const id = wire.number();
    return id === 0 ? undefined : { id, mark: markOf(bytes), bytes };
  }
  return undefined;
}

/** @throws Error if the bytes are no edge */
export function edgeOfDescription({ bytes }: Description): Edge {
  return edgeOf(decode<EdgeMessage>('egress.v1.Edge', bytes));
}

function secondsIn(wire: Wire): number {
  let seconds = 0;
  while (wire.more) {
    const tag = wire.number();
    if (tag === SECONDS * 8) seconds = wire.number();
    else wire.skip(tag % 8);
  }
  return seconds;
}

/** A part of a message. Numbers beyond 2^53 are 2^53 - 1: none that is true is so large. */
class Wire {
  readonly #bytes: Buffer;
  #at: number;
  readonly #begin: number;
  readonly #end: number;

  constructor(bytes: Buffer, begin: number, end: number) {
    this.#bytes = bytes;
    this.#at = this.#begin = begin;
    this.#end = end;
  }

  get more(): boolean {
    return this.#at < this.#end;
  }

  get length(): number {
    return this.#end - this.#begin;
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(this.#begin, this.#end);
  }

  text(): string {
    return this.bytes.toString('utf8');
  }

  number(): number {
    const bytes = this.#bytes;
    let at = this.#at;
    let value = 0;
    let factor = 1;
    for (let n = 0; n < 10; n++) {
      if (at >= this.#end) break;
      const byte = bytes[at++] as number;
      value += (byte & 127) * factor;
      if (byte < 128) {
        this.#at = at;
        return Math.min(value, Number.MAX_SAFE_INTEGER);
      }
      factor *= 128;
    }
    throw new Error('EdgesResponse: the bytes are no message');
  }

  /** A field that has a length. */
  part(): Wire {
    const length = this.number();
    const begin = this.#at;
    this.#at += length;
    if (this.#at > this.#end) throw new Error('EdgesResponse: the bytes are no message');
    return new Wire(this.#bytes, begin, this.#at);
  }

  /** Numbers one after the other. @param before those of an earlier part of the same field */
  packed(before: Float64Array | undefined): Float64Array {
    const part = this.part();
    let count = 0;
    for (let at = part.#at; at < part.#end; at++) if ((this.#bytes[at] as number) < 128) count++;
    const from = before?.length ?? 0;
    const values = new Float64Array(from + count);
    if (before) values.set(before);
    for (let n = from; n < values.length; n++) values[n] = part.number();
    if (part.more) throw new Error('EdgesResponse: the bytes are no message');
    return values;
  }

  skip(type: number): void {
    if (type === 0) this.number();
    else if (type === 2) this.part();
    else if (type === 1) this.#at += 8;
    else if (type === 5) this.#at += 4;
    else throw new Error('EdgesResponse: the bytes are no message');
  }
}
