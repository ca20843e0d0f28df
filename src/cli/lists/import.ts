/** egressctl import */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { counted } from '../../counted.js';
import { EXIT } from '../../exit.js';
import type { Imported } from '../../import/index.js';
import { SOURCES, type Source, TARGETS, type Target } from '../../import/names.js';
import type { Resolver } from '../../import/targets/common.js';
import { tryParseCidr } from '../../net/addr.js';
import type { Globals } from '../common/globals.js';
import { line, painter, safe, toJson } from '../common/output.js';

type Labels = Readonly<Record<string, string>>;

interface ImportFlags extends Globals {
  from: Source;
  to: Target;
  output: 'yaml' | 'json';
  namespace?: string;
  podSelector?: Labels;
  name: string;
  dns?: Resolver[];
  priority: number;
  assume?: Map<string, boolean>;
  allowConnections?: boolean;
}

const KUBE_DNS: Resolver = { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } };

export function importCommand(program: Command): void {
  const command = program
    .command('import')
    .argument('<file...>', 'files of the other product')
    .description('Make policies of lists that a proxy, a cloud firewall or a mesh enforces.')
    .addOption(new Option('--from <product>', 'product whose files these are').choices(SOURCES).makeOptionMandatory())
    .addOption(new Option('--to <language>', 'language of the policies').choices(TARGETS).makeOptionMandatory())
    .option('--name <name>', 'name of the policies', dnsName, 'imported')
    .option('--namespace <ns>', 'namespace of the pods; without it, pods of every namespace', dnsName)
    .option(
      '--pod-selector <labels>',
      'pods with these labels, such as app=web,tier=front; without it, every pod',
      labels,
    )
    .option(
      '--dns <server>',
      'DNS server that the pods may ask: namespace/label=value for pods, or an address; repeatable (default: kube-system/k8s-app=kube-dns)',
      resolver,
    )
    .option(
      '--assume <name=yes|no>',
      'say that a condition that no policy has always or never holds for these pods; repeatable',
      assumption,
    )
    .option('--allow-connections', 'with lists about queries: also allow every connection that is no query')
    .option('--priority <n>', 'priority of a ClusterNetworkPolicy, order of a Calico policy', priority, 500)
    .addOption(new Option('-o, --output <format>', 'output format').choices(['yaml', 'json']).default('yaml'))
    .addHelpText(
      'after',
      `
Exit code: 0 all of it is said, 1 some of it has no equivalent (the rest is printed) or a file cannot
be read, 2 wrong usage.

Output: policies for the selected pods, and the rule that lets them ask their DNS server. Standard
error names by file and line what has no equivalent, with the reason, and notes where a policy means
something else than the source, wider or narrower.

What has no equivalent allows nothing: an allow with a condition that no policy has (who asks, when)
is left out, a deny with such a condition denies always. --assume NAME=yes or NAME=no says of such a
condition that it always or never holds for these pods.

Names are those that connections say themselves, in TLS or as the host of an HTTP request: serverNames
and rules.http of Cilium, the annotation egress-agent.io/verify-names: strict in other languages.

Proof: the policies are read again and compared with the source, at the boundary of every name, block
and port, also by connections that say another name or none. Policies that would allow more are not
printed.

Examples:
  egressctl import --from squid squid.conf --to cilium --namespace shop --assume localnet=yes
  egressctl import --from istio mesh.yaml --to cnp --namespace shop --pod-selector app=web
  egressctl import --from aws-network-firewall group.json policy.json --to calico
  egressctl import --from route53-dns-firewall rules.json rslvr-fdl-1.json --to cilium`,
    );
  command.action(async (files: string[]) => {
    const flags = command.optsWithGlobals<ImportFlags>();
    if (flags.to === 'fqdn' && flags.namespace === undefined)
      command.error('error: --to fqdn needs --namespace: there is no FQDNNetworkPolicy for a whole cluster', {
        exitCode: EXIT.usage,
      });
    const { importLists } = await import('../../import/index.js');
    const subject = {
      name: flags.name,
      namespace: flags.namespace,
      labels: flags.podSelector ?? {},
      resolvers: flags.dns ?? [KUBE_DNS],
      priority: flags.priority,
      connections: flags.allowConnections ?? false,
    };
    const result = importLists(flags.from, files, flags.to, subject, flags.assume);
    if (result.refused.length > 0) process.exitCode = EXIT.failed;
    if (flags.output === 'json') await line(toJson(toObject(result), 2));
    else for (const text of result.texts) await line(text.trimEnd());
    await report(result, flags);
  });
}

function dnsName(text: string): string {
  if (/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(text)) return text;
  throw new InvalidArgumentError('It must consist of lower-case letters, digits and "-", 63 at most.');
}

const KEY = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?$/;
const VALUE = /^([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?$/;

function labels(text: string): Labels {
  const pairs = text.split(',').map((pair) => pair.split('='));
  if (pairs.some(([key = '', value, ...rest]) => !KEY.test(key) || !VALUE.test(value ?? '-') || rest.length > 0))
    throw new InvalidArgumentError('It must be labels, such as app=web,tier=front.');
  return Object.fromEntries(pairs.map(([key, value]) => [key as string, value as string]));
}

function resolver(text: string, before: Resolver[] | undefined): Resolver[] {
  const cidr = tryParseCidr(text);
  if (cidr) return [...(before ?? []), { cidr: cidr.text }];
  const slash = text.indexOf('/');
  if (slash < 0) throw new InvalidArgumentError('It must be an address, or namespace/label=value.');
  return [...(before ?? []), { namespace: dnsName(text.slice(0, slash)), labels: labels(text.slice(slash + 1)) }];
}

function assumption(text: string, before: Map<string, boolean> | undefined): Map<string, boolean> {
  const found = /^(.+)=(yes|no)$/.exec(text);
  if (!found) throw new InvalidArgumentError('It must end with =yes or =no.');
  return new Map([...(before ?? []), [found[1] as string, found[2] === 'yes']]);
}

function priority(text: string): number {
  const number = /^\d{1,4}$/.test(text) ? Number(text) : Number.NaN;
  if (number >= 0 && number <= 1000) return number;
  throw new InvalidArgumentError('It must be a number from 0 to 1000.');
}

/** Refusals of one kind that are listed. */
const LISTED = 200;

async function report({ objects, refused, notes, proof }: Imported, flags: ImportFlags): Promise<void> {
  const { remarkText } = await import('../../import/index.js');
  const paint = painter(flags.color, process.stderr);
  const say = (text: string) => process.stderr.write(`${text}\n`);
  for (const note of notes.slice(0, LISTED)) say(`${paint('yellow', 'note')} ${safe(remarkText(note))}`);
  if (notes.length > LISTED) say(`${paint('yellow', 'note')} and ${notes.length - LISTED} more (-o json has them all)`);
  for (const one of refused.slice(0, LISTED)) say(`${paint('red', 'refused')} ${safe(remarkText(one))}`);
  if (refused.length > LISTED)
    say(`${paint('red', 'refused')} and ${refused.length - LISTED} more (-o json has them all)`);
  const { packets, names, looked, narrower, narrow } = proof;
  const some = looked < names ? `, with ${looked} of ${names} names` : '';
  const less =
    narrower > 0 ? `, of which ${narrower} that the source allows are not allowed, such as ${safe(narrow ?? '')}` : '';
  say(
    `${counted(objects.length, 'object')}, ${refused.length} refused; ${counted(packets, 'packet')} compared${some}${less}`,
  );
}

function toObject({ objects, refused, notes, proof }: Imported) {
  return { objects, refused, notes, proof };
}
