/** Items as lines of JSON: flows as `egressctl flows -o json` prints them. */
import { json, rfc3339 } from '../../flow/json.js';
import { toJson } from '../../safe.js';
import type { Item, SumItem, SumSide } from '../base/item.js';

/** Longest line in bytes. A record that is longer (labels without end) is written without its labels. */
const MOST_LINE = 65_536;

/** The line of an item, with its end. */
export function lineOf(item: Item): Buffer {
  const line = Buffer.from(`${textOf(item)}\n`);
  if (line.length <= MOST_LINE || item.kind !== 'flow') return line;
  const { record } = item.response;
  const { source, destination, ...flow } = record.flow;
  const bare = (e: typeof source) => (e ? { ...e, labels: [] } : {});
  const short = { ...flow, source: bare(source), destination: bare(destination) };
  for (const by of ['egress_allowed_by', 'egress_denied_by', 'policy_log'] as const) delete short[by];
  const response = { ...item.response, record: { ...record, flow: short } };
  const text = Buffer.from(`${json(response, { cut: true, ...extrasOf(item) })}\n`);
  if (text.length > MOST_LINE) throw new RangeError('the record is too long');
  return text;
}

function textOf(item: Item): string {
  return item.kind === 'sum' ? sumText(item) : json(item.response, extrasOf(item));
}

function extrasOf(item: Item): Record<string, unknown> {
  return item.kind === 'flow' && item.sample > 1 ? { sample: item.sample } : {};
}

function sumText({ sum, windowMs, node }: SumItem): string {
  const { source, destination, isOther, ...rest } = sum;
  return toJson({
    sum: {
      source: sideText(source),
      destination: sideText(destination),
      ...(rest.port === 0 ? {} : { port: rest.port }),
      ...texts({
        protocol: rest.protocol,
        direction: rest.direction,
        event: rest.event,
        verdict: rest.verdict,
        audit_verdict: rest.auditVerdict,
        reason: rest.reason,
        rule: rest.rule,
        audit_rule: rest.auditRule,
      }),
      ...(isOther ? { other: true } : {}),
      flows: rest.flows,
      packets_out: rest.packetsOut,
      bytes_out: rest.bytesOut,
      packets_in: rest.packetsIn,
      bytes_in: rest.bytesIn,
      drops: rest.drops,
      first: rfc3339(rest.first),
      last: rfc3339(rest.last),
      window_seconds: windowMs / 1000,
    },
    ...(node === '' ? {} : { node_name: node }),
    time: rfc3339(rest.last),
  });
}

function sideText({ namespace, workloadKind, workload, name, ip }: SumSide): object {
  return {
    ...texts({ namespace, name, ip }),
    ...(workload === '' ? {} : { workload: { kind: workloadKind, name: workload } }),
  };
}

/** Without what is empty. */
function texts(all: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(all).filter(([, text]) => text !== ''));
}
