/** Writes policies: steps of their lives, and what was written in the editor. With the rights of the viewer alone. */
import { parsePolicyName } from '../../staging/names.js';
import type { PolicyApi } from '../../staging/live/api.js';
import { applyEdited, type EditOptions, type EditResult, type Form } from '../../staging/live/edited.js';
import type { Evidence } from '../../staging/live/evidence.js';
import { type ImpactObject, impactNow } from '../../staging/live/impact.js';
import { runStep, type StepOptions, type StepResult } from '../../staging/live/step.js';
import { type PolicyText, readPolicy } from '../../staging/live/text.js';
import { mayUse, type Scope, type Viewer } from '../access/viewer.js';
import { HttpError } from '../http/answers.js';
import { type Body, flagOf, numberOf, textOf } from '../http/read.js';
import { STEPS, type Step } from '../wire/policies.js';
import { isSeenWorkload } from '../policies/board.js';
import { Reader } from '../policies/reader.js';
import type { Handler } from './handler.js';

/** What can be done to policies. Policies are named as rules have them. Errors are AgentErrors. */
export interface Hands {
  step(step: Step, policy: string, options: StepOptions): Promise<StepResult>;
  impact(policy: string, days: number): Promise<ImpactObject>;
  apply(text: string, as: Form, options: EditOptions): Promise<EditResult>;
  read(policy: string): Promise<PolicyText>;
}

/** The hands of whoever's rights the API's client has. */
export function handsOf(api: PolicyApi, evidence: Evidence): Hands {
  return {
    step: (step, policy, options) => runStep(step, parsePolicyName(policy), { api, evidence }, options),
    impact: (policy, days) =>
      impactNow(parsePolicyName(policy), { evidence, days, cronJobs: (namespace) => api.cronJobs(namespace) }),
    apply: (text, as, options) => applyEdited(text, as, { api }, options),
    read: (policy) => readPolicy(parsePolicyName(policy), { api }),
  };
}

const FORMS: readonly Form[] = ['staged', 'enforced'];
/** Characters of a text at most; its bytes are counted later. */
const MOST_TEXT = 1 << 21;
const USUAL_DAYS = 7;
/** Characters of a text that viewers of some namespaces may write: it is read once more beside the others' questions. */
const MOST_LIMITED_TEXT = 256 << 10;
/** Milliseconds that reading a text may take before it is written. */
const READING_MS = 1500;

/** The handlers. @param handsFor the hands of a viewer, or why there are none */
export function handHandlers(handsFor: (viewer: Viewer) => Hands | string): Readonly<Record<string, Handler>> {
  const take = (viewer: Viewer): Hands => {
    const hands = handsFor(viewer);
    if (typeof hands === 'string') throw new HttpError(403, `policies cannot be written here: ${hands}`);
    return hands;
  };
  const reader = new Reader(READING_MS);
  return {
    step: async (body, viewer) => {
      await seen(body, viewer);
      const result = await take(viewer).step(oneOf(body, 'step', STEPS), policyIn(body), {
        days: daysIn(body),
        force: flagOf(body, 'force'),
        dryRun: flagOf(body, 'dryRun'),
      });
      return { ...result, ...(result.impact ? { impact: seenImpact(result.impact, await viewer.scope()) } : {}) };
    },
    impact: async (body, viewer) => {
      await seen(body, viewer);
      return seenImpact(await take(viewer).impact(policyIn(body), daysIn(body)), await viewer.scope());
    },
    apply: async (body, viewer) => {
      const version = textOf(body, 'resourceVersion', 200, '');
      const most = (await viewer.scope()) === undefined ? MOST_TEXT : MOST_LIMITED_TEXT;
      const yaml = textOf(body, 'yaml', most);
      const hands = take(viewer);
      await reader.read(yaml);
      return await hands.apply(yaml, oneOf(body, 'as', FORMS), {
        dryRun: flagOf(body, 'dryRun'),
        ...(version === '' ? {} : { resourceVersion: version }),
      });
    },
    read: async (body, viewer) => await take(viewer).read(policyIn(body)),
  };
}

/** What a policy would deny is counted with the rights of this server, and not with the viewer's. @throws HttpError 403 */
async function seen(body: Body, viewer: Viewer): Promise<void> {
  const policy = policyIn(body);
  const { namespace = '' } = parsePolicyName(policy);
  if (mayUse(await viewer.scope(), namespace)) return;
  throw new HttpError(403, `you may not see what ${policy} does`, {
    field: 'policy',
    hint: 'it takes the right to get flows.egress-agent.io there',
  });
}

function policyIn(body: Body): string {
  return textOf(body, 'policy', 600);
}

function daysIn(body: Body): number {
  return numberOf(body, 'days', 0, 35, USUAL_DAYS);
}

function oneOf<T extends string>(body: Body, field: string, values: readonly T[]): T {
  const value = textOf(body, field, 50);
  const found = values.find((one) => one === value);
  if (found === undefined) throw new HttpError(400, `${field} must be one of ${values.join(', ')}`, { field });
  return found;
}

/** Without the workloads that the viewer may not see. */
function seenImpact<T extends Pick<ImpactObject, 'denied'>>(impact: T, scope: Scope): T {
  return { ...impact, denied: impact.denied.filter(({ workload }) => isSeenWorkload(workload, scope)) };
}
