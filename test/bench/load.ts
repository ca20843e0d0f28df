/** A million CIDRs: entries a second into the kernel, and what the agent needs for it. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Compiler } from '../../src/compile/index.js';
import { KernelMapStore } from '../../agent/maps/store.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { loadForTest } from '../engines/engine.js';
import { compiled, until } from '../netns/shell.js';
import { atLeast, atMost, median, progress, type Result } from './result.js';
import { cidr, world } from './worlds.js';

const CIDRS = 1_000_000;
const ROUNDS = 3;

export async function load(): Promise<Result[]> {
  return [entriesASecond(), await memory()];
}

function entriesASecond(): Result {
  const rates: number[] = [];
  const { ir, snapshot } = world(100, CIDRS);
  const image = new Compiler().compile(ir, snapshot, ['default/web']);
  for (let i = 0; i < ROUNDS; i++) {
    const programs = loadForTest();
    const store = new KernelMapStore(programs.maps);
    const { written, millis } = store.apply(image, []);
    rates.push((written / millis) * 1000);
    progress(`${written} entries in ${Math.round(millis)} ms`);
    store.close();
    programs.close();
  }
  return atLeast('1,000,000 CIDRs loaded', median(rates), '/s', 'entries of an Image into empty maps', 300_000);
}

/** The whole agent, from manifests. */
async function memory(): Promise<Result> {
  const dir = `/tmp/egress-agent-bench-${process.pid}`;
  const pins = `/sys/fs/bpf/egress-agent-bench-${process.pid}`;
  mkdirSync(join(dir, 'manifests'), { recursive: true });
  for (let p = 0; p < 100; p++) {
    const to = Array.from({ length: CIDRS / 100 }, (_, i) => `    - ipBlock: {cidr: ${cidr(p * (CIDRS / 100) + i)}}`);
    const head = `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: default, name: p${p}}\nspec:\n  podSelector: {}\n  policyTypes: [Egress]\n  egress:\n  - to:\n`;
    writeFileSync(join(dir, 'manifests', `p${p}.yaml`), `${head}${to.join('\n')}\n`);
  }
  writeFileSync(
    join(dir, 'manifests', 'pod.yaml'),
    'apiVersion: v1\nkind: Pod\nmetadata: {namespace: default, name: web}\nspec: {nodeName: bench}\nstatus: {podIP: 10.244.0.1}\n',
  );
  const args = [
    '--manifests',
    join(dir, 'manifests'),
    '--run-dir',
    join(dir, 'run'),
    '--pin-dir',
    pins,
    '--node-name',
    'bench',
  ];
  const agent = spawn(process.execPath, [join(compiled, 'agent/main.js'), ...args], { stdio: 'ignore' });
  const client = new AgentClient(join(dir, 'run/agent.sock'));
  try {
    await until('the agent answers', () => client.status(), 120_000);
    // What start-up left behind is given back within the first seconds.
    await new Promise((resolve) => setTimeout(resolve, 5000));
    const status = readFileSync(`/proc/${agent.pid}/status`, 'utf8');
    const kib = (field: string) => Number(new RegExp(`^${field}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? 0);
    const [rss, peak] = [kib('VmRSS') / 1024, kib('VmHWM') / 1024];
    progress(`agent: ${Math.round(rss)} MiB, peak ${Math.round(peak)} MiB`);
    return atMost(
      'memory of the agent with 1,000,000 CIDRs',
      rss,
      'MiB',
      `resident; its peak while loading: ${Math.round(peak)} MiB`,
      600,
    );
  } finally {
    client.close();
    agent.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
    rmSync(pins, { recursive: true, force: true });
  }
}
