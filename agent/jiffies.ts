/**
 * The kernel's jiffies, which flows are stamped with because packets read them for
 * nothing. No system call tells them: two programs of three instructions do.
 */
import { AgentError } from '../src/errors.js';
import { bpf, loadInstructions } from './bpf-call.js';
import { sys } from './libbpf/sys.js';

const BPF_PROG_TEST_RUN = 10;
/** call bpf_jiffies64 (helper 118) · r0 >>= shift · exit */
const CODE = '8500000076000000' + '7700000000000000' + '9500000000000000';
/** What CONFIG_HZ can be, on the platforms that we know. */
const RATES = [24, 32, 48, 64, 100, 128, 200, 250, 256, 300, 500, 512, 1000, 1024, 1200];
/** Jiffies start 300 s before they pass 2^32 (linux/jiffies.h, INITIAL_JIFFIES). */
const WRAP = 2 ** 32;
const WRAP_SECONDS = 300;

function load(shift: number): number {
  const insns = Buffer.from(CODE, 'hex');
  insns.writeInt32LE(shift, 12);
  return loadInstructions(insns);
}

/** CLOCK_MONOTONIC in seconds. */
function uptime(): number {
  return Number(process.hrtime.bigint()) / 1e9;
}

/** bpf_jiffies64() for the agent. */
export class Jiffies {
  readonly #low = load(0);
  readonly #high = load(32);
  /** A frame of zeros: what a test run must be given, and nothing looks at. */
  readonly #frame = Buffer.alloc(64);
  /** Jiffies a second: CONFIG_HZ. */
  readonly hz: number;

  /** Throws KERNEL where BPF is not permitted. */
  constructor() {
    this.hz = this.#measure();
  }

  #run(program: number): number {
    const attr = Buffer.alloc(128);
    attr.writeUInt32LE(program, 0);
    attr.writeUInt32LE(this.#frame.length, 8);
    attr.writeBigUInt64LE(sys.address(this.#frame), 16);
    bpf(BPF_PROG_TEST_RUN, attr, this.#frame);
    return attr.readUInt32LE(4);
  }

  /** Now. Exact as a number for millions of years. Throws KERNEL. */
  now(): number {
    for (;;) {
      const high = this.#run(this.#high);
      const low = this.#run(this.#low);
      // Read anew if the low half has gone round in between.
      if (this.#run(this.#high) === high) return high * WRAP + low;
    }
  }

  /** From the time since the start; near the one moment at which all rates agree, by waiting. */
  #measure(): number {
    const seconds = uptime() - WRAP_SECONDS;
    if (Math.abs(seconds) > 5) return nearestRate((this.now() - WRAP) / seconds);
    const [start, at] = [this.now(), uptime()];
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
    return nearestRate((this.now() - start) / (uptime() - at));
  }

  close(): void {
    sys.close(this.#low);
    sys.close(this.#high);
  }
}

export function nearestRate(measured: number): number {
  const best = RATES.reduce((a, b) => (Math.abs(b - measured) < Math.abs(a - measured) ? b : a));
  if (!(Math.abs(best - measured) < best * 0.2)) {
    throw new AgentError('KERNEL', `${measured} jiffies a second are no rate that a kernel has`);
  }
  return best;
}
