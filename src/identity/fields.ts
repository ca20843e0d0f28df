/** Reads fields of objects that users wrote. Each wrong type becomes a Problem with the field's path. */
import type { Problem, Where } from '../errors.js';

/** A parsed object. The same object is kept while its text is unchanged, so that it can be the key of caches. */
export interface ParsedObject {
  readonly object: Readonly<Record<string, unknown>>;
  readonly where: Where;
}

/** Whether a value is an object, and not an array. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Data that all fields of an object share. */
interface Root {
  readonly where: Where;
  readonly problems: Problem[];
}

/** The value at a path of an object. Absent and null are the same, as for the API server. */
export class Field {
  readonly #parent: Field | Root;
  readonly #key: string | number;

  private constructor(
    readonly value: unknown,
    parent: Field | Root,
    key: string | number,
  ) {
    this.#parent = parent;
    this.#key = key;
  }

  static root(parsed: ParsedObject, object: string, problems: Problem[]): Field {
    return new Field(parsed.object, { where: { ...parsed.where, object }, problems }, '');
  }

  /** The path, such as `spec.ports[0].name`. Computed on demand, since most fields have no problem. */
  get path(): string {
    const [parent, key] = [this.#parent, this.#key];
    if (!(parent instanceof Field)) return '';
    const before = parent.path;
    if (typeof key === 'number') return `${before}[${key}]`;
    if (!/^[A-Za-z_][\w-]*$/.test(key)) return `${before}[${JSON.stringify(key)}]`;
    return before === '' ? key : `${before}.${key}`;
  }

  get present(): boolean {
    return this.value !== undefined && this.value !== null;
  }

  problem(message: string, hint?: string): undefined {
    let root: Field | Root = this.#parent;
    while (root instanceof Field) root = root.#parent;
    root.problems.push({ severity: 'error', where: { ...root.where, field: this.path }, message, hint });
    return undefined;
  }

  at(key: string): Field {
    const inside = isRecord(this.value) && Object.hasOwn(this.value, key) ? this.value[key] : undefined;
    return new Field(inside, this, key);
  }

  /** The elements of a list; none if it is absent. */
  items(): Field[] {
    if (!this.present) return [];
    if (!Array.isArray(this.value)) {
      this.problem('must be a list');
      return [];
    }
    return this.value.map((v, i) => new Field(v, this, i));
  }

  /** The first element of a list; undefined if there is none. */
  first(): Field | undefined {
    if (!Array.isArray(this.value)) return this.items()[0];
    return this.value.length > 0 ? new Field(this.value[0], this, 0) : undefined;
  }

  string(): string | undefined {
    if (!this.present) return undefined;
    return typeof this.value === 'string' ? this.value : this.problem('must be a string', 'put it in quotes');
  }

  integer(min: number, max: number): number | undefined {
    if (!this.present) return undefined;
    const v = this.value;
    if (typeof v === 'number' && Number.isInteger(v) && v >= min && v <= max) return v;
    return this.problem(`must be a whole number from ${min} to ${max}`);
  }

  boolean(): boolean | undefined {
    if (!this.present) return undefined;
    return typeof this.value === 'boolean' ? this.value : this.problem('must be true or false');
  }

  /** Labels and annotations. `version: 1` without quotes is reported, and read as text. */
  stringMap(): Readonly<Record<string, string>> {
    if (!this.present) return {};
    if (!isRecord(this.value)) {
      this.problem('must be a map of strings');
      return {};
    }
    const out: [string, string][] = [];
    for (const [key, v] of Object.entries(this.value)) {
      if (typeof v === 'string') out.push([key, v]);
      else if (v === null) out.push([key, '']);
      else {
        this.at(key).problem('must be a string', 'put it in quotes');
        if (typeof v !== 'object') out.push([key, String(v)]);
      }
    }
    return Object.fromEntries(out);
  }
}
