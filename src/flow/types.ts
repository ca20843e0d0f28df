/** Flows on their way up: bytes → FlowEvent → Flow. */
import type { RuleRef } from '../ir/types.js';

export type EventType = 'verdict' | 'changed' | 'drop' | 'end' | 'log';
export type FlowVerdict = 'none' | 'allow' | 'deny' | 'partial';
export type Hook = 'from-pod' | 'to-pod' | 'uplink';

/** struct ea_event, decoded: plain values, nothing looked up yet. Names follow bpf/types.h. */
export interface FlowEvent {
  /** Nanoseconds of CLOCK_MONOTONIC. */
  timeNs: number;
  type: EventType;
  verdict: FlowVerdict;
  auditVerdict: FlowVerdict;
  /** enum ea_reason, lower case with dashes: `rule`, `no-policy`, `spoofed-address` … */
  reason: string;
  hook: Hook;
  rule: number;
  auditRule: number;
  set: number;
  endpoint: number;
  ifindex: number;
  family: 0 | 4 | 6;
  /** Canonical text; empty where family is 0. The endpoint's own side. */
  local: string;
  remote: string;
  localPort: number;
  /** ICMP: type × 256 + code of the request. */
  remotePort: number;
  protocol: number;
  /** Opened to the endpoint. */
  inbound: boolean;
  secondLook: boolean;
  /** The packet travels towards the side that opened the flow. */
  isReply: boolean;
  /** Service address before the translation (second look), or empty. */
  service: string;
  servicePort: number;
  tcpFlags: number;
  packetsOut: number;
  bytesOut: number;
  packetsIn: number;
  bytesIn: number;
  /** Packets that this event stands for as dropped. */
  drops: number;
  createdNs: number;
  length: number;
  ethertype: number;
  macSource: string;
  macDestination: string;
}

/** One side of a flow, as far as the snapshot knows it. */
export interface Party {
  ip: string;
  /** 0 where the protocol has none. */
  port: number;
  kind: 'pod' | 'node' | 'service' | 'world';
  namespace: string;
  pod: string;
  labels: Readonly<Record<string, string>>;
  workload?: { kind: string; name: string };
  node?: string;
}

/** A flow as users see it: attributed, named, with wall-clock time. Immutable; shared by all subscribers. */
export interface Flow {
  uuid: string;
  /** Wall clock, nanoseconds since 1970. */
  timeNs: bigint;
  event: FlowEvent;
  /** Who sent the packet that caused the event; for end events, who opened the flow. */
  source: Party;
  destination: Party;
  /** Service that the destination address belongs to (or the address before translation). */
  service?: { namespace: string; name: string };
  /** The deciding rule; absent where no rule decided or its policy is gone and unknown. */
  rule?: RuleRef;
  auditRule?: RuleRef;
  nodeName: string;
}

/** The second kernel crossing. */
export interface EventSource {
  /** Hands over all events that are there now; returns how many. Never blocks. */
  drain(deliver: (e: FlowEvent) => void, max?: number): number;
  /** Losses by CPU since the programs were loaded. */
  lost(): number[];
  close(): void;
}
