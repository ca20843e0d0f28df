/**
 * Sequences of queries, answers and connections of two pods through the hooks, while time passes and the agent frees what has
 * expired. A model (dns-model.ts) says what each pod knows, and so what it may reach.
 */
import { AddressesInUse } from '../../agent/names/in-use.js';
import { NameSweeper } from '../../agent/names/sweeper.js';
import { LINK_WORDS, NAME_WORDS, NameTable, PAGE_WORDS, wordsIn } from '../../agent/names/table.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import type { Ir, IrPolicy, Rule } from '../../src/ir/types.js';
import { loadForTest } from '../engines/engine.js';
import { Processors } from '../engines/processors.js';
import { TcpBed, withLength } from '../names/bed.js';
import { later } from '../names/wipe.js';
import { a, cname, encodeMessage, type Ends, FLAGS, tcpFrame, udpFrame } from '../names/wire.js';
import { pod, snapshotOf } from '../policy/world.js';
import { DnsModel } from './dns-model.js';
import { DnsSteps } from './dns-steps.js';
import { type Answer, type Ask, type DnsStep, type Pod, PODS, TRUSTED, TTL_EXTRA, TTL_MIN } from './dns-types.js';
import { type Hook, ManyPackets, PASS } from './kernel.js';
import { Random } from './random.js';

/** Steps with one kernel and one model, from nothing. */
const SEQUENCE = 120;
const SIZES = { flows: 8192, events: 1 << 20, names: 512, name_pages: 1024 };
const IPS: Readonly<Record<Pod, readonly string[]>> = {
  'default/web': ['10.244.0.1', 'fd00::1'],
  'default/api': ['10.244.0.2', 'fd00::2'],
};

export interface WrongDns {
  readonly steps: readonly DnsStep[];
  readonly kernel: unknown;
  readonly expected: unknown;
}

export interface DnsRun {
  steps: number;
  /** By what was done, and what came of it. */
  seen: Record<string, number>;
  wrong?: WrongDns;
}

export interface DnsLimits {
  readonly count: number;
  /** Of performance.now(). */
  readonly until?: number;
}

/** What the model is told of a step, for tests: as if it, or the programs, had a fault. */
export type DnsFlaw = (step: DnsStep) => DnsStep;

/** Both pods may ask anybody. web may reach what it learned for ok.example and what is below it, api also by aliases. */
function policies(): Ir {
  const tier = 'dns';
  const policyOf = (key: Pod): IrPolicy => {
    const name = key.slice('default/'.length);
    const ref = { dialect: 'test', kind: 'Test', name };
    const rule = (index: number, more: Pick<Rule, 'peers' | 'ports'>): Rule => ({
      ref: { policy: ref, index, tier, staged: false, action: 'allow' },
      action: 'allow',
      ...more,
    });
    const ports = [6, 17].flatMap((protocol) => [53, 5353].map((p) => ({ protocol, ports: [[p, p]] as const })));
    const patterns = ['ok.example', '**.ok.example'];
    const names = { kind: 'names', patterns, ...(key === 'default/api' ? { aliases: true as const } : {}) } as const;
    const subject = { namespaces: { names: ['default'] }, pods: { op: 'in', key: 'app', values: [name] } as const };
    const rules = [rule(0, { peers: null, ports }), rule(1, { peers: [names], ports: null })];
    return { ref, subject, rules, staged: false };
  };
  return { tiers: [{ name: tier, order: 0, defaultAction: 'deny', policies: PODS.map(policyOf) }] };
}

const F = STRUCTS.ea_flow.fields;
const FLOW = STRUCTS.ea_entry.fields.flow.offset;
const ASKED_NS = FLOW + F.side_record.offset + STRUCTS.ea_query.fields.asked_ns.offset;
const PROTOCOL = STRUCTS.ea_entry.fields.key.offset + STRUCTS.ea_flow_key.fields.protocol.offset;
const UDP = 17;
/** Of the queries in a flow, in their unit. */
const ASKED = FLOW + F.extra.offset + STRUCTS.ea_flow_queries.fields.asked.offset;
const ASKED_IN_A_SECOND = Math.floor(1e9 / 2 ** 16);

