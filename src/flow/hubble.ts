/** Flow → the messages of proto/flow and proto/egress. Made once for each flow, whoever reads it. */
import { contentId } from '../image/ids.js';
import { formatRule } from '../ir/names.js';
import { DEFAULT_RULE, type RuleRef } from '../ir/types.js';
import { protocolName } from '../net/protocol.js';
import type {
  FlowRecord,
  HubbleEndpoint,
  HubbleFlow,
  HubblePolicy,
  Layer4,
  RuleMessage,
  TcpFlags,
  Timestamp,
  VerdictName,
} from '../rpc/messages.js';
import type { Flow, FlowEvent, Party } from './types.js';

/** Numbers below are reserved for what is no pod: host 1, world 2. */
const FIRST_IDENTITY = 256;
const HOST = 1;
const WORLD = 2;
/** CiliumEventType: monitor API's numbers. */
const EVENT_DROP = 1;
const EVENT_TRACE = 4;
const EVENT_POLICY_VERDICT = 5;

const DROP_REASONS: Readonly<Record<string, string>> = {
  malformed: 'INVALID_PACKET_DROPPED',
  'unknown-ethertype': 'UNSUPPORTED_L3_PROTOCOL',
  'ext-headers': 'INVALID_PACKET_DROPPED',
  'tiny-fragment': 'INVALID_PACKET_DROPPED',
  'overlapping-fragment': 'INVALID_PACKET_DROPPED',
  'spoofed-address': 'INVALID_SOURCE_IP',
  'spoofed-mac': 'INVALID_SOURCE_MAC',
};

const FLAG_BITS: readonly (readonly [keyof TcpFlags, number])[] = [
  ['FIN', 1],
  ['SYN', 2],
  ['RST', 4],
  ['PSH', 8],
  ['ACK', 16],
  ['URG', 32],
  ['ECE', 64],
  ['CWR', 128],
];

const hubbleFlows = new WeakMap<Flow, HubbleFlow>();
const identities = new WeakMap<object, number>();

/** @param ns nanoseconds since 1970 */
export function timestamp(ns: bigint): Timestamp {
  const seconds = ns / 1_000_000_000n;
  return { seconds: seconds.toString(), nanos: Number(ns - seconds * 1_000_000_000n) };
}

export function verdictName(event: FlowEvent): VerdictName {
  if (event.type === 'log') return 'TRACED';
  if (event.verdict === 'deny') return 'DROPPED';
  return event.verdict === 'none' ? 'VERDICT_UNKNOWN' : 'FORWARDED';
}

export function toHubble(flow: Flow): HubbleFlow {
  let message = hubbleFlows.get(flow);
  if (!message) hubbleFlows.set(flow, (message = makeHubble(flow)));
  return message;
}

/** The whole record, as egressctl shows it. */
export function toRecord(flow: Flow): FlowRecord {
  const e = flow.event;
  return {
    flow: toHubble(flow),
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
  };
}

function ruleMessage(ref: RuleRef): RuleMessage {
  return {
    text: formatRule(ref),
    kind: ref.policy.kind,
    namespace: ref.policy.namespace ?? '',
    name: ref.policy.name,
    index: ref.index,
    staged: ref.staged,
  };
}

function makeHubble(flow: Flow): HubbleFlow {
  const e = flow.event;
  const denied = e.verdict === 'deny';
  const policies = flow.rule ? [policyMessage(flow.rule)] : undefined;
  const l4 = layer4(flow);
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
    source: endpoint(flow.source),
    destination: endpoint(flow.destination),
    Type: 'L3_L4',
    node_name: flow.nodeName,
    event_type: { type: eventType(e), sub_type: 0 },
    ...(flow.service ? { destination_service: flow.service } : {}),
    traffic_direction: e.inbound ? 'INGRESS' : 'EGRESS',
    ...(denied ? { drop_reason_desc: dropReason(flow) } : {}),
    is_reply: { value: e.isReply },
    interface: { index: e.ifindex },
    uuid: flow.uuid,
    ...(policies && !e.inbound ? (denied ? { egress_denied_by: policies } : { egress_allowed_by: policies }) : {}),
    Summary: summary(e),
  };
}

function eventType(e: FlowEvent): number {
  if (e.type === 'drop') return EVENT_DROP;
  return e.type === 'verdict' || e.type === 'changed' ? EVENT_POLICY_VERDICT : EVENT_TRACE;
}

