/**
 * The tables of learned names in user space (bpf/name_types.h): shared memory, read without a system call. BPF programs
 * insert; user space reads, renews and frees what has expired.
 */
import { randomBytes } from 'node:crypto';
import * as L from '../../src/image/layout.gen.js';
import type { BpfMap } from '../kernel/libbpf/map.js';

const S = L.STRUCTS.ea_name_state_words;
const { EA_NAME_SECRETS } = L.ENUMS.ea_name_sizes;

/** As for the flow table: half of each table is guaranteed, in equal shares for at least so many endpoints. */
const MIN_DIVISOR = 16;
const MIN_SHARE = 32;

/** Settings of the programs, from the agent's options. */
export interface NameSettings {
  /** Least time that an address stays learned, and what is added to its TTL; seconds. */
  readonly ttlMin: number;
  readonly ttlExtra: number;
  /** enum ea_name_options. */
  readonly flags: number;
  /** Possible CPUs. Each has a buffer of `dns_memory`. */
  readonly cpus: number;
}

export interface NameMaps {
  readonly names: BpfMap;
  readonly nameBuckets: BpfMap;
  readonly pages: BpfMap;
  readonly pageBuckets: BpfMap;
  readonly holdings: BpfMap;
  readonly state: BpfMap;
}

export class NameMemory {
  /** struct ea_name, EA_WAYS for each bucket. */
  readonly names: Buffer;
  readonly nameBuckets: Buffer;
  /** struct ea_name_page, EA_WAYS for each bucket. */
  readonly pages: Buffer;
  readonly pageBuckets: Buffer;
  /** struct ea_name_holding, by slot in `endpoints`. */
  readonly holdings: Buffer;
  /** struct ea_name_state_words. */
  readonly state: Buffer;
  readonly nameCapacity: number;
  readonly pageCapacity: number;

  /** Maps the memory, and creates the secrets of the hashes if the tables are new. Throws KERNEL. */
  constructor(maps: NameMaps) {
    this.names = maps.names.mmap();
    this.nameBuckets = maps.nameBuckets.mmap();
    this.pages = maps.pages.mmap();
    this.pageBuckets = maps.pageBuckets.mmap();
    this.holdings = maps.holdings.mmap();
    this.state = maps.state.mmap();
    this.nameCapacity = maps.names.maxEntries;
    this.pageCapacity = maps.pages.maxEntries;
    this.#write('last_name_bucket', maps.nameBuckets.maxEntries - 1);
    this.#write('last_page_bucket', maps.pageBuckets.maxEntries - 1);
    const at = S.fields.secret.offset;
    const secret = this.state.subarray(at, at + EA_NAME_SECRETS * 8);
    if (secret.every((byte) => byte === 0)) randomBytes(secret.length).copy(secret);
    if (this.nameShare === 0) this.divide(1);
  }

  /** Names that are guaranteed to each endpoint. */
  get nameShare(): number {
    return this.state.readUInt32LE(S.fields.name_share.offset);
  }

  /** Pages of addresses that are guaranteed to each endpoint. */
  get pageShare(): number {
    return this.state.readUInt32LE(S.fields.page_share.offset);
  }

  /** Sets the shares: half of each table is guaranteed in equal shares; all may use the rest. */
  divide(endpoints: number): void {
    const share = (capacity: number) =>
      Math.max(MIN_SHARE, Math.floor(capacity / 2 / Math.max(MIN_DIVISOR, endpoints)));
    this.#write('name_share', share(this.nameCapacity));
    this.#write('page_share', share(this.pageCapacity));
  }

  /** Writes the settings of the programs. Call it before the hooks are attached. */
  configure({ ttlMin, ttlExtra, flags, cpus }: NameSettings): void {
    this.#write('ttl_min_s', ttlMin);
    this.#write('ttl_extra_s', ttlExtra);
    this.#write('flags', flags);
    this.#write('cpus', cpus);
  }

  /** Writes one word. Each is read by itself; the rest of `state`, such as the matcher, has other writers. */
  #write(field: keyof typeof S.fields, value: number): void {
    const { offset } = S.fields[field];
    if (this.state.readUInt32LE(offset) !== value) this.state.writeUInt32LE(value, offset);
  }
}
