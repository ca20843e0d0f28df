/**
 * Packets of the same few thousand flows from several CPUs at once, both ways, while policies change: what stands in the flow table
 * meanwhile must be whole, and true of its key; and when all is quiet each flow is there once, judged by the last policy, and its
 * counters say how many packets went in.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import type { Programs } from '../../agent/kernel/loader.js';
import { KernelMapStore } from '../../agent/maps/store.js';
import { Compiler } from '../../src/compile/index.js';
import { toIr } from '../../src/dialects/index.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import { simulate } from '../../src/image/simulate.js';
import type { Image } from '../../src/image/types.js';
import { IFINDEX, loadForTest, localPods, SKB_IFINDEX, SKB_SIZE } from '../engines/engine.js';
import { buildC } from '../netns/shell.js';
import { pod, policy, snapshotOf } from '../policy/world.js';
import { type Line, NETWORKS, type Outcomes, POD, POD_IPS, type RaceKey, raceKeys } from './race-keys.js';
import { Random } from './random.js';
import { MappedTableView, type TableEntry, type TableView } from './table-view.js';

const KEYS = 2000;
/** Times that a packet goes in in a row, at most. */
const MOST = 40;
const RACERS = Math.max(2, availableParallelism());
/** Flows that are begun together. */
const BATCH = 200;
/** Milliseconds that these are begun in, and that all of them go on in. */
const BEGIN_MS = 20;
const ROUND_MS = 1500;
const ENDPOINT = 7;
const SHOWN = 20;
const VERDICTS = {
  allow: ENUMS.ea_verdict.EA_VERDICT_ALLOW,
  deny: ENUMS.ea_verdict.EA_VERDICT_DENY,
  partial: ENUMS.ea_verdict.EA_VERDICT_PARTIAL,
} as const;
const { EA_FLOW_INBOUND } = ENUMS.ea_flow_flags;

export interface RaceRun {
  packets: number;
  /** Entries looked at while packets went in. */
  looked: number;
  flips: number;
  /** Of packets that went in: not counted by any entry, because two CPUs began a flow at once. */
  uncounted: number;
  wrong: string[];
}

export interface RaceLimits {
  readonly count: number;
  /** Of performance.now(). */
  readonly until?: number;
  /** Milliseconds of each race that flows go on in. */
  readonly roundMs?: number;
  readonly view?: (programs: Programs) => TableView;
}

/** What reads the table of these programs. */
export function viewOf(programs: Programs): TableView {
  return new MappedTableView(programs.maps.flows as BpfMap, programs.maps.counters as BpfMap);
}

class Racer {
  readonly #lines: AsyncIterator<string>;
  private constructor(private readonly child: ChildProcess) {
    this.#lines = createInterface({ input: child.stdout as Readable })[Symbol.asyncIterator]();
  }

  static start(binary: string, cpu: number, programs: Programs, seed: number, barrier: string): Racer {
    const { fromPod, toPod } = programs.programs;
    const args = [cpu, fromPod.id, toPod.id, seed, MOST, barrier, RACERS].map(String);
    // Who looks at the table gets its turn.
    return new Racer(spawn('nice', ['-n', '10', binary, ...args], { stdio: ['pipe', 'pipe', 'inherit'] }));
  }

  /** From now on these. */
  async send(lines: readonly Line[]): Promise<void> {
    const text = lines.map((l) => `${l.way} ${l.must} ${l.bytes.toString('hex')}\n`);
    this.child.stdin?.write(`${text.join('')}go\n`);
    await this.#lines.next();
  }

