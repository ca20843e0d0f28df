/** From a policy file that is written to the first packet that feels it, with 1,000 policies in force. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Agent } from '../netns/agent.js';
import { compiled } from '../netns/shell.js';
import { servers, World } from '../netns/world.js';
import { cidr } from './worlds.js';
import { atMost, median, percentile, progress, type Result } from './result.js';

const POLICIES = 1000;
const FLIPS = 100;
const PORT = 9000;
const LOAD = join(compiled, 'bench-load');

/** Policies, each with ten CIDRs, all known to this node: every n-th selects the pod. */
export function policies(count: number, every: number): object[] {
  return Array.from({ length: count }, (_, p) => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace: 'default', name: `other-${p}` },
    spec: {
      podSelector: p % every === 0 ? {} : { matchLabels: { app: `app-${p}` } },
      policyTypes: ['Egress'],
      egress: [
        { to: Array.from({ length: 10 }, (_, i) => ({ ipBlock: { cidr: cidr(p * 10 + i) } })), ports: [{ port: 443 }] },
      ],
    },
  }));
}

export async function update(): Promise<Result[]> {
  const world = await World.create();
  try {
    const pod = await world.pod('web');
    const server = spawn(
      'nsenter',
      [`--net=/run/netns/${world.internet.netns}`, LOAD, 'serve', servers.one.ip4, String(PORT)],
      { stdio: 'ignore' },
    );
    world.write('others.yaml', policies(POLICIES, 10));
    const write = (allow: boolean) =>
      world.write('switch.yaml', [
        {
          apiVersion: 'networking.k8s.io/v1',
          kind: 'NetworkPolicy',
          metadata: { namespace: 'default', name: 'switch' },
          spec: {
            podSelector: { matchLabels: { app: 'web' } },
            policyTypes: ['Egress'],
            egress: allow ? [{ to: [{ ipBlock: { cidr: `${servers.one.ip4}/32` } }] }] : [],
          },
        },
      ]);
    write(false);
    const agent = await Agent.start(world);
    const client = spawn(
      'nsenter',
      [`--net=/run/netns/${pod.host.netns}`, LOAD, 'flip', servers.one.ip4, String(PORT)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const lines = createInterface({ input: client.stdout })[Symbol.asyncIterator]();
    /** Time of the next change of this kind, milliseconds since 1970; what was before `since` is not an answer. */
    const next = async (what: string, since: number): Promise<number> => {
      for (;;) {
        const { value, done } = await lines.next();
        if (done) throw new Error('the traffic ended');
        const [word, at] = String(value).split(' ');
        if (word === what && Number(at) / 1000 >= since) return Number(at) / 1000;
      }
    };
    await next('down', 0);
    const took: number[] = [];
    for (let i = 0; i < FLIPS; i++) {
      const allow = i % 2 === 0;
      const start = Date.now();
      write(allow);
      took.push((await next(allow ? 'up' : 'down', start)) - start);
      await new Promise((resolve) => setTimeout(resolve, 60 + (i % 7) * 5));
    }
    client.kill();
    server.kill();
    await agent.stop();
    const p99 = percentile(took, 99);
    progress(`policy file to packet: median ${median(took).toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`);
    return [
      atMost(
        'policy file written → enforced, p99',
        p99,
        'ms',
        `median ${median(took).toFixed(1)} ms of ${FLIPS} changes, ${POLICIES} policies in force`,
        50,
      ),
    ];
  } finally {
    await world.close();
  }
}
