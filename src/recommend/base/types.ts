/** What is asked of a recommendation, and what it says: plain data, as JSON has it. */
import type { Language } from './names.js';

/** A block that is said to belong together: addresses in it are recommended as the whole of it. */
export interface Network {
  readonly name: string;
  /** Canonical text. */
  readonly cidr: string;
}

/** Ports that are said to belong together. */
export interface PortRange {
  readonly lo: number;
  readonly hi: number;
  /** IANA protocol number. */
  readonly protocol: number;
}

export interface RecommendOptions {
  readonly language: Language;
  /** `namespace/name`; absent: all workloads of the namespaces. */
  readonly workloads?: readonly string[];
  /** Absent: all but `kube-…`. */
  readonly namespaces?: readonly string[];
  /** Workloads `namespace/name` that are left out. */
  readonly except?: readonly string[];
  /** The window, milliseconds since 1970. Absent: from the first to the last day of the evidence. */
  readonly sinceMs?: number;
  readonly untilMs?: number;
  /** Since when somebody looked, milliseconds since 1970: of the window, days without evidence count from then. */
  readonly beganMs?: number;
  /** Days on which something must have been seen to be recommended. */
  readonly minDays: number;
  /** Share of the window's days that is held out, to see what a policy of the others would have missed. */
  readonly holdOut: number;
  readonly networks: readonly Network[];
  readonly ranges: readonly PortRange[];
  /** Blocks of the cluster's pods and nodes: an address in them that nobody has is one of a pod that is gone. */
  readonly clusterCidrs: readonly string[];
  /** Recommend what was denied, too. */
  readonly withDenied: boolean;
  /** What is left out although it was seen, and what is recommended although it would be left out: see needName(). */
  readonly without?: readonly string[];
  readonly also?: readonly string[];
  /** For a list of workloads: no policies are written, and nothing is replayed. */
  readonly brief?: boolean;
  /** Addresses of DNS servers of nodes, beyond those that the evidence and the snapshot show. */
  readonly resolvers: readonly string[];
}

/** Why something that was seen is not recommended. */
export type LeftOutWhy =
  | 'one-off' // on fewer days than asked for
  | 'scan' // one of many, all at once
  | 'unanswered' // nobody answered, or the answer was a refusal
  | 'denied' // never learned, unless asked for
  | 'many-ports' // many ports of one peer: ask for a range
  | 'many-peers' // many addresses or names on one port: ask for a network
  | 'gone' // its pods are not there any more
  | 'other' // found no room of its own in the ledger
  | 'unwanted' // by whoever asked
  | 'unsayable'; // the language has no way to say it

export interface LeftOut {
  /** `shop/api`, `api.example.com`, `203.0.113.7`, … */
  readonly to: string;
  /** `443/tcp`, `icmp 8/0` */
  readonly port: string;
  readonly why: LeftOutWhy;
  readonly connections: number;
  readonly drops: number;
  readonly days: number;
  /** `2026-11-29` */
  readonly last: string;
  /** What to do about it, where there is something. */
  readonly hint?: string;
}

/** What stands behind a part of a rule. */
export interface RuleEvidence {
  readonly to: string;
  /** IANA protocol number. */
  readonly protocol: number;
  readonly port: string;
  readonly connections: number;
  readonly bytes: number;
  /** Days on which it was seen, of those of the window. */
  readonly days: number;
  readonly of: number;
  readonly first: string;
  readonly last: string;
  /** It was seen first in the last days of the window: somebody should know why. */
  readonly isNew: boolean;
  /** It was denied, and is recommended since that was asked for. */
  readonly denied: boolean;
}

export interface RecommendedRule {
  /** For people: `shop/api`, `DNS of kube-system/kube-dns`, `network office 10.1.0.0/16`. */
  readonly to: string;
  /** `8080/tcp` … */
  readonly ports: readonly string[];
  readonly evidence: readonly RuleEvidence[];
  /** What the rule allows beyond its evidence. */
  readonly beyond: readonly string[];
}

/** An edge that the recommended policies decide otherwise than those in force. */
export interface EdgeChange {
  readonly to: string;
  readonly port: string;
  readonly was: string;
  readonly is: string;
  readonly connections: number;
  /** Why it is not allowed, where it was left out. */
  readonly why?: LeftOutWhy;
}

export interface Replay {
  /** Edges that were judged, before and after. */
  readonly edges: number;
  /** Of them, those that change from allowed to denied, and the other way round. */
  readonly closed: readonly EdgeChange[];
  readonly opened: readonly EdgeChange[];
  /** Lists above that were cut. */
  readonly more: number;
  /** Edges that cannot be judged: their pods are gone, or they found no room of their own. */
  readonly unknown: number;
  /** Everything that the policies open although those in force deny it, seen or not. */
  readonly beyond: readonly string[];
  /** What a policy of the first days would have denied of the others. */
  readonly misses: readonly string[];
  /** Days that were learned from, and days that were held out. */
  readonly learnedDays: number;
  readonly heldOutDays: number;
  /** What lint says of the policies. */
  readonly findings: readonly string[];
}

export interface WorkloadRecommendation {
  /** `namespace/name` */
  readonly workload: string;
  readonly kind: string;
  readonly state: 'stable' | 'learning';
  /** Why it is not stable; for stable ones, what makes it so. */
  readonly reason: string;
  /** Why there is no policy, although one was asked for. */
  readonly refused?: string;
  /** Days on which the workload was seen, of those of the window. */
  readonly days: number;
  readonly of: number;
  readonly rules: readonly RecommendedRule[];
  readonly leftOut: readonly LeftOut[];
  /** Number of those that are not listed. */
  readonly leftOutMore: number;
  readonly warnings: readonly string[];
  /** Policies in force that select its pods: none, and everything is allowed. */
  readonly policies: number;
  /** The staged objects, and the same as YAML with their evidence. */
  readonly objects: readonly Readonly<Record<string, unknown>>[];
  readonly yaml: string;
  readonly replay: Replay;
}

export interface Recommendation {
  readonly language: Language;
  /** The first and the last day: `2026-11-01`. */
  readonly since: string;
  readonly until: string;
  readonly days: number;
  readonly workloads: readonly WorkloadRecommendation[];
  readonly warnings: readonly string[];
}
