/** Random steps of the fuzzer of DNS: mostly right answers to fresh queries, and every way in which one may be wrong. */
import { type Answer, type Answered, type Ask, type DnsStep, PODS, type Question, SERVERS } from './dns-types.js';
import type { Random } from './random.js';

const NAMES = [
  ...['ok.example', 'a.ok.example', 'b.ok.example', 'c.b.ok.example', 'nok.example', 'ok.example.org', 'ok.examples'],
  ...['cdn.example', 'x.cdn.example', 'evil.example'],
];
const ADDRESSES = [...[1, 2, 3, 4, 5, 6].map((n) => `203.0.113.${n}`), '2001:db8:9::1', '2001:db8:9::2'];
const TTLS = [0, 1, 20, 60, 61, 300, 3600, 604_800, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
/** No sum of these comes near 30 from below: within that time an answer counts. */
const WAITS = [7, 7, 13, 41, 200];
const TYPES = [1, 1, 1, 28, 28, 65, 16];

export class DnsSteps {
  #asks: Ask[] = [];
  #open: Extract<DnsStep, { do: 'flow' }>[] = [];
  #port = 2000;
  #asked = 0;

  constructor(private readonly r: Random) {}

  next(): DnsStep {
    const { r } = this;
    const at = r.below(100);
    if (at < 25 || this.#asks.length === 0) return this.#ask();
    if (at < 55) return this.#answer();
    if (at < 61) return { do: 'wait', seconds: r.pick(WAITS) };
    if (at < 66) return { do: 'sweep' };
    const close = this.#open.length > 0 && at < 72 ? this.#open.splice(r.below(this.#open.length), 1)[0] : undefined;
    if (close) return { do: 'close', pod: close.pod, to: close.to, sport: close.sport };
    const flow = {
      do: 'flow',
      pod: r.pick(PODS),
      to: r.pick(ADDRESSES),
      sport: this.#sport(),
      hold: r.chance(12),
    } as const;
    if (flow.hold) this.#open.push(flow);
    return flow;
  }

  #sport(): number {
    return ++this.#port;
  }

  #ask(): Ask {
    const { r } = this;
    const before = this.#asks.at(-1);
    const tcp = r.chance(30);
    // Several queries from one port, as resolvers of libc send them.
    const sport = before && !tcp && !before.tcp && r.chance(25) ? before.sport : this.#sport();
    const ask: Ask = {
      do: 'ask',
      ask: ++this.#asked,
      pod: sport === before?.sport ? before.pod : r.pick(PODS),
      server: sport === before?.sport ? before.server : r.pick(SERVERS),
      port: r.chance(95) ? 53 : 5353,
      sport,
      id: r.pick([0, 1, 2, 0xffff]),
      tcp,
      cut: r.chance(40) ? 1 + r.below(30) : 0,
      ...this.#question(),
    };
    this.#asks.push(ask);
    if (this.#asks.length > 8) this.#asks.shift();
    return ask;
  }

  #question(): Question {
    const { r } = this;
    return { name: this.#spelled(r.pick(NAMES)), type: r.pick(TYPES), class: r.chance(97) ? 1 : 3 };
  }

  #spelled(name: string): string {
    const { r } = this;
    return r.chance(30) ? [...name].map((c) => (r.chance(50) ? c.toUpperCase() : c)).join('') : name;
  }

  #answer(): Answer {
    const { r } = this;
    const of = r.pick(r.chance(60) ? this.#asks.slice(-2) : this.#asks);
    const answer: Answer = {
      do: 'answer',
      ask: of.ask,
      records: this.#records(of.name),
      cut: r.chance(40) ? 1 + r.below(60) : 0,
    };
    return r.chance(60) ? answer : { ...answer, ...this.#forged(of) };
  }

  /** What is wrong with it. Over TCP whoever forges has the connection. */
  #forged(of: Ask): Partial<Answer> {
    const { r } = this;
    const ways: (() => Partial<Answer>)[] = [
      () => ({ id: r.pick([0, 1, 2, 3, 0xffff]) }),
      () => ({ question: { ...of, name: this.#spelled(r.pick(NAMES)) } }),
      () => ({ question: { name: of.name, type: r.pick([1, 28]), class: of.class } }),
      () => ({ question: { name: of.name, type: of.type, class: 3 } }),
      () => ({ flags: r.pick([0x8183, 0x8182, 0x8185, 0x0100, 0x8980, 0x8380, 0x8580, 0x9180]) }),
    ];
    if (!of.tcp)
      ways.push(
        () => ({ source: r.pick(SERVERS.filter((s) => s.includes(':') === of.server.includes(':'))) }),
        () => ({ sport: r.pick([53, 54, 5353]) }),
        () => ({ dport: of.sport + r.pick([-1, 1]) }),
        () => ({ to: r.pick(PODS) }),
      );
    return r.pick(ways)();
  }

  #records(name: string): Answered[] {
    const { r } = this;
    const records: Answered[] = [];
    const klass = () => (r.chance(97) ? 1 : 3);
    const owner = (text: string) => this.#spelled(text);
    let last = name;
    for (let n = r.chance(40) ? 1 + r.below(3) : 0; n > 0; n--) {
      const target = r.pick(NAMES);
      records.push({ owner: owner(last), ttl: r.pick(TTLS), class: klass(), target: owner(target) });
      if (r.chance(90)) last = target;
    }
    for (let n = r.below(4); n > 0; n--) {
      const of = r.chance(80) ? last : r.chance(50) ? name : r.pick(NAMES);
      records.push({ owner: owner(of), ttl: r.pick(TTLS), class: klass(), address: r.pick(ADDRESSES) });
    }
    return r.chance(25) ? records.reverse() : records;
  }
}
