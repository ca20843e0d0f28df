/**
 * The kernel's engine for many packets: one long-lived compiler and store as the agent has them, every pod bound, the one whose
 * packets are sent at the interface of BPF_PROG_TEST_RUN; no flow is forgotten that need not be.
 */
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import type { Programs } from '../../agent/kernel/loader.js';
import { KernelMapStore } from '../../agent/maps/store.js';
import { RingReader } from '../../agent/events/ring.js';
import { Compiler } from '../../src/compile/index.js';
import type { FlowEvent } from '../../src/flow/event/types.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Image } from '../../src/image/types.js';
import type { Packet, Verdict } from '../../src/ir/packet.js';
import { NODE_SENDER, senderOf } from '../../src/ir/sender.js';
import { hasPorts } from '../../src/net/protocol.js';
import { checkTable } from '../engines/table-check.js';
import {
  type Engine,
  frameOf,
  IFINDEX,
  loadForTest,
  localPods,
  SKB_IFINDEX,
  SKB_SIZE,
  toldOf,
  type World,
  boundIps,
} from '../engines/engine.js';

const PROG_TEST_RUN = 10;
/** TC_ACT_UNSPEC and TC_ACT_SHOT. */
export const PASS = -1;
export const DROP = 2;
const FLOW_MAPS = ['flows', 'drop_notes', 'fragments', 'pending', 'queries'];

/** What is to be said of a sender's interface beyond its number. */
export type Place = (key: string) => Partial<EndpointBinding>;

export type Hook = 'fromPod' | 'toPod' | 'uplink' | 'uplinkIn';

/** A frame of a flow that the kernel knows, and whose it was. */
export interface Sent {
  readonly packet: Packet;
  readonly bytes: Buffer;
  /** The sender's UID and addresses. */
  readonly sender: string;
}

export class ManyPackets {
  readonly #programs: Programs;
  readonly #store: KernelMapStore;
  readonly #ring: RingReader;
  readonly #ctx = Buffer.alloc(SKB_SIZE);
  readonly #ctxOut = Buffer.alloc(SKB_SIZE);
  readonly #attr = Buffer.alloc(80);
  readonly #ids = new Map<string, number>();
  #compiler = new Compiler();
  #image!: Image;
  #snapshot!: Snapshot;
  #local: readonly string[] = [];
  #from: string | undefined;
  #sport = 1024;
  /** Holds from the next world on. */
  place: Place = () => ({});

  constructor(programs: Programs = loadForTest()) {
    this.#programs = programs;
    this.#store = new KernelMapStore(programs.maps);
    this.#ring = new RingReader(this.#map('events'), this.#map('counters'));
    this.#ctx.writeUInt32LE(IFINDEX, SKB_IFINDEX);
  }

  /** Another cluster: a compiler without a past; the maps hold what they held, as after a restart. */
  restart(): void {
    this.#compiler = new Compiler();
    this.#ids.clear();
    this.#from = undefined;
    this.forget();
  }

