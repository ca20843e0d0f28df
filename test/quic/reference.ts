/** How the client's Initial packets of a datagram are read: bpf/quic.h in other words, with node:crypto. */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { type Keys, keysOf, V1, V2 } from './writer.js';

/** enum quic_kind. */
export const KIND = {
  other: 0,
  short: 1,
  unknownVersion: 2,
  negotiation: 3,
  malformed: 4,
  initial: 5,
  zeroRtt: 6,
  handshake: 7,
  retry: 8,
} as const;
/** enum quic_result. */
export const RESULT = { read: 0, refused: 1, conflict: 2, tooLarge: 3 } as const;

const [MOST_HEADER, MOST_PAYLOAD, MOST_STREAM, MOST_PACKETS, MOST_STEPS] = [1024, 4096, 16384, 8, 2048];

class Refusal extends Error {
  constructor(readonly result: number) {
    super(String(result));
  }
}

function refuseIf(refused: boolean, result: number = RESULT.refused): void {
  if (refused) throw new Refusal(result);
}

/** Reads fields one behind the other, and refuses where one is not whole. */
class Cursor {
  at = 0;
  constructor(readonly bytes: Buffer) {}

  get left(): number {
    return this.bytes.length - this.at;
  }

  take(n: number): Buffer {
    refuseIf(n > this.left);
    this.at += n;
    return this.bytes.subarray(this.at - n, this.at);
  }

  byte(): number {
    return this.take(1)[0] as number;
  }

  integer(): number {
    refuseIf(this.left < 1);
    const size = 1 << ((this.bytes[this.at] as number) >> 6);
    const value = BigInt(`0x${this.take(size).toString('hex')}`) & ((1n << BigInt(8 * size - 2)) - 1n);
    return Number(value);
  }
}

interface Packet {
  readonly kind: number;
  readonly version: number;
  readonly to: Buffer;
  /** The whole packet; the offset of its number. */
  readonly bytes: Buffer;
  readonly numberAt: number;
}

function id(c: Cursor): Buffer {
  const length = c.byte();
  refuseIf(length > 20);
  return c.take(length);
}

/** The packet at the beginning of these bytes. */
export function packetAt(bytes: Buffer): Packet {
  const plain = (kind: number): Packet => ({ kind, version: 0, to: Buffer.alloc(0), bytes, numberAt: 0 });
  const first = bytes[0] ?? 0;
  if (bytes.length === 0 || first < 0x80) return plain(first & 0x40 ? KIND.short : KIND.other);
  try {
    refuseIf(bytes.length < 7);
    const c = new Cursor(bytes);
    c.take(1);
    const version = c.take(4).readUInt32BE();
    if (version === 0) return plain(KIND.negotiation);
    if (version !== V1 && version !== V2) return plain(KIND.unknownVersion);
    refuseIf((first & 0x40) === 0);
    const to = id(c);
    id(c);
    const type = ((first >> 4) - (version === V2 ? 1 : 0)) & 3;
    if (type === 3) return { ...plain(KIND.retry), version, to };
    if (type === 0) {
      const token = c.integer();
      refuseIf(token > MOST_HEADER);
      c.take(token);
    }
    const length = c.integer();
    refuseIf(length > c.left || length < 20);
    const kind = [KIND.initial, KIND.zeroRtt, KIND.handshake][type] as number;
    return { kind, version, to, bytes: bytes.subarray(0, c.at + length), numberAt: c.at };
  } catch (e) {
    if (e instanceof Refusal) return plain(KIND.malformed);
    throw e;
  }
}

