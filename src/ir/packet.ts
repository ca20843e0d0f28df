/** The input and the output of the three engines: evaluate(IR), simulate(Image) and the kernel. */
import type { Said } from '../said/said.js';

export type { Said, SaidRequest } from '../said/said.js';

/** A packet as the engines judge it: the first packet of a flow from a local pod. */
export interface Packet {
  /** The sending pod, as `namespace/name`. */
  readonly from: string;
  /** Destination address, canonical text. */
  readonly to: string;
  /** IANA protocol number. */
  readonly protocol: number;
  /** Destination port; type × 256 + code for ICMP; 0 if the protocol has no ports. */
  readonly port: number;
  /** A later fragment without a known first fragment: its ports are unknown. */
  readonly fragment?: boolean;
  /** The packet is a DNS query for this name (lower case, without the final dot). */
  readonly query?: string;
  /** What its connection says of itself. Absent: nothing yet, for TCP; otherwise it is neither a hello nor a request. */
  readonly said?: Said;
}

/** A name under which an endpoint learned an address. */
export interface LearnedName {
  /** Lower case, without the final dot. */
  readonly name: string;
  /** The endpoint asked for another name; this one is the target of a CNAME in the answer. */
  readonly alias?: true;
}

/** What endpoints learned from DNS answers: endpoint (`namespace/name`) → address (canonical text) → its names. */
export type Learned = ReadonlyMap<string, ReadonlyMap<string, readonly LearnedName[]>>;

/** The answer of all three engines. */
export interface Verdict {
  readonly verdict: 'allow' | 'deny' | 'partial';
  /** Id of the deciding rule; 0 if no rule decided. */
  readonly rule: number;
  /** The verdict if staged rules were enforced; absent if the set has none. */
  readonly audit?: { readonly verdict: 'allow' | 'deny'; readonly rule: number };
  /** Ids of the Log rules that matched before the verdict, in order. */
  readonly logged: readonly number[];
}

/** Whether the same rules lead to the same verdict, in force and staged. */
export function sameDecision(a: Verdict, b: Verdict): boolean {
  return a.verdict === b.verdict && a.rule === b.rule && (a.audit?.rule ?? 0) === (b.audit?.rule ?? 0);
}

/**
 * The verdict on the handshake of a connection that depends on what it will say: it passes if anything that it says may,
 * and so for the audit. Of one that passes nothing is logged before it has said something.
 * @param plain if it says nothing
 * @param met if it says what every rule asks for
 * @param opening if it says what every rule asks for that does not deny
 */
export function handshakeOf(plain: Verdict, met: Verdict, opening: () => Verdict): Verdict {
  let best = plain;
  if (plain.verdict === 'deny' && met.rule !== plain.rule) {
    best = met;
    const open = met.verdict === 'deny' ? opening() : met;
    if (open.verdict !== 'deny') best = open;
  }
  if (best.verdict === 'deny') return best;
  const audit = plain.audit?.verdict === 'deny' ? met.audit : plain.audit;
  return { verdict: best.verdict, rule: best.rule, logged: [], ...(audit ? { audit } : {}) };
}
