/** How the programs of this directory read numbers and end. */
import { InvalidArgumentError } from 'commander';
import { AgentError } from '../errors.js';

export function parsePort(value: string): number {
  const port = Number(value);
  if (!/^\d+$/.test(value) || port < 1 || port > 65535) throw new InvalidArgumentError('not a port');
  return port;
}

/** 1: failed; 2: wrong usage. Says what was wrong on standard error. */
export function endOnFault(name: string, done: Promise<unknown>): void {
  done.catch((e: unknown) => {
    if (e instanceof AgentError) {
      const file = e.where.file === undefined || e.message.includes(e.where.file) ? '' : `${e.where.file}: `;
      process.stderr.write(`${name}: ${file}${e.message}${e.hint === undefined ? '' : `\n  ${e.hint}`}\n`);
      process.exit(e.code === 'USAGE' ? 2 : 1);
    }
    // Commander has said what was wrong.
    const { exitCode, code } = e as { exitCode?: number; code?: string };
    if (typeof code === 'string' && code.startsWith('commander.')) process.exit(exitCode === 0 ? 0 : 2);
    process.stderr.write(`${name}: ${e instanceof Error ? e.message : String(e)}\n`);
    process.exit(1);
  });
}
