/**
 * The matcher of names in the kernel: the cells of an automaton (bpf/name_types.h, `enum ea_cells`), in chunks of 1 MiB
 * that are mapped into memory, and the word that names its generation and its root.
 *
 * ORDER OF STORES. A matcher is written into chunks that no packet reads; then one store of the word shows it. It is
 * never changed. The chunks of the one before stay as they are until every program that ran at the flip has ended
 * (`leftovers.chunks`); then they are used again. They are not given back to the kernel, as the next update needs them.
 *
 * AFTER A KILL. The word is the truth: the next agent finds the chunks of the matcher in force by walking it from its
 * root. Other chunks are of a matcher that was never shown, or not any more; they are free after a grace period.
 *
 * A state never reaches over the border of a chunk, so the chunks of one matcher need not be neighbours: the automaton's
 * own numbers are translated chunk by chunk.
 */
import { createHash } from 'node:crypto';
import { AgentError } from '../../../src/errors.js';
import * as L from '../../../src/image/layout.gen.js';
import type { MatcherPlan } from '../../../src/image/plan/names.js';
import type { Leftovers } from '../books/leftovers.js';
import { BPF_F_MMAPABLE, BpfMap, MapType } from '../../kernel/libbpf/map.js';
import { sys } from '../../kernel/libbpf/sys.js';
import * as encode from './encode.js';

const { EA_CELL_CHUNK_BITS, EA_CELL_CHUNKS, EA_CELL_CLASS, EA_CELL_ALIAS } = L.ENUMS.ea_cells;
const { EA_CELL_QUERY, EA_CELL_SERVER, EA_CELL_HOST } = L.ENUMS.ea_cells;
/** Cells of a chunk, and 32-bit words of it: a cell's owner and where it leads. */
const CHUNK = 2 ** EA_CELL_CHUNK_BITS;
const WORDS = CHUNK * 2;
const MASK = CHUNK - 1;
const CELL_SIZE = L.STRUCTS.ea_cell.size;
/** Bit of a header's owner, beside the state. */
const ACCEPTS = 0x8000_0000;
const MATCHER_WORD = L.STRUCTS.ea_name_state_words.fields.matcher.offset / 8;

/** A chunk in the outer map. */
interface Chunk {
  /** Kernel id of the inner map. */
  readonly id: number;
  /** Pairs of words, shared with the kernel; undefined until it is used. */
  memory?: Uint32Array;
}

/** A matcher in the kernel. */
interface Installed {
  /** Its chunks, as indices of the outer map, ascending. */
  readonly slots: readonly number[];
  /** State where a walk begins; 0: there is no matcher. */
  readonly root: number;
  /** Hash of each chunk's content. */
  readonly digests: readonly string[];
}

const NONE: Installed = { slots: [], root: 0, digests: [] };

export class Matcher {
  readonly #outer: BpfMap;
  /** Largest number of chunks. */
  readonly #slots: number;
  readonly #word: BigUint64Array;
  readonly #leftovers: Leftovers;
  readonly #chunks = new Map<number, Chunk>();
  readonly #scratch = new Uint32Array(WORDS);
  /** Chunks that no packet reads, ascending. */
  #free: number[] = [];
  #inForce = NONE;
  /** Written, and not shown yet. */
  #next = NONE;

  /** @param leftovers keeps the chunks that packets may still read */
  constructor(maps: Record<string, BpfMap>, leftovers: Leftovers) {
    this.#outer = encode.map(maps, 'name_cells');
    this.#slots = Math.min(this.#outer.maxEntries, EA_CELL_CHUNKS);
    this.#leftovers = leftovers;
    const state = encode.map(maps, 'name_state').mmap();
    this.#word = new BigUint64Array(state.buffer, state.byteOffset, L.STRUCTS.ea_name_state_words.size / 8);
    this.readBack();
  }

