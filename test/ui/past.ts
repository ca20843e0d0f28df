/** A past for the agent of a world: what it has seen today, it has seen for weeks. */
import { loadLedger, saveLedgerNow } from '../../agent/ledger/file.js';
import { DAY_MS, type DayRow, dayOf, type Edge } from '../../src/edges/edge.js';
import { Ledger } from '../../src/edges/ledger.js';
import { makeLogger } from '../../src/log.js';

const HOUR_MS = 3_600_000;

/**
 * Writes days before today into the file of a ledger, whose agent has ended. Numbers are the same each time.
 * @param path of the file
 * @param days how many; some edges are on each of them, others on some
 * @param isRecent edges that began yesterday
 */
export function givePast(path: string, days: number, isRecent: (edge: Edge) => boolean = () => false): void {
  const nowMs = Date.now();
  const today = loadLedger(path, nowMs, makeLogger('error'));
  const { ledger, overflow } = today;
  const past = new Ledger({ ledger, overflow, beganMs: nowMs - days * DAY_MS });
  [...today.all()].forEach((history, n) => {
    const since = isRecent(history.edge) ? 1 : days;
    const rows: DayRow[] = [];
    for (let ago = since; ago >= 1; ago--)
      // Every third edge is left out on weekends, or what is taken for them.
      if (n % 3 !== 0 || (ago + n) % 7 > 1) rows.push(dayRow(dayOf(nowMs) - ago, n, history.edge.verdict === 'deny'));
    past.restore(history.edge, [...rows, ...history.days]);
  });
  saveLedgerNow(path, past);
}

function dayRow(day: number, n: number, isDenied: boolean): DayRow {
  const connections = 20 + ((n * 7919 + day * 104_729) % 400) * (1 + (n % 5));
  const first = (n + day) % 9;
  const last = 12 + ((n * 3 + day) % 11);
  let hours = 0;
  for (let hour = first; hour <= last; hour++) hours |= 1 << hour;
  const at = (hour: number) => day * DAY_MS + hour * HOUR_MS + n * 1000;
  const [bytes, drops] = isDenied ? [0, connections * 3] : [connections * 5900, 0];
  return { day, firstMs: at(first), lastMs: at(last), connections, bytes, drops, hours };
}
