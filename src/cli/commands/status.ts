/** egressctl status */
import { counted } from '../../counted.js';
import Table from 'cli-table3';
import { type Command, Option } from 'commander';
import type { StatusResponse } from '../../proto/status.js';
import { millisOf, PLAIN } from '../flows/format.js';
import { duration, line, type Paint, painter, safe, toJson } from '../common/output.js';
import { type Globals, isCluster } from '../common/globals.js';

/** Share of a map's entries above which its fill level is printed in red. */
const NEARLY_FULL = 0.8;

export function statusCommand(program: Command): void {
  const command = program
    .command('status')
    .description('Show the state of the agent: policies, pods, hooks, flows, lost events and problems.')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'));
  command.action(async () => {
    const flags = command.optsWithGlobals<Globals & { output: string }>();
    if (await isCluster(flags)) {
      await clusterText(flags);
      return;
    }
    const { AgentClient } = await import('../../rpc/transport/client.js');
    const client = new AgentClient(flags.socket);
    try {
      const status = await client.status();
      await line(flags.output === 'json' ? toJson(status, 2) : statusText(status, painter(flags.color)));
    } finally {
      client.close();
    }
  });
}

/** Prints the full status of one node with --node, otherwise a table with one line for each node. */
async function clusterText(flags: Globals & { output: string }): Promise<void> {
  // The client of the Kubernetes API takes longer to load than everything else, so it is loaded only here.
  const { askCluster, nodesTable } = await import('../cluster/status.js');
  const nodes = await askCluster(flags);
  const paint = painter(flags.color);
  const only = flags.node === undefined ? undefined : nodes.find((n) => n.status)?.status;
  if (flags.output === 'json') await line(toJson({ nodes }, 2));
  else await line(only ? statusText(only, paint) : nodesTable(nodes, paint));
}

type Endpoints = NonNullable<StatusResponse['endpoints']>;

/** Maximum number of endpoints that are listed behind a counter. */
const NAMED = 3;

/** Maximum number of endpoints that are listed as beyond their share of the flow table. */
const NAMED_OVER = 5;

/** Rows about the flow table: its fill level, the endpoints beyond their share, and the flows not stored. */
function tableRows(s: StatusResponse, paint: Paint): [string, string][] {
  const max = Number(s.maps?.find((m) => m.name === 'flows')?.max ?? 0);
  const share = s.flow_share ?? 0;
  // An agent of an older version does not report these fields.
  if (max === 0 || share === 0) return [];
  const full = Number(s.flows_in_table ?? 0) / max;
  const percent = percentOf(full);
  const rows: [string, string][] = [
    [
      'Flow table',
      `${full > NEARLY_FULL ? paint('red', percent) : percent} of ${max} entries, ${share} for each endpoint in any case; ${s.flows_evicted ?? 0} made room for others, ${counted(Number(s.flows_busy ?? 0), 'change')} lost`,
    ],
  ];
  const beyondShare = (s.endpoints ?? []).filter((e) => (e.flows ?? 0) > share);
  beyondShare.sort((a, b) => (b.flows ?? 0) - (a.flows ?? 0));
  if (beyondShare.length > 0) {
    const named = beyondShare.slice(0, NAMED_OVER).map((e) => `${safe(e.pod)} ${e.flows}`);
    if (beyondShare.length > NAMED_OVER) named.push(`${beyondShare.length - NAMED_OVER} more`);
    rows.push(['Over share', named.join(', ')]);
  }
  const notStored = Number(s.flows_not_stored ?? 0);
  if (notStored > 0) {
    // A pod that scans ports is expected to lose flows. A full table is not expected.
    const style = full > NEARLY_FULL || beyondShare.length > 0 ? 'red' : 'yellow';
    const what = `${counted(notStored, 'flow')} found no room in the table: each packet is judged anew`;
    const advice = `denied ones have a quarter of a share; for others restart the agent with --map-size flows=${max * 2}`;
    rows.push(['Not stored', paint(style, `${what} (${advice})`)]);
  }
  return rows;
}

/** Addresses of resolvers that are listed. */
const NAMED_RESOLVERS = 6;

