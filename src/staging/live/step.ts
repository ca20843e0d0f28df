/** Makes a step of a policy's life in the cluster, and says what was done. Prints nothing. */
import { AgentError } from '../../errors.js';
import { isRecord } from '../../identity/fields.js';
import type { PlainObject } from '../forms.js';
import type { Impact } from '../impact.js';
import type { PolicyName } from '../names.js';
import { type Plan, planOf, REASONS, type StepName, type Write } from '../plan.js';
import type { Found, PolicyApi } from './api.js';
import { type Counted, type CronJobSource, countOnce } from './count.js';
import { Evidence } from './evidence.js';
import { type ImpactObject, impactObject } from './impact.js';

/** Opens connections for the time of a function. */
export type WithEvidence = (use: (evidence: Evidence) => Promise<Counted>) => Promise<Counted>;

/** With whom a step is made. */
export interface StepContext {
  readonly api: PolicyApi;
  /** Asked only where the impact matters: to enforce. */
  readonly evidence: Evidence | WithEvidence;
  /** Default: those that the API tells. */
  readonly cronJobs?: CronJobSource;
  /** Told of the impact, or why it is not known, before anything is written. */
  readonly onImpact?: (impact: Counted | AgentError) => void;
}

export interface StepOptions {
  /** How long a policy must have been quiet, and counted, to be enforced. */
  readonly days: number;
  /** Enforce it although it is not ready, or its impact is not known. */
  readonly force?: boolean;
  /** The API server checks everything, and changes nothing. */
  readonly dryRun?: boolean;
  readonly now?: Date;
}

export interface StepResult {
  /** What became of the policy, as a sentence without its subject. */
  readonly says: string;
  /** The writes that were made, or would be: `annotate NetworkPolicy shop/web`. None: it was so already. */
  readonly changes: readonly string[];
  readonly warnings: readonly string[];
  /** Of `enforce`, if it was counted. */
  readonly impact?: ImpactObject;
  /** Why the impact is not known, with `force`. */
  readonly impactError?: string;
  /** It is not ready to be enforced: nothing was written. */
  readonly refused: boolean;
  /** Why the Event could not be written; the step was made nevertheless. */
  readonly eventError?: string;
}

/** @throws AgentError USAGE if the step cannot be made, AGENT; ConflictError if somebody else wrote meanwhile */
export async function runStep(
  name: StepName,
  policy: PolicyName,
  context: StepContext,
  options: StepOptions,
): Promise<StepResult> {
  const { api, onImpact } = context;
  const { dryRun = false, now = new Date() } = options;
  const found = await api.find(policy);
  const plan = planned(name, policy, found, now);
  const { writes, says } = plan;
  let impact: Counted | AgentError | undefined;
  if (name === 'enforce' && writes.length > 0) {
    impact = await impactOf(policy, found, context, { ...options, now });
    onImpact?.(impact);
  }
  const told = impact === undefined ? {} : toldOf(policy, impact);
  const counted = impact instanceof AgentError ? undefined : impact;
  const warnings = [...(counted?.warnings ?? []), ...(writes.length > 0 ? plan.warnings : [])];
  if (counted?.impact.stage === 'staged' && !options.force)
    return { says: 'is not enforced: it is not ready', changes: [], warnings, ...told, refused: true };
  const object = await api.apply(plan, dryRun);
  const changes = writes.map(writeText);
  const result = { says, changes, warnings, ...told, refused: false };
  if (writes.length === 0 || dryRun) return result;
  const message = `${policy.text} ${says}.${impact === undefined ? '' : eventText(impact)}`;
  const eventError = await noteOf(api, object, REASONS[name], message, now);
  return eventError === undefined ? result : { ...result, eventError };
}

/** Writes an Event. @returns why it could not be written: what it is about was done nevertheless */
export async function noteOf(
  api: PolicyApi,
  object: PlainObject,
  reason: string,
  message: string,
  now: Date,
): Promise<string | undefined> {
  try {
    await api.note(object, reason, message, now);
    return undefined;
  } catch (e) {
    return (e as Error).message;
  }
}

/** `annotate NetworkPolicy shop/web`. */
export function writeText({ verb, object }: Write): string {
  const { namespace, name } = isRecord(object.metadata) ? object.metadata : {};
  return `${verb} ${String(object.kind)} ${namespace === undefined ? '' : `${String(namespace)}/`}${String(name)}`;
}

function planned(
  name: StepName,
  policy: PolicyName,
  { present, generation, namespaceIsStaged }: Found,
  now: Date,
): Plan {
  try {
    return planOf(name, present, { generation, namespaceIsStaged, now });
  } catch (e) {
    if (!(e instanceof AgentError)) throw e;
    throw new AgentError(e.code, `${policy.text}: ${e.message}`, e.hint === undefined ? {} : { hint: e.hint });
  }
}

/** The impact, as far as it can be counted; with `force` the reason why it cannot. */
async function impactOf(
  policy: PolicyName,
  { generation }: Found,
  { api, evidence, cronJobs = (namespace) => api.cronJobs(namespace) }: StepContext,
  { days, force, now }: StepOptions & { now: Date },
): Promise<Counted | AgentError> {
  const ask = (of: Evidence) => countOnce(policy, of, { days, cronJobs, now });
  try {
    const counted = await (evidence instanceof Evidence ? ask(evidence) : evidence(ask));
    // They learn of a change some milliseconds after it was made.
    if (counted.known.generation === generation && counted.known.isStaged) return counted;
    throw new AgentError('AGENT', `the agents do not know ${policy.text} as it is now yet`, {
      hint: 'try again in a moment',
    });
  } catch (e) {
    if (!force || !(e instanceof AgentError)) throw e;
    return e;
  }
}

function toldOf(policy: PolicyName, impact: Counted | AgentError): Pick<StepResult, 'impact' | 'impactError'> {
  if (impact instanceof AgentError) return { impactError: impact.message };
  return { impact: impactObject(policy, impact.known, impact.impact) };
}

function eventText(counted: Counted | AgentError): string {
  return counted instanceof AgentError ? ' Its impact is not known.' : countedText(counted.impact);
}

function countedText({ connections, denied }: Impact): string {
  if (connections === 0) return ' It would have denied nothing.';
  const names = denied.slice(0, 5).map((d) => d.workload);
  const more = denied.length > names.length ? ' and others' : '';
  return ` It would have denied ${connections} connections of ${names.join(', ')}${more}.`;
}
