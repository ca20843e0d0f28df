/** 100,000 names that 100 pods learned: memory in the kernel and of the agent's own process, and how busy it is. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentClient } from '../../../src/rpc/transport/client.js';
import type { Agent } from '../../netns/agent.js';
import { run } from '../../netns/shell.js';
import { atMost, median, progress, type Result } from '../result.js';
import { NameBed } from './bed.js';

interface Size {
  readonly pods: number;
  /** Each learns so many. */
  readonly names: number;
  /** How long the agent is watched, in tenths. */
  readonly seconds: number;
}

const FULL: Size = { pods: 100, names: 1000, seconds: 30 };
const RATE = 1000;
/** What the maps of names are, beside those that any policy needs. */
const MAPS = ['names', 'name_buckets', 'name_pages', 'page_buckets', 'name_holdings', 'name_state'];
const KERNEL_MOST_MIB = 60;
const CPU_MOST = 8;

function residentMiB(pid: number | undefined): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kib = (field: string) => Number(new RegExp(`^${field}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  return kib('VmRSS') / 1024;
}

/** Milliseconds of processor time. */
function busyMs(pid: number | undefined): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const [utime = 0, stime = 0] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number);
  return (utime + stime) * 10;
}

/** MiB of the pinned maps of names, as the kernel counts them; matchers, of the cells that they have. */
async function kernelMiB(pinDir: string): Promise<number> {
  let bytes = 0;
  for (const shape of readdirSync(`${pinDir}/maps`))
    for (const name of MAPS) {
      const { stdout } = await run('bpftool', ['-j', 'map', 'show', 'pinned', `${pinDir}/maps/${shape}/${name}`]);
      bytes += Number((JSON.parse(stdout) as { bytes_memlock: number }).bytes_memlock);
    }
  return bytes / 2 ** 20;
}

/** Share of a core that the agent takes, in per cent: the middle of ten pieces of the time. */
async function busyShare({ child: { pid } }: Agent, seconds: number): Promise<number> {
  const shares: number[] = [];
  for (let i = 0; i < 10; i++) {
    const [before, at] = [busyMs(pid), performance.now()];
    await sleep(seconds * 100);
    shares.push(((busyMs(pid) - before) / (performance.now() - at)) * 100);
  }
  return median(shares);
}

/** Names that the agent knows of, and what found no room. */
async function held({ runDir }: Agent): Promise<{ names: number; refused: number }> {
  const client = new AgentClient(join(runDir, 'agent.sock'));
  try {
    const { names } = await client.status();
    return { names: Number(names?.names ?? 0), refused: Number(names?.refused ?? 0) };
  } finally {
    client.close();
  }
}

export async function memory({ pods, names, seconds }: Size = FULL): Promise<Result[]> {
  const bed = await NameBed.create(pods, names);
  try {
    const all = pods * names;
    const agent = await bed.filter(['--names', String(Math.ceil(all * 1.25))]);
    const { pid } = agent.child;
    await sleep(3000);
    const before = residentMiB(pid);
    const idle = await busyShare(agent, seconds / 3);
    let learned = 0;
    for (let i = 0; i < pods; i++) learned += await bed.ask(i, 'one', names);
    progress(`${learned} names of ${pods} pods are answered`);
    await sleep(3000);
    const { names: known, refused } = await held(agent);
    if (known < 0.98 * all) throw new Error(`${known} of ${all} names are known; refused: ${refused}`);
    const asking = bed.ask(0, 'one', names, RATE, RATE * (seconds + 2));
    await sleep(1000);
    const busy = await busyShare(agent, seconds);
    const answered = await asking;
    // What starting left behind may be given back meanwhile.
    const rss = Math.max(0, residentMiB(pid) - before);
    const kernel = await kernelMiB(bed.world.pinDir);
    const text = `${known} names of ${pods} pods`;
    progress(`${text}: ${kernel.toFixed(1)} MiB in the kernel, ${rss.toFixed(1)} MiB more of the agent`);
    progress(`the agent at ${RATE} answers a second: ${busy.toFixed(1)} % of a core, ${idle.toFixed(1)} % before`);
    await agent.stop();
    await agent.detach();
    return [
      atMost('names in the kernel', kernel, 'MiB', text, KERNEL_MOST_MIB),
      atMost('the agent’s memory for them', rss, 'MiB', `resident; ${before.toFixed(0)} MiB before`, KERNEL_MOST_MIB),
      atMost(
        `the agent’s processor time, ${RATE} answers a second`,
        busy,
        '% of a core',
        `${text}; ${idle.toFixed(1)} % without names or answers; ${answered} answers`,
        CPU_MOST,
      ),
    ];
  } finally {
    await bed.close();
  }
}
