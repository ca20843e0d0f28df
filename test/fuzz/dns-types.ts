/** Nouns of the fuzzer of DNS: who asks whom, what answers, and what a sequence is made of. */

export const PODS = ['default/web', 'default/api'] as const;
export type Pod = (typeof PODS)[number];

/** Resolvers that are trusted, at port 53; the last one is not. */
export const SERVERS = ['10.96.0.10', '192.0.2.53', '2001:db8::53', '198.51.100.53'] as const;
export const TRUSTED: readonly string[] = SERVERS.slice(0, 3);

export interface Question {
  readonly name: string;
  readonly type: number;
  readonly class: number;
}

/** One query, by whose number answers and later steps refer to it. */
export interface Ask extends Question {
  readonly do: 'ask';
  readonly ask: number;
  readonly pod: Pod;
  readonly server: string;
  readonly port: number;
  readonly sport: number;
  readonly id: number;
  /** Over TCP; `cut`: its segment is cut in two there. */
  readonly tcp: boolean;
  readonly cut: number;
}

/** A record of an answer: an address, or a CNAME. */
export interface Answered {
  readonly owner: string;
  readonly ttl: number;
  readonly class: number;
  readonly address?: string;
  readonly target?: string;
}

/** What comes as the answer to a query; each field beside the first ones is where it differs from a right one. */
export interface Answer {
  readonly do: 'answer';
  readonly ask: number;
  readonly records: readonly Answered[];
  /** Of TCP: its segment is cut in two there. */
  readonly cut: number;
  readonly id?: number;
  readonly source?: string;
  readonly sport?: number;
  readonly dport?: number;
  readonly question?: Question;
  /** To the other pod. */
  readonly to?: Pod;
  readonly flags?: number;
}

export type DnsStep =
  | Ask
  | Answer
  /** Seconds pass. */
  | { readonly do: 'wait'; readonly seconds: number }
  /** The agent frees what has expired. */
  | { readonly do: 'sweep' }
  /** A connection; `hold`: it stays open until it is let go. */
  | { readonly do: 'flow'; readonly pod: Pod; readonly to: string; readonly sport: number; readonly hold: boolean }
  | { readonly do: 'close'; readonly pod: Pod; readonly to: string; readonly sport: number };

/** Shortest life of what is learned, and what is added to its TTL; seconds. */
export const TTL_MIN = 10;
export const TTL_EXTRA = 30;
