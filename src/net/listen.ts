/** Parses listen addresses of options. */
import { isIP } from 'node:net';

/** Splits `10.0.0.1:4245`, `[::1]:4245`, or `:4245` (every address, without a host). undefined if it is invalid. */
export function splitListen(value: string): { host: string | undefined; port: number } | undefined {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(value) ?? [];
  const port = Number(digits ?? Number.NaN);
  if (!(port <= 65535) || (bracketed !== undefined && isIP(bracketed) === 0)) return undefined;
  return { host: bracketed ?? (plain || undefined), port };
}
