/** Nanoseconds a packet, by BPF_PROG_TEST_RUN: a known flow, and a first packet among few and many CIDRs. */
import { loadConstant } from '../../agent/kernel/calls.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { BpfProgram } from '../../agent/kernel/libbpf/program.js';
import type { Programs } from '../../agent/kernel/loader.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import { boundIps, Kernel, loadForTest, type World } from '../engines/engine.js';
import { frame } from '../engines/packets.js';
import { atMost, progress, type Result } from './result.js';
import { cidr, POD_IP, world } from './worlds.js';

const REPEAT = 1_000_000;
const ROUNDS = 7;
const SPREAD = 64;
/** Networks in force; each against the first. */
const NETWORKS = [10, 1000, 100_000, 1_000_000];
/** Of which a goal is promised. */
const MANY = 100_000;
const ACK = 16;
const SYN = 2;
/** TC_ACT_UNSPEC. */
const PASS = -1;
const TCP = 6;
const UDP = 17;
const KNOWN_MOST = 1.7;
const LOCAL_PORT = 4000;

/** What a known flow is, and which of its packets is measured. */
export interface Way {
  readonly name: string;
  readonly family: 4 | 6;
  readonly protocol: number;
  /** `in`: the answer, as it is delivered. */
  readonly direction: 'out' | 'in';
}

export const TCP4: Way = { name: 'IPv4, TCP', family: 4, protocol: TCP, direction: 'out' };
export const TCP6: Way = { name: 'IPv6, TCP', family: 6, protocol: TCP, direction: 'out' };
export const TCP4_IN: Way = { name: 'IPv4, TCP, delivered', family: 4, protocol: TCP, direction: 'in' };
const WAYS: readonly Way[] = [
  TCP4,
  TCP6,
  { name: 'IPv4, UDP', family: 4, protocol: UDP, direction: 'out' },
  TCP4_IN,
  { name: 'IPv6, UDP, delivered', family: 6, protocol: UDP, direction: 'in' },
];

/** Allowed beside what worlds.ts allows. */
const SERVER6 = '2001:db8:100::10';
const PORT = { [TCP]: 1000, [UDP]: 53 } as Readonly<Record<number, number>>;

function ctx(): Buffer {
  const b = Buffer.alloc(192);
  b.writeUInt32LE(1, 40);
  return b;
}

/** No events; with `afresh`, no decision is taken from what was decided about such a packet a moment ago. */
export function quiet(state: BpfMap, afresh = false): void {
  const { EA_STATE_QUIET, EA_STATE_NO_CACHE } = ENUMS.ea_state_flags;
  new Int32Array(state.mmap().buffer, state.mmap().byteOffset)[1] = EA_STATE_QUIET | (afresh ? EA_STATE_NO_CACHE : 0);
}

export async function packets(): Promise<Result[]> {
  return [...knownFlows(), ...firstPackets(), ...byNetworks()];
}

/** A rule more: IPv6 and UDP are allowed somewhere, too. */
function withMore(base: World): World {
  const [tier, ...rest] = base.ir.tiers;
  const [first, ...others] = tier?.policies ?? [];
  const [rule] = first?.rules ?? [];
  if (!tier || !first || !rule) throw new Error('a world without a rule');
  const more = [SERVER6, cidr(0).slice(0, -3)].map((ip) => ({
    ...rule,
    ref: { ...rule.ref, index: ip.includes(':') ? 1 : 2 },
    peers: [{ kind: 'cidr' as const, cidr: ip.includes(':') ? `${ip}/128` : `${ip}/32`, except: [] }],
    ports: [TCP, UDP].map((protocol) => ({
      protocol,
      ports: [[PORT[protocol], PORT[protocol]]] as [number, number][],
    })),
  }));
  const policies = [{ ...first, rules: [...first.rules, ...more] }, ...others];
  return { ...base, ir: { ...base.ir, tiers: [{ ...tier, policies }, ...rest] } };
}

/** A flow's first packet from the pod, a later one, and one of the answers. */
export function framesOf(way: Way): { first: Buffer; later: Buffer; answer: Buffer } {
  const to = way.family === 4 ? cidr(0).slice(0, -3) : SERVER6;
  const src = way.family === 4 ? POD_IP : (boundIps([POD_IP]).find((ip) => ip.includes(':')) as string);
  const port = PORT[way.protocol] as number;
  const out = { to, protocol: way.protocol, port };
  const back = { to: src, protocol: way.protocol, port: LOCAL_PORT };
  return {
    first: frame(out, { src, sport: LOCAL_PORT, tcpFlags: SYN }),
    later: frame(out, { src, sport: LOCAL_PORT, tcpFlags: ACK }),
    answer: frame(back, { src: to, sport: port, tcpFlags: ACK }),
  };
}

export interface Measured {
  /** Nanoseconds a packet, each time it is asked. */
  time: () => number;
  close: () => void;
}

/** A kernel that knows a flow, and the packet to measure with. @param programs not the agent's own object, but one that includes it */
export function knowing(
  policies: number,
  cidrs: number,
  way: Way,
  programs?: Programs,
): { kernel: Kernel; packet: Buffer } {
  const kernel = new Kernel(programs ?? loadForTest());
  quiet(kernel.programs.maps.state as BpfMap);
  kernel.use(withMore(world(policies, cidrs)));
  kernel.become('default/web');
  const { first, later, answer } = framesOf(way);
  if (kernel.run(first).verdict !== 'allow') throw new Error(`${way.name}: the flow is denied`);
  kernel.run(answer, 'toPod');
  return { kernel, packet: way.direction === 'out' ? later : answer };
}

