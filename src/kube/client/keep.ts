/**
 * Removes unused members from JSON before it is parsed. Six of seven kilobytes of a pod are unused, and parsing them
 * would cost more than all further processing. Removed parts are only skipped; the rest is unchanged and goes to the
 * normal parser.
 */

/** The members of an object to keep: all of them (true), or these. For a list, it applies to each element. */
export type Keep = true | { readonly [key: string]: Keep };

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN = 0x7b;
const CLOSE = 0x7d;

const SIGN_QUOTE = 1;
const SIGN_OPEN = 2;
const SIGN_CLOSE = 3;
/** By byte value; 0 for bytes without a meaning in skipped parts. */
const SIGNS = new Uint8Array(256);
SIGNS[QUOTE] = SIGN_QUOTE;
for (const c of [OPEN, OPEN_LIST]) SIGNS[c] = SIGN_OPEN;
for (const c of [CLOSE, CLOSE_LIST]) SIGNS[c] = SIGN_CLOSE;

/** Maximum size of the shared scratch memory. Answers are pages of some megabytes, and larger ones are rare. */
const MOST_SCRATCH = 8 << 20;

interface Member {
  readonly name: Buffer;
  readonly keep: Tree;
}

/** A Keep prepared for comparison with bytes; undefined: keep everything. */
type Tree = readonly Member[] | undefined;

/** Thrown for input that is not JSON, or JSON in a form that no API server writes. It is then left to the parser. */
class Odd extends Error {}

/**
 * Makes a function that returns the bytes to keep of a document; all of them if the document is not JSON. The result is
 * valid until the next call.
 * @param scratch may be shared by keepers that are not used at the same time
 */
export function keeper(keep: Keep, scratch = new Scratch()): (bytes: Buffer) => Buffer {
  const tree = treeOf(keep);
  return (bytes) => {
    try {
      return new Pass(bytes, scratch.of(bytes.length)).run(tree);
    } catch (e) {
      if (e instanceof Odd) return bytes;
      throw e;
    }
  };
}

function treeOf(keep: Keep): Tree {
  if (keep === true) return undefined;
  return Object.entries(keep).map(([key, inside]) => ({ name: Buffer.from(`"${key}"`), keep: treeOf(inside) }));
}

/**
 * A reusable buffer. Large buffers that are allocated for each answer are memory that the allocator does not return.
 */
export class Scratch {
  #buffer = Buffer.alloc(0);

  /** A buffer of this length with undefined content. It invalidates the previous one. */
  of(length: number): Buffer {
    if (length > MOST_SCRATCH) return Buffer.allocUnsafe(length);
    if (length > this.#buffer.length) this.#buffer = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(length)));
    return this.#buffer.subarray(0, length);
  }
}

class Pass {
  readonly #bytes: Buffer;
  readonly #out: Buffer;
  /** Positions of the next byte to read and to write. */
  #at = 0;
  #to = 0;

  constructor(bytes: Buffer, out: Buffer) {
    this.#bytes = bytes;
    this.#out = out;
  }

  run(tree: Tree): Buffer {
    this.#value(tree);
    this.#blanks();
    if (this.#at < this.#bytes.length) throw new Odd();
    return this.#out.subarray(0, this.#to);
  }

  #value(tree: Tree): void {
    const c = this.#blanks();
    if (tree && c === OPEN) this.#object(tree);
    else if (tree && c === OPEN_LIST) this.#list(tree);
    else {
      const from = this.#at;
      this.#skip();
      this.#copy(from);
    }
  }

  #object(tree: readonly Member[]): void {
    this.#put(OPEN);
    this.#at++;
    let kept = 0;
    for (let c = this.#blanks(); c !== CLOSE; ) {
      if (c !== QUOTE) throw new Odd();
      const from = this.#at;
      this.#text();
      const end = this.#at;
      const member = this.#member(tree, from, end);
      if (this.#blanks() !== COLON) throw new Odd();
      this.#at++;
      this.#blanks();
      if (member) {
        if (kept++ > 0) this.#put(COMMA);
        this.#copy(from, end);
        this.#put(COLON);
        this.#value(member.keep);
      } else this.#skip();
      c = this.#next(CLOSE);
    }
    this.#at++;
    this.#put(CLOSE);
  }

  #list(tree: readonly Member[]): void {
    this.#put(OPEN_LIST);
    this.#at++;
    let n = 0;
    for (let c = this.#blanks(); c !== CLOSE_LIST; ) {
      if (n++ > 0) this.#put(COMMA);
      this.#value(tree);
      c = this.#next(CLOSE_LIST);
    }
    this.#at++;
    this.#put(CLOSE_LIST);
  }

