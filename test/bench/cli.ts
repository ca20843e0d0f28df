/** What commands of egressctl cost, most of which is loading modules: CPU time, against that of a node that runs nothing. */
import { NOTHING_SEEN } from '../edges/given.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgentError } from '../../src/errors.js';
import { FlowHub } from '../../src/flow/hub/hub.js';
import { makeLogger } from '../../src/log.js';
import { RpcServer } from '../../src/rpc/server.js';
import type { AgentStatus, AgentView } from '../../src/rpc/view.js';
import { CLUSTER, TO_API, webPolicy } from '../cli/tool.js';
import { compiled } from '../netns/shell.js';
import { atMost, median, progress, type Result } from './result.js';

const ROUNDS = 9;
const CTL = join(compiled, 'src/cli/main.js');
/** Of a process at its end, to a pipe of its own. */
const METER = "process.on('exit', () => require('node:fs').writeSync(3, JSON.stringify(process.cpuUsage())));";

interface Row {
  readonly name: string;
  /** At most so many times a bare node. */
  readonly most: number;
  readonly args: readonly string[];
}

/** By turns, so that what else the machine does meets all alike. */
export async function cli(): Promise<Result[]> {
  const dir = mkdtempSync(join(tmpdir(), 'egress-agent-bench-cli-'));
  const socket = join(dir, 'agent.sock');
  const manifests = join(dir, 'manifests.yaml');
  const table = join(dir, 'tests.yaml');
  writeFileSync(manifests, `${CLUSTER}---\n${webPolicy(TO_API)}`);
  const meter = join(dir, 'meter.cjs');
  writeFileSync(meter, METER);
  writeFileSync(table, 'manifests: manifests.yaml\ntests: ["shop/web → shop/api:8080: allow"]\n');
  const local = ['--socket', socket];
  const rows: readonly Row[] = [
    { name: '--help', most: 4, args: ['--help'] },
    { name: 'completion', most: 4, args: ['completion', 'bash'] },
    { name: 'flows, of the local agent', most: 8, args: [...local, 'flows'] },
    { name: 'status, of the local agent', most: 8, args: [...local, 'status'] },
    { name: 'validate', most: 10, args: ['validate', manifests] },
    { name: 'lint', most: 10, args: ['lint', manifests] },
    { name: 'test', most: 10, args: ['test', table] },
    {
      name: 'explain --manifests',
      most: 10,
      args: ['explain', '--manifests', manifests, '--from', 'shop/web', '--to', 'shop/api:8080'],
    },
  ];
  const server = new RpcServer({ hub: new FlowHub({ nodeName: 'bench' }), view: IDLE, log: makeLogger('error') });
  await server.listen(socket);
  try {
    const bare: number[] = [];
    const taken = rows.map((): number[] => []);
    for (let n = 0; n < ROUNDS; n++) {
      bare.push(await cpuTime(meter, ['-e', '0']));
      for (const [i, { args }] of rows.entries()) taken[i]?.push(await cpuTime(meter, [CTL, ...args]));
    }
    const floor = median(bare);
    return rows.map(({ name, most }, i) => {
      const ms = median(taken[i] as number[]);
      const what = `${Math.round(ms)} ms of CPU time, ${Math.round(floor)} ms of node -e 0`;
      progress(`egressctl ${name}: ${what}`);
      return atMost(`egressctl ${name}, against a bare node`, ms / floor, 'x', what, most);
    });
  } finally {
    await server.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** @returns milliseconds */
async function cpuTime(meter: string, args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, ['--require', meter, ...args], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  let text = '';
  child.stdio[3]?.on('data', (data: Buffer) => (text += data.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new AgentError('INTERNAL', `egressctl ${args.join(' ')} ended with ${code}`);
  const { user, system } = JSON.parse(text) as NodeJS.CpuUsage;
  return (user + system) / 1000;
}

const STATUS: AgentStatus = {
  version: '0',
  nodeName: 'bench',
  mode: 'manifests',
  source: '/policies',
  pid: 1,
  startedAt: 0,
  uptimeNs: 1,
  attachMode: 'tcx',
  denyResponse: 'drop',
  endpoints: [],
  hooks: { attached: 0, expected: 0, problems: [] },
  policies: { inForce: 0, staged: 0, refused: 0, problems: [] },
  epoch: 0,
  maps: [],
  flows: { perSecond: 0, seen: 0, inTable: 0, share: 0, notStored: 0, evicted: 0, busy: 0 },
  lost: { ring: [], queue: 0 },
  drops: {},
  staleness: { appliedAt: 0 },
  namespaces: 0,
  names: {
    names: 0,
    pages: 0,
    share: 0,
    pageShare: 0,
    refused: 0,
    overflow: 0,
    untrusted: 0,
    seeded: 0,
    resolvers: [],
    seen: [],
    dnsEventsLost: 0,
  },
  said: {
    inspected: 0,
    judged: 0,
    denied: 0,
    pending: 0,
    oversize: 0,
    withoutBuffer: 0,
    echWithoutRoom: 0,
    audited: 0,
    eventsLost: 0,
  },
  ledger: { beganMs: 1_700_000_000_000, edges: 3, max: 20_000, overflow: 0, forgotten: 0 },
};

function unused(): never {
  throw new AgentError('INTERNAL', 'the benchmark does not ask for it');
}

/** An agent with no pods. */
const IDLE: AgentView = {
  ...NOTHING_SEEN,
  status: () => STATUS,
  policies: () => [],
  explain: unused,
  snapshot: unused,
  names: unused,
};
