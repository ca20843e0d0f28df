/** The kernel's clocks, as flows keep them: jiffies (a program tells them) and CLOCK_MONOTONIC. */
import { AgentError } from '../src/errors.js';
import type { BpfProgram } from './libbpf/program.js';

/** Values that CONFIG_HZ can have: kernel/Kconfig.hz; 24 to 1200 on some architectures. */
const KNOWN_HZ = [24, 48, 100, 128, 250, 256, 300, 1000, 1024, 1200];
const CALIBRATION_MS = 60;
/** struct __sk_buff up to its end; cb[] stands at byte 48. */
const SKB_SIZE = 192;
const CB = 48;

export class KernelClock {
  /** Jiffies a second. */
  readonly hz: number;

  /** Takes about 70 ms: measures. Throws KERNEL. */
  constructor(private readonly program: Pick<BpfProgram, 'testRun'>) {
    this.hz = this.calibrate();
  }

  /** bpf_jiffies64(). */
  jiffies(): bigint {
    const ctx = Buffer.alloc(SKB_SIZE);
    const { ctxOut } = this.program.testRun(Buffer.alloc(64), { ctx });
    if (!ctxOut) throw new AgentError('INTERNAL', 'the clock program gave no context back');
    return ctxOut.readBigUInt64LE(CB);
  }

  /** CLOCK_MONOTONIC in nanoseconds: the same clock as process.hrtime. */
  nanos(): bigint {
    return process.hrtime.bigint();
  }

  /** From the edge of one tick to the edge of another: the only error is a call's duration. */
  private calibrate(): number {
    const [first, from] = this.edge();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, CALIBRATION_MS);
    const [last, to] = this.edge();
    const measured = (Number(last - first) * 1e9) / Number(to - from);
    return KNOWN_HZ.reduce((best, hz) => (Math.abs(hz - measured) < Math.abs(best - measured) ? hz : best));
  }

  private edge(): [bigint, bigint] {
    const start = this.jiffies();
    for (;;) {
      const now = this.jiffies();
      if (now !== start) return [now, this.nanos()];
    }
  }
}
