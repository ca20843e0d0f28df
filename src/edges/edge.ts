/**
 * An edge: who talks to whom, through what, and which rule said so. The ledger of an agent counts edges, the history
 * keeps them for weeks; recommendation, activity and the web UI read nothing else.
 */
import { createHash } from 'node:crypto';
import type { RuleRef } from '../ir/types.js';
import { formatRule } from '../ir/names.js';

/** Milliseconds of a day; days are those of UTC. */
export const DAY_MS = 86_400_000;

/** Number of days that are kept. */
export const KEPT_DAYS = 35;

/**
 * What an end of an edge is. `workload`: pods of one controller, or a pod without one. `node`: what a node itself
 * sends or gets, hostNetwork pods too. `name`: an address outside of the cluster, by the DNS name under which the pod
 * learned it. `address`: one without a name. `service`: the address of a Service whose backend is not known (denied
 * before its translation). `other`: addresses that found no room of their own.
 */
export type PartyKind = 'workload' | 'node' | 'name' | 'address' | 'service' | 'other';

export interface EdgeParty {
  readonly kind: PartyKind;
  /** Of workloads and Services; otherwise empty. */
  readonly namespace: string;
  /** Of workloads: `Deployment`, `DaemonSet`, …, `Pod` without a controller; otherwise empty. */
  readonly workloadKind: string;
  /** Name of the workload, node or Service; DNS name; canonical address; empty for `other`. */
  readonly name: string;
}

/** A rule as an edge names it. */
export interface EdgeRule {
  readonly ref: RuleRef;
  /**
   * Identifies the content of the rule's policy, whatever its annotations say: an edited policy has another number.
   * 53 bits; 0: unknown.
   */
  readonly generation: number;
}

export interface Edge {
  /**
   * 53 bits of a hash of everything below but `address`: nearly always the same on every node, see edgeId().
   */
  readonly id: number;
  readonly source: EdgeParty;
  readonly destination: EdgeParty;
  /** Opened from outside of the cluster, or by a node, to a pod. Edges between pods are counted where they begin. */
  readonly inbound: boolean;
  /** `namespace/name` of the Service through which it went; empty: none. */
  readonly service: string;
  /** The Service's port; 0: none. */
  readonly servicePort: number;
  /** Port of the destination, behind the Service; ICMP: type × 256 + code; 0: the protocol has none. */
  readonly port: number;
  /** IANA protocol number. */
  readonly protocol: number;
  readonly verdict: 'allow' | 'deny' | 'partial' | 'none';
  /** The verdict if staged policies were enforced; `none`: no staged policy was looked at. */
  readonly auditVerdict: 'allow' | 'deny' | 'partial' | 'none';
  /** `rule`, `no-policy`, `reply`, `spoofed-address` …: see docs/operations.md. */
  readonly reason: string;
  readonly rule?: EdgeRule;
  readonly auditRule?: EdgeRule;
  /** The address that was met last; not part of the id. Empty: none. */
  readonly address: string;
}

/** What one ledger saw of an edge on one day. Numbers only grow, and a later row of the same day replaces it. */
export interface DayRow {
  /** Days since 1970-01-01, UTC. */
  readonly day: number;
  /** Milliseconds since 1970. */
  readonly firstMs: number;
  readonly lastMs: number;
  readonly connections: number;
  /** In both directions, of connections that have ended. */
  readonly bytes: number;
  /** Dropped packets. */
  readonly drops: number;
  /** Bit n: seen in hour n of the day, UTC. */
  readonly hours: number;
}

/** An edge with its days, ascending. What several ledgers saw is summed. */
export interface EdgeHistory {
  readonly edge: Edge;
  readonly days: readonly DayRow[];
}

export const NOBODY: EdgeParty = { kind: 'other', namespace: '', workloadKind: '', name: '' };

function partyText(p: EdgeParty): unknown[] {
  return [p.kind, p.namespace, p.workloadKind, p.name];
}

function ruleParts(rule: EdgeRule | undefined): unknown[] {
  if (rule === undefined) return [];
  const { policy, index, tier, staged, action, name } = rule.ref;
  const { dialect, kind, namespace, name: policyName } = policy;
  return [dialect, kind, namespace ?? '', policyName, index, tier, staged, action, name ?? '', rule.generation];
}

type Ends = Pick<Edge, 'inbound' | 'source' | 'destination'>;

/** Whether it stands for edges without room; or for packets without addresses, which are as few. */
export function isRest({ inbound, source, destination }: Ends): boolean {
  return (inbound ? source : destination).kind === 'other';
}

/** The end at this node. */
export function ownParty({ inbound, source, destination }: Ends): Edge['source'] {
  return inbound ? destination : source;
}

/** Whose share an edge takes: that of the pods at this node's end. */
export function sourceKey(edge: Ends): string {
  const own = ownParty(edge);
  return `${own.kind} ${own.namespace} ${own.workloadKind} ${own.name}`;
}

/** All that makes an edge what it is, as one text: all fields but the id and the address. */
export function edgeText(edge: Omit<Edge, 'id' | 'address'>): string {
  return JSON.stringify([
    partyText(edge.source),
    partyText(edge.destination),
    edge.inbound,
    edge.service,
    edge.servicePort,
    edge.port,
    edge.protocol,
    edge.verdict,
    edge.auditVerdict,
    edge.reason,
    ruleParts(edge.rule),
    ruleParts(edge.auditRule),
  ]);
}

/**
 * The id of an edge. A pod chooses names and addresses, so it can find two of its own edges with
 * one id, and hide one behind the other: whoever keeps edges by their ids compares their texts, and gives the second one the id of the next attempt.
 * @param attempt 0 first
 */
export function edgeId(text: string, attempt = 0): number {
  return hash53(attempt === 0 ? text : `${attempt} ${text}`);
}

/** 53 bits of a SHA-256: a number that JavaScript holds exactly. */
export function hash53(text: string): number {
  const digest = createHash('sha256').update(text).digest();
  return digest.readUIntBE(0, 6) * 32 + ((digest[6] as number) >> 3);
}

/** `shop/web` for workloads and Services, `node NAME`, a DNS name, an address, or `other`. */
export function partyName(p: EdgeParty): string {
  switch (p.kind) {
    case 'workload':
      return `${p.namespace}/${p.name}`;
    case 'service':
      return `svc ${p.namespace}/${p.name}`;
    case 'node':
      return `node ${p.name}`;
    case 'other':
      return 'other';
    default:
      return p.name;
  }
}

/** The rule of an edge for people: `np/shop/web#2`; empty: none. */
export function edgeRuleText(rule: EdgeRule | undefined): string {
  return rule === undefined ? '' : formatRule(rule.ref);
}

/** The day of a time. @param ms milliseconds since 1970 */
export function dayOf(ms: number): number {
  return Math.floor(ms / DAY_MS);
}

/** Adds up what several ledgers saw of one edge on one day. */
export function sumDays(a: DayRow, b: DayRow): DayRow {
  return {
    day: a.day,
    firstMs: Math.min(a.firstMs, b.firstMs),
    lastMs: Math.max(a.lastMs, b.lastMs),
    connections: a.connections + b.connections,
    bytes: a.bytes + b.bytes,
    drops: a.drops + b.drops,
    hours: a.hours | b.hours,
  };
}
