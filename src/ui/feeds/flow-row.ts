/** A flow as the page shows it. */
import { saidText } from '../../flow/event/said-text.js';
import type { SaidInfo } from '../../flow/event/types.js';
import { millisOf } from '../../edges/wire.js';
import type { FlowRecord, HubbleEndpoint, RuleMessage } from '../../proto/messages.js';
import type { FlowEnd, FlowRow, RuleName, Verdict } from '../wire/messages.js';

/** @param id number of the row in its stream */
export function flowRow(record: FlowRecord, id: number): FlowRow {
  const { flow } = record;
  const { source_port: from = 0, destination_port: to = 0, protocol } = portsOf(flow.l4);
  return {
    id,
    timeMs: millisOf(flow.time) ?? 0,
    event: record.event,
    verdict: verdictOf(record.verdict),
    auditVerdict: verdictOf(record.audit_verdict),
    reason: record.reason,
    source: endOf(flow.source, flow.IP?.source, from, flow.source_names),
    destination: endOf(flow.destination, flow.IP?.destination, to, flow.destination_names),
    protocol,
    service: serviceOf(record),
    inbound: record.inbound ?? false,
    ...(record.rule ? { rule: ruleName(record.rule) } : {}),
    ...(record.audit_rule ? { auditRule: ruleName(record.audit_rule) } : {}),
    bytes: Number(record.bytes_out ?? 0) + Number(record.bytes_in ?? 0),
    packets: Number(record.packets_out ?? 0) + Number(record.packets_in ?? 0),
    drops: Number(record.drops ?? 0),
    node: flow.node_name ?? '',
    detail: detailOf(record),
  };
}

/** The name of a rule. */
export function ruleName(m: RuleMessage): RuleName {
  return {
    text: m.text ?? '',
    kind: m.kind ?? '',
    namespace: m.namespace ?? '',
    name: m.name ?? '',
    index: m.index ?? 0,
    staged: m.staged ?? false,
    dialect: m.dialect ?? '',
    tier: m.tier ?? '',
    action: m.action ?? '',
  };
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
  const labels = who?.labels ?? [];
  const [workload] = who?.workloads ?? [];
  return {
    ip: ip ?? '',
    port,
    namespace: who?.namespace ?? '',
    pod: who?.pod_name ?? '',
    workload: workload?.name ?? '',
    workloadKind: workload?.kind ?? '',
    names: names ?? [],
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
