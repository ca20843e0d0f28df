/** Reading fields of objects that users wrote: each wrong type becomes a Problem that names its path. */
import type { Problem, Where } from '../errors.js';

/** A parsed object. Its identity is kept for as long as its text is unchanged: caches hang on it. */
export interface ParsedObject {
  readonly object: Readonly<Record<string, unknown>>;
  readonly where: Where;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What all fields of an object share. */
interface Root {
  readonly where: Where;
  readonly problems: Problem[];
}

/** What stands at a path of an object. Absent and null are the same, as for the API server. */
export class Field {
  private constructor(
    readonly value: unknown,
    private readonly parent: Field | Root,
    private readonly key: string | number,
  ) {}

  static root(parsed: ParsedObject, object: string, problems: Problem[]): Field {
    return new Field(parsed.object, { where: { ...parsed.where, object }, problems }, '');
  }

  /** `spec.ports[0].name`: put together for those who ask, since most fields are as they should be. */
  get path(): string {
    const { parent, key } = this;
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
    let root: Field | Root = this.parent;
    while (root instanceof Field) root = root.parent;
    root.problems.push({ severity: 'error', where: { ...root.where, field: this.path }, message, hint });
    return undefined;
  }

  at(key: string): Field {
    const inside = isRecord(this.value) && Object.hasOwn(this.value, key) ? this.value[key] : undefined;
    return new Field(inside, this, key);
  }

  /** Elements of a list; none if absent. */
  items(): Field[] {
    if (!this.present) return [];
    if (!Array.isArray(this.value)) {
      this.problem('must be a list');
      return [];
    }
    return this.value.map((v, i) => new Field(v, this, i));
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

  /** Labels and annotations. `version: 1` without quotes is reported, and read as the text it looks like. */
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
