/**
 * The kernel's engine for many packets: one long-lived compiler and store as the agent has them, every pod bound, the one whose
 * packets are sent at the interface of BPF_PROG_TEST_RUN; no flow is forgotten that need not be.
 */
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import type { Programs } from '../../agent/kernel/loader.js';
import type { BpfProgram } from '../../agent/kernel/libbpf/program.js';
import { KernelMapStore } from '../../agent/maps/store.js';
import { DnsServers } from '../../agent/maps/tables/dns-servers.js';
import { teach } from '../../agent/names/learn.js';
import { RingReader } from '../../agent/events/ring.js';
import { Compiler } from '../../src/compile/index.js';
import type { FlowEvent } from '../../src/flow/event/types.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Image } from '../../src/image/types.js';
import type { Packet, Verdict } from '../../src/ir/packet.js';
import { NODE_SENDER, senderOf } from '../../src/ir/sender.js';
import { parseAddr } from '../../src/net/addr.js';
import { hasPorts } from '../../src/net/protocol.js';
import { wipe } from '../names/wipe.js';
import { FLAGS, tcpFrame, udpFrame } from '../names/wire.js';
import { checkTable } from '../engines/table-check.js';
import {
  type Engine,
  frameOf,
  IFINDEX,
  loadForTest,
  localPods,
  SKB_IFINDEX,
  SKB_SIZE,
  sourceOf,
  toldOf,
  type World,
  boundIps,
} from '../engines/engine.js';
import type { FrameOptions } from '../engines/packets.js';
import { answerOf, DNS_PORT, type Lesson, queryOf, RESOLVERS } from './lessons.js';

const PROG_TEST_RUN = 10;
/** TC_ACT_UNSPEC and TC_ACT_SHOT. */
export const PASS = -1;
export const DROP = 2;
/** TC_ACT_REDIRECT: a query that is refused goes back as its own answer. */
const REDIRECT = 7;
const TCP = 6;
/** Bytes before the data of a segment, by family. */
const HEADERS = { 4: 14 + 20 + 20, 6: 14 + 40 + 20 };
/** Names are few: the tables are emptied for each world. */
const SIZES = { flows: 8192, events: 1 << 20, names: 2048, name_pages: 8192 };
/** Types of queries that are not refused whatever their names are: zone transfers are. */
const QUERY_TYPES = [1, 28, 1, 28, 65, 64, 12, 15, 16, 33, 5, 2, 6, 255, 41, 0, 65535];
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
  readonly sport: number;
  /** The connection was inspected for what it says; it was denied; staged policies had a verdict on it, too. */
  readonly heard?: boolean;
  readonly wasDenied?: boolean;
  readonly audited?: boolean;
}