/** Rows about learned names. */
function nameRows(s: StatusResponse, paint: Paint): [string, string][] {
  // An agent of an older version does not report them.
  if (!s.names) return [];
  const { names = 0, share = 0, refused = 0, overflow = 0, untrusted = 0, seeded = 0, resolvers = [] } = s.names;
  const max = Number(s.maps?.find((m) => m.name === 'names')?.max ?? 0);
  const full = max === 0 ? 0 : names / max;
  const percent = full > NEARLY_FULL ? paint('red', percentOf(full)) : percentOf(full);
  const extra = Number(seeded) > 0 ? `, ${counted(Number(seeded), 'record')} resolved by the agent` : '';
  const rows: [string, string][] = [
    ['Names', `${names} known, ${percent} of the room, ${share} for each endpoint in any case${extra}`],
  ];
  const list = resolvers.slice(0, NAMED_RESOLVERS).map((r) => {
    const address = r.address.includes(':') ? `[${r.address}]` : r.address;
    return `${safe(address)}:${r.port} (${safe(r.source)})`;
  });
  if (resolvers.length > NAMED_RESOLVERS) list.push(`${resolvers.length - NAMED_RESOLVERS} more`);
  rows.push(['Resolvers', list.join(', ') || paint('yellow', 'none is trusted: no name is learned')]);
  const lost = [
    ...(Number(refused) > 0 ? [`${refused} found no room${highest(s.endpoints ?? [], 'names_refused')}`] : []),
    ...(Number(overflow) > 0 ? [`${overflow} addresses with too many names`] : []),
  ];
  if (lost.length > 0) rows.push(['Not learned', paint('yellow', lost.join(', '))]);
  if (Number(untrusted) > 0) {
    const what = `${counted(Number(untrusted), 'DNS answer')} of others, or that nobody asked for`;
    rows.push(['Not trusted', paint('yellow', `${what}${highest(s.endpoints ?? [], 'answers_untrusted')}`)]);
  }
  const strange = (s.names.seen ?? []).slice(0, NAMED_RESOLVERS).map(({ address, port, pod, untrusted: answers }) => {
    const by = pod ? ` by ${safe(pod)}` : '';
    const what =
      Number(answers ?? 0) > 0 ? `${counted(Number(answers), 'answer')} to ${safe(pod || 'nobody')}` : `used${by}`;
    return `${safe(address.includes(':') ? `[${address}]` : address)}:${port} (${what})`;
  });
  if (strange.length > 0) rows.push(['Strangers', paint('yellow', `${strange.join(', ')}: not learned from`)]);
  const events = Number(s.names.dns_events_lost ?? 0);
  if (events > 0) rows.push(['Lost queries', `${counted(events, 'report')} of DNS messages found no room`]);
  return rows;
}

/** Rows about what connections say: none where no rule ever asked for it. */
function saidRows(s: StatusResponse, paint: Paint): [string, string][] {
  const said = s.said ?? {};
  const of = (key: keyof typeof said) => Number(said[key] ?? 0);
  if (of('inspected') === 0 && of('judged') === 0 && of('pending') === 0) return [];
  const audited = of('audited') > 0 ? `, ${paint('yellow', `${of('audited')} pass in audit only`)}` : '';
  const rows: [string, string][] = [
    [
      'Layer 7',
      `${counted(of('inspected'), 'connection')} inspected, ${of('pending')} pending; ${of('judged')} judged, ${of('denied')} denied${audited}`,
    ],
  ];
  const unjudged = [
    ...(of('oversize') > 0 ? [`${of('oversize')} oversize: denied`] : []),
    ...(of('without_buffer') > 0
      ? [`${counted(of('without_buffer'), 'packet')} found no buffer: sent again by TCP and QUIC`]
      : []),
    ...(of('ech_without_room') > 0
      ? [`${counted(of('ech_without_room'), 'configuration')} of ECH found no room: closed until they are over`]
      : []),
  ];
  if (unjudged.length > 0) rows.push(['Not judged', paint('yellow', unjudged.join(', '))]);
  if (of('events_lost') > 0)
    rows.push(['Lost layer 7', `${counted(of('events_lost'), 'report')} of what connections say found no room`]);
  return rows;
}

function ledgerRows({ ledger }: StatusResponse, ago: (ms: number) => string, paint: Paint): [string, string][] {
  if (!ledger?.began_at) return [];
  const overflow = Number(ledger.overflow ?? 0);
  const rest = overflow > 0 ? `; ${paint('yellow', `${counted(overflow, 'flow')} without an edge of their own`)}` : '';
  return [['Ledger', `${counted(ledger.edges ?? 0, 'edge')}, begun ${ago(millisOf(ledger.began_at))}${rest}`]];
}

