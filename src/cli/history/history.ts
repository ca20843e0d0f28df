/** egressctl history: who talked to whom, over weeks. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { millisOf } from '../../edges/wire.js';
import { counted } from '../../counted.js';
import type { EdgeBook } from '../../edges/book.js';
import { EXIT } from '../../exit.js';
import type { EdgesRequest, HistoryFlowsRequest } from '../../proto/edges.js';
import type { GetRecordsResponse } from '../../proto/messages.js';
import { parseTime } from '../flows/options.js';
import { json as flowJson } from '../../flow/json.js';
import { compact } from '../flows/format.js';
import type { Globals } from '../common/globals.js';
import { line, painter, repeated, safe, toJson } from '../common/output.js';
import { historyJson, historyTable, type Row, rowsOf, statusText, timeText } from './format.js';

interface HistoryFlags extends Globals {
  workload?: string;
  namespace?: string[];
  since?: EdgesRequest['since'];
  until?: EdgesRequest['until'];
  verdict?: string[];
  limit?: number;
  output: 'text' | 'wide' | 'json';
}

const VERDICTS = ['allow', 'deny', 'partial', 'none'];
/** Days that are read if no time is given. */
const USUAL = '35d';
/** Edges of a table, and flows, if no number is given. */
const DEFAULT_LIMIT = 1000;

export function historyCommand(program: Command): void {
  const command = program
    .command('history')
    .description('Show who talked to whom: on how many days, how often, when last, and which rule decided.')
    .option('--workload <ns/name>', 'only edges that begin or end at this workload', parseWorkload)
    .option('-n, --namespace <ns>', 'only edges that begin or end in this namespace; may be repeated', repeated)
    .addOption(timeOption('--since <time>', `of the days since a time: 35d, 12h, or RFC 3339 (default: ${USUAL})`))
    .addOption(timeOption('--until <time>', 'of the days before a time, in the same form'))
    .addOption(new Option('--verdict <verdict...>', 'only edges with one of these verdicts').choices(VERDICTS))
    .addOption(limitOption(`most edges that are printed (default: ${DEFAULT_LIMIT}; with -o json all)`))
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'wide', 'json']).default('text'))
    .addHelpText(
      'after',
      `
In a cluster the relay is asked, which keeps 35 days; without one the agents, each of which has its own ledger.

Examples:
  egressctl history --workload shop/web                    whom it talked to, and who talked to it
  egressctl history -n shop --verdict deny --since 7d      what was denied this week
  egressctl history -o json > edges.json                   everything, by day; recommend --edges reads it
  egressctl history status                                 how far back it goes, and what was lost
  egressctl history flows --since 2h                       whole flows, where the relay keeps them`,
    );
  command.action(async () => {
    const flags = command.optsWithGlobals<HistoryFlags>();
    const { readEdges } = await import('../cluster/edges.js');
    const { workload, namespace, since = parseTime(USUAL), until, verdict } = flags;
    const book = await readEdges(flags, {
      since,
      ...(until ? { until } : {}),
      ...(workload === undefined ? {} : { workload }),
      ...(namespace ? { namespaces: namespace } : {}),
      ...(verdict ? { verdicts: verdict } : {}),
    });
    report(book);
    const rows = rowsOf(book.histories());
    await print(flags, book, rows);
  });
  statusCommand(command);
  flowsCommand(command);
  for (const below of command.commands)
    below.configureHelp({ ...program.configureHelp(), visibleGlobalOptions: () => [...program.options] });
}

function timeOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text: string) => parseTime(text));
}

function limitOption(description: string): Option {
  return new Option('--limit <number>', description).argParser(parseLimit);
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^\d{1,7}$/.test(text) || limit < 1) throw new InvalidArgumentError('It is a number from 1 on.');
  return limit;
}

function parseWorkload(text: string): string {
  if (!/^[^/]+\/[^/]+$/.test(text)) throw new InvalidArgumentError('It is NAMESPACE/NAME.');
  return text;
}

