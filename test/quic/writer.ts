/** Writes QUIC packets as a client does, with node:crypto: Initial packets of versions 1 (RFC 9001) and 2 (RFC 9369). */
import { createCipheriv, createHmac, randomBytes } from 'node:crypto';

export const V1 = 1;
export const V2 = 0x6b3343cf;

const SALTS = new Map([
  [V1, Buffer.from('38762cf7f55934b34d179ae6a4c80cadccbb7f0a', 'hex')],
  [V2, Buffer.from('0dede3def700a6db819381be6e269dcbf9bd2ed9', 'hex')],
]);

export interface Keys {
  readonly key: Buffer;
  readonly iv: Buffer;
  readonly hp: Buffer;
}

function expand(secret: Buffer, label: string, length: number): Buffer {
  const text = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.from([0, length, text.length]), text, Buffer.from([0, 1])]);
  return createHmac('sha256', secret).update(info).digest().subarray(0, length);
}

/** The keys of Initial packets to a server whose client chose this id first. */
export function keysOf(version: number, id: Buffer, side: 'client' | 'server' = 'client'): Keys {
  const salt = SALTS.get(version) ?? Buffer.alloc(20);
  const secret = expand(createHmac('sha256', salt).update(id).digest(), `${side} in`, 32);
  const quic = version === V2 ? 'quicv2' : 'quic';
  return {
    key: expand(secret, `${quic} key`, 16),
    iv: expand(secret, `${quic} iv`, 12),
    hp: expand(secret, `${quic} hp`, 16),
  };
}

/** RFC 9000, 16. @param size of the encoding, bytes; by default the shortest */
export function integer(value: number, size = value < 64 ? 1 : value < 16384 ? 2 : value < 2 ** 30 ? 4 : 8): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(BigInt(value) | (BigInt(Math.log2(size)) << BigInt(8 * size - 2)));
  return out.subarray(8 - size);
}

export interface InitialOptions {
  readonly version?: number;
  /** Destination and source. */
  readonly to: Buffer;
  readonly from?: Buffer;
  /** By default those of `to`. */
  readonly keys?: Keys;
  readonly token?: Buffer;
  readonly number?: number;
  readonly numberSize?: number;
  /** Without this many bytes of the tag's change. */
  readonly spoilTag?: boolean;
  /** Of the length field: bytes. */
  readonly lengthSize?: number;
  /** The packet's first byte, before protection. */
  readonly first?: number;
  /** PADDING frames are added up to this size of the packet. */
  readonly padTo?: number;
}

/** Types of long headers in version 1. */
export const TYPES = { initial: 0, zeroRtt: 1, handshake: 2, retry: 3 } as const;

/** A long header's first byte. */
export function firstByte(version: number, type: number): number {
  return 0xc0 | (((type + (version === V2 ? 1 : 0)) & 3) << 4);
}

const withLength = (id: Buffer): Buffer => Buffer.concat([Buffer.from([id.length]), id]);

function longHeader(first: number, version: number, to: Buffer, from: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head[0] = first;
  head.writeUInt32BE(version, 1);
  return Buffer.concat([head, withLength(to), withLength(from)]);
}

/** An Initial packet with these frames. */
export function initial(frames: Buffer, opts: InitialOptions): Buffer {
  const { version = V1, to, from = Buffer.alloc(0), token = Buffer.alloc(0), number = 0, numberSize = 1 } = opts;
  const keys = opts.keys ?? keysOf(version, to);
  const first = opts.first ?? firstByte(version, TYPES.initial) | (numberSize - 1);
  const head = Buffer.concat([longHeader(first, version, to, from), integer(token.length), token]);
  const missing = (opts.padTo ?? 0) - head.length - 2 - numberSize - frames.length - 16;
  const clear = Buffer.concat([frames, Buffer.alloc(Math.max(0, missing, 4 - numberSize - frames.length))]);
  const field = Buffer.alloc(4);
  field.writeUInt32BE(number >>> 0);
  const length = integer(numberSize + clear.length + 16, opts.lengthSize ?? 2);
  const header = Buffer.concat([head, length, field.subarray(4 - numberSize)]);
  const nonce = Buffer.from(keys.iv);
  for (let i = 0; i < 4; i++)
    nonce[8 + i] = (nonce[8 + i] as number) ^ ((field[i] as number) & (i < 4 - numberSize ? 0 : 255));
  const cipher = createCipheriv('aes-128-gcm', keys.key, nonce);
  cipher.setAAD(header);
  const sealed = Buffer.concat([cipher.update(clear), cipher.final(), cipher.getAuthTag()]);
  if (opts.spoilTag) sealed[sealed.length - 1] = (sealed.at(-1) as number) ^ 1;
  return protect(Buffer.concat([header, sealed]), header.length - numberSize, keys.hp);
}

/** Header protection, which is put on and taken off alike but for the size of the number. */
function protect(packet: Buffer, numberAt: number, hp: Buffer): Buffer {
  const size = ((packet[0] as number) & 3) + 1;
  const ecb = createCipheriv('aes-128-ecb', hp, null);
  const mask = ecb.update(packet.subarray(numberAt + 4, numberAt + 20));
  packet[0] = (packet[0] as number) ^ ((mask[0] as number) & 0x0f);
  for (let i = 0; i < size; i++) packet[numberAt + i] = (packet[numberAt + i] as number) ^ (mask[1 + i] as number);
  return packet;
}

/** A packet with a long header whose content nobody but the server can read. */
export function opaque(
  type: number,
  to: Buffer,
  opts: { version?: number; from?: Buffer; size?: number; rest?: Buffer } = {},
): Buffer {
  const { version = V1, from = Buffer.alloc(0), size = 40 } = opts;
  const head = longHeader(firstByte(version, type) | 1, version, to, from);
  if (type === TYPES.retry) return Buffer.concat([head, opts.rest ?? randomBytes(32)]);
  return Buffer.concat([head, integer(size, 2), opts.rest ?? randomBytes(size)]);
}

export const crypto = (offset: number, bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from([6]), integer(offset), integer(bytes.length), bytes]);
export const ping = (): Buffer => Buffer.from([1]);
export const padding = (n: number): Buffer => Buffer.alloc(n);
/** With `ranges` more ranges than the first, and counts of ECN. */
export const ack = (largest: number, ranges = 0, ecn = false): Buffer =>
  Buffer.concat([
    Buffer.from([ecn ? 3 : 2]),
    ...[largest, 10, ranges, 0, ...Array.from({ length: 2 * ranges + (ecn ? 3 : 0) }, () => 0)].map((n) => integer(n)),
  ]);
export const close = (reason = ''): Buffer =>
  Buffer.concat([Buffer.from([0x1c]), integer(1), integer(6), integer(reason.length), Buffer.from(reason)]);
