/** BPF programs of the benchmarks' own, compiled with the flags that the agent's are compiled with. */
import { join } from 'node:path';
import { compile } from '../../agent/kernel/build.js';
import { clangFlags } from '../../src/net/clang.js';
import { compiled, root } from '../netns/shell.js';

/** @param name of test/bench/NAME.bpf.c @returns path of the object */
export function benchObject(name: string): string {
  const output = join(compiled, `bench/${name}.bpf.o`);
  compile(process.env.CLANG ?? 'clang', clangFlags(join(root, 'bpf')), join(root, `test/bench/${name}.bpf.c`), output);
  return output;
}
