/** Numbers and times of the status, for people. */
import type { Timestamp, Uint64 } from '../../src/proto/messages.js';
import { count } from '../parts/words.js';

/** Share of a map's entries from which it is nearly full. */
export const NEARLY_FULL = 0.8;

export function num(value: Uint64 | number | undefined): number {
  return Number(value ?? 0);
}

/** Milliseconds since 1970; 0: none. */
export function millis(time: Timestamp | undefined): number {
  return time ? num(time.seconds) * 1000 + Math.floor((time.nanos ?? 0) / 1e6) : 0;
}

/** `1 node`, `1,204 nodes`, `3 policies` */
export function counted(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** `12 min`, `3 h 20 min`, `5 d 2 h` */
export function duration(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.max(0, Math.floor(ms / 1000))} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** `< 0.1 %`, `3.4 %`, `81 %` */
export function percent(share: number): string {
  if (share > 0 && share < 0.001) return '< 0.1 %';
  return `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}

/** `[2001:db8::1]:53` */
export function place(address: string, port: number): string {
  return `${address.includes(':') ? `[${address}]` : address}:${port}`;
}
