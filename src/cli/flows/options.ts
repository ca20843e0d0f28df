/** The options of `egressctl flows` that are not filters: a period, a number; and the filters as text. */
import { InvalidArgumentError } from 'commander';
import type { Filters } from '../../flow/filter/options.js';
import type { FlowFilter, Timestamp } from '../../proto/messages.js';

export const DEFAULT_LAST = 20;

/** Formats filters for --allowlist and --denylist as Hubble's client does: YAML with each filter as JSON. */
export function rawFilters({ whitelist, blacklist }: Filters): string {
  const list = (name: string, filters: readonly FlowFilter[]) => [
    `${name}:`,
    ...filters.map((f) => `    - '${JSON.stringify(f).replaceAll("'", "''")}'`),
  ];
  return [
    ...(whitelist.length > 0 ? list('allowlist', whitelist) : []),
    ...(blacklist.length > 0 ? list('denylist', blacklist) : []),
  ].join('\n');
}

const DURATION = /(\d+(?:\.\d+)?)(ms|[smhd])/g;
const MILLIS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
/** RFC 3339. The zone may be missing (local time), and so may the time of day (midnight). */
const TIME = /^(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?)?$/;

/**
 * Parses a point in time: a duration before now (`5m`, `1h30m`, `1.5h`), `now`, or RFC 3339 to the nanosecond.
 * @param now milliseconds since the epoch
 * @throws InvalidArgumentError
 */
export function parseTime(text: string, now: number = Date.now()): Timestamp {
  if (text === 'now' || (text !== '' && text.replace(DURATION, '') === '')) {
    let ms = now;
    for (const [, n, unit] of text.matchAll(DURATION)) ms -= Number(n) * (MILLIS[unit ?? ''] ?? 0);
    const seconds = Math.floor(ms / 1000);
    return { seconds, nanos: Math.floor((ms - seconds * 1000) * 1e6) };
  }
  const [, date, time = '00:00', fraction, zone = ''] = TIME.exec(text) ?? [];
  const seconds = Date.parse(`${date}T${time}${zone.toUpperCase()}`) / 1000;
  if (Number.isNaN(seconds))
    throw new InvalidArgumentError('It is a duration (5m, 1h30m) or a time (2026-01-31T12:00:00Z).');
  return { seconds, nanos: Number((fraction ?? '0').padEnd(9, '0')) };
}

/** Parses a number of flows. `all` is 2^64 − 1 in the protocol. @throws InvalidArgumentError */
export function parseCount(text: string): string {
  if (text === 'all') return '18446744073709551615';
  if (!/^\d{1,19}$/.test(text)) throw new InvalidArgumentError('It is a number, or all.');
  return text;
}
