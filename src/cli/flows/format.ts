/** Formats flows: one line each, a table, a dictionary, or JSON. */
import Table from 'cli-table3';
import { nameIn, saidText } from '../../flow/event/said-text.js';
import type { SaidInfo } from '../../flow/event/types.js';
import { plain, rfc3339 } from '../../flow/json.js';
import type { FlowRecord, GetRecordsResponse, HubbleEndpoint, SaidMessage, Timestamp } from '../../proto/messages.js';
import { rcodeName } from '../../names/message.js';
import { addressList } from '../common/learned.js';
import { bytes, duration, fitMiddle, type Paint, type Style, safe, toJson } from '../common/output.js';

export const FLOW_FORMATS = ['compact', 'table', 'dict', 'json', 'jsonpb'] as const;
export type FlowFormat = (typeof FLOW_FORMATS)[number];

/** Width that the compact format assumes if the terminal's is unknown. */
const COLUMNS = 100;
/** Minimum width of the compact format. A narrower terminal wraps its lines. */
const MIN_COLUMNS = 70;
/** Columns of the fixed parts of a line: `12:34:56.789 … → … ALLOWED `. */
const FIXED_COLUMNS = 25;

/** Minimum width of a rule's name: a shorter one is not readable. */
const MIN_RULE_COLUMNS = 10;

interface View {
  time: string;
  from: string;
  /** Name or address of the destination. */
  to: string;
  /** The DNS name in it by which the sender knew the address, for a line without room for both. */
  knownAs?: string;
  /** `:443/tcp` */
  port: string;
  verdict: string;
  style: Style;
  /** The rule that decided, or the reason if no rule did. */
  rule: string;
  /** Details of the event, in brackets. */
  note: string;
}

/** Milliseconds since the epoch. */
export function millisOf(t: Timestamp | undefined): number {
  return Number(t?.seconds ?? 0) * 1000 + Math.floor((t?.nanos ?? 0) / 1e6);
}

