/** Makes ClientHellos, TLS records, QUIC Initial packets and heads of requests, right ones and wrong ones. */
import { createCipheriv } from 'node:crypto';
import {
  clientInitialKeys,
  headerMask,
  type InitialKeys,
  packetNonce,
  QUIC_V1,
  type QuicVersion,
  TAG,
  typeBits,
} from '../../src/said/quic-packet.js';

const u8 = (n: number): Buffer => Buffer.from([n & 255]);
export const u16 = (n: number): Buffer => Buffer.from([(n >> 8) & 255, n & 255]);
const u24 = (n: number): Buffer => Buffer.from([(n >> 16) & 255, (n >> 8) & 255, n & 255]);

export type Extension = readonly [type: number, data: Uint8Array];

export interface HelloParts {
  version?: number;
  session?: Uint8Array;
  suites?: Uint8Array;
  compression?: Uint8Array;
  /** Absent: no block at all. */
  extensions?: readonly Extension[];
}

/** A server_name extension of one name, or of entries of other types. */
export function serverName(...names: (string | readonly [type: number, name: string])[]): Extension {
  const entries = names.map((entry) => {
    const [type, name] = typeof entry === 'string' ? [0, entry] : entry;
    const bytes = Buffer.from(name, 'latin1');
    return Buffer.concat([u8(type), u16(bytes.length), bytes]);
  });
  const list = Buffer.concat(entries);
  return [0, Buffer.concat([u16(list.length), list])];
}

export function alpn(...names: string[]): Extension {
  const list = Buffer.concat(names.map((name) => Buffer.concat([u8(name.length), Buffer.from(name, 'latin1')])));
  return [16, Buffer.concat([u16(list.length), list])];
}

/** A ClientHello message without records. */
export function makeHello(parts: HelloParts = {}): Buffer {
  const session = parts.session ?? Buffer.alloc(32, 7);
  const suites = parts.suites ?? Buffer.from('13011302c02f', 'hex');
  const compression = parts.compression ?? Buffer.alloc(1);
  const block =
    parts.extensions &&
    Buffer.concat(parts.extensions.flatMap(([type, data]) => [u16(type), u16(data.length), Buffer.from(data)]));
  const body = Buffer.concat([
    u16(parts.version ?? 0x0303),
    Buffer.alloc(32, 0x5a),
    u8(session.length),
    session,
    u16(suites.length),
    suites,
    u8(compression.length),
    compression,
    ...(block ? [u16(block.length), block] : []),
  ]);
  return Buffer.concat([u8(1), u24(body.length), body]);
}

/** Cuts a message into TLS records. @param sizes of all records but the last */
export function records(message: Uint8Array, sizes: readonly number[] = []): Buffer {
  const out: Buffer[] = [];
  let at = 0;
  for (const size of [...sizes, message.length]) {
    const part = message.subarray(at, at + size);
    if (part.length > 0) out.push(u8(22), u16(0x0301), u16(part.length), Buffer.from(part));
    at += size;
  }
  return Buffer.concat(out);
}

/** A number of variable length (RFC 9000, 16). @param size its bytes; the smallest if not given */
export function varint(value: number, size = value < 64 ? 1 : value < 16384 ? 2 : value < 2 ** 30 ? 4 : 8): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value) | (BigInt(Math.log2(size)) << BigInt(8 * size - 2)));
  return bytes.subarray(8 - size);
}

export function cryptoFrame(offset: number, data: Uint8Array): Buffer {
  return Buffer.concat([varint(6), varint(offset), varint(data.length), data]);
}

export interface Initial {
  version?: QuicVersion;
  dcid: Uint8Array;
  scid?: Uint8Array;
  token?: Uint8Array;
  number?: number;
  /** Bytes of the packet number. */
  numberSize?: 1 | 2 | 3 | 4;
  /** The payload before it is protected. */
  frames: Uint8Array;
  /** Bytes of the whole packet: PADDING fills it. */
  padTo?: number;
  /** Where the keys come from; the packet's own connection id if not given. */
  keysFrom?: Uint8Array;
  keys?: InitialKeys;
  /** Low bits of the first byte that are set against the rule. */
  reserved?: number;
}

/** A client's Initial packet, protected. */
export function encodeInitial(packet: Initial): Buffer {
  const version = packet.version ?? QUIC_V1;
  const keys = packet.keys ?? clientInitialKeys(version, packet.keysFrom ?? packet.dcid);
  const [scid, token, size] = [packet.scid ?? Buffer.alloc(0), packet.token ?? Buffer.alloc(0), packet.numberSize ?? 4];
  const versionBytes = Buffer.alloc(4);
  versionBytes.writeUInt32BE(version);
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(BigInt(packet.number ?? 0));
  const first = 0xc0 | typeBits(version, 'initial') | (packet.reserved ?? 0) | (size - 1);
  const start = Buffer.concat([
    u8(first),
    versionBytes,
    u8(packet.dcid.length),
    packet.dcid,
    u8(scid.length),
    scid,
    varint(token.length),
    token,
  ]);
  const padding = Math.max(
    4 - size - packet.frames.length,
    (packet.padTo ?? 0) - start.length - 2 - size - packet.frames.length - TAG,
    0,
  );
  const plain = Buffer.concat([packet.frames, Buffer.alloc(padding)]);
  const length = varint(size + plain.length + TAG, 2);
  const header = Buffer.concat([start, length, number.subarray(8 - size)]);
  const cipher = createCipheriv('aes-128-gcm', keys.key, packetNonce(keys, packet.number ?? 0), { authTagLength: TAG });
  cipher.setAAD(header);
  const payload = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  const mask = headerMask(keys, payload.subarray(4 - size, 4 - size + TAG));
  header[0]! ^= mask[0]! & 0x0f;
  for (let i = 0; i < size; i++) header[header.length - size + i]! ^= mask[1 + i]!;
  return Buffer.concat([header, payload]);
}

/** Parts of a hello, by their first byte and the byte behind the last. */
export type Cut = readonly (readonly [from: number, to: number])[];

/** Datagrams that say a hello: one for each list of parts. */
export function encodeHello(
  hello: Uint8Array,
  dcid: Uint8Array,
  cuts: readonly Cut[] = [[[0, hello.length]]],
  rest: Partial<Initial> = {},
): Buffer[] {
  return cuts.map((cut, i) =>
    encodeInitial({
      dcid,
      number: i,
      padTo: 1200,
      ...rest,
      frames: Buffer.concat(cut.map(([from, to]) => cryptoFrame(from, hello.subarray(from, to)))),
    }),
  );
}

/** The head of a request with `Host: a`. */
export const get = (line: string, ...headers: string[]): string => [line, 'Host: a', ...headers, '', ''].join('\r\n');
