/** The comparison as tables, as JSON and as pictures, and what of it is a goal. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, release, totalmem } from 'node:os';
import { join } from 'node:path';
import Table from 'cli-table3';
import { root } from '../../netns/shell.js';
import { atLeast, atMost, type Result } from '../result.js';
import type { Applied } from './applied.js';
import { floor, others } from './competitors.js';
import { type Key, QUANTITIES, type Samples, short } from './figures.js';
import type { Effort } from './measure.js';
import { NAME } from './ours.js';
import type { PacketFigures } from './packets.js';
import { type Point, type Series, svg } from './svg.js';

export interface Report {
  readonly samples: Samples;
  readonly packets: PacketFigures;
  readonly applied: readonly Applied[];
  readonly effort: Effort;
  readonly names: readonly string[];
  readonly quick: boolean;
}

const KEYS = Object.keys(QUANTITIES) as Key[];
/** Of these a picture says more than a column. */
const PICTURES: Partial<Record<Key, string>> = {
  connects: 'connects',
  small: 'small-packets',
  p99: 'latency',
  load: 'load',
  change: 'change',
  memory: 'memory',
};
const SETS = ['ipset', 'nftables set'];

/** Prints the tables (to stderr: stdout is for the results) and writes pictures and figures: of a full run into bench/, of a quick one into dist/bench/. */
export function report(all: Report): void {
  const where = machine();
  const note = `${where.text}; ${all.effort.rounds} rounds, spread from the least to the most`;
  const directory = join(root, all.quick ? 'dist/bench' : 'bench');
  mkdirSync(directory, { recursive: true });
  process.stderr.write(`\n${note}\ninstructions a packet: ${where.instructions}\n`);
  for (const key of KEYS) process.stderr.write(`\n${tableOf(all, key)}\n`);
  process.stderr.write(`${packetTable(all)}\n`);
  for (const [who, why] of all.samples.failures) process.stderr.write(`${who.replace('|', ', ')}: ${why}\n`);
  for (const [key, file] of Object.entries(PICTURES) as [Key, string][]) {
    const { name, unit } = QUANTITIES[key];
    const series = all.names.map((who): Series => ({ name: who, points: points(all, who, key) }));
    const shown = series.filter((s) => s.points.length > 0);
    const chart = { title: name, xLabel: 'rules, or CIDRs', yLabel: unit, note, series: shown };
    writeFileSync(join(directory, `${file}.svg`), svg(chart));
  }
  const { floor: least, known, first, again } = all.packets;
  const title = 'a packet in the program (BPF_PROG_TEST_RUN)';
  const chart = { title, xLabel: 'CIDRs', yLabel: 'ns a packet', note, series: [least, known, first, again] };
  writeFileSync(join(directory, 'packet.svg'), svg(chart));
  writeFileSync(join(directory, 'versus.json'), `${JSON.stringify(asJson(all, where), null, 1)}\n`);
}

/** What is a goal. */
export function results({ samples, packets, applied }: Report): Result[] {
  const { sizes } = samples;
  const ratios = sizes.map((size) => samples.figure(NAME, size, 'against')?.median ?? 0);
  const ahead = (other: string) => Math.min(...sizes.map((size) => samples.ratio(NAME, other, size, 'against') ?? 0));
  const all = (key: Key) => sizes.flatMap((size) => samples.of(NAME, size)).flatMap((sample) => sample[key] ?? []);
  const changes = sizes.map((size) => samples.figure(NAME, size, 'change')?.median ?? Number.POSITIVE_INFINITY);
  const at = `the worst of ${sizes.map((s) => short(s)).join(', ')} CIDRs`;
  const ns = (values: readonly Point[]) => values.map((p) => Math.round(p.y)).join(', ');
  return [
    atMost(
      'known flow against the floor',
      packets.knownToFloor,
      'x',
      `${ns(packets.known.points)} ns against ${ns(packets.floor.points.slice(0, 1))} ns; ${at}`,
      1.7,
    ),
    atMost(
      'first packet, most CIDRs against fewest',
      packets.mostToLeast,
      'x',
      `${ns(packets.first.points)} ns with ${sizes.map((s) => short(s)).join(', ')} CIDRs`,
      1.15,
    ),
    atLeast('connects against no filter', Math.min(...ratios), 'x', at, 0.97),
    ...SETS.map((set) => atLeast(`connects against ${set}`, ahead(set), 'x', at, 1.06)),
    atMost(
      'one rule changed, in the agent, p99',
      Math.max(...applied.map((a) => a.p99)),
      'ms',
      `object → maps written, median ${applied.map((a) => short(a.p50)).join(', ')} ms; ${at}`,
      5,
    ),
    atMost(
      'one rule changed, under traffic, median',
      Math.max(...changes),
      'ms',
      `file written → first packet that feels it; ${at}`,
      5,
    ),
    atMost('packets lost while rules change', sum(all('lost')), 'packets', 'all sizes, all rounds', 0),
    atMost('packets wrongly passed while rules change', sum(all('wrong')), 'packets', 'all sizes, all rounds', 0),
  ];
}

