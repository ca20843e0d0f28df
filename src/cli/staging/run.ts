/** Makes the steps of a policy's life: in the cluster, or in files. */
import { readFileSync, realpathSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { AgentError } from '../../errors.js';
import { EXIT } from '../../exit.js';
import { walk } from '../../identity/files/walk.js';
import { isRecord } from '../../identity/fields.js';
import type { Impact } from '../../staging/impact.js';
import { changeManifests, type ManifestFile } from '../../staging/manifests.js';
import { type PolicyName, parsePolicyName } from '../../staging/names.js';
import { type Plan, planOf, REASONS, type StepName, type Write } from '../../staging/plan.js';
import { isDirectory, readText } from '../../tools/world.js';
import { line, painter, safe, toJson } from '../common/output.js';
import { type Found, PolicyApi } from './api.js';
import { countOnce, type KnownPolicy } from './count.js';
import { Evidence } from './evidence.js';
import { impactLines } from './show.js';
import type { StepFlags } from './flags.js';

/** @throws AgentError USAGE, AGENT, MANIFEST */
export async function runStep(name: StepName, policy: string, flags: StepFlags): Promise<void> {
  const wanted = parsePolicyName(policy);
  if (flags.write && flags.manifests === undefined)
    throw new AgentError('USAGE', '--write is for --manifests', { hint: 'without it, the cluster is changed at once' });
  if (flags.manifests !== undefined) await inManifests(name, wanted, flags, flags.manifests);
  else await inCluster(name, wanted, flags);
}

async function inManifests(name: StepName, policy: PolicyName, flags: StepFlags, path: string): Promise<void> {
  const files = manifestsIn(path);
  const change = changeManifests(name, policy, files);
  const file = safe(change.path);
  if (flags.output === 'json')
    await line(toJson({ policy: policy.text, step: name, file: change.path, diff: change.diff }, 2));
  // A patch must be exact, but whoever wrote a manifest must not write to a terminal.
  else if (change.diff !== '') process.stdout.write(process.stdout.isTTY ? lines(change.diff) : change.diff);
  const isWritten = flags.write === true && change.diff !== '';
  if (isWritten) replaceFile(change.path, change.before, change.after);
  const done = change.diff === '' ? 'nothing to change' : isWritten ? 'changed' : 'not changed: see --write';
  process.stderr.write(`egressctl: ${REASONS[name].toLowerCase()}: ${policy.text} in ${file}: ${done}\n`);
}

function lines(text: string): string {
  return text.split('\n').map(safe).join('\n');
}

function manifestsIn(path: string): ManifestFile[] {
  if (!isDirectory(path)) return [{ path, text: readText(path) }];
  const files: ManifestFile[] = [];
  for (const found of walk(path)) {
    if (found.type === 'problem') throw new AgentError('MANIFEST', found.message, { where: { file: found.path } });
    if (found.type !== 'file' || !statSync(found.path, { throwIfNoEntry: false })?.isFile()) continue;
    files.push({ path: shownPath(found.path), text: readText(found.path) });
  }
  return files;
}

/** As git names a file: from here, or from the root if it is not below here. */
function shownPath(path: string): string {
  const fromHere = relative('.', path);
  return fromHere === '' || fromHere.startsWith('..') ? resolve(path) : fromHere;
}

/** Replaces a file at once, and not what a link to it is. @throws AgentError MANIFEST */
function replaceFile(path: string, before: string, after: string): void {
  try {
    const target = realpathSync(path);
    if (readFileSync(target, 'utf8') !== before) throw new Error('it was changed meanwhile');
    const beside = `${target}.egressctl-${process.pid}`;
    writeFileSync(beside, after, { mode: statSync(target).mode, flag: 'wx' });
    renameSync(beside, target);
  } catch (e) {
    throw new AgentError('MANIFEST', `${path} cannot be written: ${(e as Error).message}`, { where: { file: path } });
  }
}

async function inCluster(name: StepName, policy: PolicyName, flags: StepFlags): Promise<void> {
  const api = openApi(flags);
  try {
    const found = await api.find(policy);
    const now = new Date();
    const plan = planned(name, policy, found, now);
    let message = '';
    if (name === 'enforce' && plan.writes.length > 0) {
      const counted = await impactNow(policy, found, flags);
      if (!(await isAllowed(policy, counted, flags))) return;
      message = counted ? countedText(counted.impact) : ' Its impact is not known.';
    }
    await make(api, policy, plan, flags, message, now);
  } finally {
    api.close();
  }
}

function openApi(flags: StepFlags): PolicyApi {
  try {
    return PolicyApi.open(flags);
  } catch (e) {
    if (!(e instanceof AgentError) || e.code !== 'USAGE') throw e;
    const hint = `${e.hint === undefined ? '' : `${e.hint}; `}for policies in files: --manifests`;
    throw new AgentError(e.code, e.message, { ...(e.where ? { where: e.where } : {}), hint });
  }
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

type Counted = { impact: Impact; known: KnownPolicy };

/** The impact, as far as it can be counted; undefined with --force if it cannot. */
async function impactNow(policy: PolicyName, { generation }: Found, flags: StepFlags): Promise<Counted | undefined> {
  try {
    const counted = await Evidence.with(flags, (evidence) => countOnce(policy, flags, evidence, flags.days), true);
    // They learn of a change some milliseconds after it was made.
    if (counted.known.generation === generation && counted.known.isStaged) return counted;
    throw new AgentError('AGENT', `the agents do not know ${policy.text} as it is now yet`, {
      hint: 'try again in a moment',
    });
  } catch (e) {
    if (!flags.force || !(e instanceof AgentError)) throw e;
    process.stderr.write(`egressctl: its impact is not known: ${safe(e.message)}\n`);
    return undefined;
  }
}

/** Whether a policy may be enforced. If not, says why, and sets the exit code. */
async function isAllowed(policy: PolicyName, counted: Counted | undefined, flags: StepFlags): Promise<boolean> {
  if (counted?.impact.stage !== 'staged') return true;
  const lines = impactLines(policy, counted.known, counted.impact, painter(flags.color, process.stderr));
  for (const text of lines) process.stderr.write(`${text}\n`);
  if (flags.force) return true;
  process.stderr.write(`egressctl: ${policy.text} is not enforced: it is not ready\n`);
  process.stderr.write('  --force enforces it nevertheless; --days says how long it must be quiet\n');
  process.exitCode = EXIT.denied;
  return false;
}

function countedText({ connections, denied }: Impact): string {
  if (connections === 0) return ' It would have denied nothing.';
  const names = denied.slice(0, 5).map((d) => d.workload);
  const more = denied.length > names.length ? ' and others' : '';
  return ` It would have denied ${connections} connections of ${names.join(', ')}${more}.`;
}

async function make(
  api: PolicyApi,
  policy: PolicyName,
  plan: Plan,
  flags: StepFlags,
  counted: string,
  now: Date,
): Promise<void> {
  const { writes, says, step: name, warnings } = plan;
  const dryRun = flags.dryRun === true;
  const object = await api.apply(plan, dryRun);
  if (writes.length > 0 && !dryRun) {
    try {
      await api.note(plan, object, `${policy.text} ${says}.${counted}`, now);
    } catch (e) {
      process.stderr.write(`egressctl: the Event could not be written: ${safe((e as Error).message)}\n`);
    }
  }
  for (const warning of writes.length > 0 ? warnings : [])
    process.stderr.write(`egressctl: ${policy.text}: ${warning}\n`);
  const changes = writes.map(writeText);
  if (flags.output === 'json') {
    await line(toJson({ policy: policy.text, step: name, says, changes, dryRun, warnings }, 2));
    return;
  }
  await line(
    `${painter(flags.color)('bold', safe(policy.text))} ${says}${dryRun ? ' (dry run: nothing was changed)' : ''}`,
  );
}

/** `annotate NetworkPolicy shop/web`. */
function writeText({ verb, object }: Write): string {
  const { namespace, name } = isRecord(object.metadata) ? object.metadata : {};
  return `${verb} ${String(object.kind)} ${namespace === undefined ? '' : `${String(namespace)}/`}${String(name)}`;
}
