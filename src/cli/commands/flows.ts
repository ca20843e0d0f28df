/** egressctl flows */
import { counted } from '../../counted.js';
import { type Command, Option } from 'commander';
import type { AgentClient } from '../../rpc/transport/client.js';
import type { FlowRecord, GetFlowsRequest, GetRecordsResponse, Timestamp } from '../../proto/messages.js';
import { json } from '../../flow/json.js';
import { compact, dict, FLOW_FORMATS, type FlowFormat, jsonpb, table } from '../flows/format.js';
import { FilterOptions } from '../../flow/filter/options.js';
import { DEFAULT_LAST, parseCount, parseTime, rawFilters } from '../flows/options.js';
import { line, painter, safe } from '../common/output.js';
import { type Globals, isCluster } from '../common/globals.js';

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
    .description('Show flows with their source, destination, verdict and the rule that decided.')
    .option('-f, --follow', 'keep printing flows as they arrive')
    .addOption(
      new Option(
        '--last <n>',
        `print the newest <n> matching flows (default: ${DEFAULT_LAST} without --since or --follow)`,
      ).argParser(parseCount),
    )
    .addOption(
      new Option('--first <n>', 'print the oldest <n> matching flows')
        .argParser(parseCount)
        .conflicts(['follow', 'last']),
    )
    .addOption(new Option('--all', 'print all matching flows that the agent remembers').conflicts(['last', 'first']))
    .addOption(
      new Option('--since <time>', 'print flows since a time: 5m or 1h30m before now, or RFC 3339').argParser((v) =>
        parseTime(v),
      ),
    )
    .addOption(
      new Option('--until <time>', 'print flows until a time, in the same form').argParser((v) => parseTime(v)),
    )
    .addOption(new Option('-o, --output <format>', 'output format').choices(FLOW_FORMATS).default('compact'));
  filters.declare(command);
  command.option('-A, --all-namespaces', 'print flows of all namespaces (the default without -n)');
  command.option('--print-raw-filters', 'print the filters in the form of --allowlist and --denylist, then exit');
  command.addHelpText(
    'after',
    `
Filters:
  A filter option that is given several times matches any of its values. A flow must match all
  filter options. Options that match either side (such as --pod) must all match the same side.
  --not excludes the flows that the next filter matches.
  Pods and Services are matched by the prefix of their names, in the namespace "default" unless
  another is given. Label selectors are app=web, app!=web or 'app in (web,api)'.

Examples:
  egressctl flows -f                                       follow all flows
  egressctl flows --verdict DENIED --namespace shop        denied flows of a namespace
  egressctl flows --from-pod shop/web --not --to-port 53   flows of one pod, without DNS
  egressctl flows --to-fqdn '*.stripe.com' --type l7       what was said to these names
  egressctl flows --http-method POST --verdict DENIED      denied HTTP requests
  egressctl flows --since 10m -o json                      the last ten minutes, as JSON`,
  );
  command.action(async () => {
    const flags = command.optsWithGlobals<FlowFlags>();
    const request = await filters.request(command);
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
  const rows: FlowRecord[] = [];
  const client = (await isCluster(flags)) ? undefined : await agent(flags.socket);
  try {
    for await (const response of client ? client.getRecords(request) : await ofCluster(flags, request)) {
      // A table needs all rows to compute its column widths. With --follow, rows are printed as they arrive.
      if (flags.output === 'table' && !flags.follow && response.record) rows.push(response.record);
      else await print(response);
    }
    if (rows.length > 0) await line(table(rows));
  } finally {
    client?.close();
  }
}

async function agent(socket: string): Promise<AgentClient> {
  const { AgentClient } = await import('../../rpc/transport/client.js');
  return new AgentClient(socket);
}

async function ofCluster(flags: FlowFlags, request: GetFlowsRequest): Promise<AsyncIterable<GetRecordsResponse>> {
  const { clusterFlows } = await import('../cluster/flows.js');
  return clusterFlows(flags, request);
}

/** Makes the function that prints one response. Formats for people report lost flows on standard error. */
function printer({ output, color }: FlowFlags): (response: GetRecordsResponse) => Promise<void> | undefined {
  if (output === 'json') return (response) => line(json(response));
  if (output === 'jsonpb') return (response) => line(jsonpb(response));
  const paint = painter(color);
  return ({ record, lost_events, lost_pod }) => {
    if (lost_events) {
      const { num_events_lost, source } = lost_events;
      const where = source === 'HUBBLE_RING_BUFFER' ? 'this reader was too slow' : 'the kernel had no room for them';
      const whose = lost_pod ? ` of ${safe(lost_pod)}` : '';
      process.stderr.write(`egressctl: ${counted(Number(num_events_lost), 'flow')}${whose} lost: ${where}\n`);
    }
    if (!record) return undefined;
    return line(output === 'dict' ? `${dict(record)}\n` : compact(record, paint, process.stdout.columns));
  };
}
