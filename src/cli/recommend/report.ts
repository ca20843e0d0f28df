/** A recommendation in words. */
import { counted } from '../../counted.js';
import type { Recommendation, RuleEvidence, WorkloadRecommendation } from '../../recommend/base/types.js';
import { evidenceText } from '../../recommend/rules/model.js';
import { type Paint, safe } from '../common/output.js';

/** Entries of a list in a note. */
const LISTED = 20;

/** What people should know before they use the policies: what is learning, left out, or would be denied. */
export function* noteLines(result: Recommendation, paint: Paint): Generator<string> {
  for (const warning of result.warnings) yield `${paint('yellow', 'note')} ${safe(warning)}`;
  for (const one of result.workloads) {
    const name = safe(`${one.workload} (${one.kind})`);
    if (one.refused !== undefined) {
      yield `${paint('red', 'no policy')} ${name}: ${safe(one.refused)}`;
      continue;
    }
    if (one.state === 'learning') yield `${paint('yellow', 'learning')} ${name}: ${safe(one.reason)}`;
    for (const warning of one.warnings) yield `${paint('yellow', 'note')} ${name}: ${safe(warning)}`;
    const { closed, opened } = one.replay;
    const [left, denied] = [one.leftOut.length + one.leftOutMore, closed.length];
    if (left > 0 || denied > 0 || opened.length > 0)
      yield `${paint('yellow', 'note')} ${name}: ${left} left out, ${denied} of what was seen would be denied, ${opened.length} opened (-o text lists them)`;
  }
  const count = result.workloads.filter(({ refused }) => refused === undefined).length;
  if (result.days > 0)
    yield `${counted(count, 'workload')}, ${safe(result.since)} to ${safe(result.until)}; every policy is staged: it denies nothing yet`;
}

/** All of it. */
export function* reportLines(result: Recommendation, paint: Paint): Generator<string> {
  if (result.days > 0) yield `${safe(result.since)} to ${safe(result.until)}, ${counted(result.days, 'day')}`;
  for (const warning of result.warnings) yield `${paint('yellow', 'note')} ${safe(warning)}`;
  for (const one of result.workloads) yield* workloadLines(one, paint);
}

function* workloadLines(one: WorkloadRecommendation, paint: Paint): Generator<string> {
  yield '';
  const state = one.state === 'stable' ? paint('green', 'stable') : paint('yellow', 'learning');
  yield `${paint('bold', safe(one.workload))} (${safe(one.kind)}), seen on ${one.days} of ${one.of} days: ${state}, ${safe(one.reason)}`;
  if (one.refused !== undefined) {
    yield `  ${paint('red', 'no policy')}: ${safe(one.refused)}`;
    return;
  }
  for (const rule of one.rules) {
    yield `  ${paint('green', 'allow')} ${safe(rule.to)} on ${safe(rule.ports.join(', '))}`;
    for (const e of rule.evidence) yield `    ${safe(e.to)}: ${safe(evidenceText(e as RuleEvidence))}`;
    for (const text of rule.beyond) yield `    ${paint('dim', `beyond what was seen: ${safe(text)}`)}`;
  }
  yield* list(
    'left out',
    one.leftOut.map(
      (l) =>
        `${l.to} ${l.port}: ${l.why}, ${counted(l.connections, 'connection')} on ${counted(l.days, 'day')}, last ${l.last}${l.hint === undefined ? '' : ` (${l.hint})`}`,
    ),
    one.leftOutMore,
    paint,
  );
  for (const warning of one.warnings) yield `  ${paint('yellow', 'note')} ${safe(warning)}`;
  const { replay } = one;
  yield `  replayed ${counted(replay.edges, 'edge')}: ${replay.closed.length} would be denied, ${replay.opened.length} would be opened, ${replay.unknown} unknown`;
  const change = (c: (typeof replay.closed)[0]) =>
    `${c.to} ${c.port}: ${c.was} → ${c.is}, ${counted(c.connections, 'connection')}${c.why === undefined ? '' : `, left out: ${c.why}`}`;
  yield* list('would be denied', replay.closed.map(change), replay.more, paint);
  yield* list('would be opened', replay.opened.map(change), 0, paint);
  yield* list('opens beyond what is allowed now', replay.beyond, 0, paint);
  if (replay.heldOutDays > 0)
    yield `  learned from ${counted(replay.learnedDays, 'day')}, of the ${replay.heldOutDays} others it would have missed ${replay.misses.length}`;
  yield* list('missed', replay.misses, 0, paint);
  yield* list('lint', replay.findings, 0, paint);
}

function* list(title: string, texts: readonly string[], more: number, paint: Paint): Generator<string> {
  for (const text of texts.slice(0, LISTED)) yield `  ${paint('dim', title)} ${safe(text)}`;
  const rest = Math.max(0, texts.length - LISTED) + more;
  if (rest > 0) yield `  ${paint('dim', title)} and ${rest} more (-o json has them)`;
}
