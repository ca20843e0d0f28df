/**
 * The slots of the trie that packets read (bpf/trie.h), in memory shared with the kernel. The root's slots are numbered
 * from 0, those of node 0, node 1 and so on from NODES_FROM. A store changes one whole slot.
 */
import { AgentError } from '../../../src/errors.js';
import * as L from '../../../src/image/layout.gen.js';
import * as encode from './encode.js';
import { BPF_F_MMAPABLE, BpfMap, MapType } from '../../kernel/libbpf/map.js';

const { EA_TRIE_ROOT_BITS, EA_TRIE_NODE_BITS, EA_TRIE_CHUNK_BITS, EA_TRIE_CLASS_BITS } = L.ENUMS.ea_trie;
/** Bits of an address that the root resolves, and each node. */
export const [ROOT_BITS, NODE_BITS] = [EA_TRIE_ROOT_BITS, EA_TRIE_NODE_BITS];
export const ROOT_SLOTS = 2 ** ROOT_BITS;
export const NODE_SLOTS = 2 ** NODE_BITS;
/** Nodes of a chunk. */
export const CHUNK = 2 ** EA_TRIE_CHUNK_BITS;
/** Bits of a slot's number within its window. The root has windows of its own; each chunk of nodes has one. */
const WINDOW_BITS = EA_TRIE_CHUNK_BITS + NODE_BITS;
const WINDOW = 2 ** WINDOW_BITS;
export const NODES_FROM = Math.ceil(ROOT_SLOTS / WINDOW) * WINDOW;
const SLOT_SIZE = 8;
const NODE_SIZE = L.STRUCTS.ea_dest4_node.size;

/**
 * A slot's two 32-bit halves. The upper half: upper bits of the class id, then the prefix's length, then the node flag.
 */
export class Slot {
  #word: bigint | undefined;

  constructor(
    readonly low: number,
    readonly high: number,
  ) {}

  /** The whole word. Computed on first use: most slots of a new node are written by halves. */
  get word(): bigint {
    this.#word ??= (BigInt(this.high) << 32n) | BigInt(this.low);
    return this.#word;
  }
}

const LENGTH_SHIFT = EA_TRIE_CLASS_BITS - 32;
const LENGTH_MASK = 63;
const NODE = 0x8000_0000;

/** The slot of a prefix with this class and length. */
export function leaf(classId: number, length: number): Slot {
  return new Slot(classId >>> 0, (Math.floor(classId / 0x1_0000_0000) | (length << LENGTH_SHIFT)) >>> 0);
}

/** A slot that refers to a node. */
export function reference(node: number): Slot {
  return new Slot(node, NODE);
}

/** Whether a slot's upper half refers to a node. */
export function isNode(high: number): boolean {
  return high >= NODE;
}

/** Length of a slot's prefix; 0 also if there is none. */
export function lengthOf(high: number): number {
  return (high >>> LENGTH_SHIFT) & LENGTH_MASK;
}

/** Class id of a slot. */
export function classOf(low: number, high: number): number {
  return (high & (2 ** LENGTH_SHIFT - 1)) * 0x1_0000_0000 + low;
}

export class TrieMemory {
  readonly #halves: Uint32Array[] = [];
  readonly #words: BigUint64Array[] = [];
  readonly #nodes: BpfMap;
  /** Number of allocated chunks. */
  chunks = 0;
  /** Largest number of chunks. */
  readonly maxChunks: number;

  constructor(maps: Record<string, BpfMap>) {
    const root = encode.map(maps, 'destinations4_root').mmap();
    for (let from = 0; from < ROOT_SLOTS; from += WINDOW) {
      this.#window(root.subarray(from * SLOT_SIZE), Math.min(WINDOW, ROOT_SLOTS));
    }
    this.#nodes = encode.map(maps, 'destinations4_nodes');
    this.maxChunks = this.#nodes.maxEntries;
    while (this.chunks < this.maxChunks) {
      const id = this.#nodes.lookup(key32(this.chunks));
      if (!id) break;
      const chunk = BpfMap.byId(id.readUInt32LE(), this.#nodes.name);
      if (chunk.maxEntries !== CHUNK || chunk.valueSize !== NODE_SIZE)
        throw new AgentError(
          'LAYOUT',
          `map ${this.#nodes.name} has chunks of ${chunk.maxEntries} × ${chunk.valueSize}`,
        );
      this.#addChunk(chunk);
    }
  }

  /** Number of allocated nodes. */
  get capacity(): number {
    return this.chunks * CHUNK;
  }

  /**
   * Allocates chunks, whose nodes are all zero. Blocks for a grace period, some tens of milliseconds.
   * @throws AgentError TOO_LARGE, KERNEL
   */
  grow(by: number): void {
    if (this.chunks + by > this.maxChunks) {
      throw new AgentError('TOO_LARGE', `map ${this.#nodes.name} has room for ${this.maxChunks} chunks`);
    }
    const newChunks = Array.from({ length: by }, () =>
      BpfMap.create({
        ...{ name: this.#nodes.name, type: MapType.ARRAY, flags: BPF_F_MMAPABLE },
        ...{ keySize: 4, valueSize: NODE_SIZE, maxEntries: CHUNK },
      }),
    );
    const keys = newChunks.map((_, i) => key32(this.chunks + i));
    const descriptors = newChunks.map(({ fd }) => key32(fd));
    this.#nodes.updateBatch(Buffer.concat(keys), Buffer.concat(descriptors), by);
    for (const chunk of newChunks) this.#addChunk(chunk);
  }

  /** Number of a node's first slot. */
  first(node: number): number {
    return NODES_FROM + node * NODE_SLOTS;
  }

  low(slot: number): number {
    return (this.#halves[slot >>> WINDOW_BITS] as Uint32Array)[(slot & (WINDOW - 1)) * 2] as number;
  }

  high(slot: number): number {
    return (this.#halves[slot >>> WINDOW_BITS] as Uint32Array)[(slot & (WINDOW - 1)) * 2 + 1] as number;
  }

  /** Writes slots that no packet can reach yet: a later store() refers to them. */
  prepare(from: number, count: number, { low, high }: Slot): void {
    const halves = this.#halves[from >>> WINDOW_BITS] as Uint32Array;
    for (let i = (from & (WINDOW - 1)) * 2, end = i + count * 2; i < end; i += 2) {
      halves[i] = low;
      halves[i + 1] = high;
    }
  }

  /** Writes a slot atomically, ordered after all earlier writes. */
  store(slot: number, value: Slot): void {
    Atomics.store(this.#words[slot >>> WINDOW_BITS] as BigUint64Array, slot & (WINDOW - 1), value.word);
  }

  /** Maps a chunk into memory; its descriptor is not needed after that. */
  #addChunk(chunk: BpfMap): void {
    this.#window(chunk.mmap(), WINDOW);
    chunk.close();
    this.chunks++;
  }

  #window(memory: Buffer, slots: number): void {
    this.#halves.push(new Uint32Array(memory.buffer, memory.byteOffset, slots * 2));
    this.#words.push(new BigUint64Array(memory.buffer, memory.byteOffset, slots));
  }
}

function key32(n: number): Buffer {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(n);
  return key;
}
