/**
 * Where a connection's time goes while connections are made: in the programs by hook, as the kernel counts it (kernel.bpf_stats_enabled), and in
 * the agent's process, with how often that is woken. Counting costs some time itself: programs that return at once show how much.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import Table from 'cli-table3';
import { Bed } from './versus/bed.js';
import { type Competitor, floor } from './versus/competitors.js';
import { networks } from './versus/measure.js';
import { ours } from './versus/ours.js';

const STATS = '/proc/sys/kernel/bpf_stats_enabled';
const SECONDS = 4;
/** What loading leaves behind, compiled code and garbage, is dealt with by then. */
const SETTLE_S = 6;
const IDLE_S = 3;

/** Of all programs of one name, so far. */
interface Runs {
  count: number;
  ns: number;
}

interface Process {
  /** CPU time, nanoseconds. */
  cpu: number;
  /** How often its main thread has come back from waiting. */
  woken: number;
}

interface Parts {
  readonly connects: number;
  readonly programs: ReadonlyMap<string, Runs>;
  readonly process?: Process;
  /** The same of a second in which nothing comes. */
  readonly idle?: Process;
}

/** Tells people; no goal is in it. */
export async function connectParts(bare: Bed, size: number): Promise<void> {
  const least = await parts(floor, bare, size);
  const mine = await parts(ours, bare, size);
  const [empty = { count: 1, ns: 0 }] = least.programs.values();
  const floorNs = empty.ns / empty.count;
  const table = new Table({
    head: ['of one connection', 'times', 'ns', 'beyond the floor'],
    style: { head: [], border: [] },
  });
  let total = 0;
  for (const [name, { count, ns }] of mine.programs) {
    const beyond = (ns - count * floorNs) / mine.connects;
    total += beyond;
    table.push([name, (count / mine.connects).toFixed(1), ...[ns / mine.connects, beyond].map(Math.round)]);
  }
  table.push(['all programs', '', '', Math.round(total)]);
  const { process: busy, idle } = mine;
  if (busy && idle) {
    const own = busy.cpu / mine.connects;
    const forEvents = (busy.cpu - idle.cpu * SECONDS) / mine.connects;
    table.push(['agent’s process', '', Math.round(own), '']);
    table.push(['  of that, what it does not do when idle', '', Math.round(forEvents), '']);
    table.push(['agent’s wake-ups, of 1,000 connections', ((busy.woken / mine.connects) * 1000).toFixed(1), '', '']);
    table.push(['  when idle, in a second', idle.woken.toFixed(1), '', '']);
  }
  process.stderr.write(`${table.toString()}\n`);
}

async function parts(who: Competitor, bare: Bed, size: number): Promise<Parts> {
  const bed = await Bed.create();
  const before = readFileSync(STATS, 'utf8');
  try {
    await who.prepare?.(bed);
    await who.load(bed, networks(size));
    await bed.connects(1);
    const pid = who.pid?.();
    if (pid !== undefined) await sleep(SETTLE_S * 1000);
    const quiet = pid === undefined ? undefined : processOf(pid);
    await sleep(IDLE_S * 1000);
    const idle = quiet && since(quiet, processOf(pid as number), IDLE_S);
    writeFileSync(STATS, '1');
    const [programs, start] = [programsNow(), pid === undefined ? undefined : processOf(pid)];
    const pairs = await bed.beside(bare, SECONDS);
    const connects = pairs.reduce((sum, pair) => sum + pair.made, 0);
    return {
      connects,
      programs: difference(programs, programsNow(), connects),
      ...(start && { process: since(start, processOf(pid as number), 1) }),
      ...(idle && { idle }),
    };
  } finally {
    writeFileSync(STATS, before);
    await who.unload(bed).catch(() => undefined);
    await bed.close();
  }
}

/** By the kernel's number. */
function programsNow(): Map<number, Runs & { name: string }> {
  const list = JSON.parse(
    execFileSync('bpftool', ['-j', 'prog', 'show'], { encoding: 'utf8', maxBuffer: 1 << 28 }),
  ) as { id: number; name?: string; run_cnt?: number; run_time_ns?: number }[];
  return new Map(
    list.map((p) => [p.id, { name: p.name ?? 'a constant', count: p.run_cnt ?? 0, ns: p.run_time_ns ?? 0 }]),
  );
}

/** What ran at least once for each connection; what is not of this bed hardly does. */
function difference(before: ReturnType<typeof programsNow>, after: ReturnType<typeof programsNow>, connects: number) {
  const sums = new Map<string, Runs>();
  for (const [id, { name, count, ns }] of after) {
    const was = before.get(id) ?? { count: 0, ns: 0 };
    const sum = sums.get(name) ?? { count: 0, ns: 0 };
    sums.set(name, { count: sum.count + count - was.count, ns: sum.ns + ns - was.ns });
  }
  return new Map([...sums].filter(([, { count }]) => count >= connects));
}

function processOf(pid: number): Process {
  const threads = readdirSync(`/proc/${pid}/task`);
  const cpu = threads.reduce(
    (sum, tid) => sum + Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ')[0]),
    0,
  );
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return { cpu, woken: Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1] ?? 0) };
}

function since(before: Process, now: Process, seconds: number): Process {
  return { cpu: (now.cpu - before.cpu) / seconds, woken: (now.woken - before.woken) / seconds };
}
