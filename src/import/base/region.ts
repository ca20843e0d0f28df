/**
 * Sets of connections by the name that they are for, closed under and, or and not. A set is a tree of domains: of each
 * domain that somebody named it says whether the domain itself is in the set, and whether the names below it are, but
 * for those with a mark of their own. All lists that are imported mean names, or what is below a name, so no set needs
 * more than that.
 */

interface Mark {
  readonly own?: boolean;
  readonly below?: boolean;
}

/** The root, above every domain. Its mark has both parts. */
const ROOT = '';

/** What patterns can say of a set. */
export interface Patterns {
  /** Canonical patterns (src/names/pattern.ts): a name, `**.` and a name, or `***`. Ascending by domain. */
  readonly patterns: readonly string[];
  /** Domains below which most names are in the set, but not all: no pattern says that. With a name that is not in it. */
  readonly lost: readonly { readonly below: string; readonly but: string }[];
}

/** The patterns of a domain, as lists write them: the name itself, and what is below it. */
export interface Domain {
  readonly name: string;
  readonly own: boolean;
  readonly below: boolean;
}

export class Region {
  readonly #marks: ReadonlyMap<string, Mark>;
  /** Whether connections to addresses without a name are in it. */
  readonly unnamed: boolean;

  constructor(marks: ReadonlyMap<string, Mark>, unnamed: boolean) {
    this.#marks = marks;
    this.unnamed = unnamed;
  }

  /** The names of some domains. */
  static of(domains: Iterable<Domain>): Region {
    const marks = new Map<string, Mark>([[ROOT, { own: false, below: false }]]);
    for (const { name, own, below } of domains) {
      const known = marks.get(name);
      marks.set(name, {
        ...known,
        ...(own ? { own } : {}),
        ...(below ? { below } : {}),
      });
    }
    return new Region(marks, false);
  }

  /** Whether a connection is in the set. @param name canonical; undefined: to an address without a name */
  has(name: string | undefined): boolean {
    if (name === undefined) return this.unnamed;
    return this.#marks.get(name)?.own ?? this.#below(name, false);
  }

  /** Whether names below a domain are in it, where nothing else is said of them. @param itself count the domain's own mark */
  #below(name: string, itself: boolean): boolean {
    const mark = itself ? this.#marks.get(name)?.below : undefined;
    if (mark !== undefined) return mark;
    for (let at = name; at !== ROOT; ) {
      const dot = at.indexOf('.');
      at = dot < 0 ? ROOT : at.slice(dot + 1);
      const above = this.#marks.get(at)?.below;
      if (above !== undefined) return above;
    }
    return this.#marks.get(ROOT)!.below!;
  }

  and(other: Region): Region {
    if (this === EVERYTHING || other === NOTHING) return other;
    if (other === EVERYTHING || this === NOTHING) return this;
    return this.#with(other, (a, b) => a && b);
  }

  or(other: Region): Region {
    if (this === NOTHING || other === EVERYTHING) return other;
    if (other === NOTHING || this === EVERYTHING) return this;
    return this.#with(other, (a, b) => a || b);
  }

  minus(other: Region): Region {
    return other === NOTHING ? this : this.#with(other, (a, b) => a && !b);
  }

  not(): Region {
    return EVERYTHING.minus(this);
  }

  #with(other: Region, op: (a: boolean, b: boolean) => boolean): Region {
    const marks = new Map<string, Mark>();
    for (const name of new Set([...this.#marks.keys(), ...other.#marks.keys()])) {
      marks.set(name, {
        own: op(this.has(name), other.has(name)),
        below: op(this.#below(name, true), other.#below(name, true)),
      });
    }
    return simple(new Region(marks, op(this.unnamed, other.unnamed)));
  }

  /** Whether nothing is in it. */
  get isEmpty(): boolean {
    return !this.unnamed && !this.#some(true);
  }

  /** Whether every connection is in it. */
  get isEverything(): boolean {
    return this.unnamed && this.hasEveryName;
  }

  get hasEveryName(): boolean {
    return !this.#some(false);
  }

  /** Whether it has any name at all. */
  get hasNames(): boolean {
    return this.#some(true);
  }

  #some(value: boolean): boolean {
    for (const { own, below } of this.#marks.values()) if (own === value || below === value) return true;
    return false;
  }

  /** The set without what it says of addresses that have no name. */
  get named(): Region {
    return this.unnamed ? new Region(this.#marks, false) : this;
  }

  /** The patterns that mean its names. */
  patterns(): Patterns {
    const holes = this.#holes();
    const lost: { below: string; but: string }[] = [];
    const said: string[] = [];
    if (this.#marks.get(ROOT)!.below === true && !holes.has(ROOT)) return { patterns: ['***'], lost };
    for (const [name, mark] of this.#marks) {
      if (mark.own === true && name !== ROOT && !this.#covered(name, holes)) said.push(name);
      if (mark.below !== true) continue;
      const but = holes.get(name);
      if (but !== undefined) lost.push({ below: name, but });
      else if (!this.#covered(name, holes)) said.push(`**.${name}`);
    }
    return { patterns: said.sort(), lost };
  }

  /** For each domain with names below it that are not in the set: one of them. */
  #holes(): Map<string, string> {
    const holes = new Map<string, string>();
    for (const [name, { own, below }] of this.#marks) {
      if (name === ROOT || (own !== false && below !== false)) continue;
      const but = own === false ? name : `*.${name}`;
      for (let at = name; at !== ROOT; ) {
        const dot = at.indexOf('.');
        at = dot < 0 ? ROOT : at.slice(dot + 1);
        if (holes.has(at)) break;
        holes.set(at, but);
      }
    }
    return holes;
  }

  /** Whether the pattern of a domain above covers it. */
  #covered(name: string, holes: ReadonlyMap<string, string>): boolean {
    for (let at = name; at !== ROOT; ) {
      const dot = at.indexOf('.');
      at = dot < 0 ? ROOT : at.slice(dot + 1);
      if (at === ROOT) return false;
      const below = this.#marks.get(at)?.below;
      if (below !== undefined && holes.get(at) === undefined) return below;
    }
    return false;
  }
}

/** Every connection. */
export const EVERYTHING = new Region(new Map([[ROOT, { own: true, below: true }]]), true);
/** None. */
export const NOTHING = new Region(new Map([[ROOT, { own: false, below: false }]]), false);

/** The constants are known by identity. */
function simple(region: Region): Region {
  if (region.isEmpty) return NOTHING;
  return region.isEverything ? EVERYTHING : region;
}
