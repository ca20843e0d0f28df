/**
 * A packet that is valid under the keys of two connections, and says something else under each: GCM does not commit
 * to its key. One block of the payload is free, and makes both tags the same.
 */
import { createCipheriv } from 'node:crypto';
import { firstByte, integer, type Keys, keysOf, TYPES, V1 } from './writer.js';

const R = 0xe1n << 120n;
const ALL = (1n << 128n) - 1n;

/** Products in GCM's field; bit 127 is the term without the variable (SP 800-38D, 6.3). */
function times(x: bigint, y: bigint): bigint {
  let [z, v] = [0n, y];
  for (let i = 127n; i >= 0n; i--) {
    if ((x >> i) & 1n) z ^= v;
    v = v & 1n ? (v >> 1n) ^ R : v >> 1n;
  }
  return z;
}

function power(x: bigint, exponent: bigint): bigint {
  let [result, base] = [1n << 127n, x];
  for (let e = exponent; e > 0n; e >>= 1n) {
    if (e & 1n) result = times(result, base);
    base = times(base, base);
  }
  return result;
}

const number = (b: Buffer): bigint => BigInt(`0x${b.toString('hex').padEnd(32, '0')}`);
const block = (n: bigint): Buffer => Buffer.from((n & ALL).toString(16).padStart(32, '0'), 'hex');
const ecb = (key: Buffer, input: Buffer): Buffer => createCipheriv('aes-128-ecb', key, null).update(input);

/** What a number of a packet, of one byte, makes of the counters. */
function counter(keys: Keys, packet: number, n: number): Buffer {
  const nonce = Buffer.from(keys.iv);
  nonce[11] = (nonce[11] as number) ^ packet;
  const last = Buffer.alloc(4);
  last.writeUInt32BE(n);
  return ecb(keys.key, Buffer.concat([nonce, last]));
}

/** The tag of such a packet. */
function tag(keys: Keys, packet: number, header: Buffer, sealed: Buffer): bigint {
  const h = number(ecb(keys.key, Buffer.alloc(16)));
  let y = 0n;
  for (const part of [header, sealed])
    for (let at = 0; at < part.length; at += 16) y = times(y ^ number(part.subarray(at, at + 16)), h);
  const lengths = (BigInt(header.length * 8) << 64n) | BigInt(sealed.length * 8);
  return times(y ^ lengths, h) ^ number(counter(keys, packet, 1));
}

/**
 * An Initial packet of version 1 to `to`, which opens with the keys of that id and of another one.
 * @param first the other id
 * @param frames what it says under the keys of `first`, tried with each random number: bytes 16 * free to 16 * free +
 *   15 become others
 */
export function twoKeys(to: Buffer, first: Buffer, free: number, frames: (random: number) => Buffer): Buffer {
  const [theirs, own] = [keysOf(V1, first), keysOf(V1, to)];
  for (let random = 0; ; random++) {
    const clear = frames(random);
    const packet = random & 255;
    const sealed = Buffer.from(clear);
    for (let at = 0; at < clear.length; at += 16) {
      const stream = counter(theirs, packet, 2 + at / 16);
      for (let i = at; i < Math.min(at + 16, clear.length); i++)
        sealed[i] = (clear[i] as number) ^ (stream[i - at] as number);
    }
    const [mask, other] = [theirs, own].map(({ hp }) => ecb(hp, sealed.subarray(3, 19))) as [Buffer, Buffer];
    // The first byte must be the same under both: a number of one byte, and nothing reserved.
    if ((((mask[0] as number) ^ (other[0] as number)) & 0x0f) !== 0) continue;
    const head = Buffer.concat([
      Buffer.from([firstByte(V1, TYPES.initial), 0, 0, 0, 1, to.length]),
      to,
      Buffer.from([0, 0]),
      integer(1 + sealed.length + 16, 2),
    ]);
    const hidden = packet ^ (mask[1] as number);
    const packets = [packet, hidden ^ (other[1] as number)] as const;
    const headers = packets.map((n) => Buffer.concat([head, Buffer.from([n])]));
    sealed.fill(0, 16 * free, 16 * free + 16);
    const [one, two] = [theirs, own].map((keys, i) => tag(keys, packets[i] as number, headers[i] as Buffer, sealed));
    const exponent = BigInt(Math.ceil(sealed.length / 16) - free + 1);
    const [h, k] = [theirs, own].map(({ key }) => power(number(ecb(key, Buffer.alloc(16))), exponent));
    const solved = times((one as bigint) ^ (two as bigint), power((h as bigint) ^ (k as bigint), (1n << 128n) - 2n));
    block(solved).copy(sealed, 16 * free);
    const both = block(tag(theirs, packet, headers[0] as Buffer, sealed));
    head[0] = (head[0] as number) ^ ((mask[0] as number) & 0x0f);
    return Buffer.concat([head, Buffer.from([hidden]), sealed, both]);
  }
}
