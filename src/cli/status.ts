/** egressctl status */
import Table from 'cli-table3';
import { type Command, Option } from 'commander';
import { AgentClient } from '../rpc/client.js';
import type { StatusResponse } from '../rpc/messages.js';
import { millisOf, PLAIN } from './flow-format.js';
import { duration, line, type Paint, painter, safe, toJson } from './output.js';
import { type Globals, isCluster } from './program.js';

/** A map fuller than this is worth a colour. */
const NEARLY_FULL = 0.8;

export function statusCommand(program: Command): void {
  const command = program
    .command('status')
    .description('Show what the agent enforces, where, and what it could not do.')
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['text', 'json']).default('text'));
  command.action(async () => {
    const flags = command.optsWithGlobals<Globals & { output: string }>();
    if (isCluster(flags)) {
      await clusterText(flags);
      return;
    }
    const client = new AgentClient(flags.socket);
    try {
      const status = await client.status();
      await line(flags.output === 'json' ? toJson(status, 2) : statusText(status, painter(flags.color)));
    } finally {
      client.close();
    }
  });
}

/** Of one node everything, of several a line each. */
async function clusterText(flags: Globals & { output: string }): Promise<void> {
  // The client of the Kubernetes API takes longer to load than all the rest: only where it is used.
  const { askCluster, nodesTable } = await import('./cluster-status.js');
  const nodes = await askCluster(flags);
  const paint = painter(flags.color);
  const only = flags.node === undefined ? undefined : nodes.find((n) => n.status)?.status;
  if (flags.output === 'json') await line(toJson({ nodes }, 2));
  else await line(only ? statusText(only, paint) : nodesTable(nodes, paint));
}

export function statusText(s: StatusResponse, paint: Paint, now: number = Date.now()): string {
  const endpoints = s.endpoints ?? [];
  const pods = endpoints.filter((e) => !e.pod.startsWith('node/'));
  const enforced = pods.filter((e) => e.state === 'enforced').length;
  const [attached, expected] = [s.hooks_attached ?? 0, s.hooks_expected ?? 0];
  const refused = s.policies_refused ?? 0;
  const lost = (s.lost_in_ring ?? []).reduce((n: number, v) => n + Number(v), 0);
  const problems = s.problems ?? [];
  const good = (ok: boolean, text: string) => paint(ok ? 'green' : 'red', text);
  const ago = (ms: number) => `${duration((now - ms) * 1e6)} ago`;
  const rows: [string, string][] = [
    [
      'Agent',
      `egress-agent ${safe(s.version)} on ${safe(s.node_name)}, pid ${s.pid}, up ${duration(Number(s.uptime_ns))}`,
    ],
    ['Policies from', `${s.mode} in ${safe(s.source)}`],
    [
      'Policies',
      `${s.policies_in_force ?? 0} in force, ${good(refused === 0, `${refused} refused`)}; epoch ${s.epoch ?? 0}, ${s.applied_at ? `applied ${ago(millisOf(s.applied_at))}` : 'not applied yet'}`,
    ],
    ['Pods', `${pods.length} on this node, ${enforced} selected by policies`],
    [
      'Hooks',
      `${good(attached === expected, `${attached} of ${expected} attached`)} (${s.attach_mode}); denied packets: ${s.deny_response}`,
    ],
    [
      'Flows',
      `${(s.flows_per_second ?? 0).toFixed(1)}/s, ${s.flows_seen ?? 0} seen, ${s.flows_in_table ?? 0} in the table`,
    ],
    ['Lost events', `${good(lost === 0, `${lost} in the kernel's ring`)}, ${s.lost_in_queues ?? 0} by slow readers`],
    [
      'Drops',
      Object.entries(s.drops ?? {})
        .map(([reason, n]) => `${reason} ${n}`)
        .join(', ') || 'none',
    ],
  ];
  const { api, gate } = s;
  if (api) {
    const kinds = api.kinds ?? [];
    const objects = kinds.reduce((n, k) => n + Number(k.objects ?? 0), 0);
    const followed = `${objects} objects of ${kinds.length} kinds`;
    const why = api.error === undefined ? '' : `: ${safe(api.error)}`;
    rows.splice(2, 0, [
      'API server',
      api.stale_since
        ? paint('red', `not followed since ${ago(millisOf(api.stale_since))}${why}`)
        : api.synced
          ? `followed, ${followed}`
          : paint('red', `not known yet${why}`),
    ]);
  }
  if (gate) {
    const { passed = 0, refused = 0, timed_out: timedOut = 0, pending = 0 } = gate;
    const where = gate.installed ? `installed in ${safe(gate.file ?? '')}` : 'not installed';
    const text = gate.error === undefined ? where : paint('red', `${where}: ${safe(gate.error)}`);
    rows.push(['CNI gate', `${text}; ${passed} pods passed, ${refused} refused, ${timedOut} gave up, ${pending} wait`]);
  }
  if (s.failing_since) {
    rows.push([
      'Stale',
      paint('red', `policies cannot be applied since ${ago(millisOf(s.failing_since))}: ${safe(s.last_error ?? '')}`),
    ]);
  }
  const out = rows.map(([k, v]) => `${paint('bold', `${k}:`.padEnd(15))}${v}`);

  if (endpoints.length > 0) {
    const t = new Table({
      head: ['ENDPOINT', 'INTERFACE', 'STATE', 'POLICIES', 'HOOKS'],
      style: { head: [], border: [], compact: true },
      chars: PLAIN,
    });
    for (const e of endpoints) {
      const state = e.state === 'missing' ? paint('red', e.state) : e.state;
      t.push([safe(e.pod), safe(e.interface), state, String(e.policies ?? 0), (e.hooks ?? []).join(', ')]);
    }
    out.push('', t.toString());
  }
  const maps = new Table({
    head: ['MAP', 'ENTRIES', 'ROOM', 'FULL'],
    style: { head: [], border: [], compact: true },
    chars: PLAIN,
  });
  for (const m of s.maps ?? []) {
    const share = Number(m.entries ?? 0) / Number(m.max);
    const percent = `${(share * 100).toFixed(share < 0.1 ? 1 : 0)}%`;
    maps.push([m.name, String(m.entries ?? 0), String(m.max), share > NEARLY_FULL ? paint('red', percent) : percent]);
  }
  out.push('', maps.toString());
  if (problems.length > 0) out.push('', paint('bold', 'Problems:'), ...problems.map((p) => `  ${safe(p.text)}`));
  if ((s.hook_problems ?? []).length > 0)
    out.push('', paint('bold', 'Hooks:'), ...(s.hook_problems ?? []).map((p) => `  ${safe(p)}`));
  return out.join('\n');
}
