/** The impact of a policy for people. */
import { counted } from '../../counted.js';
import { protocolName } from '../../net/protocol.js';
import { type Impact, spanText } from '../../staging/impact.js';
import type { KnownPolicy } from '../../staging/live/count.js';
import type { PolicyName } from '../../staging/names.js';
import { type Paint, safe } from '../common/output.js';

/** Most workloads, and flows of each, that are listed. */
const LISTED = 20;

/** `3 d 4 h ago`. */
export function ago(ms: number, nowMs: number): string {
  return `${spanText(Math.max(0, nowMs - ms))} ago`;
}

/** `443/tcp`. */
export function portText(port: number, protocol: number): string {
  const name = protocolName(protocol).toLowerCase();
  if (protocol === 1 || protocol === 58) return `${name} ${port >> 8}/${port & 255}`;
  return port === 0 ? name : `${port}/${name}`;
}

/** Who would be denied, and what is missing. */
export function impactLines(
  name: PolicyName,
  known: KnownPolicy,
  impact: Impact,
  paint: Paint,
  nowMs = Date.now(),
): string[] {
  const { stage, denied, connections, judged, earlier, missing, sinceMs, windowMs } = impact;
  const what =
    stage === 'enforced'
      ? paint('green', 'in force')
      : stage === 'ready'
        ? paint('green', 'ready to be enforced')
        : paint('yellow', 'staged');
  const lines = [`${paint('bold', safe(name.text))}: ${what}; selects ${counted(known.pods, 'pod')}`];
  if (stage === 'enforced') return lines;
  lines.push(`  counted for ${spanText(windowMs)}, since ${new Date(sinceMs).toISOString().slice(0, 16)}Z`);
  lines.push(
    `  would have denied ${counted(connections, 'connection')} of ${counted(denied.length, 'workload')}; decided ${counted(judged, 'other')}`,
  );
  if (earlier > 0)
    lines.push(
      `  it was edited: its earlier contents would have denied ${counted(earlier, 'connection')}, which do not count`,
    );
  for (const { workload, kind, connections: n, flows } of denied.slice(0, LISTED)) {
    lines.push(`  ${paint('yellow', '◐')} ${safe(workload)}${kind === '' ? '' : ` (${safe(kind)})`}: ${n}`);
    for (const f of flows.slice(0, LISTED)) {
      const by = f.service === '' ? '' : ` by Service ${safe(f.service)}`;
      lines.push(
        `      ${safe(f.destination)}:${portText(f.port, f.protocol)}${by}: ${f.connections}, last ${ago(f.lastMs, nowMs)} [${safe(f.rule)}]`,
      );
    }
    if (flows.length > LISTED) lines.push(`      and ${flows.length - LISTED} more`);
  }
  if (denied.length > LISTED) lines.push(`  and ${counted(denied.length - LISTED, 'more workload')}`);
  for (const one of missing) lines.push(`  ${paint('yellow', 'not ready:')} ${safe(one)}`);
  return lines;
}
