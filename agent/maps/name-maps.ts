/**
 * The matcher of names in the maps: which patterns it has, what an update needs, and what is left over.
 *
 * At every moment it has all patterns of all sets in the maps, and each of these sets has its rows for all of the
 * matcher's classes. So a new matcher changes no verdict. Every program has it before any endpoint takes a set with new
 * patterns, and it loses patterns only after the sets that had them are deleted.
 */
import { SetFault } from '../../src/image/fault.js';
import type { Ids } from '../../src/ids.js';
import { patternAtoms } from '../../src/image/names.js';
import { type MatcherPlan, planMatcher } from '../../src/image/plan/names.js';
import type { Image, PolicySet } from '../../src/image/types.js';
import { readAtom } from '../../src/names/pattern.js';
import { PatternFault } from '../../src/names/subsets.js';
import type { BpfMap } from '../kernel/libbpf/map.js';
import type { Leftovers } from './books/leftovers.js';
import type { RecoveredMaps } from './recovery.js';
import { Matcher } from './tables/matcher.js';

/** Class id → its atoms, ascending. */
export type NameClasses = ReadonlyMap<number, readonly string[]>;

/** What an update does to the matcher. */
export interface NamePlan {
  readonly matcher: MatcherPlan;
  /** Packets have this matcher already. */
  readonly shown: boolean;
}

/** The matcher in force, without its cells. */
interface InForce {
  readonly patterns: ReadonlySet<string>;
  readonly classes: NameClasses;
}

/** A matcher of so many patterns is made in some tens of milliseconds: none stays that no set has. */
const FEW_PATTERNS = 1024;
/** A larger matcher is made again, without its surplus patterns, when they are this part of it. */
const MIN_SURPLUS = 8;

const NO_CLASSES: NameClasses = new Map();

export class NameMaps {
  readonly #matcher: Matcher;
  /** undefined: an earlier agent wrote the matcher, or this one failed. Sets in the maps may have other patterns. */
  #inForce: InForce | undefined;
  /** Sets that had patterns may be gone. */
  #mayHaveSurplus = false;
  #lastSets: Image['sets'] | undefined;

  constructor(maps: Record<string, BpfMap>, leftovers: Leftovers) {
    this.#matcher = new Matcher(maps, leftovers);
  }

  /** Classes of the matcher in force: they need their rows, though no destination has them. */
  get classes(): NameClasses {
    return this.#inForce?.classes ?? NO_CLASSES;
  }

  /** Allocated chunks of cells. */
  get chunks(): number {
    return this.#matcher.chunks;
  }

  /** The matcher may have patterns that no set in the maps has. */
  get mayHaveSurplus(): boolean {
    return this.#mayHaveSurplus;
  }

  /** Chunks to allocate for a plan. */
  missing(plan: NamePlan | undefined): number {
    return plan && !plan.shown ? this.#matcher.missing(plan.matcher.automaton.size) : 0;
  }

