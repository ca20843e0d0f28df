/** Nanoseconds a packet, by BPF_PROG_TEST_RUN: a known flow, and a first packet among few and many CIDRs. */
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import type { BpfMap } from '../../agent/libbpf/map.js';
import { BpfProgram } from '../../agent/libbpf/program.js';
import { loadConstant } from '../../agent/bpf-call.js';
import { Kernel, loadForTest } from '../engines/engine.js';
import { frame } from '../engines/packets.js';
import { atMost, median, progress, type Result } from './result.js';
import { cidr, POD_IP, world } from './worlds.js';

const REPEAT = 1_000_000;
const ROUNDS = 7;
const SPREAD = 64;
const ACK = 16;
const SYN = 2;

function ctx(): Buffer {
  const b = Buffer.alloc(192);
  b.writeUInt32LE(1, 40);
  return b;
}

/** No events; with `afresh`, no decision is taken from what was decided about such a packet a moment ago. */
function quiet(state: BpfMap, afresh = false): void {
  const { EA_STATE_QUIET, EA_STATE_AFRESH } = ENUMS.ea_state_flags;
  new Int32Array(state.mmap().buffer, state.mmap().byteOffset)[1] = EA_STATE_QUIET | (afresh ? EA_STATE_AFRESH : 0);
}

export async function packets(): Promise<Result[]> {
  return [...knownFlow(), ...firstPacket()];
}

/** How long one packet of a flow that has been judged takes, in nanoseconds, each time it is asked. */
export function knownFlowTime(policies: number, cidrs: number): { time: () => number; close: () => void } {
  const kernel = new Kernel();
  quiet(kernel.programs.maps.state as BpfMap);
  kernel.use(world(policies, cidrs));
  kernel.become('default/web');
  const to = cidr(0).slice(0, -3);
  const options = { src: POD_IP, sport: 4000 };
  kernel.run(frame({ to, protocol: 6, port: 1000 }, { ...options, tcpFlags: SYN }));
  const packet = frame({ to, protocol: 6, port: 1000 }, { ...options, tcpFlags: ACK });
  return { time: () => timeOf(kernel.programs.programs.fromPod, packet), close: () => kernel.close() };
}

/** The same of a program that returns at once: the floor, below which nothing can be. */
export function floorTime(): { time: () => number } {
  const empty = new BpfProgram(loadConstant(-1), 'empty');
  const packet = frame(
    { to: cidr(0).slice(0, -3), protocol: 6, port: 1000 },
    { src: POD_IP, sport: 4000, tcpFlags: ACK },
  );
  return { time: () => timeOf(empty, packet) };
}

function timeOf(program: BpfProgram, packet: Buffer): number {
  return program.testRun(packet, { ctx: ctx(), repeat: REPEAT }).durationNs;
}

function knownFlow(): Result[] {
  const known = knownFlowTime(10, 10);
  const floor = floorTime();
  try {
    const [ours, empty, ratios]: [number[], number[], number[]] = [[], [], []];
    for (let i = 0; i < ROUNDS; i++) {
      const f = floor.time();
      const o = known.time();
      ours.push(o);
      empty.push(f);
      ratios.push(o / f);
    }
    progress(`known flow ${median(ours)} ns, empty program ${median(empty)} ns`);
    return [
      atMost(
        'packet of a known flow',
        median(ratios),
        'x',
        `${median(ours)} ns against ${median(empty)} ns of an empty program`,
        2.5,
      ),
    ];
  } finally {
    known.close();
  }
}

/**
 * A first packet over and over: a SYN against the direction of a connection that a peer opened is judged each time,
 * and when it is denied its flow is not remembered. All but the entry into the flow table is in the figure.
 * @param opts.afresh whether each is classified; otherwise what was decided about the destination a moment ago counts
 */
export function firstPacketTime(policies: number, cidrs: number, opts = { afresh: true }): () => number {
  const kernel = new Kernel(
    loadForTest({ flows: 8192, accepted: 1024, pending: 1024, fragments: 1024, events: 1 << 20 }),
  );
  quiet(kernel.programs.maps.state as BpfMap, opts.afresh);
  kernel.use(world(policies, cidrs));
  kernel.become('default/web');
  const flows = kernel.programs.maps.flows as BpfMap;
  const step = Math.max(1, Math.floor(cidrs / SPREAD));
  const frames = Array.from({ length: SPREAD }, (_, i) => {
    const to = cidr((i * step) % cidrs).slice(0, -3);
    const bytes = frame({ to, protocol: 6, port: 7 }, { src: POD_IP, sport: 5000 + i, tcpFlags: SYN });
    kernel.run(bytes);
    return bytes;
  });
  // Turn what these left in the table into connections from the other side.
  const { flags, verdict } = STRUCTS.ea_flow.fields;
  for (const { keys, values, count } of flows.batches(1024)) {
    for (let i = 0; i < count; i++) {
      const value = Buffer.from(values.subarray(i * flows.valueSize, (i + 1) * flows.valueSize));
      value[flags.offset] = ENUMS.ea_flow_flags.EA_FLOW_INBOUND;
      value[verdict.offset] = ENUMS.ea_verdict.EA_VERDICT_ALLOW;
      flows.update(Buffer.from(keys.subarray(i * flows.keySize, (i + 1) * flows.keySize)), value);
    }
  }
  const { fromPod } = kernel.programs.programs;
  return () => {
    let total = 0;
    for (const f of frames) total += fromPod.testRun(f, { ctx: ctx(), repeat: 20_000 }).durationNs;
    return total / frames.length;
  };
}

function firstPacket(): Result[] {
  const [few, many] = [firstPacketTime(10, 10), firstPacketTime(1000, 100_000)];
  const [a, b, ratios]: [number[], number[], number[]] = [[], [], []];
  for (let i = 0; i < ROUNDS; i++) {
    const x = few();
    const y = many();
    a.push(x);
    b.push(y);
    ratios.push(y / x);
  }
  const text = `${Math.round(median(b))} ns with 1,000 policies and 100,000 CIDRs, ${Math.round(median(a))} ns with 10 and 10`;
  progress(`first packet: ${text}`);
  return [atMost('first packet of a flow', median(ratios), 'x', text, 1.5)];
}
