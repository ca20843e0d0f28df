/**
 * The types of the messages in proto/, as @grpc/proto-loader reads and writes them with the options in load.ts: field
 * names as in the files, 64-bit integers as decimal text, enums by name, absent fields absent.
 */

/** Input type of a 64-bit integer. In decoded messages it is text. */
export type Uint64 = string | number;

export interface Timestamp {
  seconds: Uint64;
  nanos: number;
}

export type VerdictName =
  | 'VERDICT_UNKNOWN'
  | 'FORWARDED'
  | 'DROPPED'
  | 'ERROR'
  | 'AUDIT'
  | 'REDIRECTED'
  | 'TRACED'
  | 'TRANSLATED';

export type DirectionName = 'TRAFFIC_DIRECTION_UNKNOWN' | 'INGRESS' | 'EGRESS';

export interface TcpFlags {
  FIN?: boolean;
  SYN?: boolean;
  RST?: boolean;
  PSH?: boolean;
  ACK?: boolean;
  URG?: boolean;
  ECE?: boolean;
  CWR?: boolean;
  NS?: boolean;
}

export interface Layer4 {
  TCP?: { source_port?: number; destination_port?: number; flags?: TcpFlags };
  UDP?: { source_port?: number; destination_port?: number };
  SCTP?: { source_port?: number; destination_port?: number };
  ICMPv4?: { type?: number; code?: number };
  ICMPv6?: { type?: number; code?: number };
}

export interface Layer7 {
  type?: 'UNKNOWN_L7_TYPE' | 'REQUEST' | 'RESPONSE' | 'SAMPLE';
  latency_ns?: Uint64;
  dns?: {
    query?: string;
    ips?: string[];
    ttl?: number;
    cnames?: string[];
    observation_source?: string;
    rcode?: number;
    qtypes?: string[];
    rrtypes?: string[];
  };
  http?: { code?: number; method?: string; url?: string; protocol?: string; headers?: HttpHeaderMessage[] };
}

export interface HttpHeaderMessage {
  key: string;
  value: string;
}

export interface HubbleEndpoint {
  ID?: number;
  identity?: number;
  namespace?: string;
  labels?: string[];
  pod_name?: string;
  workloads?: { name: string; kind: string }[];
  cluster_name?: string;
}

export interface HubblePolicy {
  name: string;
  namespace?: string;
  labels?: string[];
  revision?: Uint64;
  kind?: string;
}

export interface HubbleFlow {
  time?: Timestamp;
  verdict?: VerdictName;
  ethernet?: { source?: string; destination?: string };
  IP?: { source?: string; destination?: string; ipVersion?: 'IP_NOT_USED' | 'IPv4' | 'IPv6' };
  l4?: Layer4;
  source?: HubbleEndpoint;
  destination?: HubbleEndpoint;
  Type?: 'UNKNOWN_TYPE' | 'L3_L4' | 'L7';
  node_name?: string;
  source_names?: string[];
  destination_names?: string[];
  l7?: Layer7;
  event_type?: { type?: number; sub_type?: number };
  source_service?: { name: string; namespace: string };
  destination_service?: { name: string; namespace: string };
  traffic_direction?: DirectionName;
  policy_match_type?: number;
  drop_reason_desc?: string;
  is_reply?: { value: boolean };
  interface?: { index: number; name?: string };
  uuid?: string;
  egress_allowed_by?: HubblePolicy[];
  ingress_allowed_by?: HubblePolicy[];
  egress_denied_by?: HubblePolicy[];
  ingress_denied_by?: HubblePolicy[];
  policy_log?: string[];
  Summary?: string;
}

export interface FlowFilter {
  source_ip?: string[];
  source_pod?: string[];
  destination_ip?: string[];
  destination_pod?: string[];
  verdict?: VerdictName[];
  event_type?: { type?: number; match_sub_type?: boolean; sub_type?: number }[];
  source_fqdn?: string[];
  destination_fqdn?: string[];
  http_status_code?: string[];
  source_label?: string[];
  destination_label?: string[];
  protocol?: string[];
  source_port?: string[];
  destination_port?: string[];
  reply?: boolean[];
  source_service?: string[];
  destination_service?: string[];
  dns_query?: string[];
  source_identity?: number[];
  destination_identity?: number[];
  http_method?: string[];
  http_path?: string[];
  tcp_flags?: TcpFlags[];
  node_name?: string[];
  ip_version?: ('IP_NOT_USED' | 'IPv4' | 'IPv6')[];
  source_workload?: { name?: string; kind?: string }[];
  destination_workload?: { name?: string; kind?: string }[];
  uuid?: string[];
  traffic_direction?: DirectionName[];
  drop_reason_desc?: string[];
  node_labels?: string[];
  http_url?: string[];
  server_name?: string[];
}

