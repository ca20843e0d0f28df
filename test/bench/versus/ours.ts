/** The agent, as NetworkPolicies that allow the same networks. */
import { readFileSync } from 'node:fs';
import { Agent } from '../../netns/agent.js';
import { SWITCHED } from './bed.js';
import type { Competitor } from './competitors.js';

/** Networks in one policy: an object of the API server is no larger than a megabyte or so. */
const NETWORKS_A_POLICY = 1000;

export const NAME = 'egress-agent';

/** One that lets the pods reach these networks. */
export function policy(name: string, networks: readonly string[]): Record<string, unknown> {
  const egress = networks.length === 0 ? [] : [{ to: networks.map((cidr) => ({ ipBlock: { cidr } })) }];
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace: 'default', name },
    spec: { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Egress'], egress },
  };
}

/** As many as it takes. */
export function policies(networks: readonly string[]): Record<string, unknown>[] {
  const list: Record<string, unknown>[] = [];
  for (let i = 0; i < networks.length; i += NETWORKS_A_POLICY)
    list.push(policy(`allowed-${i}`, networks.slice(i, i + NETWORKS_A_POLICY)));
  return list;
}

let agent: Agent | undefined;

/** Its process starts before it is asked to load: the others' kernels are there, too. */
export const ours: Competitor = {
  name: NAME,
  filters: true,
  async prepare(bed) {
    agent = await Agent.start(bed.world, { follow: false });
  },
  async load(bed, networks) {
    bed.world.write('switch.yaml', [policy('switch', [])]);
    bed.world.write('allowed.yaml', policies(networks));
    await agent?.settled();
  },
  async change(bed, allow) {
    bed.world.write('switch.yaml', [policy('switch', allow ? [`${SWITCHED}/32`] : [])]);
  },
  async unload(bed) {
    for (const file of ['allowed.yaml', 'switch.yaml']) bed.world.remove(file);
    await agent?.stop();
    await agent?.detach();
    agent = undefined;
  },
  resident() {
    const status = readFileSync(`/proc/${agent?.child.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s*(\d+)/m.exec(status)?.[1] ?? 0) / 1024;
  },
  busy() {
    // utime and stime, in hundredths of a second (proc(5)); what stands before them may hold spaces, in parentheses
    const stat = readFileSync(`/proc/${agent?.child.pid}/stat`, 'utf8');
    const [utime = 0, stime = 0] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13)
      .map(Number);
    return (utime + stime) * 10;
  },
  pid: () => agent?.child.pid,
};
