/** What the query box offers: names of filters, and values that were seen. */
import { CHIP_KEYS } from '../../src/ui/wire/chips.js';
import { suggest } from '../state/suggest.js';

export interface Offer {
  /** What is put into the box; with a colon at its end, a value is to follow. */
  readonly text: string;
  readonly about: string;
}

const MOST = 12;
/** Filters that a word without a name may be meant for. */
const LIKELY = ['namespace', 'workload', 'fqdn', 'service'] as const;

/** @param text what is in the box: `to-po`, `!namespace:ku`, `payments` */
export function offersFor(text: string): readonly Offer[] {
  const not = text.startsWith('!') ? '!' : '';
  const rest = text.slice(not.length).trimStart();
  const colon = rest.indexOf(':');
  const aboutOf = (key: string) => (Object.hasOwn(CHIP_KEYS, key) ? (CHIP_KEYS[key] ?? '') : '');
  const values = (key: string, prefix: string): Offer[] =>
    suggest(key, prefix).map((value) => ({ text: `${not}${key}:${value}`, about: aboutOf(key) }));
  if (colon >= 0) {
    const key = rest.slice(0, colon);
    return aboutOf(key) === '' ? [] : values(key, rest.slice(colon + 1)).slice(0, MOST);
  }
  const names = Object.keys(CHIP_KEYS).filter((key) => key.includes(rest));
  names.sort((a, b) => Number(b.startsWith(rest)) - Number(a.startsWith(rest)));
  const named = names.map((key) => ({ text: `${not}${key}:`, about: aboutOf(key) }));
  if (rest.length < 2) return named.slice(0, MOST);
  return [...LIKELY.flatMap((key) => values(key, rest).slice(0, 3)), ...named].slice(0, MOST);
}
