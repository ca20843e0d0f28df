/**
 * The `endpoints` array: one slot for each hooked interface, at ifindex % slots,
 * mmaped. The pointer to the policy set is one aligned 8-byte store, so a packet reads
 * the old set or the new one. An ifindex whose slot is taken goes to a hash map,
 * whose values the kernel replaces as a whole.
 */
import { AgentError } from '../src/errors.js';
import * as L from '../src/image/layout.gen.js';
import type { EndpointBinding } from '../src/image/store.js';
import { parseAddr } from '../src/net/addr.js';
import { writeAddr } from './encode.js';
import type { BpfMap } from './libbpf/map.js';

const E = L.STRUCTS.ea_endpoint;
const F = L.ENUMS.ea_endpoint_flags;
const SOURCE = L.STRUCTS.ea_source_key;
/** Addresses of a family that fit into the entry itself; more go to `sources`. */
const INLINE_ADDRESSES = 2;

interface Placed {
  binding: EndpointBinding;
  /** The entry without its set, to notice changes. */
  image: Buffer;
  set: bigint;
  where: 'slot' | 'more';
}

export class EndpointTable {
  private readonly memory: Buffer;
  private readonly words: BigUint64Array;
  private readonly slots: number;
  private readonly placed = new Map<number, Placed>();

  constructor(
    endpoints: BpfMap,
    private readonly more: BpfMap,
    private readonly sources: BpfMap,
    private readonly reject: boolean,
  ) {
    this.memory = endpoints.mmap();
    this.slots = endpoints.maxEntries;
    this.words = new BigUint64Array(this.memory.buffer, this.memory.byteOffset, (this.slots * E.size) / 8);
  }

  get size(): number {
    return this.placed.size;
  }

  /** Set reference that packets of this interface are judged by now; 0n: none. */
  setOf(binding: EndpointBinding): bigint {
    const placed = this.placed.get(binding.ifindex);
    if (placed) return placed.set;
    return this.slotIfindex(binding.ifindex) === binding.ifindex
      ? Atomics.load(this.words, this.setWord(binding.ifindex))
      : 0n;
  }

  /** Endpoint id that an earlier agent gave to this interface: flows are keyed by it. */
  idOf(ifindex: number): number | undefined {
    if (this.slotIfindex(ifindex) === ifindex) return this.memory.readUInt32LE(this.at(ifindex) + E.fields.id.offset);
    const entry = this.more.lookup(key32(ifindex));
    return entry?.readUInt32LE(E.fields.id.offset);
  }

  /**
   * Whether all of these fit beside what is there until retain(): to be asked before anything is written.
   * @throws AgentError TOO_LARGE, which names the map
   */
  checkRoom(bindings: readonly EndpointBinding[]): void {
    const keep = new Set(bindings.map((b) => b.ifindex));
    const leaving = [...this.placed.values()].filter((p) => !keep.has(p.binding.ifindex));
    const slots = new Map<number, number>();
    let more = leaving.filter((p) => p.where === 'more').length;
    let sources = leaving.reduce((n, p) => n + this.sourceCount(p.binding), 0);
    for (const b of bindings) {
      const slot = b.ifindex % this.slots;
      const holder = slots.get(slot) ?? (this.slotIfindex(b.ifindex) || b.ifindex);
      if (this.placed.get(b.ifindex)?.where !== 'more' && holder === b.ifindex) slots.set(slot, b.ifindex);
      else more++;
      sources += this.sourceCount(b);
    }
    for (const [map, need] of [
      [this.more, more],
      [this.sources, sources],
    ] as const) {
      if (need <= map.maxEntries) continue;
      throw new AgentError(
        'TOO_LARGE',
        `map ${map.name} holds ${map.maxEntries} entries; these endpoints need ${need}`,
        {
          hint: `raise it with --map-size ${map.name}=${2 ** Math.ceil(Math.log2(need))}; the last complete policy stays in force`,
        },
      );
    }
  }

  /**
   * Makes the entry of an interface; where it stands already with the same identity, only the set is flipped.
   * @returns whether packets are judged otherwise from here on
   */
  put(binding: EndpointBinding, set: bigint): boolean {
    const old = this.placed.get(binding.ifindex);
    if (old && old.set === set && old.binding === binding) return false;
    const image = this.encode(binding);
    if (old && old.set === set && old.image.equals(image)) {
      old.binding = binding;
      return false;
    }
    if (!old?.image.equals(image)) this.writeSources(binding);
    const holder = this.slotIfindex(binding.ifindex);
    if (holder !== 0 && holder !== binding.ifindex) {
      const value = Buffer.from(image);
      value.writeBigUInt64LE(set, E.fields.set.offset);
      this.more.update(key32(binding.ifindex), value);
      this.placed.set(binding.ifindex, { binding, image, set, where: 'more' });
      return true;
    }
    const at = this.at(binding.ifindex);
    const rest = this.memory.subarray(at + 8, at + E.size);
    // A hook may already read this slot (restart): identical bytes are not touched.
    if (!rest.equals(image.subarray(8))) image.copy(this.memory, at + 8, 8);
    Atomics.store(this.words, this.setWord(binding.ifindex), set);
    this.placed.set(binding.ifindex, { binding, image, set, where: 'slot' });
    return true;
  }

