/**
 * The `endpoints` array: one slot for each hooked interface, at ifindex % EA_OWN_SLOTS, mmaped. The pointer to the policy
 * set is one aligned 8-byte store, so a packet reads the old set or the new one. An ifindex whose slot is taken has one of
 * those behind, and `endpoints_more` says which: a slot's memory is never another one's, as that of a hash map's entry is
 * when it has been replaced.
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
const { EA_OWN_SLOTS, EA_MORE_SLOTS } = L.ENUMS.ea_slots;
/** Addresses of a family that fit into the entry itself; more go to `sources`. */
const INLINE_ADDRESSES = 2;

interface Placed {
  binding: EndpointBinding;
  /** The entry without its set, to notice changes. */
  image: Buffer;
  set: bigint;
  slot: number;
}

export class EndpointTable {
  private readonly memory: Buffer;
  private readonly words: BigUint64Array;
  private readonly placed = new Map<number, Placed>();

  constructor(
    endpoints: BpfMap,
    private readonly more: BpfMap,
    private readonly sources: BpfMap,
    private readonly reject: boolean,
  ) {
    this.memory = endpoints.mmap();
    this.words = new BigUint64Array(this.memory.buffer, this.memory.byteOffset, (endpoints.maxEntries * E.size) / 8);
  }

  get size(): number {
    return this.placed.size;
  }

  /** Set reference that packets of this interface are judged by now; 0n: none. */
  setOf(binding: EndpointBinding): bigint {
    const placed = this.placed.get(binding.ifindex);
    if (placed) return placed.set;
    const slot = this.slotOf(binding.ifindex);
    return slot === undefined ? 0n : Atomics.load(this.words, setWord(slot));
  }

  /** Endpoint id that an earlier agent gave to this interface: flows are keyed by it. */
  idOf(ifindex: number): number | undefined {
    const slot = this.slotOf(ifindex);
    return slot === undefined ? undefined : this.memory.readUInt32LE(slot * E.size + E.fields.id.offset);
  }

