/** Types of flows on their way up: bytes → FlowEvent → Flow. */
import type { RuleRef } from '../../ir/types.js';

export type EventType = 'verdict' | 'changed' | 'drop' | 'end' | 'log' | 'dns' | 'said';
export type FlowVerdict = 'none' | 'allow' | 'deny' | 'partial';
export type Hook = 'from-pod' | 'to-pod' | 'uplink';

/** A decoded struct ea_event: plain values, without names. The fields are named as in bpf/types.h. */
export interface FlowEvent {
  /** Nanoseconds of CLOCK_MONOTONIC. */
  timeNs: number;
  type: EventType;
  verdict: FlowVerdict;
  auditVerdict: FlowVerdict;
  /** enum ea_reason in lower case with dashes: `rule`, `no-policy`, `spoofed-address` … */
  reason: string;
  hook: Hook;
  rule: number;
  auditRule: number;
  set: number;
  endpoint: number;
  ifindex: number;
  family: 0 | 4 | 6;
  /** The endpoint's own address, canonical text; empty if family is 0. */
  local: string;
  remote: string;
  localPort: number;
  /** ICMP: type × 256 + code of the request. */
  remotePort: number;
  protocol: number;
  /** Whether the flow was opened to the endpoint. */
  inbound: boolean;
  postDnat: boolean;
  /** Whether the packet travels towards the side that opened the flow. */
  isReply: boolean;
  /** Service address before the translation, from the post-DNAT check; or empty. */
  service: string;
  servicePort: number;
  tcpFlags: number;
  packetsOut: number;
  bytesOut: number;
  packetsIn: number;
  bytesIn: number;
  /** Number of dropped packets that this event reports. */
  drops: number;
  createdNs: number;
  length: number;
  ethertype: number;
  macSource: string;
  macDestination: string;
  /** The name by which the endpoint knew the remote address: its slot in `names`, and its incarnation (0: no name). */
  name: number;
  nameIncarnation: number;
}

/** What a DNS query asks for, or what an answer says. */
export interface DnsInfo {
  /** Lower case, without the final dot; `?` for bytes that are not in [-a-z0-9_]. */
  query: string;
  /** False: the message could not be read, and nothing else is known. */
  isRead: boolean;
  /** `A`, `HTTPS`, `TYPE1234` … */
  queryType: string;
  isAnswer: boolean;
  rcode: number;
  ips: string[];
  /** The targets of its CNAMEs. */
  cnames: string[];
  /** The lowest of the addresses, in seconds; 0: no addresses. */
  ttl: number;
  recordTypes: string[];
  /** From the query to the answer; 0: unknown. Some milliseconds exact. */
  latencyNs: number;
}

/** What a connection said of itself: a TLS or QUIC hello, an HTTP/1 request, or something else. Untrusted text. */
export interface SaidInfo {
  kind: 'tls' | 'quic' | 'http' | 'other';
  /** In lower case; empty: none, or none that is a name. */
  serverName: string;
  /** Of an HTTP request; the host as it was sent, with its port, the path with its query. Otherwise empty. */
  method: string;
  host: string;
  path: string;
  /** The kernel reports the beginning of a text that is longer. */
  isCut: boolean;
}

/** One side of a flow, as far as the snapshot knows it. */
export interface Party {
  ip: string;
  /** 0 if the protocol has no ports. */
  port: number;
  kind: 'pod' | 'node' | 'service' | 'world';
  namespace: string;
  pod: string;
  labels: Readonly<Record<string, string>>;
  workload?: { kind: string; name: string };
  node?: string;
}

export interface ServiceRef {
  namespace: string;
  name: string;
}

/** A flow as users see it, with names and wall-clock time. Immutable; shared by all subscribers. */
export interface Flow {
  uuid: string;
  /** Wall clock, nanoseconds since 1970. */
  timeNs: bigint;
  event: FlowEvent;
  /** The sender of the packet that caused the event; for end events, the side that opened the flow. */
  source: Party;
  destination: Party;
  /** The Service of the destination address, or of the address before the translation. */
  service?: ServiceRef;
  /** The deciding rule; absent if no rule decided, or if its policy is deleted and unknown. */
  rule?: RuleRef;
  auditRule?: RuleRef;
  /** The name by which the endpoint knew the address of the source, or of the destination: of its remote side. */
  sourceNames?: readonly string[];
  destinationNames?: readonly string[];
  /** Of a DNS query or answer. */
  dns?: DnsInfo;
  /** Of what a connection said, and whether the endpoint had learned the address by the name in it. */
  said?: SaidInfo;
  isSaidLearned?: boolean;
  nodeName: string;
}

/** The second kernel crossing: the source of events. */
export interface EventSource {
  /** Hands over all available events and returns their number. Never blocks. */
  drain(deliver: (e: FlowEvent) => void, max?: number): number;
  /** Lost events by CPU since the programs were loaded. */
  lost(): number[];
  close(): void;
}
