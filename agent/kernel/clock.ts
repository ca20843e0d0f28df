/** The kernel's clocks that flow entries use: jiffies (read by a BPF program) and CLOCK_MONOTONIC. */
import { AgentError } from '../../src/errors.js';
import type { BpfProgram } from './libbpf/program.js';

/** Values that CONFIG_HZ can have: kernel/Kconfig.hz; 24 to 1200 on some architectures. */
const KNOWN_HZ = [24, 48, 100, 128, 250, 256, 300, 1000, 1024, 1200];
const CALIBRATION_MS = 60;
const MINUTE_NS = 60_000_000_000n;
/** struct __sk_buff up to its end; cb[] stands at byte 48. */
const SKB_SIZE = 192;
const CB = 48;

export class KernelClock {
  readonly #program: Pick<BpfProgram, 'testRun'>;
  /** Jiffies a second. */
  readonly hz: number;
  #reading: { at: bigint; jiffies: bigint } | undefined;

  /** Measures the tick rate, which takes about 70 ms. Throws KERNEL. */
  constructor(program: Pick<BpfProgram, 'testRun'>) {
    this.#program = program;
    this.hz = this.#calibrate();
  }

  /** bpf_jiffies64(): ticks since boot. Throws KERNEL, INTERNAL. */
  jiffies(): bigint {
    const ctx = Buffer.alloc(SKB_SIZE);
    const { ctxOut } = this.#program.testRun(Buffer.alloc(64), { ctx });
    if (!ctxOut) throw new AgentError('INTERNAL', 'the clock program gave no context back');
    return ctxOut.readBigUInt64LE(CB);
  }

  /** jiffies() without a system call: extrapolated from a reading at most a minute old. Off by a tick or two. */
  estimatedJiffies(): number {
    const now = this.nanos();
    if (this.#reading === undefined || now - this.#reading.at > MINUTE_NS)
      this.#reading = { at: now, jiffies: this.jiffies() };
    const { at, jiffies } = this.#reading;
    return Number(jiffies) + (Number(now - at) / 1e9) * this.hz;
  }

  /** CLOCK_MONOTONIC in nanoseconds: the same clock as process.hrtime. */
  nanos(): bigint {
    return process.hrtime.bigint();
  }

  /** Measures from the start of one tick to the start of another: the only error is the duration of a call. */
  #calibrate(): number {
    const [first, from] = this.#edge();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, CALIBRATION_MS);
    const [last, to] = this.#edge();
    const measured = (Number(last - first) * 1e9) / Number(to - from);
    return KNOWN_HZ.reduce((best, hz) => (Math.abs(hz - measured) < Math.abs(best - measured) ? hz : best));
  }

  /** Waits for the start of a tick. @returns its jiffies, and its time in nanoseconds */
  #edge(): [bigint, bigint] {
    const start = this.jiffies();
    for (;;) {
      const now = this.jiffies();
      if (now !== start) return [now, this.nanos()];
    }
  }
}
