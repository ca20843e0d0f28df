/**
 * TLS ClientHellos, read strictly (RFC 8446, 4.1.2 and 5.1; RFC 6066, 3), from the first bytes of a TCP stream or of
 * QUIC's CRYPTO stream. The kernel must say the same of the same bytes. All readers look at prefixes: what they say of
 * one they say of every longer one, and they refuse as soon as no bytes could make a hello of it.
 */
import { saidName } from './name.js';

/** Bytes that a hello may take of its stream; on TCP the headers of its records count. */
export const MAX_HELLO = 16 << 10;
/** Clients send about 20. */
export const MAX_EXTENSIONS = 64;

/** What makes a hello malformed. The first fault in the order of the bytes is told. */
export type HelloFault =
  | 'record-type' // a record of another type before the hello is complete
  | 'record-version'
  | 'record-length' // 0, more than 16,384, or more than the hello: a record that ends it has nothing else
  | 'too-large'
  | 'handshake-type'
  | 'handshake-length'
  | 'version'
  | 'session-id'
  | 'cipher-suites'
  | 'compression'
  | 'extensions' // the block does not fill the rest of the hello
  | 'extension' // one that does not fit the block
  | 'too-many-extensions'
  | 'duplicate-extension'
  | 'server-name'; // not a list of one host_name

export interface Hello {
  readonly state: 'hello';
  /** Bytes of the stream that it takes. */
  readonly length: number;
  /** As saidName() writes it. */
  readonly serverName?: string;
  /** There is a server_name, but none that saidName() takes: an address, a final dot, foreign bytes. */
  readonly oddName?: true;
  /** TLS 1.3 early data follows, before the server has said anything. */
  readonly earlyData: boolean;
  /** Encrypted ClientHello, real or GREASE: the name may be that of the front. */
  readonly ech: boolean;
  /** The config_id of its outer hello; absent if none can be read. */
  readonly echId?: number;
  /** Protocols, one byte a character. Empty if the extension is absent or malformed: it decides nothing. */
  readonly alpn: readonly string[];
}

export interface MalformedHello {
  readonly state: 'malformed';
  readonly why: HelloFault;
}

export type HelloMessage = { readonly state: 'more' } | Hello | MalformedHello;
/** `other`: the stream is not TLS. */
export type HelloStream = HelloMessage | { readonly state: 'other' };

const MORE = { state: 'more' } as const;
const malformed = (why: HelloFault): MalformedHello => ({ state: 'malformed', why });

const HANDSHAKE = 22;
const RECORD_HEADER = 5;
const MAX_RECORD = 16 << 10;
const CLIENT_HELLO = 1;
const MESSAGE_HEADER = 4;
/** Version, random, session id, one cipher suite, one compression method; no extensions. */
const MIN_BODY = 2 + 32 + 1 + 4 + 2;

const SERVER_NAME = 0;
const ALPN = 16;
const EARLY_DATA = 42;
const ENCRYPTED_CLIENT_HELLO = 0xfe0d;

/** Reads the hello at the start of a TCP stream. @param stream its first bytes */
export function readHello(stream: Uint8Array): HelloStream {
  const message = new Uint8Array(Math.min(stream.length, MAX_HELLO));
  let [got, at] = [0, 0];
  // A fault of the records comes after those of the bytes before it.
  const fault = (why: HelloFault, before = got): HelloStream => {
    const read = readHelloMessage(message.subarray(0, before));
    return read.state === 'malformed' ? read : malformed(why);
  };
  for (;;) {
    const due = bytesDue(message, got);
    if (due === 0) break;
    if (at + RECORD_HEADER + (due ?? 0) > MAX_HELLO) return fault('too-large');
    const [type, major, , high, low] = stream.subarray(at, at + RECORD_HEADER);
    if (type === undefined) break;
    if (type !== HANDSHAKE) return at === 0 ? { state: 'other' } : fault('record-type');
    if (major === undefined) break;
    if (major !== 3) return at === 0 ? { state: 'other' } : fault('record-version');
    if (high === undefined) break;
    const most = Math.min(MAX_RECORD, due ?? MAX_RECORD);
    if (high << 8 > most) return fault('record-length');
    // There may be no room for the header of another record.
    const least = due !== undefined && at + 2 * RECORD_HEADER + due > MAX_HELLO ? due : 0;
    if ((high << 8) + 255 < least) return fault('too-large');
    if (low === undefined) break;
    const length = (high << 8) | low;
    if (length === 0 || length > most) return fault('record-length');
    if (length < least) return fault('too-large');
    at += RECORD_HEADER;
    const part = stream.subarray(at, Math.min(at + length, MAX_HELLO));
    message.set(part, got);
    const before = got;
    got += part.length;
    // The length of the hello comes with this record, byte by byte.
    for (let size = before + 1; due === undefined && size <= Math.min(got, MESSAGE_HEADER); size++) {
      const most = mostBytes(message, size) - before;
      const needed = at + most + (length < most ? RECORD_HEADER : 0);
      if (size === MESSAGE_HEADER && needed > MAX_HELLO) return fault('too-large', size);
      if (length > most) return fault('record-length', size);
    }
    if (part.length < length) break;
    at += length;
  }
  const read = readHelloMessage(message.subarray(0, got));
  return read.state === 'hello' ? { ...read, length: at } : read;
}

/** Bytes of the message that are due behind those that are there; undefined while its header is not complete. */
function bytesDue(message: Uint8Array, got: number): number | undefined {
  return got < MESSAGE_HEADER ? undefined : mostBytes(message, got) - got;
}

/** Bytes that the message has at most, as far as its header is there. */
function mostBytes(message: Uint8Array, got: number): number {
  const [high, middle, low] = [1, 2, 3].map((i) => (i < got ? message[i]! : 0xff)) as [number, number, number];
  return MESSAGE_HEADER + ((high << 16) | (middle << 8) | low);
}

