/** Regular expressions of rules by their text: compiled once. */
import { AgentError } from '../errors.js';
import { compileRegex } from './compile.js';
import { type Dfa, walk } from './dfa.js';

/** How many are kept: those of all policies, in nearly all clusters. */
const KEPT = 4096;
const known = new Map<string, Dfa>();

/** The table of a regular expression. @throws AgentError POLICY, TOO_LARGE: see compileRegex() */
export function tableOf(regex: string): Dfa {
  let table = known.get(regex);
  if (!table) {
    table = compileRegex(regex, '');
    if (known.size >= KEPT) known.clear();
    known.set(regex, table);
  }
  return table;
}

/** Whether a regular expression matches all of a text, case-sensitively. One that is none matches nothing. */
export function matchesRegex(regex: string, text: string): boolean {
  try {
    return walk(tableOf(regex), Buffer.from(text)).length > 0;
  } catch (e) {
    if (e instanceof AgentError) return false;
    throw e;
  }
}
