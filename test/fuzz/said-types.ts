/** What a pod and a server do on one connection whose verdict depends on what it says. Bytes are in hexadecimal. */

/** A segment of the pod's. Places count the bytes of the stream from its first one, wherever a SYN began it anew. */
export interface SaidSend {
  readonly do: 'send';
  readonly at: number;
  readonly bytes: string;
  readonly flags: number;
  /** Its checksum is wrong by this. */
  readonly sum?: number;
  /** What passes of it is lost on its way: its TTL was too small, or its server had no room for it. */
  readonly lost?: true;
  /** It must pass as it is, since it is what a client does that means well. */
  readonly must?: true;
}

export type SaidStep =
  /** Another connection, under the rules of this number, about this protocol. */
  | { readonly do: 'connect'; readonly rules: number }
  | SaidSend
  /** The server acknowledges what it has. */
  | { readonly do: 'acknowledge' }
  /** What it says. `retry`: a HelloRetryRequest. */
  | { readonly do: 'answer'; readonly bytes: string; readonly retry?: true }
  /** The pod sends what its server still waits for, in order, as one that means well; all of it must arrive. */
  | { readonly do: 'finish'; readonly stream: string; readonly size: number };

export interface WrongSaid {
  readonly steps: readonly SaidStep[];
  /** What arrived that must not, or did not that must. */
  readonly wrong: string;
  /** The first bytes of the stream as the server has it. */
  readonly stream: string;
}
