/**
 * A question in pieces, for the way into another thread: a snapshot of 50,000 pods takes some hundred milliseconds to be
 * copied, and nothing else would be done meanwhile. Each piece takes a few.
 */

/** Entries of a map or elements of a list in one piece. */
const SIZE = 500;

/** Where a piece belongs, and what it adds there. */
export type Piece =
  | { readonly path: readonly string[]; readonly value: unknown }
  | { readonly path: readonly string[]; readonly entries: readonly (readonly [unknown, unknown])[] }
  | { readonly path: readonly string[]; readonly items: readonly unknown[] };

/**
 * The pieces of a value. Maps of every kind become plain ones: a SharedMap hides its layers, and would arrive empty.
 * Only what is in records is looked at; what is deeper in maps and lists goes as it is, and must be plain.
 * @param value must not change while it is sent
 */
export function* pieces(value: unknown, path: readonly string[] = []): Generator<Piece> {
  if (isMap(value)) yield* inParts(value, (entries) => ({ path, entries }));
  else if (Array.isArray(value)) yield* inParts(value, (items) => ({ path, items }));
  else if (isPlain(value)) {
    yield { path, value: {} };
    for (const [key, inner] of Object.entries(value)) yield* pieces(inner, [...path, key]);
  } else yield { path, value };
}

function* inParts<T>(all: Iterable<T>, piece: (part: T[]) => Piece): Generator<Piece> {
  let part: T[] = [];
  let isEmpty = true;
  for (const one of all) {
    part.push(one);
    if (part.length < SIZE) continue;
    yield piece(part);
    part = [];
    isEmpty = false;
  }
  if (isEmpty || part.length > 0) yield piece(part);
}

function isMap(value: unknown): value is ReadonlyMap<unknown, unknown> {
  return value instanceof Map || (typeof value === 'object' && value !== null && 'entries' in value && 'size' in value);
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const proto: unknown = Object.getPrototypeOf(value);
  return proto === Object.prototype || proto === null;
}

/** Puts pieces together again. */
export class Whole {
  #root: unknown;

  add(piece: Piece): void {
    const { path } = piece;
    if ('entries' in piece) {
      const map = this.#at(path, () => new Map()) as Map<unknown, unknown>;
      for (const [key, value] of piece.entries) map.set(key, value);
    } else if ('items' in piece) {
      const list = this.#at(path, () => []) as unknown[];
      for (const item of piece.items) list.push(item);
    } else this.#set(path, piece.value);
  }

  get value(): unknown {
    return this.#root;
  }

  #at(path: readonly string[], make: () => unknown): unknown {
    let value = this.#root;
    for (const key of path) value = (value as Record<string, unknown> | undefined)?.[key];
    return value ?? this.#set(path, make());
  }

  #set(path: readonly string[], value: unknown): unknown {
    const last = path.at(-1);
    if (last === undefined) return (this.#root = value);
    let parent = this.#root;
    for (const key of path.slice(0, -1)) parent = (parent as Record<string, unknown>)[key];
    Object.defineProperty(parent, last, { value, enumerable: true, writable: true, configurable: true });
    return value;
  }
}