/** Opens an Initial packet. @returns its frames */
export function open(p: Packet, keys: Keys): Buffer {
  refuseIf(p.numberAt > MOST_HEADER - 4);
  const bytes = Buffer.from(p.bytes);
  const mask = createCipheriv('aes-128-ecb', keys.hp, null).update(bytes.subarray(p.numberAt + 4, p.numberAt + 20));
  const first = (bytes[0] as number) ^ ((mask[0] as number) & 0x0f);
  bytes[0] = first;
  const size = (first & 3) + 1;
  const nonce = Buffer.from(keys.iv);
  for (let i = 0; i < size; i++) {
    const at = p.numberAt + i;
    bytes[at] = (bytes[at] as number) ^ (mask[1 + i] as number);
    nonce[12 - size + i] = (nonce[12 - size + i] as number) ^ (bytes[at] as number);
  }
  const sealed = bytes.subarray(p.numberAt + size);
  refuseIf(sealed.length <= 16 || sealed.length - 16 > MOST_PAYLOAD);
  const decipher = createDecipheriv('aes-128-gcm', keys.key, nonce);
  decipher.setAAD(bytes.subarray(0, p.numberAt + size));
  decipher.setAuthTag(sealed.subarray(-16));
  const clear = decipher.update(sealed.subarray(0, -16));
  try {
    decipher.final();
  } catch {
    throw new Refusal(RESULT.refused);
  }
  refuseIf((first & 0x0c) !== 0);
  return clear;
}

export class Stream {
  readonly bytes = Buffer.alloc(MOST_STREAM);
  readonly known = Buffer.alloc(MOST_STREAM);
  readonly #version: number;
  readonly #keys: Keys;
  /** Bytes of CRYPTO frames in the last datagram, and kinds of packets behind its Initial packets. */
  crypto = 0;
  seen = 0;

  constructor(version: number, first: Buffer) {
    this.#version = version;
    this.#keys = keysOf(version, first);
  }

  /** Bytes before the first gap. */
  get have(): number {
    const gap = this.known.indexOf(0);
    return gap < 0 ? MOST_STREAM : gap;
  }

  /** @returns as quic_read(); the datagram begins with an Initial packet */
  read(datagram: Buffer): number {
    this.crypto = this.seen = 0;
    try {
      this.#read(datagram);
      return RESULT.read;
    } catch (e) {
      if (e instanceof Refusal) return e.result;
      throw e;
    }
  }

  #read(datagram: Buffer): void {
    const { to } = packetAt(datagram);
    let rest = datagram;
    for (let n = 0; rest.length > 0; n++) {
      refuseIf(n === MOST_PACKETS);
      const p = packetAt(rest);
      const long = p.kind === KIND.initial || p.kind === KIND.zeroRtt || p.kind === KIND.handshake;
      refuseIf(long ? p.version !== this.#version || !p.to.equals(to) : p.kind !== KIND.short && p.kind !== KIND.other);
      if (p.kind === KIND.initial) this.#frames(open(p, this.#keys));
      else if (p.kind !== KIND.other || rest.some((b) => b !== 0)) this.seen |= 1 << p.kind;
      rest = rest.subarray(p.bytes.length);
    }
  }

  #frames(clear: Buffer): void {
    const c = new Cursor(clear);
    const skip = (n: number) => {
      for (let i = 0; i < n; i++) c.integer();
    };
    for (let n = 0; c.left > 0; n++) {
      refuseIf(n >= MOST_STEPS);
      const type = c.byte();
      if (type === 0) n -= 1;
      if (type <= 1) continue;
      if (type === 2 || type === 3) {
        skip(2);
        const ranges = c.integer();
        refuseIf(ranges > MOST_PAYLOAD);
        skip(1 + 2 * ranges + (type === 3 ? 3 : 0));
      } else if (type === 0x1c) {
        skip(2);
        c.take(c.integer());
      } else {
        refuseIf(type !== 6);
        const [offset, length] = [c.integer(), c.integer()];
        refuseIf(length > c.left);
        refuseIf(offset + length > MOST_STREAM, RESULT.tooLarge);
        this.crypto += length;
        this.#add(offset, c.take(length));
      }
    }
  }

  #add(offset: number, bytes: Buffer): void {
    let conflict = false;
    for (const [i, byte] of bytes.entries()) {
      const at = offset + i;
      if (this.known[at]) conflict ||= this.bytes[at] !== byte;
      else this.bytes[at] = byte;
      this.known[at] = 1;
    }
    refuseIf(conflict, RESULT.conflict);
  }
}
