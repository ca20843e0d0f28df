/**
 * What the why drawer is asked about: one flow or edge, with all that it needs in one text, so that a link shows somebody
 * else the same. A pure module: server and browser share it.
 */
import type { EdgeInfo, FlowEnd, FlowRow, Party, Verdict } from './messages.js';

/** An end of what is asked about. */
export interface WhyEnd extends Party {
  /** The pod itself, where it is known. */
  readonly pod: string;
}

export interface WhyRef {
  readonly about: 'edge' | 'flow';
  readonly from: WhyEnd;
  readonly to: WhyEnd;
  /** Of the destination; empty: unknown. */
  readonly address: string;
  /** As an edge has it: ICMP: type × 256 + code. */
  readonly port: number;
  /** IANA number. */
  readonly protocol: number;
  /** Name in a DNS query; empty: it is none. */
  readonly query: string;
  /** `namespace/name` */
  readonly service: string;
  readonly servicePort: number;
  readonly inbound: boolean;
  /** What became of it then. */
  readonly verdict: Verdict;
  readonly auditVerdict: Verdict;
  readonly reason: string;
  /** Texts of the rules; empty: none, or one that may not be seen. */
  readonly rule: string;
  readonly auditRule: string;
  readonly timeMs: number;
  readonly node: string;
}

const KINDS: readonly Party['kind'][] = ['workload', 'node', 'name', 'address', 'service', 'other'];
const VERDICTS: readonly Verdict[] = ['allow', 'deny', 'partial', 'none'];
/** IANA numbers of what FlowRow calls protocols. */
const NUMBERS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132, icmp: 1, icmpv6: 58 };
/** Characters of a link's text at most. */
const LONGEST = 3000;
const LONGEST_PART = 500;
/** Characters of a name; longer ones are no names of a cluster or of DNS, and nothing can be asked about them. */
const LONGEST_NAME = 253;
/** Characters of the address that a link may take, as it is sent: servers refuse longer ones. */
const LONGEST_SENT = 4000;

/** What is asked about an edge. @param lastMs when it was seen last */
export function whyOfEdge(e: EdgeInfo, lastMs: number): WhyRef {
  return {
    about: 'edge',
    from: { ...e.source, pod: '' },
    to: { ...e.destination, pod: '' },
    address: e.address,
    port: e.port,
    protocol: e.protocol,
    query: '',
    service: e.service,
    servicePort: e.servicePort,
    inbound: e.inbound,
    verdict: e.verdict,
    auditVerdict: e.auditVerdict,
    reason: e.reason,
    rule: e.rule?.text ?? '',
    auditRule: e.auditRule?.text ?? '',
    timeMs: lastMs,
    node: '',
  };
}

/** What is asked about a flow. */
export function whyOfFlow(f: FlowRow): WhyRef {
  return {
    about: 'flow',
    from: endOf(f.source, f.node),
    to: endOf(f.destination, f.node),
    address: f.destination.ip,
    port: f.destination.port,
    protocol: NUMBERS[f.protocol] ?? 0,
    query: f.event === 'dns' ? (/^DNS (?:\S+ )?(\S+)$/.exec(f.detail)?.[1] ?? '') : '',
    service: f.service,
    servicePort: 0,
    inbound: f.inbound,
    verdict: f.verdict,
    auditVerdict: f.auditVerdict,
    reason: f.reason,
    rule: f.rule?.text ?? '',
    auditRule: f.auditRule?.text ?? '',
    timeMs: f.timeMs,
    node: f.node,
  };
}

function endOf(e: FlowEnd, node: string): WhyEnd {
  const party = partyOf(e, node);
  return { ...party, pod: e.namespace === '' ? '' : e.pod };
}

/** What an end of a flow is, in the words of edges. @param node on which the flow was seen */
export function partyOf(e: FlowEnd, node: string): Party {
  if (e.namespace !== '' && (e.pod !== '' || e.workload !== ''))
    return e.workload === ''
      ? { kind: 'workload', namespace: e.namespace, workloadKind: 'Pod', name: e.pod }
      : { kind: 'workload', namespace: e.namespace, workloadKind: e.workloadKind, name: e.workload };
  const nothing = { namespace: '', workloadKind: '' };
  if (e.reserved === 'host') return { kind: 'node', ...nothing, name: node };
  const [name] = e.names;
  if (name !== undefined) return { kind: 'name', ...nothing, name };
  return e.ip === '' ? { kind: 'other', ...nothing, name: '' } : { kind: 'address', ...nothing, name: e.ip };
}

