/**
 * kube-proxy and masquerading, as conntrack remembers them: each connection to a Service is given a backend for good, or until conntrack
 * forgets it or another SYN begins it anew; a backend that is the client itself sees the node's address, and so does, where asked for, every
 * backend, or everybody beyond the node. Answers go back the way they came. (Kubernetes, "Virtual IPs and Service Proxies"; RFC 3022.)
 */
import { actorOf, backendsOf, IPS } from './flow-world.js';
import { ACK, hasPorts, isV6, key, type Segment, SYN, TCP, turned, type Tuple, type WorldSpec } from './flow-types.js';

interface Entry {
  /** As who opened it sends, and as the answers come. */
  readonly first: Tuple;
  readonly reply: Tuple;
}

/** Ports that the node's own connections do not use. */
const MASQUERADED = 50000;

const tupleOf = ({ protocol, src, sport, to, dport }: Tuple): Tuple => ({ protocol, src, sport, to, dport });

export class Nat {
  readonly #byFirst = new Map<string, Entry>();
  readonly #byReply = new Map<string, Entry>();

  /** @param made and `gone`: told of each translated connection */
  constructor(
    private readonly made: (first: Tuple, reply: Tuple) => void,
    private readonly gone: (first: Tuple) => void,
  ) {}

  forget(): void {
    for (const entry of this.#byFirst.values()) if (isTranslated(entry)) this.gone(entry.first);
    this.#byFirst.clear();
    this.#byReply.clear();
  }

  /** What becomes of a packet of a known connection; of others: as it is. */
  known(t: Tuple): Tuple {
    const forth = this.#byFirst.get(key(t));
    if (forth) return turned(forth.reply);
    const back = this.#byReply.get(key(t));
    return back ? turned(back.first) : tupleOf(t);
  }

  /** What would become of a packet that shows its ports. */
  ahead(s: Segment, spec: WorldSpec): Tuple {
    return this.#after(s, spec).after;
  }

  /** The same, and it is done: a connection that is not known begins. */
  translate(s: Segment, spec: WorldSpec): void {
    const { after, begins } = this.#after(s, spec);
    if (!begins) return;
    const first = tupleOf(s);
    const old = this.#byFirst.get(key(first));
    if (old) this.#drop(old);
    this.#keep({ first, reply: turned(after) });
  }

  #after(s: Segment, spec: WorldSpec): { after: Tuple; begins: boolean } {
    const t = tupleOf(s);
    // Of what has no ports only the source is another's; answers to the node's address are not followed.
    if (!hasPorts(s.protocol))
      return { after: this.#masquerades(s, t, spec) ? { ...t, src: nodeOf(t.to) } : t, begins: false };
    const old = this.#byFirst.get(key(t));
    const anew = old && s.protocol === TCP && ((s.flags ?? 0) & (SYN | ACK)) === SYN;
    if (this.#byReply.has(key(t)) || (old && !anew)) return { after: this.known(t), begins: false };
    const backends = s.from === 'out' && !IPS.node.includes(t.to) ? undefined : backendsOf(spec, t);
    const [to, dport] = backends?.[s.pick % backends.length] ?? [t.to, t.dport];
    const after: Tuple = { ...t, to, dport };
    const masqueraded = this.#masquerades(s, after, spec, backends !== undefined);
    if (masqueraded)
      return { after: { ...after, src: nodeOf(to), sport: this.#free(t, after, nodeOf(to)) }, begins: true };
    // Somebody else's connection has come out as the same one: the port is changed, as conntrack does.
    const taken = this.#byReply.get(key(turned(after)));
    return { after: taken && taken !== old ? { ...after, sport: this.#free(t, after) } : after, begins: true };
  }

  /** A port for a masqueraded connection: the same for the same one, whatever came before it, as long as it is free. */
  #free(first: Tuple, after: Tuple, src = after.src): number {
    let mixed = 0;
    for (const c of key(first)) mixed = (mixed * 31 + c.charCodeAt(0)) % 10_000;
    const taken = (sport: number) => this.#byReply.has(key(turned({ ...after, src, sport })));
    while (taken(MASQUERADED + mixed)) mixed = (mixed + 1) % 10_000;
    return MASQUERADED + mixed;
  }

  #masquerades(s: Segment, { src, to }: Tuple, { masquerade }: WorldSpec, service = false): boolean {
    if (s.from === 'node') return false;
    if (service && (masquerade.services || src === to)) return true;
    return masquerade.outside && s.from !== 'out' && actorOf(to) === 'out';
  }

  #keep(entry: Entry): void {
    this.#byFirst.set(key(entry.first), entry);
    this.#byReply.set(key(entry.reply), entry);
    if (isTranslated(entry)) this.made(entry.first, entry.reply);
  }

  #drop(entry: Entry): void {
    this.#byFirst.delete(key(entry.first));
    this.#byReply.delete(key(entry.reply));
    if (isTranslated(entry)) this.gone(entry.first);
  }
}

const isTranslated = ({ first, reply }: Entry) => key(turned(reply)) !== key(first);

function nodeOf(to: string): string {
  return IPS.node[isV6(to) ? 1 : 0];
}
