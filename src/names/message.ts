/**
 * DNS messages, read strictly (RFC 1035; RFC 9460 for HTTPS and SVCB): what is out of bounds anywhere makes the whole
 * message malformed. bpf/dns.h reads the same, and both must learn the same from the same bytes.
 */
import { formatBytes16 } from '../net/addr.js';

/** Bounds, as in bpf/dns_name.h. */
const MAX_NAME = 255;
const MAX_JUMPS = 16;
const MAX_RECORDS = 4096;
const MAX_PARAMS = 64;
/** CNAMEs of an answer that count: the first ones. */
const MAX_ALIASES = 16;
/** Addresses, times the names that each belongs to, that one answer may teach. */
const MAX_LINKS = 8192;

const HEADER = 12;
export const TYPE = { A: 1, CNAME: 5, AAAA: 28, SVCB: 64, HTTPS: 65 } as const;
/** Names of other types that are asked for often. */
const OTHER_TYPES: Readonly<Record<number, string>> = {
  2: 'NS',
  6: 'SOA',
  12: 'PTR',
  15: 'MX',
  16: 'TXT',
  33: 'SRV',
  35: 'NAPTR',
  43: 'DS',
  48: 'DNSKEY',
  251: 'IXFR',
  252: 'AXFR',
  255: 'ANY',
  257: 'CAA',
};
const TYPE_NAMES = new Map<number, string>([
  ...Object.entries(OTHER_TYPES).map(([n, name]) => [Number(n), name] as const),
  ...Object.entries(TYPE).map(([name, n]) => [n, name] as const),
]);

/** The name of a type of records; `TYPE1234` if it has none (RFC 3597). */
export function typeName(type: number): string {
  return TYPE_NAMES.get(type) ?? `TYPE${type}`;
}

const RCODES = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];

/** The name of a response code; `RCODE11` if it is a rare one. */
export function rcodeName(rcode: number): string {
  return RCODES[rcode] ?? `RCODE${rcode}`;
}

const CLASS_IN = 1;
const PARAM_IPV4HINT = 4;
const PARAM_ECH = 5;
const PARAM_IPV6HINT = 6;

export interface DnsQuestion {
  /** Lower case, without the final dot; `?` for bytes that are not in [-a-z0-9_]. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
}

export interface DnsRecord extends DnsQuestion {
  /** Seconds; 0 where the highest bit is set (RFC 2181, 8). */
  readonly ttl: number;
  /** A and AAAA: one address; HTTPS and SVCB: the hints; canonical text. */
  readonly addresses: readonly string[];
  /** CNAME. */
  readonly target?: string;
}

export interface DnsMessage {
  readonly id: number;
  readonly isResponse: boolean;
  readonly opcode: number;
  readonly rcode: number;
  readonly truncated: boolean;
  readonly question: DnsQuestion;
  /** The answer section. The data of records in the other sections is not looked at, but for `ech`. */
  readonly answers: readonly DnsRecord[];
  /** What HTTPS and SVCB records of all sections have for Encrypted ClientHello, in their order. */
  readonly ech: readonly EchList[];
}

/** A list of configurations (src/said/ech.ts). */
export interface EchList {
  readonly bytes: Uint8Array;
  readonly ttl: number;
}

/** An address that an answer teaches. */
export interface TaughtAddress {
  readonly name: string;
  /** The name is the target of a CNAME, not the one that was asked for. */
  readonly alias: boolean;
  /** Canonical text. */
  readonly address: string;
  /** Seconds: the lowest of the record and the CNAMEs that lead to it. */
  readonly ttl: number;
}

/** Reads a message with exactly one question. @returns undefined if it is malformed; bytes behind it do not matter */
export function readMessage(bytes: Uint8Array): DnsMessage | undefined {
  try {
    return new Reader(bytes).message();
  } catch (e) {
    if (e instanceof Malformed) return undefined;
    throw e;
  }
}