/** The hooks and the model; steps are taken by both. */
export class DnsPair {
  readonly #programs = loadForTest(SIZES);
  readonly #kernel = new ManyPackets(this.#programs);
  readonly #processors = new Processors();
  readonly #table = new NameTable(this.#programs.names);
  #sweeper!: NameSweeper;
  #model!: DnsModel;
  readonly #asks = new Map<number, { ask: Ask; stream?: TcpBed; sent: number }>();
  #ids!: Readonly<Record<Pod, number>>;

  flaw: DnsFlaw = (step) => step;

  constructor() {
    const { state } = this.#programs.names;
    state.writeUInt32LE(TTL_MIN, STRUCTS.ea_name_state_words.fields.ttl_min_s.offset);
    state.writeUInt32LE(TTL_EXTRA, STRUCTS.ea_name_state_words.fields.ttl_extra_s.offset);
  }

  /** From nothing. */
  begin(): void {
    const kernel = this.#kernel;
    kernel.restart();
    const manifests = PODS.map((key) => pod(key, [...IPS[key]], { app: key.slice('default/'.length) })).join('');
    kernel.use({ ir: policies(), snapshot: snapshotOf(manifests) });
    kernel.trust(TRUSTED);
    const [web, api] = PODS.map((key) => kernel.idOf(key)) as [number, number];
    this.#ids = { 'default/web': web, 'default/api': api };
    const { names: memory, table } = this.#programs;
    this.#sweeper = new NameSweeper({ memory, inUse: new AddressesInUse(table), endpoints: () => undefined });
    this.#model = new DnsModel();
    this.#asks.clear();
  }

