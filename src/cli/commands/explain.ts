/** egressctl explain: why a packet would be allowed or denied. */
import { existsSync } from 'node:fs';
import { counted } from '../../counted.js';
import { type Command, Option } from 'commander';
import { AgentError } from '../../errors.js';
import { type ExplainedRule, type ExplainedTarget, type Explanation, explain } from '../../explain/explain.js';
import { describeSaid } from '../../explain/said.js';
import { formatRule } from '../../ir/names.js';
import type { Said } from '../../ir/packet.js';
import { podAddresses } from '../../tools/places.js';
import { NODE_SENDER, onNode, parseSender, senderOf, viewOf } from '../../ir/sender.js';
import { explainName, type NameExplanation, STAND_IN } from '../../named/explain-name.js';
import { type GivenName, isDnsName, learnedFrom, parseGiven, readGiven } from '../../named/given.js';
import { canonicalName } from '../../names/pattern.js';
import { tryCanonicalAddr } from '../../net/addr.js';
import { hasPorts, parseProtocol, protocolName } from '../../net/protocol.js';
import { helloSaying, requestSaying } from '../../said/given.js';
import { saidInput } from '../../rpc/said.js';
import type { AgentExplanation } from '../../rpc/view.js';
import { afterSlash } from '../../tools/target.js';
import { EXIT } from '../../exit.js';
import { fit, line, type Paint, painter, repeated, safe, toJson } from '../common/output.js';
import { addressList, nameLine } from '../common/learned.js';
import { type Globals, isCluster } from '../common/globals.js';
import { hearingOf, type VerifyFlags, verifyNamesOption } from '../common/verify.js';

interface ExplainFlags extends Globals, VerifyFlags {
  from: string;
  to: string;
  manifests?: string;
  all?: boolean;
  nodeName?: string;
  names?: string[];
  dnsQuery?: string;
  sni?: string;
  http?: string;
  header?: string[];
  output: 'text' | 'json';
}

export interface Target {
  /** Address, `namespace/name` of a pod, or a DNS name. */
  to: string;
  port: number;
  protocol: number;
  /** The name that the packet asks for, if it is a DNS query. */
  query?: string;
  /** What its connection says. */
  said?: Said;
}

export function explainCommand(program: Command): void {
  const command = program
    .command('explain')
    .description('Explain why a packet is allowed or denied: the tiers, policies and rules that apply.')
    .requiredOption('--from <ns/pod>', 'sender: a pod, or @node or @node/NAME for a node itself')
    .requiredOption(
      '--to <destination>',
      'IP, [IPv6], ns/pod or DNS name, with optional :port and /protocol; for ICMP the port is the type (1.2.3.4:8/icmp)',
    )
    .option('--manifests <path>', 'read policies from this directory or file; needs neither an agent nor root')
    .option('--all', 'list all policies and destinations, without a limit')
    .option('--node-name <name>', 'with --manifests: assume that the pod runs on this node')
    .option(
      '--names <file|name=ip>',
      'with --manifests: what the pod has learned, NAME=IP or a file of NAME IP lines; may be repeated',
      repeated,
    )
    .addOption(verifyNamesOption('with --manifests: '))
    .option('--dns-query <name>', 'the packet is a DNS query for this name; by default by UDP to port 53')
    .option('--sni <name>', 'the connection says this server name, in TLS or QUIC; -: a hello that names none')
    .option('--http <request>', "the connection says this HTTP request, e.g. 'GET http://host/path'")
    .option('--header <header>', "with --http: a header of the request, 'Name: value'; may be repeated", repeated)
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'))
    .addHelpText(
      'after',
      `
Exit code: 0 allowed, 3 denied.

Examples:
  egressctl explain --from shop/web --to 203.0.113.10:443
  egressctl explain --from shop/web --to api.example.com:443
  egressctl explain --from shop/web --to api.example.com:443 --sni api.example.com
  egressctl explain --from shop/web --to 203.0.113.10:80 --http 'GET http://api.example.com/v1/items'
  egressctl explain --from shop/web --to shop/api:8080/tcp --manifests ./policies
  egressctl explain --from shop/web --to api.example.com:443 --manifests ./policies --names api.example.com=203.0.113.10`,
    );
  command.action(async () => {
    const flags = command.optsWithGlobals<ExplainFlags>();
    const target = targetOf(flags);
    if (flags.verifyNames !== undefined && flags.manifests === undefined)
      throw new AgentError('USAGE', '--verify-names needs --manifests', { hint: 'an agent judges by its own option' });
    if (flags.names !== undefined && flags.manifests === undefined) {
      throw new AgentError('USAGE', '--names needs --manifests', { hint: 'an agent knows what its pods have learned' });
    }
    const explanation =
      flags.manifests === undefined ? await ask(flags, target) : await read(flags, flags.manifests, target);
    await line(
      flags.output === 'json'
        ? toJson(explanation, 2)
        : answerText(explanation, target, painter(flags.color), flags.all ? Number.POSITIVE_INFINITY : MOST),
    );
    const { verdict } = explanation;
    if ((typeof verdict === 'string' ? verdict : verdict.verdict) === 'deny') process.exitCode = EXIT.denied;
  });
}

