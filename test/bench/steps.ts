/** What a packet of a known flow pays for, in nanoseconds for each step (steps.bpf.c). */
import Table from 'cli-table3';
import type { BpfProgram } from '../../agent/kernel/libbpf/program.js';
import { load } from '../../agent/kernel/loader.js';
import { AgentError } from '../../src/errors.js';
import { benchObject } from './bpf-objects.js';
import { knowing, leastOf, passes, TCP4, TCP6, tenths, timeOf, type Way } from './packet.js';
import { atMost, type Result } from './result.js';

/** In the order in which a packet takes them, and what each adds. */
const STEPS: readonly (readonly [program: string, what: string])[] = [
  ['step_nothing', 'a program that returns at once'],
  ['step_endpoint', 'endpoint, set and epoch'],
  ['step_parse', 'headers'],
  ['step_key', 'key'],
  ['step_lookup', 'look-up in the flow table'],
  ['step_counters', 'counters, state'],
  ['from_pod', 'the rest: MAC, checksums, branches'],
];
const WAYS = [TCP4, TCP6];
const ROUNDS = 9;

interface Column {
  readonly way: Way;
  /** Nanoseconds up to the end of each step. */
  readonly ends: readonly number[];
}

function column(way: Way): Column {
  const { kernel, packet } = knowing(10, 10, way, load({ objectPath: benchObject('steps') }));
  try {
    const programs = STEPS.map(([name]) => kernel.programs.all[name] as BpfProgram);
    for (const program of programs)
      if (!passes(program, packet)) throw new AgentError('INTERNAL', `a known flow does not pass ${program.name}`);
    return {
      way,
      ends: leastOf(
        programs.map((program) => () => timeOf(program, packet)),
        ROUNDS,
      ),
    };
  } finally {
    kernel.close();
  }
}

/** The table goes to people; as results, how much above the floor the whole is. */
export async function steps(): Promise<Result[]> {
  const columns = WAYS.map(column);
  const head = [
    'a packet of a known flow, up to the end of',
    ...columns.flatMap(({ way }) => [`${way.name}: ns`, '+']),
  ];
  const table = new Table({ head, style: { head: [], border: [] } });
  for (const [i, [, what]] of STEPS.entries())
    table.push([what, ...columns.flatMap(({ ends }) => [tenths(ends[i]), i === 0 ? '' : delta(ends, i)])]);
  process.stderr.write(`${table.toString()}\n`);
  return columns.map(({ way, ends }) => {
    const [floor = Number.NaN] = ends;
    const text = STEPS.map(([name], i) => `${name.replace('step_', '')} ${tenths(ends[i])}`).join(', ');
    return atMost(`known flow, ${way.name}, step by step`, (ends.at(-1) ?? Number.NaN) / floor, 'x', `${text} ns`, 1.7);
  });
}

function delta(ends: readonly number[], i: number): string {
  const added = (ends[i] as number) - (ends[i - 1] as number);
  return `${added >= 0 ? '+' : ''}${tenths(added)}`;
}
