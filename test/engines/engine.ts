/** The three engines behind one interface. A world is what the policies are about; a packet is judged in it. */
import { speech } from './speech.js';
import { join } from 'node:path';
import { load, type Programs } from '../../agent/kernel/loader.js';
import type { BpfProgram } from '../../agent/kernel/libbpf/program.js';
import { teach } from '../../agent/names/learn.js';
import { KernelMapStore } from '../../agent/maps/store.js';
import { RingReader } from '../../agent/events/ring.js';
import { Compiler } from '../../src/compile/index.js';
import type { FlowEvent } from '../../src/flow/event/types.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { SetFault } from '../../src/image/fault.js';
import { type Ids, PLAIN_IDS } from '../../src/ids.js';
import { simulate } from '../../src/image/simulate.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Image } from '../../src/image/types.js';
import type { Learned, LearnedName, Packet, Verdict } from '../../src/ir/packet.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { isNode, isSelectable, NODE_SENDER, senderOf } from '../../src/ir/sender.js';
import type { Ir } from '../../src/ir/types.js';
import { parseAddr } from '../../src/net/addr.js';
import { compiled } from '../netns/shell.js';
import { FLAGS, tcpFrame } from '../names/wire.js';
import { type FrameOptions, frame } from './packets.js';
import { checkTable } from './table-check.js';

export interface World {
  ir: Ir;
  snapshot: Snapshot;
  /** What the pods learned from DNS answers. */
  learned?: Learned;
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
    return evaluate(this.#world.ir, this.#world.snapshot, packet, this.#world.learned);
  }
  close(): void {}
}

export class Simulate implements Engine {
  readonly name = 'simulate';
  readonly #compiler: Compiler;
  #image!: Image;
  #snapshot!: Snapshot;
  #learned: Learned | undefined;

  constructor(ids: Ids = PLAIN_IDS) {
    this.#compiler = new Compiler(ids);
  }

  get image(): Image {
    return this.#image;
  }

