/**
 * What the flow table is to make of a sequence of packets of one pod, written down plainly: the reference for the programs' state, as
 * evaluate() is for their rules. Services are not in it.
 */
import type { Verdict } from '../../src/ir/packet.js';

export const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];
const [TCP, UDP, ICMP, SCTP, ICMPV6] = [6, 17, 1, 132, 58];

/** One packet between the pod and a peer. */
export interface Segment {
  readonly way: 'out' | 'in';
  readonly protocol: number;
  readonly peer: string;
  /** The pod's port; the identifier of an ICMP message. */
  readonly local: number;
  /** The peer's port; ICMP: type × 256 + code, as on the wire. */
  readonly remote: number;
  /** TCP. */
  readonly flags?: number;
  /** SCTP: the packet begins with an INIT chunk. */
  readonly init?: boolean;
  readonly fragment?: { readonly id: number; readonly offset: number };
  /** The pod gives another's address as its own. */
  readonly spoofed?: boolean;
}

export interface Answer {
  readonly verdict: 'allow' | 'deny';
  /** What user space is told of at once: the kind of event, and what it says. */
  readonly told: readonly string[];
}

interface Flow {
  inbound: boolean;
  verdict: 'allow' | 'deny';
  rule: number;
  epoch: number;
  confirmed: boolean;
  /** Not confirmed, but told of: the pod sends on it. */
  told: boolean;
  /** Packets of the pod's that passed. */
  sent: number;
  answered: boolean;
  finOut: boolean;
  finIn: boolean;
  closed: boolean;
}

interface First {
  readonly segment: Segment;
  readonly verdict: 'allow' | 'deny';
  readonly epoch: number;
}

/** Bytes of the header that a first fragment shows: no later one may write there. */
const HEADER: Readonly<Record<number, number>> = { [TCP]: 20, [UDP]: 8, [SCTP]: 12, [ICMP]: 8, [ICMPV6]: 8 };

const ECHO: Readonly<Record<number, readonly [request: number, reply: number]>> = {
  [ICMP]: [8, 0],
  [ICMPV6]: [128, 129],
};

/** Whether an ICMP message asks, answers, or neither. */
function echo({ protocol, remote }: Segment): 'request' | 'reply' | undefined {
  const [request, reply] = ECHO[protocol] ?? [];
  return remote >> 8 === request ? 'request' : remote >> 8 === reply ? 'reply' : undefined;
}

/** Of both directions: an echo reply has the name of the request. */
export function flowName(s: Segment): string {
  const { protocol, peer, local, remote, way } = s;
  if (!ECHO[protocol]) return `${protocol} ${peer} ${local} ${remote}`;
  const kind = echo(s);
  const opener = (kind === 'reply') === (way === 'out') ? 'peer' : 'pod';
  if (kind) return `${protocol} ${peer} ${local} echo of ${opener}`;
  return `${protocol} ${peer} ${remote} of ${way}`;
}

/** Whether it may be the first packet of a flow. */
export function opens(s: Segment): boolean {
  if (s.fragment && s.fragment.offset > 0) return false;
  if (s.protocol === TCP) return ((s.flags ?? 0) & (SYN | ACK | RST)) === SYN;
  if (s.protocol === SCTP) return s.init === true;
  return ECHO[s.protocol] ? echo(s) === 'request' : true;
}

export class TableModel {
  readonly #flows = new Map<string, Flow>();
  /** Connections that a peer opened, and got. */
  readonly #accepted = new Set<string>();
  readonly #firsts = new Map<string, First>();
  #told: string[] = [];

  /**
   * @param judge what the policies say now of a destination
   * @param epoch grows when what they say may have changed
   */
  constructor(
    private readonly judge: (s: Segment, laterFragment: boolean) => Verdict,
    private readonly epoch: () => number,
  ) {}

