/** The agent's state as callers see it: plain data, made anew for each query. */
import type { EdgeFeed } from '../edges/query.js';
import type { PolicyView } from './ask/policies.js';
import type { Problem } from '../errors.js';
import type { Snapshot } from '../identity/snapshot.js';
import type { Explanation } from '../explain/explain.js';
import type { Said } from '../ir/packet.js';
import type { RuleRef } from '../ir/types.js';
import type { NameExplanation } from '../named/explain-name.js';

export interface EndpointStatus {
  /** `namespace/name` of a pod, or `node/<interface>` of an uplink. */
  pod: string;
  uid: string;
  interface: string;
  ifindex: number;
  /** Attached hooks, such as `tcx ingress`. */
  hooks: string[];
  /**
   * `enforced`: a policy selects it. `observed`: hooks are attached, no policy selects it. `missing`: a hook is not
   * attached.
   */
  state: 'enforced' | 'observed' | 'missing';
  /** Number of policies that select it. */
  policies: number;
  /** Id of its policy set; 0 for none. */
  set: number;
  /**
   * Number of connections that were open when this agent attached its hooks, without evidence that a peer opened them.
   * Their packets are judged.
   */
  unproven: number;
  /** Number of events lost in the kernel's ring since this agent started. */
  lostEvents: number;
  /** Number of its entries in the flow table. */
  flows: number;
  /** Number of names that it has learned. */
  names: number;
  /** Number of its names and addresses that found no room, and of answers to it that were not trusted. */
  namesRefused: number;
  answersUntrusted: number;
}

export interface PolicyStatus {
  kind: string;
  /** Empty for cluster-wide policies. */
  namespace: string;
  name: string;
  state: 'in-force' | 'refused';
  problems: Problem[];
}

/** Usage of the flow table. Counters are since the programs were first loaded. */
export interface FlowRoomView {
  /** Number of entries that each endpoint may have, independently of others. */
  share: number;
  /** Number of flows that found no room. Each of their packets is judged anew. */
  notStored: number;
  /**
   * Number of flows that were evicted by others of their endpoint, or by those of an endpoint that is below its share.
   */
  evicted: number;
  /** Number of lost changes of a flow, because other CPUs held it for too long. */
  busy: number;
}

/** What pods learned of names. Counters are since the programs were first loaded. */
export interface NamesStatus {
  names: number;
  pages: number;
  /** Number of names, and of pages, that each endpoint may have, independently of others. */
  share: number;
  pageShare: number;
  /** Number of names and addresses that found no room. */
  refused: number;
  /** Number of addresses with more names than there is room for. */
  overflow: number;
  /** Number of answers of others than the trusted resolvers, or that nobody asked for. */
  untrusted: number;
  /** Number of addresses that the agent has resolved for pods that ran before it. */
  seeded: number;
  resolvers: { ip: string; port: number; source: string }[];
  /** Resolvers that pods use although they are not trusted, and those whose answers did not count; some of them. */
  seen: { ip: string; port: number; pod: string; asked: number; untrusted: number }[];
  /** Number of reports of DNS messages for which there was no room. */
  dnsEventsLost: number;
}

/** What connections say, where rules ask for it. Counters are since the programs were first loaded. */
export interface SaidStatus {
  /** Number of connections that were inspected. */
  inspected: number;
  /** Number of hellos and requests that were judged, and of those that were denied. */
  judged: number;
  denied: number;
  /** Number of connections that have not said yet what decides about them. */
  pending: number;
  /** Number of hellos and heads of requests that are larger than is kept. */
  oversize: number;
  /** Number of segments and datagrams that were dropped since no buffer was free. */
  withoutBuffer: number;
  /** Number of configurations of ECH that found no room. */
  echWithoutRoom: number;
  /** Since this agent started: number of those that passed and that the audit verdict denies. */
  audited: number;
  /** Number of reports for which there was no room. */
  eventsLost: number;
}

/** The ledger of edges. */
export interface LedgerStatus {
  /** Since when it counts, milliseconds since 1970. */
  beganMs: number;
  edges: number;
  /** Most edges. */
  max: number;
  /** Number of flows that found no edge of their own since then. */
  overflow: number;
  /** Number of days of edges that were given up for others since this agent started. */
  forgotten: number;
}

