/**
 * npm run fuzz: random clusters, policies of every dialect, packets and updates through the three engines; or packets through the
 * strict parser; or sequences of packets through all hooks, and through the flow table, and their models; or of DNS queries and answers, and
 * a model of what pods know; or of segments that say something, and a model of who receives them; or the flows of one pod from all CPUs at
 * once. Its last line has the figures; 1 is its status where something was found.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { differential, noFigures } from './differential.js';
import { fuzzDns, replayDns } from './dns-run.js';
import type { DnsStep } from './dns-types.js';
import type { Batch, Disagreement } from './history.js';
import { fuzzFlows, replayFlows } from './flow-run.js';
import type { Step } from './flow-types.js';
import { ManyPackets } from './kernel.js';
import { fuzzPackets, replayPacket, type WrongPacket } from './packet-run.js';
import { fuzzRace } from './race-run.js';
import { fuzzSaid, replaySaid } from './said-run.js';
import type { SaidStep } from './said-types.js';
import { replay } from './shrink.js';
import { fuzzTable, replayTable, type TableStep } from './table-run.js';

const PROGRESS_MS = 30_000;

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string' },
    seed: { type: 'string' },
    pairs: { type: 'string' },
    packets: { type: 'boolean', default: false },
    flows: { type: 'boolean', default: false },
    dns: { type: 'boolean', default: false },
    said: { type: 'boolean', default: false },
    race: { type: 'boolean', default: false },
    count: { type: 'string' },
    out: { type: 'string', default: 'dist/fuzz' },
    replay: { type: 'string' },
  },
});

function number(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  const n = Number(text);
  if (Number.isFinite(n) && n >= 0) return n;
  console.error(`--${name} ${text}: is not a number`);
  process.exit(2);
}

const many = (n: number) => n.toLocaleString('en');
const seed = number(options.seed, 'seed') ?? (Date.now() % 2 ** 31) | 1;
const start = performance.now();
const seconds = () => Math.round((performance.now() - start) / 1000);
const minutes = number(options.minutes, 'minutes');
const until = minutes === undefined ? undefined : start + minutes * 60_000;

/** Writes what was found, and says where. */
function found(text: string, extension: string): void {
  mkdirSync(options.out, { recursive: true });
  const file = join(options.out, `found-${seed}.${extension}`);
  writeFileSync(file, text);
  console.log(`found: ${file}`);
}

function runDifferential(): boolean {
  const figures = noFigures();
  const line = () =>
    `${many(figures.pairs)} pairs, ${many(figures.worlds)} worlds, ${many(figures.updates)} updates, ${many(figures.flows)} flows judged again, seed ${seed}, ${seconds()} s`;
  let told = start;
  const pairs = number(options.pairs, 'pairs') ?? (until === undefined ? 1_000_000 : undefined);
  const small = differential(
    seed,
    { ...(pairs === undefined ? {} : { pairs }), ...(until === undefined ? {} : { until }) },
    figures,
    () => {
      if (performance.now() - told < PROGRESS_MS) return;
      told = performance.now();
      console.error(`… ${line()}`);
    },
  );
  if (small) {
    found(small.text, small.extension);
    console.log(JSON.stringify(small.answers));
  }
  console.log(JSON.stringify({ ...figures.verdicts, names: figures.names, said: figures.said }));
  console.log(`fuzz: ${line()}, ${small ? 1 : 0} disagreements`);
  return small === undefined;
}

function runPackets(): boolean {
  const count = number(options.count, 'count') ?? (until === undefined ? 1_000_000 : Number.POSITIVE_INFINITY);
  let told = start;
  const { packets, seen, wrong } = fuzzPackets(seed, { count, ...(until === undefined ? {} : { until }) }, (n) => {
    if (performance.now() - told < PROGRESS_MS) return;
    told = performance.now();
    console.error(`… ${many(n)} packets, seed ${seed}, ${seconds()} s`);
  });
  if (wrong) found(`${JSON.stringify(wrong, null, 1)}\n`, 'json');
  console.log(JSON.stringify(seen));
  console.log(`fuzz: ${many(packets)} packets, seed ${seed}, ${seconds()} s, ${wrong ? 1 : 0} disagreements`);
  return wrong === undefined;
}

/** What may leave, first, and then what is told of it, half of the time and of the steps each. */
function runFlows(): boolean {
  const count = number(options.count, 'count') ?? (until === undefined ? 1_000_000 : Number.POSITIVE_INFINITY);
  let told = start;
  const progress = (n: number) => {
    if (performance.now() - told < PROGRESS_MS) return;
    told = performance.now();
    console.error(`… ${many(n)} steps, seed ${seed}, ${seconds()} s`);
  };
  const half = until === undefined ? {} : { until: (start + until) / 2 };
  const paths = fuzzFlows(seed, { count: count / 2, ...half }, progress);
  const table = paths.wrong
    ? undefined
    : fuzzTable(seed, { count: count / 2, ...(until === undefined ? {} : { until }) }, progress);
  const wrong = paths.wrong ?? table?.wrong;
  if (wrong) found(`${JSON.stringify(wrong, null, 1)}\n`, 'json');
  console.log(JSON.stringify({ paths: paths.seen, ...(table ? { table: table.seen } : {}) }));
  const steps = paths.steps + (table?.steps ?? 0);
  console.log(`fuzz: ${many(steps)} steps of flows, seed ${seed}, ${seconds()} s, ${wrong ? 1 : 0} disagreements`);
  return wrong === undefined;
}

