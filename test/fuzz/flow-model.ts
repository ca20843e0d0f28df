/**
 * Which bytes may leave, and which must: the reference of the fuzzer of flows. It knows who really made each packet, where each one ends
 * up once kube-proxy and masquerading are done with it, and what the policies of the moment say; it knows no hook and no table, but for
 * what these can have forgotten. Where each rule comes from:
 * 1. A packet of a sender under a policy reaches the address and port where it ends up only if the rules allow those now: NetworkPolicy is
 *    about the pods behind a Service, and a change of policy about open connections too (Kubernetes, "Network Policies"; ARCHITECTURE.md).
 * 2. Or as an answer to what somebody else began (same, "reply traffic is implicitly allowed"): a SYN without ACK (RFC 9293, 3.5), an INIT
 *    (RFC 9260, 5.1), an ICMP request (RFC 792, 4443), any other datagram unless the sender's own came first. What a pod sends in another's
 *    name began nothing. A SYN is never an answer.
 * 3. Both hold for ICMP errors by the packet that they quote, if they go to who sent that (RFC 1122, 3.2.2; RFC 5927), and for later
 *    fragments by their first (RFC 791); those without a first pass where no port matters, and none writes into a header (RFC 3128, 5722).
 * 4. Nothing leaves a pod under a policy from an address that is not its own (RFC 2827), nor a packet in a packet to who unwraps it.
 * 5. What is allowed is delivered, and so are the answers to what was answered once, whatever the tables have lost.
 * `either`: the reason says why nobody can ask for more.
 */
import { between, drop, either, type Fate, pass } from './fate.js';
import {
  ACK,
  type Actor,
  FIN,
  GRE,
  hasPorts,
  ICMP,
  ICMPV6,
  key,
  type Memory,
  RST,
  SCTP,
  type Segment,
  SYN,
  TCP,
  turned,
  type Tuple,
  UDP,
} from './flow-types.js';
import { actorOf, IPS, type Moment, PODS, VIPS } from './flow-world.js';

/** What happened: whether the sender's own hook let it go, and whether it arrived. */
export interface Outcome {
  readonly left: boolean;
  readonly arrived: boolean;
  /** It was stopped at its receiver's door. */
  readonly cutOff?: boolean;
}

/** Of one sender with one peer, by what the sender calls it: what the tables of its hook can know. */
interface Talk {
  /** The peer began it: the flow table knows, as far as it was not made to forget. */
  flows: boolean;
  /** It was answered, and that is remembered apart. */
  accepted: boolean;
  confirmed: boolean;
  /** The sender began it, and that is not forgotten either. */
  own: boolean;
  /** Or would have. */
  tried: boolean;
  /** A later fragment of it left, and by that the table has it as the sender's. */
  piece: boolean;
  /** One of them has said that it ends, or broken it off: the table may have given up its place. */
  ending: boolean;
  answered: boolean;
  finOut: boolean;
  finIn: boolean;
}

interface First {
  readonly segment: Segment;
  readonly final: Tuple;
  readonly arrived: boolean;
  readonly looks: boolean;
}

/** Bytes of the header that a first fragment shows. */
const HEADER: Readonly<Record<number, number>> = { [TCP]: 20, [UDP]: 8, [SCTP]: 12, [ICMP]: 8, [ICMPV6]: 8 };
const REQUESTS = [8 * 256, 128 * 256];

const IS_HERE: ReadonlySet<string> = new Set(Object.values(IPS).flat());

/** A backend opens with the very ports of a connection to a node port that conntrack still knows: by that it gets the node port's name. */
const BACKWARDS = 'an answer to a backend that asked by the name of a node port';
const isNodePort = (ip: string, port: number) => IPS.node.includes(ip) && port >= 30000;

const UNNAMED = 'whose it is, is known by the connection that real packets carry';

