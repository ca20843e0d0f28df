/** What the agent lets its callers see of itself: plain data, made anew for each question. */
import type { Problem } from '../errors.js';
import type { Snapshot } from '../identity/snapshot.js';
import type { Explanation } from '../ir/explain.js';

export interface EndpointStatus {
  /** `namespace/name`, or `node/<interface>` of an uplink. */
  pod: string;
  uid: string;
  interface: string;
  ifindex: number;
  /** Hooks in place, e.g. `tcx ingress`. */
  hooks: string[];
  /** `enforced`: a policy selects it. `observed`: hooked, no policy. `missing`: a hook is not in place. */
  state: 'enforced' | 'observed' | 'missing';
  /** Policies that select it. */
  policies: number;
  /** Id of its policy set; 0: none. */
  set: number;
}

export interface PolicyStatus {
  kind: string;
  /** Empty for cluster-wide policies. */
  namespace: string;
  name: string;
  state: 'in-force' | 'refused';
  problems: Problem[];
}

export interface AgentStatus {
  version: string;
  nodeName: string;
  /** Where the policies come from. */
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
  policies: { inForce: number; refused: number; problems: Problem[] };
  /** Policy epoch that packets are judged under. */
  epoch: number;
  maps: { name: string; entries: number; max: number }[];
  flows: { perSecond: number; seen: number; inTable: number };
  /** Events lost: in the kernel's ring by CPU, in readers' queues. */
  lost: { ring: number[]; queue: number };
  /** Dropped packets by reason. */
  drops: Record<string, number>;
  /** Since when (milliseconds since 1970) the policies in force are in force; whether later ones could not be applied. */
  staleness: { appliedAt: number; failingSince?: number; lastError?: string };
  namespaces: number;
  /** How the API server is followed; in a cluster. */
  cluster?: ClusterView;
  /** Where the CNI gate is used. */
  gate?: GateView;
}

export interface ClusterView {
  /** Every kind has been listed. */
  synced: boolean;
  /** Milliseconds since 1970; undefined while every kind is followed. */
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
  /** Pods held now. */
  pending: number;
  /** What became of those before. */
  passed: number;
  refused: number;
  timedOut: number;
}

export interface ExplainQuery {
  /** `namespace/name` of a pod. */
  from: string;
  /** Address, or `namespace/name` of a pod. */
  to: string;
  port: number;
  /** IANA number. */
  protocol: number;
}

export interface AgentView {
  status(): AgentStatus;
  /** @throws AgentError USAGE where the query names what is not there */
  explain(query: ExplainQuery): Explanation;
  snapshot(): Snapshot;
  policies(): PolicyStatus[];
}
