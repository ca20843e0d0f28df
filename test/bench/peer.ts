/**
 * The closest peer's design beside ours: a program of its shape (peer.bpf.c), a connection that both know, its packets both
 * ways; and a first packet, among as many networks.
 */
import { readFileSync } from 'node:fs';
import { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { BpfObject } from '../../agent/kernel/libbpf/object.js';
import { BpfProgram } from '../../agent/kernel/libbpf/program.js';
import { AgentError } from '../../src/errors.js';
import { benchObject } from './bpf-objects.js';
import {
  floorTime,
  firstPacketTime,
  framesOf,
  knownFlowTime,
  leastOf,
  TCP4,
  TCP4_IN,
  tenths,
  timeOf,
} from './packet.js';
import { atMost, progress, type Result } from './result.js';
import { cidr } from './worlds.js';

const MOST = 0.5;
const NETWORKS = 100_000;
/** struct ports of peer.bpf.c. */
const RANGE = 12;
const RANGES = 24;
const BATCH = 4096;
/** TC_ACT_OK. */
const OK = 0;

export class Peer {
  readonly #object = new BpfObject(readFileSync(benchObject('peer')), 'peer.bpf.o');
  readonly out: BpfProgram;
  readonly in: BpfProgram;
  readonly #networks: BpfMap;

  constructor(networks: number) {
    const status = this.#object.load();
    if (status < 0) throw new AgentError('VERIFIER', `peer.bpf.o: ${this.#object.refusals().at(-1)?.log ?? status}`);
    this.out = new BpfProgram(this.#object.programFd('peer_out'), 'peer_out');
    this.in = new BpfProgram(this.#object.programFd('peer_in'), 'peer_in');
    this.#networks = new BpfMap(this.#object.mapFd('networks'), 'networks');
    const state = new BpfMap(this.#object.mapFd('pod_state'), 'pod_state');
    for (const of of [0, 1]) state.update(Buffer.from([of, 0, 0, 0]), Buffer.from([1]));
    this.#fill(networks);
  }

  /** Each network with two ports: one that is not asked for, one that is. */
  #fill(count: number): void {
    for (let from = 0; from < count; from += BATCH) {
      const n = Math.min(BATCH, count - from);
      const [keys, values] = [Buffer.alloc(n * 8), Buffer.alloc(n * RANGE * RANGES)];
      for (let i = 0; i < n; i++) {
        keys.writeUInt32LE(32, i * 8);
        Buffer.from(
          cidr(from + i)
            .slice(0, -3)
            .split('.')
            .map(Number),
        ).copy(keys, i * 8 + 4);
        for (const [k, port] of [7, 1000].entries())
          for (const [f, value] of [6, port, port].entries())
            values.writeUInt32LE(value, i * RANGE * RANGES + k * RANGE + f * 4);
      }
      this.#networks.updateBatch(keys, values, n);
    }
  }

  close(): void {
    this.#object.close();
  }
}

export async function peer(): Promise<Result[]> {
  const theirs = new Peer(10);
  const [out, back] = [knownFlowTime(10, 10, TCP4), knownFlowTime(10, 10, TCP4_IN)];
  const { first, later, answer } = framesOf(TCP4);
  try {
    if (theirs.out.testRun(first).retval !== OK || theirs.in.testRun(answer).retval !== OK)
      throw new AgentError('INTERNAL', 'the other design denies what is allowed');
    const [floor = Number.NaN, ...ns] = leastOf([
      floorTime().time,
      out.time,
      back.time,
      () => timeOf(theirs.out, later),
      () => timeOf(theirs.in, answer),
    ]);
    const [ours = 0, oursBack = 0, others = 0, othersBack = 0] = ns;
    firstPacket();
    const pair = (mine: number, other: number) => `${tenths(mine)} ns against ${tenths(other)} ns`;
    const what = [
      `${pair(ours + oursBack, others + othersBack)} for a packet and an answer`,
      `of who opened it, one look-up there, ${pair(ours, others)}; answers, two there, ${pair(oursBack, othersBack)}`,
      `a program that returns at once: ${tenths(floor)} ns`,
    ].join('; ');
    const ratio = (ours + oursBack) / (others + othersBack);
    return [atMost('known flow against the closest peer’s design', ratio, 'x', what, MOST)];
  } finally {
    for (const each of [theirs, out, back]) each.close();
  }
}

/** Denied ones, which neither enters. No goal is set. */
function firstPacket(): void {
  const theirs = new Peer(NETWORKS);
  try {
    const { first } = framesOf(TCP4);
    const denied = Buffer.from(first);
    denied.writeUInt16BE(9, 14 + 20 + 2);
    const [ours, others] = leastOf([firstPacketTime(1000, NETWORKS), () => timeOf(theirs.out, denied, 100_000)]);
    progress(
      `first packet, denied, 100,000 networks: ${Math.round(ours ?? 0)} ns, the closest peer’s design ${Math.round(others ?? 0)} ns (its ring full)`,
    );
  } finally {
    theirs.close();
  }
}
