/** egressctl diff */
import { counted } from '../../counted.js';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Change, Outcome } from '../../tools/diff.js';
import { situationText } from '../../tools/names/changes.js';
import type { World } from '../../tools/packets.js';
import { changeObject, destinationTexts, LISTED, namesOf } from '../../tools/policies/difference.js';
import { type AddressNames, bounded, spansText } from '../../tools/ranges.js';
import { EXIT } from '../../exit.js';
import { line, type Paint, painter, repeated, safe, toJson } from '../common/output.js';
import type { Globals } from '../common/globals.js';
import { hearingOf, type VerifyFlags, verifyNamesOption } from '../common/verify.js';

interface DiffFlags extends Globals, VerifyFlags {
  output: 'text' | 'json';
  exitCode?: boolean;
  with?: string[];
  limit: number;
}

export function diffCommand(program: Command): void {
  const command = program
    .command('diff')
    .argument('<before>', 'directory or file with the old manifests')
    .argument('<after>', 'directory or file with the new manifests')
    .description('Show which flows change their verdict between two sets of policies, and which rules decide.')
    .option(
      '--with <path>',
      'more manifests for both sides: pods, namespaces, nodes, Services, other policies; repeatable',
      repeated,
    )
    .addOption(verifyNamesOption())
    .option('--exit-code', 'exit with 3 if the verdict of a flow changes')
    .option('--limit <n>', 'maximum number of changes to list, 0 for all', parseLimit, 100)
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'))
    .addHelpText(
      'after',
      `
Exit code: 0 done, 1 a manifest cannot be read, 3 --exit-code and a change.

Every packet of every pod is compared, not a sample. Destinations and ports that no rule
distinguishes are judged once. Both sides are compared with the same pods, namespaces, nodes and
Services: objects that only one side has are added to the other. Staged policies are ignored.

Examples:
  egressctl diff policies.old policies.new --with cluster/
  git worktree add /tmp/main main && egressctl diff /tmp/main/policies policies --exit-code`,
    );
  command.action(async (before: string, after: string) => {
    const flags = command.optsWithGlobals<DiffFlags>();
    const { diff } = await import('../../tools/diff.js');
    const { completed, loadWorld } = await import('../../tools/world.js');
    const shared = flags.with ?? [];
    const load = (path: string) => loadWorld([path, ...shared], hearingOf(flags));
    const loaded = [load(before), load(after)] as const;
    for (const [i, { problems }] of loaded.entries()) {
      const dir = i === 0 ? before : after;
      if (problems.length > 0)
        process.stderr.write(
          `egressctl: ${counted(problems.length, 'problem')} in ${safe(dir)}; egressctl validate lists them\n`,
        );
    }
    const worlds = completed(...loaded);
    const { changes, pods } = diff(...worlds);
    if (flags.exitCode && changes.length > 0) process.exitCode = EXIT.denied;
    const listed = flags.limit === 0 ? changes : changes.slice(0, flags.limit);
    const omitted = changes.length - listed.length;
    const names = namesOf(worlds);
    if (flags.output === 'json') {
      await line(toJson({ changes: listed.map((c) => changeObject(c, names)), leftOut: omitted, pods }, 2));
      return;
    }
    const paint = painter(flags.color);
    let last = '';
    for (const change of listed) {
      const who = sendersText(change.senders, worlds);
      if (who !== last) await line(paint('bold', safe(who)));
      last = who;
      await line(changeText(change, names, paint));
    }
    if (omitted > 0) await line(`and ${counted(omitted, 'more change')} (--limit 0)`);
    if (pods === 0) await line('no pods to compare: add their manifests with --with');
    else
      await line(
        changes.length === 0
          ? paint('green', `no flow of ${counted(pods, 'pod')} changes`)
          : `${counted(changes.length, 'change')}, ${counted(pods, 'pod')} compared`,
      );
  });
}

function parseLimit(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('It must be a number.');
  return Number(text);
}

/** The names of the pods. If all pods of a workload are among them, the workload stands for them. */
function sendersText(keys: readonly string[], worlds: readonly World[]): string {
  const workloads = new Map<string, Set<string>>();
  const workloadOf = (key: string) => {
    const pod = worlds.map(({ snapshot }) => snapshot.pods.get(key)).find((p) => p !== undefined);
    return pod?.workload && `${pod.namespace}/${pod.workload.name} (${pod.workload.kind})`;
  };
  for (const { snapshot } of worlds)
    for (const key of snapshot.pods.keys()) {
      const workload = workloadOf(key);
      if (workload === undefined) continue;
      const pods = workloads.get(workload);
      if (pods) pods.add(key);
      else workloads.set(workload, new Set([key]));
    }
  const own = new Set(keys);
  const out = new Set<string>();
  for (const key of keys) {
    const workload = workloadOf(key);
    const all = [...(workloads.get(workload ?? '') ?? [])];
    out.add(workload !== undefined && all.length > 1 && all.every((k) => own.has(k)) ? workload : key);
  }
  return bounded([...out], LISTED);
}

function outcomeText({ verdict, rule }: Outcome): string {
  return rule === undefined ? verdict : `${verdict} [${rule}]`;
}

const MARKS = { allow: '+', deny: '-', partial: '~' } as const;

function changeText({ to, ports, was, is, ...when }: Change, names: AddressNames, paint: Paint): string {
  const style = is.verdict === 'allow' ? 'green' : is.verdict === 'deny' ? 'red' : 'yellow';
  const where = `${bounded(destinationTexts(to, names), LISTED)}${situationText(when)}`;
  return `  ${paint(style, `${MARKS[is.verdict]} ${safe(where)} on ${spansText(ports)}`)}: ${safe(`${outcomeText(was)} → ${outcomeText(is)}`)}`;
}