/** The text of a link. Of texts that take too much room, the beginnings. */
export function encodeWhy(r: WhyRef): string {
  const text = linkText(r, LONGEST_NAME, LONGEST_PART);
  return new URLSearchParams({ text }).toString().length > LONGEST_SENT ? linkText(r, 20, 60) : text;
}

function linkText(r: WhyRef, mostOfName: number, most: number): string {
  const pairs: [string, string][] = [
    ['from', endText(r.from, mostOfName)],
    ['to', endText(r.to, mostOfName)],
    ['ip', r.address],
    ['port', `${r.port}/${r.protocol}`],
    ['query', r.query],
    ['service', r.service === '' ? '' : `${r.service}/${r.servicePort}`],
    ['in', r.inbound ? '1' : ''],
    ['said', [r.verdict, r.auditVerdict, r.reason].map(escaped).join('/')],
    ['rule', r.rule],
    ['audit', r.auditRule],
    ['at', String(r.timeMs)],
    ['node', r.node],
  ];
  const parts = pairs
    .filter(([, value]) => value !== '')
    .map(([key, value]) => `${key}=${value.slice(0, most).replace(/[%,]/g, hex)}`);
  return [r.about, ...parts].join(',');
}

/** Reads the text of a link. @returns undefined: it is none */
export function decodeWhy(text: string): WhyRef | undefined {
  if (text.length > LONGEST) return undefined;
  const [about, ...parts] = text.split(',');
  if (about !== 'edge' && about !== 'flow') return undefined;
  const given = new Map<string, string>();
  for (const part of parts) {
    const at = part.indexOf('=');
    const value = plain(part.slice(at + 1));
    if (at < 1 || value === undefined || value.length > LONGEST_PART) return undefined;
    given.set(part.slice(0, at), value);
  }
  const of = (key: string) => given.get(key) ?? '';
  const [from, to] = [readEnd(of('from')), readEnd(of('to'))];
  const [port, protocol] = numbers(of('port'), [65_535, 255]);
  const [, service = '', servicePort = '0'] = /^(.*)\/(\d{1,5})$/s.exec(of('service')) ?? [];
  const [verdict, auditVerdict, reason = ''] = of('said').split('/').map(plain);
  const timeMs = Number(of('at') || '0');
  if (!from || !to || port === undefined || protocol === undefined || !Number.isSafeInteger(timeMs) || timeMs < 0)
    return undefined;
  return {
    ...{ about, from, to, port, protocol, timeMs, service, reason },
    ...{ address: of('ip'), query: of('query'), servicePort: Math.min(Number(servicePort), 65_535) },
    ...{ inbound: of('in') === '1', rule: of('rule'), auditRule: of('audit'), node: of('node') },
    verdict: VERDICTS.find((v) => v === verdict) ?? 'none',
    auditVerdict: VERDICTS.find((v) => v === auditVerdict) ?? 'none',
  };
}

function endText({ kind, namespace, workloadKind, name, pod }: WhyEnd, most: number): string {
  return [kind, namespace, workloadKind, name, pod]
    .map((part) => escaped(part.slice(0, most)))
    .join('/')
    .replace(/\/+$/, '');
}

function readEnd(text: string): WhyEnd | undefined {
  const [kind, namespace = '', workloadKind = '', name = '', pod = ''] = text.split('/').map(plain);
  const known = KINDS.find((k) => k === kind);
  return known && { kind: known, namespace, workloadKind, name, pod };
}

function numbers(text: string, most: readonly number[]): (number | undefined)[] {
  const parts = text.split('/');
  return most.map((limit, n) => {
    const part = parts[n] ?? '';
    return /^\d{1,5}$/.test(part) && Number(part) <= limit ? Number(part) : undefined;
  });
}

function escaped(text: string): string {
  return text.replace(/[%/]/g, hex);
}

function hex(c: string): string {
  return `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
}

function plain(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
