/** Sets of characters as ranges: `lo, hi, lo, hi …`, ascending, with gaps between them. */
export type Ranges = readonly number[];

export const MAX_CHAR = 0x10ffff;

/** @param pairs `lo, hi` in any order; they may overlap */
export function ranges(pairs: readonly number[]): Ranges {
  const sorted: [number, number][] = [];
  for (let i = 0; i < pairs.length; i += 2) sorted.push([pairs[i]!, pairs[i + 1]!]);
  sorted.sort((a, b) => a[0] - b[0]);
  const out: number[] = [];
  for (const [lo, hi] of sorted) {
    const last = out.length - 1;
    if (last > 0 && lo <= out[last]! + 1) out[last] = Math.max(out[last]!, hi);
    else out.push(lo, hi);
  }
  return out;
}

export function negated(set: Ranges): Ranges {
  const out: number[] = [];
  let from = 0;
  for (let i = 0; i < set.length; i += 2) {
    if (set[i]! > from) out.push(from, set[i]! - 1);
    from = set[i + 1]! + 1;
  }
  if (from <= MAX_CHAR) out.push(from, MAX_CHAR);
  return out;
}

/** What lies outside of ASCII and is a letter of it in another case: the long s, and the sign of kelvin. */
const FOREIGN_CASES = [
  ['s'.charCodeAt(0), 0x17f],
  ['k'.charCodeAt(0), 0x212a],
] as const;

/** The set with its letters in every case, as `(?i)` wants it. @param set of ASCII */
export function folded(set: Ranges): Ranges {
  const out = [...set];
  const [a, z, toUpper] = [97, 122, -32];
  const add = (lo: number, hi: number, by: number) => lo <= hi && out.push(lo + by, hi + by);
  for (let i = 0; i < set.length; i += 2) {
    const [lo, hi] = [set[i]!, set[i + 1]!];
    add(Math.max(lo, a), Math.min(hi, z), toUpper);
    add(Math.max(lo, a + toUpper), Math.min(hi, z + toUpper), -toUpper);
  }
  const letters = ranges(out);
  for (const [letter, foreign] of FOREIGN_CASES) if (has(letters, letter)) out.push(foreign, foreign);
  return ranges(out);
}

function has(set: Ranges, char: number): boolean {
  for (let i = 0; i < set.length; i += 2) if (set[i]! <= char && char <= set[i + 1]!) return true;
  return false;
}

/** A set by the text of its pairs: `azAZ` is [a-zA-Z]. */
function ascii(pairs: string): Ranges {
  return ranges([...pairs].map((char) => char.charCodeAt(0)));
}

/** `\d`, `\s` and `\w`: of ASCII only. `\s` has no vertical tab. */
export const PERL: ReadonlyMap<string, Ranges> = new Map([
  ['d', ascii('09')],
  ['s', ascii('\t\n\f\r  ')],
  ['w', ascii('09AZ__az')],
]);

/** `[:alpha:]` and so on. */
export const POSIX: ReadonlyMap<string, Ranges> = new Map([
  ['alnum', ascii('09AZaz')],
  ['alpha', ascii('AZaz')],
  ['ascii', ascii('\x00\x7f')],
  ['blank', ascii('\t\t  ')],
  ['cntrl', ascii('\x00\x1f\x7f\x7f')],
  ['digit', ascii('09')],
  ['graph', ascii('!~')],
  ['lower', ascii('az')],
  ['print', ascii(' ~')],
  ['punct', ascii('!/:@[`{~')],
  ['space', ascii('\t\r  ')],
  ['upper', ascii('AZ')],
  ['word', ascii('09AZ__az')],
  ['xdigit', ascii('09AFaf')],
]);
