/** Flows per second, averaged over the last whole seconds. */

const SECONDS = 10;

/** Counts flows by second. */
export class Rate {
  /** Second s is at index s % length. The additional element is for the current second. */
  readonly #counts = new Float64Array(SECONDS + 1);
  #last = 0;
  #first: number | undefined;

  /** @param second from a clock that rarely goes backwards */
  count(second: number, n = 1): void {
    if (second > this.#last) this.#advance(second);
    this.#first ??= second;
    const i = second % this.#counts.length;
    if (second > this.#last - this.#counts.length) this.#counts[i] = (this.#counts[i] ?? 0) + n;
  }

  perSecond(now: number): number {
    if (this.#first === undefined) return 0;
    if (now > this.#last) this.#advance(now);
    let sum = 0;
    let seconds = 0;
    for (let s = now - 1; s >= now - SECONDS && s >= this.#first; s--) {
      seconds++;
      sum += this.#counts[s % this.#counts.length] ?? 0;
    }
    return seconds === 0 ? 0 : sum / seconds;
  }

  #advance(second: number): void {
    const slots = this.#counts.length;
    for (let s = Math.max(this.#last + 1, second - slots + 1); s <= second; s++) this.#counts[s % slots] = 0;
    this.#last = second;
  }
}
