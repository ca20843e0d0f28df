/** egressctl convert */
import { counted } from '../../counted.js';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Target } from '../../convert/terms/common.js';
import { TARGETS } from '../../convert/terms/common.js';
import type { Conversion, Refused } from '../../convert/index.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import { type Cidr, tryParseCidr } from '../../net/addr.js';
import { EXIT } from '../../exit.js';
import { line, painter, repeated, safe, toJson } from '../common/output.js';
import type { Globals } from '../common/globals.js';

interface ConvertFlags extends Globals {
  to: Target;
  output: 'yaml' | 'json';
  with?: string[];
  clusterCidr?: Cidr[];
  ignoreOwn?: boolean;
}

export function convertCommand(program: Command): void {
  const command = program
    .command('convert')
    .argument('<file...>', 'files or directories with manifests')
    .description('Convert policies to another policy language and prove that the result is equivalent.')
    .addOption(new Option('--to <language>', 'language of the result').choices(TARGETS).makeOptionMandatory())
    .option(
      '--with <path>',
      'manifests that are not converted: pods, namespaces, nodes, other policies; repeatable',
      repeated,
    )
    .option(
      '--cluster-cidr <cidr>',
      'assume that pods and nodes have addresses in these networks only; repeatable',
      addCidr,
    )
    .option('--ignore-own', 'do not compare packets to the pod itself and to its own node')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['yaml', 'json']).default('yaml'))
    .addHelpText(
      'after',
      `
Exit code: 0 all policies are converted and proven, 1 one has no equivalent (the others are
printed), 2 wrong usage.

Output: egress policies in the new language, each with a comment that names its source. Policies
that are already in that language are printed unchanged. Other objects (pods, namespaces,
Services …) are omitted. Standard error lists the policies that have no equivalent, with the
reason for each rule, and the ingress rules, which are not converted.

Proof: the result is parsed again and compared with the input, packet by packet at every boundary
of every rule: each policy alone, and all of them together with the policies of --with. They are
compared in generated clusters that distinguish the selectors and networks, and in the given
cluster. Policies in audit mode stay in audit mode.

Assumptions: the languages differ in traffic that no policy can change. Without assumptions, few
policies have an exact equivalent:
  --ignore-own    NetworkPolicy always allows a pod to reach itself and its own node, Cilium
                  allows a pod to reach itself, the other languages allow neither
  --cluster-cidr  toCIDR of Cilium never matches pods and nodes, CIDR blocks of the other
                  languages do

Examples:
  egressctl convert --to cilium policies/ --cluster-cidr 10.0.0.0/8
  egressctl convert --to calico policies/ --with cluster/ --ignore-own`,
    );
  command.action(async (files: string[]) => {
    const flags = command.optsWithGlobals<ConvertFlags>();
    const { convert } = await import('../../convert/index.js');
    const { loadWorld } = await import('../../tools/world.js');
    const own = loadWorld(files);
    const all = flags.with ? loadWorld([...files, ...flags.with]) : own;
    const names = new Set(own.snapshot.policies.map(keyOf));
    const policies = all.snapshot.policies.filter((raw) => names.has(keyOf(raw)));
    const assumed = {
      ignoreOwn: flags.ignoreOwn ?? false,
      ...(flags.clusterCidr ? { cluster: flags.clusterCidr } : {}),
    };
    const result = convert(policies, all.snapshot, flags.to, assumed);
    const unread = own.snapshot.problems.filter((p) => p.severity === 'error');
    if (result.refused.length > 0 || unread.length > 0) process.exitCode = EXIT.failed;
    if (flags.output === 'json') await line(toJson({ ...toObject(result), assumed: assumedIn(flags) }, 2));
    else await printYaml(result, flags);
    report(result, flags, unread.length);
  });
}

function keyOf({ apiVersion, kind, namespace, name }: RawPolicy): string {
  return JSON.stringify([apiVersion, kind, namespace, name]);
}

function addCidr(text: string, before: Cidr[] | undefined): Cidr[] {
  const cidr = tryParseCidr(text);
  if (!cidr) throw new InvalidArgumentError('It must be a CIDR block, such as 10.0.0.0/8.');
  return [...(before ?? []), cidr];
}

async function printYaml({ converted, kept }: Conversion, { clusterCidr, ignoreOwn }: ConvertFlags): Promise<void> {
  const assumed = [
    ...(clusterCidr ? [`pods and nodes have addresses in ${clusterCidr.map((c) => c.text).join(', ')} only`] : []),
    ...(ignoreOwn ? ['packets to the pod itself and to its own node do not count'] : []),
  ];
  if (assumed.length > 0 && converted.length > 0) await line(`# Equivalent where ${assumed.join(', and ')}.`);
  const { documentText } = await import('../../convert/text.js');
  for (const text of new Set(converted.flatMap(({ texts }) => texts))) await line(text.trimEnd());
  for (const raw of kept) await line(documentText(raw.object, [`${titleOf(raw)}, as it was`]).trimEnd());
}

function titleOf({ kind, namespace, name }: RawPolicy): string {
  return `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}

function reasonTexts({ source, reasons }: Refused): string[] {
  return reasons.map(({ field, message }) => `${source.title}: ${field === '' ? '' : `${field}: `}${message}`);
}

function report({ converted, kept, refused, notes, packets }: Conversion, flags: ConvertFlags, unread: number): void {
  const paint = painter(flags.color, process.stderr);
  const say = (text: string) => process.stderr.write(`${text}\n`);
  for (const note of notes) for (const text of reasonTexts(note)) say(`${paint('yellow', 'note')} ${safe(text)}`);
  for (const refusal of refused)
    for (const text of reasonTexts(refusal)) say(`${paint('red', 'refused')} ${safe(text)}`);
  if (unread > 0) say(`egressctl: ${counted(unread, 'problem')} in what was given; egressctl validate lists them`);
  const unchanged = kept.length > 0 ? `, ${kept.length} kept` : '';
  say(`${converted.length} converted${unchanged}, ${refused.length} refused; ${counted(packets, 'packet')} compared`);
}

/** The assumptions, for JSON output. */
function assumedIn({ clusterCidr, ignoreOwn }: ConvertFlags) {
  return { ...(clusterCidr ? { clusterCidr: clusterCidr.map((c) => c.text) } : {}), ignoreOwn: ignoreOwn ?? false };
}

function toObject({ converted, kept, refused, notes, packets }: Conversion) {
  const reasonsOf = ({ source, reasons }: Refused) => ({ from: source.title, where: source.raw.where, reasons });
  return {
    converted: converted.map(({ source, objects }) => ({ from: source.title, where: source.raw.where, objects })),
    kept: kept.map((raw) => raw.object),
    refused: refused.map(reasonsOf),
    notes: notes.map(reasonsOf),
    packets,
  };
}
