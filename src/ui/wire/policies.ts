/**
 * What the policies board and the editor are told. A module of types: server and browser share it. A policy's id is its
 * name as rules have it: `np/shop/web`, `gnp/platform.internet`. Times are milliseconds since 1970.
 */
import type { Party } from './messages.js';

export interface BoardPolicy {
  readonly id: string;
  readonly kind: string;
  /** Empty: of the whole cluster. */
  readonly namespace: string;
  readonly name: string;
  readonly dialect: string;
  readonly staged: boolean;
  /** It has errors: what they concern allows nothing. */
  readonly refused: boolean;
  /** Pods that it selects. */
  readonly pods: number;
  readonly rules: number;
  /** Since when it has its content, as far as the agent knows. */
  readonly sinceMs?: number;
  /** The first of its errors. */
  readonly fault?: { readonly field: string; readonly message: string };
  readonly warnings: number;
  /** Its pods, rules and numbers are left out: it is of the whole cluster, which this viewer may not see. */
  readonly hidden?: true;
}

export interface BoardTier {
  readonly name: string;
  /** What becomes of packets of pods that its policies select, and none of them decides: deny, pass, allow. */
  readonly defaultAction: string;
  /** Ids, in the order in which they are judged. */
  readonly policies: readonly string[];
}

/** `policies`: all that may be seen, without their texts. */
export interface PoliciesAnswer {
  /** In the order in which they are judged. */
  readonly tiers: readonly BoardTier[];
  /** Those of tiers, each once, and those that have no rules for egress. */
  readonly policies: readonly BoardPolicy[];
}

/** What a policy has decided in the window: connections that it allowed, denied and passed on; of all days, when last. */
export type Hits = readonly [allowed: number, denied: number, passed: number, wouldDeny: number, lastMs: number];

/** `activity`, of a window. */
export interface ActivityAnswer {
  /** By policy; no entry: nothing, as long as there are records, or that of a policy that is `hidden`. */
  readonly hits: Readonly<Record<string, Hits>>;
  /** Since when there are records. */
  readonly beganMs?: number;
  readonly unavailable: readonly string[];
  readonly nowMs: number;
}

export interface RuleHits {
  /** `np/shop/web#0` */
  readonly rule: string;
  /** Its own name; empty: it has none. */
  readonly title: string;
  readonly action: string;
  readonly connections: number;
  readonly drops: number;
  readonly days: number;
  readonly lastMs?: number;
}

/** A problem of a text, and where it is there. */
export interface TextProblem {
  readonly severity: string;
  readonly object: string;
  readonly field: string;
  readonly message: string;
  readonly hint: string;
  /** Offsets in the text, UTF-16; absent: the text does not show where. */
  readonly from?: number;
  readonly to?: number;
}

/** `policy`: one, with its rules and its text. Hits are of all days. */
export interface PolicyAnswer extends BoardPolicy {
  readonly apiVersion: string;
  readonly tiers: readonly string[];
  /** Absent: it is too long. */
  readonly yaml?: string;
  readonly ruleHits: readonly RuleHits[];
  /** Connections that earlier contents of it decided. */
  readonly earlier: number;
  /** Whom it would have denied, the most frequent first. */
  readonly wouldDeny: readonly { readonly workload: string; readonly connections: number }[];
  readonly problems: readonly TextProblem[];
  /** Since when there are records. */
  readonly beganMs?: number;
}

/** A flow that was seen, and whose verdict changes. */
export interface FlowChange {
  readonly source: Party;
  readonly destination: Party;
  readonly service: string;
  readonly port: number;
  readonly protocol: number;
  readonly connections: number;
  readonly lastMs: number;
  /** allow, deny, partial, unknown */
  readonly was: string;
  readonly is: string;
  readonly wasRule: string;
  readonly isRule: string;
}

/** Some of all that a change opens or closes, seen or not. */
export interface ReachChange {
  /** Pods: `shop/web-1`. */
  readonly senders: readonly string[];
  readonly to: readonly string[];
  readonly ports: string;
  /** Under what condition, in words: names, queries, what a connection says. Empty: always. */
  readonly when: string;
  readonly was: string;
  readonly is: string;
  readonly wasRule: string;
  readonly isRule: string;
}

/** `preview` of a text. */
export interface PreviewAnswer {
  /** How many flows were judged, how many change, and how many cannot be judged: their pods are gone. */
  readonly judged: number;
  readonly opened: number;
  readonly closed: number;
  readonly unknown: number;
  /** There are more changes than these. */
  readonly more: boolean;
  readonly flows: readonly FlowChange[];
  readonly reach: readonly ReachChange[];
  readonly reachLeftOut: number;
  /** Pods that were compared. */
  readonly pods: number;
  readonly problems: readonly TextProblem[];
  /** The text is of a staged policy: it is judged as if it were in force. */
  readonly asEnforced: boolean;
}

export const STEPS = ['stage', 'enforce', 'undo'] as const;
export type Step = (typeof STEPS)[number];

/** `step` {policy, step, dryRun, force, days} */
export interface StepAnswer {
  /** What became of the policy, as a sentence without its subject. */
  readonly says: string;
  /** `annotate NetworkPolicy shop/web`. None: it was so already. */
  readonly changes: readonly string[];
  readonly warnings: readonly string[];
  readonly impact?: ImpactAnswer;
  readonly impactError?: string;
  /** It is not ready to be enforced: nothing was written. */
  readonly refused: boolean;
  /** Why the Event could not be written; the step was made nevertheless. */
  readonly eventError?: string;
}

/** `impact` {policy, days} */
export interface ImpactAnswer {
  readonly stage: string;
  readonly since: string;
  readonly windowSeconds: number;
  readonly connections: number;
  readonly judged: number;
  /** What is missing until it is ready, as sentences. */
  readonly missing: readonly string[];
  readonly denied: readonly {
    readonly workload: string;
    readonly connections: number;
    readonly flows: readonly {
      readonly destination: string;
      readonly port: number;
      readonly protocol: string;
      readonly connections: number;
    }[];
  }[];
}

/** `apply` {yaml, as, resourceVersion, dryRun} */
export interface ApplyAnswer {
  readonly changes: readonly string[];
  readonly warnings: readonly string[];
  readonly resourceVersion?: string;
  readonly eventError?: string;
}

/** `read` {policy}: as the cluster has it now, to be edited. */
export interface ReadAnswer {
  readonly text: string;
  readonly resourceVersion: string;
}
