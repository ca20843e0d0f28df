/** Measurements that must not be moved from one processor to another. */
import { execFileSync } from 'node:child_process';
import { AgentError } from '../../src/errors.js';

/**
 * Runs it on the last of the processors that this process may use. Who has a flow's first packet counts the later ones without a locked
 * instruction; a process that is moved meanwhile would be another one to it. Throws INTERNAL where taskset says nothing.
 */
export function onOneCpu<T>(run: () => Promise<T>): () => Promise<T> {
  return async () => {
    const taskset = (...args: string[]) => execFileSync('taskset', ['-p', ...args], { encoding: 'utf8' });
    const pid = String(process.pid);
    const before = /: *([0-9a-f,]+)\s*$/i.exec(taskset(pid))?.[1]?.replaceAll(',', '');
    if (before === undefined) throw new AgentError('INTERNAL', 'taskset does not say on which processors this runs');
    const last = 1n << BigInt(BigInt(`0x${before}`).toString(2).length - 1);
    taskset(last.toString(16), pid);
    try {
      return await run();
    } finally {
      taskset(before, pid);
    }
  };
}
