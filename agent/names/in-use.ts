/**
 * Which addresses an endpoint's own open flows go to, by one pass over the flow table. A bit for each hash, so that it
 * costs the same for any number of flows: rarely, an address counts as used although it is not, and its name stays for
 * one more pass, as each pass has another hash.
 */
import { randomInt } from 'node:crypto';
import * as L from '../../src/image/layout.gen.js';
import type { FlowMemory } from '../events/flow-table.js';

const { ea_entry: E, ea_flow: F, ea_flow_key: K } = L.STRUCTS;
const { EA_ENTRY_VALID } = L.ENUMS.ea_entry_state;
const { EA_KIND_FLOW } = L.ENUMS.ea_kind;
const { EA_VERDICT_ALLOW, EA_VERDICT_PARTIAL } = L.ENUMS.ea_verdict;
const { EA_FLOW_INBOUND, EA_FLOW_POST_DNAT } = L.ENUMS.ea_flow_flags;
const { EA_TCP_CLOSED } = L.ENUMS.ea_tcp_state;
const WORD = 4;
const FLOW = E.fields.flow.offset;
const WORDS = E.size / WORD;
const STATE = E.fields.state.offset / WORD;
const REMOTE = K.fields.remote.offset / WORD;
const ENDPOINT = K.fields.endpoint.offset / WORD;
const VERDICT = FLOW + F.fields.verdict.offset;
const FLAGS = FLOW + F.fields.flags.offset;
const KIND = FLOW + F.fields.kind.offset;
const TCP = FLOW + F.fields.tcp_state.offset;
/** Bits for each entry that the table may hold. With a full table, one address in 32 is taken for used. */
const BITS_PER_FLOW = 32;
const MIN_BITS = 16;

type Flows = Pick<FlowMemory, 'entries' | 'capacity' | 'tag' | 'state'>;

export class AddressesInUse {
  readonly #flows: Flows;
  readonly #words: Uint32Array;
  readonly #bits: Uint32Array;
  readonly #shift: number;
  #seed = 0;

  constructor(flows: Flows) {
    this.#flows = flows;
    const { entries } = flows;
    this.#words = new Uint32Array(entries.buffer, entries.byteOffset, Math.floor(entries.length / WORD));
    const bits = Math.max(MIN_BITS, Math.ceil(Math.log2(flows.capacity * BITS_PER_FLOW)));
    this.#bits = new Uint32Array(2 ** bits / 32);
    this.#shift = 32 - bits;
  }

  /** Reads the flow table. A flow counts if the endpoint opened it, it passes, and it is not closed. */
  gather(): void {
    this.#seed = randomInt(2 ** 32);
    this.#bits.fill(0);
    const { entries, capacity } = this.#flows;
    const words = this.#words;
    for (let slot = 0; slot < capacity; slot++) {
      // Of a free slot, only the tag is read.
      if (this.#flows.tag(slot) === 0) continue;
      const base = slot * WORDS;
      const state = words[base + STATE] as number;
      if ((state & EA_ENTRY_VALID) === 0) continue;
      const o = slot * E.size;
      const verdict = entries[o + VERDICT];
      if (entries[o + KIND] !== EA_KIND_FLOW || (verdict !== EA_VERDICT_ALLOW && verdict !== EA_VERDICT_PARTIAL))
        continue;
      if (((entries[o + FLAGS] as number) & (EA_FLOW_INBOUND | EA_FLOW_POST_DNAT)) !== 0) continue;
      if (((entries[o + TCP] as number) & EA_TCP_CLOSED) !== 0) continue;
      const bit = this.#bitOf(words, base + ENDPOINT, base + REMOTE);
      // An entry that has become another flow meanwhile: the next pass sees it. One that was locked counts.
      if ((this.#flows.state(slot) & EA_ENTRY_VALID) === 0) continue;
      this.#bits[bit >>> 5] = (this.#bits[bit >>> 5] as number) | (1 << (bit & 31));
    }
  }

  /** Whether the endpoint uses the address, as of the last gather(). @param endpoint, address places of their words */
  has(words: Uint32Array, endpoint: number, address: number): boolean {
    const bit = this.#bitOf(words, endpoint, address);
    return (((this.#bits[bit >>> 5] as number) >>> (bit & 31)) & 1) !== 0;
  }

  #bitOf(words: Uint32Array, endpoint: number, address: number): number {
    let h = Math.imul(this.#seed ^ (words[endpoint] as number), 0x9e3779b1);
    for (let i = 0; i < 4; i++) {
      h ^= h >>> 15;
      h = Math.imul(h ^ (words[address + i] as number), 0x85ebca6b);
    }
    h ^= h >>> 13;
    return Math.imul(h, 0xc2b2ae35) >>> this.#shift;
  }
}
