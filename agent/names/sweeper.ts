/**
 * Frees names and addresses that have expired. Programs never do: what is present is valid, so nothing expires while no
 * agent runs. A name with an address that a flow of its endpoint uses keeps all of its addresses, as clients with pools
 * of connections go back to any of them.
 *
 * A PASS. 1: Pages are read; a link whose name was replaced is dead, one whose time is over makes its name a candidate.
 * 2: If there are candidates, the flow table is read once, and candidates with an address in use are kept. 3: Names whose
 * time is over, and those of removed endpoints, are freed: their links are dead at once. 4: Links that are dead or over
 * are cleared, then pages without a link are freed.
 *
 * FREEING, against programs that renew at the same time. A name or a page is marked LEAVING, read again, and only then
 * given to its next incarnation; each step is one compare-and-swap of its state. A program that renews it writes first and
 * clears LEAVING afterwards, so one of the two sees the other. A link is cleared by a compare-and-swap of its life, which
 * every renewal changes. If the agent is killed between a state and its tag, the way is free but tagged: the tag is
 * cleared when it has stayed so over two passes.
 */
import * as L from '../../src/image/layout.gen.js';
import type { AddressesInUse } from './in-use.js';
import type { NameMemory } from './memory.js';
import { unpackName } from './packed.js';
import { Side } from './side.js';
import { DEPTH, incarnationOf, isReadable, LINK_WORDS, NAME_WORDS, PAGE_WORDS, tagAt, wordsIn } from './table.js';

const { ea_name: N, ea_name_holding: H } = L.STRUCTS;
const { EA_NAME_LINKS } = L.ENUMS.ea_name_sizes;
const LINK_ALIAS = 0x8000_0000;
/** An endpoint must have been gone for so long before what it learned is freed, seconds. */
const GONE_S = 30;
const [CANDIDATE, KEPT] = [1, 2];
/** Size of a set of endpoints by hash: more than a node has. */
const LEARNERS = 65_536;

export interface SweeperParts {
  readonly memory: NameMemory;
  readonly inUse: Pick<AddressesInUse, 'gather' | 'has'>;
  /** Ids of the endpoints that exist; undefined: not known yet, so none counts as removed. */
  readonly endpoints: () => ReadonlySet<number> | undefined;
  /** Called before a name is freed. */
  readonly onFreed?: (slot: number, incarnation: number, text: string) => void;
}

/** What a pass has done. */
export interface Swept {
  readonly names: number;
  readonly links: number;
  readonly pages: number;
}

export class NameSweeper {
  readonly #parts: SweeperParts;
  readonly #names: Side;
  readonly #pages: Side;
  /** Of the pages, as 64-bit lives. */
  readonly #lives: BigUint64Array;
  /** By name slot: CANDIDATE, KEPT. */
  readonly #marks: Uint8Array;
  /** Bits of the endpoints that have addresses: in the last pass, and in this one. */
  #learners = new Uint8Array(LEARNERS);
  #nextLearners = new Uint8Array(LEARNERS);
  /** Removed endpoints, and since when: seconds. */
  #goneSince = new Map<number, number>();