  /** For each line ever sent: how many packets went in, and how many rows of them ended as they must not. */
  async stop(): Promise<{ sent: number[]; wrong: number[] }> {
    const closed = once(this.child, 'close');
    this.child.stdin?.end();
    const [sent, wrong] = [await this.#lines.next(), await this.#lines.next()];
    const [code] = await closed;
    if (code !== 0) throw new Error(`a racer ended with ${code}`);
    return { sent: JSON.parse(String(sent.value)), wrong: JSON.parse(String(wrong.value)) };
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }
}

/** Two policies that differ in what is `switching`. */
function images(): Image[] {
  const compiler = new Compiler();
  return [true, false].map((open) => {
    const blocks = [NETWORKS.allowed, ...(open ? [NETWORKS.switching] : [])];
    const egress = blocks.map((list) => ({ to: list.map((cidr) => ({ ipBlock: { cidr } })) }));
    const spec = { podSelector: {}, policyTypes: ['Egress'], egress };
    const snapshot = snapshotOf(pod(POD, [...POD_IPS], { app: 'web' }) + policy('default/p', spec));
    return compiler.compile(toIr(snapshot).ir, snapshot, localPods(snapshot));
  });
}

/** One race from nothing. */
async function race(seed: number, run: RaceRun, { view = viewOf, roundMs = ROUND_MS }: RaceLimits): Promise<void> {
  // Room enough: what is denied makes room where it has more than a quarter of a share.
  const programs = loadForTest({ flows: 65_536, events: 1 << 20 });
  const store = new KernelMapStore(programs.maps);
  const racers: Racer[] = [];
  const dir = mkdtempSync(join(tmpdir(), 'ea-race-'));
  try {
    const both = images();
    const keys = raceKeys(seed, KEYS, ENDPOINT);
    const ends = { uid: POD, ifindex: IFINDEX, ifname: 'lo', id: ENDPOINT, mac: '', l3: false } as const;
    const bindings = [{ ...ends, key: POD, ips: [...POD_IPS], kind: 'pod' as const }];
    store.apply(both[0] as Image, bindings);
    store.tidy();
    const table = view(programs);
    const judge = new Judge(keys, both, table, run);
    const binary = await buildC('test/fuzz/racer.c');
    const barrier = join(dir, 'barrier');
    writeFileSync(barrier, Buffer.alloc(8));
    for (let cpu = 0; cpu < RACERS; cpu++) racers.push(Racer.start(binary, cpu, programs, seed + cpu, barrier));
    const when = new Random(seed);
    let last = 0;

    const meanwhile = async (ms: number) => {
      for (const end = performance.now() + ms; performance.now() < end; ) {
        last = 1 - last;
        run.flips++;
        store.apply(both[last] as Image, bindings);
        const settled = store.tidyLater();
        judge.look();
        if (when.chance(50)) await settled;
        else await sleep(when.below(20));
      }
      await store.tidyLater();
    };
    const [opens, later] = [keys.flatMap((k) => k.opens), keys.flatMap((k) => k.later)];
    for (let from = 0; from < opens.length; from += BATCH) {
      await Promise.all(racers.map((r) => r.send(opens.slice(from, from + BATCH))));
      await meanwhile(BEGIN_MS);
    }
    // None of them went out of the way of chance: each flow is there before its peer answers.
    await Promise.all(racers.map((r) => r.send([])));
    const own = new Map<Line, number>();
    for (const line of opens) send(programs, line, own);
    await Promise.all(racers.map((r) => r.send(later)));
    await meanwhile(roundMs);
    const ended = await Promise.all(racers.map((r) => r.stop()));
    for (const line of opens) send(programs, line, own);

    const sent = new Map(own);
    for (const { sent: numbers, wrong } of ended)
      for (const [i, line] of [...opens, ...later].entries()) {
        sent.set(line, (sent.get(line) ?? 0) + (numbers[i] ?? 0));
        run.packets += numbers[i] ?? 0;
        if (wrong[i])
          run.wrong.push(`${wrong[i]} rows of ${line.way} ${line.bytes.toString('hex')} did not ${line.must}`);
      }
    judge.end(sent, last);
  } finally {
    for (const racer of racers) racer.kill();
    rmSync(dir, { recursive: true, force: true });
    store.close();
    programs.close();
  }
}

function send(programs: Programs, line: Line, own: Map<Line, number>): void {
  const ctx = Buffer.alloc(SKB_SIZE);
  ctx.writeUInt32LE(IFINDEX, SKB_IFINDEX);
  const { fromPod, toPod } = programs.programs;
  (line.way === 'out' ? fromPod : toPod).testRun(line.bytes, { ctx });
  own.set(line, (own.get(line) ?? 0) + 1);
}

/** What must hold of each entry while packets go in, and at the end. */
class Judge {
  readonly #keys: Map<string, RaceKey>;
  readonly #outcomes = new Map<string, Outcomes['may']>();

  constructor(
    keys: readonly RaceKey[],
    both: readonly Image[],
    private readonly table: TableView,
    private readonly run: RaceRun,
  ) {
    this.#keys = new Map(keys.map((k) => [k.name, k]));
    for (const k of keys)
      this.#outcomes.set(
        k.name,
        both.map((image) => simulate(image, k.packet, POD_IPS)),
      );
  }

