/**
 * What one short TCP connection of a pod costs in the programs, packet by packet: one connection after the other, each from
 * another port, so that its place in the flow table is in nobody's cache. BPF_PROG_TEST_RUN, events told.
 */
import Table from 'cli-table3';
import { loadConstant } from '../../agent/kernel/calls.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { BpfProgram } from '../../agent/kernel/libbpf/program.js';
import { RingReader } from '../../agent/events/ring.js';
import { AgentError } from '../../src/errors.js';
import { Kernel, loadForTest } from '../engines/engine.js';
import { frame } from '../engines/packets.js';
import { atMost, type Result } from './result.js';
import { cidr, POD_IP, world } from './worlds.js';

const TCP = 6;
const [FIN, SYN, RST, PUSH, ACK] = [1, 2, 4, 8, 16] as const;
const PORT = 1000;
/** Of the agent: flows; and 8 MiB of events. */
const SIZES = { flows: 262_144, events: 1 << 23 };
const CONNECTIONS = 24_000;
/** Of these, for compilers and caches. */
const WARM_UP = 2000;
/** As many connections' events as fit into the ring by far. */
const READ_EVERY = 1000;
const FIRST_PORT = 10_000;
/** What all packets together may cost beyond programs that return at once. */
const MOST_NS = 1300;

interface Step {
  readonly name: string;
  readonly out: boolean;
  readonly flags: number;
  /** One that a reset ends, as the load of `connects` does, or one that both sides close. */
  readonly of: 'both' | 'reset' | 'closed';
}

const STEPS: readonly Step[] = [
  { name: 'SYN', out: true, flags: SYN, of: 'both' },
  { name: 'SYN and ACK', out: false, flags: SYN | ACK, of: 'both' },
  { name: 'ACK', out: true, flags: ACK, of: 'both' },
  { name: 'request', out: true, flags: PUSH | ACK, of: 'both' },
  { name: 'its ACK', out: false, flags: ACK, of: 'both' },
  { name: 'answer', out: false, flags: PUSH | ACK, of: 'both' },
  { name: 'RST', out: true, flags: RST | ACK, of: 'reset' },
  { name: 'FIN', out: true, flags: FIN | ACK, of: 'closed' },
  { name: 'FIN of the peer', out: false, flags: FIN | ACK, of: 'closed' },
  { name: 'last ACK', out: true, flags: ACK, of: 'closed' },
];

/** Of one run each, nanoseconds, less the floor's. */
function measure(end: 'reset' | 'closed'): readonly { step: Step; ns: number }[] {
  const kernel = new Kernel(loadForTest(SIZES));
  try {
    kernel.use(world(10, 10));
    kernel.become('default/web');
    const { fromPod, toPod } = kernel.programs.programs;
    const { events, counters } = kernel.programs.maps;
    const ring = new RingReader(events as BpfMap, counters as BpfMap);
    const empty = new BpfProgram(loadConstant(-1), 'empty');
    const steps = STEPS.filter((step) => step.of === 'both' || step.of === end);
    const server = cidr(0).slice(0, -3);
    const ctx = Buffer.alloc(192);
    ctx.writeUInt32LE(1, 40);
    const taken = steps.map(() => [] as number[]);
    const floor: number[] = [];
    for (let n = 0; n < CONNECTIONS; n++) {
      const sport = FIRST_PORT + n;
      for (const [i, { name, out, flags }] of steps.entries()) {
        const packet = out
          ? frame({ to: server, protocol: TCP, port: PORT }, { src: POD_IP, sport, tcpFlags: flags })
          : frame({ to: POD_IP, protocol: TCP, port: sport }, { src: server, sport: PORT, tcpFlags: flags });
        const { retval, durationNs } = (out ? fromPod : toPod).testRun(packet, { ctx });
        if (retval !== -1) throw new AgentError('INTERNAL', `${name} of a connection that is allowed does not pass`);
        if (n < WARM_UP) continue;
        taken[i]?.push(durationNs);
        if (i === 0) floor.push(empty.testRun(packet, { ctx }).durationNs);
      }
      if (n % READ_EVERY === 0) ring.runs(() => undefined);
    }
    const least = mean(floor);
    return steps.map((step, i) => ({ step, ns: mean(taken[i] as number[]) - least }));
  } finally {
    kernel.close();
  }
}

export async function connection(): Promise<Result[]> {
  return (['reset', 'closed'] as const).map((end) => {
    const parts = measure(end);
    const total = parts.reduce((sum, { ns }) => sum + ns, 0);
    const table = new Table({
      head: [`one connection, ${end}`, 'program', 'ns beyond the floor', 'share'],
      style: { head: [], border: [] },
    });
    for (const { step, ns } of parts)
      table.push([step.name, step.out ? 'from_pod' : 'to_pod', Math.round(ns), `${Math.round((ns / total) * 100)} %`]);
    process.stderr.write(`${table.toString()}\n`);
    const text = parts.map(({ step, ns }) => `${step.name} ${Math.round(ns)}`).join(', ');
    return atMost(`one TCP connection in the programs, ${end}`, total, 'ns', text, MOST_NS);
  });
}

/** Of all but the tenth that took longest: something else had the processor. The clock is too coarse for a median. */
function mean(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b).slice(0, Math.ceil(values.length * 0.9));
  return sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
}
