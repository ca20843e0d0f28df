/** Where the pages of an address are: the hash of their key, as in bpf/name_table.h (page_hash). */
import * as L from '../../src/image/layout.gen.js';
import type { NameMemory } from './memory.js';

const S = L.STRUCTS.ea_name_state_words.fields;
const MASK64 = (1n << 64n) - 1n;
const SPREAD = 0x9e3779b97f4a7c15n;

export class PageLocator {
  readonly #state: Buffer;
  #secrets: readonly bigint[] = [];

  constructor({ state }: Pick<NameMemory, 'state'>) {
    this.#state = state;
  }

  /** The two buckets of a page, and its tag. @param address 16 bytes @param page number of the address's page */
  locate(endpoint: number, address: Buffer, page: number): { buckets: readonly [number, number]; tag: number } {
    if (this.#secrets.length === 0)
      this.#secrets = [6, 7, 8, 9, 10, 11].map((i) => this.#state.readBigUInt64LE(S.secret.offset + i * 8));
    const s = (i: number) => this.#secrets[i] as bigint;
    const w = (i: number) => BigInt(address.readUInt32LE(i * 4));
    const first = ((s(0) + w(0)) & MASK64) * ((s(1) + w(1)) & MASK64);
    const second = ((s(2) + w(2)) & MASK64) * ((s(3) + w(3)) & MASK64);
    const third = ((s(4) + BigInt(endpoint)) & MASK64) * ((s(5) + BigInt(page)) & MASK64);
    const sum = (first + second + third) & MASK64;
    const hash = ((sum ^ (sum >> 32n)) * SPREAD) & MASK64;
    const last = this.#state.readUInt32LE(S.last_page_bucket.offset);
    const tag = (Number((hash >> 5n) & 0xffff_ffffn) | 1) >>> 0;
    const bucket = (Number((hash >> 40n) & 0xff_ffffn) & last) >>> 0;
    const other = ((bucket ^ ((Math.imul(tag, 0x5bd1e995) >>> 8) | 1)) & last) >>> 0;
    return { buckets: [bucket, other], tag };
  }
}
