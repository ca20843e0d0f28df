/**
 * What endpoints learned of names, as people and the agent's other parts ask for it. All is read in shared memory while
 * programs insert and replace: an entry counts only if its state was the same before and after it was read. Nothing here
 * writes.
 */
import type { LearnedName } from '../../src/ir/packet.js';
import { formatBytes16, parseAddr } from '../../src/net/addr.js';
import * as L from '../../src/image/layout.gen.js';
import { PageLocator } from './locate.js';
import type { NameMemory } from './memory.js';
import { unpackName } from './packed.js';

const { ea_name: N, ea_name_page: P, ea_name_link: LINK, ea_bucket: B, ea_name_holding: H } = L.STRUCTS;
const { EA_NAME_LINKS, EA_NAME_PAGES } = L.ENUMS.ea_name_sizes;
const { EA_NAME_VALID, EA_NAME_LEAVING, EA_NAME_NEXT } = L.ENUMS.ea_name_state;
const { EA_NAME_ASKED, EA_NAME_SEEDED } = L.ENUMS.ea_name_flags;
const { EA_WAYS } = L.ENUMS.ea_table;
const WORD = 4;
/** EA_LINK_ALIAS: a macro, which BTF does not have. */
const LINK_ALIAS = 0x8000_0000;
const FLAGS = EA_NAME_NEXT - 1;
/** Slots that are read in one step of a listing. */
const STEP = 4096;

/** A name that an endpoint learned. Times are seconds of CLOCK_BOOTTIME. */
export interface NameRecord {
  readonly slot: number;
  /** Number of the slot's use: another one is another name. */
  readonly incarnation: number;
  /** Id of the endpoint. */
  readonly endpoint: number;
  /** Lower case, without the final dot; `?` for bytes that no pattern matches. */
  readonly text: string;
  /** The endpoint asked for it; otherwise it is only the target of a CNAME. */
  readonly asked: boolean;
  /** The agent resolved it (--name-seed). */
  readonly seeded: boolean;
  /** First and last answer. */
  readonly learnedS: number;
  readonly answeredS: number;
  /** When the last of its addresses expires. */
  readonly expiresS: number;
  /** Who gave the last answer: canonical address and port. */
  readonly resolver: string;
  readonly resolverPort: number;
}

/** An address of a name. */
export interface AddressRecord {
  readonly ip: string;
  /** The endpoint asked for another name, whose CNAME led to this one. */
  readonly alias: boolean;
  readonly expiresS: number;
  /** As the resolver said. */
  readonly ttlS: number;
}

export interface ListedName extends NameRecord {
  readonly addresses: readonly AddressRecord[];
}

/** Which names to list. Absent: all. */
export interface NameQuery {
  /** Ids of endpoints. */
  readonly endpoints?: ReadonlySet<number>;
  readonly matches?: (text: string) => boolean;
  /** Canonical address that the name must have. */
  readonly ip?: string;
  /** Most names, and most addresses of all of them. */
  readonly limit: number;
  readonly addresses: number;
}

export interface NameList {
  readonly names: ListedName[];
  /** The limits cut something off. */
  readonly more: boolean;
}

/** Counts of an endpoint. */
export interface NameHoldings {
  readonly names: number;
  readonly pages: number;
  readonly refused: number;
  readonly overflow: number;
  readonly untrusted: number;
}

/** Whether a state is of an entry that may be read. */
export function isReadable(state: number): boolean {
  return (state & FLAGS & ~EA_NAME_LEAVING) === EA_NAME_VALID;
}

/** The incarnation in a state. */
export function incarnationOf(state: number): number {
  return Math.floor((state >>> 0) / EA_NAME_NEXT);
}

/** Places of 32-bit words in one of the two tables. */
export interface Words {
  /** Words of an entry. */
  readonly size: number;
  readonly state: number;
  readonly endpoint: number;
  readonly payer: number;
}
const wordsOf = (s: { size: number; fields: Record<'state' | 'endpoint' | 'payer', { offset: number }> }): Words => ({
  size: s.size / WORD,
  state: s.fields.state.offset / WORD,
  endpoint: s.fields.endpoint.offset / WORD,
  payer: s.fields.payer.offset / WORD,
});
export const NAME_WORDS = { ...wordsOf(N), expires: N.fields.expires_s.offset / WORD };
export const PAGE_WORDS = { ...wordsOf(P), address: P.fields.addr.offset / WORD, page: P.fields.page.offset / WORD };
/** The number of a page, in its word. */
export const DEPTH = 0xffff;
/** Words of a link, from the beginning of its page: the lower half of its life (when it expires) is first. */
export const LINK_WORDS = {
  first: P.fields.links.offset / WORD,
  size: LINK.size / WORD,
  expires: LINK.fields.life.offset / WORD,
  incarnation: LINK.fields.life.offset / WORD + 1,
  name: LINK.fields.name.offset / WORD,
  ttl: LINK.fields.ttl_s.offset / WORD,
};

