/** egressctl flows */
import { type Command, Option } from 'commander';
import { AgentClient } from '../rpc/client.js';
import type { FlowRecord, GetFlowsRequest, GetRecordsResponse, Timestamp } from '../rpc/messages.js';
import { compact, dict, FLOW_FORMATS, type FlowFormat, json, jsonpb, table } from './flow-format.js';
import { DEFAULT_LAST, FilterOptions, parseCount, parseTime, rawFilters } from './flow-options.js';
import { line, painter } from './output.js';
import { type Globals, isCluster } from './program.js';

interface FlowFlags extends Globals {
  follow?: boolean;
  last?: string;
  first?: string;
  all?: boolean;
  printRawFilters?: boolean;
  since?: Timestamp;
  until?: Timestamp;
  output: FlowFormat;
}

export function flowsCommand(program: Command): void {
  const filters = new FilterOptions();
  const command = program
    .command('flows')
    .alias('observe')
    .description('Show flows: who talked to whom, the verdict, and the rule that decided.')
    .option('-f, --follow', 'go on with flows as they come')
    .addOption(new Option('--last <n>', `the newest flows, after the filters (${DEFAULT_LAST})`).argParser(parseCount))
    .addOption(
      new Option('--first <n>', 'the oldest flows, after the filters')
        .argParser(parseCount)
        .conflicts(['follow', 'last']),
    )
    .addOption(new Option('--all', 'all flows that the agent remembers').conflicts(['last', 'first']))
    .addOption(new Option('--since <time>', 'flows since: 5m, 1h30m, or RFC 3339').argParser((v) => parseTime(v)))
    .addOption(new Option('--until <time>', 'flows until: the same').argParser((v) => parseTime(v)))
    .addOption(new Option('-o, --output <format>', 'how to print').choices(FLOW_FORMATS).default('compact'));
  filters.declare(command);
  command.option('-A, --all-namespaces', 'flows of every namespace: what is shown anyway unless -n is given');
  command.option('--print-raw-filters', 'print the filters as --allowlist and --denylist take them, and end');
  command.addHelpText(
    'after',
    `
Values of one filter option are alternatives; different options must all match, an option for
either side on the same side as the others. What a --not filter matches is left out.
Pods and Services are meant by the beginning of their names, in namespace default unless one is
named; labels as app=web, app!=web, 'app in (web,api)'.

Examples:
  egressctl flows -f                                     follow everything
  egressctl flows --verdict DENIED --namespace shop      what was denied to or from a namespace
  egressctl flows --from-pod shop/web --not --to-port 53 one pod's flows without DNS
  egressctl flows --since 10m -o json                    the last ten minutes, for programs`,
  );
  command.action(async () => {
    const flags = command.optsWithGlobals<FlowFlags>();
    const request = filters.request();
    if (flags.printRawFilters) await line(rawFilters(request));
    else await flows(flags, { ...range(flags), ...request });
  });
}

function range(flags: FlowFlags): GetFlowsRequest {
  const { since, until, follow } = flags;
  const all = flags.all ? parseCount('all') : undefined;
  const number = flags.first ?? flags.last ?? all ?? (since || follow ? undefined : String(DEFAULT_LAST));
  return {
    ...(number === undefined ? {} : { number }),
    ...(flags.first === undefined ? {} : { first: true }),
    ...(follow ? { follow } : {}),
    ...(since ? { since } : {}),
    ...(until ? { until } : {}),
  };
}

async function flows(flags: FlowFlags, request: GetFlowsRequest): Promise<void> {
  const print = printer(flags);
  const kept: FlowRecord[] = [];
  const client = isCluster(flags) ? undefined : new AgentClient(flags.socket);
  try {
    for await (const response of client ? client.getRecords(request) : await ofCluster(flags, request)) {
      // A table's widths are known at its end: following, flows are printed as they come.
      if (flags.output === 'table' && !flags.follow && response.record) kept.push(response.record);
      else await print(response);
    }
    if (kept.length > 0) await line(table(kept));
  } finally {
    client?.close();
  }
}

async function ofCluster(flags: FlowFlags, request: GetFlowsRequest): Promise<AsyncIterable<GetRecordsResponse>> {
  const { clusterFlows } = await import('./cluster-flows.js');
  return clusterFlows(flags, request);
}

/** Prints one response: what is for people goes without the losses, which are told on standard error. */
function printer({ output, color }: FlowFlags): (response: GetRecordsResponse) => Promise<void> | undefined {
  if (output === 'json') return (response) => line(json(response));
  if (output === 'jsonpb') return (response) => line(jsonpb(response));
  const paint = painter(color);
  return ({ record, lost_events }) => {
    if (lost_events) {
      const { num_events_lost, source } = lost_events;
      const where = source === 'HUBBLE_RING_BUFFER' ? 'this reader was too slow' : 'the kernel had no room for them';
      process.stderr.write(`egressctl: ${num_events_lost} flows lost: ${where}\n`);
    }
    if (!record) return undefined;
    return line(output === 'dict' ? `${dict(record)}\n` : compact(record, paint, process.stdout.columns));
  };
}
