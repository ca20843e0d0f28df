/**
 * Sequences of packets of one pod, both ways, while policies change: connections from SYN to FIN, resets, datagrams that cross,
 * fragments, ICMP errors, flows that the table forgets. Each verdict and each event is that of the model, and whatever it says,
 * nothing leaves that no rule allows and no peer asked for. Several pods, Services and the other hooks: flow-run.ts.
 */
import type { FlowEvent } from '../../src/flow/event/types.js';
import { toIr } from '../../src/dialects/index.js';
import { parseAddr } from '../../src/net/addr.js';
import { Evaluate, type World } from '../engines/engine.js';
import { frame } from '../engines/packets.js';
import { pod, policy, snapshotOf } from '../policy/world.js';
import {
  ACK,
  type Answer,
  FIN,
  TableModel,
  flowName,
  fragmentName,
  opens,
  RST,
  type Segment,
  SYN,
} from './table-model.js';
import { ManyPackets, PASS } from './kernel.js';
import { Random } from './random.js';

const POD = 'default/web';
const [POD4, POD6] = ['10.244.0.1', 'fd00::1'];
const PEERS = ['10.1.0.1', '10.1.0.2', '10.2.0.1', '2001:db8::1', '2001:db8:8000::1'];
const BLOCKS = ['10.1.0.0/24', '10.1.0.2/32', '10.0.0.0/8', '2001:db8::/33', '2001:db8::/32', '0.0.0.0/0', '::/0'];
const PORTS = [53, 80, 443];
const LOCAL = [80, 40000];
const PROTOCOLS = [6, 6, 6, 6, 6, 17, 17, 17, 132, 47, 1, 1];
const FLAGS = [SYN, SYN, SYN | ACK, SYN | ACK, ACK, ACK, ACK, FIN | ACK, FIN | ACK, RST, RST | ACK, SYN | FIN, 0];
const UNREACHABLE = { 4: 3 * 256 + 3, 6: 1 * 256 + 4 } as const;
const OFFSETS = [8, 16, 24, 1480];
/** Steps with one kernel and one model, from nothing: what is found need not be looked for in more than these. */
const SEQUENCE = 2000;

export type TableStep =
  | { readonly do: 'policy'; readonly rules: readonly object[] }
  | { readonly do: 'send'; readonly segment: Segment }
  | { readonly do: 'error'; readonly error: Segment; readonly about: Segment }
  | { readonly do: 'forget'; readonly map: 'flows' | 'fragments' };

export interface Wrong {
  readonly steps: readonly TableStep[];
  readonly kernel: Answer;
  readonly expected: Answer | string;
}

export interface TableRun {
  steps: number;
  seen: Record<string, number>;
  wrong?: Wrong;
}

const ownOf = (peer: string) => (parseAddr(peer).family === 4 ? POD4 : POD6);

function worldOf(rules: readonly object[]): World {
  const spec = { podSelector: {}, policyTypes: ['Egress'], egress: rules };
  const snapshot = snapshotOf(pod(POD, [POD4, POD6], { app: 'web' }) + policy(POD, spec));
  return { snapshot, ir: toIr(snapshot).ir };
}

function bytesOf(s: Segment): Buffer {
  const v6 = parseAddr(s.peer).family === 6;
  const own = s.spoofed ? (v6 ? '2001:db8:9::9' : '10.9.9.9') : ownOf(s.peer);
  const [src, to] = s.way === 'out' ? [own, s.peer] : [s.peer, own];
  const icmp = s.protocol === 1 || s.protocol === 58;
  const [sport, port] = s.way === 'out' || icmp ? [s.local, s.remote] : [s.remote, s.local];
  const fragment = s.fragment ? { fragment: { ...s.fragment, more: s.fragment.offset === 0 } } : {};
  const bytes = frame({ to, protocol: s.protocol, port }, { src, sport, tcpFlags: s.flags ?? 0, ...fragment });
  // Instead of INIT, a chunk of data.
  if (s.protocol === 132 && !s.init) bytes[14 + (v6 ? (s.fragment ? 48 : 40) : 20) + 12] = 0;
  return bytes;
}

function errorBytes(error: Segment, about: Segment): Buffer {
  const bytes = bytesOf(error);
  const v6 = parseAddr(error.peer).family === 6;
  bytesOf(about).copy(bytes, 14 + (v6 ? 40 : 20) + 8, 14, 14 + (v6 ? 48 : 28));
  return bytes;
}

/** What is made of the kernel's answer, for tests: as if the programs had a fault. */
export type Flaw = (s: Segment, answer: Answer) => Answer;

