/** Splits bytes into JSON documents, one per line. It works on bytes, since a chunk may end within a character. */

import { type Keep, keeper } from './keep.js';

const NEWLINE = 0x0a;

export interface JsonLinesOptions {
  /** Maximum length of a line in bytes. A longer one is an error. */
  maxLineBytes: number;
  /** Members of each document to parse; all others are skipped. */
  keep?: Keep;
}

/** A line is not JSON, or too long. The data after it cannot be trusted either. */
export class JsonLineError extends Error {
  override readonly name = 'JsonLineError';
}

/** The splitter, fed by push(). */
export class JsonLines {
  readonly #max: number;
  readonly #kept: (line: Buffer) => Buffer;
  /** BOM and invalid UTF-8 are errors instead of replacement characters, since a policy's text must not change. */
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  /** Pieces of the incomplete line. */
  #pieces: Buffer[] = [];
  #held = 0;

  constructor(opts: JsonLinesOptions) {
    this.#max = opts.maxLineBytes;
    this.#kept = opts.keep ? keeper(opts.keep) : (line) => line;
  }

  /** Length of the incomplete line in bytes. At the end of a connection, it is dropped. */
  get held(): number {
    return this.#held;
  }

  /**
   * Yields the documents that this chunk completes. It is a generator so that documents before an invalid line are
   * delivered before the error.
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
