/**
 * EdgesResponses of agents as bytes. They are passed on as they are: with the general decoder and encoder, they would be
 * most of what a relay does. Yet a reader's decoder gets the answers of all agents in one stream, and one agent must not
 * be able to end it: so what is passed on is known to decode.
 */
import protobuf from 'protobufjs';
import { decode, encode, fieldNumber } from '../../proto/load.js';
import type { EdgesResponse } from '../../proto/edges.js';

const MESSAGE = 'egress.v1.EdgesResponse';
const number = (name: keyof EdgesResponse) => fieldNumber(MESSAGE, name);
const [VARINT, BYTES] = [0, 2];
const LEDGER = number('ledger');
const ID = number('id');
const CAUGHT_UP = number('caught_up');
const MORE = number('more');
const PARTS = number('parts');
const COLUMNS = ['id', 'day', 'first_ms', 'last_ms', 'connections', 'bytes', 'drops', 'hours'] as const;
const COLUMN_NUMBERS: ReadonlySet<number> = new Set(COLUMNS.map(number));
/** What a relay says itself. */
const RELAYS: ReadonlySet<number> = new Set([CAUGHT_UP, number('unavailable_nodes'), number('gone_ledgers'), PARTS]);
const MESSAGES = new Map([
  [number('edges'), 'egress.v1.Edge'],
  [number('began_at'), 'google.protobuf.Timestamp'],
]);
const TYPES = new Map<number, number>([
  ...[LEDGER, number('overflow'), CAUGHT_UP, MORE].map((n) => [n, VARINT] as const),
  ...[...MESSAGES.keys(), ...COLUMN_NUMBERS, number('node_name')].map((n) => [n, BYTES] as const),
]);
/** An edge has names, and those have limits; the name of a node too. */
const LONGEST_PART = 16_384;
/** Agents say 2,000 rows in a message. */
const LARGEST = 8 << 20;
const LONGEST_VARINT = 10;

/** A message of an agent. */
export interface AgentMessage {
  /** What is passed on: the message without what only a relay says. */
  bytes: Buffer;
  ledger: number;
  rows: number;
  caughtUp: boolean;
  more: boolean;
}

/** @throws Error if the bytes are no message of an agent */
export function readMessage(bytes: Buffer): AgentMessage {
  if (bytes.length > LARGEST) throw wrong(`it has ${bytes.length} bytes`);
  const out: AgentMessage = { bytes, ledger: 0, rows: 0, caughtUp: false, more: false };
  const counts = new Map<number, number>();
  const kept: Buffer[] = [];
  let from = 0;
  const reader = protobuf.Reader.create(bytes);
  while (reader.pos < reader.len) {
    const begin = reader.pos;
    const tag = reader.uint32();
    const [field, type] = [tag >>> 3, tag & 7];
    if (field === 0 || (TYPES.get(field) ?? type) !== type) throw wrong(`field ${field} has another type`);
    if (field === LEDGER) out.ledger = Number(reader.uint64());
    else if (field === CAUGHT_UP) out.caughtUp = reader.bool();
    else if (field === MORE) out.more = reader.bool();
    else if (COLUMN_NUMBERS.has(field)) counts.set(field, (counts.get(field) ?? 0) + numbersIn(part(reader)));
    else if (TYPES.get(field) === BYTES) checkPart(part(reader), MESSAGES.get(field));
    else reader.skipType(type);
    if (!RELAYS.has(field)) continue;
    kept.push(bytes.subarray(from, begin));
    from = reader.pos;
  }
  // The last field may say that it is longer than the message.
  if (reader.pos > reader.len) throw wrong('it is cut off');
  if (out.ledger === 0) throw wrong('it has no ledger of its own: it is no agent');
  out.rows = counts.get(ID) ?? 0;
  for (const column of COLUMN_NUMBERS)
    if ((counts.get(column) ?? 0) !== out.rows) throw wrong(`field ${column} has not as many values as the ids`);
  if (kept.length > 0) out.bytes = Buffer.concat([...kept, bytes.subarray(from)]);
  return out;
}

/** A message of the relay's own. */
export function writeMessage(message: Pick<EdgesResponse, 'caught_up' | 'unavailable_nodes' | 'gone_ledgers'>): Buffer {
  return encode(MESSAGE, message);
}

/** One message of several, in this order. */
export function joinMessages(messages: readonly Buffer[]): Buffer {
  if (messages.length === 1) return messages[0] as Buffer;
  return Buffer.concat(messages.flatMap((m) => [headOf(m.length), m]));
}

/** Tag and length of a part. */
function headOf(length: number): Uint8Array {
  return protobuf.Writer.create()
    .uint32(PARTS * 8 + BYTES)
    .uint32(length)
    .finish();
}

/** The content of a field that has a length. */
function part(reader: protobuf.Reader): Uint8Array {
  const length = reader.uint32();
  const begin = reader.pos;
  reader.skip(length);
  return reader.buf.subarray(begin, begin + length);
}

/** How many numbers there are, one after the other. */
function numbersIn(bytes: Uint8Array): number {
  let count = 0;
  let length = 0;
  for (let n = 0; n < bytes.length; n++) {
    if (++length > LONGEST_VARINT) throw wrong('a number is too long');
    if ((bytes[n] as number) >= 128) continue;
    count++;
    length = 0;
  }
  if (length > 0) throw wrong('a number is cut off');
  return count;
}

function checkPart(bytes: Uint8Array, type: string | undefined): void {
  if (bytes.length > LONGEST_PART) throw wrong(`a name or an edge has ${bytes.length} bytes`);
  if (type !== undefined) decode(type, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
}

function wrong(why: string): Error {
  return new Error(`EdgesResponse: ${why}`);
}