  /** Removes the entries of interfaces that are no longer bound. Their hooks must be gone. */
  retain(bindings: readonly EndpointBinding[]): number {
    const keep = new Set(bindings.map((b) => b.ifindex));
    let removed = 0;
    for (const [ifindex, placed] of this.placed) {
      if (keep.has(ifindex)) continue;
      if (placed.where === 'more') this.more.delete(key32(ifindex));
      else this.clear(ifindex);
      this.dropSources(placed.binding);
      this.placed.delete(ifindex);
      removed++;
    }
    return removed;
  }

  /** Interfaces in the map that nobody here placed: left by an agent before this one. */
  strangers(): number[] {
    const out: number[] = [];
    for (let slot = 0; slot < this.slots; slot++) {
      const ifindex = this.memory.readUInt32LE(slot * E.size + E.fields.ifindex.offset);
      if (ifindex !== 0 && !this.placed.has(ifindex)) out.push(ifindex);
    }
    return out;
  }

  /** Empties a slot; packets of its interface have no endpoint from here on. */
  clear(ifindex: number): void {
    const at = this.at(ifindex);
    this.memory.fill(0, at + 8, at + E.size);
    Atomics.store(this.words, this.setWord(ifindex), 0n);
  }

  /** Differences between what was placed and what the memory holds; mends them if asked. */
  verify(repair: boolean): string[] {
    const out: string[] = [];
    for (const [ifindex, placed] of this.placed) {
      const now =
        placed.where === 'more'
          ? this.more.lookup(key32(ifindex))
          : Buffer.from(this.memory.subarray(this.at(ifindex), this.at(ifindex) + E.size));
      const want = Buffer.from(placed.image);
      want.writeBigUInt64LE(placed.set, E.fields.set.offset);
      if (now?.equals(want)) continue;
      out.push(`endpoints[${ifindex}] (${placed.binding.key}) differs`);
      if (!repair) continue;
      this.placed.delete(ifindex);
      this.put(placed.binding, placed.set);
    }
    return out;
  }

  close(): void {
    this.placed.clear();
  }

  private encode(b: EndpointBinding): Buffer {
    const buf = Buffer.alloc(E.size);
    const addrs = b.ips.map((ip) => parseAddr(ip));
    const v4 = addrs.filter((a) => a.family === 4);
    const v6 = addrs.filter((a) => a.family === 6);
    let flags = 0;
    if (b.kind === 'uplink') flags |= F.EA_EP_NODE;
    if (b.ips.length > 0 && b.kind === 'pod') flags |= F.EA_EP_CHECK_SOURCE;
    if (v4.length > INLINE_ADDRESSES || v6.length > INLINE_ADDRESSES) flags |= F.EA_EP_MORE_SOURCES;
    if (b.mac !== '' && b.kind === 'pod') flags |= F.EA_EP_CHECK_MAC;
    if (b.l3) flags |= F.EA_EP_L3;
    if (this.reject) flags |= F.EA_EP_REJECT;
    buf.writeUInt32LE(b.ifindex, E.fields.ifindex.offset);
    buf.writeUInt32LE(b.id, E.fields.id.offset);
    buf.writeUInt32LE(flags, E.fields.flags.offset);
    if (b.mac !== '') {
      const mac = Buffer.from(b.mac.replaceAll(':', ''), 'hex');
      if (mac.length !== 6) throw new AgentError('NETNS', `${b.key}: ${b.ifname} has no Ethernet address: ${b.mac}`);
      mac.copy(buf, E.fields.mac.offset);
    }
    v4.slice(0, INLINE_ADDRESSES).forEach((a, i) => {
      buf.set(a.bytes.subarray(12), E.fields.addr4.offset + i * 4);
    });
    v6.slice(0, INLINE_ADDRESSES).forEach((a, i) => {
      buf.set(a.bytes, E.fields.addr6.offset + i * 16);
    });
    return buf;
  }

  private sourceCount(b: EndpointBinding): number {
    return b.ips.length <= INLINE_ADDRESSES ? 0 : b.ips.length;
  }

  private sourceKeys(b: EndpointBinding): Buffer[] {
    if (this.sourceCount(b) === 0) return [];
    return b.ips.map((ip) => {
      const key = Buffer.alloc(SOURCE.size);
      key.writeUInt32LE(b.id, SOURCE.fields.endpoint.offset);
      writeAddr(key, SOURCE.fields.addr.offset, ip);
      return key;
    });
  }

  private writeSources(b: EndpointBinding): void {
    for (const key of this.sourceKeys(b)) this.sources.update(key, key32(1));
  }

  private dropSources(b: EndpointBinding): void {
    for (const key of this.sourceKeys(b)) this.sources.delete(key);
  }

  private at(ifindex: number): number {
    return (ifindex % this.slots) * E.size;
  }

  private setWord(ifindex: number): number {
    return (this.at(ifindex) + E.fields.set.offset) / 8;
  }

  private slotIfindex(ifindex: number): number {
    return this.memory.readUInt32LE(this.at(ifindex) + E.fields.ifindex.offset);
  }
}

function key32(n: number): Buffer {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(n);
  return key;
}
