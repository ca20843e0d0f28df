/**
 * What a staged policy would deny, as it was counted; and whether it has been counted for long enough. The count is of
 * the policy's present content: an edit begins it anew.
 */
import { DAY_MS, type Edge, type EdgeHistory, isRest, partyName } from '../edges/edge.js';
import { ruleKey } from '../ir/names.js';
import { longestPause } from './cron.js';
import { isOf } from './names.js';

/** Where a policy is in its life. `ready`: staged, and nothing speaks against enforcing it. */
export type Stage = 'enforced' | 'staged' | 'ready';

/** A flow that would be denied. */
export interface WouldDeny {
  /** Edge.destination for people. */
  readonly destination: string;
  /** With the Service through which it went. */
  readonly service: string;
  readonly port: number;
  readonly protocol: number;
  readonly connections: number;
  /** Milliseconds since 1970. */
  readonly lastMs: number;
  readonly rule: string;
}

/**
 * A flow that would be denied if only this policy were enforced. Where several staged policies select a pod, what all of
 * them together would deny is counted for one of them; and what another one allows is not allowed while it is staged.
 */
export interface AloneDenied {
  readonly edge: Edge;
  readonly connections: number;
  readonly lastMs: number;
  readonly rule: string;
}

/** What a policy would deny to one workload, the most frequent first. */
export interface DeniedWorkload {
  /** `shop/web`, or `node NAME`. */
  readonly workload: string;
  readonly kind: string;
  readonly connections: number;
  readonly lastMs: number;
  readonly flows: readonly WouldDeny[];
}

export interface Impact {
  readonly stage: Stage;
  readonly generation: number;
  /** Since when this content is counted, milliseconds since 1970. */
  readonly sinceMs: number;
  readonly windowMs: number;
  readonly denied: readonly DeniedWorkload[];
  /** Connections that it would have denied in the window. */
  readonly connections: number;
  /** Connections in the window that it decided and would not deny: they show that it is counted. */
  readonly judged: number;
  /** Connections that earlier contents of it would have denied, which do not count. */
  readonly earlier: number;
  /** What is missing until it is ready, as sentences. Empty: nothing. */
  readonly missing: readonly string[];
}

/** A CronJob whose pods the policy may select. */
export interface CronJob {
  /** `namespace/name`. */
  readonly name: string;
  readonly schedule: string;
  readonly suspended: boolean;
  /** When it was last started, milliseconds since 1970; undefined: never. */
  readonly lastRunMs: number | undefined;
}

export interface ImpactInput {
  /** The names of the policy and of its other form, as rules have them: bothNames(). */
  readonly names: readonly string[];
  readonly generation: number;
  readonly isStaged: boolean;
  /** Whether it has errors. */
  readonly isRefused: boolean;
  /** Since when the present content is staged, as far as anybody knows: the earliest of what is known. */
  readonly stagedMs: number | undefined;
  readonly histories: Iterable<EdgeHistory>;
  /** Since when there are records. */
  readonly beganMs: number | undefined;
  /** The only node that was asked, although there may be others. */
  readonly only?: string | undefined;
  /** Nodes that did not answer. */
  readonly unavailable: readonly string[];
  /** Flows that found no edge of their own, of all nodes and pods: they matter where an edge to `other` stands for some. */
  readonly overflow: number;
  /** Whether there were more edges than whoever was asked tells. */
  readonly isCut?: boolean;
  readonly cronJobs: readonly CronJob[];
  /** Flows that were seen, and that would be denied if this policy alone were enforced now: see preview. */
  readonly alone: readonly AloneDenied[];
  /** Days without a would-be denial that are asked for, and days that the window must have. 0: none. */
  readonly days: number;
  readonly nowMs: number;
}

