/**
 * Packets of QUIC with a long header, versions 1 and 2 (RFC 9000, 17.2; RFC 9369), and the protection of a client's
 * Initial packets (RFC 9001, 5). Their keys come from a connection id that everybody on the way sees.
 */
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';

export const QUIC_V1 = 1;
export const QUIC_V2 = 0x6b3343cf;
export type QuicVersion = typeof QUIC_V1 | typeof QUIC_V2;

export const MAX_CONNECTION_ID = 20;
/** Bytes of the tag of AES-128-GCM, and of the sample for the header's mask. */
export const TAG = 16;
/** The sample starts where a packet number of this size would end. */
const SAMPLE_OFFSET = 4;
/** Reserved bits of the first byte; senders set them to 0 before they protect it. */
const RESERVED = 0x0c;

type PacketType = 'initial' | '0-rtt' | 'handshake' | 'retry';
const TYPES: Readonly<Record<QuicVersion, readonly PacketType[]>> = {
  [QUIC_V1]: ['initial', '0-rtt', 'handshake', 'retry'],
  [QUIC_V2]: ['retry', 'initial', '0-rtt', 'handshake'],
};
const SALTS: Readonly<Record<QuicVersion, Buffer>> = {
  [QUIC_V1]: Buffer.from('38762cf7f55934b34d179ae6a4c80cadccbb7f0a', 'hex'),
  [QUIC_V2]: Buffer.from('0dede3def700a6db819381be6e269dcbf9bd2ed9', 'hex'),
};
const LABELS: Readonly<Record<QuicVersion, string>> = { [QUIC_V1]: 'quic', [QUIC_V2]: 'quicv2' };

/** A packet with a long header. All offsets are from the start of the datagram. */
export interface LongPacket {
  readonly state: 'packet';
  readonly type: PacketType;
  readonly version: QuicVersion;
  readonly start: number;
  readonly dcid: Uint8Array;
  readonly scid: Uint8Array;
  readonly token: Uint8Array;
  /** Where the protected packet number starts. */
  readonly number: number;
  /** Behind the packet's last byte. */
  readonly end: number;
}

export type LongHeader =
  | LongPacket
  | { readonly state: 'short' } // a short header, or the fixed bit is not set: nothing of it can be read
  | { readonly state: 'version'; readonly version: number }
  | { readonly state: 'malformed' };

const MALFORMED = { state: 'malformed' } as const;

/** The version whose number it is. */
export function quicVersion(version: number): QuicVersion | undefined {
  return version === QUIC_V1 || version === QUIC_V2 ? version : undefined;
}

/** Bits of the first byte for a type of packet. */
export function typeBits(version: QuicVersion, type: PacketType): number {
  return TYPES[version].indexOf(type) << 4;
}

/** Reads the header of the packet that starts at `start`. */
export function readLongHeader(datagram: Uint8Array, start: number): LongHeader {
  const first = datagram[start];
  if (first === undefined) return MALFORMED;
  if ((first & 0xc0) !== 0xc0) return { state: 'short' };
  if (start + 6 > datagram.length) return MALFORMED;
  const number = new DataView(datagram.buffer, datagram.byteOffset + start + 1, 4).getUint32(0);
  const version = quicVersion(number);
  if (version === undefined) return { state: 'version', version: number };
  const type = TYPES[version][(first >> 4) & 3]!;
  const dcid = bytesBehind(datagram, start + 5);
  const scid = dcid && bytesBehind(datagram, dcid.end);
  if (!scid || dcid.bytes.length > MAX_CONNECTION_ID || scid.bytes.length > MAX_CONNECTION_ID || type === 'retry')
    return MALFORMED;
  let at = scid.end;
  let token = new Uint8Array();
  if (type === 'initial') {
    const size = readVarint(datagram, at);
    if (!size || size.end + size.value > datagram.length) return MALFORMED;
    at = size.end + size.value;
    token = datagram.slice(size.end, at);
  }
  const length = readVarint(datagram, at);
  if (!length || length.value < SAMPLE_OFFSET + TAG || length.end + length.value > datagram.length) return MALFORMED;
  const end = length.end + length.value;
  return {
    state: 'packet',
    type,
    version,
    start,
    dcid: dcid.bytes,
    scid: scid.bytes,
    token,
    number: length.end,
    end,
  };
}

/** Bytes behind a length of one byte. */
function bytesBehind(bytes: Uint8Array, at: number): { bytes: Uint8Array; end: number } | undefined {
  const size = bytes[at];
  if (size === undefined || at + 1 + size > bytes.length) return undefined;
  return { bytes: bytes.slice(at + 1, at + 1 + size), end: at + 1 + size };
}