  look(): void {
    const seen = new Set<string>();
    for (const entry of this.table.entries()) {
      const name = entry.key.toString('hex');
      const why = this.#fault(entry, name) ?? (seen.has(name) && this.table.onceWhileWritten ? 'twice' : undefined);
      if (why) this.#say(name, why, entry);
      seen.add(name);
      this.run.looked++;
    }
  }

  /** What an entry of this key can never be. @returns why */
  #fault(entry: TableEntry, name: string): string | undefined {
    const key = this.#keys.get(name);
    if (!key) return 'nobody sent a packet of this key';
    if (entry.createdNs === 0n) return 'torn: it was never made';
    const inbound = (entry.flags & EA_FLOW_INBOUND) !== 0;
    if (key.kind !== 'churn' && inbound !== (key.kind === 'inbound')) return 'it was opened by the other side';
    if (inbound) return entry.verdict === VERDICTS.allow ? undefined : 'what a peer opened is not allowed';
    const may = this.#outcomes.get(name) ?? [];
    // Rule and verdict are two words: a reader may see one of before a change and one of after it.
    if (!may.some((v) => VERDICTS[v.verdict] === entry.verdict)) return 'a verdict that no policy gives';
    if (!may.some((v) => v.rule === entry.rule)) return 'a rule that does not decide about it';
    return undefined;
  }

  /** @param last which of the two images is in force */
  end(sent: ReadonlyMap<Line, number>, last: number): void {
    const entries = new Map<string, TableEntry>();
    const before = this.run.uncounted;
    for (const entry of this.table.entries()) {
      const name = entry.key.toString('hex');
      if (entries.has(name)) this.#say(name, 'it is there twice', entry);
      const why = this.#fault(entry, name);
      if (why) this.#say(name, why, entry);
      entries.set(name, entry);
    }
    for (const key of this.#keys.values()) {
      const entry = entries.get(key.name);
      if (key.kind === 'churn') continue;
      if (!entry) this.#say(key.name, 'it is not there');
      else this.#count(key, entry, sent, last);
    }
    const [lacking, may] = [this.run.uncounted - before, this.table.uncounted()];
    if (lacking > may) this.run.wrong.push(`${lacking} packets are not counted, where ${may} were judged alone`);
  }

  #count(key: RaceKey, entry: TableEntry, sent: ReadonlyMap<Line, number>, last: number): void {
    const lines = new Set([...key.opens, ...key.later]);
    const of = (way: Line['way']) => [...lines].reduce((n, l) => n + (l.way === way ? (sent.get(l) ?? 0) : 0), 0);
    const pairs: [what: string, counted: number, went: number][] = [
      ['out', entry.packetsOut + entry.drops, of('out')],
      ['in', entry.packetsIn, of('in')],
    ];
    for (const [what, counted, went] of pairs) {
      if (counted > went) this.#say(key.name, `${counted} packets ${what} are counted of ${went}`, entry);
      this.run.uncounted += went - counted;
    }
    if (key.kind === 'allowed' && entry.drops > 0) this.#say(key.name, 'drops of what is allowed', entry);
    if (key.kind === 'denied' && entry.packetsOut > 0) this.#say(key.name, 'packets of what is denied', entry);
    if (key.kind === 'inbound') return;
    const verdict = this.#outcomes.get(key.name)?.[last];
    if (!verdict || VERDICTS[verdict.verdict] !== entry.verdict || verdict.rule !== entry.rule)
      this.#say(key.name, `not as the last policy has it: ${JSON.stringify(verdict)}`, entry);
  }

  #say(name: string, what: string, entry?: TableEntry): void {
    const text = { ...entry, key: undefined, createdNs: undefined };
    const { kind, packet } = this.#keys.get(name) ?? {};
    if (this.run.wrong.length < SHOWN)
      this.run.wrong.push(`${kind} ${packet?.to} ${packet?.protocol} (${name}): ${what} ${JSON.stringify(text)}`);
  }
}

/** Races, each from nothing, until so many packets have gone in, or time is up, or something is wrong. */
export async function fuzzRace(
  seed: number,
  limits: RaceLimits,
  progress: (packets: number) => void = () => undefined,
): Promise<RaceRun> {
  const run: RaceRun = { packets: 0, looked: 0, flips: 0, uncounted: 0, wrong: [] };
  for (let n = 0; run.packets < limits.count && performance.now() < (limits.until ?? Number.POSITIVE_INFINITY); n++) {
    await race(seed + n, run, limits);
    if (run.wrong.length > 0) break;
    progress(run.packets);
  }
  return run;
}
