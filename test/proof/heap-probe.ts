/**
 * Loaded into an agent before its own code (`node --expose-gc --import`): at SIGUSR2 it collects all garbage and writes what is left
 * to $HEAP_FILE. What a process holds resident says little of that: allocators keep what they have had.
 */
import { renameSync, writeFileSync } from 'node:fs';

const file = process.env.HEAP_FILE;

process.on('SIGUSR2', () => {
  if (file === undefined) return;
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  writeFileSync(`${file}.new`, JSON.stringify({ heap: heapUsed / 2 ** 20, external: external / 2 ** 20 }));
  renameSync(`${file}.new`, file);
});