/** Queries, answers, and connections to what was learned. */
function runDns(): boolean {
  const count = number(options.count, 'count') ?? (until === undefined ? 1_000_000 : Number.POSITIVE_INFINITY);
  let told = start;
  const { steps, seen, wrong } = fuzzDns(seed, { count, ...(until === undefined ? {} : { until }) }, (n) => {
    if (performance.now() - told < PROGRESS_MS) return;
    told = performance.now();
    console.error(`… ${many(n)} steps, seed ${seed}, ${seconds()} s`);
  });
  if (wrong) found(`${JSON.stringify(wrong, null, 1)}\n`, 'json');
  console.log(JSON.stringify(seen));
  console.log(`fuzz: ${many(steps)} steps of DNS, seed ${seed}, ${seconds()} s, ${wrong ? 1 : 0} disagreements`);
  return wrong === undefined;
}

/** Connections that are judged by what they say, and what arrives of them. */
function runSaid(): boolean {
  const count = number(options.count, 'count') ?? (until === undefined ? 1_000_000 : Number.POSITIVE_INFINITY);
  let told = start;
  const { steps, seen, wrong } = fuzzSaid(seed, { count, ...(until === undefined ? {} : { until }) }, (n) => {
    if (performance.now() - told < PROGRESS_MS) return;
    told = performance.now();
    console.error(`… ${many(n)} steps, seed ${seed}, ${seconds()} s`);
  });
  if (wrong) found(`${JSON.stringify(wrong, null, 1)}\n`, 'json');
  console.log(JSON.stringify(seen));
  console.log(
    `fuzz: ${many(steps)} steps of connections, seed ${seed}, ${seconds()} s, ${wrong ? 1 : 0} disagreements`,
  );
  return wrong === undefined;
}

/** All CPUs at once, in the same flows. */
async function runRace(): Promise<boolean> {
  const count = number(options.count, 'count') ?? (until === undefined ? 100_000_000 : Number.POSITIVE_INFINITY);
  let told = start;
  const run = await fuzzRace(seed, { count, ...(until === undefined ? {} : { until }) }, (n) => {
    if (performance.now() - told < PROGRESS_MS) return;
    told = performance.now();
    console.error(`… ${many(n)} packets, seed ${seed}, ${seconds()} s`);
  });
  if (run.wrong.length > 0) found(`${run.wrong.join('\n')}\n`, 'txt');
  for (const line of run.wrong) console.log(line);
  console.log(
    `fuzz: ${many(run.packets)} packets on all CPUs at once, ${many(run.looked)} entries looked at, ${many(run.flips)} changes of policy, ${many(run.uncounted)} packets not counted, seed ${seed}, ${seconds()} s, ${run.wrong.length} wrong`,
  );
  return run.wrong.length === 0;
}

interface Found {
  /** Of the differential fuzzer. */
  readonly history: { changes: [string, Batch['changes'][number][1] | null][]; ownIps: string[] }[];
  readonly found: Disagreement;
  /** Of that of flows, of the flow table, of DNS, or of connections: the steps tell. */
  readonly steps?: readonly Step[] | readonly TableStep[] | readonly DnsStep[] | readonly SaidStep[];
  /** Of that of packets. */
  readonly frame?: string;
}

/** What was found before: does it still end badly? */
function runReplay(file: string): boolean {
  const read = JSON.parse(readFileSync(file, 'utf8')) as Found;
  const { history, found: before, steps } = read;
  const wrong = (now: object | undefined) => {
    if (now) console.log(JSON.stringify(now));
    console.log(`fuzz: ${file}: ${now ? 1 : 0} disagreements`);
    return now === undefined;
  };
  if (read.frame !== undefined) return wrong(replayPacket(read as unknown as WrongPacket));
  if (steps?.[0]?.do === 'policy') {
    const now = replayTable(steps as readonly TableStep[]);
    return wrong(now && { kernel: now.kernel, expected: now.expected });
  }
  if (steps?.[0]?.do === 'connect') return wrong(replaySaid(steps as readonly SaidStep[]));
  if (steps?.some((step) => step.do === 'ask')) {
    const now = replayDns(steps as readonly DnsStep[]);
    return wrong(now && { kernel: now.kernel, expected: now.expected });
  }
  if (steps) {
    const [now] = replayFlows(steps as readonly Step[]);
    return wrong(now && { walked: now.walked, final: now.final, expected: now.expected });
  }
  const kernel = new ManyPackets();
  // JSON has no undefined: an object that is gone is null, or nothing.
  const batches = history.map(
    (b): Batch => ({
      ...b,
      changes: b.changes.map(([id, object]) => [id, object ?? undefined]),
    }),
  );
  const now = replay(batches, before, kernel);
  kernel.close();
  return wrong(now?.answers);
}

async function run(): Promise<boolean> {
  if (options.race) return runRace();
  if (options.replay !== undefined) return runReplay(options.replay);
  if (options.flows) return runFlows();
  if (options.dns) return runDns();
  if (options.said) return runSaid();
  return options.packets ? runPackets() : runDifferential();
}
const good = await run();
process.exit(good ? 0 : 1);
