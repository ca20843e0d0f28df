/** Turns a Flow into the messages of proto/flow and proto/egress. Each is made once per flow, for all readers. */
import { formatRule, ruleKey, ruleName } from '../ir/names.js';
import type { RuleRef } from '../ir/types.js';
import { rcodeName } from '../names/message.js';
import { protocolName } from '../net/protocol.js';
import type {
  FlowRecord,
  HubbleEndpoint,
  HubbleFlow,
  HubblePolicy,
  Layer4,
  Layer7,
  RuleMessage,
  SaidMessage,
  TcpFlags,
  Timestamp,
} from '../proto/messages.js';
import {
  direction,
  dropReason,
  eventSubType,
  eventType,
  icmpType,
  isAudited,
  isOutgoing,
  isReply,
  partyTerms,
  TCP_FLAGS,
  verdictName,
} from './names/terms.js';
import { saidText, urlOf } from './event/said-text.js';
import type { DnsInfo, Flow, FlowEvent, Party, SaidInfo } from './event/types.js';

const hubbleFlows = new WeakMap<Flow, HubbleFlow>();
const policies = new WeakMap<RuleRef, readonly HubblePolicy[]>();

/** @param ns nanoseconds since 1970 */
export function timestamp(ns: bigint): Timestamp {
  const seconds = ns / 1_000_000_000n;
  return { seconds: seconds.toString(), nanos: Number(ns - seconds * 1_000_000_000n) };
}

/** The message of a flow. Shared by all readers, so the caller must not modify it. */
export function toHubble(flow: Flow): HubbleFlow {
  let message = hubbleFlows.get(flow);
  if (!message) {
    message = makeHubble(flow);
    hubbleFlows.set(flow, message);
  }
  return message;
}

/** The whole record, as egressctl shows it. */
export function toRecord(flow: Flow): FlowRecord {
  return recordOf(flow, toHubble(flow));
}

/** The same, for one reader alone: its message is not kept with the flow. */
export function toOwnRecord(flow: Flow): FlowRecord {
  return recordOf(flow, makeHubble(flow));
}

function recordOf(flow: Flow, hubble: HubbleFlow): FlowRecord {
  const e = flow.event;
  return {
    flow: hubble,
    event: e.type,
    verdict: e.verdict,
    ...(flow.rule ? { rule: ruleMessage(flow.rule) } : {}),
    ...(flow.auditRule ? { audit_rule: ruleMessage(flow.auditRule) } : {}),
    ...(e.auditVerdict === 'none' ? {} : { audit_verdict: e.auditVerdict }),
    reason: e.reason,
    packets_out: e.packetsOut,
    bytes_out: e.bytesOut,
    packets_in: e.packetsIn,
    bytes_in: e.bytesIn,
    drops: e.drops,
    duration_ns: e.createdNs > 0 ? Math.max(e.timeNs - e.createdNs, 0) : 0,
    hook: e.hook,
    inbound: e.inbound,
    service_ip: e.service,
    service_port: e.servicePort,
    endpoint: e.endpoint,
    ...(flow.said ? { said: saidMessage(flow.said, flow.isSaidLearned ?? false) } : {}),
  };
}

function saidMessage({ kind, serverName, method, host, path, isCut }: SaidInfo, learned: boolean): SaidMessage {
  return {
    kind,
    ...(serverName === '' ? {} : { server_name: serverName }),
    ...(kind === 'http' ? { method, host, path } : {}),
    ...(learned ? { learned } : {}),
    ...(isCut ? { cut: true } : {}),
  };
}

/** The message of a rule. */
export function ruleMessage(ref: RuleRef): RuleMessage {
  const name = ruleName(ref);
  return {
    text: formatRule(ref),
    kind: ref.policy.kind,
    namespace: ref.policy.namespace ?? '',
    name: ref.policy.name,
    index: ref.index,
    staged: ref.staged,
    ...(name === undefined ? {} : { rule_name: name }),
  };
}

