/** Connections a second and throughput between two namespaces: with the agent, without, with iptables. */
import { execFileSync, spawn } from 'node:child_process';
import { join } from 'node:path';
import { Agent } from '../netns/agent.js';
import { compiled, until } from '../netns/shell.js';
import { type Pod, servers, World } from '../netns/world.js';
import { atLeast, median, progress, type Result } from './result.js';
import { policies } from './update.js';
import { cidr } from './worlds.js';

const POLICIES = 10_000;
const ROUNDS = 5;
const SECONDS = '2';
const PORT = 9000;
const LOAD = join(compiled, 'bench-load');

const allowed = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { namespace: 'default', name: 'bench' },
  spec: {
    podSelector: {},
    policyTypes: ['Egress'],
    egress: [{ to: [{ ipBlock: { cidr: `${servers.one.ip4}/32` } }] }],
  },
};

export async function tcp(): Promise<Result[]> {
  const world = await World.create();
  const inNet = (netns: string, ...command: string[]) => [`--net=/run/netns/${netns}`, ...command];
  const children = [
    spawn('nsenter', inNet(world.internet.netns, LOAD, 'serve', servers.one.ip4, String(PORT)), { stdio: 'ignore' }),
    spawn('nsenter', inNet(world.internet.netns, 'iperf3', '-s', '-B', servers.one.ip4), { stdio: 'ignore' }),
  ];
  try {
    const pod = await world.pod('web');
    await until('the server answers', async () => crr(pod, '0.1') > 0);
    world.write('others.yaml', policies(POLICIES, 1000));
    world.write('bench.yaml', [allowed]);

    const modes = { none: [] as number[], agent: [] as number[], iptables: [] as number[] };
    const rates = { none: [] as number[], agent: [] as number[] };
    for (let i = 0; i < ROUNDS; i++) {
      modes.none.push(crr(pod, SECONDS));
      rates.none.push(iperf(pod));
      iptables(world, true);
      modes.iptables.push(crr(pod, SECONDS));
      iptables(world, false);
      const agent = await Agent.start(world, { follow: false });
      modes.agent.push(crr(pod, SECONDS));
      rates.agent.push(iperf(pod));
      await agent.stop();
      await agent.detach();
      progress(
        `round ${i + 1}: ${JSON.stringify({ crr: { none: modes.none.at(-1), agent: modes.agent.at(-1), iptables: modes.iptables.at(-1) }, gbits: { none: rates.none.at(-1), agent: rates.agent.at(-1) } })}`,
      );
    }
    const [none, agent, chain] = [median(modes.none), median(modes.agent), median(modes.iptables)];
    const [bare, judged] = [median(rates.none), median(rates.agent)];
    return [
      atLeast(
        'TCP connect-request-close, 10,000 policies',
        agent / none,
        'x',
        `${Math.round(agent)}/s against ${Math.round(none)}/s without an agent; 10 of the policies select the pod`,
        0.95,
      ),
      atLeast(
        'the same against iptables with 10,000 rules',
        agent / chain,
        'x',
        `${Math.round(agent)}/s against ${Math.round(chain)}/s`,
        2,
      ),
      atLeast(
        'TCP throughput',
        judged / bare,
        'x',
        `${judged.toFixed(1)} Gbit/s against ${bare.toFixed(1)} Gbit/s without an agent`,
        0.97,
      ),
    ];
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await world.close();
  }
}

function crr(pod: Pod, seconds: string): number {
  const out = execFileSync(
    'nsenter',
    [`--net=/run/netns/${pod.host.netns}`, LOAD, 'crr', servers.one.ip4, String(PORT), seconds],
    { encoding: 'utf8' },
  );
  return Number(out);
}

/** Gbit/s. */
function iperf(pod: Pod): number {
  const out = execFileSync(
    'nsenter',
    [`--net=/run/netns/${pod.host.netns}`, 'iperf3', '-J', '-t', SECONDS, '-c', servers.one.ip4],
    { encoding: 'utf8' },
  );
  return (
    (JSON.parse(out) as { end: { sum_received: { bits_per_second: number } } }).end.sum_received.bits_per_second / 1e9
  );
}

/** One chain with as many rules, none of which matches: what an engine on iptables walks for each packet. */
function iptables(world: World, on: boolean): void {
  const rules = Array.from({ length: on ? POLICIES : 0 }, (_, i) => `-A FORWARD -p tcp -d ${cidr(i)} -j DROP`);
  const input = `*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n${rules.join('\n')}\nCOMMIT\n`;
  execFileSync('nsenter', [`--net=/run/netns/${world.node.netns}`, 'iptables-restore'], { input });
}
