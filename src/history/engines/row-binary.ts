/** ClickHouse's RowBinary: rows without names or separators, numbers little-endian, texts behind their length. */

/** Writes values one after the other into memory that grows. */
export class RowBinary {
  #buffer: Buffer;
  #at = 0;

  constructor(capacity = 1 << 16) {
    this.#buffer = Buffer.allocUnsafe(capacity);
  }

  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }

  u8(value: number): void {
    this.#buffer[this.#room(1)] = value;
  }

  u16(value: number): void {
    const at = this.#room(2);
    this.#buffer.writeUInt16LE(value, at);
  }

  u32(value: number): void {
    const at = this.#room(4);
    this.#buffer.writeUInt32LE(value, at);
  }

  /** @param value whole, below 2^53 */
  u64(value: number): void {
    const at = this.#room(8);
    this.#buffer.writeUInt32LE((value % 2 ** 32) >>> 0, at);
    this.#buffer.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
  }

  text(value: string | Buffer): void {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value;
    let length = bytes.length;
    while (length > 127) {
      this.u8((length & 127) | 128);
      length >>>= 7;
    }
    this.u8(length);
    const at = this.#room(bytes.length);
    bytes.copy(this.#buffer, at);
  }

  /** Makes room. @returns where it begins */
  #room(bytes: number): number {
    const at = this.#at;
    this.#at += bytes;
    if (this.#at > this.#buffer.length) {
      const wider = Buffer.allocUnsafe(Math.max(this.#at, this.#buffer.length * 2));
      this.#buffer.copy(wider, 0, 0, at);
      this.#buffer = wider;
    }
    return at;
  }
}
