/** The three engines behind one interface. A world is what the policies are about; a packet is judged in it. */
import { join } from 'node:path';
import { load, type Programs } from '../../agent/loader.js';
import { KernelMapStore } from '../../agent/map-store.js';
import { RingReader } from '../../agent/ring.js';
import { Compiler } from '../../src/compile/index.js';
import type { FlowEvent } from '../../src/flow/types.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { simulate } from '../../src/image/simulate.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Image, Packet, Verdict } from '../../src/image/types.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { isNode, isSelectable, NODE_SENDER, senderOf } from '../../src/ir/sender.js';
import type { Ir } from '../../src/ir/types.js';
import { parseAddr } from '../../src/net/addr.js';
import { compiled } from '../netns/shell.js';
import { type FrameOptions, frame } from './packets.js';

export interface World {
  ir: Ir;
  snapshot: Snapshot;
}

export interface Engine {
  readonly name: string;
  use(world: World): void;
  judge(packet: Packet): Verdict;
  close(): void;
}

export class Evaluate implements Engine {
  readonly name = 'evaluate';
  #world!: World;
  use(world: World): void {
    this.#world = world;
  }
  judge(packet: Packet): Verdict {
    return evaluate(this.#world.ir, this.#world.snapshot, packet);
  }
  close(): void {}
}

export class Simulate implements Engine {
  readonly name = 'simulate';
  readonly #compiler = new Compiler();
  #image!: Image;
  #snapshot!: Snapshot;
  use({ ir, snapshot }: World): void {
    this.#image = this.#compiler.compile(ir, snapshot, localPods(snapshot));
    this.#snapshot = snapshot;
  }
  judge(packet: Packet): Verdict {
    return simulate(this.#image, packet, senderOf(this.#snapshot, packet.from)?.ips ?? []);
  }
  close(): void {}
}

/** hostNetwork pods have no interface of their own, pods that ended have none any more. And the node itself. */
export function localPods(snapshot: Snapshot): string[] {
  return [...[...snapshot.pods].filter(([, p]) => !p.hostNetwork && !p.ended).map(([key]) => key), NODE_SENDER];
}

/** Of the loopback device, which is always there for BPF_PROG_TEST_RUN to name. */
export const IFINDEX = 1;
export const SKB_SIZE = 192;
export const SKB_IFINDEX = 40;
/** Maps of the size that tests need: large ones take long to make. */
const SIZES = { flows: 8192, accepted: 1024, pending: 1024, fragments: 1024, events: 1 << 20 };

/** Enough sizes and room for the tests; nothing is pinned. */
export function loadForTest(sizes: Record<string, number> = SIZES): Programs {
  return load({ objectPath: join(compiled, 'bpf/egress.bpf.o'), sizes });
}

/** A packet as the bytes that a pod of these addresses sends. */
export function frameOf(
  packet: Packet,
  ips: readonly string[],
  sport: number,
  more: Partial<FrameOptions> = {},
): Buffer {
  const { family } = parseAddr(packet.to);
  // Without an address of the family: the unspecified one, which a pod may use while it has none.
  const src = ips.find((ip) => parseAddr(ip).family === family) ?? (family === 4 ? '0.0.0.0' : '::');
  const fragment = packet.fragment ? { offset: 1480, more: false, id: sport } : undefined;
  return frame(packet, { src, sport, ...(fragment ? { fragment } : {}), ...more });
}

/** The verdict in the words of the other engines, from what the program did and told. */
export function toldOf(packet: Packet, verdict: 'allow' | 'deny', events: readonly FlowEvent[]): Verdict {
  const decided = events.find((e) => e.type !== 'log');
  const logged = events.filter((e) => e.type === 'log').map((e) => e.rule);
  // What passes untold is PARTIAL: judged and told of later. A drop is always told.
  if (!decided) return { verdict: packet.fragment || verdict === 'deny' ? verdict : 'partial', rule: 0, logged };
  const audit =
    decided.auditVerdict === 'none'
      ? {}
      : { audit: { verdict: decided.auditVerdict as 'allow' | 'deny', rule: decided.auditRule } };
  return { verdict, rule: decided.rule, logged, ...audit };
}

/** The loaded programs: packets go through from_pod by BPF_PROG_TEST_RUN, as one pod's after the other's. */
export class Kernel implements Engine {
  readonly name = 'kernel';
  readonly programs: Programs;
  readonly store: KernelMapStore;
  readonly #ring: RingReader;
  readonly #compiler = new Compiler();
  readonly #ctx = Buffer.alloc(SKB_SIZE);
  #image!: Image;
  #snapshot!: Snapshot;
  #from = '';
  #sport = 1024;
  #id = 1;

