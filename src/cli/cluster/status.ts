/** egressctl status on a cluster: one line for each node. */
import Table from 'cli-table3';
import { AgentError } from '../../errors.js';
import { clusterStatus } from '../../relay/nodes/cluster.js';
import type { ClusterNode, StatusResponse } from '../../proto/status.js';
import { Cluster } from './cluster.js';
import { PLAIN } from '../flows/format.js';
import { type Paint, safe } from '../common/output.js';
import type { ClusterFlags } from '../common/target.js';

/**
 * Asks every node for its status, and reports unreachable nodes on standard error.
 * @throws AgentError AGENT if no node is reachable
 */
export async function askCluster(flags: ClusterFlags): Promise<ClusterNode[]> {
  const cluster = await Cluster.open(flags);
  try {
    const answers = await clusterStatus(cluster.agents);
    const absent = cluster.absent.map(
      ({ node, why }): ClusterNode => ({ name: node, state: 'NODE_UNAVAILABLE', message: `${node}: ${why}` }),
    );
    const nodes = [...answers, ...absent].sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { message } of nodes) if (message !== undefined) process.stderr.write(`egressctl: ${safe(message)}\n`);
    if (!nodes.some((n) => n.status)) throw new AgentError('AGENT', 'no node can be reached');
    return nodes;
  } finally {
    cluster.close();
  }
}

/** Formats the nodes as a table, followed by their problems. */
export function nodesTable(nodes: readonly ClusterNode[], paint: Paint): string {
  const t = new Table({
    head: ['NODE', 'STATE', 'VERSION', 'POLICIES', 'PODS', 'HOOKS', 'FLOWS/S', 'LOST'],
    style: { head: [], border: [], compact: true },
    chars: PLAIN,
  });
  for (const node of nodes) t.push(node.status ? row(node, node.status, paint) : unreachable(node, paint));
  const problems = nodes.flatMap((n) => [
    ...(n.status?.problems ?? []).map((p) => p.text),
    ...(n.status?.hook_problems ?? []).map((p) => `${n.name}: ${p}`),
    ...(n.status?.failing_since ? [`${n.name}: policies cannot be applied: ${n.status.last_error ?? ''}`] : []),
  ]);
  // Every node refuses the same policy for the same reason, so each text is printed once.
  const lines = [...new Set(problems)].map((p) => `  ${safe(p)}`);
  return [t.toString(), ...(lines.length === 0 ? [] : ['', paint('bold', 'Problems:'), ...lines])].join('\n');
}

function row({ name }: ClusterNode, s: StatusResponse, paint: Paint): string[] {
  const pods = (s.endpoints ?? []).filter((e) => !e.pod.startsWith('node/'));
  const enforced = pods.filter((e) => e.state === 'enforced').length;
  const [attached, expected] = [s.hooks_attached ?? 0, s.hooks_expected ?? 0];
  const [staged, refused] = [s.policies_staged ?? 0, s.policies_refused ?? 0];
  const lost = (s.lost_in_ring ?? []).reduce((n: number, v) => n + Number(v), 0);
  const good = (ok: boolean, text: string) => (ok ? text : paint('red', text));
  return [
    safe(name),
    s.failing_since ? paint('red', 'stale') : paint('green', 'connected'),
    safe(s.version),
    `${s.policies_in_force ?? 0}${staged === 0 ? '' : ` (${staged} staged)`}${refused === 0 ? '' : `, ${paint('red', `${refused} refused`)}`}`,
    `${enforced}/${pods.length}`,
    good(attached === expected, `${attached}/${expected}`),
    (s.flows_per_second ?? 0).toFixed(1),
    good(lost === 0, String(lost)),
  ];
}

function unreachable({ name, state }: ClusterNode, paint: Paint): string[] {
  const word = state === 'NODE_ERROR' ? 'error' : 'unreachable';
  return [safe(name), paint('red', word), '-', '-', '-', '-', '-', '-'];
}
