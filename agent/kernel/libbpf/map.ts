/** One BPF map by its file descriptor: single and batched operations, iteration, shared memory. bpf(2), linux/bpf.h. */
import { AgentError } from '../../../src/errors.js';
import { PROT_READ, PROT_WRITE, sys } from './sys.js';

const MAP_CREATE = 0;
const LOOKUP_ELEM = 1;
const UPDATE_ELEM = 2;
const DELETE_ELEM = 3;
const GET_NEXT_KEY = 4;
const OBJ_GET = 7;
const GET_FD_BY_ID = 14;
const OBJ_GET_INFO_BY_FD = 15;
const LOOKUP_BATCH = 24;
const UPDATE_BATCH = 26;
const DELETE_BATCH = 27;

/** enum bpf_map_type, where the agent must know it. */
export const MapType = {
  HASH: 1,
  ARRAY: 2,
  PERCPU_HASH: 5,
  PERCPU_ARRAY: 6,
  LRU_HASH: 9,
  LPM_TRIE: 11,
  ARRAY_OF_MAPS: 12,
  RINGBUF: 27,
} as const;
/** linux/bpf.h: the content may be mapped into memory. */
export const BPF_F_MMAPABLE = 1 << 10;
const PER_CPU: readonly number[] = [MapType.PERCPU_HASH, MapType.PERCPU_ARRAY];

/** Failures that pass: the allocator or a bucket lock was busy (LPM tries return ENOMEM for it too). */
const TRANSIENT = ['ENOMEM', 'EAGAIN', 'EBUSY', 'EINTR'];
const RETRIES = 64;
/** The first few tries follow at once; then the kernel is given a millisecond each to refill its caches. */
const RETRIES_AT_ONCE = 8;
const clock = new Int32Array(new SharedArrayBuffer(4));

/** Blocks the thread, as the caller cannot go on before the map is written. At most RETRIES ms in all. */
function pause(attempt: number): void {
  if (attempt > RETRIES_AT_ONCE) Atomics.wait(clock, 0, 0, 1);
}

export interface MapInfo {
  name: string;
  id: number;
  type: number;
  keySize: number;
  valueSize: number;
  maxEntries: number;
  flags: number;
}

/** A descriptor of the object pinned at a path; the caller closes it. Throws KERNEL. */
export function openPinned(path: string): number {
  const attr = Buffer.alloc(24);
  const text = Buffer.from(`${path}\0`);
  attr.writeBigUInt64LE(sys.address(text), 0);
  return sys.bpf(OBJ_GET, attr, text);
}

/** struct bpf_map_info of a map's descriptor. Throws KERNEL. */
export function mapInfo(fd: number): MapInfo {
  const info = Buffer.alloc(128);
  const attr = Buffer.alloc(16);
  attr.writeUInt32LE(fd, 0);
  attr.writeUInt32LE(info.length, 4);
  attr.writeBigUInt64LE(sys.address(info), 8);
  sys.bpf(OBJ_GET_INFO_BY_FD, attr, info);
  const end = info.indexOf(0, 24);
  return {
    type: info.readUInt32LE(0),
    id: info.readUInt32LE(4),
    keySize: info.readUInt32LE(8),
    valueSize: info.readUInt32LE(12),
    maxEntries: info.readUInt32LE(16),
    flags: info.readUInt32LE(20),
    name: info.toString('latin1', 24, Math.min(end < 0 ? 40 : end, 40)),
  };
}

/** Possible CPUs, from the kernel's list `0-3,5`: per-CPU values have one slot for each number up to the last. */
export function possibleCpus(text: string): number {
  const last = text.trim().split(',').at(-1)?.split('-').at(-1);
  return Number(last) + 1;
}

/** A map. Its methods throw AgentError TOO_LARGE if the map is full, and KERNEL for other failures. */
export class BpfMap {
  readonly #cpus: number;
  readonly name: string;
  /** The kernel's number of the map. */
  readonly id: number;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  #memory: Buffer | undefined;
  readonly #attr = Buffer.alloc(32);

  /**
   * @param name the name in the object; the kernel keeps 15 characters of it
   * @param cpus possible CPUs; needed for per-CPU maps only
   */
  constructor(
    readonly fd: number,
    name?: string,
    cpus = 1,
  ) {
    this.#cpus = cpus;
    const info = mapInfo(fd);
    this.name = name ?? info.name;
    this.id = info.id;
    this.type = info.type;
    this.keySize = info.keySize;
    this.valueSize = info.valueSize;
    this.maxEntries = info.maxEntries;
  }

