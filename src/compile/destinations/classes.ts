/** Destination classes by content, with reference counts: a class that no destination uses is deleted. */
import { classClash, contents } from '../../image/fault.js';
import type { Ids } from '../../ids.js';

/** A class in use; the same object as long as it is in use. */
export interface CountedClass {
  readonly id: number;
  readonly atoms: readonly string[];
}

interface Counted extends CountedClass {
  readonly text: string;
  count: number;
}

const NONE: readonly string[] = [];

/** The table of classes in use. */
export class ClassTable {
  readonly #ids: Ids;
  readonly #byId = new Map<number, Counted>();
  readonly #byText = new Map<string, Counted>();
  /** Cache by list, since many addresses share a list of atoms. */
  readonly #byList = new WeakMap<readonly string[], Counted>();
  readonly #changed = new Set<number>();

  constructor(ids: Ids) {
    this.#ids = ids;
  }

  /**
   * The class of these atoms (ascending). Increments its count by `times`. @throws SetFault if another class has its id
   */
  take(atoms: readonly string[], times = 1): CountedClass {
    let found = this.#byList.get(atoms);
    if (!found || found.count === 0) {
      found = this.#find(atoms);
      this.#byList.set(atoms, found);
    }
    found.count += times;
    return found;
  }

  /** The atoms of a class in use; none for class 0. */
  atomsOf(id: number): readonly string[] {
    return this.#byId.get(id)?.atoms ?? NONE;
  }

  drop({ id }: Pick<CountedClass, 'id'>): void {
    const entry = this.#byId.get(id);
    if (!entry) return;
    if (--entry.count > 0) return;
    this.#byId.delete(id);
    this.#byText.delete(entry.text);
    this.#changed.add(id);
  }

  /** The classes that were added or deleted (undefined) since the last call. */
  takeChanges(): (readonly [id: number, atoms: readonly string[] | undefined])[] {
    const out = [...this.#changed].map((id) => [id, this.#byId.get(id)?.atoms] as const);
    this.#changed.clear();
    return out;
  }

  *[Symbol.iterator](): Generator<readonly [number, readonly string[]]> {
    for (const [id, { atoms }] of this.#byId) yield [id, atoms];
  }

  /** The id of the class of these atoms, whether it is in use or not. @throws SetFault if another class has it */
  idOf(atoms: readonly string[]): number {
    const text = contents.class(atoms);
    return this.#byText.get(text)?.id ?? this.#newId(text, atoms);
  }

  #find(atoms: readonly string[]): Counted {
    const text = contents.class(atoms);
    const known = this.#byText.get(text);
    if (known) return known;
    const id = this.#newId(text, atoms);
    const made = { id, atoms, text, count: 0 };
    this.#byId.set(id, made);
    this.#byText.set(text, made);
    this.#changed.add(id);
    return made;
  }

  #newId(text: string, atoms: readonly string[]): number {
    const id = this.#ids.of(text);
    const other = this.#byId.get(id);
    if (other) throw classClash(id, other.atoms, atoms);
    return id;
  }
}
