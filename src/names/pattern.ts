/**
 * Patterns of DNS names, in one canonical text for every policy language:
 * - lower case, no final dot, labels of `[-a-z0-9_*]`, 255 bytes at most;
 * - `*` stands for zero or more of `[-a-z0-9_]` within a label, never for a dot;
 * - the label `**` stands for one or more whole labels;
 * - the text `***` alone stands for every name, also for the root, which is the empty text.
 * Labels of names are never empty, so that a label `*` stands for one or more bytes. A name with any other byte matches
 * no pattern, not even `***`.
 */

/** The pattern that matches every name. */
export const EVERY_NAME = '***';

const MAX_PATTERN = 255;
/** Foreign bytes, empty labels, and two stars side by side that are not a whole label. */
const NO_PATTERN = /[^-a-z0-9_*.]|^$|^\.|\.\.|\.$|[^.]\*\*|\*\*[^.]/;
const NAME = /^[-a-z0-9_]+(?:\.[-a-z0-9_]+)*$/;

/** Whether the text is a canonical pattern. */
export function isPattern(text: string): boolean {
  return text === EVERY_NAME || (text.length <= MAX_PATTERN && !NO_PATTERN.test(text));
}

/** Whether a pattern stands for one name only, which the agent can resolve. */
export function isExact(pattern: string): boolean {
  return !pattern.includes('*');
}

/**
 * A name as it is remembered and matched: lower case, without the final dot, `?` for each byte that no pattern matches.
 * The root is the empty text. @param text a name as users and DNS libraries write it
 */
export function canonicalName(text: string): string {
  return text
    .replace(/\.$/, '')
    .replace(/[^-A-Za-z0-9_.]/gu, '?')
    .toLowerCase();
}

/** Whether a name matches a pattern. The automaton must say the same. @param name as canonicalName() writes it */
export function matchesName(pattern: string, name: string): boolean {
  if (pattern === EVERY_NAME) return name === '' || NAME.test(name);
  if (!NAME.test(name)) return false;
  const labels = name.split('.');
  // The numbers of labels that the part of the pattern that was read so far can stand for.
  let ends = new Set([0]);
  for (const part of pattern.split('.')) {
    const next = new Set<number>();
    for (const end of ends) {
      const last = part === '**' ? labels.length : end + 1;
      for (let to = end + 1; to <= last && to <= labels.length; to++)
        if (part === '**' || matchesLabel(part, labels[end]!)) next.add(to);
    }
    ends = next;
  }
  return ends.has(labels.length);
}

function matchesLabel(pattern: string, label: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return pattern === label;
  if (label.length < first.length + last.length || !label.startsWith(first) || !label.endsWith(last)) return false;
  let at = first.length;
  for (const part of rest) {
    const found = label.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= label.length - last.length;
}

/**
 * What a pattern is asked about: names that the endpoint asked for, these and the targets of aliases, queries, server
 * names of TLS and QUIC, or hosts of HTTP requests.
 */
export type AtomKind = 'name' | 'alias' | 'query' | 'server' | 'host';

/** The atom "the endpoint asked for a name that matches". */
export const nameAtom = (pattern: string): string => `name:${pattern}`;
/** The atom "the endpoint asked for a name that matches, or a CNAME led it to one". */
export const aliasAtom = (pattern: string): string => `alias:${pattern}`;
/** The atom "a DNS query whose name matches". */
export const queryAtom = (pattern: string): string => `query:${pattern}`;

/** The atom "a TLS or QUIC hello that names a server that matches". */
export const serverAtom = (pattern: string): string => `server:${pattern}`;
/** The atom "an HTTP request to a host that matches". */
export const hostAtom = (pattern: string): string => `host:${pattern}`;

/** In each class of names, beside the atoms of its patterns. */
export const NAMES_MARK = '@names';
/** In each class of queries, beside the atoms of its patterns. */
export const QUERIES_MARK = '@queries';
/** In each class of server names, beside the atoms of its patterns. */
export const SERVERS_MARK = '@servers';
/** In each class of hosts of requests, beside the atoms of its patterns. */
export const HOSTS_MARK = '@hosts';

const KINDS: ReadonlySet<string> = new Set<AtomKind>(['name', 'alias', 'query', 'server', 'host']);

/** The kind and the pattern of an atom, or undefined if it is no atom of a pattern. */
export function readAtom(atom: string): { readonly kind: AtomKind; readonly pattern: string } | undefined {
  const at = atom.indexOf(':');
  const kind = atom.slice(0, Math.max(at, 0));
  if (!KINDS.has(kind)) return undefined;
  const pattern = atom.slice(at + 1);
  return isPattern(pattern) ? { kind: kind as AtomKind, pattern } : undefined;
}
