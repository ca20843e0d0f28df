/** Shows what policies and rules have decided. */
import Table from 'cli-table3';
import { counted } from '../../counted.js';
import { activityOf } from '../../edges/activity.js';
import { timestampOf } from '../../edges/wire.js';
import { AgentError } from '../../errors.js';
import { spanText } from '../../staging/impact.js';
import { bothNames, parsePolicyName } from '../../staging/names.js';
import { type Hits, type PolicyUsage, type Usage, usageOf } from '../../staging/usage.js';
import { line, type Paint, painter, safe, toJson } from '../common/output.js';
import { PLAIN } from '../flows/format.js';
import type { ActivityFlags } from './flags.js';
import { withEvidence } from './evidence.js';
import { ago } from './show.js';

/** @throws AgentError USAGE, AGENT */
export async function showActivity(policy: string | undefined, flags: ActivityFlags): Promise<void> {
  const names = policy === undefined ? undefined : bothNames(parsePolicyName(policy));
  await withEvidence(flags, async (evidence) => {
    const objects = await evidence.objects(flags.namespace ?? []);
    const book = await evidence.edges({ since: timestampOf(Date.now() - flags.since) });
    for (const node of book.unavailable) process.stderr.write(`egressctl: ${safe(node)} did not answer\n`);
    const all = usageOf(objects, activityOf(book.histories()));
    const usage = chosen(all, names, flags);
    if (policy !== undefined && usage.policies.length + usage.gone.length === 0)
      throw new AgentError('USAGE', `there is no policy ${policy}, and there was none`);
    if (flags.output === 'json') await line(toJson(object(usage, book.beganMs), 2));
    else await line(text(usage, book.beganMs, flags.unused === true, painter(flags.color)));
  });
}

function chosen(
  usage: Usage,
  names: readonly string[] | undefined,
  { unused, staged, namespace }: ActivityFlags,
): Usage {
  const isNamed = (policy: string) => names === undefined || names.includes(policy);
  const policies = usage.policies
    .filter((p) => isNamed(p.policy) && (!staged || p.staged))
    .map((p) => (unused ? { ...p, rules: p.rules.filter((r) => r.connections === 0) } : p))
    .filter((p) => !unused || p.rules.length > 0 || p.hits.connections === 0);
  const inSpace = (policy: string) => !namespace || namespace.includes(policy.split('/')[1] ?? '');
  const gone = unused || staged ? [] : usage.gone.filter((g) => isNamed(g.policy) && inSpace(g.policy));
  return { policies, gone };
}

function text(
  { policies, gone }: Usage,
  beganMs: number | undefined,
  unusedOnly: boolean,
  paint: Paint,
  now = Date.now(),
): string {
  const began =
    beganMs === undefined
      ? 'there are no records yet'
      : `records since ${new Date(beganMs).toISOString().slice(0, 16)}Z`;
  if (policies.length === 0 && gone.length === 0)
    return `${unusedOnly ? 'nothing is unused' : 'no policies'}; ${began}`;
  const head = ['POLICY, RULE', 'ACTION', 'CONNECTIONS', 'DROPS', 'DAYS', 'LAST'];
  const table = new Table({ head, style: { head: [], border: [], compact: true }, chars: PLAIN });
  const numbers = ({ connections, drops, days, lastMs }: Hits) => [
    connections === 0 ? paint('dim', '–') : connections.toLocaleString('en'),
    drops === 0 ? '' : drops.toLocaleString('en'),
    days === 0 ? '' : String(days),
    lastMs === undefined ? paint('dim', 'never') : ago(lastMs, now),
  ];
  for (const p of policies) {
    table.push([paint('bold', safe(p.policy)), stateText(p, paint), ...numbers(p.hits)]);
    for (const note of notes(p, now)) table.push([`  ${paint('dim', safe(note))}`, '', '', '', '', '']);
    for (const r of p.rules) table.push([`  ${safe(r.rule)}`, safe(r.action), ...numbers(r)]);
  }
  for (const { policy, hits } of gone) table.push([safe(policy), paint('dim', 'gone'), ...numbers(hits)]);
  return `${table.toString()}\n${began}`;
}

function stateText({ staged, state }: PolicyUsage, paint: Paint): string {
  if (state === 'refused') return paint('red', 'has errors');
  return staged ? paint('yellow', 'staged') : 'in force';
}

/** Most workloads in a note. */
const LISTED = 5;

function notes({ pods, sinceMs, earlier, hits, wouldDeny }: PolicyUsage, now: number): string[] {
  const out: string[] = [];
  if (pods === 0) out.push('selects no pod');
  if (earlier.connections > 0) {
    const edited = sinceMs === undefined ? 'edited' : `edited ${ago(sinceMs, now)}`;
    out.push(`${edited}: its earlier content was hit ${earlier.connections.toLocaleString('en')} times`);
  } else if (hits.connections === 0 && sinceMs !== undefined)
    out.push(`has decided nothing for ${spanText(Math.max(0, now - sinceMs))}`);
  if (wouldDeny.length > 0) {
    const whom = wouldDeny.slice(0, LISTED).map(([workload, n]) => `${workload} (${n})`);
    const more = wouldDeny.length > LISTED ? ` and ${counted(wouldDeny.length - LISTED, 'more workload')}` : '';
    out.push(`would have denied ${whom.join(', ')}${more}`);
  }
  return out;
}

function object({ policies, gone }: Usage, beganMs: number | undefined): object {
  const time = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString());
  const hits = ({ lastMs, connections, drops, days }: Hits) => ({ connections, drops, days, last: time(lastMs) });
  return {
    since: time(beganMs),
    policies: policies.map(({ sinceMs, rules, hits: own, earlier, wouldDeny, ...p }) => ({
      ...p,
      since: time(sinceMs),
      ...hits(own),
      earlier: hits(earlier),
      rules: rules.map((r) => ({ rule: r.rule, action: r.action, ...hits(r) })),
      wouldDeny: wouldDeny.map(([workload, connections]) => ({ workload, connections })),
    })),
    gone: gone.map((g) => ({ policy: g.policy, ...hits(g.hits) })),
  };
}
