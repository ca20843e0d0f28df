/** egressctl flows */
import { type Command, Option } from 'commander';
import { AgentClient } from '../rpc/client.js';
import type { GetFlowsRequest, GetRecordsResponse, Timestamp } from '../rpc/messages.js';
import { compact, dict, FLOW_FORMATS, type FlowFormat, json, jsonpb, table } from './flow-format.js';
import { DEFAULT_LAST, FilterOptions, parseCount, parseTime } from './flow-options.js';
import { line, painter } from './output.js';
import type { Globals } from './program.js';

interface FlowFlags extends Globals {
  follow?: boolean;
  last?: string;
  first?: string;
  all?: boolean;
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
  command.addHelpText(
    'after',
    `
Values of one filter option are alternatives; different options must all match.

Examples:
  egressctl flows -f                                  follow everything
  egressctl flows --verdict DENIED --namespace shop   what was denied to or from a namespace
  egressctl flows --from-pod shop/web --not --port 53 one pod's flows without DNS
  egressctl flows --since 10m -o json                 the last ten minutes, for programs`,
  );
  command.action(async () => {
    const flags = command.optsWithGlobals<FlowFlags>();
    await flows(flags, { ...range(flags), ...filters.request() });
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
  const client = new AgentClient(flags.socket);
  const paint = painter(flags.color);
  const kept: GetRecordsResponse[] = [];
  try {
    for await (const response of client.getRecords(request)) {
      if (response.lost_events && flags.output !== 'json' && flags.output !== 'jsonpb') {
        const { num_events_lost, source } = response.lost_events;
        const where = source === 'HUBBLE_RING_BUFFER' ? 'this reader was too slow' : 'the kernel had no room for them';
        process.stderr.write(`egressctl: ${num_events_lost} flows lost: ${where}\n`);
        continue;
      }
      const { record } = response;
      // A table's widths are known at its end: following, it is printed as it comes.
      if (flags.output === 'table' && !flags.follow) {
        kept.push(response);
        continue;
      }
      await line(
        flags.output === 'json'
          ? json(response)
          : flags.output === 'jsonpb'
            ? jsonpb(response)
            : !record
              ? ''
              : flags.output === 'dict'
                ? `${dict(record)}\n`
                : compact(record, paint),
      );
    }
    if (kept.length > 0) await line(table(kept.flatMap((r) => (r.record ? [r.record] : []))));
  } finally {
    client.close();
  }
}
