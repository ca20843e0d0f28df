/** Flows as JSON: of `egressctl flows -o json`, and of what is exported. */
import type { FlowRecord, GetRecordsResponse, LostEvent, Timestamp } from '../proto/messages.js';
import { toJson } from '../safe.js';

/**
 * Formats the whole record as JSON, with times in RFC 3339. The text is the same whether the record came over gRPC or
 * was made in this process. @param extras further fields of the object
 */
export function json(response: GetRecordsResponse, extras: object = {}): string {
  const { record, lost_events, lost_pod, node_name, time } = response;
  const body = record
    ? (plain(longsAsText(record)) as object)
    : { lost_events: plain(lostAsText(lost_events)), ...(lost_pod ? { lost_pod } : {}) };
  return toJson({ ...body, ...extras, node_name, time: rfc3339(time) });
}

/** 64-bit numbers are text, as in the JSON mapping of protobuf. */
function longsAsText(record: FlowRecord): FlowRecord {
  if (typeof record.packets_out !== 'number') return record;
  const { packets_out, bytes_out, packets_in, bytes_in, drops, duration_ns, flow } = record;
  const latency = flow.l7?.latency_ns;
  return {
    ...record,
    ...(latency === undefined ? {} : { flow: { ...flow, l7: { ...flow.l7, latency_ns: String(latency) } } }),
    packets_out: String(packets_out),
    bytes_out: String(bytes_out),
    packets_in: String(packets_in),
    bytes_in: String(bytes_in),
    drops: String(drops),
    duration_ns: String(duration_ns),
  };
}

function lostAsText(lost: LostEvent | undefined): LostEvent | undefined {
  return lost && { ...lost, num_events_lost: String(lost.num_events_lost) };
}

function isTimestamp(value: object): value is Timestamp {
  if (!('seconds' in value || 'nanos' in value)) return false;
  return Object.keys(value).every((k) => k === 'seconds' || k === 'nanos');
}

export function rfc3339(t: Timestamp | undefined): string | undefined {
  if (!t) return undefined;
  const whole = new Date(Number(t.seconds ?? 0) * 1000).toISOString().slice(0, 19);
  return `${whole}.${String(t.nanos ?? 0).padStart(9, '0')}Z`;
}

/** Applies the JSON mapping of protobuf: timestamps become text, wrappers their value. */
export function plain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(plain);
  if (isTimestamp(value)) return rfc3339(value);
  const out: Record<string, unknown> = {};
  let fields = 0;
  for (const [name, inner] of Object.entries(value)) {
    // As a message is when it was sent.
    if (Array.isArray(inner) && inner.length === 0) continue;
    out[name] = typeof inner === 'object' ? plain(inner) : inner;
    fields++;
  }
  return fields === 1 && 'value' in out ? out.value : out;
}