  constructor(programs: Programs = loadForTest()) {
    this.programs = programs;
    this.store = new KernelMapStore(programs.maps);
    this.#ring = new RingReader(this.#map('events'), this.#map('counters'));
    this.#ctx.writeUInt32LE(IFINDEX, SKB_IFINDEX);
  }

  use({ ir, snapshot }: World): void {
    this.#image = this.#compiler.compile(ir, snapshot, localPods(snapshot));
    this.#snapshot = snapshot;
    this.#from = '';
  }

  /** The Image in the maps. */
  get image(): Image {
    return this.#image;
  }

  /** Writes the Image, with this pod at the interface that packets come from. */
  become(key: string): void {
    if (key === this.#from) return;
    this.store.apply(this.#image, [this.binding(key)]);
    if (!this.store.settled) this.store.tidy();
    this.#from = key;
  }

  binding(key: string): EndpointBinding {
    const ips = senderOf(this.#snapshot, key)?.ips ?? [];
    const kind = key === NODE_SENDER ? 'uplink' : 'pod';
    // Another id for each pod: flows of one are no flows of the next.
    return { key, uid: key, ifindex: IFINDEX, ifname: 'lo', id: ++this.#id, mac: '', ips, kind, l3: false };
  }

  judge(packet: Packet): Verdict {
    return this.judgeFrame(packet, {});
  }

  /** The same with a frame out of the ordinary. */
  judgeFrame(packet: Packet, more: Partial<FrameOptions>): Verdict {
    const pod = senderOf(this.#snapshot, packet.from);
    if (!pod || !isSelectable(pod)) return { verdict: 'allow', rule: 0, logged: [] };
    this.become(packet.from);
    this.forget();
    this.#sport = this.#sport >= 65000 ? 1024 : this.#sport + 1;
    const bytes = frameOf(packet, pod.ips, this.#sport, more);
    const { verdict, events } = this.run(bytes, isNode(pod) ? 'uplink' : 'fromPod');
    return toldOf(packet, verdict, events);
  }

  /** Any bytes through from_pod (or another program), and what was told of them. */
  run(
    bytes: Buffer,
    program: 'fromPod' | 'toPod' | 'uplink' = 'fromPod',
  ): { verdict: 'allow' | 'deny'; retval: number; events: FlowEvent[] } {
    const { retval } = this.programs.programs[program].testRun(bytes, { ctx: this.#ctx });
    const events: FlowEvent[] = [];
    this.#ring.drain((e) => events.push(e));
    return { verdict: retval === -1 ? 'allow' : 'deny', retval, events };
  }

  close(): void {
    this.store.close();
    this.programs.close();
  }

  #map(name: string) {
    const map = this.programs.maps[name];
    if (!map) throw new Error(`no map ${name}`);
    return map;
  }

  /** Each packet is to be the first of its flow, and each drop to be told. */
  forget(): void {
    for (const name of ['flows', 'accepted', 'drop_notes', 'fragments', 'pending']) {
      const map = this.#map(name);
      for (const { keys, count } of map.batches(64)) map.deleteBatch(Buffer.from(keys), count);
    }
  }
}

/** What makes two verdicts the same: verdict, rule, logged rules, audit. Of a fragment that passes no rule is told. */
export function comparable(v: Verdict, packet: Packet): object {
  const rule = packet.fragment && v.verdict === 'allow' ? 0 : v.rule;
  return {
    verdict: v.verdict,
    rule,
    logged: packet.fragment ? [] : v.logged,
    ...(v.audit && !packet.fragment ? { audit: v.audit } : {}),
  };
}
