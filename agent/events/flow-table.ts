/**
 * The flow table in user space: shared memory, read without a system call. bpf/table.h describes its layout, and why it
 * is safe while programs change it. User space only reads and removes entries; BPF programs write them (`seed`).
 *
 * FlowTable presents the entries of one kind as a map: keys are struct ea_flow_key, values struct ea_flow.
 */
import { randomBytes } from 'node:crypto';
import * as L from '../../src/image/layout.gen.js';
import { BpfMap } from '../kernel/libbpf/map.js';

const { ea_entry: E, ea_flow_key: K, ea_flow: F, ea_bucket: B, ea_holding: H, ea_state: S } = L.STRUCTS;
const { EA_WAYS, EA_SECRETS } = L.ENUMS.ea_table;
const { EA_ENTRY_LOCKED, EA_ENTRY_VALID, EA_ENTRY_NEXT } = L.ENUMS.ea_entry_state;
const KIND = E.fields.flow.offset + F.fields.kind.offset;
const PAYER = E.fields.flow.offset + F.fields.payer.offset;
const WORTHLESS = E.fields.flow.offset + F.fields.worthless.offset;
const WORD = 4;
const MASK64 = (1n << 64n) - 1n;

/** Smallest divisor of the guaranteed half of the table: with few endpoints, a share need not be larger. */
const MIN_DIVISOR = 16;
const MIN_SHARE = 64;

/** A version of an entry, for free(): its slot, and the state word when it was read. */
export interface EntryVersion {
  readonly slot: number;
  readonly state: number;
}

/** The memory of the table, which consists of several maps. */
export class FlowMemory {
  /** All entries, EA_WAYS for each bucket. */
  readonly entries: Buffer;
  readonly capacity: number;
  readonly #states: Uint32Array;
  readonly #buckets: Uint32Array;
  readonly #holdings: Uint32Array;
  readonly #state: Buffer;

  /** Maps the memory, and creates the secrets of the hash if the table is new. Throws KERNEL. */
  constructor(maps: { flows: BpfMap; buckets: BpfMap; holdings: BpfMap; state: BpfMap }) {
    this.capacity = maps.flows.maxEntries;
    this.entries = maps.flows.mmap();
    this.#states = words(this.entries);
    this.#buckets = words(maps.buckets.mmap());
    this.#holdings = words(maps.holdings.mmap());
    this.#state = maps.state.mmap();
    this.#state.writeUInt32LE(maps.buckets.maxEntries - 1, S.fields.last_bucket.offset);
    const secret = this.#state.subarray(S.fields.secret.offset, S.fields.secret.offset + EA_SECRETS * 8);
    if (secret.every((byte) => byte === 0)) randomBytes(secret.length).copy(secret);
    const [a, b, c, d] = [0, 1, 4, 5].map((i) => this.#state.readBigUInt64LE(S.fields.secret.offset + i * 8));
    const mappedHash = (a as bigint) * (b as bigint) + (c as bigint) * (d as bigint);
    this.#state.writeBigUInt64LE(mappedHash & MASK64, S.fields.mapped.offset);
    if (this.share === 0) this.#setShare(this.capacity / 2);
  }

  /** Entries that are guaranteed to each endpoint. */
  get share(): number {
    return this.#state.readUInt32LE(S.fields.share.offset);
  }

  /** Sets the share: half of the table is guaranteed in equal shares; all may use the other half and unused shares. */
  divide(endpoints: number): void {
    this.#setShare(Math.max(MIN_SHARE, Math.floor(this.capacity / 2 / Math.max(MIN_DIVISOR, endpoints))));
  }

  #setShare(share: number): void {
    if (share !== this.share) this.#state.writeUInt32LE(share, S.fields.share.offset);
  }