/**
 * An address, a pod or a DNS name, then `:port`, then `/protocol`. A protocol without a port is possible only after an
 * address, since a pod's name contains a slash.
 */
const TARGET = /^(?:\[([^\]]+)\]|([^:[\]]+?))(?::(\d+))?(?:\/([A-Za-z0-9]+))?$/;
/** Protocol numbers of ICMP and ICMPv6. Their type (8 bits) is the upper byte of the field `port`. */
const ICMP: readonly number[] = [1, 58];

/** `1.2.3.4:443/tcp`, `1.2.3.4/gre`, `[fd00::1]:53/udp`, `fd00::1`, `ns/pod:8080`. @throws AgentError USAGE */
export function parseTarget(value: string): Target {
  const fail = (why: string) =>
    new AgentError('USAGE', `--to ${value}: ${why}`, {
      hint: 'for example 203.0.113.10:443/tcp, [2001:db8::1]:53/udp, shop/api:8080',
    });
  const bare = tryCanonicalAddr(value);
  if (bare !== undefined) return { to: bare, port: 0, protocol: 6 };
  const [, bracketed, plain, number, name] = TARGET.exec(value) ?? [];
  const address = tryCanonicalAddr(bracketed ?? plain ?? '');
  // Without a port, the text behind the slash is the name of the pod, not a protocol.
  const isPod = address === undefined && number === undefined;
  const pod = isPod && name !== undefined ? value : plain;
  if (address === undefined && (pod === undefined || !(/^[^/\s]+\/[^/\s]+$/.test(pod) || isDnsName(pod))))
    throw fail('neither an address, nor namespace/name of a pod, nor a DNS name');
  if (address !== undefined && number === undefined && /^\d+$/.test(name ?? ''))
    throw fail(afterSlash(address, name as string));
  const protocol = isPod || name === undefined ? 6 : parseProtocol(name);
  if (protocol === undefined) throw fail(`${name} is not a protocol`);
  const icmp = ICMP.includes(protocol);
  const port = Number(number ?? 0);
  if (port > (icmp ? 255 : 65535)) throw fail(`${number} is no ${icmp ? 'ICMP type' : 'port'}`);
  if (port > 0 && !icmp && !hasPorts(protocol)) throw fail(`${protocolName(protocol)} has no ports`);
  return { to: address ?? (pod as string), port: icmp ? port * 256 : port, protocol };
}