/** POLICY_DENIED: nothing allowed it. POLICY_DENY: a rule denied it. */
function dropReason({ event, rule }: Flow): string {
  return DROP_REASONS[event.reason] ?? (rule && rule.index !== DEFAULT_RULE ? 'POLICY_DENY' : 'POLICY_DENIED');
}

function policyMessage(ref: RuleRef): HubblePolicy {
  return {
    name: ref.policy.name,
    namespace: ref.policy.namespace ?? '',
    kind: ref.policy.kind,
    labels: [
      ...Object.entries(ref.policy.labels ?? {}).map(([k, v]) => `k8s:${k}=${v}`),
      `egress-agent.io/rule=${formatRule(ref)}`,
      ...(ref.staged ? ['egress-agent.io/staged=true'] : []),
    ],
  };
}

function endpoint(party: Party): HubbleEndpoint {
  if (party.kind === 'pod') {
    return {
      identity: identity(party),
      namespace: party.namespace,
      labels: [
        ...Object.entries(party.labels).map(([k, v]) => `k8s:${k}=${v}`),
        `k8s:io.kubernetes.pod.namespace=${party.namespace}`,
      ],
      pod_name: party.pod,
      ...(party.workload ? { workloads: [party.workload] } : {}),
    };
  }
  if (party.kind === 'node') return { identity: HOST, labels: ['reserved:host'] };
  return { identity: WORLD, labels: ['reserved:world'] };
}

/** The same on every node for the same labels. */
function identity(party: Party): number {
  let id = identities.get(party.labels);
  if (id === undefined) {
    const labels = Object.entries(party.labels).sort(([a], [b]) => (a < b ? -1 : 1));
    id = FIRST_IDENTITY + (contentId(JSON.stringify([party.namespace, labels])) % (2 ** 24 - FIRST_IDENTITY));
    identities.set(party.labels, id);
  }
  return id;
}

function layer4(flow: Flow): Layer4 | undefined {
  const e = flow.event;
  const ports = { source_port: flow.source.port, destination_port: flow.destination.port };
  switch (e.protocol) {
    case 6:
      return { TCP: { ...ports, flags: tcpFlags(e.tcpFlags) } };
    case 17:
      return { UDP: ports };
    case 132:
      return { SCTP: ports };
    case 1:
      return { ICMPv4: { type: e.remotePort >> 8, code: e.remotePort & 255 } };
    case 58:
      return { ICMPv6: { type: e.remotePort >> 8, code: e.remotePort & 255 } };
    default:
      return undefined;
  }
}

function tcpFlags(bits: number): TcpFlags {
  const flags: TcpFlags = {};
  for (const [name, bit] of FLAG_BITS) if ((bits & bit) !== 0) flags[name] = true;
  return flags;
}

function summary(e: FlowEvent): string {
  if (e.family === 0) return `ethertype 0x${e.ethertype.toString(16).padStart(4, '0')}`;
  if (e.protocol !== 6) return protocolName(e.protocol);
  const names = FLAG_BITS.filter(([, bit]) => (e.tcpFlags & bit) !== 0).map(([name]) => name);
  return names.length === 0 ? 'TCP' : `TCP Flags: ${names.join(', ')}`;
}

/** The fields of a field mask (paths of proto field names, dots between) alone. */
export function applyFieldMask(flow: HubbleFlow, paths: readonly string[]): HubbleFlow {
  const out: Record<string, unknown> = {};
  for (const path of paths) copyPath(flow as Record<string, unknown>, out, path.split('.'));
  return out as HubbleFlow;
}

function copyPath(from: Record<string, unknown>, to: Record<string, unknown>, path: readonly string[]): void {
  const [head, ...rest] = path as [string, ...string[]];
  if (!Object.hasOwn(from, head)) return;
  const value = from[head];
  if (rest.length === 0 || typeof value !== 'object' || value === null || Array.isArray(value)) {
    if (rest.length === 0) to[head] = value;
    return;
  }
  const inner = Object.hasOwn(to, head) ? (to[head] as Record<string, unknown>) : {};
  // Never into what the flow itself shares with other readers.
  to[head] = inner === value ? inner : { ...inner };
  copyPath(value as Record<string, unknown>, to[head] as Record<string, unknown>, rest);
}