/** What an answer teaches, in the order of its records; nothing if it is no answer, or says that there is an error. */
export function taughtBy(message: DnsMessage): TaughtAddress[] {
  if (!message.isResponse || message.opcode !== 0 || message.rcode !== 0) return [];
  const chain = chainOf(message);
  const out: TaughtAddress[] = [];
  for (const record of message.answers) {
    const position = chain.findIndex(({ name }) => name === record.name);
    if (position < 0 || record.class !== CLASS_IN) continue;
    const ttl = Math.min(record.ttl, chain[position]?.ttl ?? 0);
    for (const address of record.addresses) {
      for (const [level, { name }] of chain.slice(0, position + 1).entries()) {
        if (out.length >= MAX_LINKS) return out;
        out.push({ name, alias: level > 0, address, ttl });
      }
    }
  }
  return out;
}

/** The question and the targets of the CNAMEs that lead on from it, each with the lowest TTL on the way to it. */
function chainOf({ question, answers }: DnsMessage): { name: string; ttl: number }[] {
  const aliases = answers.filter((r) => r.class === CLASS_IN && r.target !== undefined).slice(0, MAX_ALIASES);
  const chain = [{ name: question.name, ttl: 0xffff_ffff }];
  for (;;) {
    const last = chain.at(-1) as { name: string; ttl: number };
    const next = aliases.find((r) => r.name === last.name);
    if (next?.target === undefined || chain.some(({ name }) => name === next.target)) return chain;
    chain.push({ name: next.target, ttl: Math.min(last.ttl, next.ttl) });
  }
}