const isEcho = (protocol: number) => protocol === ICMP || protocol === ICMPV6;
const isSyn = ({ protocol, flags = 0 }: Segment) => protocol === TCP && (flags & (SYN | ACK | RST)) === SYN;
const ends = ({ protocol, flags = 0 }: Segment) => protocol === TCP && (flags & (FIN | RST)) !== 0;
const isLater = ({ fragment }: Segment) => fragment !== undefined && fragment.offset > 0;
const isFound = (s: Segment) => [TCP, UDP].includes(s.protocol) && !isLater(s);

function opens(s: Segment): boolean {
  if (s.protocol === TCP) return isSyn(s);
  if (s.protocol === SCTP) return s.init === true;
  return isEcho(s.protocol) ? REQUESTS.includes(s.dport) : true;
}

/** Of a conversation, as who sends this would call it; an answer to an echo has another name than a question. */
function nameOf({ protocol, src, sport, to, dport }: Tuple): string {
  const rest = isEcho(protocol)
    ? `${sport} ${REQUESTS.includes(dport) ? 'asks' : 'is asked'}`
    : hasPorts(protocol)
      ? `${sport} ${dport}`
      : '';
  return `${protocol} ${src} ${to} ${rest}`;
}

/** Of the same, as who gets it would. */
function backName(t: Tuple): string {
  const { protocol, src, sport, to, dport } = turned(t);
  const rest = isEcho(protocol)
    ? `${sport} ${REQUESTS.includes(dport) ? 'is asked' : 'asks'}`
    : hasPorts(protocol)
      ? `${sport} ${dport}`
      : '';
  return `${protocol} ${src} ${to} ${rest}`;
}

const fragmentName = ({ from, src, to, protocol, fragment }: Segment) =>
  `${from} ${src} ${to} ${protocol} ${fragment?.id}`;

/** A Service's address, untranslated. */
const isNobodys = ({ to }: Tuple) => VIPS.flat().some((vip) => vip === to);

/** Whether an answer goes out under the name by which it was asked for, or back through a masquerade. */
const isNamed = (s: Tuple, final: Tuple) => (final.to === s.to && final.sport === s.sport) || IPS.node.includes(s.to);

/** A datagram that conntrack takes back through a translation: by its word an answer, whoever else has forgotten. */
const isTakenBack = (s: Segment, final: Tuple) =>
  s.protocol === UDP &&
  ((final.src !== s.src && !IPS.node.includes(final.src)) || (final.to !== s.to && IPS.node.includes(s.to)));

export const isSpoofed = ({ from, src }: Segment) => from !== 'out' && !IPS[from].includes(src);

export class FlowModel {
  readonly #talks = new Map<string, Talk>();
  /** Who was the first to say something, as it calls it and as it arrived. */
  readonly #began = new Set<string>();
  /** What who got something would call its answer. */
  readonly #reached = new Set<string>();
  /** The same of what came through a translation: that it was asked for, only conntrack knows. */
  readonly #translated = new Set<string>();
  readonly #firsts = new Map<string, First[]>();
  #firstsLost = false;
  /**
   * There was a Service, or somebody was let through to one of which not all is allowed by now: from then on the uplink looks, too, and may have
   * missed a first.
   */
  #looks = false;

  constructor(private readonly moment: () => Moment) {
    this.changed();
  }

  /** Policies or Services are other ones. */
  changed(): void {
    if (this.moment().spec.backends.some((list) => list.length > 0)) this.#looks = true;
  }

  /**
   * @param final where it ends up, and as whose; of what is not translated, the segment's own
   * @param flow the same of the flow that an ICMP error is about, as the error's sender would go on with it
   */
  fate(s: Segment, final: Tuple, flow?: Tuple): Fate {
    const moment = this.moment();
    if (s.from === 'out') return this.#unnamed(s, final) ? either(UNNAMED) : pass('what arrives is not judged');
    if (!moment.governs(s.from)) {
      if (isSpoofed(s)) return either("in another's name, and so by another's policy");
      return s.from !== 'node' && this.#unnamed(s, final) ? either(UNNAMED) : pass('under no policy');
    }
    if (isSpoofed(s)) return drop("in another's name");
    // Probes reach pods (kubelet), and errors are a router's.
    if (s.from === 'node' && (IS_HERE.has(final.to) || s.about)) return pass('from the node');
    if (s.about) return this.#errorFate(s, s.about, final, flow ?? turned(s.about));
    return isLater(s) ? this.#laterFate(s, final) : this.#packetFate(s, final);
  }

