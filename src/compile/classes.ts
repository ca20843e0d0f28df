/** Destination classes by content, counted: a class that no destination has any more is gone. */
import { AgentError } from '../errors.js';
import { contentId } from '../image/ids.js';

interface Counted {
  readonly atoms: readonly number[];
  count: number;
}

export class ClassTable {
  private readonly classes = new Map<number, Counted>();
  private readonly ids = new Map<string, number>();
  private readonly changed = new Set<number>();

  /** The class of these atoms (ascending), counted once more. @throws AgentError HASH_COLLISION */
  take(atoms: readonly number[]): number {
    const text = atoms.join(',');
    let id = this.ids.get(text);
    if (id === undefined) {
      id = classIdOf(text);
      const known = this.classes.get(id);
      // Two contents with one id must not become one class.
      if (known && known.atoms.join(',') !== text) {
        throw new AgentError('HASH_COLLISION', `two destination classes share the id ${id}`);
      }
      this.ids.set(text, id);
    }
    const entry = this.classes.get(id);
    if (entry) entry.count++;
    else {
      this.classes.set(id, { atoms, count: 1 });
      this.changed.add(id);
    }
    return id;
  }

  drop(id: number): void {
    const entry = this.classes.get(id);
    if (!entry) return;
    if (--entry.count > 0) return;
    this.classes.delete(id);
    this.changed.add(id);
    this.ids.delete(entry.atoms.join(','));
  }

  /** Classes that came or went since this was asked last; undefined: gone. */
  takeChanges(): (readonly [id: number, atoms: readonly number[] | undefined])[] {
    const out = [...this.changed].map((id) => [id, this.classes.get(id)?.atoms] as const);
    this.changed.clear();
    return out;
  }

  *[Symbol.iterator](): Generator<readonly [number, readonly number[]]> {
    for (const [id, { atoms }] of this.classes) yield [id, atoms];
  }
}

export function classIdOf(atoms: string): number {
  return contentId(`class|${atoms}`);
}
