/** Evidence that was saved in a file: what `egressctl history -o json` prints, or EdgeRows as JSON. */
import { DAY_MS, type DayRow, type Edge, type EdgeHistory } from '../edges/edge.js';
import { edgeHistoryOf } from '../edges/wire.js';
import { isRecord } from '../identity/fields.js';
import type { EdgeRowsMessage } from '../proto/edges.js';
import { checked, fault } from './request.js';

type Fields = Readonly<Record<string, unknown>>;

/**
 * Reads edges with their days: in a list, in `edges` or `rows` of an object, or one on each line.
 * @throws AgentError USAGE
 */
export function evidenceOf(text: string): readonly EdgeHistory[] {
  let rows = parsed(text);
  if (isRecord(rows)) rows = rows.edges ?? rows.rows ?? [rows];
  if (!Array.isArray(rows)) throw notEvidence();
  return checked(
    rows.map((row: unknown) => {
      if (!isRecord(row)) throw notEvidence();
      if (isRecord(row.edge)) return edgeHistoryOf(row as EdgeRowsMessage);
      return historyOf(row);
    }),
  );
}

/** @throws AgentError USAGE: of a text whose first line is no JSON by itself, what is wrong with the whole */
function parsed(text: string): unknown {
  let whole: Error;
  try {
    return JSON.parse(text);
  } catch (e) {
    whole = e as Error;
  }
  const lines = text.split('\n').map((line, n) => ({ line: line.trim(), n }));
  const read: unknown[] = [];
  for (const { line, n } of lines.filter(({ line }) => line !== '')) {
    try {
      read.push(JSON.parse(line));
    } catch (e) {
      const why = read.length === 0 ? whole.message : `line ${n + 1}: ${(e as Error).message}`;
      throw fault('evidence', `is no JSON: ${why}`);
    }
  }
  return read;
}

function notEvidence() {
  return fault('evidence', 'is no list of edges with their days, as egressctl history -o json prints it');
}

/** An edge of `egressctl history -o json`. Its rules are names there: what decides now is judged anew anyway. */
function historyOf(row: Fields): EdgeHistory {
  const { days, id, source, destination, rule: _, auditRule: __, ...rest } = row;
  if (!Array.isArray(days) || !days.every(isRecord) || !isRecord(source) || !isRecord(destination)) throw notEvidence();
  const edge = { ...rest, id: Number(id), source, destination, inbound: rest.inbound === true } as unknown as Edge;
  return { edge, days: days.map(dayRowOf).sort((a, b) => a.day - b.day) };
}

/** A field that is missing or wrong becomes NaN, which checked() refuses. */
function dayRowOf({ day, firstSeen, lastSeen, hours, connections, bytes, drops }: Fields): DayRow {
  const number = (value: unknown) => (typeof value === 'number' ? value : Number.NaN);
  const seen = Array.isArray(hours) ? hours : [];
  return {
    day: Date.parse(`${String(day)}T00:00:00Z`) / DAY_MS,
    firstMs: Date.parse(String(firstSeen)),
    lastMs: Date.parse(String(lastSeen)),
    connections: number(connections),
    bytes: number(bytes),
    drops: number(drops),
    hours: seen.reduce((bits: number, hour) => bits | (1 << Number(hour)), 0),
  };
}
