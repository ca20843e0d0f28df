/**
 * Status lines of HTTP/1 answers (RFC 9112, 4), as far as it must be known whether a server agreed to switch to
 * another protocol. Reads the first final one and the informational ones before it; bodies are never read.
 */
import { MAX_HEAD } from './http-head.js';

/** 1xx but 101; 101; 2xx; any other. */
export type Answer = 'informational' | 'switching' | 'success' | 'other';

export type StatusEvent =
  | { readonly kind: 'status'; readonly code: number; readonly answer: Answer; readonly at: number }
  | { readonly kind: 'malformed'; readonly at: number };

/** Informational answers before the final one. */
const MAX_INFORMATIONAL = 16;
const STATUS_LINE = /^HTTP\/1\.[01] ([1-5][0-9]{2})[ \r]$/;
/** What is there of a status line must be the start of one: it is completed with the end of this one. */
const EXAMPLE = 'HTTP/1.1 200 ';

function answerOf(code: number): Answer {
  if (code === 101) return 'switching';
  return code < 200 ? 'informational' : code < 300 ? 'success' : 'other';
}

/** A server's bytes, from the start of an answer on. */
export class StatusReader {
  #line = '';
  /** Bytes of the current head. */
  #head = 0;
  /** Bytes of CRLF CRLF that were just read. */
  #blank = 0;
  #informational = 0;
  #at = 0;
  #isDone = false;

  /** What more bytes tell. Behind the first final answer, and behind bytes that are none, nothing is read. */
  push(bytes: Uint8Array): StatusEvent[] {
    const events: StatusEvent[] = [];
    for (const byte of bytes) {
      if (this.#isDone) break;
      this.#at++;
      if (++this.#head > MAX_HEAD) events.push(this.#malformed());
      else if (this.#line.length < EXAMPLE.length) events.push(...this.#status(byte));
      else this.#skip(byte);
    }
    return events;
  }

  #status(byte: number): StatusEvent[] {
    this.#line += String.fromCharCode(byte);
    const { length } = this.#line;
    const code = STATUS_LINE.exec(this.#line + EXAMPLE.slice(length))?.[1];
    if (code === undefined) return [this.#malformed()];
    if (length < EXAMPLE.length) return [];
    const answer = answerOf(Number(code));
    this.#blank = byte === 0x0d ? 1 : 0;
    if (answer === 'informational' && ++this.#informational > MAX_INFORMATIONAL) return [this.#malformed()];
    this.#isDone = answer !== 'informational';
    return [{ kind: 'status', code: Number(code), answer, at: this.#at }];
  }

  /** The rest of an informational answer, up to its empty line. */
  #skip(byte: number): void {
    const expected = this.#blank % 2 === 0 ? 0x0d : 0x0a;
    this.#blank = byte === expected ? this.#blank + 1 : byte === 0x0d ? 1 : 0;
    if (this.#blank < 4) return;
    [this.#line, this.#head, this.#blank] = ['', 0, 0];
  }

  #malformed(): StatusEvent {
    this.#isDone = true;
    return { kind: 'malformed', at: this.#at };
  }
}
