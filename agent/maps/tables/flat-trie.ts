/**
 * FlatTrie: the trie of IPv4 destinations that packets read (bpf/trie.h), written so that at every moment each address
 * has its class from before or after an update.
 *
 * A prefix fills all slots inside it that no longer prefix fills; a slot records the length of its prefix. There is a
 * node below a slot exactly where some prefix is longer than the slot's. So a set of prefixes has exactly one form, and
 * the memory can be compared with its expected content.
 *
 * ORDER OF STORES. In a batch, the longest prefixes are put first, and deleted last, when each leaves its slots to the
 * prefix that covers them in the end: no address changes twice. A node is filled before the one store that refers to
 * it. A node without references stays unchanged until every program that ran then has ended (`leftovers.nodes`); then
 * it is used again.
 *
 * AFTER A KILL. `leftovers.nodes` is lost, and computed again from the references to nodes. The map `destinations4` is
 * written before the memory. The next agent reads it, and restore() brings the memory to its content, slot by slot, as
 * the killed agent would have done.
 */
import { AgentError } from '../../../src/errors.js';
import { IPV4 } from '../../../src/image/prefix.js';
import type { DestinationWrite } from '../../../src/image/plan/plan.js';
import type { Destinations4 } from '../../../src/image/types.js';
import { sys } from '../../kernel/libbpf/sys.js';
import type { Leftovers } from '../books/leftovers.js';
import type { BpfMap } from '../../kernel/libbpf/map.js';
import { CHUNK, classOf, isNode, leaf, lengthOf, NODE_BITS, NODE_SLOTS, reference, ROOT_BITS } from './trie-memory.js';
import { ROOT_SLOTS, Slot, TrieMemory } from './trie-memory.js';

const NONE = leaf(0, 0);

/** Input and results of one pass over the whole trie. */
interface Pass {
  readonly keys: Float64Array;
  readonly classes: Float64Array;
  /** Number of slots that refer to each node: 0, 1, or 2 for more. */
  readonly references: Uint8Array;
  /** Nodes at their right place. */
  readonly claimed: Uint8Array;
  /** Differences are repaired. */
  readonly repair: boolean;
  /** First addresses and bits of slots that differ. */
  readonly differences: [address: number, bits: number][];
}

export class FlatTrie {
  readonly #leftovers: Leftovers;
  readonly #memory: TrieMemory;
  /** Classes of prefixes that can cover others, and their number by length: one takes over when another is deleted. */
  readonly #covers = new Map<number, number>();
  readonly #lengths = new Uint32Array(32);
  /** Nodes without references. Nodes from `usedNodes` on were never used. */
  #freeNodes: number[] = [];
  #usedNodes = 0;

  /** @param leftovers keeps the nodes that packets may still read */
  constructor(maps: Record<string, BpfMap>, leftovers: Leftovers) {
    this.#leftovers = leftovers;
    this.#memory = new TrieMemory(maps);
  }

  /** Number of allocated chunks of nodes. */
  get chunks(): number {
    return this.#memory.chunks;
  }

