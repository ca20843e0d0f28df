/** Shows the impact of a policy, once or as it is counted. */
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../../exit.js';
import {
  count,
  countOnce,
  type CronJobSource,
  deniedAlone,
  knownPolicy,
  requestFor,
  unknown,
} from '../../staging/live/count.js';
import type { Evidence } from '../../staging/live/evidence.js';
import { impactObject } from '../../staging/live/impact.js';
import { type PolicyName, parsePolicyName } from '../../staging/names.js';
import { line, painter, safe, toJson } from '../common/output.js';
import { cronJobsWith } from './cluster.js';
import { withEvidence } from './evidence.js';
import type { ImpactFlags } from './flags.js';
import { impactLines } from './show.js';

/** Between two counts while following, and between two looks at the policy itself, in milliseconds. */
const COUNT_MS = 1000;
const LOOK_MS = 5000;

/** @throws AgentError USAGE, AGENT */
export async function showImpact(policy: string, flags: ImpactFlags): Promise<void> {
  const name = parsePolicyName(policy);
  await withEvidence(flags, (evidence, isOfCluster) => {
    const cronJobs = cronJobsWith(flags, isOfCluster);
    return flags.follow ? follow(name, flags, evidence, cronJobs) : once(name, flags, evidence, cronJobs);
  });
}

async function once(name: PolicyName, flags: ImpactFlags, evidence: Evidence, cronJobs: CronJobSource): Promise<void> {
  const { impact, known } = await countOnce(name, evidence, { days: flags.days, cronJobs });
  if (flags.output === 'json') await line(toJson(impactObject(name, known, impact), 2));
  else for (const text of impactLines(name, known, impact, painter(flags.color))) await line(text);
  if (flags.exitCode && impact.stage === 'staged') process.exitCode = EXIT.denied;
}

async function follow(
  name: PolicyName,
  flags: ImpactFlags,
  evidence: Evidence,
  readCronJobs: CronJobSource,
): Promise<void> {
  const namespaces = name.namespace === undefined ? [] : [name.namespace];
  const cronJobs = await readCronJobs(name.namespace);
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