/** One kernel with its model; steps are taken by both. */
class Pair {
  readonly #reference = new Evaluate();
  #model = this.#fresh();
  /** Flows that a peer opened, at some time. */
  readonly #asked = new Set<string>();
  readonly #firsts = new Map<string, Segment>();

  constructor(
    private readonly kernel: ManyPackets,
    private readonly flaw: Flaw = (_, answer) => answer,
  ) {}

  #fresh(): TableModel {
    return new TableModel(
      (s, later) => this.#judge(s, later),
      () => this.kernel.epoch,
    );
  }

  #judge({ peer, protocol, remote }: Segment, later: boolean) {
    const fragment = later ? { fragment: true } : {};
    return this.#reference.judge({ from: POD, to: peer, protocol, port: later ? 0 : remote, ...fragment });
  }

  /** From nothing. */
  begin(): void {
    this.kernel.forget();
    this.#model = this.#fresh();
    this.#asked.clear();
    this.#firsts.clear();
  }

  /** @returns what is wrong */
  take(step: TableStep): Omit<Wrong, 'steps'> | undefined {
    if (step.do === 'policy') {
      const world = worldOf(step.rules);
      this.#reference.use(world);
      this.kernel.use(world);
      return undefined;
    }
    if (step.do === 'forget') {
      this.kernel.forget([step.map]);
      this.#model.forget(step.map);
      return undefined;
    }
    const [segment, about] = step.do === 'error' ? [step.error, step.about] : [step.segment, undefined];
    const { way, fragment } = segment;
    const bytes = about ? errorBytes(segment, about) : bytesOf(segment);
    const kernel = this.flaw(segment, this.#send(bytes, way));
    if (way === 'in' && opens(segment)) this.#asked.add(flowName(segment));
    if (way === 'out' && fragment?.offset === 0) this.#firsts.set(fragmentName(segment), segment);
    const expected = this.#expected(segment, about);
    if (JSON.stringify(kernel) !== JSON.stringify(expected)) return { kernel, expected };
    if (way === 'in' || kernel.verdict === 'deny' || this.#mayLeave(segment, about)) return undefined;
    return { kernel, expected: 'no rule allows it, and no peer asked for it' };
  }

  #expected(s: Segment, about: Segment | undefined): Answer {
    if (about) return this.#model.error(s, about);
    return s.way === 'out' ? this.#model.out(s) : this.#model.in(s);
  }

  /** The whole of it, as simply as it can be said. */
  #mayLeave(s: Segment, about: Segment | undefined): boolean {
    if (s.spoofed) return false;
    const may = (x: Segment, later = false) =>
      this.#judge(x, later).verdict === 'allow' || this.#asked.has(flowName(x));
    const later = s.fragment !== undefined && s.fragment.offset > 0;
    if (!later) return may(s) || (about !== undefined && about.peer === s.peer && may(about));
    const first = this.#firsts.get(fragmentName(s));
    return may(s, true) || (first !== undefined && may(first));
  }

  #send(bytes: Buffer, way: 'out' | 'in'): Answer {
    const { retval, events } = this.kernel.send(POD, bytes, way === 'out' ? 'fromPod' : 'toPod');
    return { verdict: retval === PASS ? 'allow' : 'deny', told: events.flatMap(told) };
  }
}

/** Drops are told at most once a second, which is nothing to compare. */
function told({ type, verdict, rule }: FlowEvent): string[] {
  return type === 'drop' ? [] : type === 'end' ? ['end'] : [`${type} ${verdict} ${rule}`];
}

function randomRules(r: Random): object[] {
  return Array.from({ length: r.below(4) }, () => {
    const to = r.chance(85) ? { to: [{ ipBlock: { cidr: r.pick(BLOCKS) } }] } : {};
    const port = {
      protocol: r.pick(['TCP', 'TCP', 'UDP', 'UDP', 'SCTP']),
      ...(r.chance(70) ? { port: r.pick(PORTS) } : {}),
    };
    return { ...to, ...(r.chance(60) ? { ports: [port] } : {}) };
  });
}

function randomSegment(r: Random, before: Segment | undefined): Segment {
  if (before && r.chance(65)) return onward(r, before);
  const peer = r.pick(PEERS);
  const protocol = r.pick(PROTOCOLS);
  const way = r.chance(65) ? 'out' : 'in';
  const base = { way, peer, ...(r.chance(2) && way === 'out' ? { spoofed: true } : {}) } as const;
  if (protocol === 1) {
    const v6 = parseAddr(peer).family === 6;
    const type = r.chance(60) ? (v6 ? 128 : 8) : v6 ? 129 : 0;
    return { ...base, protocol: v6 ? 58 : 1, local: r.pick(LOCAL), remote: type * 256 };
  }
  if (protocol === 47) return { ...base, protocol, local: 0, remote: 0 };
  return { ...base, protocol, local: r.pick(LOCAL), remote: r.pick(PORTS), ...state(r, protocol), ...pieces(r) };
}

