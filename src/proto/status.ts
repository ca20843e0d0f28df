/** The types of the messages about an agent's state in proto/egress, as messages.ts has those of the others. */
import type { Timestamp, Uint64 } from './messages.js';

export interface ProblemMessage {
  severity: string;
  file?: string;
  object?: string;
  field?: string;
  message: string;
  hint?: string;
  text: string;
}

export interface ApiStatusMessage {
  synced?: boolean;
  stale_since?: Timestamp;
  error?: string;
  kinds?: { kind: string; objects?: number | string; synced?: boolean; stale_since?: Timestamp; error?: string }[];
}

export interface GateStatusMessage {
  installed?: boolean;
  file?: string;
  error?: string;
  pending?: number;
  passed?: number | string;
  refused?: number | string;
  timed_out?: number | string;
}

export interface LedgerStatusMessage {
  began_at?: Timestamp;
  edges?: number;
  max?: number;
  overflow?: Uint64;
  forgotten_days?: Uint64;
}

export interface StatusResponse {
  version: string;
  node_name: string;
  mode: string;
  source: string;
  pid: number;
  started_at: Timestamp;
  uptime_ns: Uint64;
  attach_mode: string;
  deny_response: string;
  endpoints?: {
    pod: string;
    uid: string;
    interface: string;
    ifindex: number;
    hooks?: string[];
    state: string;
    policies?: number;
    set?: string;
    unproven?: number;
    lost_events?: Uint64;
    flows?: number;
    names?: number;
    names_refused?: Uint64;
    answers_untrusted?: Uint64;
  }[];
  hooks_attached?: number;
  hooks_expected?: number;
  hook_problems?: string[];
  policies_in_force?: number;
  policies_staged?: number;
  policies_refused?: number;
  problems?: ProblemMessage[];
  epoch?: number;
  maps?: { name: string; entries?: Uint64; max: Uint64 }[];
  flows_per_second?: number;
  flows_seen?: Uint64;
  flows_in_table?: Uint64;
  flow_share?: number;
  flows_not_stored?: Uint64;
  flows_evicted?: Uint64;
  flows_busy?: Uint64;
  lost_in_ring?: Uint64[];
  lost_in_queues?: Uint64;
  drops?: Record<string, Uint64>;
  applied_at?: Timestamp;
  failing_since?: Timestamp;
  last_error?: string;
  namespaces?: number;
  api?: ApiStatusMessage;
  gate?: GateStatusMessage;
  names?: NamesStatusMessage;
  said?: SaidStatusMessage;
  ledger?: LedgerStatusMessage;
  exports?: ExportStatusMessage[];
}

export interface ExportStatusMessage {
  target: string;
  exported?: Uint64;
  lost?: Record<string, Uint64>;
  left_out?: Uint64;
  summed?: Uint64;
  reconnects?: Uint64;
  queued?: Uint64;
  queued_bytes?: Uint64;
  failing_since?: Timestamp;
  last_error?: string;
}

export interface SaidStatusMessage {
  inspected?: Uint64;
  judged?: Uint64;
  denied?: Uint64;
  pending?: number;
  oversize?: Uint64;
  without_buffer?: Uint64;
  ech_without_room?: Uint64;
  audited?: Uint64;
  events_lost?: Uint64;
}

export interface NamesStatusMessage {
  names?: number;
  pages?: number;
  share?: number;
  page_share?: number;
  refused?: Uint64;
  overflow?: Uint64;
  untrusted?: Uint64;
  seeded?: Uint64;
  resolvers?: { address: string; port: number; source: string }[];
  seen?: { address: string; port: number; pod?: string; asked?: Uint64; untrusted?: Uint64 }[];
  dns_events_lost?: Uint64;
}

/** One node of several, with the status that its agent sent, if it answered. */
export interface ClusterNode {
  name: string;
  address?: string;
  /** A NodeState of proto/observer. */
  state: string;
  message?: string;
  status?: StatusResponse;
}

export interface ClusterStatusResponse {
  nodes?: ClusterNode[];
}

export interface PoliciesResponse {
  policies?: { kind: string; namespace?: string; name: string; state: string; problems?: ProblemMessage[] }[];
}