/** A view of shared memory as 32-bit words. */
export function wordsIn(memory: Buffer): Uint32Array<ArrayBufferLike> {
  return new Uint32Array(memory.buffer, memory.byteOffset, Math.floor(memory.length / WORD));
}

/** Index of a slot's tag in a map of buckets, in words. */
export function tagAt(slot: number): number {
  return (Math.floor(slot / EA_WAYS) * B.size + B.fields.tags.offset) / WORD + (slot % EA_WAYS);
}

export class NameTable {
  readonly memory: NameMemory;
  readonly #names: Uint32Array;
  readonly #nameTags: Uint32Array;
  readonly #pages: Uint32Array;
  readonly #pageTags: Uint32Array;
  readonly #holdings: Uint32Array;
  readonly #locator: PageLocator;

  constructor(memory: NameMemory) {
    this.memory = memory;
    this.#names = wordsIn(memory.names);
    this.#nameTags = wordsIn(memory.nameBuckets);
    this.#pages = wordsIn(memory.pages);
    this.#pageTags = wordsIn(memory.pageBuckets);
    this.#holdings = wordsIn(memory.holdings);
    this.#locator = new PageLocator(memory);
  }

  /** Most names that there is room for. */
  get capacity(): number {
    return this.memory.nameCapacity;
  }