function makeHubble(flow: Flow): HubbleFlow {
  const e = flow.event;
  const l4 = layer4(flow);
  const reason = dropReason(flow);
  const out = isOutgoing(e);
  return {
    time: timestamp(flow.timeNs),
    verdict: verdictName(e),
    ...(e.macSource === '' ? {} : { ethernet: { source: e.macSource, destination: e.macDestination } }),
    ...(e.family === 0
      ? {}
      : {
          IP: {
            source: flow.source.ip,
            destination: flow.destination.ip,
            ipVersion: e.family === 4 ? ('IPv4' as const) : ('IPv6' as const),
          },
        }),
    ...(l4 ? { l4 } : {}),
    source: endpoint(flow.source, flow, out),
    destination: endpoint(flow.destination, flow, !out),
    Type: flow.dns || flow.said ? 'L7' : 'L3_L4',
    node_name: flow.nodeName,
    ...(flow.sourceNames ? { source_names: [...flow.sourceNames] } : {}),
    ...(flow.destinationNames ? { destination_names: [...flow.destinationNames] } : {}),
    ...(flow.dns ? { l7: layer7(flow.dns) } : {}),
    ...(flow.said ? { l7: request(flow.said) } : {}),
    event_type: { type: eventType(e), sub_type: eventSubType(flow) },
    ...(flow.service ? { [out ? 'destination_service' : 'source_service']: flow.service } : {}),
    traffic_direction: direction(e),
    ...(reason ? { drop_reason_desc: reason } : {}),
    is_reply: { value: isReply(e) },
    interface: { index: e.ifindex },
    uuid: flow.uuid,
    ...policyFields(flow),
    Summary: flow.dns ? dnsSummary(flow.dns) : flow.said ? saidText(flow.said) : summary(e),
  };
}

function layer7(dns: DnsInfo): Layer7 {
  return {
    type: dns.isAnswer ? 'RESPONSE' : 'REQUEST',
    latency_ns: Math.round(dns.latencyNs),
    dns: {
      query: dns.isRead ? `${dns.query}.` : '',
      ips: dns.ips,
      ttl: dns.ttl,
      cnames: dns.cnames.map((name) => `${name}.`),
      observation_source: 'egress-agent',
      rcode: dns.rcode,
      qtypes: dns.isRead ? [dns.queryType] : [],
      rrtypes: dns.recordTypes,
    },
  };
}

/** Of a request its record. Hubble has no record of TLS: a hello is a request without one. */
function request(said: SaidInfo): Layer7 {
  const { kind, method } = said;
  return { type: 'REQUEST', ...(kind === 'http' ? { http: { method, url: urlOf(said) } } : {}) };
}

/** As Hubble words it: `DNS Query example.com. A`, `DNS Answer "192.0.2.1" TTL: 30 (example.com. A)`. */
function dnsSummary(dns: DnsInfo): string {
  if (!dns.isRead) return 'DNS message that cannot be read';
  const question = `${dns.query}. ${dns.queryType}`;
  if (!dns.isAnswer) return `DNS Query ${question}`;
  if (dns.rcode !== 0) return `DNS Answer RCode: ${rcodeName(dns.rcode)} (${question})`;
  const found = [...dns.ips, ...dns.cnames.map((name) => `CNAME ${name}.`)].join(',');
  return `DNS Answer "${found}" TTL: ${dns.ttl} (${question})`;
}

/** The policies that decided. A flow that passes but is denied by staged policies names both. */
function policyFields({ event, rule, auditRule }: Flow): Partial<HubbleFlow> {
  if (event.type === 'log') return rule ? { policy_log: [formatRule(rule)] } : {};
  if (event.verdict === 'deny') return rule ? { egress_denied_by: policyMessages(rule) } : {};
  return {
    ...(rule ? { egress_allowed_by: policyMessages(rule) } : {}),
    ...(isAudited(event) && auditRule ? { egress_denied_by: policyMessages(auditRule) } : {}),
  };
}

/** A policy under the name that its user gave it. The rule is in the labels, since the message has no field for it. */
function policyMessages(ref: RuleRef): HubblePolicy[] {
  let made = policies.get(ref);
  if (!made) {
    const { policy } = ref;
    const name = ruleName(ref);
    const labels = [
      ...Object.entries(policy.labels ?? {}).map(([k, v]) => `k8s:${k}=${v}`),
      `egress-agent.io/rule=${ruleKey(ref)}`,
      ...(name === undefined ? [] : [`egress-agent.io/rule-name=${name}`]),
      ...(ref.staged ? ['egress-agent.io/staged=true'] : []),
    ];
    made = [{ name: policy.name, namespace: policy.namespace ?? '', kind: policy.kind, labels }];
    policies.set(ref, made);
  }
  return made as HubblePolicy[];
}