/** @throws AgentError USAGE */
function targetOf({ to, dnsQuery, sni, http, header }: ExplainFlags): Target {
  const given = [dnsQuery, sni, http].filter((one) => one !== undefined);
  if (given.length > 1) throw new AgentError('USAGE', 'give one of --dns-query, --sni and --http');
  if (header !== undefined && http === undefined) throw new AgentError('USAGE', '--header needs --http');
  if (dnsQuery !== undefined) return asQuery(to, dnsQuery);
  const target = parseTarget(to);
  if (sni === undefined && http === undefined) return target;
  if (target.protocol !== TCP && !(target.protocol === UDP && http === undefined)) {
    const what = http === undefined ? 'TLS is spoken over TCP, and QUIC over UDP' : 'HTTP/1 is spoken over TCP';
    throw new AgentError('USAGE', `--to ${to}: ${what}`);
  }
  return { ...target, said: http === undefined ? helloSaying(sni as string) : requestSaying(http, header) };
}

/** A DNS query for a name. @throws AgentError USAGE */
function asQuery(to: string, name: string): Target {
  const target = parseTarget(to);
  const query = canonicalName(name);
  if (query !== '' && !isDnsName(query)) throw new AgentError('USAGE', `--dns-query ${name} is not a DNS name`);
  if (isDnsName(target.to))
    throw new AgentError('USAGE', '--dns-query needs the address of a DNS server', { hint: 'write it as --to' });
  const protocol = /\/(tcp|6)$/.test(to) ? target.protocol : UDP;
  return { ...target, protocol, port: target.port || DNS_PORT, query };
}

const TCP = 6;
const UDP = 17;
const DNS_PORT = 53;

async function ask(flags: ExplainFlags, target: Target): Promise<AgentExplanation> {
  if (await isCluster(flags)) return askCluster(flags, target);
  const { AgentClient } = await import('../../rpc/transport/client.js');
  const client = new AgentClient(flags.socket);
  try {
    return JSON.parse(
      (await client.explain({ from: parseSender(flags.from).from, ...asked(target) })).json,
    ) as AgentExplanation;
  } finally {
    client.close();
  }
}

/** The target in the agent's words. */
function asked({ query, said, ...target }: Target) {
  const input = said && saidInput(said);
  return { ...target, ...(query === undefined ? {} : { dns_query: query || '.' }), ...(input ? { said: input } : {}) };
}

/** Asks the agent of the node on which the pod runs, since that agent judges the pod's packets. */
async function askCluster(flags: ExplainFlags, target: Target): Promise<AgentExplanation> {
  const { Cluster } = await import('../cluster/cluster.js');
  const cluster = await Cluster.open(flags);
  try {
    const { from, node } = parseSender(flags.from);
    if (from === NODE_SENDER && node === undefined) {
      throw new AgentError('USAGE', `--from ${from}: which node?`, { hint: `write ${NODE_SENDER}/NAME` });
    }
    const agent = await (node === undefined ? cluster.agentOf(from) : cluster.agentOn(node));
    const { json } = await agent.ask((client) => client.explain({ from, ...asked(target) }));
    return JSON.parse(json) as AgentExplanation;
  } finally {
    cluster.close();
  }
}

async function read(flags: ExplainFlags, path: string, target: Target): Promise<Explanation | NameExplanation> {
  const { loadWorld } = await import('../../tools/world.js');
  const { from, node = flags.nodeName } = parseSender(flags.from);
  const { ir, snapshot, problems } = loadWorld([path], hearingOf(flags));
  if (problems.length > 0)
    process.stderr.write(
      `egressctl: ${counted(problems.length, 'problem')} in ${path}; egressctl validate ${path} lists them\n`,
    );
  if (!senderOf(snapshot, from)) throw new AgentError('USAGE', `there is no pod ${from} in ${path}`);
  if (node !== undefined && from === NODE_SENDER && !snapshot.nodes.has(node))
    throw new AgentError('USAGE', `there is no node ${node} in ${path}`);
  const view = node === undefined ? viewOf(snapshot, from) : onNode(snapshot, node);
  const learned = learnedFrom(from, (flags.names ?? []).flatMap(givenNames));
  const { port, protocol, query, said } = target;
  const address = tryCanonicalAddr(target.to);
  if (address === undefined && isDnsName(target.to))
    return explainName(ir, view, { from, name: canonicalName(target.to), port, protocol, said }, learned);
  const to = address ?? podAddresses(snapshot, target.to)[0];
  const packet = { from, to, port, protocol, ...(query === undefined ? {} : { query }), ...(said ? { said } : {}) };
  return explain(ir, view, packet, learned);
}