  /** Moves behind a comma to the next element, or to the closing bracket. */
  #next(close: number): number {
    const c = this.#blanks();
    if (c === close) return c;
    if (c !== COMMA) throw new Odd();
    this.#at++;
    const after = this.#blanks();
    if (after === close) throw new Odd();
    return after;
  }

  #member(tree: readonly Member[], from: number, end: number): Member | undefined {
    const bytes = this.#bytes;
    for (const member of tree) {
      const { name } = member;
      if (name.length !== end - from) continue;
      let i = 1;
      while (i < name.length && name[i] === bytes[from + i]) i++;
      if (i === name.length) return member;
    }
    // A name may contain escapes. Nobody writes such names, but they must not be lost.
    for (let i = from; i < end; i++) if (bytes[i] === BACKSLASH) throw new Odd();
    return undefined;
  }

  /** Skips a value of any kind. Brackets are only counted, not matched, since the parser sees the kept parts. */
  #skip(): void {
    const bytes = this.#bytes;
    const first = SIGNS[bytes[this.#at] ?? 0];
    if (first !== SIGN_QUOTE && first !== SIGN_OPEN) {
      this.#scalar();
      return;
    }
    const end = bytes.length;
    let at = this.#at;
    let depth = 0;
    do {
      // The innermost loop: most bytes are skipped here.
      while (at < end && SIGNS[bytes[at] as number] === 0) at++;
      if (at >= end) throw new Odd();
      const sign = SIGNS[bytes[at] as number];
      if (sign === SIGN_OPEN) depth++;
      else if (sign === SIGN_CLOSE) depth--;
      else {
        for (at++; at < end && bytes[at] !== QUOTE; at++) if (bytes[at] === BACKSLASH) at++;
        if (at >= end) throw new Odd();
      }
      at++;
    } while (depth > 0);
    this.#at = at;
  }

  /** A number, true, false or null. */
  #scalar(): void {
    const from = this.#at;
    for (let c = this.#bytes[this.#at]; c !== undefined && c > 0x20; c = this.#bytes[++this.#at]) {
      if (c === COMMA || c === CLOSE || c === CLOSE_LIST) break;
    }
    if (this.#at === from) throw new Odd();
  }

  /** Moves behind a string, from its first quote. */
  #text(): void {
    const bytes = this.#bytes;
    let i = this.#at + 1;
    for (let c = bytes[i]; c !== QUOTE; c = bytes[++i]) {
      if (c === undefined) throw new Odd();
      if (c === BACKSLASH) i++;
    }
    this.#at = i + 1;
  }

  /** Moves to the next byte that is not blank. Returns 0 at the end. */
  #blanks(): number {
    let c = this.#bytes[this.#at];
    while (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09) c = this.#bytes[++this.#at];
    return c ?? 0;
  }

  #put(byte: number): void {
    this.#out[this.#to++] = byte;
  }

  #copy(from: number, end = this.#at): void {
    const [bytes, out] = [this.#bytes, this.#out];
    if (end - from > 64) {
      this.#to += bytes.copy(out, this.#to, from, end);
      return;
    }
    for (let i = from; i < end; i++) out[this.#to++] = bytes[i] as number;
  }
}

const identity = { name: true, namespace: true, uid: true, resourceVersion: true } as const;

/** The members that EntryReader reads, for kinds with many objects. Of other kinds, everything is kept. */
const KINDS: Readonly<Record<string, Keep>> = {
  Pod: {
    metadata: { ...identity, labels: true, annotations: true, ownerReferences: true, deletionTimestamp: true },
    spec: {
      nodeName: true,
      hostNetwork: true,
      serviceAccountName: true,
      serviceAccount: true,
      containers: { ports: true },
      initContainers: { ports: true, restartPolicy: true },
    },
    status: { phase: true, podIP: true, podIPs: true },
  },
  Node: { metadata: { ...identity, labels: true }, status: { addresses: true } },
  ServiceAccount: { metadata: { ...identity, labels: true } },
  EndpointSlice: {
    metadata: { ...identity, labels: true },
    addressType: true,
    endpoints: { addresses: true, conditions: true },
    ports: true,
  },
};

/** The members of a kind's objects that are read; undefined: all. */
export function keepOf(kind: string): Keep | undefined {
  return KINDS[kind];
}

/** The same for a list of such objects. */
export function ofList(keep: Keep): Keep {
  return { apiVersion: true, kind: true, metadata: true, items: keep };
}

/** The same for the events of a watch. The content of an ERROR event is kept. */
export function ofEvents(keep: Keep): Keep {
  const status = { code: true, reason: true, message: true } as const;
  return { type: true, object: keep === true ? true : { apiVersion: true, kind: true, ...status, ...keep } };
}
