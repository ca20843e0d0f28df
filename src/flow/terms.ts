/** A flow's properties in Hubble's terms. Filters test them, messages show them: both must speak of the same. */
import { contentId } from '../image/ids.js';
import { DEFAULT_RULE } from '../ir/types.js';
import { hasPorts } from '../net/protocol.js';
import type { DirectionName, VerdictName } from '../rpc/messages.js';
import type { Flow, FlowEvent, Party } from './types.js';

/** Reserved identities; those below FIRST_IDENTITY are for what is no workload. */
const HOST = 1;
const WORLD = 2;
const REMOTE_NODE = 6;
const FIRST_IDENTITY = 256;
/** Cilium's identities end here, too. */
const IDENTITIES = 2 ** 24;

/** CiliumEventType: numbers of Cilium's monitor. */
export const EVENT_DROP = 1;
const EVENT_TRACE = 4;
const EVENT_POLICY_VERDICT = 5;

/** Where a trace was taken: to the endpoint, from the endpoint, to the network. */
const OBSERVATION_POINTS = { 'to-pod': 0, 'from-pod': 5, uplink: 11 } as const;

/** flow.DropReason, as far as it has what happens here. */
const DROP_REASONS = {
  INVALID_SOURCE_MAC: 130,
  INVALID_SOURCE_IP: 132,
  POLICY_DENIED: 133,
  INVALID_PACKET_DROPPED: 134,
  UNSUPPORTED_L3_PROTOCOL: 139,
  POLICY_DENY: 181,
} as const;
export type DropReasonName = keyof typeof DROP_REASONS;

const DROPPED_FOR: Readonly<Record<string, DropReasonName>> = {
  malformed: 'INVALID_PACKET_DROPPED',
  'unknown-ethertype': 'UNSUPPORTED_L3_PROTOCOL',
  'ext-headers': 'INVALID_PACKET_DROPPED',
  'tiny-fragment': 'INVALID_PACKET_DROPPED',
  'overlapping-fragment': 'INVALID_PACKET_DROPPED',
  'spoofed-address': 'INVALID_SOURCE_IP',
  'spoofed-mac': 'INVALID_SOURCE_MAC',
};

/** Bits of the TCP header's flags, in the order in which Hubble prints them. */
export const TCP_FLAGS = [
  ['SYN', 2],
  ['ACK', 16],
  ['RST', 4],
  ['FIN', 1],
  ['PSH', 8],
  ['URG', 32],
  ['ECE', 64],
  ['CWR', 128],
] as const;

/** A drop at the endpoint's door that belongs to no flow: the event tells of a packet, not of who opened what. */
function isLooseDelivery(e: FlowEvent): boolean {
  return e.hook === 'to-pod' && e.createdNs === 0 && !e.secondLook;
}

/** Opened to the endpoint, by the remote side. */
export function isInbound(e: FlowEvent): boolean {
  return e.inbound || isLooseDelivery(e);
}

/** Whether the packet that caused the event left the endpoint; of a flow's end: whether the endpoint had opened it. */
export function isOutgoing(e: FlowEvent): boolean {
  if (e.type === 'end') return !e.inbound;
  return e.inbound === e.isReply && !isLooseDelivery(e);
}

/** Of a flow's end, which speaks of the whole flow, false. */
export function isReply(e: FlowEvent): boolean {
  return e.isReply && e.type !== 'end';
}

/** EGRESS: opened by the endpoint, whichever way this packet travels. */
export function direction(e: FlowEvent): DirectionName {
  return isInbound(e) ? 'INGRESS' : 'EGRESS';
}

/** Passed, but would be dropped if the staged policies were in force. */
export function isAudited(e: FlowEvent): boolean {
  return e.verdict === 'allow' && e.auditVerdict === 'deny';
}

export function verdictName(e: FlowEvent): VerdictName {
  if (e.type === 'log') return 'TRACED';
  if (e.verdict === 'deny') return 'DROPPED';
  if (isAudited(e)) return 'AUDIT';
  return e.verdict === 'none' ? 'VERDICT_UNKNOWN' : 'FORWARDED';
}

/** POLICY_DENIED: nothing allowed it. POLICY_DENY: a rule denied it. Undefined: it was not dropped. */
export function dropReason(flow: Flow): DropReasonName | undefined {
  const { event, rule } = flow;
  if (event.verdict !== 'deny') return undefined;
  return DROPPED_FOR[event.reason] ?? (rule && rule.index !== DEFAULT_RULE ? 'POLICY_DENY' : 'POLICY_DENIED');
}

/** 5: policy verdict, 1: drop, 4: trace. */
export function eventType(e: FlowEvent): number {
  if (e.type === 'drop') return EVENT_DROP;
  return e.type === 'verdict' || e.type === 'changed' ? EVENT_POLICY_VERDICT : EVENT_TRACE;
}

/** What clients name a drop (its reason) and a trace (where it was taken) by. */
export function eventSubType(flow: Flow): number {
  switch (eventType(flow.event)) {
    case EVENT_DROP:
      return DROP_REASONS[dropReason(flow) ?? 'POLICY_DENIED'];
    case EVENT_TRACE:
      return OBSERVATION_POINTS[flow.event.hook];
    default:
      return 0;
  }
}

/** TCP, UDP, SCTP: what messages have port fields for. */
export function hasPortFields(e: FlowEvent): boolean {
  return hasPorts(e.protocol);
}

/** ICMP type and code of this packet: of the request, or of the answer to it (RFC 792, RFC 4443). */
export function icmpType(e: FlowEvent): { type: number; code: number } {
  const type = e.remotePort >> 8;
  if (!isReply(e)) return { type, code: e.remotePort & 255 };
  const answer = e.protocol === 58 ? type + 1 : type === 8 ? 0 : type + 1;
  return { type: answer, code: 0 };
}

/** What Hubble knows a party by. */
export interface PartyTerms {
  identity: number;
  /** `source:key=value` */
  labels: string[];
}

const HOST_TERMS: PartyTerms = { identity: HOST, labels: ['reserved:host'] };
const REMOTE_NODE_TERMS: PartyTerms = { identity: REMOTE_NODE, labels: ['reserved:remote-node'] };
const WORLD_TERMS: PartyTerms = { identity: WORLD, labels: ['reserved:world'] };

/** By the labels' object, which all flows of one pod share. */
const known = new WeakMap<object, PartyTerms & { of: string }>();

/** Not to be changed: shared by all flows of the party. */
export function partyTerms(party: Party, nodeName: string): PartyTerms {
  if (party.kind === 'world') return WORLD_TERMS;
  if (party.kind === 'node') return party.node === nodeName ? HOST_TERMS : REMOTE_NODE_TERMS;
  const of = `${party.kind} ${party.namespace}`;
  const found = known.get(party.labels);
  if (found?.of === of) return found;
  const pairs = Object.entries(party.labels).sort(([a], [b]) => (a < b ? -1 : 1));
  const made = {
    of,
    // The same on every node for the same labels.
    identity: FIRST_IDENTITY + (contentId(JSON.stringify([of, pairs])) % (IDENTITIES - FIRST_IDENTITY)),
    labels: [...pairs.map(([k, v]) => `k8s:${k}=${v}`), `k8s:io.kubernetes.pod.namespace=${party.namespace}`],
  };
  known.set(party.labels, made);
  return made;
}
