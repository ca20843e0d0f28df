/** Nouns of the fuzzer of flows: who sends what, and what a sequence is made of. */

export const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];
export const [ICMP, TCP, UDP, GRE, ICMPV6, SCTP] = [1, 6, 17, 47, 58, 132];

/** `web` is under a policy, `api` now and then, `db` never; so is the node now and then. `out` is everybody beyond the uplink. */
export type Actor = 'web' | 'api' | 'db' | 'node' | 'out';

/** As on the wire. ICMP echo: the identifier is `sport`, type × 256 + code is `dport`. */
export interface Tuple {
  readonly protocol: number;
  readonly src: string;
  readonly sport: number;
  readonly to: string;
  readonly dport: number;
}

/** One packet as its maker sends it, before any translation. */
export interface Segment extends Tuple {
  /** Who makes it; whether `src` is an address of its own is its affair. */
  readonly from: Actor;
  readonly flags?: number;
  /** SCTP: it begins with an INIT chunk. */
  readonly init?: boolean;
  readonly fragment?: { readonly id: number; readonly offset: number };
  /** An ICMP error: the tuple of the packet that it quotes, as it came to who sends the error. */
  readonly about?: Tuple;
  /** Which backend is chosen, should one have to be. */
  readonly pick: number;
}

export interface WorldSpec {
  /** NetworkPolicy egress rules; undefined: no policy. */
  readonly web: readonly object[];
  readonly api?: readonly object[];
  /** CIDRs that the node may send to; undefined: no policy. */
  readonly node?: readonly string[];
  /** Backends of the two Services. */
  readonly backends: readonly (readonly string[])[];
  /** kube-proxy masquerades what goes to Services; the node masquerades what pods send beyond it. */
  readonly masquerade: { readonly services: boolean; readonly outside: boolean };
}

export type Memory = 'flows' | 'fragments' | 'pending' | 'conntrack';

export type Step =
  | { readonly do: 'world'; readonly world: WorldSpec }
  | { readonly do: 'send'; readonly segment: Segment }
  | { readonly do: 'forget'; readonly what: Memory };

export const key = ({ protocol, src, sport, to, dport }: Tuple) => `${protocol} ${src} ${sport} ${to} ${dport}`;
/** The other way. What ICMP has in place of ports is the same in both. */
export const turned = ({ protocol, src, sport, to, dport }: Tuple): Tuple =>
  protocol === ICMP || protocol === ICMPV6
    ? { protocol, src: to, sport, to: src, dport }
    : { protocol, src: to, sport: dport, to: src, dport: sport };
export const hasPorts = (protocol: number) => [TCP, UDP, SCTP].includes(protocol);
export const isV6 = (address: string) => address.includes(':');