  /** The state of an entry: enum ea_entry_state. */
  state(slot: number): number {
    return Atomics.load(this.#states, (slot * E.size + E.fields.state.offset) / WORD);
  }

  /** Entries of an endpoint, as counted by the programs. @param payer the endpoint's slot */
  holdings(payer: number): number {
    return Atomics.load(this.#holdings, (payer * H.size) / WORD);
  }

  /** Adds to that count. */
  adjustHoldings(payer: number, by: number): void {
    Atomics.add(this.#holdings, (payer * H.size) / WORD, by);
  }

  /** The slot of the endpoint whose share an entry takes. */
  payer(slot: number): number {
    return this.entries.readUInt32LE(slot * E.size + PAYER);
  }

  /**
   * Removes an entry, in two steps. If the process is killed between them, the way is free but tagged: it stays unused
   * until untag() repairs it.
   * @returns false if a program has changed or locked the entry since it was read
   */
  free({ slot, state }: EntryVersion): boolean {
    const at = (slot * E.size + E.fields.state.offset) / WORD;
    const payer = this.payer(slot);
    const worthless = this.entries[slot * E.size + WORTHLESS] !== 0;
    const next = ((state & ~EA_ENTRY_VALID) + EA_ENTRY_NEXT) >>> 0;
    if (Atomics.compareExchange(this.#states, at, state, next) !== state) return false;
    Atomics.store(this.#buckets, this.#tagAt(slot), 0);
    this.adjustHoldings(payer, -1);
    if (worthless) Atomics.add(this.#holdings, (payer * H.size + H.fields.worthless.offset) / WORD, -1);
    return true;
  }

  /** The tag of a slot; 0: it is free. */
  tag(slot: number): number {
    return Atomics.load(this.#buckets, this.#tagAt(slot));
  }

  /** Clears the tag of a free slot, so that it can be used again. */
  untag(slot: number, tag: number): void {
    Atomics.compareExchange(this.#buckets, this.#tagAt(slot), tag, 0);
  }

  #tagAt(slot: number): number {
    return (Math.floor(slot / EA_WAYS) * B.size + B.fields.tags.offset) / WORD + (slot % EA_WAYS);
  }

  /**
   * Copies a consistent version of the entry at a slot into `to`; undefined if there is none, or a program is changing
   * it.
   */
  read(slot: number, to: Buffer): EntryVersion | undefined {
    const state = this.state(slot);
    if ((state & (EA_ENTRY_VALID | EA_ENTRY_LOCKED)) !== EA_ENTRY_VALID) return undefined;
    this.entries.copy(to, 0, slot * E.size, (slot + 1) * E.size);
    return this.state(slot) === state ? { slot, state } : undefined;
  }

  /** The two buckets of a key, and its tag, as computed in bpf/table.h. */
  locate(key: Buffer): { buckets: [number, number]; tag: number } {
    const secret = (i: number) => this.#state.readBigUInt64LE(S.fields.secret.offset + i * 8);
    const word = (i: number) => BigInt(key.readUInt32LE(i * WORD));
    let h = (secret(10) + word(10)) * secret(11);
    for (let i = 0; i < 10; i += 2) {
      h += ((secret(i) + word(i)) & MASK64) * ((secret(i + 1) + word(i + 1)) & MASK64);
    }
    h &= MASK64;
    h = ((h ^ (h >> 32n)) * 0x9e3779b97f4a7c15n) & MASK64;
    const last = this.#state.readUInt32LE(S.fields.last_bucket.offset);
    const tag = (Number((h >> 5n) & 0xffff_ffffn) | 1) >>> 0;
    const first = Number((h >> 40n) & BigInt(last));
    const other = (first ^ ((Math.imul(tag, 0x5bd1e995) >>> 8) | 1)) & last;
    return { buckets: [first, other], tag };
  }
}

/** Entries of one kind, as a map. */
export class FlowTable extends BpfMap {
  readonly #kind: number;
  readonly #entry = Buffer.alloc(E.size);

  /** @param kind enum ea_kind */
  constructor(
    map: BpfMap,
    name: string,
    readonly table: FlowMemory,
    kind: number,
  ) {
    super(map.fd, name);
    this.#kind = kind;
    const sizes = this as { keySize: number; valueSize: number };
    sizes.keySize = K.size;
    sizes.valueSize = F.size;
  }

  override *batches(size = 4096): Generator<{ keys: Buffer; values: Buffer; count: number }> {
    const room = Math.max(1, Math.min(size, this.table.capacity));
    const keys = Buffer.alloc(room * K.size);
    const values = Buffer.alloc(room * F.size);
    let count = 0;
    for (let slot = 0; slot < this.table.capacity; slot++) {
      if (this.table.tag(slot) === 0 || !this.table.read(slot, this.#entry) || this.#entry[KIND] !== this.#kind)
        continue;
      this.#entry.copy(keys, count * K.size, 0, K.size);
      this.#entry.copy(values, count * F.size, E.fields.flow.offset);
      if (++count < room) continue;
      yield { keys, values, count };
      count = 0;
    }
    if (count > 0) yield { keys, values, count };
  }

  override lookup(key: Buffer): Buffer | undefined {
    return this.#find(key) ? Buffer.from(this.#entry.subarray(E.fields.flow.offset)) : undefined;
  }

  override delete(key: Buffer): boolean {
    const version = this.#find(key);
    return version !== undefined && this.table.free(version);
  }

  override deleteBatch(keys: Buffer, count: number): void {
    for (let i = 0; i < count; i++) this.delete(keys.subarray(i * K.size, (i + 1) * K.size));
  }

  /**
   * Overwrites an existing flow's value, while there is no traffic: for tests and tools. False if there is no such
   * flow.
   */
  edit(key: Buffer, value: Buffer): boolean {
    const version = this.#find(key);
    if (version) value.copy(this.table.entries, version.slot * E.size + E.fields.flow.offset);
    return version !== undefined;
  }

  #find(key: Buffer): EntryVersion | undefined {
    const { buckets, tag } = this.table.locate(key);
    for (const bucket of new Set(buckets)) {
      for (let slot = bucket * EA_WAYS; slot < (bucket + 1) * EA_WAYS; slot++) {
        if (this.table.tag(slot) !== tag) continue;
        const version = this.table.read(slot, this.#entry);
        if (version && this.#entry.compare(key, 0, K.size, 0, K.size) === 0) return version;
      }
    }
    return undefined;
  }
}

function words(memory: Buffer): Uint32Array {
  return new Uint32Array(memory.buffer, memory.byteOffset, memory.length / WORD);
}
