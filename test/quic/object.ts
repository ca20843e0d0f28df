/** The QUIC headers of bpf/ in objects of the tests' own (*.bpf.c), loaded without the rest of the agent's programs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compile } from '../../agent/kernel/build.js';
import { BpfMap, MapType } from '../../agent/kernel/libbpf/map.js';
import { BpfObject } from '../../agent/kernel/libbpf/object.js';
import { BpfProgram, type TestRunResult } from '../../agent/kernel/libbpf/program.js';
import { AgentError } from '../../src/errors.js';
import { clangFlags } from '../../src/net/clang.js';
import { compiled, root } from '../netns/shell.js';

/** Bytes before the datagram. */
const BEFORE = 14;
/** struct __sk_buff: its size, and where `cb` and `gso_size` are (linux/bpf.h). */
const [CONTEXT, CB, GSO_SIZE] = [192, 48, 176];

export class TestObject {
  readonly #object: BpfObject;

  /** @param name of an object of test/quic, without .bpf.c */
  constructor(name: string) {
    const output = join(compiled, `quic/${name}.bpf.o`);
    // The headers have more than a test's object uses.
    const flags = [...clangFlags(join(root, 'bpf')), '-Wno-unused-function'];
    compile(process.env.CLANG ?? 'clang', flags, join(root, `test/quic/${name}.bpf.c`), output);
    this.#object = new BpfObject(readFileSync(output), name);
    for (const map of this.#object.mapNames) {
      this.#object.setPinPath(map, undefined);
      const { type } = this.#object.declaration(map);
      const whole = map.startsWith('quic') || map === 'l7_memory' || type === MapType.RINGBUF;
      if (!whole) this.#object.setMaxEntries(map, 1);
    }
    const status = this.#object.load();
    if (status < 0) {
      const log = this.#object.refusals().at(-1)?.log ?? this.#object.messages().join('\n');
      throw new AgentError('VERIFIER', `${name}: ${status} ${log.slice(-3000)}`);
    }
  }

  map(name: string): BpfMap {
    return new BpfMap(this.#object.mapFd(name), name);
  }

  /** A function that gives the program a datagram, with what is in skb->cb before; its result has `cb` behind. */
  program(name: string): (datagram: Buffer, cb?: readonly number[], opts?: RunOptions) => Run {
    const program = new BpfProgram(this.#object.programFd(name), name);
    return (datagram, cb = [], { repeat, gsoSize = 0 } = {}) => {
      const ctx = Buffer.alloc(CONTEXT);
      for (const [i, value] of cb.entries()) ctx.writeUInt32LE(value >>> 0, CB + 4 * i);
      ctx.writeUInt32LE(gsoSize, GSO_SIZE);
      const result = program.testRun(Buffer.concat([Buffer.alloc(BEFORE), datagram]), { ctx, repeat });
      return { ...result, cb: [0, 1, 2, 3, 4].map((i) => result.ctxOut?.readUInt32LE(CB + 4 * i) ?? 0) };
    };
  }

  close(): void {
    this.#object.close();
  }
}

export interface RunOptions {
  readonly repeat?: number;
  /** The packet is several datagrams of this size, the last of less. */
  readonly gsoSize?: number;
}

export interface Run extends TestRunResult {
  readonly cb: readonly number[];
}
