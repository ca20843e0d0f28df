/** The patterns of names in policy sets, and the automaton that finds the class of a name. */
import { type Accepts, type Automaton, buildAutomaton, walk } from '../names/automaton.js';
import { sameAtoms } from './fault.js';
import type { PolicySet } from './types.js';

const ofSets = new WeakMap<PolicySet, readonly string[]>();

/** The atoms of patterns that the rules of a set name, ascending. */
function atomsOf(set: PolicySet): readonly string[] {
  let atoms = ofSets.get(set);
  if (!atoms) {
    const all = asksForNames(set)
      ? set.rules.flatMap(({ names = [], queries = [], said }) => [
          ...names,
          ...queries,
          ...(said?.servers ?? []),
          ...(said?.hosts ?? []),
        ])
      : [];
    ofSets.set(set, (atoms = [...new Set(all)].sort()));
  }
  return atoms;
}

function asksForNames({ names, queries, says }: PolicySet): boolean {
  return names || queries || says;
}

/** The atoms of some lists. */
interface Union {
  readonly lists: ReadonlySet<readonly string[]>;
  /** Ascending. */
  readonly atoms: readonly string[];
}

/** The latest unions, the last one first: the next one has mostly the same lists. */
const unions: Union[] = [];
const KEPT_UNIONS = 3;

/** The atoms of patterns that the rules of some sets name, ascending. */
export function patternAtoms(sets: Iterable<PolicySet>): readonly string[] {
  const lists = new Set<readonly string[]>();
  for (const set of sets) if (asksForNames(set)) lists.add(atomsOf(set));
  const [first = [], ...rest] = lists;
  if (rest.length === 0) return first;
  let atoms: readonly string[] | undefined;
  for (const one of unions) atoms ??= extended(one, lists);
  atoms ??= [...new Set([...lists].flat())].sort();
  unions.unshift({ lists, atoms });
  unions.length = Math.min(unions.length, KEPT_UNIONS);
  return atoms;
}

/** The atoms of lists that have all atoms of a union, and few more; undefined: they are others. */
function extended(union: Union, lists: ReadonlySet<readonly string[]>): readonly string[] | undefined {
  const added = [...lists].filter((list) => !union.lists.has(list));
  const removed = [...union.lists].filter((list) => !lists.has(list));
  if (added.length + removed.length === 0) return union.atoms;
  if (added.length + removed.length > lists.size / 4) return undefined;
  const fresh = new Set(added.flat());
  // Another list might have the atom, too: then all are put together again, for no good reason.
  if (!removed.every((list) => list.every((atom) => fresh.has(atom)))) return undefined;
  const more = [...fresh].filter((atom) => !has(union.atoms, atom)).sort();
  if (more.length === 0) return union.atoms;
  const out: string[] = [];
  let next = 0;
  for (const atom of union.atoms) {
    while (next < more.length && (more[next] as string) < atom) out.push(more[next++] as string);
    out.push(atom);
  }
  return [...out, ...more.slice(next)];
}

/** @param sorted ascending */
function has(sorted: readonly string[], text: string): boolean {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as string) < text) low = middle + 1;
    else high = middle;
  }
  return sorted[low] === text;
}

/** An automaton with its accepting states by number. */
export interface Matcher {
  readonly atoms: readonly string[];
  readonly automaton: Automaton;
  readonly accepts: ReadonlyMap<number, Accepts>;
}

/** How many matchers are kept, the latest first: those of the Image in force, of the next one, and of both. */
const KEPT = 3;
const kept: Matcher[] = [];

/**
 * The automaton of these atoms; one of the latest is not built again.
 * @param atoms ascending
 * @throws PatternFault
 */
export function matcherOf(atoms: readonly string[]): Matcher {
  const at = kept.findIndex((one) => sameAtoms(one.atoms, atoms));
  const [found] = at < 0 ? [] : kept.splice(at, 1);
  const matcher = found ?? newMatcher(atoms);
  kept.unshift(matcher);
  kept.length = Math.min(kept.length, KEPT);
  return matcher;
}

function newMatcher(atoms: readonly string[]): Matcher {
  const automaton = buildAutomaton(atoms);
  let accepts: Matcher['accepts'] | undefined;
  return {
    ...{ atoms, automaton },
    get accepts() {
      return (accepts ??= new Map(automaton.accepts.map((one) => [one.state, one])));
    },
  };
}

/** What is true of a name (as canonicalName() writes it), or undefined if no pattern matches it. */
export function acceptsOf({ automaton, accepts }: Matcher, name: string): Accepts | undefined {
  return accepts.get(walk(automaton, name));
}
