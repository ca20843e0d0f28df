/** Writing to terminals and pipes: colours, widths, and text that comes from others. */
import { constants } from 'node:os';

export type ColorMode = 'auto' | 'always' | 'never';

export type Style = 'red' | 'green' | 'yellow' | 'dim' | 'bold' | 'cyan';

const CODES: Readonly<Record<Style, number>> = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 };

/** Paints text, or not: https://no-color.org, and only what a terminal shows. */
export function painter(
  mode: ColorMode,
  stream: { isTTY?: boolean } = process.stdout,
): (style: Style, text: string) => string {
  const on = mode === 'always' || (mode === 'auto' && stream.isTTY === true && !process.env.NO_COLOR);
  return on ? (style, text) => `\u001b[${CODES[style]}m${text}\u001b[0m` : (_, text) => text;
}

export type Paint = ReturnType<typeof painter>;

/** C0, C1 (with 0x9b, another way to write ESC [), marks of direction, separators of lines, what has no width. */
const STEERING = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** Names come from others: what would steer the terminal is shown, not sent. */
export function safe(text: string): string {
  return text.replace(STEERING, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** JSON that steers no terminal either: the same characters, which JSON.stringify leaves as they are, as `\u….` */
export function toJson(value: unknown, indent?: number): string {
  // Outside of strings there are only line ends, of the indentation.
  return JSON.stringify(value, null, indent).split('\n').map(safe).join('\n');
}

/** Exactly `width` columns: filled, or cut with an ellipsis. */
export function fit(text: string, width: number): string {
  return text.length <= width ? text.padEnd(width) : `${text.slice(0, width - 1)}…`;
}

/** At most `width` columns: cut before its end, where names of one family differ (`web-7d9…x2x9q`, `np/shop/w…#12`). */
export function fitMiddle(text: string, width: number): string {
  if (text.length <= width) return text;
  const tail = Math.min(6, Math.floor((width - 1) / 2));
  return `${text.slice(0, Math.max(0, width - 1 - tail))}…${text.slice(text.length - tail)}`;
}

/** `1.2 kB`; decimal units. */
export function bytes(n: number): string {
  for (const unit of ['B', 'kB', 'MB', 'GB']) {
    if (n < 1000) return `${Number.isInteger(n) ? n : n.toFixed(1)} ${unit}`;
    n /= 1000;
  }
  return `${n.toFixed(1)} TB`;
}

/** `350ms`, `12.3s`, `4m5s`, `3h2m`, `2d4h`. */
export function duration(ns: number): string {
  const ms = ns / 1e6;
  if (ms < 1000) return `${Math.round(ms)}ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(1)}s`;
  const [m, h, d] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86400)];
  if (m < 60) return `${m}m${Math.floor(s % 60)}s`;
  return h < 24 ? `${h}h${m % 60}m` : `${d}d${h % 24}h`;
}

/** A line to standard output. Waits where the reader is slow. */
export function line(text: string): Promise<void> | undefined {
  if (process.stdout.write(`${text}\n`)) return undefined;
  return new Promise((resolve) => process.stdout.once('drain', resolve));
}

/** A reader that goes away (`| head`) and Ctrl-C end the program quietly. */
export function endQuietly(): void {
  process.stdout.on('error', (e: NodeJS.ErrnoException) => process.exit(e.code === 'EPIPE' ? 0 : 1));
  process.on('SIGINT', () => process.exit(128 + constants.signals.SIGINT));
}
