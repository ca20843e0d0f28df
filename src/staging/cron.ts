/** How long a schedule of cron may pause, since a window of evidence must not be shorter. */
import { DAY_MS } from '../edges/edge.js';

const MACROS: Readonly<Record<string, number>> = {
  '@yearly': 366,
  '@annually': 366,
  '@monthly': 31,
  '@weekly': 7,
  '@daily': 1,
  '@midnight': 1,
  '@hourly': 1,
};
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const WEEKDAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
/** Days that are looked at: nine years, so that the pause between two leap days over a century is seen too. */
const FROM = Date.UTC(2095, 0, 1);
const DAYS = 366 * 14;

/**
 * The longest time between two runs, in whole days and at least one; undefined: the schedule cannot be read, or there is
 * no such day. Time zones do not matter for whole days.
 */
export function longestPause(schedule: string): number | undefined {
  const text = schedule.trim().replace(/^(CRON_)?TZ=\S+\s+/, '');
  const macro = MACROS[text];
  if (macro !== undefined) return macro;
  const every = /^@every\s+(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?$/.exec(text);
  if (every) {
    const [, hours = 0, minutes = 0, seconds = 0] = every;
    const ms = ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1000;
    return ms > 0 ? Math.max(1, Math.ceil(ms / DAY_MS)) : undefined;
  }
  const fields = text.split(/\s+/);
  if (fields.length !== 5 || text.length > 1000) return undefined;
  const [minute = '', hour = '', dayText = '', monthText = '', weekText = ''] = fields;
  const days = readField(dayText, 1, 31);
  const months = readField(monthText, 1, 12, MONTHS, 1);
  // 7 is Sunday too.
  const week = readField(weekText, 0, 7, WEEKDAYS);
  if (!days || !months || !week || !readField(minute, 0, 59) || !readField(hour, 0, 23)) return undefined;
  if (week.has(7)) week.add(0);
  // Of two restricted fields, either is enough; a star restricts nothing.
  const isEither = !/^[*?]/.test(dayText) && !/^[*?]/.test(weekText);
  let last: number | undefined;
  let longest = 0;
  for (let day = 0; day < DAYS; day++) {
    const date = new Date(FROM + day * DAY_MS);
    if (!months.has(date.getUTCMonth() + 1)) continue;
    const [ofMonth, ofWeek] = [days.has(date.getUTCDate()), week.has(date.getUTCDay())];
    if (isEither ? !(ofMonth || ofWeek) : !(ofMonth && ofWeek)) continue;
    if (last !== undefined) longest = Math.max(longest, day - last);
    last = day;
  }
  return longest === 0 ? undefined : longest;
}

/** A star or a part of it, `1,5-7`, `mon-fri`; undefined: it is none. */
function readField(
  text: string,
  least: number,
  most: number,
  words: readonly string[] = [],
  base = 0,
): Set<number> | undefined {
  const out = new Set<number>();
  const numberOf = (word: string) => {
    const at = words.indexOf(word.toLowerCase());
    return at >= 0 ? at + base : /^\d{1,2}$/.test(word) ? Number(word) : Number.NaN;
  };
  for (const part of text.split(',')) {
    const [range = '', stepText] = part.split('/');
    const step = stepText === undefined ? 1 : Number(stepText);
    if (!Number.isInteger(step) || step < 1) return undefined;
    const isAll = range === '*' || range === '?';
    const [from = '', to] = range.split('-');
    const lo = isAll ? least : numberOf(from);
    const hi = isAll ? most : to !== undefined ? numberOf(to) : stepText === undefined ? lo : most;
    if (!(lo >= least && hi <= most && lo <= hi)) return undefined;
    for (let n = lo; n <= hi; n += step) out.add(n);
  }
  return out;
}
