/** How egressctl ends. */
import { AgentError } from '../errors.js';
import { safe } from './output.js';

export const EXIT = { done: 0, failed: 1, usage: 2, denied: 3 } as const;

/** Says on standard error what went wrong; @returns the exit code */
export function report(e: unknown): number {
  if (e instanceof AgentError) {
    const where = [e.where.object, e.where.field].filter((s) => s !== undefined).join(': ');
    const said = `${where === '' || e.message.includes(where) ? '' : `${where}: `}${e.message}`;
    process.stderr.write(`egressctl: ${said.split('\n').map(safe).join('\n')}\n`);
    if (e.hint !== undefined) process.stderr.write(`  ${safe(e.hint)}\n`);
    return e.code === 'USAGE' ? EXIT.usage : EXIT.failed;
  }
  const { code, exitCode } = e as { code?: string; exitCode?: number };
  // Commander has said what was wrong, or shown the help that was asked for.
  if (code?.startsWith('commander.')) return exitCode === 0 ? EXIT.done : EXIT.usage;
  process.stderr.write(`egressctl: ${e instanceof Error ? (e.stack ?? e.message) : String(e)}\n`);
  return EXIT.failed;
}
