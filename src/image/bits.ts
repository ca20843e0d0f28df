/** Rows: bitmaps of the rules of a set. */
import type { PolicySet } from './types.js';

/** Rule n is bit n % 32 of word n / 32, little endian: the same bytes as the kernel's __u64 words. */
export type Row = Uint32Array;

const SMALL_WORDS32 = 16;
const LARGE_WORDS32 = 128;

/** A row without bits, in the size of the set. */
export function emptyRow(set: Pick<PolicySet, 'large'>): Row {
  return new Uint32Array(set.large ? LARGE_WORDS32 : SMALL_WORDS32);
}

/** A row of all rules that a set could have. */
export function allRow(set: Pick<PolicySet, 'large'>): Row {
  return emptyRow(set).fill(0xffffffff);
}

export function setBit(row: Row, bit: number): void {
  row[bit >> 5] = (row[bit >> 5] as number) | (1 << (bit & 31));
}

export function clearBit(row: Row, bit: number): void {
  row[bit >> 5] = (row[bit >> 5] as number) & ~(1 << (bit & 31));
}

export function testBit(row: Row, bit: number): boolean {
  return (((row[bit >> 5] as number) >>> (bit & 31)) & 1) === 1;
}

export function orInto(row: Row, other: Row): void {
  for (let i = 0; i < row.length; i++) row[i] = (row[i] as number) | (other[i] as number);
}
