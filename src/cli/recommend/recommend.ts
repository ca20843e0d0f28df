/** egressctl recommend */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { counted } from '../../counted.js';
import { EXIT } from '../../exit.js';
import { tryCanonicalAddr, tryParseCidr } from '../../net/addr.js';
import { hasPorts, parseProtocol } from '../../net/protocol.js';
import { LANGUAGES } from '../../recommend/base/names.js';
import type { Network, PortRange, Recommendation } from '../../recommend/base/types.js';
import { line, painter, repeated, safe, toJson } from '../common/output.js';
import { parseTime } from '../flows/options.js';
import type { RecommendFlags } from './flags.js';

export function recommendCommand(program: Command): void {
  const command = program
    .command('recommend')
    .argument('[workload...]', 'workloads, as NAMESPACE/NAME; without one, all but those of kube-* namespaces')
    .description('Write staged policies that allow what workloads were seen to need, with the evidence of each rule.')
    .option('-n, --namespace <ns>', 'only workloads of this namespace; repeatable', repeated)
    .addOption(new Option('--to <language>', 'language of the policies').choices(LANGUAGES).default('networkpolicy'))
    .option('--since <time>', 'evidence since a time, or a duration before now; default: all that is kept', time)
    .option('--until <time>', 'evidence until a time, or a duration before now', time)
    .option('--min-days <n>', 'recommend what was seen on as many days', days, 2)
    .option('--network <name=cidr>', 'a network whose addresses belong together; repeatable', network)
    .option('--range <ports>', 'ports that belong together, such as 30000-32767/tcp; repeatable', range)
    .option('--cluster-cidr <cidr>', 'a block of pods and nodes: addresses that nobody has are left out', cidr)
    .option('--dns <address>', 'DNS server on each node, such as that of NodeLocal DNSCache; repeatable', address)
    .option('--with-denied', 'recommend what was denied, too')
    .option('--manifests <path>', 'the cluster as manifests, in place of an agent; repeatable', repeated)
    .option('--edges <file>', 'evidence that was saved by egressctl history -o json, in place of what agents have')
    .option('--output-dir <dir>', 'write a file for each workload into this directory')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['yaml', 'json', 'text']).default('yaml'))
    .addHelpText(
      'after',
      `
Exit code: 0 done, 1 a workload that was named gets no policy, or nobody answers, 2 wrong usage.

Output: policies that are staged, so that they deny nothing, with the evidence of each rule as a
comment. Standard error says what is learning and why, what is left out, and what the policies would
deny of what was seen. -o text has all of it; -o json too.

Not recommended: what was seen on fewer days, what nobody answered, scans, what was denied, and what
goes to pods that are gone. DNS is always allowed. The policies are read again before they are
printed, and every edge is judged by them and by the policies in force.

Examples:
  egressctl recommend shop/web
  egressctl recommend -n shop --to cilium --since 720h -o text
  egressctl history -o json > edges.json
  egressctl recommend --manifests cluster/ --edges edges.json --output-dir recommended/`,
    );
  command.action(async (workloads: string[]) => {
    const flags = command.optsWithGlobals<RecommendFlags>();
    const bad = workloads.find((name) => !/^[^/]+\/[^/]+$/.test(name));
    if (bad !== undefined) command.error(`error: ${safe(bad)} is not NAMESPACE/NAME`, { exitCode: EXIT.usage });
    const { ask } = await import('./ask.js');
    const { result, unavailable } = await ask(flags, workloads);
    for (const node of unavailable) process.stderr.write(`egressctl: ${safe(node)} did not answer\n`);
    await print(result, flags);
    const known = new Set(result.workloads.map(({ workload }) => workload));
    const missing = workloads.filter((name) => !known.has(name));
    for (const name of missing) process.stderr.write(`egressctl: nothing is known of ${safe(name)}\n`);
    const refused = workloads.length > 0 && result.workloads.some((one) => one.refused !== undefined);
    if (missing.length > 0 || refused) process.exitCode = EXIT.failed;
  });
}

async function print(result: Recommendation, flags: RecommendFlags): Promise<void> {
  if (flags.outputDir !== undefined) {
    const { writeFiles } = await import('./files.js');
    const count = writeFiles(result, flags.outputDir);
    process.stderr.write(`egressctl: ${counted(count, 'file')} in ${safe(flags.outputDir)}\n`);
  }
  if (flags.output === 'json') {
    await line(toJson(result, 2));
    return;
  }
  const { noteLines, reportLines } = await import('./report.js');
  if (flags.output === 'text') {
    const paint = painter(flags.color);
    for (const text of reportLines(result, paint)) await line(text);
    return;
  }
  const paint = painter(flags.color, process.stderr);
  for (const text of noteLines(result, paint)) process.stderr.write(`${text}\n`);
  if (flags.outputDir === undefined)
    for (const { yaml } of result.workloads) if (yaml !== '') await line(yaml.trimEnd());
}

function time(text: string): number {
  const { seconds, nanos } = parseTime(text);
  return Number(seconds ?? 0) * 1000 + Math.floor((nanos ?? 0) / 1e6);
}

function days(text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text) || Number(text) > 366)
    throw new InvalidArgumentError('It is a number from 1 to 366.');
  return Number(text);
}

function network(text: string, before: Network[] | undefined): Network[] {
  const [, name, block] = /^([\w.-]{1,100})=(.+)$/.exec(text) ?? [];
  const parsed = block === undefined ? undefined : tryParseCidr(block);
  if (name === undefined || !parsed)
    throw new InvalidArgumentError('It must be a name and a block: office=10.1.0.0/16.');
  return [...(before ?? []), { name, cidr: parsed.text }];
}

function range(text: string, before: PortRange[] | undefined): PortRange[] {
  const [, from, to, name = 'tcp'] = /^(\d{1,5})-(\d{1,5})(?:\/(\w+))?$/.exec(text) ?? [];
  const [lo, hi, protocol] = [Number(from), Number(to), parseProtocol(name)];
  if (from === undefined || lo < 1 || hi > 65535 || lo > hi || protocol === undefined || !hasPorts(protocol))
    throw new InvalidArgumentError('It must be ports and a protocol: 30000-32767/tcp.');
  return [...(before ?? []), { lo, hi, protocol }];
}

function cidr(text: string, before: string[] | undefined): string[] {
  const parsed = tryParseCidr(text);
  if (!parsed) throw new InvalidArgumentError('It must be a block: 10.0.0.0/8.');
  return [...(before ?? []), parsed.text];
}

function address(text: string, before: string[] | undefined): string[] {
  const parsed = tryCanonicalAddr(text);
  if (parsed === undefined) throw new InvalidArgumentError('It must be an address.');
  return [...(before ?? []), parsed];
}