  #packetFate(s: Segment, final: Tuple): Fate {
    const moment = this.moment();
    const allowed = moment.allows(s.from, final);
    const sent = moment.allowsSent(s.from, s);
    const talk = this.#talks.get(nameOf(s.from === 'node' ? final : s));
    const asked = this.#began.has(backName(s));
    const wrapped = s.from !== 'node' && s.protocol === GRE && IPS.node.includes(s.to);
    if (wrapped) return asked ? either('a packet in a packet, to who asked for it') : drop('a packet in a packet');
    // By what name ever it was sent: to who gets it, it is an answer; even a SYN, if both are about to open (RFC 9293, 3.5).
    const byTheEnd =
      key(final) !== key(s) &&
      [final, { ...final, src: s.src, sport: s.sport }].some((t) => this.#began.has(backName(t)));
    const nobodys = sent !== 'deny' && isNobodys(final);
    const may = allowed || nobodys || byTheEnd || (asked && !isSyn(s));
    // Who is met under a Service's name, without having been asked by it, is not known by it behind the translation.
    const named = isNamed(s, final);
    const answer = talk !== undefined && (talk.flows || talk.accepted) && !isSyn(s) && named;
    // The node's own is met after the translation.
    const must = (allowed && (s.from === 'node' || sent !== 'deny')) || answer;
    if (must && s.from !== 'node' && this.#unnamed(s, final)) return either(UNNAMED);
    // By what port it was asked for.
    if (must && !allowed && final.to === s.to && final.dport !== s.dport && !isFound(s)) return either(UNNAMED);
    if (must && !allowed && isNodePort(s.to, s.dport)) return either(BACKWARDS);
    // Conntrack tells a datagram that answers the pod from one that asks it; the table may have forgotten which it was.
    if (must && !allowed && s.protocol !== TCP && !asked)
      return either('to who had only answered, for all that is known');
    const why = nobodys ? 'to an address that nobody has' : 'an answer that nobody is sure of any more';
    return between(may, must, allowed ? 'its Service stands for others by now' : why);
  }

  /** BPF_PROG_TEST_RUN's packets have no connection; TCP's and UDP's can be looked up, if they show their ports. */
  #unnamed(s: Segment, final: Tuple): boolean {
    return final.src !== s.src && IPS.node.includes(final.src) && !isFound(s);
  }

