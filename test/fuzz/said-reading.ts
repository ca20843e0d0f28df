/**
 * What a server may understand of a stream, by the strict references, and whether the rules admit it. Where lax servers
 * go on reading, this does too.
 */
import type { Said } from '../../src/ir/packet.js';
import { readHello } from '../../src/said/hello.js';
import { HttpStream } from '../../src/said/http.js';
import { firstSaid, saidInHello, saidInRequest } from '../../src/said/said.js';

/** Whether the rules admit a connection that says this. */
export type Admits = (said: Said) => boolean;

export interface ReadingOf {
  /** What is understood though nobody may say it. */
  readonly wrong?: string;
  /** What was said. */
  readonly said: readonly string[];
  /** A hello with early data was said: what follows is free, unless the server wants another hello. */
  readonly early?: true;
}

const [CCS, ALERT, HANDSHAKE, DATA] = [20, 21, 22, 23];
const HEADER = 5;
/** The shortest Finished that is encrypted (RFC 5246, 7.4.9), and an alert that is not. */
const [SEALED, PLAIN_ALERT] = [32, 2];

/** @param asks whether rules ask for requests: then each of a connection counts, else what the first says is free */
export function readStream(stream: Buffer, admits: Admits, asks: boolean): ReadingOf {
  if (readHello(stream).state !== 'other') return readTls(stream, admits);
  if (asks) return readHttp(stream, admits);
  const first = firstSaid(stream);
  if (first.state === 'more') return { said: [] };
  const said = first.state === 'said' ? first.said : ({ kind: 'other' } as const);
  return { said: [said.kind], ...(admits(said) ? {} : { wrong: said.kind }) };
}

/** The hellos in a stream. */
function readTls(stream: Buffer, admits: Admits): ReadingOf {
  const said: string[] = [];
  let changed = false;
  for (let at = 0; ; ) {
    const rest = stream.subarray(at);
    const hello = readHello(rest);
    switch (hello.state) {
      case 'more':
        return { said };
      case 'other':
        return { said };
      case 'malformed':
        if (changed && isSealed(rest)) return { said };
        // While it is not whole it says nothing, and never will where more of it does not pass.
        return { said, ...(isWhole(rest) ? { wrong: `malformed: ${hello.why}` } : {}) };
      default:
    }
    const says = saidInHello(hello);
    const name = says.kind === 'tls' && says.serverName !== undefined ? says.serverName : '-';
    said.push(name);
    if (!admits(says)) return { said, wrong: `names ${name}` };
    at += hello.length;
    if (hello.earlyData) return { said, early: true };
    const next = behindEmpty(stream, at);
    changed ||= hasChanged(stream, at, next);
    at = next;
    if (stream[at] !== HANDSHAKE || stream[at + HEADER] !== 1) return { said };
  }
}

/** Where the next record is that may be a hello: servers pass over some that say nothing. */
function behindEmpty(stream: Buffer, at: number): number {
  for (; at + HEADER <= stream.length; at += HEADER + stream.readUInt16BE(at + 3)) {
    const [type, length] = [stream[at], stream.readUInt16BE(at + 3)];
    const empty = type === HANDSHAKE && length === 0;
    if (type !== CCS && type !== ALERT && !empty) break;
  }
  return at;
}

/** Whether there is a ChangeCipherSpec among these records. */
function hasChanged(stream: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at += HEADER + stream.readUInt16BE(at + 3)) if (stream[at] === CCS) return true;
  return false;
}

/**
 * Whether a record was no hello, but an encrypted Finished: data follows, or an encrypted alert. No server takes them
 * within a hello, unless it passes over early data.
 */
function isSealed(stream: Buffer): boolean {
  if (stream.length < HEADER) return false;
  const length = stream.readUInt16BE(3);
  const next = stream.subarray(HEADER + length);
  if (length < SEALED || next.length === 0) return false;
  if (next[0] === DATA) return true;
  return next[0] === ALERT && next.length >= HEADER && next.readUInt16BE(3) !== PLAIN_ALERT;
}

/** Whether all bytes of a hello are there, by its own lengths and those of its records, whatever else is in them. */
function isWhole(stream: Buffer): boolean {
  const parts: Buffer[] = [];
  for (let at = 0; at + HEADER <= stream.length; ) {
    const end = at + HEADER + stream.readUInt16BE(at + 3);
    parts.push(stream.subarray(at + HEADER, end));
    at = end;
  }
  const message = Buffer.concat(parts);
  return message.length >= 4 && message.length >= 4 + message.readUIntBE(1, 3);
}

/** The requests in a stream. A server that answers none of them with more than it is asked for. */
function readHttp(stream: Buffer, admits: Admits): ReadingOf {
  const said: string[] = [];
  for (const event of new HttpStream().push(stream)) {
    if (event.kind === 'other') return { said, ...(admits({ kind: 'other' }) ? {} : { wrong: 'other' }) };
    if (event.kind === 'denied') return { said, wrong: `malformed: ${event.why}` };
    if (event.kind !== 'request') continue;
    const { method, path, host } = event.request;
    said.push(`${method} ${host ?? '-'}${path}`);
    if (!admits(saidInRequest(event.request))) return { said, wrong: `asks ${said.at(-1)}` };
  }
  return { said };
}
