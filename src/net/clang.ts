import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The flags for compiling the C code, both here and on nodes (bpf/flags.txt). */
export function clangFlags(bpfDir: string): string[] {
  const flags = readFileSync(join(bpfDir, 'flags.txt'), 'utf8').split(/\s+/).filter(Boolean);
  // Debian has <asm/types.h> in a directory of the architecture, which -target bpf does not search.
  const multiarch = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch as string];
  const target = { x64: 'x86', arm64: 'arm64' }[process.arch as string];
  if (target) flags.push(`-D__TARGET_ARCH_${target}`);
  return multiarch ? [...flags, `-I/usr/include/${multiarch}`] : flags;
}
