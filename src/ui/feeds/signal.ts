/** Wakes a loop once, however often it was rung meanwhile. */
export class Signal {
  #rung = false;
  #wake: () => void = () => {};

  constructor(signal: AbortSignal) {
    signal.addEventListener('abort', () => this.ring(), { once: true });
  }

  ring(): void {
    this.#rung = true;
    this.#wake();
  }

  /** @param ms no longer than this */
  async wait(ms?: number): Promise<void> {
    const timer = ms === undefined ? undefined : setTimeout(() => this.#wake(), ms);
    if (!this.#rung) await new Promise<void>((resolve) => (this.#wake = resolve));
    clearTimeout(timer);
    this.#wake = () => {};
    this.#rung = false;
  }
}
