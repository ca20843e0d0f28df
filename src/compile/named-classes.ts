/** Classes whose addresses names tell apart: to the policy sets, they are not alike. */
import { classRow, setIndex } from '../image/rows.js';
import type { Image, PolicySet } from '../image/types.js';

/** The classes that a rule for names may match. It is remembered for each class while the sets are the same. */
export class NamedClasses {
  #sets: readonly PolicySet[] = [];
  #classes: Image['classes'] = new Map();
  readonly #named = new Map<number, boolean>();

  /** @returns whether the answer for any class that was asked for is another one now */
  update(sets: Iterable<PolicySet>, classes: Image['classes']): boolean {
    const asking = [...sets].filter((set) => set.names);
    this.#classes = classes;
    if (asking.length === this.#sets.length && asking.every((set, i) => set === this.#sets[i])) return false;
    this.#sets = asking;
    let changed = false;
    for (const [id, before] of [...this.#named]) {
      this.#named.delete(id);
      if (classes.has(id) || id === 0) changed ||= this.has(id) !== before;
    }
    return changed;
  }

  /** Whether a rule for names may match addresses of this class. */
  has(id: number): boolean {
    let named = this.#named.get(id);
    if (named === undefined) {
      const atoms = this.#classes.get(id) ?? [];
      named = this.#sets.some((set) => asksNames(set, atoms));
      this.#named.set(id, named);
    }
    return named;
  }
}

/** Whether a rule for names is among those that a class of these atoms may match. */
function asksNames(set: PolicySet, atoms: readonly string[]): boolean {
  const { any, names } = setIndex(set);
  const others = names?.others;
  const row = classRow(set, atoms) ?? any;
  return others !== undefined && row.some((word, i) => (word & ~(others[i] as number)) !== 0);
}