  use({ ir, snapshot, learned }: World): void {
    this.#image = this.#compiler.compile(ir, snapshot, localPods(snapshot));
    this.#snapshot = snapshot;
    this.#learned = learned;
  }
  judge(packet: Packet): Verdict {
    return simulate(this.#image, packet, senderOf(this.#snapshot, packet.from)?.ips ?? [], this.#learned);
  }
  close(): void {}
}

/** hostNetwork pods have no interface of their own, pods that ended have none any more. And the node itself. */
export function localPods(snapshot: Snapshot): string[] {
  return [...[...snapshot.pods].filter(([, p]) => !p.hostNetwork && !p.ended).map(([key]) => key), NODE_SENDER];
}

const { ea_name_holding: HOLDING, ea_name_state_words: NAME_STATE } = STRUCTS;

/** Of the loopback device, which is always there for BPF_PROG_TEST_RUN to name. */
export const IFINDEX = 1;
export const SKB_SIZE = 192;
export const SKB_IFINDEX = 40;
export const SKB_INGRESS = 36;
/** Maps of the size that tests need: large ones take long to make. */
const SIZES = { flows: 8192, events: 1 << 20 };

/** Enough sizes and room for the tests; nothing is pinned. */
export function loadForTest(sizes: Record<string, number> = SIZES): Programs {
  return load({ objectPath: join(compiled, 'bpf/egress.bpf.o'), sizes });
}

/** What a pod sends from that has no address of a family: of the networks for benchmarks, where no rule looks. */
const STAND_INS = { 4: '198.18.255.254', 6: '2001:2:0:ffff::fffe' } as const;

/** The addresses that a pod is bound with, so that it may send packets of both families. */
export function boundIps(ips: readonly string[]): readonly string[] {
  const families = new Set(ips.map((ip) => parseAddr(ip).family));
  return ips.length === 0
    ? ips
    : [...ips, ...([4, 6] as const).filter((f) => !families.has(f)).map((f) => STAND_INS[f])];
}

/** The address that a pod of these addresses sends a packet from. */
export function sourceOf(packet: Packet, ips: readonly string[]): string {
  const { family } = parseAddr(packet.to);
  return ips.find((ip) => parseAddr(ip).family === family) ?? STAND_INS[family];
}

/** A packet as the bytes that a pod of these addresses sends. */
export function frameOf(
  packet: Packet,
  ips: readonly string[],
  sport: number,
  more: Partial<FrameOptions> = {},
): Buffer {
  const src = sourceOf(packet, ips);
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
  readonly #compiler: Compiler;
  readonly #ctx = Buffer.alloc(SKB_SIZE);
  #image!: Image;
  #ir!: Ir;
  #snapshot!: Snapshot;
  #learned: Learned = new Map();
  #from = '';
  #sport = 1024;
  #id = 1;

  constructor(programs: Programs = loadForTest(), ids: Ids = PLAIN_IDS) {
    this.programs = programs;
    this.#compiler = new Compiler(ids);
    this.store = new KernelMapStore(programs.maps, { ids });
    this.#ring = new RingReader(this.#map('events'), this.#map('counters'));
    this.#ctx.writeUInt32LE(IFINDEX, SKB_IFINDEX);
  }

  use({ ir, snapshot, learned = new Map() }: World): void {
    this.#image = this.#compiler.compile(ir, snapshot, localPods(snapshot));
    this.#ir = ir;
    this.#snapshot = snapshot;
    this.#learned = learned;
    this.#from = '';
  }

  readonly learns: boolean = true;

  /** Lets the endpoint at the interface learn an address for a name, as if an answer had been delivered. */
  learn(key: string, { name, alias }: LearnedName, address: string): void {
    const program = this.programs.all.learn as BpfProgram;
    const lesson = { endpoint: this.#id, ifindex: IFINDEX, name, address, ttl: 60, alias: alias ?? false };
    const result = teach(program, lesson);
    if (result !== 'learned') throw new Error(`${key} does not learn ${name} for ${address}: ${result}`);
  }

  /** The Image in the maps. */
  get image(): Image {
    return this.#image;
  }

  /** Writes the Image, with this pod at the interface that packets come from. */
  become(key: string): void {
    if (key === this.#from) return;
    this.apply([this.binding(key)]);
    if (!this.store.settled) this.store.tidy();
    this.#from = key;
    for (const [address, names] of this.#learned.get(key) ?? [])
      for (const name of names) this.learn(key, name, address);
  }

  /** As the reconciler does: a set that cannot be in force is left out of the Image. */
  apply(bindings: readonly EndpointBinding[]): void {
    for (;;) {
      try {
        this.store.apply(this.#image, bindings);
        return;
      } catch (e) {
        if (!(e instanceof SetFault) || !this.#compiler.refuse(e)) throw e;
        this.#image = this.#compiler.compile(this.#ir, this.#snapshot, localPods(this.#snapshot));
      }
    }
  }

  /** Sets that were left out are tried again. */
  retry(): void {
    this.#compiler.retry();
    this.#image = this.#compiler.compile(this.#ir, this.#snapshot, localPods(this.#snapshot));
    this.#from = '';
  }

  binding(key: string): EndpointBinding {
    const ips = boundIps(senderOf(this.#snapshot, key)?.ips ?? []);
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
    // What is said over TCP, and a query, belong to a connection. Its SYN passes and is answered, or the verdict on it
    // is the verdict.
    const { query, said, ...handshake } = packet;
    const speaks = packet.protocol === 6 && (query !== undefined || said !== undefined) && !packet.fragment;
    const before: FlowEvent[] = [];
    if (said?.kind === 'tls' && said.hidden) this.#takeEchForReal();
    if (speaks) {
      const opened = this.run(frameOf(handshake, pod.ips, this.#sport, more), isNode(pod) ? 'uplink' : 'fromPod');
      if (opened.verdict === 'deny') return toldOf(packet, opened.verdict, opened.events);
      // Of a query, Log rules are told with the query itself; of a connection that nobody inspects, with its SYN.
      before.push(...opened.events.filter((e) => said !== undefined || e.type !== 'log'));
      const src = more.src ?? sourceOf(packet, pod.ips);
      const answer = { src: packet.to, sport: packet.port, dst: src, dport: more.sport ?? this.#sport };
      if (!isNode(pod)) this.run(tcpFrame(answer, { seq: 0, ack: 1, flags: FLAGS.SYN | FLAGS.ACK }), 'toPod');
    }
    const bytes = frameOf(packet, pod.ips, this.#sport, more);
    const { verdict, events } = this.run(bytes, isNode(pod) ? 'uplink' : 'fromPod');
    if (speaks && said !== undefined && !isNode(pod)) {
      // What the peer has got need not be kept any more: there is not room for what all cases say.
      const src = more.src ?? sourceOf(packet, pod.ips);
      const answer = { src: packet.to, sport: packet.port, dst: src, dport: more.sport ?? this.#sport };
      this.run(tcpFrame(answer, { seq: 1, ack: 1 + speech(said).length, flags: FLAGS.ACK }), 'toPod');
    }
    // What is refused over TCP goes on as a reset.
    if (speaks && events.some((e) => e.verdict === 'deny')) return toldOf(packet, 'deny', events);
    // What passes on an open connection is told of no more.
    return toldOf(packet, verdict, verdict === 'allow' ? [...events, ...before] : events);
  }

  /** As where a configuration of ECH found no room: each hello with its extension is real to the pod. */
  #takeEchForReal(): void {
    const { state, holdings } = this.programs.names;
    const [flags, at] = [NAME_STATE.fields.flags.offset, IFINDEX * HOLDING.size];
    state.writeUInt32LE(state.readUInt32LE(flags) | ENUMS.ea_name_options.EA_ECH_DENY_KNOWN, flags);
    holdings.writeUInt32LE(0xffff_ffff, at + HOLDING.fields.ech_full_s.offset);
    holdings.writeUInt32LE(this.store.endpointIds.get(IFINDEX) ?? 0, at + HOLDING.fields.ech_full_of.offset);
  }

  /** Any bytes through from_pod (or another program), and what was told of them. `came`: over which interface, if any. */
  run(
    bytes: Buffer,
    program: 'fromPod' | 'toPod' | 'uplink' = 'fromPod',
    came = 0,
  ): { verdict: 'allow' | 'deny'; retval: number; events: FlowEvent[]; out: Buffer } {
    this.#ctx.writeUInt32LE(came, SKB_INGRESS);
    const opts = { ctx: this.#ctx, dataOutSize: bytes.length + 64 };
    const { retval, dataOut: out } = this.programs.programs[program].testRun(bytes, opts);
    const events: FlowEvent[] = [];
    this.#ring.drain((e) => events.push(e));
    return { verdict: retval === -1 ? 'allow' : 'deny', retval, events, out };
  }

  /** What packets come with: the interface of the pod. */
  get context(): Buffer {
    return this.#ctx;
  }

  /** Throws where the flow table is not as it must be. */
  close(): void {
    const wrong = checkTable(this.programs.table);
    this.store.close();
    this.programs.close();
    if (wrong.length > 0) throw new Error(`the flow table: ${wrong.slice(0, 5).join('; ')}`);
  }

  #map(name: string) {
    const map = this.programs.maps[name] ?? this.programs.beside[name as 'fragments'];
    if (!map) throw new Error(`no map ${name}`);
    return map;
  }

  /** Each packet is to be the first of its flow, and each drop to be told. */
  forget(...only: string[]): void {
    for (const name of only.length > 0 ? only : ['flows', 'drop_notes', 'fragments', 'pending', 'queries']) {
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