/** The same conversation, a packet further. */
function onward(r: Random, { way, fragment: _, spoofed: __, ...before }: Segment): Segment {
  const turned = r.chance(50);
  const same = { ...before, way: turned ? (way === 'out' ? 'in' : 'out') : way } as const;
  const echo = before.protocol === 1 || before.protocol === 58;
  if (echo) {
    const [request, reply] = before.protocol === 1 ? [8 * 256, 0] : [128 * 256, 129 * 256];
    return { ...same, remote: (before.remote === request) === turned ? reply : request };
  }
  return { ...same, ...state(r, before.protocol), ...(before.protocol === 47 ? {} : pieces(r)) };
}

function state(r: Random, protocol: number): Partial<Segment> {
  if (protocol === 6) return { flags: r.pick(FLAGS) };
  return protocol === 132 ? { init: r.chance(50) } : {};
}

function pieces(r: Random): Partial<Segment> {
  return r.chance(15) ? { fragment: { id: 1 + r.below(4), offset: r.chance(45) ? 0 : r.pick(OFFSETS) } } : {};
}

function randomStep(r: Random, before: Segment | undefined): TableStep {
  const n = r.below(1000);
  if (n < 6) return { do: 'policy', rules: randomRules(r) };
  if (n < 12) return { do: 'forget', map: r.chance(70) ? 'flows' : 'fragments' };
  if (n < 90 && before) {
    const { fragment: _, spoofed: __, flags: ___, ...whole } = before;
    const about = { ...whole, way: 'in', ...(whole.protocol === 6 ? { flags: ACK } : {}) } as const;
    const { family } = parseAddr(about.peer);
    const peer = r.chance(85) ? about.peer : r.pick(PEERS.filter((p) => parseAddr(p).family === family));
    const error = { way: 'out', protocol: family === 4 ? 1 : 58, peer, local: 0, remote: UNREACHABLE[family] } as const;
    return { do: 'error', error: { ...error, ...(r.chance(10) ? { spoofed: true } : {}) }, about };
  }
  return { do: 'send', segment: randomSegment(r, before) };
}

/** @param limits `until`: of performance.now() */
export function fuzzTable(
  seed: number,
  limits: { count: number; until?: number; flaw?: Flaw },
  progress: (steps: number) => void = () => undefined,
): TableRun {
  const r = new Random(seed);
  const kernel = new ManyPackets();
  const run: TableRun = { steps: 0, seen: {} };
  try {
    const pair = new Pair(kernel, limits.flaw);
    while (run.steps < limits.count && performance.now() < (limits.until ?? Number.POSITIVE_INFINITY)) {
      const steps: TableStep[] = [{ do: 'policy', rules: randomRules(r) }];
      pair.take(steps[0] as TableStep);
      pair.begin();
      let before: Segment | undefined;
      while (steps.length < SEQUENCE) {
        const step = randomStep(r, before);
        if (step.do === 'send') before = step.segment;
        steps.push(step);
        const wrong = pair.take(step);
        run.steps++;
        const kind = step.do === 'send' ? `${step.segment.way} ${step.segment.protocol}` : step.do;
        run.seen[kind] = (run.seen[kind] ?? 0) + 1;
        if (!wrong) continue;
        run.wrong = smaller({ steps, ...wrong }, pair);
        return run;
      }
      progress(run.steps);
    }
    return run;
  } finally {
    kernel.close();
  }
}

/** Takes the steps anew, from nothing. */
export function replayTable(steps: readonly TableStep[]): Wrong | undefined {
  const kernel = new ManyPackets();
  try {
    return again(steps, new Pair(kernel));
  } finally {
    kernel.close();
  }
}

function again(steps: readonly TableStep[], pair: Pair): Wrong | undefined {
  if (steps[0]?.do !== 'policy') return undefined;
  pair.take(steps[0]);
  pair.begin();
  for (const [i, step] of steps.entries()) {
    const wrong = i > 0 ? pair.take(step) : undefined;
    if (wrong) return { steps: steps.slice(0, i + 1), ...wrong };
  }
  return undefined;
}

/** The last step, and as few before it as still lead there. */
function smaller(found: Wrong, pair: Pair): Wrong {
  let small = again(found.steps, pair) ?? found;
  for (let size = small.steps.length >> 1; size >= 1; size >>= 1) {
    for (let at = 1; at + size < small.steps.length; ) {
      const fewer = again(small.steps.toSpliced(at, size), pair);
      if (fewer && fewer.steps.length < small.steps.length) small = fewer;
      else at += size;
    }
  }
  return small;
}