  /** State where a walk begins; 0: there is no matcher. */
  get root(): number {
    return Number(this.#load() & 0xffff_ffffn);
  }

  /** Number of the matcher in force; 0 before the first one. */
  get generation(): number {
    return Number(this.#load() >> 32n);
  }

  /** Number of allocated chunks. */
  get chunks(): number {
    return this.#chunks.size;
  }

  /** Number of chunks to allocate for a matcher of so many cells. */
  missing(size: number): number {
    return Math.max(0, Math.ceil(size / CHUNK) - this.#free.length - this.#leftovers.chunks.size);
  }

  /**
   * Makes chunks free for a matcher of so many cells. Blocks for a grace period, some tens of milliseconds, unless
   * enough are free. @throws AgentError TOO_LARGE, KERNEL
   */
  makeRoom(size: number): void {
    if (this.#free.length >= Math.ceil(size / CHUNK)) return;
    if (this.#leftovers.chunks.size > 0) {
      sys.waitForPrograms();
      this.release(Number.POSITIVE_INFINITY);
    }
    const count = this.missing(size);
    if (count === 0) return;
    const unused: number[] = [];
    for (let slot = 0; slot < this.#slots && unused.length < count; slot++)
      if (!this.#chunks.has(slot)) unused.push(slot);
    if (unused.length < count)
      throw new AgentError('TOO_LARGE', `map ${this.#outer.name} has room for ${this.#slots} chunks`);
    const made = unused.map(() =>
      BpfMap.create({
        ...{ name: this.#outer.name, type: MapType.ARRAY, flags: BPF_F_MMAPABLE },
        ...{ keySize: 4, valueSize: CELL_SIZE, maxEntries: CHUNK },
      }),
    );
    this.#outer.updateBatch(words32(unused), words32(made.map(({ fd }) => fd)), count);
    made.forEach((chunk, i) => {
      this.#chunks.set(unused[i] as number, { id: chunk.id, memory: memoryOf(chunk) });
      chunk.close();
    });
    this.#setFree([...this.#free, ...unused]);
  }

  /** Writes a matcher where no packet reads it. makeRoom() comes before. @returns number of cells */
  write(plan: MatcherPlan): number {
    const slots = this.#free.slice(0, chunksOf(plan));
    const digests = slots.map((slot, n) => {
      fill(this.#scratch, plan, slots, n);
      this.#memory(slot).set(this.#scratch);
      return digest(this.#scratch);
    });
    this.#setFree(this.#free.filter((slot) => !slots.includes(slot)));
    this.#next = { slots, digests, root: translated(plan.automaton.root, slots) };
    return plan.automaton.size;
  }

  /** Shows packets the matcher that was written last, under the next generation; or none, if none was written. */
  flip(): void {
    const generation = (this.generation + 1) >>> 0 || 1;
    Atomics.store(this.#word, MATCHER_WORD, (BigInt(generation) << 32n) | BigInt(this.#next.root));
    this.#retire(this.#inForce.slots);
    this.#inForce = this.#next;
    this.#next = NONE;
  }

  /** Frees the chunks of matchers that were replaced up to this moment: every program that ran then has ended. */
  release(moment: number): void {
    const due = [...this.#leftovers.chunks].filter(([, since]) => since <= moment).map(([slot]) => slot);
    for (const slot of due) this.#leftovers.chunks.delete(slot);
    if (due.length > 0) this.#setFree([...this.#free, ...due]);
  }

  /** Takes over the matcher that an earlier agent left, if it is this one. @returns whether it is */
  adopt(plan: MatcherPlan): boolean {
    const { slots, root } = this.#inForce;
    if (slots.length !== chunksOf(plan) || translated(plan.automaton.root, slots) !== root) return false;
    const digests: string[] = [];
    for (const [n, slot] of slots.entries()) {
      fill(this.#scratch, plan, slots, n);
      digests.push(digest(this.#scratch));
      if (digest(this.#memory(slot)) !== digests[n]) return false;
    }
    this.#inForce = { slots, root, digests };
    return true;
  }

  /** Differences between the kernel's content and what was written, one line each. */
  differences(): string[] {
    const out: string[] = [];
    const { slots, root, digests } = this.#inForce;
    if (this.root !== root) out.push(`name_state: the matcher begins at ${this.root}, not at ${root}`);
    slots.forEach((slot, n) => {
      const { id } = this.#chunks.get(slot) as Chunk;
      if (this.#lookup(slot) !== id) out.push(`${this.#outer.name}[${slot}] is missing or wrong`);
      else if (digest(this.#memory(slot)) !== digests[n]) out.push(`${this.#outer.name}[${slot}] has wrong cells`);
    });
    return out;
  }

  /** Reads the chunks and the word again: what an earlier agent left, or this one when it failed. @throws AgentError */
  readBack(): void {
    this.#leftovers.chunks.clear();
    this.#free = [];
    this.#next = NONE;
    for (let slot = 0; slot < this.#slots; slot++) {
      const id = this.#lookup(slot);
      if (id === undefined) this.#chunks.delete(slot);
      else if (this.#chunks.get(slot)?.id !== id) this.#chunks.set(slot, { id });
    }
    const root = this.root;
    const slots = root === 0 ? [] : this.#reachable(root);
    this.#inForce = { slots, root, digests: [] };
    this.#retire([...this.#chunks.keys()].filter((slot) => !slots.includes(slot)));
  }

  #load(): bigint {
    return Atomics.load(this.#word, MATCHER_WORD);
  }

  #retire(slots: readonly number[]): void {
    // Since the next moment, not the current one: programs that run now may still read these chunks.
    for (const slot of slots) this.#leftovers.chunks.set(slot, this.#leftovers.moment + 1);
  }

  /** Ascending: the first chunk of a matcher alone may be the outer map's first, as no state has the number 0. */
  #setFree(slots: number[]): void {
    this.#free = slots.sort((a, b) => a - b);
  }

  /** Kernel id of the chunk at a slot of the outer map. */
  #lookup(slot: number): number | undefined {
    return this.#outer.lookup(words32([slot]))?.readUInt32LE();
  }

  #memory(slot: number): Uint32Array {
    const chunk = this.#chunks.get(slot) as Chunk;
    if (!chunk.memory) {
      const map = BpfMap.byId(chunk.id, this.#outer.name);
      try {
        if (map.maxEntries !== CHUNK || map.valueSize !== CELL_SIZE)
          throw new AgentError('LAYOUT', `map ${map.name} has chunks of ${map.maxEntries} × ${map.valueSize}`);
        chunk.memory = memoryOf(map);
      } finally {
        map.close();
      }
    }
    return chunk.memory;
  }

  /** The chunks that a walk from a state can reach, ascending. */
  #reachable(root: number): number[] {
    const seen = new Map<number, Uint8Array>();
    const open = [root];
    const visit = (state: number) => {
      const slot = state >>> EA_CELL_CHUNK_BITS;
      if (state === 0 || !this.#chunks.has(slot)) return;
      let marks = seen.get(slot);
      if (!marks) seen.set(slot, (marks = new Uint8Array(CHUNK)));
      if (marks[state & MASK] === 1) return;
      marks[state & MASK] = 1;
      open.push(state);
    };
    visit(open.pop() as number);
    for (let state = open.pop(); state !== undefined; state = open.pop()) {
      const memory = this.#memory(state >>> EA_CELL_CHUNK_BITS);
      const at = (state & MASK) * 2;
      visit(memory[at + 1] as number);
      const end = Math.min(WORDS, at + EA_CELL_CLASS * 2);
      for (let cell = at + 2; cell < end; cell += 2) if (memory[cell] === state) visit(memory[cell + 1] as number);
    }
    return [...seen.keys()].sort((a, b) => a - b);
  }
}

function chunksOf({ automaton }: MatcherPlan): number {
  return Math.ceil(automaton.size / CHUNK);
}

/** The kernel's number of a state. @param slots chunks of the automaton, in its order */
function translated(state: number, slots: readonly number[]): number {
  if (state === 0) return 0;
  return (slots[state >>> EA_CELL_CHUNK_BITS] as number) * CHUNK + (state & MASK);
}

/** Computes the content of chunk `n` of a matcher. */
function fill(to: Uint32Array, { automaton, accepts }: MatcherPlan, slots: readonly number[], n: number): void {
  const { cells, size } = automaton;
  const from = n * CHUNK;
  const end = Math.min(size, from + CHUNK) * 2;
  to.fill(0);
  for (let word = from * 2, at = 0; word < end; word += 2, at += 2) {
    const owner = cells[word] as number;
    if (owner === 0) continue;
    const accepting = owner >= ACCEPTS;
    const state = translated(accepting ? owner - ACCEPTS : owner, slots);
    to[at] = accepting ? state + ACCEPTS : state;
    to[at + 1] = translated(cells[word + 1] as number, slots);
  }
  for (const { state, name, alias, query, server, host } of accepts) {
    if (state < from || state >= from + CHUNK) continue;
    const at = (state - from) * 2;
    writeClass(to, at + EA_CELL_CLASS * 2, name);
    writeClass(to, at + EA_CELL_ALIAS * 2, alias);
    writeClass(to, at + EA_CELL_QUERY * 2, query);
    writeClass(to, at + EA_CELL_SERVER * 2, server);
    writeClass(to, at + EA_CELL_HOST * 2, host);
  }
}

function writeClass(to: Uint32Array, at: number, id: number): void {
  to[at] = id >>> 0;
  to[at + 1] = Math.floor(id / 0x1_0000_0000);
}

function memoryOf(chunk: BpfMap): Uint32Array {
  const memory = chunk.mmap();
  return new Uint32Array(memory.buffer, memory.byteOffset, WORDS);
}

function digest(words: Uint32Array): string {
  return createHash('sha256').update(words).digest('base64');
}

function words32(numbers: readonly number[]): Buffer {
  const out = Buffer.alloc(numbers.length * 4);
  for (const [i, n] of numbers.entries()) out.writeUInt32LE(n, i * 4);
  return out;
}
