/**
 * npm run bench -- against REVISION: what a packet costs now and what it cost then, in one run. Both are built; two processes,
 * each with its own programs in the kernel, measure in turn, and what counts is the ratio pair by pair.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { AgentError } from '../../src/errors.js';
import { atMost, median, progress, type Result } from './result.js';

const ROUNDS = 15;
/** What the policy of this project's own changes may cost. */
const MOST = 1.05;

/** Measures once for each line that it is given: the empty program, a known flow, a first packet among few networks and among many. */
const MEASURE = `
const { floorTime, knownFlowTime, firstPacketTime } = await import(process.cwd() + '/dist/test/bench/packet.js');
const [floor, known, few, many] = [floorTime(), knownFlowTime(10, 10), firstPacketTime(10, 10), firstPacketTime(1000, 100_000)];
console.log('[]');
for await (const _ of (await import('node:readline')).createInterface({ input: process.stdin }))
  console.log(JSON.stringify([floor.time(), known.time(), few(), many()]));
`;

type Times = readonly [floor: number, known: number, few: number, many: number];

/** A process of one tree, and its answers one by one. */
function measurer(tree: string): { child: ChildProcess; ask(): Promise<Times> } {
  const child = spawn(process.execPath, ['--input-type=module', '-e', MEASURE], {
    cwd: tree,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  let begun = false;
  const next = async (): Promise<Times> => {
    const { value, done } = await lines.next();
    if (done) throw new AgentError('INTERNAL', `the measuring process of ${tree} ended`);
    return JSON.parse(value) as Times;
  };
  return {
    child,
    ask: async () => {
      if (!begun) await next();
      begun = true;
      child.stdin?.write('\n');
      return next();
    },
  };
}

/**
 * Makes a worktree of a revision, and builds it.
 * @param revision anything that git knows. @throws AgentError USAGE where it knows no such thing
 */
export function buildRevision(here: string, tree: string, revision: string): void {
  try {
    execFileSync('git', ['worktree', 'add', '--detach', tree, revision], { cwd: here, stdio: 'pipe' });
  } catch (e) {
    throw new AgentError('USAGE', `${revision}: ${String((e as { stderr?: Buffer }).stderr).trim()}`);
  }
  symlinkSync(join(here, 'node_modules'), join(tree, 'node_modules'));
  execFileSync(join(tree, 'scripts', 'build'), { cwd: tree, stdio: ['ignore', 'ignore', 'inherit'] });
}

/** @param revision anything that git knows. @throws AgentError USAGE where it knows no such thing */
export async function against(revision: string): Promise<Result[]> {
  const here = process.cwd();
  const dir = mkdtempSync(join(tmpdir(), 'ea-bench-'));
  const tree = join(dir, 'tree');
  const children: ChildProcess[] = [];
  try {
    progress(`building ${revision}`);
    buildRevision(here, tree, revision);
    const [now, then] = [measurer(here), measurer(tree)];
    children.push(now.child, then.child);
    const pairs: [Times, Times][] = [];
    for (let i = 0; i < ROUNDS; i++) {
      // Who goes first changes: neither always has the warmer caches.
      const first = await (i % 2 === 0 ? now : then).ask();
      const second = await (i % 2 === 0 ? then : now).ask();
      pairs.push(i % 2 === 0 ? [first, second] : [second, first]);
      progress(`round ${i + 1}: ${pairs[i]?.map((t) => t.map((x) => Math.round(x)).join(' ')).join(' | ')}`);
    }
    const row = (name: string, at: number): Result => {
      const ratio = median(pairs.map(([a, b]) => (a[at] as number) / (b[at] as number)));
      const ns = [0, 1].map((k) => Math.round(median(pairs.map((p) => (p[k] as Times)[at] as number))));
      return atMost(name, ratio, 'x', `${ns[0]} ns against ${ns[1]} ns at ${revision}`, MOST);
    };
    return [
      row('packet of a known flow, against then', 1),
      row('first packet, 10 networks, against then', 2),
      row('first packet, 100,000 networks, against then', 3),
    ];
  } finally {
    for (const child of children) child.kill();
    rmSync(dir, { recursive: true, force: true });
    execFileSync('git', ['worktree', 'prune'], { cwd: here, stdio: 'ignore' });
  }
}