/** How long one packet of a flow that has been judged takes. */
export function knownFlowTime(policies: number, cidrs: number, way: Way = TCP4): Measured {
  const { kernel, packet } = knowing(policies, cidrs, way);
  const { fromPod, toPod } = kernel.programs.programs;
  return {
    time: () => timeOf(way.direction === 'out' ? fromPod : toPod, packet),
    close: () => kernel.close(),
  };
}

/** The same of a program that returns at once: the floor, below which nothing can be. */
export function floorTime(): { time: () => number } {
  const empty = new BpfProgram(loadConstant(-1), 'empty');
  const { later } = framesOf(TCP4);
  return { time: () => timeOf(empty, later) };
}

/**
 * Nanoseconds a run, mean. The kernel leaves out the time in which something else had the core, but rounds down to whole ones, too
 * coarse where the floor is 15; a clock around it has the rest, and whatever disturbed it.
 */
export function timeOf(program: BpfProgram, packet: Buffer, repeat = REPEAT): number {
  const start = process.hrtime.bigint();
  const { durationNs } = program.testRun(packet, { ctx: ctx(), repeat });
  const around = Number(process.hrtime.bigint() - start) / repeat;
  return Math.min(Math.max(around, durationNs), durationNs + 1);
}

/** Whether a packet passes a program, as one of the agent's hooks. */
export function passes(program: BpfProgram, packet: Buffer): boolean {
  return program.testRun(packet, { ctx: ctx() }).retval === PASS;
}

/** One digit behind the point. */
export function tenths(ns: number | undefined): string {
  return (ns ?? Number.NaN).toFixed(1);
}

/** Of each its least of several rounds, in turn: other work on the machine only ever adds. */
export function leastOf(measures: readonly (() => number)[], rounds = ROUNDS): number[] {
  const least = measures.map(() => Number.POSITIVE_INFINITY);
  for (let i = 0; i < rounds; i++)
    for (const [n, time] of measures.entries()) least[n] = Math.min(least[n] as number, time());
  return least;
}

function knownFlows(): Result[] {
  const known = WAYS.map((way) => knownFlowTime(10, 10, way));
  try {
    const [floor = Number.NaN, ...ours] = leastOf([floorTime().time, ...known.map((k) => k.time)]);
    return WAYS.map(({ name }, i) => {
      const ns = ours[i] as number;
      const what = `${tenths(ns)} ns against ${tenths(floor)} ns of a program that returns at once`;
      progress(`known flow, ${name}: ${what}`);
      return atMost(`packet of a known flow, ${name}`, ns / floor, 'x', what, KNOWN_MOST);
    });
  } finally {
    for (const k of known) k.close();
  }
}

/**
 * A first packet over and over: a SYN against the direction of a connection that a peer opened is judged each time,
 * and when it is denied its flow is not remembered. All but the entry into the flow table is in the figure.
 * @param opts.afresh whether each is classified; otherwise what was decided about the destination a moment ago counts
 */
export function firstPacketTime(policies: number, cidrs: number, opts = { afresh: true }): () => number {
  const kernel = new Kernel(loadForTest());
  quiet(kernel.programs.maps.state as BpfMap, opts.afresh);
  kernel.use(world(policies, cidrs));
  kernel.become('default/web');
  const step = Math.max(1, Math.floor(cidrs / SPREAD));
  const frames = Array.from({ length: SPREAD }, (_, i) => {
    const to = cidr((i * step) % cidrs).slice(0, -3);
    const sport = 5000 + i;
    // The peer opens it.
    kernel.run(frame({ to: POD_IP, protocol: TCP, port: sport }, { src: to, sport: 7, tcpFlags: SYN }), 'toPod');
    const bytes = frame({ to, protocol: TCP, port: 7 }, { src: POD_IP, sport, tcpFlags: SYN });
    for (let n = 0; n < 2; n++)
      if (kernel.run(bytes).verdict !== 'deny') throw new Error('a first packet that was to be denied passes');
    return bytes;
  });
  const { fromPod } = kernel.programs.programs;
  return () => {
    let total = 0;
    for (const f of frames) total += timeOf(fromPod, f, 20_000);
    return total / frames.length;
  };
}

function firstPackets(): Result[] {
  const measures = [floorTime().time, firstPacketTime(10, 10), firstPacketTime(1000, 100_000)];
  const [floor = Number.NaN, few = Number.NaN, many = Number.NaN] = leastOf(measures);
  const text = `${Math.round(many)} ns with 1,000 policies and 100,000 CIDRs, ${Math.round(few)} ns with 10 and 10`;
  progress(`first packet: ${text}`);
  return [
    atMost(
      'first packet of a flow, 1,000 policies and 100,000 networks against 10 and 10',
      many / few,
      'x',
      text,
      1.15,
    ),
    atMost(
      'first packet of a flow against the floor',
      many / floor,
      'x',
      `${text}, ${tenths(floor)} ns of the floor`,
      9,
    ),
  ];
}

/** The same rules for few networks and for many: what the look-up of a destination costs. */
function byNetworks(): Result[] {
  const times = NETWORKS.map((n) => firstPacketTime(10, n));
  const taken: number[][] = NETWORKS.map(() => []);
  for (let i = 0; i < ROUNDS; i++) times.forEach((time, n) => taken[n]?.push(time()));
  const of = (n: number) => Math.min(...(taken[n] as number[]));
  const text = NETWORKS.map((networks, n) => `${Math.round(of(n))} ns with ${networks.toLocaleString('en')}`).join(
    ', ',
  );
  progress(`first packet by networks: ${text}`);
  const ratio = of(NETWORKS.indexOf(MANY)) / of(0);
  return [atMost('first packet of a flow, 100,000 networks against 10', ratio, 'x', `${text}; 10 policies each`, 1.15)];
}
