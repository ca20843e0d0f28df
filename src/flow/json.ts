/** Flows as JSON: of `egressctl flows -o json`, and of what is exported. */
import type { GetRecordsResponse, Timestamp } from '../proto/messages.js';
import { toJson } from '../safe.js';

/** Formats the whole record as JSON, with times in RFC 3339. */
export function json(response: GetRecordsResponse): string {
  const { record, lost_events, lost_pod, node_name, time } = response;
  const body = record
    ? (plain(record) as object)
    : { lost_events: plain(lost_events), ...(lost_pod ? { lost_pod } : {}) };
  return toJson({ ...body, node_name, time: rfc3339(time) });
}

function isTimestamp(value: object): value is Timestamp {
  const keys = Object.keys(value);
  return keys.length > 0 && keys.every((k) => k === 'seconds' || k === 'nanos');
}

export function rfc3339(t: Timestamp | undefined): string | undefined {
  if (!t) return undefined;
  const whole = new Date(Number(t.seconds ?? 0) * 1000).toISOString().slice(0, 19);
  return `${whole}.${String(t.nanos ?? 0).padStart(9, '0')}Z`;
}

/** Applies the JSON mapping of protobuf: timestamps become text, wrappers their value. */
export function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  if (isTimestamp(value)) return rfc3339(value);
  const entries = Object.entries(value);
  if (entries.length === 1 && entries[0]?.[0] === 'value') return entries[0][1];
  return Object.fromEntries(entries.map(([k, v]) => [k, plain(v)]));
}