  /**
   * Whether all of these fit beside what is there until retain(): to be asked before anything is written.
   * @throws AgentError TOO_LARGE, which names the map
   */
  checkRoom(bindings: readonly EndpointBinding[]): void {
    const keep = new Set(bindings.map((b) => b.ifindex));
    const leaving = [...this.placed.values()].filter((p) => !keep.has(p.binding.ifindex));
    const slots = new Map<number, number>();
    let more = leaving.filter((p) => p.slot >= EA_OWN_SLOTS).length;
    let sources = leaving.reduce((n, p) => n + this.sourceCount(p.binding), 0);
    for (const b of bindings) {
      const slot = b.ifindex % EA_OWN_SLOTS;
      const holder = slots.get(slot) ?? (this.ifindexAt(slot) || b.ifindex);
      const elsewhere = (this.placed.get(b.ifindex)?.slot ?? slot) !== slot;
      if (!elsewhere && holder === b.ifindex) slots.set(slot, b.ifindex);
      else more++;
      sources += this.sourceCount(b);
    }
    for (const [map, need, most] of [
      [this.more, more, EA_MORE_SLOTS],
      [this.sources, sources, Number.POSITIVE_INFINITY],
    ] as const) {
      const room = Math.min(map.maxEntries, most);
      if (need <= room) continue;
      const size = 2 ** Math.ceil(Math.log2(need));
      const raise = size <= most ? `raise it with --map-size ${map.name}=${size}; ` : '';
      throw new AgentError('TOO_LARGE', `map ${map.name} has room for ${room} entries; these endpoints need ${need}`, {
        hint: `${raise}the last complete policy stays in force`,
      });
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
    const stands = this.slotOf(binding.ifindex);
    const slot = stands ?? this.freeSlot(binding.ifindex);
    this.write(slot, image, set);
    // Last: who is shown the way there finds it written.
    if (stands === undefined && slot >= EA_OWN_SLOTS) this.more.update(key32(binding.ifindex), key32(slot));
    this.placed.set(binding.ifindex, { binding, image, set, slot });
    return true;
  }

  /** Removes the entries of interfaces that are no longer bound. Their hooks must be gone. */
  retain(bindings: readonly EndpointBinding[]): number {
    const keep = new Set(bindings.map((b) => b.ifindex));
    let removed = 0;
    for (const [ifindex, placed] of this.placed) {
      if (keep.has(ifindex)) continue;
      this.clear(ifindex);
      this.dropSources(placed.binding);
      this.placed.delete(ifindex);
      removed++;
    }
    return removed;
  }

  /** Interfaces in the map that nobody here placed: left by an agent before this one. */
  strangers(): number[] {
    const out: number[] = [];
    for (let slot = 0; slot < EA_OWN_SLOTS + EA_MORE_SLOTS; slot++) {
      const ifindex = this.ifindexAt(slot);
      if (ifindex !== 0 && !this.placed.has(ifindex)) out.push(ifindex);
    }
    return out;
  }

  /** Empties the slot of an interface; its packets have no endpoint from here on. */
  clear(ifindex: number): void {
    const slot = this.placed.get(ifindex)?.slot ?? this.slotOf(ifindex) ?? this.behind(ifindex);
    if (slot === undefined) return;
    if (slot >= EA_OWN_SLOTS) this.more.delete(key32(ifindex));
    this.memory.fill(0, slot * E.size + 8, (slot + 1) * E.size);
    Atomics.store(this.words, setWord(slot), 0n);
  }

  /** Differences between what was placed and what the memory holds; mends them if asked. */
  verify(repair: boolean): string[] {
    const out: string[] = [];
    for (const [ifindex, placed] of this.placed) {
      const { slot } = placed;
      const now = Buffer.from(this.memory.subarray(slot * E.size, (slot + 1) * E.size));
      const shown = slot < EA_OWN_SLOTS || this.more.lookup(key32(ifindex))?.readUInt32LE() === slot;
      const want = Buffer.from(placed.image);
      want.writeBigUInt64LE(placed.set, E.fields.set.offset);
      if (shown && now.equals(want)) continue;
      out.push(`endpoints[${ifindex}] (${placed.binding.key}) differs`);
      if (!repair) continue;
      this.write(slot, placed.image, placed.set);
      if (!shown) this.more.update(key32(ifindex), key32(slot));
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

  private write(slot: number, image: Buffer, set: bigint): void {
    const at = slot * E.size;
    const rest = this.memory.subarray(at + 8, at + E.size);
    // A hook may already read this slot (restart): identical bytes are not touched.
    if (!rest.equals(image.subarray(8))) image.copy(this.memory, at + 8, 8);
    Atomics.store(this.words, setWord(slot), set);
  }

  /** Where an interface stands, whoever placed it. */
  private slotOf(ifindex: number): number | undefined {
    const own = ifindex % EA_OWN_SLOTS;
    if (this.ifindexAt(own) === ifindex) return own;
    const slot = this.more.lookup(key32(ifindex))?.readUInt32LE();
    return slot !== undefined && this.ifindexAt(slot) === ifindex ? slot : undefined;
  }

  /** checkRoom() has found that there is one. */
  private freeSlot(ifindex: number): number {
    const own = ifindex % EA_OWN_SLOTS;
    if (this.ifindexAt(own) === 0) return own;
    // An agent before this one may have died before it had shown the way to what it wrote.
    const slot = this.behind(ifindex) ?? this.behind(0);
    if (slot === undefined) throw new AgentError('INTERNAL', `no slot of the endpoints' map is free for ${ifindex}`);
    return slot;
  }

  /** The first slot behind the own ones that this interface has; 0: that is free. */
  private behind(ifindex: number): number | undefined {
    for (let slot = EA_OWN_SLOTS; slot < EA_OWN_SLOTS + EA_MORE_SLOTS; slot++)
      if (this.ifindexAt(slot) === ifindex) return slot;
    return undefined;
  }

  private ifindexAt(slot: number): number {
    return this.memory.readUInt32LE(slot * E.size + E.fields.ifindex.offset);
  }
}

function setWord(slot: number): number {
  return (slot * E.size + E.fields.set.offset) / 8;
}

function key32(n: number): Buffer {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(n);
  return key;
}
