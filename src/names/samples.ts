/** Names at the boundaries of patterns, for tools that compare policies, or examine them. */
import { buildAutomaton, walk } from './automaton.js';
import { EVERY_NAME, nameAtom } from './pattern.js';

/** What a sample has in place of a star; patterns seldom have a label of it. */
const FILL = 'x';

/** A name that matches the pattern, as short as there is one. */
export function shortest(pattern: string): string {
  return filled(pattern, { star: '', label: FILL, labels: FILL });
}

/** Names that match the pattern, the shortest first, and names that just miss it. */
export function samples(pattern: string): string[] {
  if (pattern === EVERY_NAME) return ['', FILL];
  const least = shortest(pattern);
  const [, ...above] = least.split('.');
  return [
    least,
    filled(pattern, { star: FILL, label: `${FILL}${FILL}`, labels: `${FILL}.${FILL}` }),
    filled(pattern, { star: `${FILL}-`, label: FILL, labels: FILL }),
    // Each `**` by itself: languages differ in which of them may be several labels.
    ...pattern.split('.').flatMap((part, i, all) => {
      if (part !== '**') return [];
      const fills = { star: '', label: FILL, labels: FILL };
      return [[...all.slice(0, i), `${FILL}.${FILL}`, ...all.slice(i + 1)].map((p) => filled(p, fills)).join('.')];
    }),
    ...(above.length > 0 ? [above.join('.')] : []),
    `${FILL}${least}`,
    `${FILL}.${least}`,
    `${least}${FILL}`,
    `${least}.${FILL}`,
  ];
}

interface Fills {
  /** For a star beside other characters, a label `*`, and a label `**`. */
  readonly star: string;
  readonly label: string;
  readonly labels: string;
}

function filled(pattern: string, { star, label, labels }: Fills): string {
  const parts = pattern === EVERY_NAME ? ['**'] : pattern.split('.');
  return parts
    .map((part) => {
      if (part === '**') return labels;
      // A label is never empty.
      return part === '*' ? label : part.replaceAll('*', star) || label;
    })
    .join('.');
}

/**
 * A name for each combination of these patterns that the samples meet, one of which matches none.
 * @throws PatternFault if the patterns together are too many
 */
export function distinctNames(patterns: readonly string[]): string[] {
  if (patterns.length === 0) return [];
  const automaton = buildAutomaton(patterns.map(nameAtom));
  const lists = new Map(automaton.accepts.map(({ state, names }) => [state, names]));
  const found = new Map<readonly string[] | undefined, string>();
  for (const name of [...patterns.flatMap(samples), `${FILL}${FILL}${FILL}.invalid`]) {
    const met = lists.get(walk(automaton, name));
    if (!found.has(met)) found.set(met, name);
  }
  return [...found.values()];
}
