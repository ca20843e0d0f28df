/**
 * The `endpoints` array: one slot for each hooked interface, at ifindex % EA_OWN_SLOTS, mapped into memory. The
 * reference to the policy set is one aligned 8-byte store, so a packet reads the old set or the new one. An ifindex
 * whose slot is taken has an overflow slot behind those; `endpoints_more` maps the ifindex to it. An array, as the
 * kernel may reuse the memory of a replaced hash map entry while a program still reads it.
 */
import { AgentError } from '../../../src/errors.js';
import * as L from '../../../src/image/layout.gen.js';
import type { EndpointBinding } from '../../../src/image/store.js';
import { parseAddr } from '../../../src/net/addr.js';
import { setOf, writeAddr } from './encode.js';
import type { BpfMap } from '../../kernel/libbpf/map.js';

const E = L.STRUCTS.ea_endpoint;
const F = L.ENUMS.ea_endpoint_flags;
const SOURCE = L.STRUCTS.ea_source_key;
const { EA_OWN_SLOTS, EA_MORE_SLOTS } = L.ENUMS.ea_slots;
/** Reference to a set that does not exist: everything is denied (`no-set`). */
const CLOSED = 15n;
/**
 * Addresses that an endpoint may send from. Without a limit, a pod with many addresses could fill maps that all share.
 */
export const MAX_ADDRESSES = 256;
/** Addresses of a family that fit into the entry itself; more go to `sources`. */
const INLINE_ADDRESSES = 2;

/** An endpoint with a slot. */
interface PlacedEndpoint {
  binding: EndpointBinding;
  /** The entry without its set, to notice changes. */
  image: Buffer;
  set: bigint;
  slot: number;
}

export class EndpointTable {
  readonly #more: BpfMap;
  readonly #sources: BpfMap;
  readonly #reject: boolean;
  readonly #memory: Buffer;
  readonly #words: BigUint64Array;
  readonly #placed = new Map<number, PlacedEndpoint>();

  constructor(endpoints: BpfMap, more: BpfMap, sources: BpfMap, reject: boolean) {
    this.#more = more;
    this.#sources = sources;
    this.#reject = reject;
    this.#memory = endpoints.mmap();
    this.#words = new BigUint64Array(this.#memory.buffer, this.#memory.byteOffset, (endpoints.maxEntries * E.size) / 8);
  }

  get size(): number {
    return this.#placed.size;
  }