  forget(map: 'flows' | 'fragments'): void {
    if (map === 'flows') this.#accepted.clear();
    (map === 'flows' ? this.#flows : this.#firsts).clear();
  }

  /** The pod sends. */
  out(s: Segment): Answer {
    this.#told = [];
    const verdict = s.fragment && s.fragment.offset > 0 ? this.#later(s) : this.#sent(s);
    // Of a spoofed packet nothing is remembered, and nothing is known.
    if (s.fragment?.offset === 0 && !s.spoofed) {
      this.#firsts.set(fragmentName(s), { segment: s, verdict, epoch: this.epoch() });
    }
    return { verdict, told: this.#told };
  }

  /** The pod sends an ICMP error to `error.peer`, about a packet that it was sent (`about.way` is `in`). */
  error(error: Segment, about: Segment): Answer {
    this.#told = [];
    const name = flowName(about);
    const flow = this.#flows.get(name);
    const related = !error.spoofed && error.peer === about.peer;
    let verdict: 'allow' | 'deny' | undefined;
    if (related && flow && !flow.inbound && flow.epoch !== this.epoch()) verdict = this.#again(flow, about, name);
    else if (related && (flow ? flow.inbound || flow.verdict === 'allow' : this.#accepted.has(name))) verdict = 'allow';
    return { verdict: verdict ?? this.#sent(error), told: this.#told };
  }

  /** A peer sends: never denied, here. */
  in(s: Segment): Answer {
    this.#told = [];
    // A later fragment shows no flow.
    if (s.fragment && s.fragment.offset > 0) return { verdict: 'allow', told: [] };
    const name = flowName(s);
    let flow = this.#flows.get(name);
    if (opens(s) && this.#begins(s, flow)) this.#flows.set(name, (flow = this.#fresh(s, { inbound: true })));
    if (flow) this.#step(s, flow, name);
    return { verdict: 'allow', told: this.#told };
  }

  #begins(s: Segment, flow: Flow | undefined): boolean {
    if (!flow || flow.closed) return true;
    if (flow.inbound) return false;
    if (ECHO[s.protocol]) return true;
    // What is denied may not be turned into what may be answered by a datagram that was on its way.
    return flow.verdict === 'deny' && (s.protocol === TCP || flow.sent === 0);
  }

  #sent(s: Segment): 'allow' | 'deny' {
    if (s.spoofed) return 'deny';
    const name = flowName(s);
    const flow = this.#flows.get(name);
    const syn = s.protocol === TCP && opens(s);
    const anew = syn && flow?.closed === true;
    if (flow && !syn && flow.inbound) return this.#passes(s, flow, name);
    if (flow && !flow.inbound && !anew && flow.epoch === this.epoch()) {
      return flow.verdict === 'deny' ? 'deny' : this.#passes(s, flow, name);
    }
    if (!flow && !syn && this.#accepted.has(name)) {
      const back = this.#fresh(s, { inbound: true, confirmed: true, answered: true });
      this.#flows.set(name, back);
      return this.#passes(s, back, name);
    }
    if (flow && !flow.inbound && !anew) return this.#again(flow, s, name);
    const { verdict, rule } = this.#judged(s);
    // Its ports open nothing in the other direction, and it goes on.
    if (flow?.inbound && verdict === 'deny') return 'deny';
    if (flow?.inbound) this.#accepted.delete(name);
    this.#told.push(`verdict ${verdict} ${rule}`);
    this.#flows.set(name, this.#fresh(s, { verdict, rule, sent: verdict === 'allow' ? 1 : 0 }));
    return verdict;
  }

  /** A flow that was judged by another policy. */
  #again(flow: Flow, s: Segment, name: string): 'allow' | 'deny' {
    const before = flow.verdict;
    const { verdict, rule } = this.#judged(s);
    Object.assign(flow, { verdict, rule, epoch: this.epoch() });
    if (before !== verdict) this.#told.push(`changed ${verdict} ${rule}`);
    // An error about a flow changes nothing of it, but that it is judged.
    return verdict === 'deny'
      ? 'deny'
      : this.#passes({ ...s, flags: s.way === 'in' ? 0 : (s.flags ?? 0), way: 'out' }, flow, name);
  }

  #later(s: Segment): 'allow' | 'deny' {
    const offset = s.fragment?.offset ?? 0;
    const first = this.#firsts.get(fragmentName(s));
    if (!first || s.spoofed) {
      if (s.protocol === TCP && offset < (HEADER[TCP] as number)) return 'deny';
      return s.spoofed ? 'deny' : (this.judge(s, true).verdict as 'allow' | 'deny');
    }
    if (offset < (HEADER[s.protocol] ?? 0)) return 'deny';
    if (first.verdict === 'allow' && first.epoch === this.epoch()) return 'allow';
    // It is a packet of its first's flow.
    const { flags: _, ...rest } = first.segment;
    const verdict = this.#sent({ ...rest, fragment: s.fragment as { id: number; offset: number } });
    this.#firsts.set(fragmentName(s), { ...first, verdict, epoch: this.epoch() });
    return verdict;
  }

  #judged(s: Segment): { verdict: 'allow' | 'deny'; rule: number } {
    const { verdict, rule } = this.judge(s, false);
    // From here on it is the pod's own, whether or not the table still knows of the other.
    if (s.way === 'out' && s.protocol === TCP && opens(s) && verdict === 'allow') this.#accepted.delete(flowName(s));
    return { verdict: verdict as 'allow' | 'deny', rule };
  }

  #fresh(s: Segment, more: Partial<Flow>): Flow {
    const none = { inbound: false, verdict: 'allow', rule: 0, confirmed: false, told: false, sent: 0 } as const;
    const state = { answered: s.protocol === TCP && !opens(s), finOut: false, finIn: false, closed: false };
    return { ...none, ...state, epoch: this.epoch(), ...more };
  }

  #passes(s: Segment, flow: Flow, name: string): 'allow' {
    flow.sent++;
    this.#step(s, flow, name);
    return 'allow';
  }

