/**
 * Writes protobuf from the end to the beginning, so that the length of a nested message is known when it must be
 * written. Small messages share chunks of memory, each kept as long as one of its messages. Large ones have memory of
 * their own: nobody keeps them, and they must not fill chunks that small ones keep.
 */
const CHUNK = 1 << 16;
/** Messages up to this size, in bytes, are small. */
export const SMALL = 1 << 12;
/** Up to this number of bytes, a loop is faster than a call of the runtime. */
const FEW = 48;
const HEX = Buffer.from('0123456789abcdef');
const COLON = 0x3a;

export const VARINT = 0;
export const BYTES = 2;

/** Integers from here on are not exact. */
export const TOO_LARGE = 2 ** 53;

/** Writes messages backwards into chunks. */
export class Backwards {
  #chunk: Buffer = Buffer.alloc(0);
  /** The chunk of small messages, and the position of the first byte that has been written to it. */
  #shared = this.#chunk;
  #sharedPos = 0;
  /** Position of the first byte that has been written. */
  pos = 0;
  #end = 0;

  /** Begins a message of at most `most` bytes. */
  begin(most: number): void {
    if (this.#chunk === this.#shared) this.#sharedPos = this.pos;
    // Not from the pool, whose memory is shared with data that lives longer.
    if (most > SMALL) {
      this.#chunk = Buffer.allocUnsafeSlow(most);
      this.pos = most;
    } else {
      if (this.#sharedPos < most) this.#sharedPos = (this.#shared = Buffer.allocUnsafeSlow(CHUNK)).length;
      this.#chunk = this.#shared;
      this.pos = this.#sharedPos;
    }
    this.#end = this.pos;
  }

  message(): Buffer {
    return this.#chunk.subarray(this.pos, this.#end);
  }

  bytes(b: Buffer): void {
    const { length } = b;
    const at = (this.pos -= length);
    const chunk = this.#chunk;
    if (length > FEW) chunk.set(b, at);
    else for (let i = 0; i < length; i++) chunk[at + i] = b[i] as number;
  }

  /** Writes a varint. @param n less than TOO_LARGE */
  varint(n: number): void {
    const chunk = this.#chunk;
    if (n < 0x80) {
      chunk[--this.pos] = n;
      return;
    }
    let size = 1;
    for (let rest = n; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++;
    this.pos -= size;
    let at = this.pos;
    let rest = n;
    for (; rest >= 0x8000_0000; rest = Math.floor(rest / 0x80)) chunk[at++] = (rest % 0x80) | 0x80;
    for (; rest >= 0x80; rest >>>= 7) chunk[at++] = (rest & 0x7f) | 0x80;
    chunk[at] = rest;
  }

  /** Writes a number field. @param tag of the field and VARINT */
  number(tag: number, n: number): void {
    this.varint(n);
    this.varint(tag);
  }

  /**
   * Writes the head of a nested field, whose content has been written since `end`. @param tag of the field and BYTES
   */
  nested(tag: number, end: number): void {
    this.varint(end - this.pos);
    this.varint(tag);
  }

  /** Writes a field of ASCII text. @param tag of the field and BYTES */
  text(tag: number, s: string): void {
    const { length } = s;
    const chunk = this.#chunk;
    const at = (this.pos -= length);
    for (let i = 0; i < length; i++) chunk[at + i] = s.charCodeAt(i);
    this.varint(length);
    this.varint(tag);
  }

  /** Writes the last 12 hex digits of a number less than 2^48. */
  hex12(n: number): void {
    const chunk = this.#chunk;
    let at = this.pos;
    let rest = n % 0x100_0000;
    for (let i = 0; i < 12; i++) {
      if (i === 6) rest = Math.floor(n / 0x100_0000);
      chunk[--at] = HEX[rest & 15] as number;
      rest >>>= 4;
    }
    this.pos = at;
  }

  /** Writes a field of six bytes as `aa:bb:…`; empty if all are 0. */
  mac(tag: number, b: Buffer, from: number): void {
    if (isZeroMac(b, from)) {
      this.text(tag, '');
      return;
    }
    const chunk = this.#chunk;
    let at = this.pos;
    for (let i = 5; i >= 0; i--) {
      const byte = b[from + i] as number;
      chunk[--at] = HEX[byte & 15] as number;
      chunk[--at] = HEX[byte >> 4] as number;
      if (i > 0) chunk[--at] = COLON;
    }
    this.pos = at;
    this.varint(17);
    this.varint(tag);
  }
}

export function isZeroMac(b: Buffer, at: number): boolean {
  return b.readUInt32LE(at) === 0 && b.readUInt16LE(at + 4) === 0;
}
