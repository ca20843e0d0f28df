/** Describes patterns of names in plain English. */
import { EVERY_NAME } from './pattern.js';

/** Patterns that a description lists. */
const LISTED = 12;

/** Describes patterns of names: `api.example.com, *.example.org`. */
export function describePatterns(patterns: readonly string[]): string {
  if (patterns.includes(EVERY_NAME)) return 'any name';
  const more = patterns.length > LISTED ? ` and ${patterns.length - LISTED} more` : '';
  return `${patterns.slice(0, LISTED).join(', ') || 'no name'}${more}`;
}
