/** Ends programs after an error: the message on standard error, and the exit code. */
import { AgentError } from './errors.js';

export const EXIT = { done: 0, failed: 1, usage: 2, denied: 3 } as const;

/** How a program reports errors. */
export interface Speaker {
  readonly name: string;
  /** The object of an error, printed before the message; empty for none. */
  readonly about?: (e: AgentError) => string;
  /** Makes a line safe for output. */
  readonly shown?: (line: string) => string;
  /** Print only the message of an unexpected error, without its stack. */
  readonly brief?: boolean;
}

/** Prints an error. @returns the exit code */
export function reportFault(e: unknown, { name, about = () => '', shown = (line) => line, brief }: Speaker): number {
  if (e instanceof AgentError) {
    const of = about(e);
    const said = of === '' || e.message.includes(of) ? e.message : `${of}: ${e.message}`;
    process.stderr.write(`${name}: ${said.split('\n').map(shown).join('\n')}\n`);
    if (e.hint !== undefined) process.stderr.write(`  ${shown(e.hint)}\n`);
    return e.code === 'USAGE' ? EXIT.usage : EXIT.failed;
  }
  const { code, exitCode } = e as { code?: unknown; exitCode?: number };
  // Commander has already printed the error, or the help that was requested.
  if (typeof code === 'string' && code.startsWith('commander.')) return exitCode === 0 ? EXIT.done : EXIT.usage;
  const said = e instanceof Error ? (brief ? e.message : (e.stack ?? e.message)) : String(e);
  process.stderr.write(`${name}: ${said}\n`);
  return EXIT.failed;
}

/** Ends the process if `done` fails, whatever else is running. */
export function endOnFault(done: Promise<unknown>, speaker: Speaker): void {
  done.catch((e: unknown) => process.exit(reportFault(e, speaker)));
}
