import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The one list of flags with which the C is compiled, here and on nodes (bpf/flags.txt). */
export function clangFlags(bpfDir: string): string[] {
  const flags = readFileSync(join(bpfDir, 'flags.txt'), 'utf8').split(/\s+/).filter(Boolean);
  // Debian keeps <asm/types.h> under the architecture's own directory, which -target bpf does not search.
  const multiarch = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch as string];
  return multiarch ? [...flags, `-I/usr/include/${multiarch}`] : flags;
}