export interface AgentStatus {
  version: string;
  nodeName: string;
  /** The source of the policies. */
  mode: 'manifests' | 'cluster';
  source: string;
  pid: number;
  /** Milliseconds since 1970. */
  startedAt: number;
  uptimeNs: number;
  attachMode: 'tcx' | 'tc';
  denyResponse: 'drop' | 'reject';
  endpoints: EndpointStatus[];
  hooks: { attached: number; expected: number; problems: string[] };
  /** Policy objects. Those that are staged are in force too: they are counted, and deny nothing. */
  policies: { inForce: number; staged: number; refused: number; problems: Problem[] };
  /** Epoch of the policies in force. */
  epoch: number;
  maps: { name: string; entries: number; max: number }[];
  flows: { perSecond: number; seen: number; inTable: number } & FlowRoomView;
  /** Number of lost events: in the kernel's ring by CPU, and in readers' queues. */
  lost: { ring: number[]; queue: number };
  /** Number of dropped packets by reason. */
  drops: Record<string, number>;
  /** When the policies in force were applied (milliseconds since 1970), and whether later ones could not be applied. */
  staleness: { appliedAt: number; failingSince?: number; lastError?: string };
  namespaces: number;
  /** The connection to the API server; only in a cluster. */
  cluster?: ClusterView;
  /** Only if the CNI gate is used. */
  gate?: GateView;
  names: NamesStatus;
  said: SaidStatus;
  ledger: LedgerStatus;
  /** Absent: none. */
  exports?: ExportView[];
}

/** An export of flows. Counters are since the agent started. */
export interface ExportView {
  /** Its URL without parameters. */
  target: string;
  /** Number of records that the collector has taken. */
  exported: number;
  /** Number of flows that were lost, by where. */
  lost: Readonly<Partial<Record<string, number>>>;
  /** Number of flows that sampling has left out, and of those that went into sums. */
  leftOut: number;
  summed: number;
  /** How often it went on after a failure. */
  reconnects: number;
  queued: number;
  queuedBytes: number;
  /** Milliseconds since 1970; undefined while it works. */
  failingSince: number | undefined;
  lastError: string | undefined;
}

export interface ClusterView {
  /** Whether every kind has been listed. */
  synced: boolean;
  /** Milliseconds since 1970; undefined while every kind is watched. */
  staleSince: number | undefined;
  error: string | undefined;
  kinds: {
    kind: string;
    objects: number;
    synced: boolean;
    staleSince: number | undefined;
    error: string | undefined;
  }[];
}

export interface GateView {
  installed: boolean;
  file?: string | undefined;
  error?: string | undefined;
  /** Number of pods that are held now. */
  pending: number;
  /** Results for earlier pods. */
  passed: number;
  refused: number;
  timedOut: number;
}

export interface ExplainQuery {
  /** `namespace/name` of a pod. */
  from: string;
  /** Address, `namespace/name` of a pod, or a DNS name. */
  to: string;
  port: number;
  /** IANA protocol number. */
  protocol: number;
  /** The name that the packet asks for, if it is a DNS query. */
  query?: string;
  /** What its connection says; absent: nothing yet. */
  said?: Said;
}

/** Which names to list. What is given is ANDed. */
export interface NamesQuery {
  /** `namespace/name` of a pod. */
  pod?: string | undefined;
  /** As Hubble's filters of names have it: `*` stands for anything. */
  name?: string | undefined;
  ip?: string | undefined;
  limit: number;
}

/** A learned name. Times are in milliseconds since 1970. */
export interface LearnedView {
  /** `namespace/name`, `node/<interface>`; empty if the endpoint is gone. */
  pod: string;
  name: string;
  asked: boolean;
  seeded: boolean;
  learnedAt: number;
  answeredAt: number;
  expiresAt: number;
  /** `ADDRESS:PORT` */
  resolver: string;
  addresses: { ip: string; alias: boolean; expiresAt: number; ttl: number }[];
  /** The rules of policies in force that it serves. */
  rules: RuleRef[];
}

/** The explanation of an address or of a name, with what the sender has learned about it. */
export type AgentExplanation = (Explanation | NameExplanation) & { learned?: LearnedView[] };

export interface AgentView extends PolicyView {
  status(): AgentStatus;
  /** Who talked to whom, as the agent has counted. */
  readonly edges: EdgeFeed;
  /** Explains a verdict. @throws AgentError USAGE if the query names an unknown object */
  explain(query: ExplainQuery): AgentExplanation;
  /** The names that pods have learned. @throws AgentError USAGE if the query is not valid */
  names(query: NamesQuery): Promise<{ names: LearnedView[]; more: boolean }>;
  snapshot(): Snapshot;
  policies(): PolicyStatus[];
}
