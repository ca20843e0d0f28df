/** Cilium's words for what connections say: serverNames, and rules.http with the host of a request. */
import { combine } from '../../regex/combine.js';
import { literal } from '../../regex/literal.js';
import { tableOf } from '../../regex/match.js';
import type { NamesItem } from '../base/walk.js';

/** Every name that is said, in the text of Cilium's languages. */
const ANY = '*';
/** A label, and a last one: with only digits in it, the host would be an address. */
const LABEL = '[-a-zA-Z0-9_]+';
const LAST = '[-a-zA-Z0-9_]*[-a-zA-Z_][-a-zA-Z0-9_]*';
/** A port may stand behind the host, and no source asks for it. */
const PORT = '(:[0-9]{1,5})?';

/** More hosts are compared by the names of the rule: an agent has room for some thousand states of expressions. */
const MAX_HOSTS = 500;
/** Half of an agent's tables: the other policies of the pods want some, too. */
const MAX_TABLES = 4;

/** An entry of serverNames for a pattern. */
export function serverNameOf(pattern: string): string {
  return pattern === '***' ? ANY : pattern;
}

/** The expression (RE2, all of the Host header) for the names of a pattern, in whatever case. */
export function hostOf(pattern: string): string {
  if (pattern === '***') return `(${LABEL}\\.)*${LAST}${PORT}`;
  const below = pattern.startsWith('**.');
  return `${below ? `(${LABEL}\\.)+` : ''}(?i:${literal(below ? pattern.slice(3) : pattern)})${PORT}`;
}

/** Whether an agent takes the hosts of all these items as expressions. */
export function fitHosts(items: readonly NamesItem[]): boolean {
  const hosts = new Set(items.flatMap(({ patterns }) => patterns.map(hostOf)));
  if (hosts.size > MAX_HOSTS) return false;
  const { tables, refused } = combine([...hosts].map(tableOf));
  return refused.length === 0 && tables.length <= MAX_TABLES;
}