/** A number of variable length (RFC 9000, 16); undefined if the bytes end in it. */
export function readVarint(bytes: Uint8Array, at: number): { value: number; end: number } | undefined {
  const first = bytes[at];
  if (first === undefined) return undefined;
  const size = 1 << (first >> 6);
  if (at + size > bytes.length) return undefined;
  let value = first & 0x3f;
  // Above 2^53 it is not exact; all that are compared with something are compared with less.
  for (let i = 1; i < size; i++) value = value * 256 + bytes[at + i]!;
  return { value, end: at + size };
}

/** The keys of a client's Initial packets. */
export interface InitialKeys {
  readonly key: Buffer;
  readonly iv: Buffer;
  readonly hp: Buffer;
}

/** Keys from the destination connection id of the client's first Initial, or of the first one after a Retry. */
export function clientInitialKeys(version: QuicVersion, dcid: Uint8Array): InitialKeys {
  const initial = createHmac('sha256', SALTS[version]).update(dcid).digest();
  const secret = expandLabel(initial, 'client in', 32);
  const expand = (what: string, length: number) => expandLabel(secret, `${LABELS[version]} ${what}`, length);
  return { key: expand('key', 16), iv: expand('iv', 12), hp: expand('hp', 16) };
}

/** HKDF-Expand-Label of TLS 1.3 (RFC 8446, 7.1) with SHA-256 and no context. @param length 32 at most */
function expandLabel(secret: Uint8Array, label: string, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.from([0, length, name.length]), name, Buffer.from([0])]);
  const block = createHmac('sha256', secret)
    .update(info)
    .update(Buffer.from([1]))
    .digest();
  return block.subarray(0, length);
}

/** Five bytes that hide the first byte's low bits and the packet number. */
export function headerMask(keys: InitialKeys, sample: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-128-ecb', keys.hp, null).setAutoPadding(false);
  return cipher.update(sample).subarray(0, 5);
}

/** The nonce of a packet: its number, added to the IV without carry. */
export function packetNonce(keys: InitialKeys, number: number): Buffer {
  const nonce = Buffer.from(keys.iv);
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(number));
  for (const [i, byte] of bytes.entries()) nonce[4 + i]! ^= byte;
  return nonce;
}

export interface OpenPacket {
  readonly number: number;
  readonly payload: Buffer;
  /** Reserved bits are set: the sender breaks the protocol. */
  readonly reserved: boolean;
}

/**
 * Removes the protection of an Initial packet.
 * @param largest the largest packet number that was seen before in this connection; -1 if none was
 * @returns undefined if the tag is wrong: who has these keys would discard the packet
 */
export function openPacket(
  datagram: Uint8Array,
  packet: LongPacket,
  keys: InitialKeys,
  largest: number,
): OpenPacket | undefined {
  const { start, number: at, end } = packet;
  const sample = datagram.subarray(at + SAMPLE_OFFSET, at + SAMPLE_OFFSET + TAG);
  const mask = headerMask(keys, sample);
  const first = datagram[start]! ^ (mask[0]! & 0x0f);
  const size = (first & 3) + 1;
  const header = Buffer.from(datagram.subarray(start, at + size));
  header[0] = first;
  let truncated = 0;
  for (let i = 0; i < size; i++) {
    const byte = (header[at - start + i]! ^= mask[1 + i]!);
    truncated = truncated * 256 + byte;
  }
  const number = fullNumber(truncated, size, largest);
  const decipher = createDecipheriv('aes-128-gcm', keys.key, packetNonce(keys, number), { authTagLength: TAG });
  decipher.setAAD(header).setAuthTag(datagram.subarray(end - TAG, end));
  try {
    const payload = Buffer.concat([decipher.update(datagram.subarray(at + size, end - TAG)), decipher.final()]);
    return { number, payload, reserved: (first & RESERVED) !== 0 };
  } catch {
    return undefined; // Node's only way to say that the tag is wrong
  }
}

/** The packet number whose lowest bytes these are and that is closest to the next expected one (RFC 9000, A.3). */
function fullNumber(truncated: number, size: number, largest: number): number {
  const window = 2 ** (8 * size);
  const expected = largest + 1;
  const candidate = expected - (expected % window) + truncated;
  if (candidate <= expected - window / 2 && candidate < 2 ** 62 - window) return candidate + window;
  return candidate > expected + window / 2 && candidate >= window ? candidate - window : candidate;
}
