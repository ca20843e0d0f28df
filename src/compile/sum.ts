/** Checks which sets can be in force together, and sums up what they need. */
import { matcherOf, patternAtoms } from '../image/names.js';
import type { PolicySet } from '../image/types.js';
import { ruleClash } from '../ir/names.js';
import type { RuleRef } from '../ir/types.js';
import { readAtom } from '../names/pattern.js';
import { PatternFault } from '../names/subsets.js';
import type { Atom } from './atoms/atoms.js';
import { type BuiltSet, sameRule } from './sets.js';
import { MAX_PREFIXES } from './destinations/sweep.js';

export interface Sum {
  readonly built: readonly BuiltSet[];
  readonly sets: ReadonlyMap<number, PolicySet>;
  readonly rules: ReadonlyMap<number, RuleRef>;
  /** By id; the same list object for the same atoms. */
  readonly atoms: readonly Atom[];
  readonly predicates: ReadonlyMap<string, Atom>;
}

/** Sets that cannot be in force together with the others. */
export interface Clash {
  readonly clash: readonly BuiltSet[];
  readonly why: string;
}

export const NOTHING: Sum = { built: [], sets: new Map(), rules: new Map(), atoms: [], predicates: new Map() };

/** The new sets whose patterns of names blow up with those of the others; undefined: none do. */
function tangle(built: readonly BuiltSet[], known: ReadonlySet<BuiltSet>): Clash | undefined {
  const asking = built.filter(({ set }) => set.names || set.queries);
  const added = asking.filter((one) => !known.has(one));
  if (added.length === 0) return undefined;
  try {
    matcherOf(patternAtoms(asking.map(({ set }) => set)));
    return undefined;
  } catch (e) {
    if (!(e instanceof PatternFault)) throw e;
    const why = `${e.message} — ${e.hint}`;
    for (const pattern of e.patterns) {
      const clash = added.filter(({ set }) => patternAtoms([set]).some((atom) => readAtom(atom)?.pattern === pattern));
      if (clash.length > 0) return { clash, why };
    }
    return { clash: added, why };
  }
}

/**
 * Adds up sets. No two sets and no two rules may have the same id, and the atoms may not have more prefixes than a
 * sweep can take, nor the patterns of names more states than an automaton may have.
 * @param before sets of this sum are added first: they were in force together, so a new set must fit to them
 */
export function summed(built: readonly BuiltSet[], before: Sum): Sum | Clash {
  const sets = new Map<number, PolicySet>();
  const rules = new Map<number, RuleRef>();
  const atoms = new Map<string, Atom>();
  const known = new Set(before.built);
  const take = ({ set, refs, atoms: own }: BuiltSet) => {
    sets.set(set.id, set);
    for (const [id, ref] of refs) rules.set(id, ref);
    for (const atom of own) atoms.set(atom.id, atom);
  };
  for (const one of built) if (known.has(one)) take(one);
  let latest: BuiltSet | undefined;
  for (const one of built) {
    if (known.has(one)) continue;
    const { set, refs } = one;
    const other = sets.get(set.id);
    if (other && other.name !== set.name) return { clash: [one], why: `it and another set have the id ${set.id}` };
    for (const [id, ref] of refs) {
      const existing = rules.get(id);
      if (existing && !sameRule(existing, ref)) return { clash: [one], why: ruleClash(existing, ref) };
    }
    take(one);
    latest = one;
  }
  const tangled = tangle(built, known);
  if (tangled) return tangled;
  if (before.atoms.length === atoms.size && before.atoms.every(({ id }) => atoms.has(id)))
    return { built, sets, rules, atoms: before.atoms, predicates: before.predicates };
  const sorted = [...atoms.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const prefixes = sorted.reduce((n, a) => n + (a.keys4?.length ?? 0) + (a.prefixes?.length ?? 0), 0);
  if (latest && prefixes > MAX_PREFIXES)
    return { clash: [latest], why: `with it there are more than ${MAX_PREFIXES} CIDR blocks` };
  return {
    built,
    sets,
    rules,
    atoms: sorted,
    predicates: new Map(sorted.filter((a) => a.select).map((a) => [a.id, a])),
  };
}
