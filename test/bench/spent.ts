/** What other processes spend. */
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Of /proc/PID/stat: hundredths of a second. */
const TICKS = 100;

/** The share of a core that a process takes from now on, in per cent. */
export async function cpuShare(child: ChildProcess, ms: number): Promise<number> {
  const [before, began] = [cpuSeconds(child), performance.now()];
  await sleep(ms);
  return ((cpuSeconds(child) - before) / ((performance.now() - began) / 1000)) * 100;
}

function cpuSeconds(child: ChildProcess): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

/** Memory of a process that is resident. */
export function residentMib(child: ChildProcess): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]) / 1024;
}