  /** @returns what came of it, and what is wrong */
  take(step: DnsStep): { came: string; wrong?: Omit<WrongDns, 'steps'> } {
    const { passed, expected } = this.#walk(step);
    if (expected !== undefined && passed !== expected)
      return {
        came: 'wrong',
        wrong: { kernel: passed ? 'passes' : 'is dropped', expected: expected ? 'passes' : 'is dropped' },
      };
    const before = JSON.stringify(PODS.map((key) => this.#model.lines(key)));
    if (step.do === 'sweep') this.#model.sweep((key, line) => this.#lines(key).includes(line));
    else this.#model.take(this.flaw(step), passed);
    const kernel = step.do === 'answer' || step.do === 'sweep' ? PODS.map((key) => this.#lines(key)) : undefined;
    const model = PODS.map((key) => this.#model.lines(key));
    const changed = JSON.stringify(model) !== before;
    if (kernel && JSON.stringify(kernel) !== JSON.stringify(model))
      return { came: 'wrong', wrong: { kernel, expected: model } };
    return { came: step.do === 'flow' ? (passed ? 'pass' : 'drop') : changed ? 'learned' : 'nothing' };
  }

  close(): void {
    this.#processors.release();
    this.#kernel.close();
  }

  #walk(step: DnsStep): { passed: boolean; expected?: boolean } {
    switch (step.do) {
      case 'ask':
        return { passed: this.#ask(step), expected: true };
      case 'answer':
        this.#answer(step);
        return { passed: true };
      case 'wait':
        this.#wait(step.seconds);
        return { passed: true };
      case 'sweep':
        this.#sweeper.sweep(sys.bootSeconds());
        return { passed: true };
      case 'flow': {
        const passed = this.#tcp(step, FLAGS.SYN);
        if (!step.hold && passed) this.#tcp(step, FLAGS.RST);
        return { passed, expected: this.#model.mayReach(step.pod, step.to) };
      }
      case 'close':
        this.#tcp(step, FLAGS.RST);
        return { passed: true };
      default:
        return step satisfies never;
    }
  }

  #ask(ask: Ask): boolean {
    const { name, type, class: klass, id, pod: key, tcp, cut } = ask;
    const message = encodeMessage({ id, flags: 0x0100, questions: [{ name, type, class: klass }] });
    const ends = this.#ends(ask);
    if (!tcp) {
      this.#asks.set(ask.ask, { ask, sent: 0 });
      return this.#run(key, udpFrame(ends, message), 'fromPod');
    }
    const stream = new TcpBed(
      {
        run: (bytes, hook = 'fromPod') => ({
          verdict: this.#run(key, bytes, hook) ? 'allow' : 'deny',
          retval: 0,
          events: [],
          out: Buffer.alloc(0),
        }),
      },
      ends,
    );
    this.#asks.set(ask.ask, { ask, stream, sent: 0 });
    return inParts(withLength(message), cut).every(({ at, part }) => stream.segment('fromPod', at, part));
  }

  #answer(answer: Answer): void {
    const held = this.#asks.get(answer.ask);
    if (!held) return;
    const { ask, stream } = held;
    const { id = ask.id, question = ask, flags = 0x8180, to = ask.pod, records } = answer;
    const { name, type, class: klass } = question;
    const answers = records.map(({ owner, ttl, class: of, address, target }) => ({
      ...(address === undefined ? cname(owner, target ?? '', ttl) : a(owner, address, ttl)),
      class: of,
    }));
    const message = encodeMessage({ id, flags, questions: [{ name, type, class: klass }], answers });
    if (stream) {
      const whole = withLength(message);
      for (const { at, part } of inParts(whole, answer.cut)) stream.segment('toPod', held.sent + at, part);
      held.sent += whole.length;
      return;
    }
    const { src } = this.#ends({ ...ask, pod: to });
    const { source = ask.server, sport = ask.port, dport = ask.sport } = answer;
    this.#run(to, udpFrame({ src: source, sport, dst: src, dport }, message), 'toPod');
  }

  /** Everything that was learned and asked is older by so many seconds: the clock of the programs cannot be moved. */
  #wait(seconds: number): void {
    const { names, pages } = this.#programs.names;
    later(this.#programs.names);
    const older = (words: Uint32Array, at: number) => {
      if (words[at] !== 0) words[at] = Math.max(1, (words[at] as number) - seconds);
    };
    const nameWords = wordsIn(names);
    for (let at = 0; at < nameWords.length; at += NAME_WORDS.size) older(nameWords, at + NAME_WORDS.expires);
    const pageWords = wordsIn(pages);
    for (let page = 0; page < pageWords.length; page += PAGE_WORDS.size)
      for (let i = 0; i < ENUMS.ea_name_sizes.EA_NAME_LINKS; i++)
        older(pageWords, page + LINK_WORDS.first + i * LINK_WORDS.size + LINK_WORDS.expires);
    const { entries, capacity } = this.#programs.table;
    for (let slot = 0; slot < capacity; slot++) {
      const at = slot * STRUCTS.ea_entry.size;
      if (this.#programs.table.tag(slot) === 0) continue;
      const kind = entries[at + FLOW + F.kind.offset];
      const inspected = (entries[at + FLOW + F.tcp_state.offset] as number) & ENUMS.ea_tcp_state.EA_TCP_INSPECT;
      if (kind === ENUMS.ea_kind.EA_KIND_FLOW && inspected && entries[at + PROTOCOL] === UDP)
        for (const i of [ASKED, ASKED + 4]) {
          const earlier = entries.readUInt32LE(at + i) - seconds * ASKED_IN_A_SECOND;
          entries.writeUInt32LE(earlier >>> 0, at + i);
        }
      if (kind !== ENUMS.ea_kind.EA_KIND_QUERY) continue;
      const asked = entries.readBigUInt64LE(at + ASKED_NS) - BigInt(seconds) * 1_000_000_000n;
      entries.writeBigUInt64LE(asked > 0n ? asked : 0n, at + ASKED_NS);
    }
  }

  /** What a pod knows by the kernel. */
  #lines(key: Pod): string[] {
    const { names } = this.#table.list({ endpoints: new Set([this.#ids[key]]), limit: 1e6, addresses: 1e6 });
    return names.flatMap((n) => n.addresses.map((one) => `${n.text} ${one.ip}${one.alias ? ' alias' : ''}`)).sort();
  }

  #tcp(flow: { readonly pod: Pod; readonly to: string; readonly sport: number }, flags: number): boolean {
    const ends = this.#ends({ pod: flow.pod, server: flow.to, sport: flow.sport, port: 443 });
    return this.#run(flow.pod, tcpFrame(ends, { seq: 1, flags }), 'fromPod');
  }

  #ends({ pod: key, server, sport, port }: Pick<Ask, 'pod' | 'server' | 'sport' | 'port'>): Ends {
    const src = IPS[key].find((ip) => ip.includes(':') === server.includes(':')) as string;
    return { src, sport, dst: server, dport: port };
  }

  #run(key: Pod, bytes: Buffer, hook: Hook): boolean {
    // What a processor keeps of other messages must not matter.
    this.#processors.next();
    return this.#kernel.send(key, bytes, hook).retval === PASS;
  }
}

