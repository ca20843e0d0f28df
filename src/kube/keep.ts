/**
 * JSON, without what nobody will read: of a pod that is six kilobytes in seven, and parsing it would cost more than all that is
 * made of it afterwards. What is left out is only skipped; what is kept is as it was, and parsed as ever.
 */

/** What to keep of a value: all of it, or of an object these members. Of a list, the same of each element. */
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
/** By byte; 0 for those that mean nothing where something is passed over. */
const SIGNS = new Uint8Array(256);
SIGNS[QUOTE] = SIGN_QUOTE;
for (const c of [OPEN, OPEN_LIST]) SIGNS[c] = SIGN_OPEN;
for (const c of [CLOSE, CLOSE_LIST]) SIGNS[c] = SIGN_CLOSE;

/** Answers are pages of some megabytes; one that is larger than this is a rare one. */
const MOST_SCRATCH = 8 << 20;

interface Member {
  readonly name: Buffer;
  readonly keep: Tree;
}

/** Keep, ready to be compared with bytes; undefined: all of it. */
type Tree = readonly Member[] | undefined;

/** Not JSON, or JSON of a kind that no API server writes: to be left to the parser. */
class Odd extends Error {}

/**
 * @param scratch may be shared by keepers that take turns
 * @returns a function from a document's bytes to those of it that are kept: all of them where it is no JSON. What it
 *   returns is good until it is called again
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

/** A buffer that is used again: large ones, made for each answer, are memory that the allocator does not give back. */
export class Scratch {
  private buffer = Buffer.alloc(0);

  /** So many bytes, with anything in them; what was had before is not good any more. */
  of(length: number): Buffer {
    if (length > MOST_SCRATCH) return Buffer.allocUnsafe(length);
    if (length > this.buffer.length) this.buffer = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(length)));
    return this.buffer.subarray(0, length);
  }
}

class Pass {
  /** Next byte to read, and to write. */
  private at = 0;
  private to = 0;

  constructor(
    private readonly bytes: Buffer,
    private readonly out: Buffer,
  ) {}

  run(tree: Tree): Buffer {
    this.value(tree);
    this.blanks();
    if (this.at < this.bytes.length) throw new Odd();
    return this.out.subarray(0, this.to);
  }

  private value(tree: Tree): void {
    const c = this.blanks();
    if (tree && c === OPEN) this.object(tree);
    else if (tree && c === OPEN_LIST) this.list(tree);
    else {
      const from = this.at;
      this.skip();
      this.copy(from);
    }
  }

  private object(tree: readonly Member[]): void {
    this.put(OPEN);
    this.at++;
    let kept = 0;
    for (let c = this.blanks(); c !== CLOSE; ) {
      if (c !== QUOTE) throw new Odd();
      const from = this.at;
      this.text();
      const end = this.at;
      const member = this.member(tree, from, end);
      if (this.blanks() !== COLON) throw new Odd();
      this.at++;
      this.blanks();
      if (member) {
        if (kept++ > 0) this.put(COMMA);
        this.copy(from, end);
        this.put(COLON);
        this.value(member.keep);
      } else this.skip();
      c = this.next(CLOSE);
    }
    this.at++;
    this.put(CLOSE);
  }

  private list(tree: readonly Member[]): void {
    this.put(OPEN_LIST);
    this.at++;
    let n = 0;
    for (let c = this.blanks(); c !== CLOSE_LIST; ) {
      if (n++ > 0) this.put(COMMA);
      this.value(tree);
      c = this.next(CLOSE_LIST);
    }
    this.at++;
    this.put(CLOSE_LIST);
  }

  /** Past a comma, to what follows it; or at what closes. */
  private next(close: number): number {
    const c = this.blanks();
    if (c === close) return c;
    if (c !== COMMA) throw new Odd();
    this.at++;
    const after = this.blanks();
    if (after === close) throw new Odd();
    return after;
  }

  private member(tree: readonly Member[], from: number, end: number): Member | undefined {
    const { bytes } = this;
    for (const member of tree) {
      const { name } = member;
      if (name.length !== end - from) continue;
      let i = 1;
      while (i < name.length && name[i] === bytes[from + i]) i++;
      if (i === name.length) return member;
    }
    // A name may be written in other ways; nobody does, but it is not for us to lose it.
    for (let i = from; i < end; i++) if (bytes[i] === BACKSLASH) throw new Odd();
    return undefined;
  }

  /** Past a value, whatever it is. Brackets are counted, not matched: the parser sees what is kept. */
  private skip(): void {
    const { bytes } = this;
    const first = SIGNS[bytes[this.at] ?? 0];
    if (first !== SIGN_QUOTE && first !== SIGN_OPEN) {
      this.scalar();
      return;
    }
    const end = bytes.length;
    let at = this.at;
    let depth = 0;
    do {
      // The inner loop of it all: most bytes are nothing but passed over.
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
    this.at = at;
  }

  /** A number, true, false or null. */
  private scalar(): void {
    const from = this.at;
    for (let c = this.bytes[this.at]; c !== undefined && c > 0x20; c = this.bytes[++this.at]) {
      if (c === COMMA || c === CLOSE || c === CLOSE_LIST) break;
    }
    if (this.at === from) throw new Odd();
  }

  /** Past a string, from its first quote. */
  private text(): void {
    const { bytes } = this;
    let i = this.at + 1;
    for (let c = bytes[i]; c !== QUOTE; c = bytes[++i]) {
      if (c === undefined) throw new Odd();
      if (c === BACKSLASH) i++;
    }
    this.at = i + 1;
  }

  /** To the next byte that is no blank; 0 at the end. */
  private blanks(): number {
    let c = this.bytes[this.at];
    while (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09) c = this.bytes[++this.at];
    return c ?? 0;
  }

  private put(byte: number): void {
    this.out[this.to++] = byte;
  }

  private copy(from: number, end = this.at): void {
    const { bytes, out } = this;
    if (end - from > 64) {
      this.to += bytes.copy(out, this.to, from, end);
      return;
    }
    for (let i = from; i < end; i++) out[this.to++] = bytes[i] as number;
  }
}

const identity = { name: true, namespace: true, uid: true, resourceVersion: true } as const;

/** Of the kinds of which there are many: what EntryReader reads. Of others, all. */
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

/** What is read of objects of a kind; undefined: all. */
export function keepOf(kind: string): Keep | undefined {
  return KINDS[kind];
}

/** Of a list of objects. */
export function ofList(keep: Keep): Keep {
  return { apiVersion: true, kind: true, metadata: true, items: keep };
}

/** Of the events of a watch; what an ERROR tells is kept. */
export function ofEvents(keep: Keep): Keep {
  const status = { code: true, reason: true, message: true } as const;
  return { type: true, object: keep === true ? true : { apiVersion: true, kind: true, ...status, ...keep } };
}