  /** What a packet changes of its flow. */
  #step(s: Segment, flow: Flow, name: string): void {
    if (s.protocol === TCP) this.#tcp(s, flow, name);
    else if (s.way === 'out') this.#confirm(flow, name);
  }

  /** The peer has what it asked for. */
  #confirm(flow: Flow, name: string): void {
    if (!flow.inbound || flow.confirmed) return;
    flow.confirmed = true;
    this.#accepted.add(name);
    if (!flow.told) this.#told.push('verdict allow 0');
  }

  #tcp(s: Segment, flow: Flow, name: string): void {
    const flags = s.flags ?? 0;
    const [out, fins] = [s.way === 'out', flow.finOut && flow.finIn];
    if (flow.closed) {
      // The last acknowledgement of what the pod opened.
      if (fins && !flow.inbound && !(flags & (SYN | FIN | RST)) && flow.verdict === 'allow') this.#flows.delete(name);
      // A reset that was not meant: who goes on talking is heard.
      else if (!fins && out && !(flags & (SYN | FIN | RST))) {
        Object.assign(flow, {
          closed: false,
          answered: true,
          finOut: false,
          finIn: false,
          confirmed: false,
          told: false,
        });
        this.#confirm(flow, name);
      }
      return;
    }
    const open = flow.answered;
    if (flags & ACK && out === flow.inbound) flow.answered = true;
    if (flags & FIN && out) flow.finOut = true;
    if (flags & FIN && !out) flow.finIn = true;
    if (flags & RST || (flow.finOut && flow.finIn)) flow.closed = true;
    if (out && flow.inbound && !flow.confirmed && !flow.told && !(flags & (SYN | RST))) {
      flow.told = true;
      this.#told.push('verdict allow 0');
    }
    if (!out && open && flags & ACK && !(flags & RST)) this.#confirm(flow, name);
    if (!flow.closed || flow.verdict === 'deny') return;
    if (flow.inbound) this.#accepted.delete(name);
    if (!flow.inbound || flow.confirmed || flow.told) this.#told.push('end');
    if (flags & RST && out && !flow.inbound) this.#flows.delete(name);
  }
}

/** Of all fragments of one datagram of the pod's. */
export function fragmentName({ protocol, peer, fragment }: Segment): string {
  return `${protocol} ${peer} ${fragment?.id}`;
}
