/** What the tests do to the tables of names, as it would come about in time. */
import { STRUCTS } from '../../src/image/layout.gen.js';
import type { NameMemory } from '../../agent/names/memory.js';

const { size, fields } = STRUCTS.ea_name_holding;

/** Nothing is known any more. What endpoints have ever learned is a number that only grows. */
export function wipe({ names, nameBuckets, pages, pageBuckets, holdings }: NameMemory): void {
  for (const memory of [names, nameBuckets, pages, pageBuckets]) memory.fill(0);
  for (let at = 0; at < holdings.length; at += size) {
    const learned = holdings.readUInt32LE(at + fields.learned.offset);
    holdings.fill(0, at, at + size);
    holdings.writeUInt32LE(learned, at + fields.learned.offset);
  }
  later({ holdings });
}

/** No answer is one of this second. */
export function later({ holdings }: Pick<NameMemory, 'holdings'>): void {
  for (let at = fields.learned.offset; at < holdings.length; at += size)
    holdings.writeUInt32LE((holdings.readUInt32LE(at) + 1) >>> 0, at);
}