/** The value of one `--names`. */
function givenNames(value: string): GivenName[] {
  return value.includes('=') && !existsSync(value) ? [parseGiven(value)] : readGiven(value);
}

/** Maximum number of backends, and of policies that do not select the sender, that are listed without --all. */
const MOST = 20;
/** Maximum length of one description without --all, in characters. */
const LONGEST = 240;

const MARKS: Readonly<Record<ExplainedRule['result'], string>> = {
  decides: '●',
  passes: '↓',
  logs: '✎',
  staged: '○',
  'no-match': '·',
  'not-reached': ' ',
};

function answerText(answer: AgentExplanation, target: Target, paint: Paint, most: number): string {
  const now = Date.now();
  const known = (answer.learned ?? []).map((name) => `  ${cut(nameLine(name, now), most)}`);
  if ('explanations' in answer) return nameText(answer, known, target, paint, most);
  return text(answer, target, paint, most, known);
}

const WORDS = { allow: 'ALLOWED', deny: 'DENIED' } as const;
const STYLES = { allow: 'green', deny: 'red', partial: 'yellow' } as const;

/** The verdict on a name: by what it is known, then each address. */
function nameText(e: NameExplanation, known: readonly string[], target: Target, paint: Paint, most: number): string {
  const [first] = e.explanations;
  const from = first?.packet.from ?? '';
  const word = e.verdict === 'partial' ? 'DEPENDS ON THE ADDRESS' : WORDS[e.verdict];
  const ips = e.explanations.map((x) => x.packet.to);
  const more = e.more > 0 ? ` and ${e.more} more` : '';
  const out = [
    `${paint('bold', safe(from))} → ${paint('bold', safe(e.name))} ${protocolName(target.protocol)}${target.port > 0 ? ` port ${target.port}` : ''}`,
    `${paint(STYLES[e.verdict], word)}: ${e.known ? `it is known as ${addressList(ips, MOST)}${more}` : `${safe(from)} has learned no address for it yet`}`,
    ...known,
  ];
  if (!e.known)
    out.push(`  judged is an address outside of the cluster (${STAND_IN}) that it would learn by this name`);
  if (e.query) {
    const { to, verdict, rule, answer } = e.query;
    const by = `${rule === undefined ? '' : ` by ${safe(rule)}`}${answer ? `, ${answerOf(answer)}` : ''}`;
    out.push(
      `  its DNS query to ${to}: ${verdict === 'partial' ? 'depends on the backend' : WORDS[verdict].toLowerCase()}${by}`,
    );
  }
  for (const hint of e.hints) out.push(`  ${paint('yellow', 'note')} ${cut(hint, most)}`);
  for (const x of e.explanations) out.push('', text(x, target, paint, most));
  return out.join('\n');
}

/** How a query is answered that is refused. */
function answerOf(answer: NonNullable<Explanation['answer']>): string {
  if (answer === 'option') return 'answered as the agent’s --dns-refusal says';
  return { refused: 'answered REFUSED', nxdomain: 'answered NXDOMAIN', nodata: 'answered without records' }[answer];
}

