/** The types of the messages about edges and policies in proto/egress, as messages.ts has those of the others. */
import type { RuleMessage, Timestamp, Uint64 } from './messages.js';
import type { ProblemMessage } from './status.js';

export interface EdgePartyMessage {
  kind?: string;
  namespace?: string;
  workload_kind?: string;
  name?: string;
}

export interface EdgeMessage {
  id?: Uint64;
  source?: EdgePartyMessage;
  destination?: EdgePartyMessage;
  inbound?: boolean;
  service?: string;
  service_port?: number;
  port?: number;
  protocol?: number;
  verdict?: string;
  audit_verdict?: string;
  reason?: string;
  rule?: RuleMessage;
  audit_rule?: RuleMessage;
  generation?: Uint64;
  audit_generation?: Uint64;
  address?: string;
}

export interface EdgesRequest {
  follow?: boolean;
  interval_ms?: number;
  since?: Timestamp;
  until?: Timestamp;
  namespaces?: string[];
  workload?: string;
  limit?: number;
  verdicts?: string[];
  live?: boolean;
}

/** The rows of an EdgesResponse or of an EdgeRows, as columns. */
export interface RowColumns {
  day?: number[];
  first_ms?: Uint64[];
  last_ms?: Uint64[];
  connections?: Uint64[];
  bytes?: Uint64[];
  drops?: Uint64[];
  hours?: number[];
}

export interface EdgesResponse extends RowColumns {
  ledger?: Uint64;
  node_name?: string;
  began_at?: Timestamp;
  overflow?: Uint64;
  edges?: EdgeMessage[];
  id?: Uint64[];
  caught_up?: boolean;
  more?: boolean;
  unavailable_nodes?: string[];
  gone_ledgers?: Uint64[];
  parts?: EdgesResponse[];
}

export interface ActivityRequest {
  since?: Timestamp;
  namespaces?: string[];
}

export interface RuleActivityMessage {
  rule?: RuleMessage;
  generation?: Uint64;
  connections?: Uint64;
  bytes?: Uint64;
  drops?: Uint64;
  first_at?: Timestamp;
  last_at?: Timestamp;
  days?: number;
  audit?: boolean;
}

export interface WouldDenyMessage {
  rule?: RuleMessage;
  generation?: Uint64;
  edge?: EdgeMessage;
  connections?: Uint64;
  last_at?: Timestamp;
}

export interface ActivityResponse {
  rules?: RuleActivityMessage[];
  would_deny?: WouldDenyMessage[];
  began_at?: Timestamp;
  unavailable_nodes?: string[];
}

export interface PolicyObjectsRequest {
  namespaces?: string[];
}

export interface PolicyObjectMessage {
  kind?: string;
  api_version?: string;
  namespace?: string;
  name?: string;
  dialect?: string;
  tier?: string;
  tier_order?: number;
  tier_default?: string;
  place?: number;
  staged?: boolean;
  state?: string;
  problems?: ProblemMessage[];
  pods?: number;
  rules?: RuleMessage[];
  generation?: Uint64;
  since?: Timestamp;
  yaml?: string;
  supporting?: boolean;
}

export interface PolicyObjectsResponse {
  objects?: PolicyObjectMessage[];
}

export interface EdgeRowsMessage extends RowColumns {
  edge?: EdgeMessage;
}

export interface PreviewRequest {
  manifests?: string;
  deleted?: string[];
  evidence?: EdgeRowsMessage[];
  enforce_staged?: boolean;
  limit?: number;
}

export interface EdgeChangeMessage {
  edge?: EdgeMessage;
  connections?: Uint64;
  last_at?: Timestamp;
  was?: string;
  is?: string;
  was_rule?: string;
  is_rule?: string;
}

export interface PreviewResponse {
  edges?: EdgeChangeMessage[];
  judged?: number;
  opened?: number;
  closed?: number;
  unknown?: number;
  diff?: string;
  problems?: ProblemMessage[];
  more?: boolean;
}

export interface RecommendRequest {
  workloads?: string[];
  namespaces?: string[];
  dialect?: string;
  evidence?: EdgeRowsMessage[];
  options?: string;
}

export interface RecommendResponse {
  json?: string;
  yaml?: string;
}

export interface HistoryResponse {
  place?: string;
  days?: number;
  oldest_day?: number;
  edges?: Uint64;
  bytes?: Uint64;
  rows_written?: Uint64;
  rows_lost?: Uint64;
  lost_at?: Timestamp;
  rows_early?: Uint64;
  rows_late?: Uint64;
  days_lost?: Uint64;
  failing_since?: Timestamp;
  error?: string;
  keeps_flows?: boolean;
  flows_written?: Uint64;
  flows_lost?: Uint64;
}

export interface HistoryFlowsRequest {
  since?: Timestamp;
  until?: Timestamp;
  namespaces?: string[];
  limit?: number;
}
