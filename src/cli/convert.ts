/** egressctl convert */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Target } from '../convert/common.js';
import { TARGETS } from '../convert/common.js';
import { type Conversion, convert, type Refused } from '../convert/index.js';
import { documentText } from '../convert/text.js';
import type { RawPolicy } from '../identity/snapshot.js';
import { type Cidr, tryParseCidr } from '../net/addr.js';
import { loadWorld } from '../tools/world.js';
import { EXIT } from './exit.js';
import { line, painter, safe, toJson } from './output.js';
import type { Globals } from './program.js';

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
    .argument('<file...>', 'files or directories of manifests')
    .description('Say policies in another language: equivalent ones, proven, or the reason why there is none.')
    .addOption(new Option('--to <language>', 'of the result').choices(TARGETS).makeOptionMandatory())
    .option('--with <dir...>', 'manifests that stay as they are: pods, namespaces, nodes, other policies')
    .option('--cluster-cidr <cidr>', 'pods and nodes have addresses in these networks only; repeatable', addCidr)
    .option('--ignore-own', 'packets to the pod itself and to its own node do not count')
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['yaml', 'json']).default('yaml'))
    .addHelpText(
      'after',
      `
Exit code: 0 all policies are converted and proven, 1 one has no equivalent (the others are printed), 2 wrong usage.

Printed are the policies for egress in the new language, with comments that say what each came from; policies that
are in it already stay as they are. Other objects (pods, namespaces, Services …) are left out. On standard
error: which policies have no equivalent, and why, rule by rule; and what they say of ingress, which is not converted.

Proof: the result is read again and compared with what was given, packet by packet at every boundary of every
rule: each policy by itself, and all of them together with those of --with; in clusters made up to tell their selectors
and networks apart, and in the one that was given. In audit mode stays what was in audit mode.

Languages differ in what no policy can change, so strictly few have equivalents. Two things may be taken for granted:
  --ignore-own         a NetworkPolicy always lets a pod reach itself and its own node, Cilium's policies itself, the others nothing
  --cluster-cidr       Cilium's toCIDR never means pods and nodes, blocks of the others do: say where these are

Examples:
  egressctl convert --to cilium policies/ --cluster-cidr 10.0.0.0/8
  egressctl convert --to calico policies/ --with cluster/ --ignore-own`,
    );
  command.action(async (files: string[]) => {
    const flags = command.optsWithGlobals<ConvertFlags>();
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
  if (!cidr) throw new InvalidArgumentError('a CIDR is meant, such as 10.0.0.0/8');
  return [...(before ?? []), cidr];
}

async function printYaml({ converted, kept }: Conversion, { clusterCidr, ignoreOwn }: ConvertFlags): Promise<void> {
  const assumed = [
    ...(clusterCidr ? [`pods and nodes have addresses in ${clusterCidr.map((c) => c.text).join(', ')} only`] : []),
    ...(ignoreOwn ? ['packets to the pod itself and to its own node do not count'] : []),
  ];
  if (assumed.length > 0 && converted.length > 0) await line(`# Equivalent where ${assumed.join(', and ')}.`);
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
  for (const one of refused) for (const text of reasonTexts(one)) say(`${paint('red', 'refused')} ${safe(text)}`);
  if (unread > 0) say(`egressctl: ${unread} problems in what was given; egressctl validate lists them`);
  const stay = kept.length > 0 ? `, ${kept.length} kept` : '';
  say(`${converted.length} converted${stay}, ${refused.length} refused; ${packets} packets compared`);
}

/** What was taken for granted, for programs. */
function assumedIn({ clusterCidr, ignoreOwn }: ConvertFlags) {
  return { ...(clusterCidr ? { clusterCidr: clusterCidr.map((c) => c.text) } : {}), ignoreOwn: ignoreOwn ?? false };
}

function toObject({ converted, kept, refused, notes, packets }: Conversion) {
  const said = ({ source, reasons }: Refused) => ({ from: source.title, where: source.raw.where, reasons });
  return {
    converted: converted.map(({ source, objects }) => ({ from: source.title, where: source.raw.where, objects })),
    kept: kept.map((raw) => raw.object),
    refused: refused.map(said),
    notes: notes.map(said),
    packets,
  };
}