  /** A new map without a program, for tests and probes. `cpus`: possible CPUs, for per-CPU maps. Throws KERNEL. */
  static create(opts: Omit<MapInfo, 'id' | 'flags'> & { flags?: number; cpus?: number }): BpfMap {
    const attr = Buffer.alloc(72);
    attr.writeUInt32LE(opts.type, 0);
    attr.writeUInt32LE(opts.keySize, 4);
    attr.writeUInt32LE(opts.valueSize, 8);
    attr.writeUInt32LE(opts.maxEntries, 12);
    attr.writeUInt32LE(opts.flags ?? 0, 16);
    attr.write(opts.name.slice(0, 15), 28, 'latin1');
    return new BpfMap(sys.bpf(MAP_CREATE, attr), opts.name, opts.cpus);
  }

  /** The inner map that a map of maps holds, by its kernel id. Throws KERNEL. */
  static byId(id: number, name: string): BpfMap {
    const attr = Buffer.alloc(16);
    attr.writeUInt32LE(id, 0);
    return new BpfMap(sys.bpf(GET_FD_BY_ID, attr), name);
  }

  /** The value; undefined if the key is missing. */
  lookup(key: Buffer): Buffer | undefined {
    const value = Buffer.alloc(this.#slotSize);
    return this.#element(LOOKUP_ELEM, key, value, 0, ['ENOENT']) ? value : undefined;
  }

  /** One value for each possible CPU; none if the key is missing. */
  lookupPerCpu(key: Buffer): Buffer[] {
    const all = this.lookup(key);
    if (!all) return [];
    const stride = all.length / this.#cpus;
    return Array.from({ length: this.#cpus }, (_, cpu) => all.subarray(cpu * stride, cpu * stride + this.valueSize));
  }

  /** Writes one entry. @param flags BPF_ANY 0, BPF_NOEXIST 1, BPF_EXIST 2 */
  update(key: Buffer, value: Buffer, flags = 0): void {
    this.#element(UPDATE_ELEM, key, value, flags, []);
  }

  /** Deletes one entry; false if the key was missing. */
  delete(key: Buffer): boolean {
    return this.#element(DELETE_ELEM, key, undefined, 0, ['ENOENT']);
  }

  /** Writes `count` packed keys and values. Retries transient failures; entries before a permanent one stay written. */
  updateBatch(keys: Buffer, values: Buffer, count: number): void {
    const size = this.#slotSize;
    this.#batch(UPDATE_BATCH, keys, values, count, (i) => {
      this.update(this.#keyAt(keys, i), values.subarray(i * size, (i + 1) * size));
    });
  }

  /** Deletes `count` packed keys; missing ones are fine. */
  deleteBatch(keys: Buffer, count: number): void {
    this.#batch(DELETE_BATCH, keys, undefined, count, (i) => this.delete(this.#keyAt(keys, i)));
  }

  /**
   * All entries, in slices of at most `size` whose buffers are reused: copy what must outlive the next slice.
   * Entries written or deleted meanwhile may or may not be included; a slice may repeat a key. A value of a
   * per-CPU map has one slot, of a multiple of 8 bytes, for each possible CPU.
   */
  *batches(size = 4096): Generator<{ keys: Buffer; values: Buffer; count: number }> {
    let room = Math.max(1, Math.min(size, this.maxEntries));
    // Not zeroed: the kernel writes as many entries as it reports, and most maps hold few of them.
    let keys = Buffer.allocUnsafeSlow(room * this.keySize);
    let values = Buffer.allocUnsafeSlow(room * this.#slotSize);
    const cursorSize = Math.max(8, this.keySize);
    let from: Buffer | undefined;
    let attempt = 0;
    for (;;) {
      const to = Buffer.alloc(cursorSize);
      const attr = this.#batchAttr(keys, values, room);
      if (from) attr.writeBigUInt64LE(sys.address(from), 0);
      attr.writeBigUInt64LE(sys.address(to), 8);
      try {
        sys.bpf(LOOKUP_BATCH, attr, keys, values, from, to);
      } catch (e) {
        const errno = (e as AgentError).errno;
        if (errno === 'ENOENT') {
          const count = attr.readUInt32LE(32);
          if (count > 0) yield { keys, values, count };
          return;
        }
        if (errno === 'ENOSPC') {
          // One bucket holds more than the slice: make it larger and ask again.
          room *= 2;
          keys = Buffer.allocUnsafeSlow(room * this.keySize);
          values = Buffer.allocUnsafeSlow(room * this.#slotSize);
          continue;
        }
        if (errno !== undefined && TRANSIENT.includes(errno) && attempt < RETRIES) {
          pause(attempt++);
          continue;
        }
        if (errno === 'EINTR') continue;
        if (!from && (errno === 'ENOTSUPP' || errno === 'EINVAL' || errno === 'EOPNOTSUPP')) {
          yield* this.#oneByOne();
          return;
        }
        throw this.#mapError(e);
      }
      const count = attr.readUInt32LE(32);
      if (count > 0) yield { keys, values, count };
      from = to;
    }
  }

  /** The whole content of an array map, as memory shared with the kernel. Stride: valueSize rounded up to 8 bytes. */
  mmap(): Buffer {
    if (!this.#memory) {
      const bytes = this.maxEntries * ((this.valueSize + 7) & ~7);
      const length = Math.ceil(bytes / sys.pageSize) * sys.pageSize;
      this.#memory = sys.mmap(this.fd, length, PROT_READ | PROT_WRITE);
    }
    return this.#memory;
  }

  close(): void {
    sys.close(this.fd);
  }

  /** Bytes that the kernel reads and writes for one value. */
  get #slotSize(): number {
    return PER_CPU.includes(this.type) ? ((this.valueSize + 7) & ~7) * this.#cpus : this.valueSize;
  }

  #keyAt(keys: Buffer, i: number): Buffer {
    return keys.subarray(i * this.keySize, (i + 1) * this.keySize);
  }

  /** Entries one by one, for kernels that have no batch operations for this type of map. */
  *#oneByOne(): Generator<{ keys: Buffer; values: Buffer; count: number }> {
    let key: Buffer | undefined;
    for (;;) {
      const next = Buffer.alloc(this.keySize);
      if (!this.#element(GET_NEXT_KEY, key, next, 0, ['ENOENT'])) return;
      const value = this.lookup(next);
      if (value) yield { keys: next, values: value, count: 1 };
      key = next;
    }
  }

  #element(
    cmd: number,
    key: Buffer | undefined,
    value: Buffer | undefined,
    flags: number,
    ignored: readonly string[],
  ): boolean {
    const attr = this.#attr.fill(0);
    attr.writeUInt32LE(this.fd, 0);
    if (key) attr.writeBigUInt64LE(sys.address(key), 8);
    if (value) attr.writeBigUInt64LE(sys.address(value), 16);
    attr.writeBigUInt64LE(BigInt(flags), 24);
    for (let attempt = 0; ; attempt++) {
      try {
        sys.bpf(cmd, attr, key, value);
        return true;
      } catch (e) {
        const errno = (e as AgentError).errno ?? '';
        if (ignored.includes(errno)) return false;
        if (!TRANSIENT.includes(errno) || attempt >= RETRIES) throw this.#mapError(e);
        pause(attempt);
      }
    }
  }

  #batch(cmd: number, keys: Buffer, values: Buffer | undefined, count: number, single: (i: number) => void): void {
    let doneCount = 0;
    let failures = 0;
    while (doneCount < count) {
      const attr = this.#batchAttr(
        keys.subarray(doneCount * this.keySize),
        values?.subarray(doneCount * this.#slotSize),
        count - doneCount,
      );
      try {
        sys.bpf(cmd, attr, keys, values);
        return;
      } catch (e) {
        const errno = (e as AgentError).errno ?? '';
        // The kernel reports how many it did before it failed. Before 6.8 it could leave the count unchanged, having
        // done none.
        const reported = attr.readUInt32LE(32);
        const advanced = reported < count - doneCount ? reported : 0;
        if (errno === 'ENOTSUPP' || errno === 'EOPNOTSUPP' || errno === 'EINVAL') {
          for (let i = doneCount; i < count; i++) single(i);
          return;
        }
        doneCount += advanced;
        if (cmd === DELETE_BATCH && errno === 'ENOENT') {
          doneCount++;
          continue;
        }
        failures = advanced > 0 ? 0 : failures + 1;
        if (!TRANSIENT.includes(errno) || failures > RETRIES) throw this.#mapError(e);
        pause(failures);
      }
    }
  }

  #batchAttr(keys: Buffer, values: Buffer | undefined, count: number): Buffer {
    const attr = Buffer.alloc(56);
    attr.writeBigUInt64LE(sys.address(keys), 16);
    if (values) attr.writeBigUInt64LE(sys.address(values), 24);
    attr.writeUInt32LE(count, 32);
    attr.writeUInt32LE(this.fd, 36);
    return attr;
  }

  #mapError(e: unknown): AgentError {
    const error = e as AgentError;
    const full = error.errno === 'ENOSPC' || error.errno === 'E2BIG';
    return new AgentError(full ? 'TOO_LARGE' : 'KERNEL', `map ${this.name}: ${error.message}`, {
      errno: error.errno,
      hint: full ? `it holds ${this.maxEntries} entries; raise it with --map-size ${this.name}=…` : error.hint,
      cause: e,
    });
  }
}