  constructor(parts: SweeperParts) {
    this.#parts = parts;
    const { names, nameBuckets, pages, pageBuckets, holdings, nameCapacity, pageCapacity } = parts.memory;
    const counts = wordsIn(holdings);
    this.#names = new Side(
      wordsIn(names),
      wordsIn(nameBuckets),
      nameCapacity,
      NAME_WORDS,
      counts,
      H.fields.names.offset,
    );
    this.#pages = new Side(
      wordsIn(pages),
      wordsIn(pageBuckets),
      pageCapacity,
      PAGE_WORDS,
      counts,
      H.fields.pages.offset,
    );
    this.#lives = new BigUint64Array(pages.buffer, pages.byteOffset, Math.floor(pages.length / 8));
    this.#marks = new Uint8Array(nameCapacity);
  }

  /** Names and pages at the last pass. */
  get entries(): { names: number; pages: number } {
    return { names: this.#names.count, pages: this.#pages.count };
  }

  /** Whether an endpoint may have learned an address, as of the last pass. */
  mayKnow(endpoint: number): boolean {
    return this.#learners[learnerBit(endpoint)] !== 0;
  }

  /** One pass over both tables. @param now seconds of CLOCK_BOOTTIME */
  sweep(now: number): Swept {
    const gone = this.#gone(now);
    this.#marks.fill(0);
    const { stale, deepest } = this.#readPages(now);
    const over = this.#readNames(now, gone);
    if (stale.over > 0 || over.length > 0) {
      this.#parts.inUse.gather();
      this.#keepUsed();
    }
    let names = 0;
    for (const slot of over) if (this.#freeName(slot, now, gone)) names++;
    const { links, empty } = this.#clearLinks(stale.pages, now);
    // The deepest first: a page is not freed before those behind it.
    if (deepest.size > 0) empty.sort((a, b) => this.#depthOf(b) - this.#depthOf(a));
    let pages = 0;
    for (const page of empty) if (this.#freePage(page, deepest)) pages++;
    this.#names.endPass();
    this.#pages.endPass();
    [this.#learners, this.#nextLearners] = [this.#nextLearners, this.#learners.fill(0)];
    return { names, links, pages };
  }

  /** Endpoints that have been gone for long. */
  #gone(now: number): (endpoint: number) => boolean {
    const present = this.#parts.endpoints();
    if (present === undefined) return () => false;
    const before = this.#goneSince;
    const since = new Map<number, number>();
    this.#goneSince = since;
    return (endpoint) => {
      if (present.has(endpoint)) return false;
      const from = before.get(endpoint) ?? since.get(endpoint) ?? now;
      since.set(endpoint, from);
      return now - from >= GONE_S;
    };
  }

  /** Pages with dead links, or none, or ones whose time is over; and the deepest page of addresses with several. */
  #readPages(now: number): { stale: { pages: number[]; over: number }; deepest: Map<string, number> } {
    const { words, tags, capacity } = this.#pages;
    const stale: number[] = [];
    const deepest = new Map<string, number>();
    let over = 0;
    for (let page = 0; page < capacity; page++) {
      if (tags[tagAt(page)] === 0) continue;
      const base = page * PAGE_WORDS.size;
      const state = words[base + PAGE_WORDS.state] as number;
      if (!isReadable(state)) {
        this.#pages.notePending(page, state);
        continue;
      }
      this.#pages.noteEntry(words[base + PAGE_WORDS.payer] as number);
      this.#nextLearners[learnerBit(words[base + PAGE_WORDS.endpoint] as number)] = 1;
      const depth = (words[base + PAGE_WORDS.page] as number) & DEPTH;
      if (depth > 0) {
        const key = this.#keyOf(base);
        deepest.set(key, Math.max(depth, deepest.get(key) ?? 0));
      }
      let isStale = false;
      let used = 0;
      for (let i = 0; i < EA_NAME_LINKS; i++) {
        const at = base + LINK_WORDS.first + i * LINK_WORDS.size;
        const incarnation = words[at + LINK_WORDS.incarnation] as number;
        const expires = words[at + LINK_WORDS.expires] as number;
        if (incarnation === 0 && expires === 0) continue;
        used++;
        const slot = ((words[at + LINK_WORDS.name] as number) & ~LINK_ALIAS) >>> 0;
        if (!this.#isLive(slot, incarnation)) {
          isStale = true;
        } else if (expires <= now) {
          isStale = true;
          over++;
          this.#marks[slot] = CANDIDATE;
        }
      }
      if (isStale || used === 0) stale.push(page);
    }
    return { stale: { pages: stale, over }, deepest };
  }

  /** Slots of names whose time is over, or whose endpoint is gone. */
  #readNames(now: number, gone: (endpoint: number) => boolean): number[] {
    const { words, tags, capacity } = this.#names;
    const over: number[] = [];
    for (let slot = 0; slot < capacity; slot++) {
      if (tags[tagAt(slot)] === 0) continue;
      const base = slot * NAME_WORDS.size;
      const state = words[base + NAME_WORDS.state] as number;
      if (!isReadable(state)) {
        this.#names.notePending(slot, state);
        continue;
      }
      this.#names.noteEntry(words[base + NAME_WORDS.payer] as number);
      if (!gone(words[base + NAME_WORDS.endpoint] as number) && (words[base + NAME_WORDS.expires] as number) > now)
        continue;
      this.#marks[slot] = CANDIDATE;
      over.push(slot);
    }
    return over;
  }

  /** Marks the candidates with an address in use. */
  #keepUsed(): void {
    const { inUse } = this.#parts;
    const { words, tags, capacity } = this.#pages;
    const marks = this.#marks;
    for (let page = 0; page < capacity; page++) {
      if (tags[tagAt(page)] === 0) continue;
      const base = page * PAGE_WORDS.size;
      if (!isReadable(words[base + PAGE_WORDS.state] as number)) continue;
      let used: boolean | undefined;
      for (let i = 0; i < EA_NAME_LINKS; i++) {
        const at = base + LINK_WORDS.first + i * LINK_WORDS.size;
        const slot = ((words[at + LINK_WORDS.name] as number) & ~LINK_ALIAS) >>> 0;
        if (marks[slot] !== CANDIDATE) continue;
        const incarnation = words[at + LINK_WORDS.incarnation] as number;
        if (incarnation === 0 || !this.#isLive(slot, incarnation)) continue;
        used ??= inUse.has(words, base + PAGE_WORDS.endpoint, base + PAGE_WORDS.address);
        if (!used) break;
        marks[slot] = KEPT;
      }
    }
  }

  #freeName(slot: number, now: number, gone: (endpoint: number) => boolean): boolean {
    const { words } = this.#names;
    const base = slot * NAME_WORDS.size;
    const state = this.#names.beginLeaving(slot);
    if (state === undefined) return false;
    const isGone = gone(words[base + NAME_WORDS.endpoint] as number);
    const isOver = this.#marks[slot] !== KEPT && Atomics.load(words, base + NAME_WORDS.expires) <= now;
    if (!isGone && !isOver) {
      this.#names.stay(slot, state);
      return false;
    }
    const { names } = this.#parts.memory;
    const o = slot * N.size;
    const text = unpackName(names, o, names.readUInt16LE(o + N.fields.length.offset));
    if (!this.#names.free(slot, state)) return false;
    this.#parts.onFreed?.(slot, incarnationOf(state), text);
    return true;
  }

  /** Clears links that are dead or over. @returns how many, and the pages that have none left */
  #clearLinks(pages: readonly number[], now: number): { links: number; empty: number[] } {
    const { words } = this.#pages;
    const empty: number[] = [];
    let links = 0;
    for (const page of pages) {
      const base = page * PAGE_WORDS.size;
      if (!isReadable(Atomics.load(words, base + PAGE_WORDS.state))) continue;
      let left = 0;
      for (let i = 0; i < EA_NAME_LINKS; i++) {
        const at = base + LINK_WORDS.first + i * LINK_WORDS.size;
        const life = Atomics.load(this.#lives, at >> 1);
        if (life === 0n) continue;
        const slot = ((words[at + LINK_WORDS.name] as number) & ~LINK_ALIAS) >>> 0;
        const isDead = !this.#isLive(slot, Number(life >> 32n));
        const isOver = Number(life & 0xffff_ffffn) <= now && this.#marks[slot] === CANDIDATE;
        if ((isDead || isOver) && Atomics.compareExchange(this.#lives, at >> 1, life, 0n) === life) links++;
        else left++;
      }
      if (left === 0) empty.push(page);
    }
    return { links, empty };
  }

  /** Frees a page without links, unless the address has a deeper one: programs would not look for that any more. */
  #freePage(page: number, deepest: Map<string, number>): boolean {
    const base = page * PAGE_WORDS.size;
    const depth = this.#depthOf(page);
    const key = deepest.size === 0 ? '' : this.#keyOf(base);
    if ((deepest.get(key) ?? 0) > depth) return false;
    const state = this.#pages.beginLeaving(page);
    if (state === undefined) return false;
    for (let i = 0; i < EA_NAME_LINKS; i++) {
      if (Atomics.load(this.#lives, (base + LINK_WORDS.first + i * LINK_WORDS.size) >> 1) === 0n) continue;
      this.#pages.stay(page, state);
      return false;
    }
    if (!this.#pages.free(page, state)) return false;
    if (depth > 0 && deepest.get(key) === depth) deepest.set(key, depth - 1);
    return true;
  }

  #isLive(slot: number, incarnation: number): boolean {
    if (slot >= this.#names.capacity) return false;
    const state = this.#names.words[slot * NAME_WORDS.size + NAME_WORDS.state] as number;
    return isReadable(state) && incarnationOf(state) === incarnation;
  }

  #depthOf(page: number): number {
    return (this.#pages.words[page * PAGE_WORDS.size + PAGE_WORDS.page] as number) & DEPTH;
  }

  /** Endpoint and address of a page, as text. */
  #keyOf(base: number): string {
    const { words } = this.#pages;
    const address = [0, 1, 2, 3].map((i) => words[base + PAGE_WORDS.address + i]);
    return `${words[base + PAGE_WORDS.endpoint]} ${address.join(' ')}`;
  }
}

function learnerBit(endpoint: number): number {
  return Math.imul(endpoint, 0x9e3779b1) >>> 16;
}
