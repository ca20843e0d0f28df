#!/usr/bin/env node
/** egressctl */
import { report } from './exit.js';
import { endQuietly } from './output.js';
import { makeProgram } from './program.js';

endQuietly();
makeProgram()
  .parseAsync()
  .catch((e: unknown) => {
    process.exitCode = report(e);
  });
