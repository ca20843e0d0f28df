/** Compiles the BPF object that is shipped with the agent: build-bpf.js OUTPUT */
import { join } from 'node:path';
import { compile } from '../agent/kernel/build.js';
import { clangFlags } from '../src/net/clang.js';

const output = process.argv[2];
if (output === undefined) throw new Error('usage: build-bpf.js OUTPUT');
const bpfDir = join(process.cwd(), 'bpf');
try {
  compile(process.env.CLANG ?? 'clang', clangFlags(bpfDir), join(bpfDir, 'egress.bpf.c'), output);
} catch (error) {
  // clang's complete output, not only its first line.
  console.error(error instanceof Error && typeof error.cause === 'string' ? error.cause : error);
  process.exitCode = 1;
}
