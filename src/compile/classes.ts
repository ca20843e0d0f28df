/** Destination classes by content, counted: a class that no destination has any more is gone. */
import { AgentError } from '../errors.js';
import { contentId } from '../image/ids.js';

/** A class in use: the same object for as long as somebody uses it. */
export interface CountedClass {
  readonly id: number;
  readonly atoms: readonly number[];
}

interface Counted extends CountedClass {
  readonly text: string;
  count: number;
}

const NONE: readonly number[] = [];

export class ClassTable {
  private readonly byId = new Map<number, Counted>();
  private readonly byText = new Map<string, Counted>();
  /** Lists of atoms are shared by many addresses. */
  private readonly byList = new WeakMap<readonly number[], Counted>();
  private readonly changed = new Set<number>();

  /** The class of these atoms (ascending), counted once more, or so many times. @throws AgentError HASH_COLLISION */
  take(atoms: readonly number[], times = 1): CountedClass {
    let found = this.byList.get(atoms);
    if (!found || found.count === 0) {
      found = this.find(atoms);
      this.byList.set(atoms, found);
    }
    found.count += times;
    return found;
  }

  /** Atoms of a class in use; of 0, which is none, there are none. */
  atomsOf(id: number): readonly number[] {
    return this.byId.get(id)?.atoms ?? NONE;
  }

  drop({ id }: Pick<CountedClass, 'id'>): void {
    const entry = this.byId.get(id);
    if (!entry) return;
    if (--entry.count > 0) return;
    this.byId.delete(id);
    this.byText.delete(entry.text);
    this.changed.add(id);
  }

  /** Classes that came or went since this was asked last; undefined: gone. */
  takeChanges(): (readonly [id: number, atoms: readonly number[] | undefined])[] {
    const out = [...this.changed].map((id) => [id, this.byId.get(id)?.atoms] as const);
    this.changed.clear();
    return out;
  }

  *[Symbol.iterator](): Generator<readonly [number, readonly number[]]> {
    for (const [id, { atoms }] of this.byId) yield [id, atoms];
  }

  private find(atoms: readonly number[]): Counted {
    const text = atoms.join(',');
    const known = this.byText.get(text);
    if (known) return known;
    const id = classIdOf(text);
    // Two contents with one id must not become one class.
    if (this.byId.has(id)) throw new AgentError('HASH_COLLISION', `two destination classes share the id ${id}`);
    const made = { id, atoms, text, count: 0 };
    this.byId.set(id, made);
    this.byText.set(text, made);
    this.changed.add(id);
    return made;
  }
}

export function classIdOf(atoms: string): number {
  return contentId(`class|${atoms}`);
}
