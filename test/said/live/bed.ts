/**
 * A pod whose veth has the real hooks, under rules given as IR, and an internet where real servers listen. The agent's
 * process is not there: its kernel part is all that judges.
 */
import { closeSync, openSync } from 'node:fs';
import { RingReader } from '../../../agent/events/ring.js';
import { Attacher } from '../../../agent/hooks/attach.js';
import type { BpfMap } from '../../../agent/kernel/libbpf/map.js';
import type { Programs } from '../../../agent/kernel/loader.js';
import { sys } from '../../../agent/kernel/libbpf/sys.js';
import { SAID_EVENT_SIZE, SHORT_SAID_EVENT_SIZE } from '../../../src/flow/event/said.js';
import { ENUMS, STRUCTS } from '../../../src/image/layout.gen.js';
import { PLAIN_IDS } from '../../../src/ids.js';
import type { EndpointBinding } from '../../../src/image/store.js';
import { snapshot } from '../../bench/worlds.js';
import { Kernel, loadForTest } from '../../engines/engine.js';
import type { Pod, World } from '../../netns/world.js';
import { RST } from '../../attacks/craft.js';
import { irOf, type Line } from '../bed.js';
import { Side } from './side.js';

/** linux/sched.h */
const CLONE_NEWNET = 0x40000000;
const FLOWS = 65_536;
const EVENTS = 1 << 22;
/** How often events are read, and flows that are over are removed, as the agent does, milliseconds. */
const TICK_MS = 50;

/** What the kernel told of one thing that was said. */
export interface ToldSaid {
  readonly kind: 'other' | 'tls' | 'http';
  /** The server name, or a request's method and URL; empty: none. */
  readonly text: string;
  readonly verdict: 'allow' | 'deny';
  /** The audit verdict denies it. */
  readonly audited: boolean;
  /** 0: none decided. */
  readonly rule: bigint;
  readonly quic: boolean;
}

/** Runs it in a network namespace; nothing in it may wait. */
function inNamespace<T>(name: string, what: () => T): T {
  const [own, other] = [openSync('/proc/thread-self/ns/net', 'r'), openSync(`/run/netns/${name}`, 'r')];
  try {
    sys.setns(other, CLONE_NEWNET);
    return what();
  } finally {
    sys.setns(own, CLONE_NEWNET);
    closeSync(own);
    closeSync(other);
  }
}

export class LiveBed extends Side {
  readonly #kernel: Kernel;
  readonly #said: RingReader;
  readonly #events: RingReader;
  readonly #timer: NodeJS.Timeout;
  readonly #binding: EndpointBinding;
  readonly #attacher: Attacher;
  #told: ToldSaid[] = [];
  #reasons: string[] = [];
  /** When reasons() was called last, CLOCK_MONOTONIC. */
  #since = 0;

  private constructor(
    world: World,
    pod: Pod,
    hosts: Readonly<Record<string, string>>,
    ifindex: number,
    lines: readonly Line[],
    flows: number,
  ) {
    super(world, pod, hosts);
    this.#kernel = new Kernel(loadForTest({ flows, events: EVENTS }), PLAIN_IDS);
    const { maps } = this.#kernel.programs;
    const counters = maps.counters as BpfMap;
    const content = {
      size: SAID_EVENT_SIZE,
      short: SHORT_SAID_EVENT_SIZE,
      lost: ENUMS.ea_counter.EA_COUNT_SAID_EVENTS_LOST,
    };
    this.#said = new RingReader(maps.said_events as BpfMap, counters, content);
    this.#events = new RingReader(maps.events as BpfMap, counters);
    this.#binding = {
      ...{ key: 'default/web', uid: 'u', id: 1, mac: '', kind: 'pod', l3: false },
      ...{ ifindex, ifname: pod.device, ips: [pod.ip4, pod.ip6] },
    };
    this.rules(lines);
    this.#attacher = inNamespace(world.node.netns, () => {
      const attacher = new Attacher();
      const { fromPod, toPod } = this.#kernel.programs.programs;
      attacher.attach(this.#binding, 'ingress', fromPod);
      attacher.attach(this.#binding, 'egress', toPod);
      return attacher;
    });
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** @param hosts names that the pod knows, with an address each @param flows entries of the flow table */
  static async create(
    lines: readonly Line[],
    hosts: Readonly<Record<string, string>>,
    flows = FLOWS,
  ): Promise<LiveBed> {
    return Side.make(async (world, pod) => {
      const { stdout } = await world.node.run('ip', ['-j', 'link', 'show', pod.device]);
      const [link] = JSON.parse(stdout) as [{ ifindex: number }];
      return new LiveBed(world, pod, hosts, link.ifindex, lines, flows);
    });
  }