function inParts(bytes: Buffer, cut: number): { at: number; part: Buffer }[] {
  if (cut <= 0 || cut >= bytes.length) return [{ at: 0, part: bytes }];
  return [
    { at: 0, part: bytes.subarray(0, cut) },
    { at: cut, part: bytes.subarray(cut) },
  ];
}

/** @param pair who takes the steps, if there is one already; it stays open */
export function fuzzDns(
  seed: number,
  limits: DnsLimits,
  progress: (steps: number) => void = () => undefined,
  pair?: DnsPair,
): DnsRun {
  const r = new Random(seed);
  const own = pair ?? new DnsPair();
  const run: DnsRun = { steps: 0, seen: {} };
  const going = () => run.steps < limits.count && performance.now() < (limits.until ?? Number.POSITIVE_INFINITY);
  try {
    while (going() && !run.wrong) {
      sequence(new DnsSteps(r), own, run);
      progress(run.steps);
    }
    return run;
  } finally {
    if (!pair) own.close();
  }
}

function sequence(random: DnsSteps, pair: DnsPair, run: DnsRun): void {
  pair.begin();
  const steps: DnsStep[] = [];
  while (steps.length < SEQUENCE) {
    const step = random.next();
    steps.push(step);
    const { came, wrong } = pair.take(step);
    run.steps++;
    const kind = `${step.do} ${came}`;
    run.seen[kind] = (run.seen[kind] ?? 0) + 1;
    if (!wrong) continue;
    run.wrong = smaller({ steps, ...wrong }, pair);
    return;
  }
}

/** Takes the steps of a sequence anew, from nothing. */
export function replayDns(steps: readonly DnsStep[], pair?: DnsPair): WrongDns | undefined {
  const own = pair ?? new DnsPair();
  try {
    return again(steps, own);
  } finally {
    if (!pair) own.close();
  }
}

function again(steps: readonly DnsStep[], pair: DnsPair): WrongDns | undefined {
  pair.begin();
  for (const [i, step] of steps.entries()) {
    const { wrong } = pair.take(step);
    if (wrong) return { steps: steps.slice(0, i + 1), ...wrong };
  }
  return undefined;
}

/** As few steps as still go wrong. */
function smaller(found: WrongDns, pair: DnsPair): WrongDns {
  let small = again(found.steps, pair) ?? found;
  for (let size = small.steps.length >> 1; size >= 1; size >>= 1) {
    for (let at = 0; at + size < small.steps.length; ) {
      const fewer = again(small.steps.toSpliced(at, size), pair);
      if (fewer && fewer.steps.length < small.steps.length) small = fewer;
      else at += size;
    }
  }
  return small;
}
