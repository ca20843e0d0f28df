/** Shows the impact of a policy, once or as it is counted. */
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../../exit.js';
import { type PolicyName, parsePolicyName } from '../../staging/names.js';
import { line, painter, safe, toJson } from '../common/output.js';
import { count, countOnce, cronJobsOf, deniedAlone, knownPolicy, requestFor, unknown } from './count.js';
import { Evidence } from './evidence.js';
import type { ImpactFlags } from './flags.js';
import { impactLines, impactObject } from './show.js';

/** Between two counts while following, and between two looks at the policy itself, in milliseconds. */
const COUNT_MS = 1000;
const LOOK_MS = 5000;

/** @throws AgentError USAGE, AGENT */
export async function showImpact(policy: string, flags: ImpactFlags): Promise<void> {
  const name = parsePolicyName(policy);
  await Evidence.with(flags, (evidence) =>
    flags.follow ? follow(name, flags, evidence) : once(name, flags, evidence),
  );
}

async function once(name: PolicyName, flags: ImpactFlags, evidence: Evidence): Promise<void> {
  const { impact, known } = await countOnce(name, flags, evidence, flags.days);
  if (flags.output === 'json') await line(toJson(impactObject(name, known, impact), 2));
  else for (const text of impactLines(name, known, impact, painter(flags.color))) await line(text);
  if (flags.exitCode && impact.stage === 'staged') process.exitCode = EXIT.denied;
}

async function follow(name: PolicyName, flags: ImpactFlags, evidence: Evidence): Promise<void> {
  const namespaces = name.namespace === undefined ? [] : [name.namespace];
  const cronJobs = await cronJobsOf(name, flags, evidence);
  const book = await evidence.edges({ ...requestFor(name), follow: true });
  const paint = painter(flags.color);
  let known = knownPolicy(await evidence.objects(namespaces), name);
  let alone = known ? await deniedAlone(known, evidence) : [];
  let lookedAt = Date.now();
  let last = '';
  for (;;) {
    if (Date.now() - lookedAt > LOOK_MS) {
      const before = known?.generation;
      known = knownPolicy(await evidence.objects(namespaces), name);
      if (known && known.generation !== before) alone = await deniedAlone(known, evidence);
      lookedAt = Date.now();
    }
    if (!known) throw unknown(name);
    const impact = count(name, known, book, { cronJobs, alone, days: flags.days, only: evidence.only });
    const { stage, generation, connections, judged, earlier } = impact;
    const now = JSON.stringify([stage, generation, connections, judged, earlier, book.unavailable]);
    if (now !== last) {
      if (flags.output === 'json') await line(toJson(impactObject(name, known, impact)));
      else for (const text of impactLines(name, known, impact, paint)) await line(text);
      for (const node of last === '' ? book.unavailable : [])
        process.stderr.write(`egressctl: ${safe(node)} did not answer\n`);
    }
    last = now;
    await sleep(COUNT_MS);
  }
}