/** What the answer does not contain, on standard error. */
function report(book: EdgeBook): void {
  for (const node of book.unavailable) process.stderr.write(`egressctl: ${safe(node)} did not answer\n`);
  if (book.isCut)
    process.stderr.write('egressctl: there are more days than one answer has: ask for a workload or a namespace\n');
  if (book.overflow > 0)
    process.stderr.write(
      `egressctl: ${book.overflow} flows found no edge of their own, and are counted under "other"\n`,
    );
}

async function print(flags: HistoryFlags, book: EdgeBook, rows: readonly Row[]): Promise<void> {
  const { output, color, limit = output === 'json' ? rows.length : DEFAULT_LIMIT } = flags;
  if (output === 'json') {
    await line(toJson(historyJson(book, rows.slice(0, limit)), 2));
    tellMore(rows, limit);
    return;
  }
  if (rows.length === 0) {
    const since = book.beganMs === undefined ? '' : `; there are records since ${timeText(book.beganMs)}`;
    await line(`nothing was seen${since}`);
    return;
  }
  await line(historyTable(rows.slice(0, limit), output === 'wide', painter(color)));
  tellMore(rows, limit);
}

function tellMore(rows: readonly Row[], limit: number): void {
  const more = rows.length - limit;
  if (more > 0) process.stderr.write(`egressctl: ${counted(more, 'more edge')}; see --limit\n`);
}

/**
 * The options of a command below history. Commander reads them as those of history, if they have the same names; others
 * of history, such as --workload, would have no effect, and are refused.
 */
function flagsBelow(history: Command, command: Command): HistoryFlags {
  const own = new Set(command.options.map(({ long }) => long));
  const stray = history.options.find(
    (o) => !own.has(o.long) && history.getOptionValueSource(o.attributeName()) === 'cli',
  );
  if (stray) command.error(`error: history ${command.name()} has no option ${stray.long}`, { exitCode: EXIT.usage });
  return command.optsWithGlobals<HistoryFlags>();
}

function statusCommand(history: Command): void {
  const command = history
    .command('status')
    .description("Show how far back the relay's history goes, its size, and what it could not keep.")
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'));
  command.action(async () => {
    const flags = flagsBelow(history, command);
    const { askTheRelay } = await import('../cluster/edges.js');
    const answer = await askTheRelay(flags, (client) => client.history());
    await line(flags.output === 'json' ? toJson(answer, 2) : statusText(answer));
  });
}

function flowsCommand(history: Command): void {
  const command = history
    .command('flows')
    .description("Print whole flows from the relay's history, where it keeps them (--history-flows).")
    .option('-n, --namespace <ns>', 'only flows that begin or end in this namespace; may be repeated', repeated)
    .addOption(timeOption('--since <time>', 'since a time: 2h, or RFC 3339'))
    .addOption(timeOption('--until <time>', 'until a time, in the same form'))
    .addOption(limitOption(`most flows, the latest ones, up to 10000 (default: ${DEFAULT_LIMIT})`))
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'));
  command.action(async () => {
    const flags = flagsBelow(history, command);
    const { askTheRelay } = await import('../cluster/edges.js');
    const { namespace, since, until, limit = DEFAULT_LIMIT, output } = flags;
    const request: HistoryFlowsRequest = {
      ...(since ? { since } : {}),
      ...(until ? { until } : {}),
      ...(namespace ? { namespaces: namespace } : {}),
      limit,
    };
    const paint = painter(flags.color);
    let count = 0;
    await askTheRelay(flags, async (client) => {
      for await (const response of client.historyFlows(request)) {
        const text = output === 'json' ? flowJson(response) : flowLine(response, paint);
        if (text === undefined) continue;
        count++;
        await line(text);
      }
    });
    if (count === 0) process.stderr.write('egressctl: no flow of the history is like that\n');
  });
}

/** With the date: flows of the last days look alike without. */
function flowLine({ record, time }: GetRecordsResponse, paint: ReturnType<typeof painter>): string | undefined {
  if (!record) return undefined;
  return `${new Date(millisOf(time) ?? 0).toISOString().slice(0, 10)} ${compact(record, paint, process.stdout.columns)}`;
}
