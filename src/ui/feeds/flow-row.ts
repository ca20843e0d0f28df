/** A flow as the page shows it. */
import { saidText } from '../../flow/event/said-text.js';
import type { SaidInfo } from '../../flow/event/types.js';
import { millisOf } from '../../edges/wire.js';
import type { FlowRecord, HubbleEndpoint, RuleMessage } from '../../proto/messages.js';
import type { FlowEnd, FlowRow, RuleName, Verdict } from '../wire/messages.js';

/**
 * What a row holds at most, in characters and in elements. A pod chooses what it says and what its names resolve to, and
 * thousands of rows go to each page: what one flow takes is bounded here, whatever the agent says.
 */
const MOST = {
  /** A prefix, a name and a value of a label: 63 + 253 + 63, and what is between. */
  label: 400,
  labels: 64,
  /** Of all labels of an end together: there are two ends, and thousands of rows. */
  allLabels: 4000,
  /** A name of DNS, with its last dot. */
  name: 254,
  names: 16,
  /** Of a rule: its languages, namespace and name. */
  rule: 600,
  detail: 300,
  /** Words of the agent: verdicts, reasons, kinds. */
  word: 100,
} as const;

/** @param id number of the row in its stream */
export function flowRow(record: FlowRecord, id: number): FlowRow {
  const { flow } = record;
  const { source_port: from = 0, destination_port: to = 0, protocol } = portsOf(flow.l4);
  return {
    id,
    timeMs: millisOf(flow.time) ?? 0,
    event: cut(record.event, MOST.word),
    verdict: verdictOf(record.verdict),
    auditVerdict: verdictOf(record.audit_verdict),
    reason: cut(record.reason, MOST.word),
    source: endOf(flow.source, flow.IP?.source, from, flow.source_names),
    destination: endOf(flow.destination, flow.IP?.destination, to, flow.destination_names),
    protocol,
    service: cut(serviceOf(record), MOST.name * 2),
    inbound: record.inbound ?? false,
    ...(record.rule ? { rule: ruleName(record.rule) } : {}),
    ...(record.audit_rule ? { auditRule: ruleName(record.audit_rule) } : {}),
    bytes: Number(record.bytes_out ?? 0) + Number(record.bytes_in ?? 0),
    packets: Number(record.packets_out ?? 0) + Number(record.packets_in ?? 0),
    drops: Number(record.drops ?? 0),
    node: cut(flow.node_name, MOST.name),
    detail: cut(detailOf(record), MOST.detail),
  };
}

/** The text, and a sign if there was more of it. A pair of surrogates is not torn. */
function cut(text: string | undefined, most: number): string {
  if (text === undefined || text.length <= most) return text ?? '';
  const end = most - 1;
  const high = text.charCodeAt(end - 1);
  return `${text.slice(0, high >= 0xd800 && high < 0xdc00 ? end - 1 : end)}…`;
}

function cutAll(texts: readonly string[] | undefined, most: number, longest: number): string[] {
  return (texts ?? []).slice(0, most).map((text) => cut(text, longest));
}

/** The name of a rule. */
export function ruleName(m: RuleMessage): RuleName {
  return {
    text: cut(m.text, MOST.rule),
    kind: cut(m.kind, MOST.word),
    namespace: cut(m.namespace, MOST.name),
    name: cut(m.name, MOST.name),
    index: m.index ?? 0,
    staged: m.staged ?? false,
    dialect: cut(m.dialect, MOST.word),
    tier: cut(m.tier, MOST.name),
    action: cut(m.action, MOST.word),
  };
}

/** The first of the texts that have so many characters together. */
function within(texts: readonly string[], most: number): string[] {
  let left = most;
  return texts.filter((text) => (left -= text.length) >= 0);
}

function verdictOf(text: string | undefined): Verdict {
  return text === 'allow' || text === 'deny' || text === 'partial' ? text : 'none';
}

function portsOf(l4: FlowRecord['flow']['l4']): { source_port?: number; destination_port?: number; protocol: string } {
  if (!l4) return { protocol: '' };
  if (l4.TCP) return { ...l4.TCP, protocol: 'tcp' };
  if (l4.UDP) return { ...l4.UDP, protocol: 'udp' };
  if (l4.SCTP) return { ...l4.SCTP, protocol: 'sctp' };
  if (l4.ICMPv4) return { protocol: 'icmp' };
  if (l4.ICMPv6) return { protocol: 'icmpv6' };
  return { protocol: '' };
}

function endOf(
  who: HubbleEndpoint | undefined,
  ip: string | undefined,
  port: number,
  names: string[] | undefined,
): FlowEnd {
  const labels = within(cutAll(who?.labels, MOST.labels, MOST.label), MOST.allLabels);
  const [workload] = who?.workloads ?? [];
  return {
    ip: cut(ip, MOST.word),
    port,
    namespace: cut(who?.namespace, MOST.name),
    pod: cut(who?.pod_name, MOST.name),
    workload: cut(workload?.name, MOST.name),
    workloadKind: cut(workload?.kind, MOST.word),
    names: cutAll(names, MOST.names, MOST.name),
    labels,
    reserved: labels.find((l) => l.startsWith('reserved:'))?.slice('reserved:'.length) ?? '',
  };
}

function serviceOf({ flow, service_ip, service_port }: FlowRecord): string {
  const { namespace, name } = flow.destination_service ?? {};
  if (name) return namespace ? `${namespace}/${name}` : name;
  return service_ip ? `${service_ip}:${service_port ?? 0}` : '';
}

function detailOf({ said, flow }: FlowRecord): string {
  if (said) {
    const info = {
      kind: said.kind,
      serverName: said.server_name ?? '',
      method: said.method ?? '',
      host: said.host ?? '',
      path: said.path ?? '',
      isCut: said.cut ?? false,
    };
    return saidText(info as SaidInfo);
  }
  const dns = flow.l7?.dns;
  return dns?.query ? `DNS ${dns.qtypes?.join(',') ?? ''} ${dns.query}`.trim() : '';
}