/** A row for each export of flows. */
function exportRows(s: StatusResponse, paint: Paint, now: number): [string, string][] {
  return (s.exports ?? []).map((e) => {
    const lost = Object.entries(e.lost ?? {}).filter(([, n]) => Number(n) > 0);
    const losses = lost.map(([where, n]) => `${n} ${safe(where)}`).join(', ');
    const state = e.failing_since
      ? paint('red', `failing for ${duration((now - millisOf(e.failing_since)) * 1e6)}: ${safe(e.last_error ?? '')}`)
      : `${counted(Number(e.exported ?? 0), 'record')} taken, ${e.queued ?? 0} wait`;
    const more = e.failing_since ? `, ${e.exported ?? 0} taken, ${e.queued ?? 0} wait` : '';
    const missing = losses === '' ? '' : `; ${paint('yellow', `lost: ${losses}`)}`;
    return ['Export', `${safe(e.target)}: ${state}${more}${missing}`];
  });
}

function percentOf(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)}%`;
}

/** The endpoints with the highest values of a counter, in brackets. */
function highest(
  endpoints: Endpoints,
  counter: 'lost_events' | 'unproven' | 'names_refused' | 'answers_untrusted',
): string {
  const affected = endpoints
    .filter((e) => Number(e[counter] ?? 0) > 0)
    .sort((a, b) => Number(b[counter]) - Number(a[counter]));
  if (affected.length === 0) return '';
  const named = affected.slice(0, NAMED).map((e) => `${safe(e.pod)} ${e[counter]}`);
  return ` (${[...named, ...(affected.length > NAMED ? ['…'] : [])].join(', ')})`;
}

/** Formats the status of one agent. @param now milliseconds since the epoch */
export function statusText(s: StatusResponse, paint: Paint, now: number = Date.now()): string {
  const endpoints = s.endpoints ?? [];
  const pods = endpoints.filter((e) => !e.pod.startsWith('node/'));
  const enforced = pods.filter((e) => e.state === 'enforced').length;
  const [attached, expected] = [s.hooks_attached ?? 0, s.hooks_expected ?? 0];
  const [staged, refused] = [s.policies_staged ?? 0, s.policies_refused ?? 0];
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
      `${s.policies_in_force ?? 0} in force${staged === 0 ? '' : ` (${staged} staged)`}, ${good(refused === 0, `${refused} refused`)}; epoch ${s.epoch ?? 0}, ${s.applied_at ? `applied ${ago(millisOf(s.applied_at))}` : 'not applied yet'}`,
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
    ...tableRows(s, paint),
    ...nameRows(s, paint),
    ...saidRows(s, paint),
    ...ledgerRows(s, ago, paint),
    [
      'Lost events',
      `${good(lost === 0, `${lost} in the kernel's ring`)}${highest(endpoints, 'lost_events')}, ${s.lost_in_queues ?? 0} by slow readers`,
    ],
    [
      'Drops',
      Object.entries(s.drops ?? {})
        .map(([reason, n]) => `${reason} ${n}`)
        .join(', ') || 'none',
    ],
  ];
  rows.push(...exportRows(s, paint, now));
  const { api, gate } = s;
  if (api) {
    const kinds = api.kinds ?? [];
    const objects = kinds.reduce((n, k) => n + Number(k.objects ?? 0), 0);
    const followed = `${counted(objects, 'object')} of ${counted(kinds.length, 'kind')}`;
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
    rows.push([
      'CNI gate',
      `${text}; ${counted(Number(passed), 'pod')} passed, ${refused} refused, ${timedOut} gave up, ${pending} wait`,
    ]);
  }
  const unproven = endpoints.reduce((n, e) => n + (e.unproven ?? 0), 0);
  if (unproven > 0) {
    const what = unproven === 1 ? '1 connection is' : `${unproven} connections are`;
    rows.push([
      'Judged anew',
      `${what} older than the agent and not shown to be a peer's${highest(endpoints, 'unproven')}`,
    ]);
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
    const percent = percentOf(share);
    maps.push([m.name, String(m.entries ?? 0), String(m.max), share > NEARLY_FULL ? paint('red', percent) : percent]);
  }
  out.push('', maps.toString());
  if (problems.length > 0) out.push('', paint('bold', 'Problems:'), ...problems.map((p) => `  ${safe(p.text)}`));
  if ((s.hook_problems ?? []).length > 0)
    out.push('', paint('bold', 'Hooks:'), ...(s.hook_problems ?? []).map((p) => `  ${safe(p)}`));
  return out.join('\n');
}
