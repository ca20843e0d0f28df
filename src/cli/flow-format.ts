/** How flows are printed: one line for people, a table, a dictionary, or JSON for programs. */
import Table from 'cli-table3';
import type { FlowRecord, GetRecordsResponse, HubbleEndpoint, Timestamp } from '../rpc/messages.js';
import { bytes, duration, fitMiddle, type Paint, type Style, safe, toJson } from './output.js';

export const FLOW_FORMATS = ['compact', 'table', 'dict', 'json', 'jsonpb'] as const;
export type FlowFormat = (typeof FLOW_FORMATS)[number];

/** Columns that the compact form is made for. */
const COLUMNS = 100;
/** Narrower than this, lines are broken by the terminal. */
const NARROWEST = 70;
/** `12:34:56.789 … → … ALLOWED ` */
const OTHER_COLUMNS = 25;

/** A rule cut to less says nothing. */
const SHORTEST_RULE = 10;

interface View {
  time: string;
  from: string;
  /** Name or address of the destination. */
  to: string;
  /** `:443/tcp` */
  port: string;
  verdict: string;
  style: Style;
  /** The deciding rule; without one, the reason. */
  rule: string;
  /** What this event adds. */
  note: string;
}

export function millisOf(t: Timestamp | undefined): number {
  return Number(t?.seconds ?? 0) * 1000 + Math.floor((t?.nanos ?? 0) / 1e6);
}

