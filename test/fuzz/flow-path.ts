/** The way of a packet through the node: its sender's hook, the translation, the hook before its receiver; as bytes at each. */
import { frame } from '../engines/packets.js';
import type { Bed, Device } from './flow-bed.js';
import type { Outcome } from './flow-model.js';
import { Nat } from './flow-nat.js';
import { isV6, SCTP, type Segment, turned, type Tuple } from './flow-types.js';
import { actorOf, type Moment } from './flow-world.js';
import type { Hook } from './kernel.js';

/** Where a packet ends up; of an ICMP error also the flow that it is about, as its sender would go on with that. */
export interface Way {
  readonly final: Tuple;
  readonly flow?: Tuple;
}

export interface Walked extends Outcome {
  /** The hook that dropped it. */
  readonly stopped?: Hook;
}

const fragmentName = ({ src, to, protocol, fragment }: Segment) => `${src} ${to} ${protocol} ${fragment?.id}`;

export class Path {
  readonly #bed: Bed;
  #nat!: Nat;
  /** Where the first fragments of datagrams went. */
  readonly #firsts = new Map<string, Tuple>();

  constructor(
    bed: Bed,
    private readonly moment: () => Moment,
  ) {
    this.#bed = bed;
    this.begin();
  }

  begin(): void {
    this.#nat = new Nat(
      (first, reply) => this.#bed.connected(first, reply),
      (first) => this.#bed.disconnected(first),
    );
    this.#firsts.clear();
  }

  forget(): void {
    this.#nat.forget();
    this.#firsts.clear();
  }

  /** Nothing is kept of it. */
  ahead(s: Segment): Way {
    if (s.about) return this.#errorWay(s, s.about);
    if (s.fragment && s.fragment.offset > 0) {
      const first = this.#firsts.get(fragmentName(s));
      return { final: first ?? plain(s) };
    }
    return { final: this.#nat.ahead(s, this.moment().spec) };
  }

  walk(s: Segment): Walked {
    const came: Device | undefined = s.from === 'out' ? 'node' : s.from === 'node' ? undefined : s.from;
    if (
      s.from !== 'out' &&
      s.from !== 'node' &&
      !this.#bed.passes('fromPod', s.from, s.from, bytesOf(s, plain(s), s.about))
    )
      return { left: false, arrived: false, stopped: 'fromPod' };
    if (
      s.from === 'out' &&
      this.moment().governs('node') &&
      !this.#bed.passes('uplinkIn', 'node', 'node', bytesOf(s, plain(s), s.about))
    )
      return { left: true, arrived: false, stopped: 'uplinkIn' };
    const way = this.ahead(s);
    if (!s.about && !(s.fragment && s.fragment.offset > 0)) this.#nat.translate(s, this.moment().spec);
    if (s.fragment?.offset === 0) this.#firsts.set(fragmentName(s), way.final);
    const to = actorOf(way.final.to);
    // A tuple's way back is what an error quotes.
    const quoted = way.flow && turned(way.flow);
    const bytes = bytesOf(s, way.final, quoted ?? s.about);
    if (to === 'node') return { left: true, arrived: true };
    if (to === 'web' || to === 'api' || to === 'db') {
      const passes = this.#bed.passes('toPod', to, came, bytes);
      return passes ? { left: true, arrived: true } : { left: true, arrived: false, cutOff: true, stopped: 'toPod' };
    }
    if (s.from === 'out') return { left: true, arrived: false };
    const passes = this.#bed.passes('uplink', 'node', came, bytes);
    // What the node sends is judged there and nowhere else.
    return passes ? { left: true, arrived: true } : { left: s.from !== 'node', arrived: false, stopped: 'uplink' };
  }

  /** conntrack translates an error, and what it quotes, with the connection that it is about; of others nothing. */
  #errorWay(s: Segment, about: Tuple): Way {
    const sent = turned(about);
    if (s.to !== about.src) return { final: plain(s), flow: sent };
    const flow = this.#nat.known(sent);
    return { final: { ...plain(s), src: s.src === sent.src ? flow.src : s.src, to: flow.to }, flow };
  }
}

function plain({ protocol, src, sport, to, dport }: Tuple): Tuple {
  return { protocol, src, sport, to, dport };
}

/** @param t as it is there by now */
function bytesOf(s: Segment, t: Tuple, quoted: Tuple | undefined): Buffer {
  const fragment = s.fragment ? { fragment: { ...s.fragment, more: s.fragment.offset === 0 } } : {};
  const bytes = frame(
    { to: t.to, protocol: t.protocol, port: t.dport },
    { src: t.src, sport: t.sport, tcpFlags: s.flags ?? 0, ...fragment },
  );
  const header = isV6(t.to) ? 40 : 20;
  // Instead of INIT, a chunk of data.
  if (t.protocol === SCTP && !s.init) bytes[14 + header + (s.fragment && header === 40 ? 8 : 0) + 12] = 0;
  if (!quoted) return bytes;
  const inner = frame(
    { to: quoted.to, protocol: quoted.protocol, port: quoted.dport },
    { src: quoted.src, sport: quoted.sport, tcpFlags: 16 },
  );
  inner.copy(bytes, 14 + header + 8, 14, 14 + header + 8);
  return bytes;
}
