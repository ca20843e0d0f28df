/** Tables of names and a flow table in plain memory, and what programs would write into them. */
import { FlowMemory } from '../../agent/events/flow-table.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { AddressesInUse } from '../../agent/names/in-use.js';
import { NameMemory } from '../../agent/names/memory.js';
import { NameSweeper } from '../../agent/names/sweeper.js';
import { NameTable, tagAt } from '../../agent/names/table.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { parseAddr } from '../../src/net/addr.js';

const { ea_name: N, ea_name_page: P, ea_name_link: K, ea_entry: E, ea_flow: F, ea_flow_key: FK } = STRUCTS;
const { ea_name_holding: H } = STRUCTS;
const { EA_NAME_VALID, EA_NAME_NEXT } = ENUMS.ea_name_state;
const { EA_WAYS } = ENUMS.ea_table;
export const LINK_ALIAS = 0x8000_0000;
const TAG = 0xabcdef01;

/** A map of zeros, with what readers of its memory need. */
function map(entries: number, size: number): BpfMap {
  const memory = Buffer.from(new SharedArrayBuffer(entries * ((size + 7) & ~7)));
  return { maxEntries: entries, valueSize: size, mmap: () => memory } as unknown as BpfMap;
}

/** Packs a text as bpf/name_text.h does: three symbols in 16 bits, from the last one on. */
function pack(text: string): Buffer {
  const symbols = [...text].map((c) => '?.abcdefghijklmnopqrstuvwxyz0123456789-_'.indexOf(c)).reverse();
  const at = (i: number) => Math.max(0, symbols[i] ?? 0);
  const units = Array.from({ length: Math.ceil(text.length / 3) }, (_, u) => u * 3);
  return Buffer.from(Uint16Array.from(units, (i) => at(i) + 40 * at(i + 1) + 1600 * at(i + 2)).buffer);
}

export interface PutName {
  endpoint?: number;
  incarnation?: number;
  expires?: number;
  learned?: number;
  answered?: number;
  flags?: number;
  resolver?: string;
  payer?: number;
}

export class NameBed {
  readonly memory: NameMemory;
  readonly table: NameTable;
  readonly flows: FlowMemory;
  readonly freed: string[] = [];
  /** Ids of the endpoints that exist. */
  endpoints: ReadonlySet<number> | undefined = undefined;
  readonly sweeper: NameSweeper;
  readonly #flowBuckets: Buffer;
  #nextFlow = 0;

  constructor(names = 64, pages = 64, flows = 64) {
    this.memory = new NameMemory({
      names: map(names, N.size),
      nameBuckets: map(names / EA_WAYS, STRUCTS.ea_bucket.size),
      pages: map(pages, P.size),
      pageBuckets: map(pages / EA_WAYS, STRUCTS.ea_bucket.size),
      holdings: map(16, H.size),
      state: map(1, STRUCTS.ea_name_state_words.size),
    });
    this.table = new NameTable(this.memory);
    const buckets = map(flows / EA_WAYS, STRUCTS.ea_bucket.size);
    this.#flowBuckets = buckets.mmap();
    this.flows = new FlowMemory({
      flows: map(flows, E.size),
      buckets,
      holdings: map(16, STRUCTS.ea_holding.size),
      state: map(1, STRUCTS.ea_state.size),
    });
    this.sweeper = new NameSweeper({
      memory: this.memory,
      inUse: new AddressesInUse(this.flows),
      endpoints: () => this.endpoints,
      onFreed: (_slot, _incarnation, text) => this.freed.push(text),
    });
  }

  /** Writes a name, as a program does. */
  name(slot: number, text: string, over: PutName = {}): void {
    const { names, nameBuckets } = this.memory;
    const { endpoint = 1, incarnation = 1, expires = 100, learned = 10, answered = learned } = over;
    const { flags = 1, resolver = '10.96.0.10', payer = 1 } = over;
    const o = slot * N.size;
    const f = N.fields;
    names.fill(0, o, o + N.size);
    names.writeUInt32LE(endpoint, o + f.endpoint.offset);
    names.writeUInt32LE(payer, o + f.payer.offset);
    names.writeUInt32LE(learned, o + f.learned_s.offset);
    names.writeUInt32LE(answered, o + f.answered_s.offset);
    names.writeUInt32LE(expires, o + f.expires_s.offset);
    names.writeUInt16LE(text.length, o + f.length.offset);
    names.writeUInt8(flags, o + f.flags.offset);
    Buffer.from(parseAddr(resolver).bytes).copy(names, o + f.resolver.offset);
    names.writeUInt16BE(53, o + f.resolver_port.offset);
    pack(text).copy(names, o + f.text.offset);
    names.writeUInt32LE(incarnation * EA_NAME_NEXT + EA_NAME_VALID, o + f.state.offset);
    nameBuckets.writeUInt32LE(TAG, tagAt(slot) * 4);
    this.hold(payer, 'names', 1);
  }

