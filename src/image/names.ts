/** The patterns of names in policy sets, and the automaton that finds the class of a name. */
import { type Accepts, type Automaton, buildAutomaton, walk } from '../names/automaton.js';
import { sameAtoms } from './fault.js';
import type { PolicySet } from './types.js';

const ofSets = new WeakMap<PolicySet, readonly string[]>();

/** The atoms of patterns that the rules of a set name, ascending. */
function atomsOf(set: PolicySet): readonly string[] {
  let atoms = ofSets.get(set);
  if (!atoms) {
    const all = set.names || set.queries ? set.rules.flatMap((r) => [...(r.names ?? []), ...(r.queries ?? [])]) : [];
    ofSets.set(set, (atoms = [...new Set(all)].sort()));
  }
  return atoms;
}

/** The atoms of patterns that the rules of some sets name, ascending. */
export function patternAtoms(sets: Iterable<PolicySet>): readonly string[] {
  const lists = new Set<readonly string[]>();
  for (const set of sets) if (set.names || set.queries) lists.add(atomsOf(set));
  const [first = [], ...rest] = lists;
  return rest.length === 0 ? first : [...new Set([...lists].flat())].sort();
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
  return { atoms, automaton, accepts: new Map(automaton.accepts.map((one) => [one.state, one])) };
}

/** What is true of a name (as canonicalName() writes it), or undefined if no pattern matches it. */
export function acceptsOf({ automaton, accepts }: Matcher, name: string): Accepts | undefined {
  return accepts.get(walk(automaton, name));
}
