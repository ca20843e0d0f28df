/**
 * What a client says in HTTP/1.0 and 1.1: its bytes of one TCP connection, in whatever pieces they come. Every request
 * is told when its head is complete; bodies are counted, so that the next request is found (RFC 9112, 6 and 7).
 *
 * A connection is HTTP or not by its first line. Since lax servers take more for a request than we do, a first line is
 * `other` only if it cannot be one for them either: its first word is no method, or there is no target behind it. (Some
 * read "GET /" and then headers, as if HTTP/0.9 had any.)
 */
import {
  type Framing,
  type HeadFault,
  type Header,
  type HttpRequest,
  isTokenByte,
  MAX_HEAD,
  MAX_METHOD,
  type RequestLine,
  readHead,
  readHeaderLine,
  readRequestLine,
} from './http-head.js';
import type { Answer } from './http-status.js';

export type HttpFault =
  | HeadFault
  | 'chunk' // not exactly 1 to 8 hexadecimal digits, CRLF, so many bytes, CRLF
  | 'chunk-extension'
  | 'trailer'
  | 'early-bytes' // behind a request that must be answered first
  | 'cut-off'; // the client ended its side within a head, which some servers take for the end of the head

/** Offsets count the bytes of the stream from 0. */
export type HttpEvent =
  | {
      readonly kind: 'request';
      /** 0: the first of the connection. */
      readonly number: number;
      readonly request: HttpRequest;
      readonly framing: Framing;
      /** The head: its first byte, and the byte behind it. */
      readonly start: number;
      readonly end: number;
    }
  | { readonly kind: 'end'; readonly at: number } // of a request with its body: the next may start here
  | { readonly kind: 'other' } // the connection is no HTTP/1
  | { readonly kind: 'denied'; readonly why: HttpFault; readonly at: number }; // behind the byte that decided it

export type HttpState = 'head' | 'body' | 'await-101' | 'await-2xx' | 'through' | 'other' | 'denied';

type Step =
  | 'line'
  | 'header'
  | 'length'
  | 'chunk-size'
  | 'chunk-data'
  | 'chunk-end'
  | 'last-chunk'
  | 'await'
  | 'through'
  | 'other'
  | 'denied';

const [HT, LF, CR, SP] = [0x09, 0x0a, 0x0d, 0x20];

