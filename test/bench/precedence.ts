/** Other work on the machine is to disturb as little as can be. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { progress } from './result.js';

const MOST = -20;
/** Where the scheduler shares time among sessions first, a process has a priority within its session only (sched(7)). */
const SESSION = '/proc/self/autogroup';

/** The highest priority, for this process and all that it starts; the session has its own back when it ends. */
export function precedence(): void {
  try {
    setPriority(MOST);
    if (!existsSync(SESSION)) return;
    const before = /nice (-?\d+)/.exec(readFileSync(SESSION, 'utf8'))?.[1] ?? '0';
    writeFileSync(SESSION, String(MOST));
    process.on('exit', () => writeFileSync(SESSION, before));
  } catch (error) {
    progress(`the priority cannot be raised, other work on the machine disturbs: ${(error as Error).message}`);
  }
}
