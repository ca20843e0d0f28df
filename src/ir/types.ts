/**
 * The one intermediate representation: every dialect is turned into this, and
 * evaluate(), compile() and explain read nothing else. Frozen plain data.
 */
import type { LabelExpr, Peer, WorkloadMatch } from './peers.js';

/** What a matching rule does. Pass goes on with the next tier, Log goes on with the next rule. */
export type Action = 'allow' | 'deny' | 'pass' | 'log';

/** The object a user wrote. */
export interface PolicyRef {
  /** `networkpolicy`, `clusternetworkpolicy`, `calico`, `cilium`, `fqdn`. */
  dialect: string;
  /** API kind, shown unchanged: `NetworkPolicy`. */
  kind: string;
  /** Absent for cluster-wide objects. */
  namespace?: string;
  name: string;
  labels?: Readonly<Record<string, string>>;
}

/** Names a rule for people: what every flow carries. */
export interface RuleRef {
  policy: PolicyRef;
  /** Index in the policy's egress list; DEFAULT_RULE or IMPLICIT_RULE for rules nobody wrote. */
  index: number;
  /** The rule's own name, where the dialect has one. */
  name?: string;
  /** The tier it was judged in. */
  tier: string;
  staged: boolean;
  action: Action;
}

/** RuleRef.index of a tier's default: the policy isolates, no rule of the tier matched. */
export const DEFAULT_RULE = -1;
/** RuleRef.index of what a dialect always allows (own node, itself). */
export const IMPLICIT_RULE = -2;

/**
 * What a rule says of protocol and port. `protocol` is the IANA number, null for
 * any. `ports` are inclusive ranges, absent for all; for ICMP and ICMPv6 a port is
 * type × 256 + code. `named` is a port name that each destination pod resolves.
 * `service` is a Service: the ports on which the destination stands behind it, each in its
 * protocol; its rule has no other kind of PortMatch, and no `self` peer.
 */
export interface PortMatch {
  readonly protocol: number | null;
  readonly ports?: readonly (readonly [number, number])[];
  readonly named?: string;
  /** But no port that the destination pod calls so; with a protocol, and not beside `named` or `service`. Sees ports, as ranges do. */
  readonly notNamed?: readonly string[];
  readonly service?: { readonly namespace: string; readonly name: string };
}

export interface Rule {
  readonly ref: RuleRef;
  readonly action: Action;
  /** OR of peers; null: every destination. An empty list matches nothing. */
  readonly peers: readonly Peer[] | null;
  /** OR of port matches; null: every protocol and port. An empty list matches nothing. */
  readonly ports: readonly PortMatch[] | null;
  /** Log the packet although the rule also decides. */
  readonly log?: boolean;
}

export interface IrPolicy {
  readonly ref: PolicyRef;
  /** Which local workloads it governs. */
  readonly subject: WorkloadMatch;
  /** It governs what nodes with these labels send themselves, and no workload: its subject selects none. */
  readonly nodes?: LabelExpr;
  readonly rules: readonly Rule[];
  /** Brings its tier's default into force for the pods that it selects; without it only its rules count. Default: true. */
  readonly isolates?: boolean;
  /** What its language always allows where it isolates: judged after the rules of all policies, before the tier's default. */
  readonly implicit?: readonly Rule[];
  /** Staged: computed beside the real verdict, never in force. */
  readonly staged: boolean;
}

export interface Tier {
  readonly name: string;
  readonly order: number;
  /** In order of precedence. */
  readonly policies: readonly IrPolicy[];
  /** For endpoints that one of the tier's policies selects, after all of their rules. */
  readonly defaultAction: 'deny' | 'pass';
}

/** Implicit rules of the policies that isolate, each once. */
export function implicitRules(isolating: readonly IrPolicy[]): ReadonlySet<Rule> {
  return new Set(isolating.flatMap((policy) => policy.implicit ?? []));
}

/** Tiers in order of precedence. */
export interface Ir {
  readonly tiers: readonly Tier[];
}