  /** The loaded object. */
  get programs(): Programs {
    return this.#kernel.programs;
  }

  /** Puts other rules in force, or lets them say what they would do. */
  rules(lines: readonly Line[], more: { staged?: boolean } = {}): void {
    this.#kernel.use({ ir: irOf(lines, more), snapshot: snapshot() });
    this.#kernel.apply([this.#binding]);
    if (!this.#kernel.store.settled) this.#kernel.store.tidy();
  }

  /** What was told of what the pod's connections said, since it was asked last. */
  told(): ToldSaid[] {
    this.#tick();
    return this.#told.splice(0);
  }

  /** Reasons of what was denied or dropped, since it was asked last. */
  reasons(): string[] {
    this.#tick();
    this.#since = Number(process.hrtime.bigint());
    return this.#reasons.splice(0);
  }

  /** Of all CPUs. */
  count(counter: keyof typeof ENUMS.ea_counter): number {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(ENUMS.ea_counter[counter]);
    const values = (this.#kernel.programs.maps.counters as BpfMap).lookupPerCpu(key);
    return values.reduce((sum, value) => sum + Number(value.readBigUInt64LE(0)), 0);
  }

  /** Buffers that hold what is not judged yet, or not acknowledged. */
  held(): number {
    const map = this.#kernel.programs.maps.l7_holdings as BpfMap;
    const key = Buffer.alloc(4);
    key.writeUInt32LE(map.maxEntries - 1);
    return map.lookup(key)?.readInt32LE(0) ?? -1;
  }

  /** Of the pod's open TCP flows to this port: whether each is inspected, and how many bytes came in. */
  flows(port: number): { inspected: boolean; bytesIn: number }[] {
    const { EA_TCP_INSPECT, EA_TCP_CLOSED } = ENUMS.ea_tcp_state;
    const { fields: F } = STRUCTS.ea_flow;
    const { fields: K } = STRUCTS.ea_flow_key;
    const out: { inspected: boolean; bytesIn: number }[] = [];
    const flows = this.#kernel.programs.maps.flows as BpfMap;
    for (const { keys, values, count } of flows.batches(64))
      for (let i = 0; i < count; i++) {
        const key = keys.subarray(i * STRUCTS.ea_flow_key.size);
        const flow = values.subarray(i * STRUCTS.ea_flow.size);
        const state = flow[F.tcp_state.offset] as number;
        if (key.readUInt16BE(K.remote_port.offset) !== port || (state & EA_TCP_CLOSED) !== 0) continue;
        const bytesIn = [F.bytes_in, F.shared_bytes_in].reduce((n, f) => n + Number(flow.readBigUInt64LE(f.offset)), 0);
        out.push({ inspected: (state & EA_TCP_INSPECT) !== 0, bytesIn });
      }
    return out;
  }

  override async close(): Promise<void> {
    clearInterval(this.#timer);
    inNamespace(this.world.node.netns, () => this.#attacher.detachAll());
    this.#kernel.close();
    await super.close();
  }

  #tick(): void {
    const { fields: F } = STRUCTS.ea_said_event;
    const kinds: Record<number, ToldSaid['kind']> = {
      [ENUMS.ea_said.EA_SAID_TLS]: 'tls',
      [ENUMS.ea_said.EA_SAID_HTTP]: 'http',
    };
    this.#said.records((bytes, at) => {
      const text = bytes.subarray(at + F.text.offset, at + F.text.offset + bytes.readUInt16LE(at + F.length.offset));
      this.#told.push({
        kind: kinds[bytes[at + F.kind.offset] as number] ?? 'other',
        text: text.toString('latin1'),
        verdict: bytes[at + F.verdict.offset] === ENUMS.ea_verdict.EA_VERDICT_DENY ? 'deny' : 'allow',
        audited: bytes[at + F.audit_verdict.offset] === ENUMS.ea_verdict.EA_VERDICT_DENY,
        rule: bytes.readBigUInt64LE(at + F.rule.offset),
        quic: bytes[at + F.quic.offset] !== 0,
      });
    });
    this.#events.drain((e) => {
      // A reset that finds its flow gone, since the peer's was faster, is nobody's loss.
      const isLate = (e.tcpFlags & RST) !== 0;
      // Of a connection from before, what comes late was asked for then.
      const isOlder = e.createdNs > 0 && e.createdNs < this.#since;
      if (e.verdict === 'deny' && !isLate && !isOlder) this.#reasons.push(e.reason);
    });
  }
}