/** All targets have one of these bytes, but for those of CONNECT. All versions have a slash. */
const MAYBE_TARGET = /[/*]/;

/** What some servers split a request line at: all that is white space in Latin-1. */
function isBlank(byte: number): boolean {
  return (byte >= HT && byte <= CR) || (byte >= 0x1c && byte <= SP) || byte === 0x85 || byte === 0xa0;
}

/** Whether a connection that starts with these bytes can be HTTP/1; so long as there is none, it can. */
export function looksLikeHttp(prefix: Uint8Array): boolean {
  return new HttpStream().push(prefix).every(({ kind }) => kind !== 'other');
}

/** A client's side of one connection. */
export class HttpStream {
  #step: Step = 'line';
  /** Bytes that were read, and where the current head starts. */
  #at = 0;
  #start = 0;
  /** Requests that were told. */
  #requests = 0;
  /** The line that is being read, without LF, one byte a character. */
  #text = '';
  /** Whether the request line's first word has begun, and has ended. */
  #word: 'before' | 'in' | 'behind' = 'before';
  #wordSize = 0;
  #wordEnd = 0;
  #line: RequestLine | undefined;
  #headers: Header[] = [];
  #awaits: Framing['awaits'];
  /** Bytes of the body or the chunk that are still to come. */
  #left = 0;

  get state(): HttpState {
    const step = this.#step;
    if (step === 'line' || step === 'header') return 'head';
    if (step === 'await') return `await-${this.#awaits ?? '101'}`;
    return step === 'through' || step === 'other' || step === 'denied' ? step : 'body';
  }

  /** What more bytes tell. After `other`, `denied` and in a connection that was switched, they tell nothing. */
  push(bytes: Uint8Array): HttpEvent[] {
    const events: HttpEvent[] = [];
    for (let i = 0; i < bytes.length; ) {
      if (this.#step === 'through' || this.#step === 'other' || this.#step === 'denied') break;
      if (this.#step === 'length' || this.#step === 'chunk-data') {
        const size = Math.min(this.#left, bytes.length - i);
        i += size;
        this.#at += size;
        this.#left -= size;
        if (this.#left > 0) break;
        if (this.#step === 'length') events.push(this.#finish());
        else this.#step = 'chunk-end';
        continue;
      }
      this.#at++;
      events.push(...this.#byte(bytes[i++]!));
    }
    return events;
  }

  /** The client ends its side here. A body that is cut off belongs to a request that was judged. */
  end(): HttpEvent[] {
    return this.state === 'head' && this.#at > this.#start ? this.#deny('cut-off') : [];
  }

  /**
   * The server's next answer, for which the state `await-…` waits. Only answers to the request that is awaited may be
   * told: who cannot know that earlier requests were answered must not allow one that is not the connection's first.
   */
  answered(answer: Answer): void {
    if (this.#step !== 'await' || answer === 'informational') return;
    if (answer === (this.#awaits === '2xx' ? 'success' : 'switching')) this.#step = 'through';
    // A server that switches without being asked to: what it then expects is unknown.
    else if (answer !== 'switching') this.#begin();
  }

  #byte(byte: number): HttpEvent[] {
    switch (this.#step) {
      case 'line':
        return this.#requestLine(byte);
      case 'header':
        return this.#headerLine(byte);
      case 'chunk-size':
        return this.#chunkSize(byte);
      case 'chunk-end':
      case 'last-chunk':
        return this.#lineEnd(byte);
      default:
        return this.#deny('early-bytes');
    }
  }

  #requestLine(byte: number): HttpEvent[] {
    const isFirst = this.#requests === 0;
    if (this.#word === 'before') {
      if (isTokenByte(byte)) [this.#word, this.#wordSize] = ['in', 1];
      else if (!isFirst) return this.#deny('request-line');
      else if (!isBlank(byte)) return this.#other();
      // Empty lines and white space are kept in the text, and refused with it.
      return this.#collect(byte);
    }
    // Some servers take CR CR for the end of a head: no byte may follow that shows them one.
    if (this.#word === 'behind' && byte !== LF && this.#text.endsWith('\r')) return this.#deny('bare-cr');
    if (this.#word === 'in' && (isFirst ? isBlank(byte) && byte !== LF : byte === SP)) {
      [this.#word, this.#wordEnd] = ['behind', this.#text.length];
    } else if (this.#word === 'in') {
      // Printable bytes that are in no token are refused at the end of the first line, which may yet be no HTTP.
      const fits = isFirst ? byte > SP && byte < 0x7f : isTokenByte(byte);
      if (!fits || ++this.#wordSize > MAX_METHOD) return isFirst ? this.#other() : this.#deny('request-line');
    } else if (byte === LF) {
      return this.#endLine(isFirst);
    } else if (!isFirst && (byte < SP || byte === 0x7f) && byte !== CR) {
      return this.#deny('request-line');
    }
    return this.#collect(byte);
  }

  #endLine(isFirst: boolean): HttpEvent[] {
    if (isFirst && !this.#mayBeRequest()) return this.#other();
    const line = readRequestLine(this.#text);
    if (typeof line === 'string') return this.#deny(line);
    this.#line = line;
    this.#step = 'header';
    return this.#nextLine();
  }

  /** Whether some server could take the first line for a request of HTTP/1. */
  #mayBeRequest(): boolean {
    if (this.#text === 'PRI * HTTP/2.0\r') return false;
    const word = this.#text.slice(0, this.#wordEnd);
    return MAYBE_TARGET.test(this.#text.slice(this.#wordEnd)) || /CONNECT$/i.test(word);
  }

  #headerLine(byte: number): HttpEvent[] {
    const afterCr = this.#text.endsWith('\r');
    if (byte === LF && !afterCr) return this.#deny('bare-lf');
    if (byte !== LF && afterCr) return this.#deny('bare-cr');
    if ((byte < SP && byte !== HT && byte !== CR && byte !== LF) || byte === 0x7f) return this.#deny('invalid-byte');
    if (this.#text === '' && (byte === SP || byte === HT)) return this.#deny('obs-fold');
    if (byte !== LF) return this.#collect(byte);
    if (this.#text === '\r') return this.#endHead();
    const header = readHeaderLine(this.#text.slice(0, -1));
    if (typeof header === 'string') return this.#deny(header);
    this.#headers.push(header);
    return this.#nextLine();
  }

  #endHead(): HttpEvent[] {
    const head = readHead(this.#line!, this.#headers);
    if (typeof head === 'string') return this.#deny(head);
    const told = { number: this.#requests++, ...head, start: this.#start, end: this.#at };
    const { body, awaits } = head.framing;
    this.#awaits = awaits;
    this.#text = '';
    const request: HttpEvent = { kind: 'request', ...told };
    if (body.kind === 'none') return [request, this.#finish()];
    this.#step = body.kind === 'length' ? 'length' : 'chunk-size';
    this.#left = body.kind === 'length' ? body.length : 0;
    return [request];
  }

  #chunkSize(byte: number): HttpEvent[] {
    const digits = this.#text.replace('\r', '');
    if (this.#text.endsWith('\r')) {
      if (byte !== LF) return this.#deny('chunk');
      this.#left = Number.parseInt(digits, 16);
      this.#step = this.#left === 0 ? 'last-chunk' : 'chunk-data';
      this.#text = '';
      return [];
    }
    const text = String.fromCharCode(byte);
    if (digits !== '' && text === ';') return this.#deny('chunk-extension');
    if (byte === CR ? digits === '' : !/[0-9A-Fa-f]/.test(text) || digits.length === 8) return this.#deny('chunk');
    this.#text += text;
    return [];
  }

  /** CRLF behind a chunk, or at once behind the last one. */
  #lineEnd(byte: number): HttpEvent[] {
    if (this.#text === '') {
      if (byte !== CR) return this.#deny(this.#step === 'last-chunk' ? 'trailer' : 'chunk');
      this.#text = '\r';
      return [];
    }
    if (byte !== LF) return this.#deny('chunk');
    this.#text = '';
    if (this.#step === 'last-chunk') return [this.#finish()];
    this.#step = 'chunk-size';
    return [];
  }

  /** Keeps a byte of the head, which must have room for at least one more. */
  #collect(byte: number): HttpEvent[] {
    if (this.#at - this.#start >= MAX_HEAD) return this.#deny('head-too-large');
    this.#text += String.fromCharCode(byte);
    return [];
  }

  #nextLine(): HttpEvent[] {
    this.#text = '';
    return this.#at - this.#start >= MAX_HEAD ? this.#deny('head-too-large') : [];
  }

  /** The request is over. */
  #finish(): HttpEvent {
    if (this.#awaits === undefined) this.#begin();
    else this.#step = 'await';
    return { kind: 'end', at: this.#at };
  }

  #begin(): void {
    this.#start = this.#at;
    this.#text = '';
    this.#word = 'before';
    this.#line = undefined;
    this.#headers = [];
    this.#awaits = undefined;
    this.#step = 'line';
  }

  #other(): HttpEvent[] {
    this.#step = 'other';
    return [{ kind: 'other' }];
  }

  #deny(why: HttpFault): HttpEvent[] {
    this.#step = 'denied';
    return [{ kind: 'denied', why, at: this.#at }];
  }
}
