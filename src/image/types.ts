/**
 * The Image: the desired content of all maps, as a plain value. It prints the same everywhere and needs no kernel;
 * simulate() judges packets by it alone.
 *
 * Ids are hashes of content under the node's key (see src/ids.ts): the same policies give the same ids in every
 * process, so a restarted agent finds its maps already right.
 */
import type { DnsRefusal, HttpMatch, PolicyRef, RuleRef } from '../ir/types.js';
import type { TunnelTable } from '../net/tunnels.js';

/** Bit n of a set: one rule in the form of the kernel. */
export interface SetRule {
  /** Rule id, which identifies the RuleRef. Several bits may share one (named ports). */
  readonly id: number;
  readonly action: 'allow' | 'deny' | 'pass' | 'log';
  /** First bit of the next tier. */
  readonly tierEnd: number;
  readonly staged: boolean;
  readonly log: boolean;
  /** Matches a destination class with any of these atoms; null: any destination. */
  readonly atoms: readonly string[] | null;
  /** Also matches destination classes for which any of these expressions holds; absent: none. */
  readonly exprs?: readonly AtomExpr[];
  /** Whether it also matches the endpoint's own addresses. */
  readonly self: boolean;
  /** null: every protocol and port. `lo`..`hi` are inclusive; protocol null: any. */
  readonly ports: readonly PortRange[] | null;
  /**
   * Atoms of patterns (src/names/pattern.ts), ascending; absent: it does not ask for a name. It matches an address that
   * the endpoint learned for a name with any of them, if everything else matches too.
   */
  readonly names?: readonly string[];
  /** The same for the name in a DNS query; absent: it does not ask what the packet is. */
  readonly queries?: readonly string[];
  /** What it asks of what a connection says; absent: nothing. */
  readonly said?: SaidMatch;
  /** It counts for the verdict only, not for the audit. */
  readonly unaudited?: true;
  /** It allows queries, and names its servers: their answers teach names. */
  readonly teaches?: true;
  /** How a DNS query that it denies is answered; absent: as the agent's option says. */
  readonly dnsRefusal?: DnsRefusal;
}

/**
 * A predicate on what a connection says.
 * - A hello that names a server matches by `servers`.
 * - A request to a host matches by `hosts`, if there are any, and by `request`, if there is one.
 * - What names nobody matches if `silent`; a request also if no hosts are asked for.
 * - A hello of QUIC matches as one of TLS, or never with `noQuic`.
 */
export interface SaidMatch {
  /** Atoms of patterns, ascending. */
  readonly servers?: readonly string[];
  readonly hosts?: readonly string[];
  readonly silent?: true;
  readonly request?: HttpMatch;
  readonly noQuic?: true;
}

/** A predicate on a destination class: it has an atom, or all, any or none of some expressions hold. */
export type AtomExpr =
  | string
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
  /** Hash of the whole content (contentName): two sets with the same name are the same set. */
  readonly name: string;
  readonly rules: readonly SetRule[];
  /** Whether it has more than 512 rules. */
  readonly large: boolean;
  /** Whether it has staged rules, including rules that match nothing. Verdicts then carry an audit verdict. */
  readonly staged: boolean;
  /** Whether any rule asks for learned names (EA_SET_NAMES). */
  readonly names: boolean;
  /** Whether any rule asks for the names in DNS queries (EA_SET_QUERIES). */
  readonly queries: boolean;
  /** Whether any rule asks what a connection says (EA_SET_SAYS). */
  readonly says: boolean;
}

/** LPM content for IPv4. Parallel arrays, sorted by key. */
export interface Destinations4 {
  /** address × 64 + prefix length. */
  readonly keys: Float64Array;
  /** Class id; 0 for a hole that an `except` makes in a covering prefix. */
  readonly classes: Float64Array;
}

/** LPM content for IPv6, sorted by key. */
export interface Destinations6 {
  /** 32 hex digits of the address, `/`, and the prefix length in three digits. */
  readonly keys: readonly string[];
  readonly classes: Float64Array;
}

export interface ImageBackend {
  readonly ip: string;
  readonly port: number;
  /** Set for an address of this node: packets that are translated to it reach no further hook. */
  readonly own?: true;
}

export interface ImageService {
  /** Canonical text of the Service address. */
  readonly ip: string;
  readonly port: number;
  readonly protocol: number;
  /** One backend for each kind, in order. With `many`, only those on this node. */
  readonly backends: readonly ImageBackend[];
  readonly many: boolean;
}

/**
 * `own`: an address of the Image's node. `other`: an address of another node, or a broadcast address of a network of
 * this node.
 */
export type NodeAddress = 'own' | 'other';

/** The reason why an endpoint does not have the set of its policies. */
export interface Refusal {
  readonly reason: string;
  readonly policies: readonly PolicyRef[];
}

export interface Image {
  readonly sets: ReadonlyMap<number, PolicySet>;
  /** Class id → its atoms, ascending. */
  readonly classes: ReadonlyMap<number, readonly string[]>;
  readonly destinations4: Destinations4;
  readonly destinations6: Destinations6;
  /** By `ip|port|protocol`. */
  readonly services: ReadonlyMap<string, ImageService>;
  /** Addresses of nodes, canonical text. */
  readonly nodes: ReadonlyMap<string, NodeAddress>;
  /** The tunnels of the nodes: no policy lets a pod send such packets to a node. */
  readonly tunnels: TunnelTable;
  /** Endpoint key (`namespace/name` of a local pod) → set id; 0: no policy selects it. */
  readonly endpoints: ReadonlyMap<string, number>;
  /** Rule id → the rule's reference. */
  readonly rules: ReadonlyMap<number, RuleRef>;
  /** Endpoints whose set was refused. They keep their last complete set. */
  readonly refused: ReadonlyMap<string, Refusal>;
  /** Services without an entry in `services`, with the reasons. Their addresses are judged like any others. */
  readonly refusedServices: ReadonlyMap<string, string>;
}
