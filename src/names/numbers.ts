/** A list of 32-bit numbers that grows: hundreds of thousands in one piece of memory. */
export class Numbers {
  #values: Int32Array<ArrayBuffer>;
  #length = 0;

  /** @param expected how many there may be */
  constructor(expected = 1 << 10) {
    this.#values = new Int32Array(expected);
  }

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const larger = new Int32Array(2 * this.#length + 16);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#length++] = value;
  }

  set(index: number, value: number): void {
    this.#values[index] = value;
  }

  /** All of them, for as long as none is added. */
  get values(): Int32Array {
    return this.#values;
  }

  at(index: number): number {
    return this.#values[index]!;
  }
}