class Malformed extends Error {}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  message(): DnsMessage {
    if (this.#bytes.length < HEADER || this.#u16(4) !== 1) throw new Malformed();
    const flags = this.#u16(2);
    const { text, wire } = this.#name(HEADER);
    let at = HEADER + wire;
    const question = { name: text, type: this.#u16(at), class: this.#u16(at + 2) };
    at += 4;
    const [inAnswer, more] = [this.#u16(6), this.#u16(8) + this.#u16(10)];
    if (inAnswer + more > MAX_RECORDS) throw new Malformed();
    const answers: DnsRecord[] = [];
    const ech: EchList[] = [];
    for (let i = 0; i < inAnswer + more; i++) {
      const { record, end, ech: bytes } = this.#record(at, i < inAnswer);
      if (i < inAnswer) answers.push(record);
      if (bytes && bytes.length > 0) ech.push({ bytes, ttl: record.ttl });
      at = end;
    }
    return {
      id: this.#u16(0),
      isResponse: (flags & 0x8000) !== 0,
      opcode: (flags >> 11) & 15,
      rcode: flags & 15,
      truncated: (flags & 0x0200) !== 0,
      question,
      answers,
      ech,
    };
  }

  #record(start: number, inAnswer: boolean): { record: DnsRecord; end: number; ech?: Uint8Array | undefined } {
    const { text: name, wire } = this.#name(start);
    const at = start + wire;
    const [type, klass, ttl, length] = [this.#u16(at), this.#u16(at + 2), this.#u32(at + 4), this.#u16(at + 8)];
    const [data, end] = [at + 10, at + 10 + length];
    if (end > this.#bytes.length) throw new Malformed();
    const record = { name, type, class: klass, ttl: ttl >= 2 ** 31 ? 0 : ttl };
    if (!inAnswer || klass !== CLASS_IN) {
      const ech = klass === CLASS_IN ? this.#addedEch(type, data, end) : undefined;
      return { record: { ...record, addresses: [] }, end, ech };
    }
    switch (type) {
      case TYPE.A:
      case TYPE.AAAA: {
        const size = type === TYPE.A ? 4 : 16;
        if (length !== size) throw new Malformed();
        return { record: { ...record, addresses: this.#addresses(data, end, size) }, end };
      }
      case TYPE.CNAME: {
        const target = this.#name(data);
        if (target.wire !== length) throw new Malformed();
        return { record: { ...record, addresses: [], target: target.text }, end };
      }
      case TYPE.HTTPS:
      case TYPE.SVCB: {
        const { addresses, ech } = this.#hints(data, end);
        return { record: { ...record, addresses }, end, ech };
      }
      default:
        return { record: { ...record, addresses: [] }, end };
    }
  }

  /** What a record of another section has for ECH. Whether it is well-formed decides about nothing else. */
  #addedEch(type: number, start: number, end: number): Uint8Array | undefined {
    if (type !== TYPE.HTTPS && type !== TYPE.SVCB) return undefined;
    try {
      return this.#hints(start, end).ech;
    } catch (e) {
      if (e instanceof Malformed) return undefined;
      throw e;
    }
  }

  /** What the data of an HTTPS or SVCB record have; in alias mode (priority 0) parameters do not count. */
  #hints(start: number, end: number): { addresses: string[]; ech?: Uint8Array | undefined } {
    if (start + 3 > end) throw new Malformed();
    const target = this.#name(start + 2);
    let at = start + 2 + target.wire;
    if (target.jumps > 0 || at > end) throw new Malformed();
    const hints: { v4: string[]; v6: string[]; ech?: Uint8Array } = { v4: [], v6: [] };
    for (let least = 0, params = 0; at !== end; params++) {
      if (params === MAX_PARAMS || at + 4 > end) throw new Malformed();
      const [key, length] = [this.#u16(at), this.#u16(at + 2)];
      const [value, next] = [at + 4, at + 4 + length];
      if (key < least || next > end) throw new Malformed();
      if (key === PARAM_IPV4HINT) hints.v4 = this.#addresses(value, next, 4);
      if (key === PARAM_ECH) hints.ech = this.#bytes.subarray(value, next);
      if (key === PARAM_IPV6HINT) hints.v6 = this.#addresses(value, next, 16);
      least = key + 1;
      at = next;
    }
    return this.#u16(start) === 0 ? { addresses: [] } : { addresses: [...hints.v4, ...hints.v6], ech: hints.ech };
  }

  /** One address or more, which fill the bytes. */
  #addresses(start: number, end: number, size: 4 | 16): string[] {
    if (end === start || (end - start) % size !== 0) throw new Malformed();
    const out: string[] = [];
    for (let at = start; at < end; at += size) {
      const bytes = new Uint8Array(16);
      if (size === 4) bytes.set([0xff, 0xff], 10);
      bytes.set(this.#bytes.subarray(at, at + size), 16 - size);
      out.push(formatBytes16(bytes, isMapped(bytes) ? 4 : 6));
    }
    return out;
  }

  /** A name. `wire`: bytes that it takes at `start`. */
  #name(start: number): { text: string; wire: number; jumps: number } {
    const labels: string[] = [];
    let [at, limit, jumps, wire, length] = [start, start, 0, 0, 1];
    for (;;) {
      const size = this.#u8(at);
      if (size >= 0xc0) {
        const target = this.#u16(at) & 0x3fff;
        wire ||= at + 2 - start;
        if (target < HEADER || target >= limit || ++jumps > MAX_JUMPS) throw new Malformed();
        at = limit = target;
        continue;
      }
      if (size > 63) throw new Malformed();
      const end = at + 1 + size;
      if (size === 0) return { text: labels.join('.'), wire: wire || end - start, jumps };
      length += 1 + size;
      if (length > MAX_NAME || end > this.#bytes.length) throw new Malformed();
      labels.push(cleanLabel(this.#bytes.subarray(at + 1, end)));
      at = end;
    }
  }

  #u8(at: number): number {
    const value = this.#bytes[at];
    if (value === undefined) throw new Malformed();
    return value;
  }

  #u16(at: number): number {
    if (at + 2 > this.#bytes.length) throw new Malformed();
    return this.#view.getUint16(at);
  }

  #u32(at: number): number {
    if (at + 4 > this.#bytes.length) throw new Malformed();
    return this.#view.getUint32(at);
  }
}

/** Whether it is an IPv4 address; sockets take a mapped one in an AAAA record for that, too. */
function isMapped(bytes: Uint8Array): boolean {
  return bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
}

/** Lower case; `?` for each byte that is not in [-a-z0-9_]. */
function cleanLabel(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('latin1')
    .replace(/[A-Z]/g, (c) => c.toLowerCase())
    .replace(/[^-a-z0-9_]/g, '?');
}
