/** Watches the kernel's maps from outside of the agent: when does a destination say something else? */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { EPOCH_WORD, writeDest4 } from '../../agent/maps/tables/encode.js';
import { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { openPinned } from '../../agent/hooks/tcx.js';
import { atomPrefix } from '../../src/image/prefix.js';
import type { BenchNode } from './cluster-node.js';

/** Between two looks: the machine has two cores, and this process needs none of them. */
const LOOK_MS = 0.2;
const PATIENCE_NS = 5_000_000_000n;

export class Changes {
  readonly #destinations: BpfMap;
  readonly #state: BpfMap;
  readonly #words: Int32Array;
  readonly #clock = new Int32Array(new SharedArrayBuffer(4));

  constructor(node: BenchNode) {
    this.#destinations = open(node, 'destinations4');
    this.#state = open(node, 'state');
    const memory = this.#state.mmap();
    this.#words = new Int32Array(memory.buffer, memory.byteOffset, EPOCH_WORD + 1);
  }

  /**
   * Milliseconds from when the event went out to when the address has another class and the epoch, which is written last,
   * is another one.
   * @param cause makes it happen, and tells when it did (nanoseconds of CLOCK_MONOTONIC)
   */
  async until(ip: string, cause: () => Promise<bigint>): Promise<number> {
    const key = Buffer.alloc(this.#destinations.keySize);
    writeDest4(key, 0, atomPrefix(ip, 1).addr4 * 64 + 32);
    const look = () => this.#destinations.lookup(key)?.readBigUInt64LE(0);
    const epoch = () => Atomics.load(this.#words, EPOCH_WORD);
    const [before, epochBefore] = [look(), epoch()];
    const start = process.hrtime.bigint();
    const sent = cause();
    while (look() === before || epoch() === epochBefore) {
      if (process.hrtime.bigint() - start > PATIENCE_NS) throw new Error(`${ip} has not changed in the maps`);
      Atomics.wait(this.#clock, 0, 0, LOOK_MS);
    }
    const end = process.hrtime.bigint();
    return Number(end - (await sent)) / 1e6;
  }

  close(): void {
    this.#destinations.close();
    this.#state.close();
  }
}

function open(node: BenchNode, name: string): BpfMap {
  const shapes = join(node.pinDir, 'maps');
  const path = join(shapes, readdirSync(shapes)[0] as string, name);
  const fd = openPinned(path);
  if (fd === undefined) throw new Error(`there is no ${path}`);
  return new BpfMap(fd, name);
}