/** Reads a hello without records, as CRYPTO frames carry it. @param bytes the first bytes; more may follow the hello */
export function readHelloMessage(bytes: Uint8Array): HelloMessage {
  try {
    return new MessageReader(bytes).message();
  } catch (e) {
    if (e === MORE) return MORE;
    if (e instanceof Fault) return malformed(e.why);
    throw e;
  }
}

class Fault {
  constructor(readonly why: HelloFault) {}
}

/** Throws MORE where the bytes end, and a Fault where they cannot be right. */
class MessageReader {
  #at = 0;
  /** End of the message; of the header, before its length is known. */
  #end = MESSAGE_HEADER;

  constructor(readonly bytes: Uint8Array) {}

  message(): Hello {
    this.#number(1, CLIENT_HELLO, CLIENT_HELLO, 'handshake-type');
    const length = this.#number(3, 0, MAX_HELLO - MESSAGE_HEADER, 'too-large');
    if (length < MIN_BODY) throw new Fault('handshake-length');
    this.#end = MESSAGE_HEADER + length;
    this.#number(1, 3, 3, 'version');
    this.#skip(1 + 32);
    // What must follow a field is kept free behind it: a length that leaves too little is refused at once.
    this.#skip(this.#number(1, 0, Math.min(32, this.#room(1 + 4 + 2)), 'session-id'));
    const suites = this.#number(2, 2, this.#room(2 + 2), 'cipher-suites');
    if (suites % 2 !== 0) throw new Fault('cipher-suites');
    this.#skip(suites);
    const methods = this.#number(1, 1, this.#room(1), 'compression');
    const block = this.#room(methods);
    if (block > 0 && !this.#fits(block - 2)) throw new Fault('extensions');
    this.#skip(methods);
    const hello: Partial<Hello> = this.#at === this.#end ? {} : this.#extensions();
    return { state: 'hello', length: this.#end, earlyData: false, ech: false, alpn: [], ...hello };
  }

  #extensions(): Partial<Hello> {
    this.#number(2, this.#room(2), this.#room(2), 'extensions');
    const seen = new Set<number>();
    let hello: Partial<Hello> = {};
    while (this.#at < this.#end) {
      if (seen.size === MAX_EXTENSIONS) throw new Fault('too-many-extensions');
      const type = this.#number(2, 0, 0xffff, 'extension');
      if (seen.has(type)) throw new Fault('duplicate-extension');
      seen.add(type);
      const length = this.#number(2, 0, this.#room(2), 'extension');
      if (!this.#fits(this.#room(length))) throw new Fault('extension');
      if (type === SERVER_NAME) hello = { ...hello, ...this.#serverName(length) };
      else if (type === ALPN) hello = { ...hello, alpn: protocols(this.#take(length)) };
      else if (type === ENCRYPTED_CLIENT_HELLO) hello = { ...hello, ech: true, ...outerId(this.#take(length)) };
      else this.#skip(length);
      if (type === EARLY_DATA) hello = { ...hello, earlyData: true };
    }
    return hello;
  }

  /** Whether extensions can fill exactly so many bytes. */
  #fits(bytes: number): boolean {
    return bytes === 0 || bytes >= 4;
  }

  /** Exactly one name, of the type host_name. @param length bytes of the extension */
  #serverName(length: number): Partial<Hello> {
    if (length < 5) throw new Fault('server-name');
    this.#number(2, length - 2, length - 2, 'server-name');
    this.#number(1, 0, 0, 'server-name');
    this.#number(2, length - 5, length - 5, 'server-name');
    const serverName = saidName(latin1(this.#take(length - 5)));
    return serverName === undefined ? { oddName: true } : { serverName };
  }

  /** Bytes that a field may have if `after` bytes are to follow its first byte's position. */
  #room(after: number): number {
    return this.#end - this.#at - after;
  }

  /** An unsigned number between two bounds. Of one that is cut off, the bytes that are there must be possible. */
  #number(size: number, low: number, high: number, why: HelloFault): number {
    let [least, most] = [0, 0];
    for (let i = 0; i < size; i++) {
      const byte = this.bytes[this.#at + i];
      least = least * 256 + (byte ?? 0);
      most = most * 256 + (byte ?? 255);
    }
    if (least > high || most < low) throw new Fault(why);
    this.#skip(size);
    return least;
  }

  #skip(size: number): void {
    if (this.#at + size > this.bytes.length) throw MORE;
    this.#at += size;
  }

  #take(size: number): Uint8Array {
    this.#skip(size);
    return this.bytes.subarray(this.#at - size, this.#at);
  }
}

/** Of an outer ECHClientHello (RFC 9849, 5): kind 0, cipher suite, config_id, `enc`, and `payload` up to its end. */
function outerId(bytes: Uint8Array): { echId?: number } {
  const [kind, id] = [bytes[0], bytes[5]];
  const u16 = (at: number) => ((bytes[at] ?? Number.NaN) << 8) | (bytes[at + 1] ?? 0);
  if (bytes.length < 11 || kind !== 0 || id === undefined) return {};
  const payload = 8 + u16(6);
  if (payload + 3 > bytes.length || payload + 2 + u16(payload) !== bytes.length) return {};
  return { echId: id };
}

function protocols(list: Uint8Array): string[] {
  if (list.length < 2 || ((list[0]! << 8) | list[1]!) !== list.length - 2) return [];
  const names: string[] = [];
  for (let at = 2; at < list.length; ) {
    const [start, end] = [at + 1, at + 1 + list[at]!];
    if (end === start || end > list.length) return [];
    names.push(latin1(list.subarray(start, end)));
    at = end;
  }
  return names;
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}
