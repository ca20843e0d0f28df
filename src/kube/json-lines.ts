/** Bytes → JSON documents, one a line. Works on bytes: a chunk may end in the middle of a character. */

import { type Keep, keeper } from './keep.js';

const NEWLINE = 0x0a;

export interface JsonLinesOptions {
  /** A longer line, in bytes, is an error. */
  maxLineBytes: number;
  /** Of each document; what else it has is not parsed. */
  keep?: Keep;
}

/** A line that is no JSON, or longer than the bound. What comes after it cannot be trusted either. */
export class JsonLineError extends Error {
  override readonly name = 'JsonLineError';
}

export class JsonLines {
  readonly #max: number;
  readonly #kept: (line: Buffer) => Buffer;
  /** BOM and invalid UTF-8 are errors, not replacement characters: a policy's text must be what was written. */
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  /** Pieces of the line that is not complete yet. */
  #pieces: Buffer[] = [];
  #held = 0;

  constructor(opts: JsonLinesOptions) {
    this.#max = opts.maxLineBytes;
    this.#kept = opts.keep ? keeper(opts.keep) : (line) => line;
  }

  /** Bytes of a line whose end has not come. At the end of a connection they are half a line, and dropped. */
  get held(): number {
    return this.#held;
  }

  /**
   * The documents that this chunk completes. A generator: those before a broken line are there before the error.
   * @throws JsonLineError; nothing may be pushed afterwards
   */
  *push(chunk: Buffer): Generator<unknown, void, undefined> {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      this.#hold(chunk.subarray(from, end));
      from = end + 1;
      const line = this.#pieces.length === 1 ? (this.#pieces[0] as Buffer) : Buffer.concat(this.#pieces, this.#held);
      this.#pieces = [];
      this.#held = 0;
      const text = this.#decode(line);
      if (text !== '') yield parse(text);
    }
    if (from < chunk.length) this.#hold(chunk.subarray(from));
  }

  #hold(piece: Buffer): void {
    this.#held += piece.length;
    if (this.#held > this.#max) throw new JsonLineError(`a line is longer than ${this.#max} bytes`);
    this.#pieces.push(piece);
  }

  #decode(line: Buffer): string {
    try {
      return this.#decoder.decode(this.#kept(line)).trim();
    } catch {
      throw new JsonLineError('a line is not UTF-8');
    }
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new JsonLineError(`a line is not JSON: ${JSON.stringify(text.slice(0, 60))}`);
  }
}