  /**
   * Plans the matcher for the sets in the maps and those of an Image; undefined: the one in force has all patterns.
   * Writes nothing. @param others classes that get ids in the same update
   * @throws AgentError TOO_LARGE: a SetFault, if new sets are the cause
   */
  plan(inMaps: RecoveredMaps, image: Image, ids: Ids, others: NameClasses = NO_CLASSES): NamePlan | undefined {
    const inForce = this.#inForce;
    const known = inForce && image.sets === this.#lastSets;
    const newSets = known ? [] : [...image.sets.values()].filter(({ id }) => !inMaps.sets.has(id));
    if (inForce && newSets.every((set) => patternAtoms([set]).every((p) => inForce.patterns.has(p)))) return undefined;
    const patterns = patternAtoms([...inMaps.sets.values(), ...image.sets.values()]);
    try {
      const matcher = this.#planFor(patterns, inMaps, image, ids, others);
      return { matcher, shown: !inForce && this.#matcher.adopt(matcher) };
    } catch (e) {
      throw e instanceof PatternFault ? blame(e, newSets) : e;
    }
  }

  /** Plans the matcher without the patterns that no set in the maps has; undefined: there are none, or too few. */
  planSmaller(inMaps: RecoveredMaps, image: Image, ids: Ids): NamePlan | undefined {
    this.#mayHaveSurplus = false;
    const patterns = patternAtoms(inMaps.sets.values());
    const now = this.#inForce?.patterns.size ?? 0;
    const surplus = now - patterns.length;
    if (surplus === 0 || (now > FEW_PATTERNS && surplus * MIN_SURPLUS < now)) return undefined;
    return { matcher: this.#planFor(patterns, inMaps, image, ids, NO_CLASSES), shown: false };
  }

  /** Makes room for a plan's cells, before anything is written. May block for grace periods. @throws AgentError */
  makeRoom(plan: NamePlan | undefined): void {
    if (plan && !plan.shown) this.#matcher.makeRoom(plan.matcher.automaton.size);
  }

  /**
   * Writes a plan's cells, where no packet reads them, and then shows them to packets. The rows come before.
   * @returns whether the matcher changed: programs that run now may still use the one before
   */
  show(plan: NamePlan | undefined): boolean {
    if (!plan || plan.shown) return false;
    this.#matcher.write(plan.matcher);
    this.#matcher.flip();
    return true;
  }

  /** Records a plan that is in force. @returns ids of the classes of the matcher before; they may be unused */
  commit(plan: NamePlan | undefined, image: Image): number[] {
    const before = [...this.classes.keys()];
    if (plan) this.#inForce = { patterns: new Set(plan.matcher.patterns), classes: plan.matcher.classes };
    if (image.sets !== this.#lastSets) this.#mayHaveSurplus = (this.#inForce?.patterns.size ?? 0) > 0;
    this.#lastSets = image.sets;
    return plan ? before : [];
  }

  /** Frees the chunks that were replaced up to this moment: every program that ran then has ended. */
  release(moment: number): void {
    this.#matcher.release(moment);
  }

  /** Differences between the matcher and what was written, one line each. */
  differences(): string[] {
    return this.#matcher.differences();
  }

  /** Writes the matcher in force again, and shows it. Its rows must be there. @throws AgentError */
  repair(inMaps: RecoveredMaps, image: Image, ids: Ids): void {
    const patterns = [...(this.#inForce?.patterns ?? [])].sort();
    const plan = { matcher: this.#planFor(patterns, inMaps, image, ids, NO_CLASSES), shown: false };
    this.#matcher.readBack();
    this.makeRoom(plan);
    this.show(plan);
  }

  /** Reads the maps again. */
  readBack(): void {
    this.#matcher.readBack();
    this.#lastSets = undefined;
    this.#mayHaveSurplus = false;
    this.#inForce = undefined;
  }

  #planFor(
    patterns: readonly string[],
    inMaps: RecoveredMaps,
    image: Image,
    ids: Ids,
    others: NameClasses,
  ): MatcherPlan {
    return planMatcher(patterns, ids, (id) => [inMaps.classes.get(id), image.classes.get(id), others.get(id)]);
  }
}

/** The error of patterns that are too many together. New sets are the cause, the one with the worst pattern first. */
function blame(fault: PatternFault, newSets: readonly PolicySet[]): PatternFault | SetFault {
  const places = new Map(fault.patterns.map((pattern, n) => [pattern, n]));
  const worstOf = (set: PolicySet) =>
    Math.min(...patternAtoms([set]).map((atom) => places.get(readAtom(atom)?.pattern ?? '') ?? places.size));
  const sets = newSets
    .filter((set) => set.names || set.queries || set.says)
    .map((set) => [set.id, worstOf(set)] as const)
    .sort(([, a], [, b]) => a - b)
    .map(([id]) => id);
  return sets.length === 0 ? fault : new SetFault(fault.code, fault.message, { sets }, { hint: fault.hint });
}