  /** Writes a page of an address. */
  page(
    slot: number,
    ip: string,
    links: readonly { name: number; incarnation?: number; expires?: number; alias?: boolean; ttl?: number }[],
    over: { endpoint?: number; page?: number; payer?: number } = {},
  ): void {
    const { pages, pageBuckets } = this.memory;
    const { endpoint = 1, page = 0, payer = 1 } = over;
    const o = slot * P.size;
    const f = P.fields;
    pages.fill(0, o, o + P.size);
    pages.writeUInt32LE(endpoint, o + f.endpoint.offset);
    pages.writeUInt32LE(payer, o + f.payer.offset);
    pages.writeUInt32LE(page, o + f.page.offset);
    Buffer.from(parseAddr(ip).bytes).copy(pages, o + f.addr.offset);
    links.forEach(({ name, incarnation = 1, expires = 100, alias = false, ttl = 30 }, i) => {
      const at = o + f.links.offset + i * K.size;
      pages.writeUInt32LE(expires, at + K.fields.life.offset);
      pages.writeUInt32LE(incarnation, at + K.fields.life.offset + 4);
      pages.writeUInt32LE((name | (alias ? LINK_ALIAS : 0)) >>> 0, at + K.fields.name.offset);
      pages.writeUInt32LE(ttl, at + K.fields.ttl_s.offset);
    });
    pages.writeUInt32LE(EA_NAME_NEXT + EA_NAME_VALID, o + f.state.offset);
    pageBuckets.writeUInt32LE(TAG, tagAt(slot) * 4);
    this.hold(payer, 'pages', 1);
  }

  /** Writes a flow that the endpoint opened. @returns its slot */
  flow(
    to: string,
    over: { endpoint?: number; verdict?: number; flags?: number; tcpState?: number; kind?: number } = {},
  ): number {
    const slot = this.#nextFlow++;
    const { endpoint = 1, verdict = 1, flags = 0, tcpState = 2, kind = 0 } = over;
    const o = slot * E.size;
    const { entries } = this.flows;
    Buffer.from(parseAddr(to).bytes).copy(entries, o + FK.fields.remote.offset);
    entries.writeUInt32LE(endpoint, o + FK.fields.endpoint.offset);
    const v = o + E.fields.flow.offset;
    entries[v + F.fields.verdict.offset] = verdict;
    entries[v + F.fields.flags.offset] = flags;
    entries[v + F.fields.tcp_state.offset] = tcpState;
    entries[v + F.fields.kind.offset] = kind;
    entries.writeUInt32LE(
      ENUMS.ea_entry_state.EA_ENTRY_VALID + ENUMS.ea_entry_state.EA_ENTRY_NEXT,
      o + E.fields.state.offset,
    );
    this.setFlowTag(slot, TAG);
    return slot;
  }

  endFlow(slot: number): void {
    const state = this.flows.state(slot);
    if (!this.flows.free({ slot, state })) throw new Error('the flow is not there');
  }

  /** Adds to a program's count. */
  hold(payer: number, what: 'names' | 'pages' | 'refused' | 'untrusted' | 'overflow', by: number): void {
    const at = payer * H.size + H.fields[what].offset;
    this.memory.holdings.writeInt32LE(this.memory.holdings.readInt32LE(at) + by, at);
  }

  nameState(slot: number): number {
    return this.memory.names.readUInt32LE(slot * N.size + N.fields.state.offset);
  }

  nameTag(slot: number): number {
    return this.memory.nameBuckets.readUInt32LE(tagAt(slot) * 4);
  }

  pageTag(slot: number): number {
    return this.memory.pageBuckets.readUInt32LE(tagAt(slot) * 4);
  }

  /** The texts of the names that are there. */
  texts(): string[] {
    return this.table.list({ limit: 1e6, addresses: 0 }).names.map((n) => n.text);
  }

  /** The addresses of a name that is there. */
  addresses(text: string): string[] {
    const [name] = this.table.list({ matches: (x) => x === text, limit: 1, addresses: 1e6 }).names;
    return name?.addresses.map((a) => a.ip) ?? [];
  }

  setFlowTag(slot: number, tag: number): void {
    this.#flowBuckets.writeUInt32LE(tag, tagAt(slot) * 4);
  }
}
