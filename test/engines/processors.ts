/** Programs keep work memory for each processor: a test that stays on one never sees what another one left behind. */
import { readFileSync } from 'node:fs';
import * as ffi from '../../agent/kernel/libbpf/ffi.js';

const libc = ffi.library('libc.so.6', { sched_setaffinity: ['int', ['int', 'size_t', 'pointer']] });

/** The processors on which this process may run. */
function allowed(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return list.split(',').flatMap((part) => {
    const [first = 0, last = first] = part.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** Moves the main thread from one processor to the next. */
export class Processors {
  readonly numbers: readonly number[] = allowed();
  #turns = 0;

  /** @returns the processor on which the programs run from now on */
  next(): number {
    const number = this.numbers[this.#turns++ % this.numbers.length] as number;
    this.#stayOn([number]);
    return number;
  }

  /** All of them again. */
  release(): void {
    this.#stayOn(this.numbers);
  }

  #stayOn(numbers: readonly number[]): void {
    const mask = Buffer.alloc(128);
    for (const n of numbers) mask[n >> 3] = (mask[n >> 3] as number) | (1 << (n & 7));
    if (Number(libc.sched_setaffinity(0, mask.length, mask)) !== 0)
      throw new Error(`processors ${numbers.join()}: refused`);
  }
}
