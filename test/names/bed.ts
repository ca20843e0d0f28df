/** A pod whose queries and answers go through the hooks, and what the kernel learned of them. */
import { NameTable } from '../../agent/names/table.js';
import { DnsServers } from '../../agent/maps/tables/dns-servers.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { PLAIN_IDS } from '../../src/ids.js';
import type { TaughtAddress } from '../../src/names/message.js';
import { snapshot } from '../bench/worlds.js';
import { boundIps, IFINDEX, Kernel, loadForTest } from '../engines/engine.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import { wipe } from './wipe.js';
import { be16, type Ends, encodeMessage, FLAGS, tcpFrame, udpFrame, type WireMessage } from './wire.js';

export const POD = '10.244.0.1';
export const RESOLVER = '10.96.0.10';
export const STRANGER = '192.0.2.53';
/** Enough for the largest answer that is tested. */
const SIZES = { flows: 8192, events: 1 << 20, names: 1024, name_pages: 32768 };

export class DnsBed {
  readonly kernel = new Kernel(loadForTest(SIZES), PLAIN_IDS);
  readonly #table: NameTable;
  #port = 1024;

  constructor() {
    this.kernel.use({ ir: { tiers: [] }, snapshot: snapshot() });
    this.kernel.become('default/web');
    const { names } = this.kernel.programs;
    this.#table = new NameTable(names);
    const servers = [RESOLVER, '2001:db8::53'].map((ip) => ({ ip, port: 53 }));
    new DnsServers(this.kernel.programs.maps as Record<string, BpfMap>).set(servers);
  }

  /** A port of the pod's own that no query used before. */
  port(): number {
    this.#port = this.#port >= 65000 ? 1024 : this.#port + 1;
    if (this.#port % 1000 === 0) this.kernel.forget();
    return this.#port;
  }

  /** The pod's address of the family of a server. */
  address(server: string): string {
    return boundIps([POD]).find((ip) => ip.includes(':') === server.includes(':')) as string;
  }

  /** Whether what the pod sends by UDP passes. */
  send(payload: Buffer, sport: number, dst = RESOLVER, dport = 53): boolean {
    return this.pass({ src: this.address(dst), sport, dst, dport }, payload, 'fromPod');
  }

  /** Whether what is sent to the pod by UDP passes. `came`: over which interface. */
  receive(payload: Buffer, dport: number, src = RESOLVER, sport = 53, came = 0): boolean {
    return this.pass({ src, sport, dst: this.address(src), dport }, payload, 'toPod', came);
  }

  pass(e: Ends, payload: Buffer, hook: 'fromPod' | 'toPod', came = 0): boolean {
    return this.kernel.run(udpFrame(e, payload), hook, came).verdict === 'allow';
  }

  /** The pod asks what the message answers, and is given it as it is. */
  exchange(message: WireMessage, bytes = encodeMessage(message)): void {
    const port = this.port();
    this.send(encodeMessage({ ...message, flags: 0x0100, answers: [], authority: [], additional: [] }), port);
    this.receive(bytes, port);
  }

  /** A connection of the pod to the resolver, after its handshake. */
  connect(dst = RESOLVER): TcpBed {
    return new TcpBed(this.kernel, { src: this.address(dst), sport: this.port(), dst, dport: 53 });
  }

  /** Gives the buffers of all streams to another endpoint; 0: they are free. */
  takeBuffers(holder: number): void {
    const { dns_memory: memory } = this.kernel.programs.maps as Record<string, BpfMap>;
    for (let i = 0; i < ENUMS.ea_dns_memory.EA_DNS_STREAMS; i++) {
      const key = Buffer.alloc(4);
      key.writeUInt32LE(i);
      const value = memory?.lookup(key);
      if (!value) throw new Error(`no buffer ${i}`);
      value.writeUInt32LE(value.readUInt32LE(0) + 1, 0);
      value.writeUInt32LE(holder, 4);
      memory?.update(key, value);
    }
  }

  /** What the pod has learned, one line for each address and name, sorted. */
  learned(): string[] {
    return this.taught().map(line).sort();
  }

  taught(): TaughtAddress[] {
    const { names } = this.#table.list({ limit: 1e6, addresses: 1e6 });
    return names.flatMap((n) => n.addresses.map((a) => ({ name: n.text, alias: a.alias, address: a.ip, ttl: a.ttlS })));
  }

  get holdings() {
    return this.#table.holdings(IFINDEX);
  }

  /** Forgets all that was learned. */
  forget(): void {
    wipe(this.kernel.programs.names);
  }

  close(): void {
    this.kernel.close();
  }
}

export function line({ name, alias, address, ttl }: TaughtAddress): string {
  return `${name} ${address} ${ttl}${alias ? ' alias' : ''}`;
}

/** A TCP connection: sequence numbers are counted from 0 behind the SYN. */
export class TcpBed {
  readonly #kernel: Pick<Kernel, 'run'>;
  readonly ends: Ends;
  /** Types of the events that its segments caused, and the reasons of drops. */
  readonly told: string[] = [];
  /** Near the end of the number space, so that they wrap around. */
  readonly #first = { fromPod: 0xffff_ff00, toPod: 0xffff_fff0 };

