/** egressctl diff */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type Change, type Destination, diff, type Outcome } from '../tools/diff.js';
import type { World } from '../tools/packets.js';
import { type AddressNames, bounded, rangesText, rangeText, spansText } from '../tools/ranges.js';
import { completed, loadWorld } from '../tools/world.js';
import { EXIT } from './exit.js';
import { line, type Paint, painter, safe, toJson } from './output.js';
import type { Globals } from './program.js';

interface DiffFlags extends Globals {
  output: 'text' | 'json';
  exitCode?: boolean;
  with?: string[];
  limit: number;
}

export function diffCommand(program: Command): void {
  const command = program
    .command('diff')
    .argument('<before>', 'directory or file of manifests')
    .argument('<after>', 'the same, changed')
    .description('Say which flows change their verdict between two sets of policies, and by which rules.')
    .option('--with <dir...>', 'manifests that belong to both: pods, namespaces, nodes, Services, other policies')
    .option('--exit-code', 'exit with 3 if a flow changes')
    .option('--limit <n>', 'list at most so many changes; 0: all', atLeastNone, 100)
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['text', 'json']).default('text'))
    .addHelpText(
      'after',
      `
Exit code: 0 done, 1 something cannot be read, 3 with --exit-code and a change.

Every packet of every pod is compared, not a sample: destinations and ports that no rule tells apart
are judged once. Both sets are compared on the same pods, namespaces, nodes and Services: what only one of
them has, the other is given. What is staged changes nothing here.

Examples:
  egressctl diff policies.old policies.new --with cluster/
  git worktree add /tmp/main main && egressctl diff /tmp/main/policies policies --exit-code`,
    );
  command.action(async (before: string, after: string) => {
    const flags = command.optsWithGlobals<DiffFlags>();
    const shared = flags.with ?? [];
    const loaded = [loadWorld([before, ...shared]), loadWorld([after, ...shared])] as const;
    for (const [i, { problems }] of loaded.entries()) {
      const dir = i === 0 ? before : after;
      if (problems.length > 0)
        process.stderr.write(`egressctl: ${problems.length} problems in ${safe(dir)}; egressctl validate lists them\n`);
    }
    const worlds = completed(...loaded);
    const { changes, pods } = diff(...worlds);
    if (flags.exitCode && changes.length > 0) process.exitCode = EXIT.denied;
    const shown = flags.limit === 0 ? changes : changes.slice(0, flags.limit);
    const left = changes.length - shown.length;
    const names = namesOf(worlds);
    if (flags.output === 'json') {
      await line(toJson({ changes: shown.map((c) => toObject(c, names)), leftOut: left, pods }, 2));
      return;
    }
    const paint = painter(flags.color);
    let last = '';
    for (const change of shown) {
      const who = sendersText(change.senders, worlds);
      if (who !== last) await line(paint('bold', safe(who)));
      last = who;
      await line(changeText(change, names, paint));
    }
    if (left > 0) await line(`and ${left} more changes (--limit 0)`);
    if (pods === 0) await line('no pods to compare: give their manifests, --with');
    else
      await line(
        changes.length === 0
          ? paint('green', `no flow of ${pods} pods changes`)
          : `${changes.length} changes, ${pods} pods compared`,
      );
  });
}

function atLeastNone(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('a number is meant');
  return Number(text);
}

/** Whose an address is. */
function namesOf(worlds: readonly World[]): AddressNames {
  const names = new Map<string, string>();
  for (const { snapshot } of worlds) {
    for (const [name, node] of snapshot.nodes) for (const ip of node.ips) names.set(ip, `node ${name}`);
    for (const [key, pod] of snapshot.pods)
      if (!pod.hostNetwork && !pod.ended) for (const ip of pod.ips) names.set(ip, key);
  }
  return (ip) => names.get(ip);
}

/** So many pods, or destinations, are listed. */
const LISTED = 6;

/** Pods; all pods of a workload as the workload. */
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

function destinationTexts(to: Destination, names: AddressNames): string[] {
  if (to.kind === 'itself') return to.ips === undefined ? ['itself'] : [`itself at ${to.ips.join(', ')}`];
  if (to.kind === 'service') return [`Service ${to.service} (${bounded(to.ips, LISTED)})`];
  return rangesText(to.ranges, names);
}

function outcomeText({ verdict, rule }: Outcome): string {
  return rule === undefined ? verdict : `${verdict} [${rule}]`;
}

const MARKS = { allow: '+', deny: '-', partial: '~' } as const;

function changeText({ to, ports, was, is }: Change, names: AddressNames, paint: Paint): string {
  const style = is.verdict === 'allow' ? 'green' : is.verdict === 'deny' ? 'red' : 'yellow';
  const where = bounded(destinationTexts(to, names), LISTED);
  return `  ${paint(style, `${MARKS[is.verdict]} ${safe(where)} on ${spansText(ports)}`)}: ${safe(`${outcomeText(was)} → ${outcomeText(is)}`)}`;
}

/** All of it, for programs: ranges as text. */
function toObject({ senders, to, ports, was, is }: Change, names: AddressNames) {
  const destination = to.kind === 'addresses' ? { kind: to.kind, ranges: to.ranges.map(rangeText), own: to.own } : to;
  const text = { to: destinationTexts(to, names), ports: spansText(ports) };
  return { senders, to: destination, ports, was, is, text };
}
