/**
 * The file of the ledger: one line of JSON for itself, then one for each edge. It is written beside the old one, which
 * it then replaces, so that a killed agent leaves one or the other.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { edgeHistoryOf, edgeRowsMessage } from '../../src/edges/wire.js';
import type { EdgeHistory } from '../../src/edges/edge.js';
import { Ledger } from '../../src/edges/ledger.js';
import { isRecord } from '../../src/identity/fields.js';
import type { Logger } from '../../src/log.js';
import type { EdgeRowsMessage } from '../../src/proto/edges.js';

export const LEDGER_FILE = 'ledger';
/** The file, and what a killed agent may leave beside it. */
export const LEDGER_FILES = [LEDGER_FILE, `${LEDGER_FILE}.new`, `${LEDGER_FILE}.last`];

const VERSION = 1;
/** More than a full ledger takes. */
const MOST_BYTES = 256 << 20;
/** Edges that are written before others have a turn: a millisecond or two. */
const EDGES_A_TURN = 100;

function headLine({ ledger, beganMs, overflow }: Ledger): string {
  return `${JSON.stringify({ version: VERSION, ledger, beganMs, overflow })}\n`;
}

function edgeLine(history: EdgeHistory): string {
  return `${JSON.stringify(edgeRowsMessage(history))}\n`;
}

/** Reads the ledger that an earlier agent has saved; a fresh one if there is none, or if it cannot be read. */
export function loadLedger(path: string, nowMs: number, log: Logger): Ledger {
  let text: string;
  try {
    if (statSync(path).size > MOST_BYTES) throw new Error(`it is larger than ${MOST_BYTES} bytes`);
    text = readFileSync(path, 'utf8');
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException;
    if (code !== 'ENOENT') log.warn('the ledger cannot be read, and begins anew', { path, error: message });
    return Ledger.fresh(nowMs);
  }
  const lines = text.split('\n');
  const head: unknown = parse(lines[0] ?? '');
  const { version, ledger, beganMs, overflow } = isRecord(head) ? head : {};
  if (version !== VERSION || !isCount(ledger) || !isCount(beganMs) || !isCount(overflow)) {
    log.warn('the ledger is of another version, and begins anew', { path });
    return Ledger.fresh(nowMs);
  }
  const loaded = new Ledger({ ledger, beganMs, overflow });
  let unread = 0;
  for (const line of lines.slice(1)) {
    if (line === '') continue;
    const edge: unknown = parse(line);
    if (!isRecord(edge) || !isRecord(edge.edge) || !Array.isArray(edge.day) || !restore(loaded, edge)) unread++;
  }
  if (unread > 0) log.warn('edges of the ledger cannot be read', { path, edges: unread });
  loaded.prune(nowMs);
  return loaded;
}

function restore(ledger: Ledger, message: EdgeRowsMessage): boolean {
  try {
    const { edge, days } = edgeHistoryOf(message);
    return ledger.restore(
      edge,
      days.filter((d) => isCount(d.day) && isCount(d.connections)),
    );
  } catch {
    return false;
  }
}

/**
 * Writes the ledger without stopping the agent: what changes meanwhile is in the file, or is not.
 * @param signal the file has been written for the last time: what this writes is older, and does not take its place
 */
export async function saveLedger(path: string, ledger: Ledger, signal: AbortSignal): Promise<void> {
  const beside = `${path}.new`;
  const file = await open(beside, 'w', 0o600);
  try {
    await file.writeFile(headLine(ledger));
    let lines: string[] = [];
    for (const history of ledger.all()) {
      if (signal.aborted) break;
      if (lines.push(edgeLine(history)) < EDGES_A_TURN) continue;
      await file.writeFile(lines.join(''));
      lines = [];
      await turn();
    }
    await file.writeFile(lines.join(''));
    await file.sync();
  } finally {
    await file.close();
  }
  // At once: nothing can come between the question and its answer.
  if (signal.aborted) rmSync(beside, { force: true });
  else renameSync(beside, path);
}

/** The same before the agent ends. */
export function saveLedgerNow(path: string, ledger: Ledger): void {
  const beside = `${path}.last`;
  const fd = openSync(beside, 'w', 0o600);
  try {
    writeSync(fd, headLine(ledger));
    for (const history of ledger.all()) writeSync(fd, edgeLine(history));
    fsyncSync(fd);
  } catch (e) {
    rmSync(beside, { force: true });
    throw e;
  } finally {
    closeSync(fd);
  }
  renameSync(beside, path);
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
