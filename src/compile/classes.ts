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
    else this.classes.set(id, { atoms, count: 1 });
    return id;
  }

  drop(id: number): void {
    const entry = this.classes.get(id);
    if (!entry) return;
    if (--entry.count > 0) return;
    this.classes.delete(id);
    this.ids.delete(entry.atoms.join(','));
  }

  *[Symbol.iterator](): Generator<readonly [number, readonly number[]]> {
    for (const [id, { atoms }] of this.classes) yield [id, atoms];
  }
}

export function classIdOf(atoms: string): number {
  return contentId(`class|${atoms}`);
}
