/**
 * The Image: the desired content of all maps, a plain value. It prints the
 * same everywhere, needs no kernel, and simulate() judges packets by it alone.
 *
 * Ids are 53-bit hashes of content (see ids.ts): the same policies give the same
 * ids in every process, so a restarted agent finds its maps already right.
 */
import type { RuleRef } from '../ir/types.js';

/** Bit n of a set: one rule as the kernel sees it. */
export interface SetRule {
  /** Rule id: names the RuleRef. Several bits may share one (named ports). */
  readonly id: number;
  readonly action: 'allow' | 'deny' | 'pass' | 'log';
  /** First bit of the next tier. */
  readonly tierEnd: number;
  readonly staged: boolean;
  readonly log: boolean;
  /** Atoms (ids) of which a destination class must have one; null: any destination. */
  readonly atoms: readonly number[] | null;
  /** Or destination classes of which one of these says yes; absent: none. */
  readonly exprs?: readonly AtomExpr[];
  /** Matches the endpoint's own addresses too. */
  readonly self: boolean;
  /** null: every protocol and port. `lo`..`hi` inclusive; protocol null: any. */
  readonly ports: readonly PortRange[] | null;
}

/** A predicate on a class: it has this atom; all, one, none of these hold. */
export type AtomExpr =
  | number
  | { readonly all: readonly AtomExpr[] }
  | { readonly some: readonly AtomExpr[] }
  | { readonly not: AtomExpr };

export interface PortRange {
  readonly protocol: number | null;
  readonly lo: number;
  readonly hi: number;
}

/** An ordered list of rules, shared by all endpoints to which the same rules apply. */
export interface PolicySet {
  readonly id: number;
  readonly rules: readonly SetRule[];
  /** More than 512 rules. */
  readonly large: boolean;
  /** Has staged rules, also such that can match nothing: verdicts carry an audit. */
  readonly staged: boolean;
}

/** LPM content for IPv4. Parallel arrays, sorted by key. */
export interface Destinations4 {
  /** address × 64 + prefix length. */
  readonly keys: Float64Array;
  /** Class id; 0 where an `except` leaves a hole in a covering prefix. */
  readonly classes: Float64Array;
}

/** LPM content for IPv6, sorted by key. */
export interface Destinations6 {
  /** 32 hex digits of the address, `/`, prefix length in three digits. */
  readonly keys: readonly string[];
  readonly classes: Float64Array;
}

export interface ImageService {
  /** Canonical text of the Service address. */
  readonly ip: string;
  readonly port: number;
  readonly protocol: number;
  /** One for each kind of backend, in order. Empty with `many`. */
  readonly backends: readonly { ip: string; port: number }[];
  readonly many: boolean;
}

export interface Image {
  readonly sets: ReadonlyMap<number, PolicySet>;
  /** Class id → its atoms, ascending. */
  readonly classes: ReadonlyMap<number, readonly number[]>;
  readonly destinations4: Destinations4;
  readonly destinations6: Destinations6;
  /** By `ip|port|protocol`. */
  readonly services: ReadonlyMap<string, ImageService>;
  /** Endpoint key (`namespace/name` of a local pod) → set id; 0: no policy selects it. */
  readonly endpoints: ReadonlyMap<string, number>;
  /** Rule id → what it is called. */
  readonly rules: ReadonlyMap<number, RuleRef>;
  /** Endpoints whose set was refused, and why; the agent keeps their last complete set. */
  readonly refused: ReadonlyMap<string, string>;
}

/** A packet as the three engines judge it: the first of its flow, from a local pod. */
export interface Packet {
  /** `namespace/name` of the sending pod. */
  readonly from: string;
  /** Destination address, canonical text. */
  readonly to: string;
  /** IANA number. */
  readonly protocol: number;
  /** Destination port; for ICMP type × 256 + code; 0 where the protocol has none. */
  readonly port: number;
  /** A later fragment whose first is unknown: its ports cannot be seen. */
  readonly fragment?: boolean;
}

/** What all three engines answer. */
export interface Verdict {
  readonly verdict: 'allow' | 'deny' | 'partial';
  /** Id of the deciding rule; 0 where no rule decided. */
  readonly rule: number;
  /** With the staged rules in force; absent where the set has none. */
  readonly audit?: { readonly verdict: 'allow' | 'deny'; readonly rule: number };
  /** Ids of the Log rules passed on the way, in order. */
  readonly logged: readonly number[];
}
