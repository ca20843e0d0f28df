/**
 * What a flow's record says, for outputs that have no nesting: by the side that opened the connection, whatever the
 * direction of the packet that caused the event. Text in it is of bounded length, and still untrusted.
 */
import { nameIn, saidText } from '../../flow/event/said-text.js';
import type { SaidInfo } from '../../flow/event/types.js';
import type { FlowRecord, HubbleEndpoint, HubbleFlow, SaidMessage } from '../../proto/messages.js';

export interface Side {
  readonly ip: string;
  readonly port: number;
  readonly namespace: string;
  readonly pod: string;
  readonly workloadKind: string;
  readonly workload: string;
  /** DNS names by which the pod of the other side knew it. */
  readonly names: readonly string[];
  /** `namespace/name` */
  readonly service: string;
  readonly isNode: boolean;
}

export interface Facts {
  readonly source: Side;
  readonly destination: Side;
  /** `tcp`, `udp`, `icmpv4` …; empty: unknown. */
  readonly protocol: string;
  /** `ingress`: opened to the pod. `egress`: opened by it. */
  readonly direction: string;
  /** In the words of egressctl. */
  readonly word: 'ALLOWED' | 'DENIED' | 'AUDIT' | 'LOGGED' | 'UNKNOWN';
  readonly rule: string;
  readonly auditRule: string;
}

/** Longest texts: a DNS name has 253 characters, a name in Kubernetes too; a rule has three of those. */
export const MOST_NAME = 256;
export const MOST_TEXT = 1024;
const MOST_NAMES = 8;

/** The text, or its beginning with an ellipsis: `most` UTF-16 units at most. */
export function bounded(text: string | undefined, most: number): string {
  if (text === undefined) return '';
  if (text.length <= most) return text;
  const cut = text.charCodeAt(most - 2);
  // Half of a pair is no character.
  return `${text.slice(0, (cut & 0xfc00) === 0xd800 ? most - 2 : most - 1)}…`;
}

/** What the record says. */
export function factsOf(record: FlowRecord): Facts {
  const f = record.flow;
  const l4 = f.l4 ?? {};
  const isReply = f.is_reply?.value === true && record.event !== 'end';
  const ports = l4.TCP ?? l4.UDP ?? l4.SCTP;
  const source = sideOf(f, 'source', ports?.source_port);
  const destination = sideOf(f, 'destination', ports?.destination_port);
  return {
    source: isReply ? destination : source,
    destination: isReply ? source : destination,
    protocol: Object.keys(l4)[0]?.toLowerCase() ?? '',
    direction: f.traffic_direction === 'INGRESS' ? 'ingress' : 'egress',
    word: wordOf(record),
    rule: bounded(record.rule?.text, MOST_TEXT),
    auditRule: bounded(record.audit_rule?.text, MOST_TEXT),
  };
}

function sideOf(f: HubbleFlow, side: 'source' | 'destination', port: number | undefined): Side {
  const e: HubbleEndpoint = f[side] ?? {};
  const service = f[`${side}_service`];
  const workload = e.workloads?.[0];
  return {
    ip: bounded(f.IP?.[side], MOST_NAME),
    port: port ?? 0,
    namespace: bounded(e.namespace, MOST_NAME),
    pod: bounded(e.pod_name, MOST_NAME),
    workloadKind: bounded(workload?.kind, MOST_NAME),
    workload: bounded(workload?.name, MOST_NAME),
    names: (f[`${side}_names`] ?? []).slice(0, MOST_NAMES).map((name) => bounded(name, MOST_NAME)),
    service: service ? bounded(`${service.namespace}/${service.name}`, 2 * MOST_NAME) : '',
    isNode: e.labels?.includes('reserved:host') || e.labels?.includes('reserved:remote-node') || false,
  };
}

function wordOf(r: FlowRecord): Facts['word'] {
  if (r.event === 'log') return 'LOGGED';
  if (r.verdict === 'deny') return 'DENIED';
  if (r.audit_verdict === 'deny') return 'AUDIT';
  return r.verdict === 'allow' ? 'ALLOWED' : 'UNKNOWN';
}

/** One line: `shop/web-1 -> api.example.com (192.0.2.1):443/tcp DENIED np/shop/web#default`. */
export function lineOf(record: FlowRecord, facts: Facts): string {
  const { destination: d, protocol } = facts;
  const port = d.port > 0 ? `:${d.port}/${protocol}` : protocol === '' ? '' : ` ${protocol}`;
  const said = record.said ? ` ${bounded(saidText(saidInfo(record.said)), MOST_TEXT)}` : '';
  const dns = record.flow.l7?.dns?.query;
  const asked = dns ? ` dns ${bounded(dns, MOST_NAME)}` : '';
  const end = record.event === 'verdict' ? '' : ` (${record.event})`;
  return `${placeOf(facts.source)} -> ${placeOf(d)}${port} ${facts.word}${said}${asked} ${facts.rule || record.reason}${end}`;
}

function placeOf({ namespace, pod, ip, names, isNode }: Side): string {
  const [name] = names;
  const place = pod === '' ? (isNode ? `node ${ip}` : ip || 'unknown') : `${namespace}/${pod}`;
  if (name) return `${name} (${place})`;
  return place.includes(':') && pod === '' ? `[${place}]` : place;
}

export function saidInfo(said: SaidMessage): SaidInfo {
  const { kind, server_name = '', method = '', host = '', path = '', cut = false } = said;
  return { kind: kind as SaidInfo['kind'], serverName: server_name, method, host, path, isCut: cut };
}

/** The name in what the connection said. */
export function saidServer(said: SaidMessage): string {
  return bounded(nameIn(saidInfo(said)), MOST_NAME);
}
