/**
 * SampleFlowsResponses as bytes. Records are copied as they are: with the general decoder and encoder, they would be most
 * of what a relay does.
 */
import protobuf from 'protobufjs';
import { rankOf } from '../../flow/hub/choice.js';
import type { FlowVerdict } from '../../flow/event/types.js';
import { encode, fieldNumber } from '../../proto/load.js';
import type { SampleFlowsResponse } from '../../proto/messages.js';

export const SAMPLE = 'egress.v1.SampleFlowsResponse';
const RECORD = 'egress.v1.FlowRecord';
const BYTES = 2;
const [RECORDS, SEEN, LOST] = (['records', 'seen', 'lost'] as const).map((f) => fieldNumber(SAMPLE, f));
const [FLOW, VERDICT, AUDIT] = (['flow', 'verdict', 'audit_verdict'] as const).map((f) => fieldNumber(RECORD, f));
const [TIME, UUID] = (['time', 'uuid'] as const).map((f) => fieldNumber('flow.Flow', f));
const [SECONDS, NANOS] = (['seconds', 'nanos'] as const).map((f) => fieldNumber('google.protobuf.Timestamp', f));

/** A record of a sample. */
export interface SampleRecord {
  /** The field `records` of a response with this record alone. */
  bytes: Buffer;
  /** Its number among the flows of an agent, if it is this agent's own. */
  number?: number;
}

/** When a flow was: seconds since 1970, and nanoseconds. */
export interface RecordTime {
  seconds: number;
  nanos: number;
}

export interface SampleMessage {
  /** Parts of the message: to be copied if they are kept. */
  records: Buffer[];
  seen: number;
  lost: number;
}

/** The message of records. */
export function writeSample(records: readonly SampleRecord[], rest: Omit<SampleFlowsResponse, 'records'>): Buffer {
  return Buffer.concat([...records.map((r) => r.bytes), encode(SAMPLE, rest)]);
}

/** @throws Error if the bytes are no SampleFlowsResponse */
export function readSample(bytes: Buffer): SampleMessage {
  const out: SampleMessage = { records: [], seen: 0, lost: 0 };
  const reader = protobuf.Reader.create(bytes);
  while (reader.pos < reader.len) {
    const begin = reader.pos;
    const tag = reader.uint32();
    const field = tag >>> 3;
    if (field === SEEN) out.seen = Number(reader.uint64());
    else if (field === LOST) out.lost = Number(reader.uint64());
    else reader.skipType(tag & 7);
    if (field === RECORDS) out.records.push(bytes.subarray(begin, reader.pos));
  }
  return out;
}

/** The record of a GetFlowsResponse, whose field `record` comes first and has the same number. */
export function recordIn(response: Buffer): Buffer {
  const reader = protobuf.Reader.create(response);
  reader.skipType(reader.uint32() & 7);
  return response.subarray(0, reader.pos);
}

/** The rank of a record (flow/hub/choice.ts). @throws Error if the bytes are none */
export function rankOfRecord(bytes: Buffer): number {
  let verdict = 'none';
  let auditVerdict = 'none';
  const reader = inside(bytes);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === ((VERDICT as number) << 3) + BYTES) verdict = reader.string();
    else if (tag === ((AUDIT as number) << 3) + BYTES) auditVerdict = reader.string();
    else reader.skipType(tag & 7);
  }
  return rankOf({ verdict: verdict as FlowVerdict, auditVerdict: auditVerdict as FlowVerdict });
}

/** @throws Error if the bytes are no record */
export function timeOfRecord(bytes: Buffer): RecordTime {
  const out = { seconds: 0, nanos: 0 };
  const flow = part(inside(bytes), FLOW);
  const time = flow && part(flow, TIME);
  while (time && time.pos < time.len) {
    const tag = time.uint32();
    if (tag >>> 3 === SECONDS) out.seconds = Number(time.int64());
    else if (tag >>> 3 === NANOS) out.nanos = time.int32();
    else time.skipType(tag & 7);
  }
  return out;
}

/** The flow's UUID; empty: it has none. @throws Error if the bytes are no record */
export function uuidOfRecord(bytes: Buffer): string {
  const flow = part(inside(bytes), FLOW);
  const uuid = flow && part(flow, UUID);
  return uuid ? Buffer.from(uuid.buf.subarray(uuid.pos, uuid.len)).toString('latin1') : '';
}

export function compareTimes(a: RecordTime, b: RecordTime): number {
  return a.seconds - b.seconds || a.nanos - b.nanos;
}

/** A reader of the content of a field with its tag and length. */
function inside(bytes: Buffer): protobuf.Reader {
  const reader = protobuf.Reader.create(bytes);
  return content(reader, reader.uint32());
}

function content(reader: protobuf.Reader, tag: number): protobuf.Reader {
  if ((tag & 7) !== BYTES) throw new RangeError('a field of a flow record has another type');
  const length = reader.uint32();
  if (reader.pos + length > reader.len) throw new RangeError('a flow record is cut off');
  return protobuf.Reader.create(reader.buf.subarray(reader.pos, reader.pos + length));
}

/** The content of the first field with this number. */
function part(reader: protobuf.Reader, field: number | undefined): protobuf.Reader | undefined {
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === field) return content(reader, tag);
    reader.skipType(tag & 7);
  }
  return undefined;
}
