/** Names as lists write them. */
import { isExact, isPattern } from '../../names/pattern.js';
import type { Domain } from './region.js';

const MAX_NAME = 253;
const MAX_LABEL = 63;

/** A name in canonical text, or undefined if it is none: an address, a wildcard, a foreign character. */
export function plainName(text: string): string | undefined {
  if (text.length > MAX_NAME + 1) return undefined;
  const name = text.toLowerCase().replace(/\.$/, '');
  if (!isPattern(name) || !isExact(name) || name.length > MAX_NAME) return undefined;
  if (name.split('.').some((label) => label.length > MAX_LABEL)) return undefined;
  // The last label of an IPv4 address is a number, that of a name never is.
  return /(^|\.)\d+$/.test(name) ? undefined : name;
}

/** `.example.com` is the domain and what is below it, `example.com` the name alone (Squid, AWS). */
export function dotted(text: string): Domain | undefined {
  const below = text.startsWith('.');
  const name = plainName(below ? text.slice(1) : text);
  return name === undefined ? undefined : { name, own: true, below };
}

/** `*.example.com` is what is below the domain, `example.com` the name alone (Istio, Route 53). */
export function starred(text: string): Domain | undefined {
  const below = text.startsWith('*.');
  const name = plainName(below ? text.slice(2) : text);
  return name === undefined ? undefined : { name, own: !below, below };
}