function sum(values: readonly number[]): number {
  return values.length === 0 ? Number.POSITIVE_INFINITY : values.reduce((a, b) => a + b, 0);
}

function points({ samples }: Report, who: string, key: Key): Point[] {
  return samples.sizes.flatMap((x) => {
    const figure = samples.figure(who, x, key);
    return figure ? [{ x, y: figure.median, min: figure.min, max: figure.max }] : [];
  });
}

/** A row for each competitor, a column for each size: `median (least–most) ratio to the floor`. */
function tableOf({ samples, names }: Report, key: Key): string {
  const { name, unit, better } = QUANTITIES[key];
  const head = [`${name}: ${unit}, ${better} is better`, ...samples.sizes.map((s) => short(s))];
  const table = new Table({ head, style: { head: [], border: [] } });
  for (const who of names) {
    const cells = samples.sizes.map((size) => {
      const figure = samples.figure(who, size, key);
      if (!figure) return samples.failures.has(`${who}|${size}`) ? 'see below' : '';
      const ratio = figure.ratio === undefined ? '' : ` ${short(figure.ratio)} ×`;
      return `${short(figure.median)} (${short(figure.min)}–${short(figure.max)})${ratio}`;
    });
    if (cells.some((cell) => cell !== '')) table.push([who, ...cells]);
  }
  return table.toString();
}

function packetTable({ samples, packets }: Report): string {
  const head = ['a packet in the program: ns', ...samples.sizes.map((s) => short(s))];
  const table = new Table({ head, style: { head: [], border: [] } });
  for (const { name, points: list } of [packets.floor, packets.known, packets.first, packets.again]) {
    const ratio = (i: number, y: number) => short(y / (packets.floor.points[i]?.y ?? Number.NaN));
    table.push([name, ...list.map((p, i) => `${short(p.y)} (${short(p.min)}–${short(p.max)}) ${ratio(i, p.y)} ×`)]);
  }
  return table.toString();
}

interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly commit: string;
  readonly date: string;
  /** Instructions that a core has carried out are counted by hardware that virtual machines often hide. */
  readonly instructions: string;
  readonly text: string;
}

function machine(): Machine {
  const cpu = /^model name\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown CPU';
  const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
  const changed = git('status', '--porcelain', '--untracked-files=no') !== '';
  const commit = `${git('rev-parse', '--short', 'HEAD')}${changed ? ' and changes' : ''}`;
  const [cores, date] = [availableParallelism(), new Date().toISOString().slice(0, 10)];
  const text = `${cores} cores, ${cpu}; Linux ${release()}; commit ${commit}; ${date}`;
  const memoryGiB = Math.round(totalmem() / 2 ** 30);
  return { cpu, cores, memoryGiB, kernel: release(), commit, date, instructions: instructions(), text };
}

/** What `perf` says to the question: it ends well, too, where the hardware's counters are hidden. */
function instructions(): string {
  const { error, stderr } = spawnSync('perf', ['stat', '-e', 'instructions', 'true'], { encoding: 'utf8' });
  if (error) return `not counted: ${error.message}`;
  const said = stderr.split('\n').find((line) => line.includes('instructions'));
  if (said === undefined || said.includes('<not'))
    return `not counted, perf says: ${(said ?? stderr).trim().replace(/\s+/g, ' ')}`;
  return 'not counted, although this machine could';
}

function asJson(all: Report, where: Machine): object {
  const { samples, packets, applied, effort, names } = all;
  const figures = names.flatMap((who) =>
    samples.sizes.flatMap((size) => KEYS.flatMap((key) => samples.figure(who, size, key) ?? [])),
  );
  const units = Object.fromEntries(KEYS.map((key) => [key, QUANTITIES[key]]));
  const failures = Object.fromEntries(samples.failures);
  return {
    machine: where,
    effort,
    floor: floor.name,
    others: others.map((c) => c.name),
    units,
    figures,
    packets,
    applied,
    failures,
  };
}
