/** Tables as CSV (RFC 4180), safe to open in a spreadsheet. A pure module. */
import type { EdgeInfo, FlowEnd, FlowRow } from '../wire/messages.js';

type Cell = string | number;

/** A line with its CR LF. */
export function csvLine(cells: readonly Cell[]): string {
  return `${cells.map(csvCell).join(',')}\r\n`;
}

/**
 * A text that a spreadsheet would take for a formula begins with an apostrophe: names and addresses are chosen by others.
 */
function csvCell(value: Cell): string {
  if (typeof value === 'number') return String(value);
  // In some languages a spreadsheet takes a semicolon, or a tab, for the end of a cell, whatever is quoted.
  const text = value.replace(/(^|[;\t\r\n])(?=[=+\-@\t\r])/g, "$1'");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const END = ['namespace', 'workload_kind', 'workload', 'pod', 'ip', 'port', 'names'] as const;
const ends = (side: string) => END.map((name) => `${side}_${name}`);

export const FLOW_HEADER: readonly string[] = [
  ...['time', 'event', 'verdict', 'reason', 'inbound'],
  ...ends('source'),
  ...ends('destination'),
  ...['protocol', 'service', 'rule', 'staged_verdict', 'staged_rule', 'bytes', 'packets', 'drops', 'node', 'detail'],
];

export function flowCells(f: FlowRow): Cell[] {
  return [
    ...[iso(f.timeMs), f.event, f.verdict, f.reason, String(f.inbound)],
    ...endCells(f.source),
    ...endCells(f.destination),
    ...[f.protocol, f.service, f.rule?.text ?? '', f.auditVerdict, f.auditRule?.text ?? ''],
    ...[f.bytes, f.packets, f.drops, f.node, f.detail],
  ];
}

function endCells(e: FlowEnd): Cell[] {
  return [e.namespace, e.workloadKind, e.workload, e.pod, e.ip, e.port, e.names.join(' ')];
}

/** What is known of an edge in a window. */
export interface EdgeSum {
  readonly info: EdgeInfo;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly connections: number;
  readonly bytes: number;
  readonly drops: number;
}

const PARTY = ['type', 'namespace', 'workload_kind', 'name'] as const;
const parties = (side: string) => PARTY.map((name) => `${side}_${name}`);

export const EDGE_HEADER: readonly string[] = [
  ...['first', 'last', 'verdict', 'reason', 'inbound'],
  ...parties('source'),
  ...parties('destination'),
  ...['address', 'port', 'protocol', 'service', 'service_port', 'rule', 'staged_verdict', 'staged_rule'],
  ...['connections', 'bytes', 'drops'],
];

export function edgeCells({ info: e, firstMs, lastMs, connections, bytes, drops }: EdgeSum): Cell[] {
  const party = (p: EdgeInfo['source']): Cell[] => [p.kind, p.namespace, p.workloadKind, p.name];
  return [
    ...[iso(firstMs), iso(lastMs), e.verdict, e.reason, String(e.inbound)],
    ...party(e.source),
    ...party(e.destination),
    ...[e.address, e.port, e.protocol, e.service, e.servicePort, e.rule?.text ?? ''],
    ...[e.auditVerdict, e.auditRule?.text ?? '', connections, bytes, drops],
  ];
}

function iso(ms: number): string {
  return ms > 0 && ms < 8.64e15 ? new Date(ms).toISOString() : '';
}