/** Sums up what was counted. Pure. */
export function impactOf(input: ImpactInput): Impact {
  const { names, generation, isStaged, nowMs, days } = input;
  const sinceMs = Math.max(input.stagedMs ?? nowMs, input.beganMs ?? nowMs);
  const windowMs = Math.max(0, nowMs - sinceMs);
  const quietMs = nowMs - days * DAY_MS;
  const workloads = new Map<string, { edge: Edge; flows: WouldDeny[] }>();
  const counted = new Set<string>();
  let [connections, judged, earlier, recent] = [0, 0, 0, 0];
  const add = ({ edge, connections: met, lastMs, rule }: AloneDenied) => {
    // Those that were opened before the window are noted in it while they are open, and not counted again.
    const n = Math.max(1, met);
    connections += n;
    if (lastMs >= quietMs || days === 0) recent += n;
    counted.add(flowKey(edge));
    const key = `${edge.source.workloadKind} ${partyName(edge.source)}`;
    let workload = workloads.get(key);
    if (!workload) workloads.set(key, (workload = { edge, flows: [] }));
    const { service, port, protocol } = edge;
    const destination = partyName(edge.destination);
    workload.flows.push({ destination, service, port, protocol, connections: n, lastMs, rule });
  };
  let hasRest = false;
  for (const { edge, days: rows } of input.histories) {
    const { auditRule, verdict, auditVerdict } = edge;
    hasRest ||= !edge.inbound && isRest(edge) && rows.some((row) => row.lastMs >= sinceMs);
    if (!auditRule || !isOf(auditRule.ref.policy, names)) continue;
    const denies = verdict === 'allow' && auditVerdict === 'deny';
    const sum = (list: typeof rows) => list.reduce((n, row) => n + row.connections, 0);
    if (auditRule.generation !== generation) {
      if (denies) earlier += sum(rows);
      continue;
    }
    const seen = rows.filter((row) => row.lastMs >= sinceMs);
    if (seen.length === 0) continue;
    if (!denies) judged += sum(seen);
    else
      add({
        edge,
        connections: sum(seen),
        lastMs: Math.max(...seen.map((r) => r.lastMs)),
        rule: ruleKey(auditRule.ref),
      });
  }
  for (const one of input.alone) if (one.lastMs >= sinceMs && !counted.has(flowKey(one.edge))) add(one);
  const denied = [...workloads.values()].map(deniedWorkload).sort((a, b) => b.connections - a.connections);
  const missing = isStaged ? missingOf(input, { recent, sinceMs, windowMs, hasRest }) : [];
  const stage = isStaged ? (missing.length === 0 ? 'ready' : 'staged') : 'enforced';
  return { stage, generation, sinceMs, windowMs, denied, connections, judged, earlier, missing };
}

function flowKey({ source, destination, service, port, protocol }: Edge): string {
  return JSON.stringify([source, destination, service, port, protocol]);
}

function deniedWorkload({ edge, flows }: { edge: Edge; flows: WouldDeny[] }): DeniedWorkload {
  return {
    workload: partyName(edge.source),
    kind: edge.source.workloadKind,
    connections: flows.reduce((sum, flow) => sum + flow.connections, 0),
    lastMs: Math.max(...flows.map((flow) => flow.lastMs)),
    flows: flows.sort((a, b) => b.connections - a.connections),
  };
}

interface Counted {
  readonly recent: number;
  readonly sinceMs: number;
  readonly windowMs: number;
  /** Whether some of what was seen in the window found no room. */
  readonly hasRest: boolean;
}

function missingOf(input: ImpactInput, { recent, sinceMs, windowMs, hasRest }: Counted): string[] {
  const { days, unavailable, overflow, beganMs, cronJobs } = input;
  const out: string[] = [];
  if (input.isRefused) out.push('it has errors: egressctl status lists them');
  if (beganMs === undefined) out.push('there are no records');
  if (recent > 0)
    out.push(`it would have denied ${recent} connections${days > 0 ? ` in the last ${daysText(days)}` : ''}`);
  if (windowMs < days * DAY_MS) out.push(`it has been counted for ${spanText(windowMs)} of ${daysText(days)}`);
  for (const { name, schedule, suspended, lastRunMs } of cronJobs) {
    if (suspended) continue;
    const pause = longestPause(schedule);
    if (pause === undefined) out.push(`the schedule of CronJob ${name} cannot be read`);
    else if (lastRunMs === undefined || lastRunMs < sinceMs) out.push(`CronJob ${name} has not run in the window`);
    else if (days > 0 && windowMs < pause * DAY_MS)
      out.push(`CronJob ${name} runs at least every ${daysText(pause)}, and the window has ${spanText(windowMs)}`);
  }
  if (input.only !== undefined) out.push(`only node ${input.only} was asked`);
  if (unavailable.length > 0)
    out.push(`${unavailable.length === 1 ? 'node' : 'nodes'} ${unavailable.join(', ')} did not answer`);
  if (input.isCut) out.push('there are more records than can be counted');
  // A pod elsewhere that called everybody once must not stop others for ever.
  if (overflow > 0 && hasRest) out.push(`${overflow} flows found no room of their own, and cannot be told apart`);
  return out;
}

function daysText(days: number): string {
  return days === 1 ? '1 day' : `${days} days`;
}

/** `3 d 4 h`, `12 min`. */
export function spanText(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  const [d, h] = [Math.floor(minutes / 1440), Math.floor((minutes % 1440) / 60)];
  if (d > 0) return h > 0 ? `${d} d ${h} h` : `${d} d`;
  if (h > 0) return minutes % 60 > 0 ? `${h} h ${minutes % 60} min` : `${h} h`;
  return minutes > 0 ? `${minutes} min` : `${Math.floor(ms / 1000)} s`;
}
