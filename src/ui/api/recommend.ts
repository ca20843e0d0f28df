/** What could be recommended: a list of workloads without policies, and all of one. */
import { readRecommendation } from '../../recommend/read.js';
import { eitherSignal } from '../../either-signal.js';
import { AgentError } from '../../errors.js';
import type { RecommendRequest, RecommendResponse } from '../../proto/edges.js';
import { LANGUAGES } from '../../recommend/base/names.js';
import type { WorkloadRecommendation } from '../../recommend/base/types.js';
import { askedOf, mayUse, type Viewer } from '../access/viewer.js';
import type { EdgeSource } from '../feeds/edges.js';
import { HttpError } from '../http/answers.js';
import { type Body, namespacesOf, numberOf, textOf, textsOf } from '../http/read.js';
import {
  MIN_DAYS,
  MOST_CHOICES,
  type RecommendationAnswer,
  type RecommendList,
  type RecommendListRow,
} from '../wire/recommend.js';
import { hiddenText, seenEvidence } from './evidence.js';
import type { Handler } from './handler.js';

/** The part of a client that is used. */
export interface RecommendSource extends Pick<EdgeSource, 'edges'> {
  recommend(request: RecommendRequest, deadlineMs: number, signal: AbortSignal): Promise<RecommendResponse>;
}

/** An agent takes a minute at most. */
const THINKING_MS = 70_000;
const LONGEST_NAME = 400;
const LONGEST_CHOICE = 1500;

/** The handlers `recommend` and `recommendation`. Of each a user has one question at a time: another ends it. */
export function recommendHandlers(source: RecommendSource): Readonly<Record<string, Handler>> {
  const [lists, details] = [new OneEach(), new OneEach()];
  return {
    recommend: async (body, viewer, leaving): Promise<RecommendList> => {
      const namespaces = askedOf(namespacesOf(body), await viewer.scope());
      if (!namespaces) return { since: '', until: '', days: 0, warnings: [], workloads: [] };
      const minDays = minDaysOf(body);
      const request = (options: object): RecommendRequest => ({
        // An empty list means all of them.
        ...(namespaces.length > 0 ? { namespaces } : {}),
        dialect: 'networkpolicy',
        options: JSON.stringify({ minDays, ...options }),
      });
      const answer = await lists.run(viewer, leaving, async (signal) => {
        try {
          return await source.recommend(request({ brief: true }), THINKING_MS, signal);
        } catch (e) {
          // An agent of an older version does not know how to be brief.
          if (!(e instanceof AgentError) || e.code !== 'USAGE' || !e.message.includes('options.brief')) throw e;
          return await source.recommend(request({}), THINKING_MS, signal);
        }
      });
      const { since, until, days, warnings, workloads } = readRecommendation(answer);
      const scope = await viewer.scope();
      const seen = workloads.filter(({ workload }) => mayUse(scope, namespaceOf(workload)));
      return { since, until, days, warnings, workloads: seen.map(rowOf) };
    },
    recommendation: async (body, viewer, leaving): Promise<RecommendationAnswer> => {
      const workload = textOf(body, 'workload', LONGEST_NAME);
      if (!/^[^/]+\/[^/]+$/.test(workload)) throw new HttpError(400, 'workload must be namespace/name', FIELD);
      const scope = await viewer.scope();
      if (!mayUse(scope, namespaceOf(workload)))
        throw new HttpError(403, `you may not see the namespace of ${workload}`, {
          ...FIELD,
          hint: 'it takes the right to get flows.egress-agent.io in it',
        });
      const language = textOf(body, 'language', 40);
      if (!(LANGUAGES as readonly string[]).includes(language))
        throw new HttpError(400, `language must be one of ${LANGUAGES.join(', ')}`, { field: 'language' });
      const options = {
        minDays: minDaysOf(body),
        ...choicesOf(body, 'without'),
        ...choicesOf(body, 'also'),
      };
      const kind = textOf(body, 'kind', 100, '');
      const request = { workloads: [workload], dialect: language, options: JSON.stringify(options) };
      let hidden = 0;
      const answer = await details.run(viewer, leaving, async (signal) => {
        if (scope === undefined) return source.recommend(request, THINKING_MS, signal);
        const seen = await seenEvidence(source, workload, scope, signal);
        hidden = seen.hidden;
        // A source takes no evidence for all that there is.
        if (seen.evidence.length === 0)
          throw new HttpError(404, `nothing is known of ${workload} that you may see`, {
            ...FIELD,
            ...(hidden > 0 ? { hint: hiddenText(hidden) } : {}),
          });
        return source.recommend({ ...request, evidence: seen.evidence }, THINKING_MS, signal);
      });
      const { workloads, since, until, warnings: said } = readRecommendation(answer);
      const warnings = hidden > 0 ? [hiddenText(hidden), ...said] : said;
      const found = workloads.find((one) => one.workload === workload && (kind === '' || one.kind === kind));
      if (!found) throw new HttpError(404, `nothing is known of ${workload}`, FIELD);
      return { ...found, since, until, notes: warnings };
    },
  };
}

const FIELD = { field: 'workload' };

function minDaysOf(body: Body): number {
  return numberOf(body, 'minDays', MIN_DAYS.least, MIN_DAYS.most, MIN_DAYS.usual);
}

/** An agent of an older version knows no choices: none are not sent. */
function choicesOf(body: Body, field: 'without' | 'also'): Partial<Record<typeof field, string[]>> {
  const chosen = textsOf(body, field, MOST_CHOICES, LONGEST_CHOICE);
  return chosen.length > 0 ? { [field]: chosen } : {};
}

function namespaceOf(workload: string): string {
  return workload.slice(0, workload.indexOf('/'));
}

function rowOf(one: WorkloadRecommendation): RecommendListRow {
  const { workload, kind, state, reason, refused, days, of, rules, leftOut, leftOutMore, replay } = one;
  return {
    ...{ workload, kind, state, reason, days, of },
    ...(refused === undefined ? {} : { refused }),
    // An agent of an older version does not say it.
    policies: one.policies ?? 0,
    rules: rules.length,
    leftOut: leftOut.length + leftOutMore,
    misses: replay.misses.length,
  };
}

/** Questions of which each user has one at a time. */
class OneEach {
  readonly #running = new Map<string, AbortController>();

  /** @throws HttpError 409 if another question of the same user came */
  async run<A>(viewer: Viewer, leaving: AbortSignal, ask: (signal: AbortSignal) => Promise<A>): Promise<A> {
    this.#running.get(viewer.id)?.abort();
    const own = new AbortController();
    this.#running.set(viewer.id, own);
    const either = eitherSignal([own.signal, leaving]);
    try {
      return await ask(either.signal);
    } catch (e) {
      if (own.signal.aborted && !leaving.aborted)
        throw new HttpError(409, 'another question of yours came after this one', { hint: 'ask again' });
      throw e;
    } finally {
      either.end();
      if (this.#running.get(viewer.id) === own) this.#running.delete(viewer.id);
    }
  }
}
