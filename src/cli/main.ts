#!/usr/bin/env node
/** Entry point of egressctl: runs the command and turns an error into a message and an exit code. */
import type { AgentError } from '../errors.js';
import { reportFault } from '../exit.js';
import { endQuietly, safe } from './common/output.js';
import { makeProgram } from './program.js';

/** The object and the field path that an error names. */
function about({ where }: AgentError): string {
  return [where.object, where.field].filter((s) => s !== undefined).join(': ');
}

endQuietly();
makeProgram()
  .parseAsync()
  .catch((e: unknown) => {
    process.exitCode = reportFault(e, { name: 'egressctl', about, shown: safe });
  });