/** How a query is written: its type and the case of its name follow from what it asks, so that it is the same again. */
function wireOf({ query, to, port }: Packet): FrameOptions['dns'] {
  if (query === undefined) return {};
  let hash = port;
  for (const c of `${query} ${to}`) hash = (hash * 31 + c.charCodeAt(0)) % 65_521;
  const cased = [...query].map((c, i) => ((hash >> (i % 16)) & 1 ? c.toUpperCase() : c)).join('');
  return { type: QUERY_TYPES[hash % QUERY_TYPES.length] as number, name: hash % 3 === 0 ? cased : query };
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
  /** The memory of names. */
  /** Holds from the next world on. */
  place: Place = () => ({});

  constructor(programs: Programs = loadForTest(SIZES)) {
    this.#programs = programs;
    this.#store = new KernelMapStore(programs.maps);
    this.#ring = new RingReader(this.#map('events'), this.#map('counters'));
    this.#ctx.writeUInt32LE(IFINDEX, SKB_IFINDEX);
  }

  /** From now on these are trusted, and flows to them are inspected. */
  trust(servers: readonly string[] = RESOLVERS): void {
    new DnsServers(this.#programs.maps).set(servers.map((ip) => ({ ip, port: DNS_PORT })));
  }

  /** Another cluster: a compiler without a past; the maps hold what they held, as after a restart. */
  restart(): void {
    this.#compiler = new Compiler();
    this.#ids.clear();
    this.#from = undefined;
    this.forget();
    wipe(this.#programs.names);
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

  /** The id by which the programs know a pod. */
  idOf(key: string): number {
    this.#become(key);
    return this.#ids.get(this.#sender(key).uid) as number;
  }

  /** What the maps hold that the Image does not say; empty. */
  verify(): string[] {
    return this.#store.verify(false);
  }

  /**
   * The first packet of a flow of its own; of a query over TCP, and where something is said, the first behind the handshake. If that does not pass, the verdict is
   * about it, and so is `sent`.
   */
  judge(packet: Packet, dns: FrameOptions['dns'] = wireOf(packet)): { verdict: Verdict; sent: Sent } {
    const { from, query, said, ...rest } = packet;
    const speaks = (query ?? said) !== undefined && packet.protocol === TCP && !packet.fragment;
    this.#become(from);
    // Drops without a flow are told once a second: of fragments, and of what should be a query.
    if (packet.fragment || query !== undefined || said || packet.protocol !== TCP) this.forget(['drop_notes']);
    this.#sport = this.#sport >= 65000 ? 1024 : this.#sport + 1;
    const { ips } = this.#sender(from);
    const bytes = frameOf(packet, ips, this.#sport, { dns });
    const sent = { packet, bytes, sender: this.#whois(from), sport: this.#sport };
    const before: FlowEvent[] = [];
    const ends = { src: packet.to, sport: packet.port, dst: sourceOf(packet, ips), dport: this.#sport };
    if (speaks) {
      const syn = { from, ...rest };
      const first = { ...sent, packet: syn, bytes: frameOf(syn, ips, this.#sport) };
      const opened = this.#judged(first.bytes, from);
      const events = this.#told();
      if (opened === 'deny') return { verdict: toldOf(syn, opened, events), sent: first };
      // Of a query, Log rules are told with the query itself; of a connection that nobody inspects, with its SYN.
      before.push(...events.filter((e) => said || e.type !== 'log'));
      const answer = tcpFrame(ends, { seq: 0, ack: 1, flags: FLAGS.SYN | FLAGS.ACK });
      if (from !== NODE_SENDER) this.#run(answer, 'toPod');
      this.#told();
    }
    const verdict = this.#judged(bytes, from);
    const events = this.#told();
    if (speaks && verdict === 'allow' && from !== NODE_SENDER) {
      // What has arrived is kept no longer.
      this.#run(
        tcpFrame(ends, { seq: 1, ack: 1 + bytes.length - HEADERS[parseAddr(packet.to).family], flags: FLAGS.ACK }),
        'toPod',
      );
      this.#told();
    }
    // The packet of a query that is refused over TCP goes on as a reset.
    const refused = speaks && events.some((e) => e.verdict === 'deny');
    const wasDenied = refused || verdict === 'deny';
    // It is told with what it says, in place of its handshake. Where a Service is judged in part, neither is told here.
    const isTold = (all: readonly FlowEvent[]) => all.some((e) => e.type !== 'log');
    const heard = speaks && !isTold(before) && isTold(events);
    const told = refused
      ? toldOf(packet, 'deny', events)
      : toldOf(packet, verdict, verdict === 'allow' ? [...events, ...before] : events);
    return { verdict: told, sent: { ...sent, heard, wasDenied, audited: told.audit !== undefined } };
  }

  /** The same bytes once more, in a flow that the kernel may know; undefined where the sender is another one now. */
  again({ packet, bytes, sender }: Sent): 'allow' | 'deny' | undefined {
    if (!this.#local.includes(packet.from) || this.#whois(packet.from) !== sender) return undefined;
    this.#become(packet.from);
    if (packet.query !== undefined || packet.said) this.forget(['drop_notes']);
    const verdict = this.#judged(bytes, packet.from);
    const events = this.#told();
    return (packet.query !== undefined || packet.said) && events.some((e) => e.verdict === 'deny') ? 'deny' : verdict;
  }

  /** The pod is given an answer, whether it asked or not. @param sport of its query */
  answer(lesson: Lesson, sport: number): void {
    const { pod, server = '' } = lesson;
    this.#become(pod);
    const ends = { src: server, sport: DNS_PORT, dst: sourceOf(queryOf(lesson), this.#sender(pod).ips), dport: sport };
    this.#run(udpFrame(ends, answerOf(lesson, 1)), 'toPod');
    this.#told();
  }

  /** The pod learns by hand what an answer would have taught. */
  learn({ pod, name, aliases, addresses }: Lesson): void {
    this.#become(pod);
    const endpoint = this.#ids.get(this.#sender(pod).uid) as number;
    for (const [i, text] of [name, ...aliases].entries()) {
      for (const address of addresses) {
        const lesson = { endpoint, ifindex: IFINDEX, name: text, address, ttl: 60, alias: i > 0 };
        const result = teach(this.#programs.all.learn as BpfProgram, lesson);
        if (result !== 'learned') throw new Error(`${pod} does not learn ${name} for ${address}: ${result}`);
      }
    }
  }

  /** What a program answers to any bytes. @throws AgentError KERNEL, EINVAL for what is no frame to BPF_PROG_TEST_RUN */
  run(from: string, bytes: Buffer, program: Hook): number {
    return this.send(from, bytes, program).retval;
  }

  /** The same, and what is told of it. */
  send(from: string, bytes: Buffer, program: Hook): { retval: number; events: FlowEvent[] } {
    this.#become(from);
    const retval = this.#run(bytes, program);
    return { retval, events: this.#told() };
  }

  /** Of the maps' state: another one after each update that changed something. */
  get epoch(): number {
    return this.#map('state').mmap().readUInt32LE(0);
  }

  forget(names: readonly string[] = FLOW_MAPS): void {
    if (names === FLOW_MAPS) this.#forgetHellos();
    for (const name of names) {
      const map = this.#map(name);
      for (const { keys, count } of map.batches(1024)) map.deleteBatch(Buffer.from(keys), count);
    }
  }

  /** Of QUIC: who has which buffer, and which ids were used. There is room for what a pod says in a minute. */
  #forgetHellos(): void {
    for (const [owners, rest] of [
      ['quic_holders', undefined],
      ['quic_owners', 'quic_rows'],
    ] as const) {
      const map = this.#map(owners);
      const { valueSize } = map;
      const used: Buffer[] = [];
      for (const { keys, values, count } of map.batches(map.maxEntries))
        for (let i = 0; i < count; i++)
          if (values.subarray(i * valueSize, (i + 1) * valueSize).some((byte) => byte !== 0))
            used.push(Buffer.from(keys.subarray(i * 4, (i + 1) * 4)));
      for (const key of used) {
        map.update(key, Buffer.alloc(valueSize));
        if (rest) this.#map(rest).update(key, Buffer.alloc(this.#map(rest).valueSize));
      }
    }
  }

  /** Throws where the flow table is not as it must be. */
  close(): void {
    const wrong = checkTable(this.#programs.table);
    this.#store.close();
    this.#programs.close();
    if (wrong.length > 0) throw new Error(`the flow table: ${wrong.slice(0, 5).join('; ')}`);
  }

  /** The events since it was asked last. */
  #told(): FlowEvent[] {
    const events: FlowEvent[] = [];
    this.#ring.drain((e) => events.push(e));
    return events;
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
    if (retval !== PASS && retval !== DROP && retval !== REDIRECT)
      throw new Error(`${from}: ${retval} is neither pass nor drop`);
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