/** Local time of day with milliseconds. */
export function timeOfDay(ms: number): string {
  const d = new Date(ms);
  const two = (n: number) => String(n).padStart(2, '0');
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${String(d.getMilliseconds()).padStart(3, '0')}`;
}

/**
 * One line. Names are cut to their columns, ports never are.
 * @param columns of the terminal; without one the columns are those of 100, and the rule, at the end, is whole
 */
export function compact(record: FlowRecord, paint: Paint, columns?: number): string {
  const v = view(record);
  const room = Math.max(columns ?? COLUMNS, NARROWEST) - OTHER_COLUMNS;
  const [from, to] = [Math.floor(Math.min(room, 130) * 0.3), Math.floor(Math.min(room, 130) * 0.4)];
  const destination = fitMiddle(v.to, to - v.port.length) + v.port;
  const rest = columns === undefined ? Number.POSITIVE_INFINITY : room - from - to;
  const verdict = paint(v.style, v.verdict.padEnd(7));
  return `${paint('dim', v.time)} ${fitMiddle(v.from, from).padEnd(from)} → ${destination.padEnd(to)} ${verdict} ${last(v, record.event, rest)}`;
}

/** The rule and what the event adds; where there is no room for both, of an ended flow its counters. */
function last({ rule, note }: View, event: string, room: number): string {
  const ruleRoom = room - note.length - 1;
  if (note === '' || ruleRoom < SHORTEST_RULE) return fitMiddle(event === 'end' && note !== '' ? note : rule, room);
  return `${fitMiddle(rule, ruleRoom)} ${note}`;
}

export function table(records: readonly FlowRecord[]): string {
  const t = new Table({
    head: ['TIME', 'SOURCE', 'DESTINATION', 'VERDICT', 'RULE', 'EVENT', 'SUMMARY'],
    style: { head: [], border: [], compact: true },
    chars: PLAIN,
  });
  for (const r of records) {
    const v = view(r);
    t.push([
      v.time,
      v.from,
      v.to + v.port,
      v.verdict,
      safe(r.rule?.text ?? r.reason),
      r.event,
      safe(r.flow.Summary ?? ''),
    ]);
  }
  return t.toString();
}

/** Tables without lines: they are read by eyes, and by cut and awk. */
export const PLAIN = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: ' ',
};

export function dict(record: FlowRecord): string {
  const v = view(record);
  const f = record.flow;
  const rows: [string, string][] = [
    ['TIMESTAMP', new Date(millisOf(f.time)).toISOString()],
    ['SOURCE', v.from],
    ['DESTINATION', v.to + v.port],
    ['EVENT', record.event],
    ['VERDICT', v.verdict],
    ['RULE', record.rule ? `${record.rule.text} (${record.rule.kind})` : record.reason],
    ['DIRECTION', f.traffic_direction ?? ''],
    ['SUMMARY', f.Summary ?? ''],
  ];
  if (record.audit_rule || record.audit_verdict)
    rows.push(['AUDIT', `${record.audit_verdict} ${record.audit_rule?.text ?? ''}`]);
  if (Number(record.drops ?? 0) > 0) rows.push(['DROPPED PACKETS', String(record.drops)]);
  if (record.event === 'end') rows.push(['COUNTERS', counters(record)]);
  rows.push(['NODE', f.node_name ?? ''], ['UUID', f.uuid ?? '']);
  return rows.map(([k, x]) => `${`${k}:`.padEnd(17)}${safe(x)}`).join('\n');
}

/** The whole record, times as RFC 3339. */
export function json(response: GetRecordsResponse): string {
  const { record, lost_events, node_name, time } = response;
  const body = record ? (plain(record) as object) : { lost_events: plain(lost_events) };
  return toJson({ ...body, node_name, time: rfc3339(time) });
}

/** As Hubble prints: GetFlowsResponse in the JSON form of protocol buffers, with the names of the proto files. */
export function jsonpb(response: GetRecordsResponse): string {
  const { record, lost_events, node_name, time } = response;
  const body = record ? { flow: plain(record.flow) } : { lost_events: plain(lost_events) };
  return toJson({ ...body, node_name, time: rfc3339(time) });
}

function view(r: FlowRecord): View {
  const f = r.flow;
  const l4 = f.l4 ?? {};
  const ports = l4.TCP ?? l4.UDP ?? l4.SCTP;
  const icmp = l4.ICMPv4 ?? l4.ICMPv6;
  const protocol = Object.keys(l4)[0]?.toLowerCase() ?? (f.IP ? (f.Summary ?? '').toLowerCase() : '');
  // The column is who opened the flow, whichever way this packet went.
  const turned = f.is_reply?.value === true && r.event !== 'end';
  const [source, destination] = turned ? [f.destination, f.source] : [f.source, f.destination];
  const [sourceIp, ip] = turned ? [f.IP?.destination, f.IP?.source] : [f.IP?.source, f.IP?.destination];
  const port = turned ? ports?.source_port : ports?.destination_port;
  const name =
    f.destination_service && !destination?.pod_name
      ? `svc ${f.destination_service.namespace}/${f.destination_service.name}`
      : undefined;
  const at = name ?? nameOf(destination, ip);
  const shown = ports && at.includes(':') && !at.includes('/') ? `[${at}]` : at;
  const suffix = ports
    ? `:${port ?? 0}/${protocol}`
    : icmp
      ? ` ${protocol} ${icmp.type ?? 0}/${icmp.code ?? 0}`
      : ` ${protocol}`;
  return {
    time: timeOfDay(millisOf(f.time)),
    from: safe(nameOf(source, sourceIp)),
    to: safe(shown),
    port: safe(suffix).trimEnd(),
    ...verdictOf(r),
    rule: safe(r.rule?.text ?? (r.inbound ? 'inbound' : r.reason)),
    note: safe(note(r)),
  };
}

function nameOf(e: HubbleEndpoint | undefined, ip: string | undefined): string {
  if (e?.pod_name) return `${e.namespace}/${e.pod_name}`;
  if (ip === undefined || ip === '') return 'unknown';
  return e?.labels?.includes('reserved:host') ? `node ${ip}` : ip;
}

function verdictOf(r: FlowRecord): { verdict: string; style: Style } {
  if (r.event === 'log') return { verdict: 'LOGGED', style: 'yellow' };
  if (r.verdict === 'deny') return { verdict: 'DENIED', style: 'red' };
  if (r.audit_verdict === 'deny') return { verdict: 'AUDIT', style: 'yellow' };
  if (r.verdict === 'allow')
    return r.event === 'end' ? { verdict: 'ended', style: 'dim' } : { verdict: 'ALLOWED', style: 'green' };
  return { verdict: r.event === 'end' ? 'ended' : r.verdict.toUpperCase(), style: 'dim' };
}

function note(r: FlowRecord): string {
  const notes: string[] = [];
  const drops = Number(r.drops ?? 0);
  if (r.event === 'changed') notes.push('changed');
  if (r.event === 'drop' && drops > 1) notes.push(`${drops} packets`);
  if (r.event === 'end') notes.push(counters(r));
  if (r.audit_verdict && r.audit_verdict !== r.verdict)
    notes.push(`staged: ${r.audit_verdict} ${r.audit_rule?.text ?? ''}`.trimEnd());
  return notes.length === 0 ? '' : `(${notes.join(', ')})`;
}

/** `12.3s ↑1.2kB ↓45kB`: how long, sent, received. */
function counters(r: FlowRecord): string {
  const size = (n: FlowRecord['bytes_out']) => bytes(Number(n ?? 0)).replace(' ', '');
  return `${duration(Number(r.duration_ns ?? 0))} ↑${size(r.bytes_out)} ↓${size(r.bytes_in)}`;
}

function isTimestamp(value: object): value is Timestamp {
  const keys = Object.keys(value);
  return keys.length > 0 && keys.every((k) => k === 'seconds' || k === 'nanos');
}

function rfc3339(t: Timestamp | undefined): string | undefined {
  if (!t) return undefined;
  const whole = new Date(Number(t.seconds ?? 0) * 1000).toISOString().slice(0, 19);
  return `${whole}.${String(t.nanos ?? 0).padStart(9, '0')}Z`;
}

/** Timestamps as text, wrappers as their value: the JSON mapping of protocol buffers. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  if (isTimestamp(value)) return rfc3339(value);
  const entries = Object.entries(value);
  if (entries.length === 1 && entries[0]?.[0] === 'value') return entries[0][1];
  return Object.fromEntries(entries.map(([k, v]) => [k, plain(v)]));
}
