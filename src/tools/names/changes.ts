/** What a change of policies depends on, apart from addresses and ports: learned names, and names in queries. */
import type { LearnedName } from '../../ir/packet.js';

/** Packets to addresses that were learned for certain names, or DNS queries. */
export interface Situation {
  /** Examples: the address was learned for all names of one of these lists. Absent: for no name. */
  readonly names?: readonly (readonly LearnedName[])[];
  /** Examples of names that are asked for. Absent: it is no query. */
  readonly queries?: readonly string[];
  /** Examples of what the connection says, in words. Absent: nothing yet. */
  readonly says?: readonly string[];
}

/**
 * Joins changes that differ only in their names, then those that differ only in the names that are asked for, then in
 * what connections say.
 */
export function joinNames<C extends Situation>(changes: readonly C[]): C[] {
  return (['names', 'queries', 'says'] as const).reduce<readonly C[]>(joined, changes) as C[];
}

function joined<C extends Situation>(changes: readonly C[], field: keyof Situation): C[] {
  const out = new Map<string, C>();
  for (const change of changes) {
    const { [field]: own, ...rest } = change;
    const key = JSON.stringify([own === undefined, rest], (_, v) => (typeof v === 'bigint' ? String(v) : v));
    const known = out.get(key);
    if (known) out.set(key, { ...known, [field]: [...(known[field] ?? []), ...(own ?? [])] });
    else out.set(key, change);
  }
  return [...out.values()];
}

/** Examples that a text lists. */
const LISTED = 3;

/** The situation in words, such as ` learned for api.example.com`; empty: any address, and no query. */
export function situationText({ names, queries, says }: Situation): string {
  const list = (texts: readonly string[]) => {
    const more = texts.length > LISTED ? ` or ${texts.length - LISTED} more` : '';
    return `${texts.slice(0, LISTED).join(' or ')}${more}`;
  };
  const nameText = ({ name, alias }: LearnedName) => `${name || 'the root'}${alias ? ' (as an alias)' : ''}`;
  const known = names && ` learned for ${list(names.map((together) => together.map(nameText).join(' and ')))}`;
  const asked = queries && ` asking for ${list(queries.map((name) => name || 'the root'))}`;
  const said = says && ` by a connection that is ${list(says)}`;
  return `${known ?? ''}${asked ?? ''}${said ?? ''}`;
}
