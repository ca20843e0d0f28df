/** Makes the steps of a policy's life: in the cluster, or in files. */
import { readFileSync, realpathSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { AgentError } from '../../errors.js';
import { EXIT } from '../../exit.js';
import { walk } from '../../identity/files/walk.js';
import type { PolicyApi } from '../../staging/live/api.js';
import type { Counted } from '../../staging/live/count.js';
import { runStep as makeStep, type WithEvidence } from '../../staging/live/step.js';
import { changeManifests, type ManifestFile } from '../../staging/manifests.js';
import { type PolicyName, parsePolicyName } from '../../staging/names.js';
import { REASONS, type StepName } from '../../staging/plan.js';
import { isDirectory, readText } from '../../tools/world.js';
import { line, painter, safe, toJson } from '../common/output.js';
import { cronJobsWith, openPolicyApi } from './cluster.js';
import { withEvidence } from './evidence.js';
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
  const api = await openApi(flags);
  const onImpact = (impact: Counted | AgentError) => reportImpact(policy, impact, flags);
  const evidence: WithEvidence = (use) => withEvidence(flags, use, true);
  const context = { api, evidence, cronJobs: cronJobsWith(flags, true), onImpact };
  const { days, force = false, dryRun = false, output, color } = flags;
  try {
    const result = await makeStep(name, policy, context, { days, force, dryRun });
    const { says, changes, warnings, refused, eventError } = result;
    if (refused) {
      process.stderr.write(`egressctl: ${policy.text} ${says}\n`);
      process.stderr.write('  --force enforces it nevertheless; --days says how long it must be quiet\n');
      process.exitCode = EXIT.denied;
      return;
    }
    if (eventError !== undefined)
      process.stderr.write(`egressctl: the Event could not be written: ${safe(eventError)}\n`);
    for (const warning of warnings) process.stderr.write(`egressctl: ${policy.text}: ${warning}\n`);
    if (output === 'json') await line(toJson({ policy: policy.text, step: name, says, changes, dryRun, warnings }, 2));
    else {
      const dry = dryRun ? ' (dry run: nothing was changed)' : '';
      await line(`${painter(color)('bold', safe(policy.text))} ${says}${dry}`);
    }
  } finally {
    api.close();
  }
}

/** Says who will be denied, or what is missing, before anything is written. */
function reportImpact(policy: PolicyName, impact: Counted | AgentError, { color }: StepFlags): void {
  if (impact instanceof AgentError) {
    process.stderr.write(`egressctl: its impact is not known: ${safe(impact.message)}\n`);
    return;
  }
  if (impact.impact.stage !== 'staged') return;
  const lines = impactLines(policy, impact.known, impact.impact, painter(color, process.stderr));
  for (const text of lines) process.stderr.write(`${text}\n`);
}

async function openApi(flags: StepFlags): Promise<PolicyApi> {
  try {
    return await openPolicyApi(flags);
  } catch (e) {
    if (!(e instanceof AgentError) || e.code !== 'USAGE') throw e;
    const hint = `${e.hint === undefined ? '' : `${e.hint}; `}for policies in files: --manifests`;
    throw new AgentError(e.code, e.message, { ...(e.where ? { where: e.where } : {}), hint });
  }
}