/** Local time of day with milliseconds: `12:34:56.789`. */
export function timeOfDay(ms: number): string {
  const d = new Date(ms);
  const two = (n: number) => String(n).padStart(2, '0');
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${String(d.getMilliseconds()).padStart(3, '0')}`;
}

/**
 * Formats a flow as one line. Names are truncated to their columns, ports are not.
 * @param columns width of the terminal; if undefined, names are truncated as for 100 columns and the rule, at the end
 *   of the line, is complete
 */
export function compact(record: FlowRecord, paint: Paint, columns?: number): string {
  const v = view(record);
  const room = Math.max(columns ?? COLUMNS, MIN_COLUMNS) - FIXED_COLUMNS;
  const [from, to] = [Math.floor(Math.min(room, 130) * 0.3), Math.floor(Math.min(room, 130) * 0.4)];
  const wide = columns === undefined ? Number.POSITIVE_INFINITY : to;
  const whole = v.knownAs === undefined ? v.to : v.to.length + v.port.length <= wide ? v.to : v.knownAs;
  const destination = fitMiddle(whole, (v.knownAs === undefined ? to : wide) - v.port.length) + v.port;
  const rest = columns === undefined ? Number.POSITIVE_INFINITY : room - from - to;
  const verdict = paint(v.style, v.verdict.padEnd(7));
  return `${paint('dim', v.time)} ${fitMiddle(v.from, from).padEnd(from)} → ${destination.padEnd(to)} ${verdict} ${last(v, record.event, rest)}`;
}

/** The rule and the note of the event. If there is no room for both, an ended flow shows its counters only. */
function last({ rule, note }: View, event: string, room: number): string {
  const ruleRoom = room - note.length - 1;
  if (note === '' || ruleRoom < MIN_RULE_COLUMNS) return fitMiddle(event === 'end' && note !== '' ? note : rule, room);
  return `${fitMiddle(rule, ruleRoom)} ${note}`;
}

/** Formats flows as a table with one row each. */
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

/** Table characters without borders, so that cut and awk can read the table. */
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

/** Formats a flow as one `KEY: value` line for each field. */
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
    ...names(record),
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

function names(record: FlowRecord): [string, string][] {
  const known = [...(record.flow.source_names ?? []), ...(learnedNames(record) ?? [])];
  return known.length === 0 ? [] : [['NAMES', known.join(', ')]];
}

/** Formats a GetFlowsResponse as `hubble observe -o jsonpb` does: the JSON mapping of protobuf with proto field names. */
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
  // The source column shows who opened the flow, also for a packet of the reply direction.
  const isReply = f.is_reply?.value === true && r.event !== 'end';
  const [source, destination] = isReply ? [f.destination, f.source] : [f.source, f.destination];
  const [sourceIp, ip] = isReply ? [f.IP?.destination, f.IP?.source] : [f.IP?.source, f.IP?.destination];
  const port = isReply ? ports?.source_port : ports?.destination_port;
  const name =
    f.destination_service && !destination?.pod_name
      ? `svc ${f.destination_service.namespace}/${f.destination_service.name}`
      : undefined;
  const known = (isReply ? f.source_names : learnedNames(r))?.[0];
  const host = name ?? nameOf(destination, ip);
  // The name by which the pod knew the address; the address itself stays visible.
  const bracketed = known
    ? withName(host, known)
    : ports && host.includes(':') && !host.includes('/')
      ? `[${host}]`
      : host;
  const suffix = ports
    ? `:${port ?? 0}/${protocol}`
    : icmp
      ? ` ${protocol} ${icmp.type ?? 0}/${icmp.code ?? 0}`
      : ` ${protocol}`;
  return {
    time: timeOfDay(millisOf(f.time)),
    from: safe(withName(nameOf(source, sourceIp), (isReply ? f.destination_names : f.source_names)?.[0])),
    to: safe(bracketed),
    ...(known ? { knownAs: safe(known) } : {}),
    port: safe(suffix).trimEnd(),
    ...verdictOf(r),
    rule: safe(`${saidOf(r)}${r.rule?.text ?? (r.inbound ? 'inbound' : r.reason)}`),
    note: safe(note(r)),
  };
}

/** The names by which the pod knew the destination: without one that only the connection itself said. */
function learnedNames({ flow, said }: FlowRecord): string[] | undefined {
  const names = flow.destination_names;
  if (!said || said.learned) return names;
  const name = nameIn(saidInfo(said));
  return names?.filter((one) => one !== name);
}

/** What the connection said, in front of the rule. */
function saidOf({ said }: FlowRecord): string {
  return said ? `${saidText(saidInfo(said))} ` : '';
}

function saidInfo({ kind, server_name = '', method = '', host = '', path = '', cut = false }: SaidMessage): SaidInfo {
  return { kind: kind as SaidInfo['kind'], serverName: server_name, method, host, path, isCut: cut };
}

function withName(text: string, name: string | undefined): string {
  return name ? `${name} (${text})` : text;
}

function nameOf(e: HubbleEndpoint | undefined, ip: string | undefined): string {
  if (e?.pod_name) return `${e.namespace}/${e.pod_name}`;
  if (ip === undefined || ip === '') return 'unknown';
  return e?.labels?.includes('reserved:host') ? `node ${ip}` : ip;
}

function verdictOf(r: FlowRecord): { verdict: string; style: Style } {
  if (r.event === 'log') return { verdict: 'LOGGED', style: 'yellow' };
  if (r.event === 'dns' && r.flow.l7?.type === 'RESPONSE') return { verdict: 'reply', style: 'dim' };
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
  if (r.event === 'dns') notes.push(dnsNote(r));
  if (r.rule && r.reason === 'encrypted-hello') notes.push('its server name is encrypted');
  if (r.audit_verdict && r.audit_verdict !== r.verdict)
    notes.push(`staged: ${r.audit_verdict} ${r.audit_rule?.text ?? ''}`.trimEnd());
  return notes.length === 0 ? '' : `(${notes.join(', ')})`;
}

/** `A example.com`; of an answer also what it says: `A example.com → 192.0.2.1, TTL 30, 2ms`. */
function dnsNote({ flow, reason }: FlowRecord): string {
  const { dns = {}, type, latency_ns: latency = 0 } = flow.l7 ?? {};
  if (!dns.query) return 'DNS message that cannot be read';
  const question = `${dns.qtypes?.[0] ?? ''} ${dns.query.replace(/(?!^)\.$/, '')}`;
  if (type !== 'RESPONSE') return reason === 'withheld-record' ? `${question}, withheld` : question;
  const ips = dns.ips ?? [];
  const found = dns.rcode ? rcodeName(dns.rcode) : ips.length === 0 ? 'no address' : addressList(ips, 3);
  const ttl = ips.length > 0 ? `, TTL ${dns.ttl ?? 0}` : '';
  return `${question} → ${found}${ttl}${Number(latency) > 0 ? `, ${duration(Number(latency))}` : ''}`;
}

/** Duration, bytes sent and bytes received: `12.3s ↑1.2kB ↓45kB`. */
function counters(r: FlowRecord): string {
  const size = (n: FlowRecord['bytes_out']) => bytes(Number(n ?? 0)).replace(' ', '');
  return `${duration(Number(r.duration_ns ?? 0))} ↑${size(r.bytes_out)} ↓${size(r.bytes_in)}`;
}
