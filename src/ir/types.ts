/**
 * The intermediate representation (IR). Every dialect is translated to it, and evaluate(), compile() and explain() read
 * nothing else. Frozen plain data.
 */
import type { LabelExpr, Peer, WorkloadMatch } from './peers.js';

/** The effect of a matching rule. `pass` continues with the next tier, `log` with the next rule. */
export type Action = 'allow' | 'deny' | 'pass' | 'log';

/** A reference to the object that the user wrote. */
export interface PolicyRef {
  /** `networkpolicy`, `clusternetworkpolicy`, `calico`, `cilium`, `fqdn`. */
  dialect: string;
  /** Kind in the API, unchanged: `NetworkPolicy`. */
  kind: string;
  /** Absent for cluster-wide objects. */
  namespace?: string;
  name: string;
  labels?: Readonly<Record<string, string>>;
}

/** How a refused DNS query is answered: with an error, as a name that does not exist, or as one without records. */
export const DNS_REFUSALS = ['refused', 'nxdomain', 'nodata'] as const;
export type DnsRefusal = (typeof DNS_REFUSALS)[number];

/** Identifies a rule for people. Every flow carries one. */
export interface RuleRef {
  policy: PolicyRef;
  /** Index in the policy's egress list; DEFAULT_RULE or IMPLICIT_RULE for rules that nobody wrote. */
  index: number;
  /** The rule's own name, if the dialect has names. */
  name?: string;
  /** The tier in which it was judged. */
  tier: string;
  staged: boolean;
  action: Action;
}

/** RuleRef.index of a tier's default, which applies if the policy isolates and no rule of the tier matched. */
export const DEFAULT_RULE = -1;
/** RuleRef.index of traffic that a dialect always allows (own node, the pod itself). */
export const IMPLICIT_RULE = -2;

/**
 * A predicate on protocol and port. `protocol` is the IANA number, or null for any. `ports` are inclusive ranges, or
 * absent for all ports; for ICMP and ICMPv6 a port is type × 256 + code. `named` is a port name that each destination
 * pod resolves. `service` is a Service: it matches the ports on which the destination is a backend of that Service,
 * each in its protocol. A rule with `service` has no other kind of PortMatch and no `self` peer.
 */
export interface PortMatch {
  readonly protocol: number | null;
  readonly ports?: readonly (readonly [number, number])[];
  readonly named?: string;
  /**
   * Excludes the ports to which the destination pod gives one of these names. Needs a protocol; cannot be combined with
   * `named` or `service`. Does not match fragments, like ranges.
   */
  readonly notNamed?: readonly string[];
  readonly service?: { readonly namespace: string; readonly name: string };
}

/**
 * An HTTP/1 request. Fields are RE2 texts that must match all of the request's field, case-sensitively; those that are
 * present must all match.
 */
export interface HttpMatch {
  readonly method?: string;
  /** Of the path as sent, with its query. */
  readonly path?: string;
  /** Of the host as sent, with its port. */
  readonly host?: string;
  readonly headers?: readonly HttpHeader[];
}

/** A header of a request. Several lines of one name are one value, joined by commas. */
export interface HttpHeader {
  /** In lower case. */
  readonly name: string;
  /** Absent: any value, if there is one. */
  readonly value?: string;
  /** The header must be absent, or have another value. */
  readonly not?: true;
}

export interface Rule {
  readonly ref: RuleRef;
  readonly action: Action;
  /** Any of these peers; null: every destination. An empty list matches nothing. */
  readonly peers: readonly Peer[] | null;
  /** Any of these port matches; null: every protocol and port. An empty list matches nothing. */
  readonly ports: readonly PortMatch[] | null;
  /**
   * If present, the rule matches only DNS queries, each for itself, whose name matches any of these patterns
   * (canonical text, see src/names/pattern.ts). What is no query on such a connection (a handshake) passes.
   */
  readonly queries?: readonly string[];
  /**
   * If present, the rule matches only connections whose TLS or QUIC hello names a server that matches any of these
   * patterns (canonical text).
   */
  readonly serverNames?: readonly string[];
  /** If present, the rule matches only HTTP/1 requests that any of these match. With `serverNames`: either of both. */
  readonly http?: readonly HttpMatch[];
  /** Where it asks what a connection says, no hello of QUIC matches; absent: as one of TLS. */
  readonly quic?: 'reject';
  /** Log the packet even if the rule also decides. */
  readonly log?: boolean;
  /** How a DNS query that it denies is answered. Set where rules are put in order, from their policies: see refusing(). */
  readonly dnsRefusal?: DnsRefusal;
}

export interface IrPolicy {
  readonly ref: PolicyRef;
  /** The local workloads that the policy governs. */
  readonly subject: WorkloadMatch;
  /**
   * If present, the policy governs the traffic of nodes with these labels themselves. Its subject then selects no
   * workload.
   */
  readonly nodes?: LabelExpr;
  readonly rules: readonly Rule[];
  /**
   * Whether the policy brings its tier's default into force for the pods that it selects. If false, only its rules
   * apply. Default: true.
   */
  readonly isolates?: boolean;
  /**
   * Traffic that the dialect always allows where it isolates. Judged after the rules of all policies, before the tier's
   * default.
   */
  readonly implicit?: readonly Rule[];
  /** Staged: the verdict is computed and reported, but not enforced. */
  readonly staged: boolean;
  /** How DNS queries that it refuses are answered; absent: as the agent's option says. */
  readonly dnsRefusal?: DnsRefusal;
}

export interface Tier {
  readonly name: string;
  readonly order: number;
  /** In order of precedence. */
  readonly policies: readonly IrPolicy[];
  /** Applies to endpoints that one of the tier's policies selects, after all of the policies' rules. */
  readonly defaultAction: 'deny' | 'pass';
}

/** The implicit rules of the policies that isolate, each once. */
export function implicitRules(isolating: readonly IrPolicy[]): ReadonlySet<Rule> {
  return new Set(isolating.flatMap((policy) => policy.implicit ?? []));
}

/** A policy's rule that says how a DNS query that it denies is answered. */
export function refusing(rule: Rule, refusal: DnsRefusal | undefined): Rule {
  return rule.action === 'deny' && refusal !== undefined ? { ...rule, dnsRefusal: refusal } : rule;
}

/**
 * How the default of a tier answers a DNS query that it denies: as the first of the policies says that isolate and say
 * anything. @param isolating in order of precedence @param staged whether the default is a staged one
 */
export function defaultRefusal(isolating: readonly IrPolicy[], staged: boolean): DnsRefusal | undefined {
  return isolating.find((policy) => policy.staged === staged && policy.dnsRefusal !== undefined)?.dnsRefusal;
}

/** Tiers in order of precedence. */
export interface Ir {
  readonly tiers: readonly Tier[];
}