  /** The set reference by which packets of this interface are judged; 0n: none. */
  setOf(binding: EndpointBinding): bigint {
    const placed = this.#placed.get(binding.ifindex);
    if (placed) return placed.set;
    const slot = this.#slotOf(binding.ifindex);
    return slot === undefined ? 0n : Atomics.load(this.#words, setWord(slot));
  }

  /** The slot that this agent gave to an interface; flows refer to it as the payer of their entries. */
  slot(ifindex: number): number | undefined {
    return this.#placed.get(ifindex)?.slot;
  }

  /** Endpoint ids in the table, by interface, also those of an earlier agent. */
  ids(): Map<number, number> {
    const out = new Map<number, number>();
    for (let slot = 0; slot < EA_OWN_SLOTS + EA_MORE_SLOTS; slot++) {
      const ifindex = this.#ifindexAt(slot);
      if (ifindex !== 0) out.set(ifindex, this.#memory.readUInt32LE(slot * E.size + E.fields.id.offset));
    }
    return out;
  }

  /** Closes every interface whose set is not known. @returns how many */
  closeUnless(known: (set: number) => boolean): number {
    let n = 0;
    for (let slot = 0; slot < EA_OWN_SLOTS + EA_MORE_SLOTS; slot++) {
      const ifindex = this.#ifindexAt(slot);
      const set = ifindex === 0 ? 0n : Atomics.load(this.#words, setWord(slot));
      if (set === 0n || set === CLOSED || known(setOf(set))) continue;
      Atomics.store(this.#words, setWord(slot), CLOSED);
      const placed = this.#placed.get(ifindex);
      if (placed) placed.set = CLOSED;
      n++;
    }
    return n;
  }

  /**
   * Checks that these endpoints fit beside those that stay until retain(). Call it before anything is written.
   * @throws AgentError TOO_LARGE, which names the map
   */
  checkRoom(bindings: readonly EndpointBinding[]): void {
    const keep = new Set(bindings.map((b) => b.ifindex));
    const removed = [...this.#placed.values()].filter((p) => !keep.has(p.binding.ifindex));
    const slots = new Map<number, number>();
    let more = removed.filter((p) => p.slot >= EA_OWN_SLOTS).length;
    let sources = removed.reduce((n, p) => n + this.#sourceCount(p.binding), 0);
    for (const b of bindings) {
      const slot = b.ifindex % EA_OWN_SLOTS;
      const holder = slots.get(slot) ?? (this.#ifindexAt(slot) || b.ifindex);
      const inOverflow = (this.#placed.get(b.ifindex)?.slot ?? slot) !== slot;
      if (!inOverflow && holder === b.ifindex) slots.set(slot, b.ifindex);
      else more++;
      sources += this.#sourceCount(b);
    }
    for (const [map, need, limit] of [
      [this.#more, more, EA_MORE_SLOTS],
      [this.#sources, sources, Number.POSITIVE_INFINITY],
    ] as const) {
      const room = Math.min(map.maxEntries, limit);
      if (need <= room) continue;
      const size = 2 ** Math.ceil(Math.log2(need));
      const raise = size <= limit ? `raise it with --map-size ${map.name}=${size}; ` : '';
      throw new AgentError('TOO_LARGE', `map ${map.name} has room for ${room} entries; these endpoints need ${need}`, {
        hint: `${raise}the last complete policy stays in force`,
      });
    }
  }

  /**
   * Writes the entry of an interface; if it exists with the same identity, only the set changes.
   * @returns whether packets are judged differently from now on
   */
  put(binding: EndpointBinding, set: bigint): boolean {
    const old = this.#placed.get(binding.ifindex);
    if (old && old.set === set && old.binding === binding) return false;
    const image = this.#encode(binding);
    if (old && old.set === set && old.image.equals(image)) {
      old.binding = binding;
      return false;
    }
    if (!old?.image.equals(image)) this.#writeSources(binding);
    const existingSlot = this.#slotOf(binding.ifindex);
    const slot = existingSlot ?? this.#freeSlot(binding.ifindex);
    this.#write(slot, image, set);
    // The overflow slot is filled before `endpoints_more` refers to it.
    if (existingSlot === undefined && slot >= EA_OWN_SLOTS) this.#more.update(key32(binding.ifindex), key32(slot));
    this.#placed.set(binding.ifindex, { binding, image, set, slot });
    return true;
  }

  /** Removes the entries of interfaces that are no longer bound. They must be detached before. @returns how many */
  retain(bindings: readonly EndpointBinding[]): number {
    const keep = new Set(bindings.map((b) => b.ifindex));
    let removed = 0;
    for (const [ifindex, placed] of this.#placed) {
      if (keep.has(ifindex)) continue;
      this.clear(ifindex);
      this.#dropSources(placed.binding);
      this.#placed.delete(ifindex);
      removed++;
    }
    return removed;
  }

  /** Interfaces in the map that only an earlier agent placed. */
  strangers(): number[] {
    const out: number[] = [];
    for (let slot = 0; slot < EA_OWN_SLOTS + EA_MORE_SLOTS; slot++) {
      const ifindex = this.#ifindexAt(slot);
      if (ifindex !== 0 && !this.#placed.has(ifindex)) out.push(ifindex);
    }
    return out;
  }

  /** Empties the slot of an interface: its packets have no endpoint from now on, and are denied. */
  clear(ifindex: number): void {
    const slot = this.#placed.get(ifindex)?.slot ?? this.#slotOf(ifindex) ?? this.#overflowSlot(ifindex);
    if (slot === undefined) return;
    if (slot >= EA_OWN_SLOTS) this.#more.delete(key32(ifindex));
    this.#memory.fill(0, slot * E.size + 8, (slot + 1) * E.size);
    Atomics.store(this.#words, setWord(slot), 0n);
  }

  /** Compares the memory with the placed endpoints, and repairs it if asked. @returns one line a difference */
  verify(repair: boolean): string[] {
    const out: string[] = [];
    for (const [ifindex, placed] of this.#placed) {
      const { slot } = placed;
      const actual = Buffer.from(this.#memory.subarray(slot * E.size, (slot + 1) * E.size));
      const reachable = slot < EA_OWN_SLOTS || this.#more.lookup(key32(ifindex))?.readUInt32LE() === slot;
      const expected = Buffer.from(placed.image);
      expected.writeBigUInt64LE(placed.set, E.fields.set.offset);
      if (reachable && actual.equals(expected)) continue;
      out.push(`endpoints[${ifindex}] (${placed.binding.key}) differs`);
      if (!repair) continue;
      this.#write(slot, placed.image, placed.set);
      if (!reachable) this.#more.update(key32(ifindex), key32(slot));
    }
    return out;
  }

  close(): void {
    this.#placed.clear();
  }

  #encode(b: EndpointBinding): Buffer {
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
    if (b.gateway !== undefined) flags |= F.EA_EP_CHECK_NEXT_HOP;
    if (this.#reject) flags |= F.EA_EP_REJECT;
    buf.writeUInt32LE(b.ifindex, E.fields.ifindex.offset);
    buf.writeUInt32LE(b.id, E.fields.id.offset);
    buf.writeUInt32LE(flags, E.fields.flags.offset);
    for (const [field, text] of [
      [E.fields.mac, b.mac],
      [E.fields.gateway, b.gateway ?? ''],
    ] as const) {
      if (text === '') continue;
      const mac = Buffer.from(text.replaceAll(':', ''), 'hex');
      if (mac.length !== 6) throw new AgentError('NETNS', `${b.key}: ${b.ifname} has no Ethernet address: ${text}`);
      mac.copy(buf, field.offset);
    }
    v4.slice(0, INLINE_ADDRESSES).forEach((a, i) => {
      buf.set(a.bytes.subarray(12), E.fields.addr4.offset + i * 4);
    });
    v6.slice(0, INLINE_ADDRESSES).forEach((a, i) => {
      buf.set(a.bytes, E.fields.addr6.offset + i * 16);
    });
    return buf;
  }

  #sourceCount(b: EndpointBinding): number {
    return b.ips.length <= INLINE_ADDRESSES ? 0 : Math.min(b.ips.length, MAX_ADDRESSES);
  }

  #sourceKeys(b: EndpointBinding): Buffer[] {
    return b.ips.slice(0, this.#sourceCount(b)).map((ip) => {
      const key = Buffer.alloc(SOURCE.size);
      key.writeUInt32LE(b.id, SOURCE.fields.endpoint.offset);
      writeAddr(key, SOURCE.fields.addr.offset, ip);
      return key;
    });
  }

  #writeSources(b: EndpointBinding): void {
    for (const key of this.#sourceKeys(b)) this.#sources.update(key, key32(1));
  }

  #dropSources(b: EndpointBinding): void {
    for (const key of this.#sourceKeys(b)) this.#sources.delete(key);
  }

  #write(slot: number, image: Buffer, set: bigint): void {
    const at = slot * E.size;
    const rest = this.#memory.subarray(at + 8, at + E.size);
    // A hook may read this slot already (after a restart): identical bytes are not rewritten.
    if (!rest.equals(image.subarray(8))) image.copy(this.#memory, at + 8, 8);
    Atomics.store(this.#words, setWord(slot), set);
  }

  /** The slot of an interface in the map, also if an earlier agent placed it. */
  #slotOf(ifindex: number): number | undefined {
    const own = ifindex % EA_OWN_SLOTS;
    if (this.#ifindexAt(own) === ifindex) return own;
    const slot = this.#more.lookup(key32(ifindex))?.readUInt32LE();
    return slot !== undefined && this.#ifindexAt(slot) === ifindex ? slot : undefined;
  }

  /** A free slot for an interface; checkRoom() guarantees that there is one. */
  #freeSlot(ifindex: number): number {
    const own = ifindex % EA_OWN_SLOTS;
    if (this.#ifindexAt(own) === 0) return own;
    // An earlier agent may have been killed between filling an overflow slot and referring to it: use that one.
    const slot = this.#overflowSlot(ifindex) ?? this.#overflowSlot(0);
    if (slot === undefined) throw new AgentError('INTERNAL', `no slot of the endpoints' map is free for ${ifindex}`);
    return slot;
  }

  /** The first overflow slot of this interface; for ifindex 0, the first free one. */
  #overflowSlot(ifindex: number): number | undefined {
    for (let slot = EA_OWN_SLOTS; slot < EA_OWN_SLOTS + EA_MORE_SLOTS; slot++)
      if (this.#ifindexAt(slot) === ifindex) return slot;
    return undefined;
  }

  #ifindexAt(slot: number): number {
    return this.#memory.readUInt32LE(slot * E.size + E.fields.ifindex.offset);
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
