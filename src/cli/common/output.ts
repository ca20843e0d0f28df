/** Output to terminals and pipes: colors, column widths, and escaping of untrusted text. */
import { constants } from 'node:os';

export type ColorMode = 'auto' | 'always' | 'never';

export type Style = 'red' | 'green' | 'yellow' | 'dim' | 'bold' | 'cyan';

const CODES: Readonly<Record<Style, number>> = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 };

/** Makes the function that colors text. `auto` colors on terminals only, and respects https://no-color.org. */
export function painter(
  mode: ColorMode,
  stream: { isTTY?: boolean } = process.stdout,
): (style: Style, text: string) => string {
  const on = mode === 'always' || (mode === 'auto' && stream.isTTY === true && !process.env.NO_COLOR);
  return on ? (style, text) => `\u001b[${CODES[style]}m${text}\u001b[0m` : (_, text) => text;
}

export type Paint = ReturnType<typeof painter>;

export { safe, toJson } from '../../safe.js';

/** Pads or truncates text to exactly `width` columns, with an ellipsis if it is truncated. */
export function fit(text: string, width: number): string {
  return text.length <= width ? text.padEnd(width) : `${text.slice(0, width - 1)}…`;
}

/**
 * Truncates text to at most `width` columns. The cut is near the end but keeps the last characters, where related names
 * differ (`web-7d9…x2x9q`, `np/shop/w…#12`).
 */
export function fitMiddle(text: string, width: number): string {
  if (text.length <= width) return text;
  const tail = Math.min(6, Math.floor((width - 1) / 2));
  return `${text.slice(0, Math.max(0, width - 1 - tail))}…${text.slice(text.length - tail)}`;
}

/** Formats a number of bytes with decimal units: `1.2 kB`. */
export function bytes(n: number): string {
  for (const unit of ['B', 'kB', 'MB', 'GB']) {
    if (n < 1000) return `${Number.isInteger(n) ? n : n.toFixed(1)} ${unit}`;
    n /= 1000;
  }
  return `${n.toFixed(1)} TB`;
}

/** Formats a duration, given in nanoseconds: `350ms`, `12.3s`, `4m5s`, `3h2m`, `2d4h`. */
export function duration(ns: number): string {
  const ms = ns / 1e6;
  if (ms < 1000) return `${Math.round(ms)}ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(1)}s`;
  const [m, h, d] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86400)];
  if (m < 60) return `${m}m${Math.floor(s % 60)}s`;
  return h < 24 ? `${h}h${m % 60}m` : `${d}d${h % 24}h`;
}

/** Collects the values of an option that may be repeated. Each occurrence takes one value, so arguments may follow. */
export function repeated(value: string, previous: readonly string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

/** Writes a line to standard output. The promise, if any, resolves when a slow reader has caught up. */
export function line(text: string): Promise<void> | undefined {
  if (process.stdout.write(`${text}\n`)) return undefined;
  return new Promise((resolve) => process.stdout.once('drain', resolve));
}

/** Ends the program without an error message on Ctrl-C, and when the reader closes the pipe (`| head`). */
export function endQuietly(): void {
  process.stdout.on('error', (e: NodeJS.ErrnoException) => process.exit(e.code === 'EPIPE' ? 0 : 1));
  process.on('SIGINT', () => process.exit(128 + constants.signals.SIGINT));
}