function endpoint(party: Party, flow: Flow, local: boolean): HubbleEndpoint {
  const { identity, labels } = partyTerms(party, flow.nodeName);
  return {
    ...(local && flow.event.endpoint !== 0 ? { ID: flow.event.endpoint } : {}),
    identity,
    labels,
    ...(party.namespace === '' ? {} : { namespace: party.namespace }),
    ...(party.pod === '' ? {} : { pod_name: party.pod }),
    ...(party.workload ? { workloads: [party.workload] } : {}),
  };
}

function layer4(flow: Flow): Layer4 | undefined {
  const e = flow.event;
  if (e.family === 0) return undefined;
  const ports = { source_port: flow.source.port, destination_port: flow.destination.port };
  switch (e.protocol) {
    case 6:
      return { TCP: { ...ports, flags: tcpFlags(e.tcpFlags) } };
    case 17:
      return { UDP: ports };
    case 132:
      return { SCTP: ports };
    case 1:
      return { ICMPv4: icmpType(e) };
    case 58:
      return { ICMPv6: icmpType(e) };
    default:
      return undefined;
  }
}

function tcpFlags(bits: number): TcpFlags {
  const flags: TcpFlags = {};
  for (const [name, bit] of TCP_FLAGS) if ((bits & bit) !== 0) flags[name] = true;
  return flags;
}

/** ICMP types of requests and their answers, as Hubble prints them. */
const ICMP_NAMES: Readonly<Record<number, Readonly<Record<number, string>>>> = {
  1: {
    0: 'EchoReply',
    8: 'EchoRequest',
    10: 'RouterSolicitation',
    13: 'TimestampRequest',
    14: 'TimestampReply',
    15: 'InfoRequest',
    16: 'InfoReply',
    17: 'AddressMaskRequest',
    18: 'AddressMaskReply',
    3: 'DestinationUnreachable',
    11: 'TimeExceeded',
    12: 'ParameterProblem',
  },
  58: {
    1: 'DestinationUnreachable',
    2: 'PacketTooBig',
    3: 'TimeExceeded',
    4: 'ParameterProblem',
    128: 'EchoRequest',
    129: 'EchoReply',
  },
};

function summary(e: FlowEvent): string {
  if (e.family === 0) return `ethertype 0x${e.ethertype.toString(16).padStart(4, '0')}`;
  if (e.protocol === 1 || e.protocol === 58) {
    const { type, code } = icmpType(e);
    const name = ICMP_NAMES[e.protocol]?.[type] ?? `${type}(${code})`;
    return `${e.protocol === 1 ? 'ICMPv4' : 'ICMPv6'} ${name}`;
  }
  if (e.protocol !== 6) return protocolName(e.protocol);
  const names = TCP_FLAGS.filter(([, bit]) => (e.tcpFlags & bit) !== 0).map(([name]) => name);
  return names.length === 0 ? 'TCP' : `TCP Flags: ${names.join(', ')}`;
}

/**
 * Keeps only the fields of a field mask (paths of proto field names, separated by dots). Missing fields are omitted.
 */
export function applyFieldMask(flow: HubbleFlow, paths: readonly string[]): HubbleFlow {
  const out: Fields = {};
  for (const path of paths) copyPath(flow as Fields, out, path.split('.'));
  return out as HubbleFlow;
}

type Fields = Record<string, unknown>;

function copyPath(from: Fields, to: Fields, [head, ...rest]: readonly string[]): void {
  if (head === undefined || !Object.hasOwn(from, head)) return;
  const value = from[head];
  // The whole field, or a part of a field that another path has already taken as a whole.
  if (rest.length === 0 || to[head] === value) {
    to[head] = value;
    return;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return;
  const inner = (Object.hasOwn(to, head) ? to[head] : {}) as Fields;
  copyPath(value as Fields, inner, rest);
  to[head] = inner;
}