  /** Writes the world into the maps; pods stay where they are. */
  use({ ir, snapshot }: World): void {
    this.#snapshot = snapshot;
    this.#local = localPods(snapshot);
    this.#image = this.#compiler.compile(ir, snapshot, this.#local);
    if (this.#from === undefined || !this.#local.includes(this.#from)) this.#from = this.#local[0];
    this.#apply();
  }

  get image(): Image {
    return this.#image;
  }

  /** What the maps hold that the Image does not say; empty. */
  verify(): string[] {
    return this.#store.verify(false);
  }

  /** The first packet of a flow of its own. */
  judge(packet: Packet): { verdict: Verdict; sent: Sent } {
    this.#become(packet.from);
    // Drops without a flow are told once a second.
    if (packet.fragment) this.forget(['drop_notes']);
    this.#sport = this.#sport >= 65000 ? 1024 : this.#sport + 1;
    const { ips } = this.#sender(packet.from);
    const bytes = frameOf(packet, ips, this.#sport);
    const verdict = this.#judged(bytes, packet.from);
    const events: FlowEvent[] = [];
    this.#ring.drain((e) => events.push(e));
    return {
      verdict: toldOf(packet, verdict, events),
      sent: { packet, bytes, sender: this.#whois(packet.from) },
    };
  }

  /** The same bytes once more, in a flow that the kernel may know; undefined where the sender is another one now. */
  again({ packet, bytes, sender }: Sent): 'allow' | 'deny' | undefined {
    if (!this.#local.includes(packet.from) || this.#whois(packet.from) !== sender) return undefined;
    this.#become(packet.from);
    const verdict = this.#judged(bytes, packet.from);
    this.#ring.drain(() => undefined);
    return verdict;
  }

  /** What a program answers to any bytes. @throws AgentError KERNEL, EINVAL for what is no frame to BPF_PROG_TEST_RUN */
  run(from: string, bytes: Buffer, program: Hook): number {
    return this.send(from, bytes, program).retval;
  }

  /** The same, and what is told of it. */
  send(from: string, bytes: Buffer, program: Hook): { retval: number; events: FlowEvent[] } {
    this.#become(from);
    const retval = this.#run(bytes, program);
    const events: FlowEvent[] = [];
    this.#ring.drain((e) => events.push(e));
    return { retval, events };
  }

  /** Of the maps' state: another one after each update that changed something. */
  get epoch(): number {
    return this.#map('state').mmap().readUInt32LE(0);
  }

  forget(names: readonly string[] = FLOW_MAPS): void {
    for (const name of names) {
      const map = this.#map(name);
      for (const { keys, count } of map.batches(1024)) map.deleteBatch(Buffer.from(keys), count);
    }
  }

  /** Throws where the flow table is not as it must be. */
  close(): void {
    const wrong = checkTable(this.#programs.table);
    this.#store.close();
    this.#programs.close();
    if (wrong.length > 0) throw new Error(`the flow table: ${wrong.slice(0, 5).join('; ')}`);
  }

  #become(key: string): void {
    if (key === this.#from) return;
    this.#from = key;
    this.#apply();
  }

  /** Several updates may come before the next packet: what the first ones leave, the next ones find. */
  #apply(): void {
    this.#store.apply(
      this.#image,
      this.#local.map((key, i) => this.#binding(key, key === this.#from ? IFINDEX : 1000 + i)),
    );
  }

  #binding(key: string, ifindex: number): EndpointBinding {
    const { uid, ips } = this.#sender(key);
    const kind = key === NODE_SENDER ? 'uplink' : 'pod';
    let id = this.#ids.get(uid);
    if (id === undefined) this.#ids.set(uid, (id = this.#ids.size + 1));
    return {
      key,
      uid,
      ifindex,
      ifname: `if${ifindex}`,
      id,
      mac: '',
      ips: boundIps(ips),
      kind,
      l3: false,
      ...this.place(key),
    };
  }

  #sender(key: string) {
    const sender = senderOf(this.#snapshot, key);
    if (!sender) throw new Error(`no sender ${key}`);
    return sender;
  }

  #whois(key: string): string {
    const { uid, ips } = this.#sender(key);
    return [uid, ...ips].join(' ');
  }

  /** What a pod sends is met at its interface, what the node sends at its uplink. */
  #judged(bytes: Buffer, from: string): 'allow' | 'deny' {
    const retval = this.#run(bytes, from === NODE_SENDER ? 'uplink' : 'fromPod');
    if (retval !== PASS && retval !== DROP) throw new Error(`${from}: ${retval} is neither pass nor drop`);
    return retval === PASS ? 'allow' : 'deny';
  }

  /** BPF_PROG_TEST_RUN, with buffers that are made once. */
  #run(bytes: Buffer, program: Hook): number {
    if (!this.#store.settled) this.#store.tidy();
    const attr = this.#attr.fill(0);
    attr.writeUInt32LE(this.#programs.programs[program].fd, 0);
    attr.writeUInt32LE(bytes.length, 8);
    attr.writeBigUInt64LE(sys.address(bytes), 16);
    attr.writeUInt32LE(1, 32);
    attr.writeUInt32LE(SKB_SIZE, 40);
    attr.writeUInt32LE(SKB_SIZE, 44);
    attr.writeBigUInt64LE(sys.address(this.#ctx), 48);
    attr.writeBigUInt64LE(sys.address(this.#ctxOut), 56);
    sys.bpf(PROG_TEST_RUN, attr, bytes, this.#ctx, this.#ctxOut);
    return attr.readInt32LE(4);
  }

  #map(name: string): BpfMap {
    const map = this.#programs.maps[name] ?? this.#programs.beside[name as 'fragments'];
    if (!map) throw new Error(`no map ${name}`);
    return map;
  }
}

/** The same behind the engines' interface: each packet the first of its flow, whatever came before. */
export class QuickKernel implements Engine {
  readonly name = 'kernel';
  readonly #many = new ManyPackets();
  #local: ReadonlySet<string> = new Set();

  use(world: World): void {
    this.#local = new Set(localPods(world.snapshot));
    this.#many.use(world);
    this.#many.forget();
  }

  judge(packet: Packet): Verdict {
    if (!this.#local.has(packet.from)) return { verdict: 'allow', rule: 0, logged: [] };
    // Two packets without ports are of one flow.
    if (!hasPorts(packet.protocol)) this.#many.forget(['flows']);
    return this.#many.judge(packet).verdict;
  }

  close(): void {
    this.#many.close();
  }
}
