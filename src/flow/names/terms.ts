/** A flow's properties in Hubble's terms. Filters and messages both use these functions, so that they agree. */
import { PLAIN_IDS } from '../../ids.js';
import { DEFAULT_RULE } from '../../ir/types.js';
import { hasPorts } from '../../net/protocol.js';
import type { DirectionName, VerdictName } from '../../proto/messages.js';
import type { Kind } from '../event/kind.js';
import type { Flow, FlowEvent, Party } from '../event/types.js';

/** Reserved identities. Those below FIRST_IDENTITY are not of workloads. */
const HOST = 1;
const WORLD = 2;
const REMOTE_NODE = 6;
const FIRST_IDENTITY = 256;
/** Upper bound of identities, as in Cilium. */
const IDENTITIES = 2 ** 24;

/** CiliumEventType: the numbers of Cilium's monitor. */
export const EVENT_DROP = 1;
const EVENT_TRACE = 4;
const EVENT_POLICY_VERDICT = 5;
export const EVENT_L7 = 129;

/** The place of a trace: to the endpoint, from the endpoint, to the network. */
const OBSERVATION_POINTS = { 'to-pod': 0, 'from-pod': 5, uplink: 11 } as const;

/** Those of flow.DropReason that apply here. */
const DROP_REASONS = {
  INVALID_SOURCE_MAC: 130,
  INVALID_DESTINATION_MAC: 131,
  INVALID_SOURCE_IP: 132,
  POLICY_DENIED: 133,
  INVALID_PACKET_DROPPED: 134,
  UNSUPPORTED_L3_PROTOCOL: 139,
  NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION: 165,
  ENCAPSULATION_TRAFFIC_IS_PROHIBITED: 170,
  UNKNOWN_SENDER: 172,
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
  'no-owner': 'UNKNOWN_SENDER',
  encapsulation: 'ENCAPSULATION_TRAFFIC_IS_PROHIBITED',
  'spoofed-neighbour': 'INVALID_SOURCE_IP',
  'next-hop': 'INVALID_DESTINATION_MAC',
  'checksum-offload': 'INVALID_PACKET_DROPPED',
  'out-of-order': 'INVALID_PACKET_DROPPED',
  'unreadable-answer': 'INVALID_PACKET_DROPPED',
  'unreadable-hello': 'INVALID_PACKET_DROPPED',
  'unreadable-request': 'INVALID_PACKET_DROPPED',
  retold: 'INVALID_PACKET_DROPPED',
};

/** The flags of the TCP header, in the order in which Hubble prints them. */
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

type Ways = Pick<FlowEvent, 'type' | 'hook' | 'createdNs' | 'postDnat' | 'inbound' | 'isReply'>;

/**
 * Whether the event is a drop of a packet to the endpoint that belongs to no flow. It is then unknown who opened the
 * flow.
 */
function isLooseDelivery(e: Ways): boolean {
  return e.hook === 'to-pod' && e.createdNs === 0 && !e.postDnat;
}

/** Whether the remote side opened the flow to the endpoint. */
export function isInbound(e: Ways): boolean {
  return e.inbound || isLooseDelivery(e);
}

/**
 * Whether the packet that caused the event left the endpoint; for the end of a flow, whether the endpoint opened it.
 */
export function isOutgoing(e: Ways): boolean {
  if (e.type === 'end') return !e.inbound;
  return e.inbound === e.isReply && !isLooseDelivery(e);
}

/** Whether the packet is a reply; false for the end of a flow, which is about the whole flow. */
export function isReply(e: FlowEvent): boolean {
  return e.isReply && e.type !== 'end';
}

/** EGRESS: opened by the endpoint, whatever the direction of this packet. */
export function direction(e: FlowEvent): DirectionName {
  return isInbound(e) ? 'INGRESS' : 'EGRESS';
}

/** Whether it passed, but would be dropped if the staged policies were enforced. */
export function isAudited(e: Kind): boolean {
  return e.verdict === 'allow' && e.auditVerdict === 'deny';
}

/** Hubble's name of the verdict. */
export function verdictName(e: Kind): VerdictName {
  if (e.type === 'log') return 'TRACED';
  if (e.verdict === 'deny') return 'DROPPED';
  if (isAudited(e)) return 'AUDIT';
  return e.verdict === 'none' ? 'VERDICT_UNKNOWN' : 'FORWARDED';
}

/** POLICY_DENIED: nothing allowed it. POLICY_DENY: a rule denied it. undefined: it was not dropped. */
export function dropReason(flow: Flow): DropReasonName | undefined {
  const { event, rule } = flow;
  if (event.verdict !== 'deny') return undefined;
  return DROPPED_FOR[event.reason] ?? (rule && rule.index !== DEFAULT_RULE ? 'POLICY_DENY' : 'POLICY_DENIED');
}

/** 5: policy verdict, 1: drop, 4: trace, 129: layer 7. */
export function eventType(e: Pick<Kind, 'type'>): number {
  if (e.type === 'drop') return EVENT_DROP;
  if (e.type === 'dns' || e.type === 'said') return EVENT_L7;
  return e.type === 'verdict' || e.type === 'changed' ? EVENT_POLICY_VERDICT : EVENT_TRACE;
}

/** The subtype that clients name: of a drop its reason, of a trace its place. */
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

/** Whether messages have port fields for the protocol: TCP, UDP, SCTP. */
export function hasPortFields(e: FlowEvent): boolean {
  return hasPorts(e.protocol);
}

/** ICMP type and code of this packet: those of the request, or of the answer to it (RFC 792, RFC 4443). */
export function icmpType(e: FlowEvent): { type: number; code: number } {
  const type = e.remotePort >> 8;
  if (!isReply(e)) return { type, code: e.remotePort & 255 };
  const answer = e.protocol === 58 ? type + 1 : type === 8 ? 0 : type + 1;
  return { type: answer, code: 0 };
}

/** The properties by which Hubble identifies a party. */
export interface PartyTerms {
  identity: number;
  /** `source:key=value` */
  labels: string[];
}

const HOST_TERMS: PartyTerms = { identity: HOST, labels: ['reserved:host'] };
const REMOTE_NODE_TERMS: PartyTerms = { identity: REMOTE_NODE, labels: ['reserved:remote-node'] };
const WORLD_TERMS: PartyTerms = { identity: WORLD, labels: ['reserved:world'] };

/** Cache by the labels' object, which all flows of a pod share. */
const known = new WeakMap<object, PartyTerms & { of: string }>();

/** The terms of a party. Shared by all its flows, so the caller must not modify them. */
export function partyTerms(party: Party, nodeName: string): PartyTerms {
  if (party.kind === 'world') return WORLD_TERMS;
  if (party.kind === 'node') return party.node === nodeName ? HOST_TERMS : REMOTE_NODE_TERMS;
  const of = `${party.kind} ${party.namespace}`;
  const found = known.get(party.labels);
  if (found?.of === of) return found;
  const pairs = Object.entries(party.labels).sort(([a], [b]) => (a < b ? -1 : 1));
  const made = {
    of,
    // The same labels have the same identity on every node.
    identity: FIRST_IDENTITY + (PLAIN_IDS.of(JSON.stringify([of, pairs])) % (IDENTITIES - FIRST_IDENTITY)),
    labels: [...pairs.map(([k, v]) => `k8s:${k}=${v}`), `k8s:io.kubernetes.pod.namespace=${party.namespace}`],
  };
  known.set(party.labels, made);
  return made;
}