function text(e: Explanation, target: Target, paint: Paint, most: number, known: readonly string[] = []): string {
  const { packet, verdict } = e;
  const style = verdict.verdict === 'deny' ? 'red' : verdict.verdict === 'allow' ? 'green' : 'yellow';
  const word = { allow: 'ALLOWED', deny: 'DENIED', partial: 'DEPENDS ON THE BACKEND' }[verdict.verdict];
  const port = hasPorts(packet.protocol)
    ? target.port === 0
      ? ' (no port given: rules for single ports cannot match)'
      : ` port ${packet.port}`
    : packet.port
      ? ` type ${packet.port >> 8}`
      : '';
  const out = [
    `${paint('bold', safe(packet.from))} → ${paint('bold', packet.to)} ${protocolName(packet.protocol)}${port}`,
    `${paint(style, word)}: ${safe(e.summary)}`,
  ];
  if (packet.query !== undefined)
    out.push(`  a DNS query for ${safe(packet.query) || 'the root'}${e.answer ? `: ${answerOf(e.answer)}` : ''}`);
  if (packet.said) out.push(`  it is ${safe(describeSaid(packet.said))}`);
  if (e.pending) out.push('  this is its handshake: what the connection says then decides (--sni, --http)');
  const { audit } = verdict;
  if (audit && audit.verdict !== verdict.verdict) {
    const by = e.auditRule ? ` by ${safe(formatRule(e.auditRule))}` : '';
    out.push(`  ${paint('yellow', 'audit')} ${WORDS[audit.verdict].toLowerCase()}${by}`);
  }
  out.push(...known);
  if (!e.sender.selectable) out.push(`  ${safe(e.sender.why)}`);
  if (e.service)
    out.push(
      `  ${packet.to} is Service ${safe(`${e.service.namespace}/${e.service.name}`)}: ${backendsText(e.service.backends)} judged`,
    );
  for (const t of e.targets.slice(0, most)) out.push('', ...targetText(t, e.targets.length > 1, paint, most));
  if (e.targets.length > most) out.push('', `and ${counted(e.targets.length - most, 'more backend')} (--all)`);
  return out.join('\n');
}

function backendsText(count: number): string {
  return count === 1 ? 'its only backend is' : `each of its ${count} backends is`;
}

function targetText(t: ExplainedTarget, several: boolean, paint: Paint, most: number): string[] {
  const names = (t.names ?? []).map(({ name, alias }) => `${safe(name || 'the root')}${alias ? ' (alias)' : ''}`);
  const as = names.length === 0 ? '' : `, known as ${addressList(names)}`;
  const what = (t.is.length === 0 ? 'outside of the cluster' : t.is.map(safe).join(', ')) + as;
  const verdict = several ? `: ${t.verdict.verdict}` : '';
  const out = [`${paint('bold', `${t.ip}${t.port > 0 && several ? `:${t.port}` : ''}`)} is ${what}${verdict}`];
  if (t.before !== undefined) out.push(`  ${paint('red', '●')} denied before any rule: ${safe(t.before)}`);
  for (const tier of t.tiers) {
    out.push(
      `  ${paint('bold', `tier ${safe(tier.tier)}`)}: ${tier.applies ? tier.outcome : 'no policy of it selects the sender'}`,
    );
    let others = 0;
    for (const policy of tier.policies) {
      if (!policy.selected) {
        if (others++ < most)
          out.push(paint('dim', `    ${safe(policy.policy)}: not considered: ${cut(policy.why, most)}`));
        continue;
      }
      out.push(`    ${safe(policy.policy)}${policy.staged ? ' (staged)' : ''}: ${cut(policy.why, most)}`);
      for (const rule of policy.rules) out.push(ruleText(rule, paint, most));
    }
    if (others > most) out.push(paint('dim', `    and ${others - most} more that do not select the sender (--all)`));
    if (tier.applies) for (const rule of tier.always) out.push(ruleText(rule, paint, most));
  }
  return out;
}

function ruleText(r: ExplainedRule, paint: Paint, most: number): string {
  const body = `      ${MARKS[r.result]} ${safe(r.rule)} ${cut(r.text, most)}: ${cut(r.why, most)}`;
  if (r.result === 'decides') return paint(r.action === 'deny' ? 'red' : 'green', body);
  return r.result === 'no-match' || r.result === 'not-reached' ? paint('dim', body) : body;
}

/** Shortens a description unless --all is given: a rule may list thousands of destinations. */
function cut(text: string, most: number): string {
  const printable = safe(text);
  return printable.length > LONGEST && Number.isFinite(most) ? fit(printable, LONGEST) : printable;
}
