/**
 * The map `service_filter`: a bit for each hash of a key of `services`. If the bit is 0, packets skip the look-up
 * (bpf/services.h). A bit is set before the first entry with it is written, and cleared after the last one is deleted:
 * an agent that is killed in between leaves a bit too many, never one too few.
 */
import * as L from '../../../src/image/layout.gen.js';
import type { ImageService } from '../../../src/image/types.js';
import * as encode from './encode.js';
import type { BpfMap } from '../../kernel/libbpf/map.js';

const { EA_FILTER_BITS } = L.ENUMS.ea_filter;
/** As in may_be_service(). */
const FACTORS = [1, 3, 5, 7, 11];
const SPREAD = 0x9e3779b1;

type Key = Pick<ImageService, 'ip' | 'port' | 'protocol'>;

export class ServiceFilter {
  /** Bit n is bit n % 8 of byte n / 8: little endian, as all of encode.ts. */
  readonly #bytes: Uint8Array;
  /** Names of existing entries, by bit. */
  readonly #keys = new Map<number, Set<string>>();

  constructor(maps: Record<string, BpfMap>) {
    const memory = encode.map(maps, 'service_filter').mmap();
    this.#bytes = new Uint8Array(memory.buffer, memory.byteOffset, 2 ** EA_FILTER_BITS / 8);
  }

  /** Sets the bits of Services. Call it before they are written. */
  add(services: Iterable<Key>): void {
    for (const service of services) {
      const bit = bitOf(service);
      const names = this.#keys.get(bit);
      if (names) names.add(nameOf(service));
      else this.#keys.set(bit, new Set([nameOf(service)]));
      Atomics.or(this.#bytes, bit >> 3, 1 << (bit & 7));
    }
  }

  /** Clears the bits of Services. Call it after they are deleted. */
  remove(services: Iterable<Key>): void {
    for (const service of services) {
      const bit = bitOf(service);
      const names = this.#keys.get(bit);
      if (!names?.delete(nameOf(service)) || names.size > 0) continue;
      this.#keys.delete(bit);
      Atomics.and(this.#bytes, bit >> 3, ~(1 << (bit & 7)));
    }
  }

  /** Brings the bits to the content of the map; bits of existing Services stay set. @param services all in the map */
  restore(services: Iterable<Key>): void {
    this.#keys.clear();
    this.add(services);
    bytesOf(this.#keys.keys()).forEach((byte, i) => {
      if (this.#bytes[i] !== byte) Atomics.store(this.#bytes, i, byte);
    });
  }

  /** @param services all that should be in the map. @returns one line for each wrong byte */
  differences(services: Iterable<Key>): string[] {
    const out: string[] = [];
    bytesOf(Array.from(services, bitOf)).forEach((byte, i) => {
      if (this.#bytes[i] !== byte) out.push(`service_filter[${i * 8}..${i * 8 + 7}] is wrong`);
    });
    return out;
  }
}

function bytesOf(bits: Iterable<number>): Uint8Array {
  const bytes = new Uint8Array(2 ** EA_FILTER_BITS / 8);
  for (const bit of bits) bytes[bit >> 3] = (bytes[bit >> 3] as number) | (1 << (bit & 7));
  return bytes;
}

function nameOf({ ip, port, protocol }: Key): string {
  return `${ip}|${port}|${protocol}`;
}

const key = Buffer.alloc(encode.SIZES.serviceKey);

/** The bit of a key. */
export function bitOf(service: Key): number {
  encode.writeServiceKey(key, 0, service);
  const mixed = FACTORS.reduce((sum, factor, i) => sum ^ Math.imul(key.readUInt32LE(i * 4), factor), 0);
  return Math.imul(mixed, SPREAD) >>> (32 - EA_FILTER_BITS);
}