  #errorFate(s: Segment, about: Tuple, final: Tuple, flow: Tuple): Fate {
    const moment = this.moment();
    const byItself = moment.allows(s.from, final);
    const sent = turned(about);
    const talk = this.#talks.get(backName(about));
    const related = s.to === about.src;
    const allowed = moment.allows(s.from, flow);
    const may =
      byItself ||
      isNobodys(final) ||
      (related &&
        ((talk?.tried && allowed) ||
          this.#began.has(nameOf(about)) ||
          // To who gets it, it is about what that one began, under the pod's own name as under the translated one.
          [flow, { ...flow, src: sent.src, sport: sent.sport }].some((t) => this.#began.has(backName(t)))));
    const owned = talk?.own && !talk.ending && allowed && moment.allowsSent(s.from, sent) !== 'deny';
    const known = related && (owned || (isNamed(sent, flow) && (talk?.flows || talk?.accepted)));
    // With the flow that it is about it may be denied, though alone it were not.
    const must = known === true || (byItself && final.to === s.to && !talk);
    if (must && this.#unnamed(s, final)) return either(UNNAMED);
    if (must && isNodePort(about.src, about.sport)) return either(BACKWARDS);
    return between(may === true, must, 'an error about what nobody is sure of any more');
  }

  #laterFate(s: Segment, final: Tuple): Fate {
    const moment = this.moment();
    const offset = s.fragment?.offset ?? 0;
    const firsts = this.#firsts.get(fragmentName(s)) ?? [];
    const bare = moment.allows(s.from, s, false) && moment.allows(s.from, final, false);
    const overlaps = offset < (HEADER[s.protocol] ?? 0);
    // What is masqueraded has the node's address and, it may be, the same number.
    if (s.from === 'node' && firsts.length === 0 && !bare)
      return either('a fragment of somebody else, as anybody sees it');
    if (firsts.length === 0)
      return (overlaps && s.protocol === TCP) || !bare
        ? drop('no first, and ports would matter')
        : pass('ports do not matter');
    // They show no SYN, and may have lost the way that their first went.
    const fates = firsts
      .map(({ segment: { flags: _, ...first }, final: there }) =>
        this.#packetFate(first, there.to === final.to ? there : { ...final, sport: first.sport, dport: first.dport }),
      )
      .map(({ fate }) => fate);
    const may = fates.some((fate) => fate !== 'drop');
    if (this.#firstsLost)
      return may || bare ? either('its first is forgotten') : drop('neither it nor its first is allowed');
    if (overlaps) return drop('into a header');
    // Without its first, which never arrived, it is of no use; and where its first has not come by, its ports are not known.
    const known = (first: First) => first.looks === this.#looks && (bare || first.final.to === final.to);
    const must =
      fates.every((fate) => fate === 'pass') &&
      firsts.every((first) => first.arrived && known(first)) &&
      !this.#unnamed(s, final);
    return between(may, must, 'as its first, or as one of several');
  }

  learn(s: Segment, final: Tuple, { left, arrived, cutOff }: Outcome): void {
    if (s.about) return;
    if (!isSpoofed(s) && s.from !== 'out' && s.fragment?.offset === 0) {
      const name = fragmentName(s);
      this.#firsts.set(name, [...(this.#firsts.get(name) ?? []), { segment: s, final, arrived, looks: this.#looks }]);
    }
    if (isLater(s)) {
      const firsts = left && !isSpoofed(s) && s.from !== 'out' ? (this.#firsts.get(fragmentName(s)) ?? []) : [];
      for (const { segment, final: there } of firsts)
        this.#talk(nameOf(s.from === 'node' ? there : segment)).piece = true;
      return;
    }
    // What may not go on need not be answered.
    if (cutOff) Object.assign(this.#talk(backName(final)), { flows: false, accepted: false });
    this.#begins(s, final, arrived);
    if (left && s.from !== 'node' && this.moment().allowsSent(s.from, s) === 'partial') this.#looks = true;
    // Of a node under no policy it is believed that it answers; who puts one in force finds out what is open (Attacher.guard).
    const answers = s.protocol === TCP && ((s.flags ?? 0) & (SYN | ACK)) === (SYN | ACK);
    if (s.from === 'node' && answers && !this.moment().governs('node')) this.#began.add(backName(final));
    if (!isSpoofed(s) && s.from !== 'out') this.#sent(s, final, left);
    const to = actorOf(final.to);
    if (arrived && to && to !== 'out' && to !== 'db') this.#received(to, s, final);
  }

  forget(what: Memory): void {
    if (what === 'fragments') this.#firstsLost = true;
    // Of datagrams nobody can say any more who began.
    if (what === 'flows' || what === 'conntrack') {
      for (const name of what === 'flows' ? this.#reached : this.#translated)
        if (!name.startsWith(`${TCP} `) && !name.startsWith(`${SCTP} `)) this.#reached.delete(name);
      this.#translated.clear();
    }
    for (const talk of this.#talks.values()) {
      if (what === 'flows') Object.assign(talk, { flows: false, accepted: false, own: false, piece: false });
    }
  }

  /**
   * A packet in another's name begins something where its sender is under no policy, which may be a router; what is not the first of
   * a connection does where nothing had reached its sender: so it began in the middle, and nobody saw.
   */
  #begins(s: Segment, final: Tuple, arrived: boolean): void {
    const name = nameOf(s);
    const honest = !isSpoofed(s) || !this.moment().governs(s.from);
    const says = [TCP, SCTP, ICMP, ICMPV6].includes(s.protocol) && opens(s);
    const may = says || (!isEcho(s.protocol) && !this.#reached.has(name));
    if (honest && may) this.#began.add(name);
    if (!arrived || isSpoofed(s)) return;
    if (this.#began.has(name)) this.#began.add(nameOf(final));
    // From here on it is the sender's own, whoever began it.
    if (isSyn(s) && key(final) === key(s)) this.#began.delete(backName(s));
    this.#reached.add(backName(final));
    if (key(final) !== key(s)) this.#translated.add(backName(final));
  }

  #talk(name: string): Talk {
    const none = {
      flows: false,
      accepted: false,
      confirmed: false,
      own: false,
      tried: false,
      piece: false,
      ending: false,
    };
    const talk = this.#talks.get(name) ?? { ...none, answered: false, finOut: false, finIn: false };
    this.#talks.set(name, talk);
    return talk;
  }

  /** The node's hook is behind the translation, others' before it. */
  #sent(s: Segment, final: Tuple, left: boolean): void {
    const talk = this.#talk(nameOf(s.from === 'node' ? final : s));
    if (!left) {
      talk.tried = true;
      // Who opens where it is answering has itself to thank for what is believed of it, once the table has forgotten the rest.
      if (isSyn(s) && !talk.flows) talk.accepted = false;
      return;
    }
    if (isSyn(s)) Object.assign(talk, { flows: false, accepted: false });
    if (!talk.flows && !talk.accepted) {
      talk.own = talk.tried = true;
      talk.ending = (talk.ending && !isSyn(s)) || ends(s);
      return;
    }
    talk.flows = true;
    if (s.protocol !== TCP) this.#confirm(talk);
    else this.#tcp(talk, s.flags ?? 0, true);
  }

  #received(to: Exclude<Actor, 'out'>, s: Segment, final: Tuple): void {
    // Only what comes over the uplink is met by a hook, and only while a policy governs the node.
    if (to === 'node' && (s.from !== 'out' || !this.moment().governs('node'))) return;
    const name = backName(to === 'node' ? s : final);
    const known = this.#talks.get(name);
    if (known && ends(s)) known.ending = true;
    if (!opens(s)) {
      if (known?.flows && s.protocol === TCP) this.#tcp(known, s.flags ?? 0, false);
      return;
    }
    if (isSpoofed(s) || !this.#isHonest(to, s, final) || isTakenBack(s, final)) return;
    const talk = this.#talk(name);
    // The answer to a datagram, a connection that was opened from both sides, a datagram for which nobody at the node may wait.
    if (talk.own || talk.piece || (to === 'node' && s.protocol === UDP)) return;
    if (!talk.flows)
      Object.assign(talk, { flows: true, confirmed: false, answered: false, finOut: false, finIn: false });
    if (s.protocol === TCP) this.#tcp(talk, s.flags ?? 0, false);
  }

  /** What a pod under a policy, or the receiver itself, sends back through a translation that it opens anew is no opening by that name. */
  #isHonest(to: Actor, { from, src }: Segment, final: Tuple): boolean {
    const free = from !== to && !(PODS.some((pod) => pod === from) && this.moment().governs(from));
    return free || final.src === src || IPS.node.includes(final.src);
  }

  /** Told once of each flow, whatever becomes of that. */
  #confirm(talk: Talk): void {
    if (!talk.confirmed) talk.accepted = talk.confirmed = true;
  }

  #tcp(talk: Talk, flags: number, out: boolean): void {
    if (!out && talk.answered && flags & ACK && !(flags & RST)) this.#confirm(talk);
    if (out && flags & ACK) talk.answered = true;
    if (flags & FIN && out) talk.finOut = true;
    if (flags & FIN && !out) talk.finIn = true;
    if (flags & RST || (talk.finOut && talk.finIn)) Object.assign(talk, { flows: false, accepted: false });
  }
}