export interface GetFlowsRequest {
  number?: Uint64;
  follow?: boolean;
  blacklist?: FlowFilter[];
  whitelist?: FlowFilter[];
  since?: Timestamp;
  until?: Timestamp;
  first?: boolean;
  field_mask?: { paths?: string[] };
}

export interface SampleFlowsRequest {
  whitelist?: FlowFilter[];
  blacklist?: FlowFilter[];
  per_second?: number;
  last?: number;
}

export interface SampleFlowsResponse {
  records?: FlowRecord[];
  seen?: Uint64;
  lost?: Uint64;
  unavailable_nodes?: string[];
  past?: boolean;
}

export interface LostEvent {
  source: 'UNKNOWN_LOST_EVENT_SOURCE' | 'PERF_EVENT_RING_BUFFER' | 'OBSERVER_EVENTS_QUEUE' | 'HUBBLE_RING_BUFFER';
  num_events_lost: Uint64;
  cpu?: { value: number };
  first?: Timestamp;
  last?: Timestamp;
}

export interface NodeStatusEvent {
  state_change: string;
  node_names: string[];
  message?: string;
}

export interface GetFlowsResponse {
  flow?: HubbleFlow;
  node_status?: NodeStatusEvent;
  lost_events?: LostEvent;
  node_name?: string;
  time?: Timestamp;
}

export interface RuleMessage {
  text: string;
  kind: string;
  namespace: string;
  name: string;
  index: number;
  staged: boolean;
  rule_name?: string;
  /** Of edges and policy objects only. */
  dialect?: string;
  tier?: string;
  action?: string;
}

export interface FlowRecord {
  flow: HubbleFlow;
  event: string;
  rule?: RuleMessage;
  audit_rule?: RuleMessage;
  audit_verdict?: string;
  reason: string;
  packets_out?: Uint64;
  bytes_out?: Uint64;
  packets_in?: Uint64;
  bytes_in?: Uint64;
  drops?: Uint64;
  duration_ns?: Uint64;
  hook: string;
  inbound?: boolean;
  service_ip?: string;
  service_port?: number;
  endpoint?: number;
  verdict: string;
  said?: SaidMessage;
}

export interface SaidMessage {
  kind: string;
  server_name?: string;
  method?: string;
  host?: string;
  path?: string;
  learned?: boolean;
  cut?: boolean;
}

/** The response of egress.v1. */
export interface GetRecordsResponse {
  record?: FlowRecord;
  node_status?: NodeStatusEvent;
  lost_events?: LostEvent;
  lost_pod?: string;
  node_name?: string;
  time?: Timestamp;
}

export interface ExplainRequest {
  from: string;
  to: string;
  port?: number;
  protocol?: number;
  dns_query?: string;
  said?: SaidInput;
}

/** `server_name` may be empty: a hello that names none. */
export interface SaidInput {
  server_name?: string;
  http?: { method?: string; host?: string; path?: string; headers?: HttpHeaderMessage[] };
}

export interface ExplainResponse {
  json: string;
  verdict: string;
}

export interface NamesRequest {
  pod?: string;
  name?: string;
  ip?: string;
  limit?: number;
}

export interface LearnedNameMessage {
  pod?: string;
  name?: string;
  asked?: boolean;
  seeded?: boolean;
  learned_at?: Timestamp;
  answered_at?: Timestamp;
  expires_at?: Timestamp;
  resolver?: string;
  addresses?: { ip: string; alias?: boolean; expires_at?: Timestamp; ttl?: number }[];
  rules?: RuleMessage[];
  node_name?: string;
}

export interface NamesResponse {
  names?: LearnedNameMessage[];
  more?: boolean;
  unavailable_nodes?: string[];
}

export interface ServerStatusResponse {
  num_flows?: Uint64;
  max_flows?: Uint64;
  seen_flows?: Uint64;
  uptime_ns?: Uint64;
  num_connected_nodes?: { value: number };
  num_unavailable_nodes?: { value: number };
  unavailable_nodes?: string[];
  version?: string;
  flows_rate?: number;
}

export interface GetNodesResponse {
  nodes?: {
    name: string;
    version?: string;
    address?: string;
    state?: string;
    tls?: { enabled?: boolean; server_name?: string };
    uptime_ns?: Uint64;
    num_flows?: Uint64;
    max_flows?: Uint64;
    seen_flows?: Uint64;
  }[];
}

export interface GetNamespacesResponse {
  namespaces?: { cluster?: string; namespace: string }[];
}