  constructor(kernel: Pick<Kernel, 'run'>, ends: Ends) {
    this.#kernel = kernel;
    this.ends = ends;
    this.segment('fromPod', -1, Buffer.alloc(0), FLAGS.SYN);
    this.segment('toPod', -1, Buffer.alloc(0), FLAGS.SYN | FLAGS.ACK);
    this.segment('fromPod', 0, Buffer.alloc(0), FLAGS.ACK);
  }

  /** Whether a segment passes. @param at offset in the stream */
  segment(hook: 'fromPod' | 'toPod', at: number, payload: Buffer, flags: number = FLAGS.ACK | FLAGS.PSH): boolean {
    const { src, sport, dst, dport } = this.ends;
    const e = hook === 'fromPod' ? this.ends : { src: dst, sport: dport, dst: src, dport: sport };
    const seq = this.#first[hook] + at;
    const other = this.#first[hook === 'fromPod' ? 'toPod' : 'fromPod'];
    const { verdict, events } = this.#kernel.run(tcpFrame(e, { seq, ack: other, flags }, payload), hook);
    this.told.push(...events.map(({ type, reason }) => (type === 'drop' ? `drop: ${reason}` : type)));
    return verdict === 'allow';
  }

  /** What a segment of the pod has behind its header when it goes on. */
  sent(at: number, payload: Buffer): Buffer {
    const fields = { seq: this.#first.fromPod + at, ack: this.#first.toPod, flags: FLAGS.ACK | FLAGS.PSH };
    const { out } = this.#kernel.run(tcpFrame(this.ends, fields, payload));
    return out.subarray(14 + (this.ends.src.includes(':') ? 40 : 20) + 20);
  }

  /** What a segment of the peer has become when the pod gets it; told: reasons of drops. */
  given(at: number, payload: Buffer): { passes: boolean; flags: number; seq: number; data: number; told: string[] } {
    const { src, sport, dst, dport } = this.ends;
    const e = { src: dst, sport: dport, dst: src, dport: sport };
    const fields = { seq: this.#first.toPod + at, ack: this.#first.fromPod, flags: FLAGS.ACK | FLAGS.PSH };
    const { verdict, events, out } = this.#kernel.run(tcpFrame(e, fields, payload), 'toPod');
    const l4 = out.subarray(14 + (src.includes(':') ? 40 : 20));
    return {
      passes: verdict === 'allow',
      flags: l4[13] ?? 0,
      seq: (l4.readUInt32BE(4) - this.#first.toPod) | 0,
      data: l4.length - 20,
      told: events.filter((e) => e.verdict === 'deny').map((e) => e.reason),
    };
  }

  /** Whether the peer's acknowledgement of so many bytes passes. */
  acknowledge(bytes: number): boolean {
    const { src, sport, dst, dport } = this.ends;
    const e = { src: dst, sport: dport, dst: src, dport: sport };
    const [seq, ack] = [this.#first.toPod, (this.#first.fromPod + bytes) % 2 ** 32];
    return this.#kernel.run(tcpFrame(e, { seq, ack }), 'toPod').verdict === 'allow';
  }
}

/** A message with its length, as over TCP. */
export function withLength(message: Buffer): Buffer {
  return Buffer.concat([be16(message.length), message]);
}
