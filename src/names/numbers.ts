/** A list of 32-bit numbers that grows: hundreds of thousands in one piece of memory. */
export class Numbers {
  #values = new Int32Array(1 << 10);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const larger = new Int32Array(4 * this.#length);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#length++] = value;
  }

  /** All of them, for as long as none is added. */
  get values(): Int32Array {
    return this.#values;
  }

  at(index: number): number {
    return this.#values[index]!;
  }
}