  /** Number of chunks to allocate for these prefixes. @param writes ascending */
  missing(writes: readonly DestinationWrite<number>[]): number {
    const memory = this.#memory;
    /** By depth, the node that was counted last: prefixes that share a node are neighbours. */
    const lastCounted = new Float64Array(33).fill(-1);
    let need = 0;
    for (const { key } of writes) {
      const [address, length] = [Math.floor(key / 64), key % 64];
      let bits = ROOT_BITS;
      for (let at = address >>> (32 - bits); bits < length && isNode(memory.high(at)); bits += NODE_BITS) {
        at = this.#child(memory.low(at), address, bits);
      }
      for (; bits < length; bits += NODE_BITS) {
        const node = address >>> (32 - bits);
        if (lastCounted[bits] !== node) need++;
        lastCounted[bits] = node;
      }
    }
    return Math.max(0, Math.ceil((need - this.#freeNodes.length - memory.capacity + this.#usedNodes) / CHUNK));
  }

  /** Allocates chunks for these prefixes. Call it before anything is written. @throws AgentError TOO_LARGE, KERNEL */
  makeRoom(writes: readonly DestinationWrite<number>[]): void {
    const chunks = this.missing(writes);
    if (chunks > 0) this.#memory.grow(chunks);
  }

  /** Writes prefixes. @throws AgentError TOO_LARGE if makeRoom() was not called */
  put(writes: readonly DestinationWrite<number>[]): void {
    for (const { key, classId } of [...writes].sort((a, b) => (b.key % 64) - (a.key % 64))) {
      this.#cover(key, classId);
      this.#putPrefix(Math.floor(key / 64), key % 64, leaf(classId, key % 64));
    }
  }

  /** Deletes prefixes, also missing ones. */
  delete(keys: readonly number[]): void {
    for (const key of keys) this.#uncover(key);
    // The shortest first: when a node is removed, the deleted prefixes that covered it are gone already.
    for (const key of [...keys].sort((a, b) => (a % 64) - (b % 64))) this.#deletePrefix(key);
  }

  /** The class that a packet to this address finds. @param address IPv4, as a number */
  classAt(address: number): number {
    let at = address >>> (32 - ROOT_BITS);
    for (let bits = ROOT_BITS; isNode(this.#memory.high(at)); bits += NODE_BITS) {
      at = this.#child(this.#memory.low(at), address, bits);
    }
    return classOf(this.#memory.low(at), this.#memory.high(at));
  }

  /** Frees the nodes that were removed up to this moment: every program that ran then has ended. */
  release(moment: number): void {
    for (const [node, since] of this.#leftovers.nodes) {
      if (since > moment) continue;
      this.#freeNodes.push(node);
      this.#leftovers.nodes.delete(node);
    }
  }

  /**
   * Brings the memory to the content of the map `destinations4`; if they match, only reads. Otherwise it blocks for a
   * grace period, as nodes without references may have been removed a moment ago.
   * @param book the content of the map
   * @returns how many slots were wrong
   * @throws AgentError TOO_LARGE, KERNEL
   */
  restore(book: Destinations4): number {
    this.#covers.clear();
    this.#lengths.fill(0);
    book.keys.forEach((key, i) => {
      this.#cover(key, book.classes[i] as number);
    });
    this.#leftovers.nodes.clear();
    const { references, differences } = this.#pass(book, false);
    this.#usedNodes = references.findLastIndex((times) => times > 0) + 1;
    const unnamed = [...references.subarray(0, this.#usedNodes).keys()].filter((node) => references[node] === 0);
    this.#freeNodes = [];
    if (differences.length === 0) {
      this.#retireNodes(unnamed);
      return 0;
    }
    sys.waitForPrograms();
    this.#freeNodes = unnamed;
    const { claimed } = this.#pass(book, true);
    this.#retireNodes([...references.keys()].filter((node) => (references[node] as number) > 0 && claimed[node] === 0));
    return differences.length;
  }

  /** Differences between the memory and the expected content, one line a slot. */
  differences(wanted: Destinations4): string[] {
    return this.#pass(wanted, false).differences.map(
      ([address, bits]) => `destinations4_nodes: packets find another class for ${textOf(address)}/${bits}`,
    );
  }

  #putPrefix(address: number, length: number, value: Slot): void {
    const memory = this.#memory;
    let bits = ROOT_BITS;
    let at = address >>> (32 - bits);
    for (; bits < length && isNode(memory.high(at)); bits += NODE_BITS) {
      at = this.#child(memory.low(at), address, bits);
    }
    if (bits >= length) {
      this.#spread(at, 2 ** (bits - length), length, false, value);
      return;
    }
    // The missing nodes down to the prefix: the whole chain is filled before the store that refers to it.
    const above = new Slot(memory.low(at), memory.high(at));
    const top = this.#takeNode(above);
    let node = top;
    for (bits += NODE_BITS; bits < length; bits += NODE_BITS) {
      const below = this.#takeNode(above);
      memory.prepare(this.#child(node, address, bits - NODE_BITS), 1, reference(below));
      node = below;
    }
    memory.prepare(this.#child(node, address, bits - NODE_BITS), 2 ** (bits - length), value);
    memory.store(at, reference(top));
  }

  #deletePrefix(key: number): void {
    const memory = this.#memory;
    const [address, length] = [Math.floor(key / 64), key % 64];
    const path: number[] = [];
    let bits = ROOT_BITS;
    let at = address >>> (32 - bits);
    for (; bits < length; bits += NODE_BITS) {
      if (!isNode(memory.high(at))) return;
      path.push(at);
      at = this.#child(memory.low(at), address, bits);
    }
    this.#spread(at, 2 ** (bits - length), length, true, this.#coveringSlot(key));
    // Remove the nodes that no longer prefix needs.
    for (let slot = path.pop(); slot !== undefined; slot = path.pop()) {
      bits -= NODE_BITS;
      const node = memory.low(slot);
      const first = memory.first(node);
      for (let i = first; i < first + NODE_SLOTS; i++) {
        const high = memory.high(i);
        if (isNode(high) || lengthOf(high) > bits) return;
      }
      memory.store(slot, new Slot(memory.low(first), memory.high(first)));
      this.#retireNodes([node]);
    }
  }

  /**
   * Stores a value in slots, and in all below them, that no longer prefix fills.
   * @param own only in slots that a prefix of exactly this length fills
   */
  #spread(from: number, count: number, length: number, own: boolean, value: Slot): void {
    const memory = this.#memory;
    for (let at = from; at < from + count; at++) {
      const high = memory.high(at);
      if (isNode(high)) this.#spread(memory.first(memory.low(at)), NODE_SLOTS, length, own, value);
      else if (own ? lengthOf(high) === length : lengthOf(high) <= length) {
        if (high !== value.high || memory.low(at) !== value.low) memory.store(at, value);
      }
    }
  }

  /** The slot of an address in a node. @param bits of the address, above the node */
  #child(node: number, address: number, bits: number): number {
    return this.#memory.first(node) + ((address >>> (32 - bits - NODE_BITS)) & (NODE_SLOTS - 1));
  }

  /** A free node, filled with a value; nothing refers to it yet. @throws AgentError TOO_LARGE */
  #takeNode(value: Slot): number {
    const memory = this.#memory;
    if (this.#freeNodes.length === 0 && this.#usedNodes >= memory.capacity) {
      throw new AgentError('TOO_LARGE', 'map destinations4_nodes is full');
    }
    const node = this.#freeNodes.pop() ?? this.#usedNodes++;
    memory.prepare(memory.first(node), NODE_SLOTS, value);
    return node;
  }

  #retireNodes(nodes: readonly number[]): void {
    // Since the next moment, not the current one: programs that run now may still read these nodes.
    for (const node of nodes) this.#leftovers.nodes.set(node, this.#leftovers.moment + 1);
  }

  #cover(key: number, classId: number): void {
    if (key % 64 === 32) return;
    if (!this.#covers.has(key)) (this.#lengths[key % 64] as number)++;
    this.#covers.set(key, classId);
  }

  #uncover(key: number): void {
    if (this.#covers.delete(key)) (this.#lengths[key % 64] as number)--;
  }

  /** The value of a prefix's addresses without that prefix. */
  #coveringSlot(key: number): Slot {
    for (let length = (key % 64) - 1; length >= 0; length--) {
      if (this.#lengths[length] === 0) continue;
      const classId = this.#covers.get(IPV4.shortened(key, length));
      if (classId !== undefined) return leaf(classId, length);
    }
    return NONE;
  }

  /** Counts the references to each node that a packet can reach, at its right place or not. */
  #countReferences(): Uint8Array {
    const memory = this.#memory;
    const out = new Uint8Array(memory.capacity);
    const visit = (from: number, count: number): void => {
      for (let at = from; at < from + count; at++) {
        if (!isNode(memory.high(at))) continue;
        const node = memory.low(at);
        if (node >= out.length) continue;
        const times = out[node] as number;
        out[node] = Math.min(2, times + 1);
        if (times === 0) visit(memory.first(node), NODE_SLOTS);
      }
    };
    visit(0, ROOT_SLOTS);
    return out;
  }

  #pass({ keys, classes }: Destinations4, mend: boolean): Pass {
    const claimed = new Uint8Array(this.#memory.capacity);
    const pass: Pass = { keys, classes, references: this.#countReferences(), claimed, repair: mend, differences: [] };
    this.#compare(pass, 0, ROOT_SLOTS, ROOT_BITS, 0, 0, keys.length, NONE);
    return pass;
  }

  /**
   * Compares the slots of the root, or of a node, with their expected values.
   * @param bits of the address, that a slot stands for
   * @param base address of the first slot
   * @param start index of the first prefix inside that is longer than those above; `end`: index after the last
   * @param above the value of the addresses without these prefixes
   */
  #compare(
    pass: Pass,
    from: number,
    count: number,
    bits: number,
    base: number,
    start: number,
    end: number,
    above: Slot,
  ): void {
    const memory = this.#memory;
    const { keys } = pass;
    const size = 2 ** (32 - bits);
    let enclosing: { until: number; value: Slot }[] | undefined;
    let next = start;
    for (let i = 0; i < count; i++) {
      const at = from + i;
      const address = base + i * size;
      while (enclosing && (enclosing.at(-1)?.until ?? Number.POSITIVE_INFINITY) <= address) enclosing.pop();
      const until = address + size;
      for (; next < end; next++) {
        const key = keys[next] as number;
        const length = key % 64;
        if (key >= until * 64 || length > bits) break;
        enclosing ??= [];
        enclosing.push({ until: address + 2 ** (32 - length), value: leaf(pass.classes[next] as number, length) });
      }
      const value = enclosing?.at(-1)?.value ?? above;
      const inside = next;
      if (next < end && (keys[next] as number) < until * 64) next = firstFrom(keys, until * 64, next, end);
      if (inside === next) {
        if (memory.high(at) === value.high && memory.low(at) === value.low) continue;
        pass.differences.push([address, bits]);
        if (pass.repair) memory.store(at, value);
        continue;
      }
      let node = isNode(memory.high(at)) ? memory.low(at) : Number.POSITIVE_INFINITY;
      // A node with two references is right for neither.
      const misplaced = !(node < memory.capacity) || (pass.references[node] as number) > 1;
      if (misplaced) {
        pass.differences.push([address, bits]);
        if (!pass.repair) continue;
        if (this.#freeNodes.length === 0 && this.#usedNodes >= memory.capacity) memory.grow(1);
        node = this.#takeNode(value);
      }
      if (!misplaced) pass.claimed[node] = 1;
      this.#compare(pass, memory.first(node), NODE_SLOTS, bits + NODE_BITS, address, inside, next, value);
      if (misplaced) memory.store(at, reference(node));
    }
  }
}

/** Index of the first key that is not less, among those from `from` up to `to`. */
function firstFrom(keys: Float64Array, key: number, from: number, to: number): number {
  let [low, high] = [from, to];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as number) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

function textOf(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.');
}
