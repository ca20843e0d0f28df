/** egressctl names: what pods learned of names. */
import Table from 'cli-table3';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { LearnedNameMessage, NamesRequest, NamesResponse } from '../../proto/messages.js';
import { millisOf, PLAIN } from '../flows/format.js';
import { duration, line, type Paint, painter, safe, toJson } from '../common/output.js';
import { type Globals, isCluster } from '../common/globals.js';
import { addressList, left } from '../common/learned.js';

interface NamesFlags extends Globals {
  pod?: string;
  name?: string;
  ip?: string;
  limit: number;
  output: 'text' | 'wide' | 'json';
}

const DEFAULT_LIMIT = 1000;
const MOST = 5000;

export function namesCommand(program: Command): void {
  const command = program
    .command('names')
    .description(
      'List the DNS names that pods learned: since when, for how long, from which resolver, for which rules.',
    )
    .option('--pod <ns/name>', 'only of this pod')
    .option('--name <pattern>', 'only names that match; * matches any characters')
    .option('--ip <address>', 'only names of this address')
    .option('--limit <number>', `most names, up to ${MOST}`, parseLimit, DEFAULT_LIMIT)
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'wide', 'json']).default('text'))
    .addHelpText(
      'after',
      `
Examples:
  egressctl names --pod shop/web
  egressctl names --name '*.amazonaws.com' -o wide
  egressctl names --ip 203.0.113.10`,
    );
  command.action(async () => {
    const flags = command.optsWithGlobals<NamesFlags>();
    const { pod, name, ip, limit } = flags;
    const request: NamesRequest = {
      ...(pod === undefined ? {} : { pod }),
      ...(name === undefined ? {} : { name }),
      ...(ip === undefined ? {} : { ip }),
      limit,
    };
    const answer = await ask(flags, request);
    for (const node of answer.unavailable_nodes ?? [])
      process.stderr.write(`egressctl: ${safe(node)} did not answer\n`);
    if (answer.more) process.stderr.write(`egressctl: there are more names; see --pod, --name, --ip and --limit\n`);
    await line(flags.output === 'json' ? json(answer) : table(answer, flags.output === 'wide', painter(flags.color)));
  });
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^\d+$/.test(text) || limit < 1 || limit > MOST)
    throw new InvalidArgumentError(`It is a number from 1 to ${MOST}.`);
  return limit;
}

async function ask(flags: NamesFlags, request: NamesRequest): Promise<NamesResponse> {
  if (await isCluster(flags)) {
    // The client of the Kubernetes API takes longer to load than everything else, so it is loaded only here.
    const { askNames } = await import('../cluster/names.js');
    return askNames(flags, request);
  }
  const { AgentClient } = await import('../../rpc/transport/client.js');
  const client = new AgentClient(flags.socket);
  try {
    return await client.names(request);
  } finally {
    client.close();
  }
}

/** Times in RFC 3339. */
function json({ names = [], more = false }: NamesResponse): string {
  const time = (t: LearnedNameMessage['learned_at']) => new Date(millisOf(t)).toISOString();
  const entries = names.map((n) => ({
    pod: n.pod ?? '',
    name: n.name ?? '',
    asked: n.asked ?? false,
    seeded: n.seeded ?? false,
    learned_at: time(n.learned_at),
    answered_at: time(n.answered_at),
    expires_at: time(n.expires_at),
    resolver: n.resolver ?? '',
    addresses: (n.addresses ?? []).map((a) => ({
      ip: a.ip,
      alias: a.alias ?? false,
      expires_at: time(a.expires_at),
      ttl: a.ttl ?? 0,
    })),
    rules: (n.rules ?? []).map((r) => r.text),
    node: n.node_name ?? '',
  }));
  return toJson({ names: entries, more }, 2);
}

/** Formats names as a table. @param now milliseconds since 1970 */
export function table(answer: NamesResponse, wide: boolean, paint: Paint, now: number = Date.now()): string {
  const names = answer.names ?? [];
  if (names.length === 0) return 'no names are known';
  const head = [
    'POD',
    'NAME',
    'ADDRESSES',
    'SINCE',
    'LEFT',
    'RESOLVER',
    'RULES',
    ...(wide ? ['LAST ANSWER', 'NODE'] : []),
  ];
  const t = new Table({ head, style: { head: [], border: [], compact: true }, chars: PLAIN });
  const sorted = [...names].sort((a, b) => compare(a.pod ?? '', b.pod ?? '') || compare(a.name ?? '', b.name ?? ''));
  for (const n of sorted) {
    const marks = [n.seeded ? 'seeded' : '', n.asked ? '' : 'alias'].filter((m) => m !== '');
    const expires = millisOf(n.expires_at);
    const since = (at: number) => duration(Math.max(now - at, 0) * 1e6);
    const rules = (n.rules ?? []).map((r) => safe(r.text));
    const ips = (n.addresses ?? []).map((a) => safe(a.ip));
    t.push([
      safe(n.pod || '(gone)'),
      `${safe(n.name || '.')}${marks.length > 0 ? ` (${marks.join(', ')})` : ''}`,
      addressList(ips, wide ? Number.POSITIVE_INFINITY : 3),
      since(millisOf(n.learned_at)),
      expires > now ? left(expires, now) : paint('yellow', 'in use'),
      safe(n.resolver ?? ''),
      rules.length === 0 ? paint('dim', 'none') : addressList(rules, wide ? Number.POSITIVE_INFINITY : 2),
      ...(wide ? [since(millisOf(n.answered_at)), safe(n.node_name ?? '')] : []),
    ]);
  }
  return t.toString();
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