  /** The name in a slot; undefined if there is none, or a program is changing it. */
  at(slot: number): NameRecord | undefined {
    if (slot >= this.memory.nameCapacity) return undefined;
    const state = this.#stateOf(slot);
    if (!isReadable(state)) return undefined;
    const { names } = this.memory;
    const o = slot * N.size;
    const f = N.fields;
    const flags = names.readUInt8(o + f.flags.offset);
    const resolver = names.subarray(o + f.resolver.offset, o + f.resolver.offset + 16);
    const record: NameRecord = {
      slot,
      incarnation: incarnationOf(state),
      endpoint: names.readUInt32LE(o + f.endpoint.offset),
      text: unpackName(names, o, names.readUInt16LE(o + f.length.offset)),
      asked: (flags & EA_NAME_ASKED) !== 0,
      seeded: (flags & EA_NAME_SEEDED) !== 0,
      learnedS: names.readUInt32LE(o + f.learned_s.offset),
      answeredS: names.readUInt32LE(o + f.answered_s.offset),
      expiresS: names.readUInt32LE(o + f.expires_s.offset),
      resolver: formatBytes16(resolver, isMapped(resolver) ? 4 : 6),
      resolverPort: names.readUInt16BE(o + f.resolver_port.offset),
    };
    return isSame(state, this.#stateOf(slot)) ? record : undefined;
  }

  /** The text of a name; undefined if the slot has another name by now. */
  text(slot: number, incarnation: number): string | undefined {
    if (slot >= this.memory.nameCapacity) return undefined;
    const state = this.#stateOf(slot);
    if (!isReadable(state) || incarnationOf(state) !== incarnation) return undefined;
    const { names } = this.memory;
    const o = slot * N.size;
    const text = unpackName(names, o, names.readUInt16LE(o + N.fields.length.offset));
    return isSame(state, this.#stateOf(slot)) ? text : undefined;
  }

  /** Names that are known, with their addresses; and whether there are more than the limit. */
  list(query: NameQuery): NameList {
    const steps = this.listing(query);
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
    }
  }

  /** The same in steps of a millisecond or so, between which the agent may do other work. */
  *listing({ endpoints, matches, ip, limit, addresses: most }: NameQuery): Generator<undefined, NameList> {
    const wanted = ip === undefined ? undefined : this.#slotsOf(ip, endpoints);
    const found = new Map<number, NameRecord & { addresses: AddressRecord[] }>();
    let more = false;
    for (let slot = 0; slot < this.memory.nameCapacity && !more; slot++) {
      if (slot % STEP === STEP - 1) yield;
      if (this.#nameTags[tagAt(slot)] === 0 || (wanted && !wanted.has(slot))) continue;
      const record = this.at(slot);
      if (!record || (wanted && wanted.get(slot) !== record.incarnation)) continue;
      if ((endpoints && !endpoints.has(record.endpoint)) || (matches && !matches(record.text))) continue;
      if (found.size < limit) found.set(slot, { ...record, addresses: [] });
      else more = true;
    }
    if (found.size === 0 || most === 0) return { names: [...found.values()], more };
    let left = most;
    for (let page = 0; page < this.memory.pageCapacity && left > 0; page++) {
      if (page % STEP === STEP - 1) yield;
      if (!this.#isOf(page, endpoints)) continue;
      for (const { slot, incarnation, ...address } of this.#linksOf(page) ?? []) {
        const name = found.get(slot);
        if (name?.incarnation !== incarnation || left-- <= 0) continue;
        name.addresses.push(address);
      }
    }
    return { names: [...found.values()], more: more || left <= 0 };
  }

  /** Everything that an endpoint learned: address (canonical text) → its names. */
  learnedBy(endpoint: number): Map<string, LearnedName[]> {
    const out = new Map<string, LearnedName[]>();
    for (const { ip, slot, incarnation, alias } of this.#links(new Set([endpoint]))) {
      const name = this.text(slot, incarnation);
      if (name === undefined) continue;
      const learned: LearnedName = alias ? { name, alias } : { name };
      const names = out.get(ip);
      if (names) names.push(learned);
      else out.set(ip, [learned]);
    }
    return out;
  }

  /**
   * The names of one address, found by its hash: the targets of CNAMEs last.
   * @param address 16 bytes
   */
  namesOf(endpoint: number, address: Buffer, most: number): (NameRecord & { alias: boolean })[] {
    const found: (NameRecord & { alias: boolean })[] = [];
    for (let depth = 0; depth < EA_NAME_PAGES; depth++) {
      const page = this.#findPage(endpoint, address, depth);
      if (page === undefined) break;
      for (const { slot, incarnation, alias } of this.#linksOf(page) ?? []) {
        const record = this.at(slot);
        if (record?.incarnation === incarnation) found.push({ ...record, alias });
      }
    }
    return found.sort((a, b) => Number(a.alias) - Number(b.alias)).slice(0, most);
  }

  /** The texts of all names that are known, by endpoint. */
  texts(): Map<number, Set<string>> {
    const out = new Map<number, Set<string>>();
    for (let slot = 0; slot < this.memory.nameCapacity; slot++) {
      const record = this.#nameTags[tagAt(slot)] === 0 ? undefined : this.at(slot);
      if (!record) continue;
      const texts = out.get(record.endpoint);
      if (texts) texts.add(record.text);
      else out.set(record.endpoint, new Set([record.text]));
    }
    return out;
  }

  /** Counts of an endpoint. @param payer its slot in `endpoints` */
  holdings(payer: number): NameHoldings {
    const at = (field: keyof typeof H.fields) =>
      Atomics.load(this.#holdings, (payer * H.size + H.fields[field].offset) / WORD);
    return {
      // Signed: with several CPUs counting, a decrement may be visible before the increment of another CPU.
      names: Math.max(at('names') | 0, 0),
      pages: Math.max(at('pages') | 0, 0),
      refused: at('refused'),
      overflow: at('overflow'),
      untrusted: at('untrusted'),
    };
  }

  /** Counts of all endpoints together, also of those that are gone. */
  totals(): Pick<NameHoldings, 'refused' | 'overflow' | 'untrusted'> {
    const sum = { refused: 0, overflow: 0, untrusted: 0 };
    const words = this.#holdings;
    const { refused, overflow, untrusted } = H.fields;
    for (let at = 0; at + H.size / WORD <= words.length; at += H.size / WORD) {
      sum.refused += words[at + refused.offset / WORD] as number;
      sum.overflow += words[at + overflow.offset / WORD] as number;
      sum.untrusted += words[at + untrusted.offset / WORD] as number;
    }
    return sum;
  }

  /** Slots of the names of an address, and their incarnations. */
  #slotsOf(ip: string, endpoints: ReadonlySet<number> | undefined): Map<number, number> {
    const out = new Map<number, number>();
    for (const link of this.#links(endpoints, ip)) out.set(link.slot, link.incarnation);
    return out;
  }

  /** All live links of these endpoints. @param ip only of this address */
  *#links(
    endpoints: ReadonlySet<number> | undefined,
    ip?: string,
  ): Generator<AddressRecord & { slot: number; incarnation: number }> {
    const bytes = ip === undefined ? undefined : Buffer.from(parseAddr(ip).bytes);
    for (let page = 0; page < this.memory.pageCapacity; page++) {
      if (!this.#isOf(page, endpoints) || (bytes && !bytes.equals(this.#addressOf(page)))) continue;
      yield* this.#linksOf(page) ?? [];
    }
  }

  /** Whether a page is in use, by one of these endpoints. */
  #isOf(page: number, endpoints: ReadonlySet<number> | undefined): boolean {
    if (this.#pageTags[tagAt(page)] === 0) return false;
    return !endpoints || endpoints.has(this.#pages[page * PAGE_WORDS.size + PAGE_WORDS.endpoint] as number);
  }

  /** The live links of a page; undefined if it has become another's while it was read. */
  #linksOf(page: number): (AddressRecord & { slot: number; incarnation: number })[] | undefined {
    const pages = this.#pages;
    const base = page * PAGE_WORDS.size;
    const state = Atomics.load(pages, base + PAGE_WORDS.state);
    if (!isReadable(state)) return undefined;
    const address = this.#addressOf(page);
    const ip = formatBytes16(address, isMapped(address) ? 4 : 6);
    const links: (AddressRecord & { slot: number; incarnation: number })[] = [];
    for (let i = 0; i < EA_NAME_LINKS; i++) {
      const at = base + LINK_WORDS.first + i * LINK_WORDS.size;
      const word = (of: keyof typeof LINK_WORDS) => pages[at + LINK_WORDS[of]] as number;
      const [incarnation, expiresS, name, ttlS] = [word('incarnation'), word('expires'), word('name'), word('ttl')];
      const slot = (name & ~LINK_ALIAS) >>> 0;
      if ((incarnation === 0 && expiresS === 0) || !this.#isLive(slot, incarnation)) continue;
      links.push({ ip, slot, incarnation, alias: (name & LINK_ALIAS) !== 0, expiresS, ttlS });
    }
    return isSame(state, Atomics.load(pages, base + PAGE_WORDS.state)) ? links : undefined;
  }

  #findPage(endpoint: number, address: Buffer, depth: number): number | undefined {
    const { buckets, tag } = this.#locator.locate(endpoint, address, depth);
    for (const bucket of new Set(buckets)) {
      for (let page = bucket * EA_WAYS; page < (bucket + 1) * EA_WAYS; page++) {
        if (this.#pageTags[tagAt(page)] !== tag) continue;
        const base = page * PAGE_WORDS.size;
        const isIt =
          this.#pages[base + PAGE_WORDS.endpoint] === endpoint &&
          ((this.#pages[base + PAGE_WORDS.page] as number) & DEPTH) === depth &&
          this.#addressOf(page).equals(address);
        if (isIt && isReadable(Atomics.load(this.#pages, base + PAGE_WORDS.state))) return page;
      }
    }
    return undefined;
  }

  #addressOf(page: number): Buffer {
    const at = page * P.size + P.fields.addr.offset;
    return this.memory.pages.subarray(at, at + 16);
  }

  #isLive(slot: number, incarnation: number): boolean {
    if (slot >= this.memory.nameCapacity) return false;
    const state = this.#stateOf(slot);
    return isReadable(state) && incarnationOf(state) === incarnation;
  }

  #stateOf(slot: number): number {
    return Atomics.load(this.#names, slot * NAME_WORDS.size + NAME_WORDS.state);
  }
}

/** Whether a state is the one that was read before: LEAVING may have come or gone. */
function isSame(a: number, b: number): boolean {
  return ((a ^ b) & ~EA_NAME_LEAVING) === 0;
}

function isMapped(bytes: Buffer): boolean {
  return bytes.readUInt32LE(0) === 0 && bytes.readUInt32LE(4) === 0 && bytes.readUInt32LE(8) === 0xffff0000;
}
