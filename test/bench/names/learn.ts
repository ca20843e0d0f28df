/** What it takes to learn a DNS answer as it is delivered, by BPF_PROG_TEST_RUN. */
import { load } from '../../../agent/kernel/loader.js';
import type { BpfMap } from '../../../agent/kernel/libbpf/map.js';
import type { BpfProgram } from '../../../agent/kernel/libbpf/program.js';
import { DnsServers } from '../../../agent/maps/tables/dns-servers.js';
import { NAME_DEFAULTS, nameSettings } from '../../../agent/names/settings.js';
import { NameTable } from '../../../agent/names/table.js';
import { IFINDEX, Kernel } from '../../engines/engine.js';
import { encodeMessage, udpFrame } from '../../names/wire.js';
import { wipe } from '../../names/wipe.js';
import { benchObject } from '../bpf-objects.js';
import { floorTime, leastOf, quiet, timeOf } from '../packet.js';
import { atMost, progress, type Result } from '../result.js';
import { POD_IP } from '../worlds.js';
import { answerOf, named, RESOLVER, SPORT } from './worlds.js';

const PATTERNS = [10, 10_000];
/** In an answer; as in learn.bpf.c. */
const ADDRESSES = 8;
/** Answers in one run, all of whose addresses find room: the table is a quarter full at its end. */
const FRESH = 4000;
const RENEWED = 20_000;
const SIZES = { flows: 8192, events: 1 << 20, names: 1024, name_pages: 131_072 };
/** As the figures are called, in their order. */
const KINDS = ['with new addresses', 'renewed', 'again in the same second'];
const MOST_US = 5;
const MOST_RATIO = 1.3;

/** A pod that asked its resolver, and the answer. */
export class Learner {
  readonly kernel = new Kernel(load({ objectPath: benchObject('learn'), sizes: SIZES }));
  readonly #table: NameTable;
  readonly answer: Buffer;

  /** @param patterns in force */
  constructor(patterns: number) {
    const { maps, names } = this.kernel.programs;
    quiet(maps.state as BpfMap);
    names.configure(nameSettings(NAME_DEFAULTS, 128));
    new DnsServers(maps).set([{ ip: RESOLVER, port: 53 }]);
    this.#table = new NameTable(names);
    this.kernel.use(named(patterns));
    this.kernel.become('default/web');
    const ips = Array.from({ length: ADDRESSES }, (_, i) => `203.0.113.${i + 1}`);
    const ends = { src: RESOLVER, sport: 53, dst: POD_IP, dport: SPORT };
    this.answer = udpFrame(ends, encodeMessage(answerOf(ips)));
  }

  /** Asks anew, so that answers count for half a minute. */
  ask(): void {
    const query = encodeMessage({ ...answerOf([]), flags: 0x0100, answers: [] });
    const ends = { src: POD_IP, sport: SPORT, dst: RESOLVER, dport: 53 };
    if (this.kernel.run(udpFrame(ends, query)).verdict !== 'allow') throw new Error('the query is denied');
  }

  /** Forgets all that was learned, but not that it was asked for. */
  forget(): void {
    wipe(this.kernel.programs.names);
  }

  /** What the pod holds. */
  get held(): { names: number; pages: number; refused: number; untrusted: number } {
    return this.#table.holdings(IFINDEX);
  }

  /** Nanoseconds for an answer with addresses that are new. */
  fresh(answers = FRESH): number {
    const took = this.#answers('fresh', answers);
    this.#check(answers * ADDRESSES);
    return took;
  }

  /** Nanoseconds for an answer that is learned already. @param kind renewed: with another TTL; again: the same, in the same second */
  known(kind: 'renewed' | 'again', answers = RENEWED): number {
    const took = this.#answers(kind, answers);
    this.#check(ADDRESSES);
    return took;
  }

  #answers(kind: 'fresh' | 'renewed' | 'again', answers: number): number {
    this.forget();
    this.ask();
    const took = timeOf(this.#program(`learn_${kind}`), this.answer, answers);
    return took - timeOf(this.#program(`floor_${kind}`), this.answer, answers);
  }

  close(): void {
    this.kernel.close();
  }

  #program(name: string): BpfProgram {
    return this.kernel.programs.all[name] as BpfProgram;
  }

  #check(pages: number): void {
    const { held } = this;
    if (held.pages !== pages || held.names !== 2 || held.refused + held.untrusted > 0)
      throw new Error(`${pages} addresses of 2 names were to be learned: ${JSON.stringify(held)}`);
  }
}

/** An answer that is learned for the first time, and renewed, with few patterns and with many. */
export async function learning(): Promise<Result[]> {
  const learners = PATTERNS.map((n) => new Learner(n));
  try {
    const [floor = Number.NaN, ...times] = leastOf([
      floorTime().time,
      ...learners.flatMap((l) => [() => l.fresh(), () => l.known('renewed'), () => l.known('again')]),
    ]);
    return KINDS.flatMap((what, i) => {
      const [few = Number.NaN, many = Number.NaN] = [times[i], times[KINDS.length + i]];
      const text = `${Math.round(many)} ns with 10,000 patterns, ${Math.round(few)} ns with 10`;
      progress(`an answer ${what}: ${text}; a program that returns at once: ${floor.toFixed(1)} ns`);
      const name = `DNS answer with a CNAME and 8 addresses, ${what}`;
      return [
        atMost(name, many / 1000, 'µs', `${text}; ${floor.toFixed(1)} ns of the floor`, MOST_US),
        atMost(`${name}, 10,000 patterns against 10`, many / few, 'x', text, MOST_RATIO),
      ];
    });
  } finally {
    for (const learner of learners) learner.close();
  }
}
