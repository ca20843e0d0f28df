/**
 * The map `service_filter`: a bit for each hash of a key of `services`, and of `dns_servers` in UDP and TCP. If the bit
 * is 0, packets skip the look-ups (bpf/services.h). A bit is set before the first entry with it is written, and cleared
 * after the last one is deleted: an agent that is killed in between leaves a bit too many, never one too few.
 */
import * as L from '../../../src/image/layout.gen.js';
import type { ImageService } from '../../../src/image/types.js';
import * as encode from './encode.js';
import type { BpfMap } from '../../kernel/libbpf/map.js';
import { formatBytes16 } from '../../../src/net/addr.js';

const { EA_FILTER_BITS } = L.ENUMS.ea_filter;
/** As in may_be_service(). */
const FACTORS = [1, 3, 5, 7, 11];
const SPREAD = 0x9e3779b1;

type Key = Pick<ImageService, 'ip' | 'port' | 'protocol'>;

/** A trusted resolver: a key of `dns_servers`. */
export type DnsServer = Pick<ImageService, 'ip' | 'port'>;

/** Protocols of DNS. */
const [TCP, UDP] = [6, 17];
const SK = L.STRUCTS.ea_service_key;
const filters = new WeakMap<object, ServiceFilter>();

export class ServiceFilter {
  /** Bit n is bit n % 8 of byte n / 8: little endian, as all of encode.ts. */
  readonly #bytes: Uint8Array;
  /** Names of existing entries, by bit. */
  readonly #keys = new Map<number, Set<string>>();
  readonly #servers: BpfMap | undefined;

  /** The one filter of these maps: those who write `services` and `dns_servers` must know of each other's bits. */
  static of(maps: Record<string, BpfMap>): ServiceFilter {
    let filter = filters.get(maps);
    if (!filter) filters.set(maps, (filter = new ServiceFilter(maps)));
    return filter;
  }

  constructor(maps: Record<string, BpfMap>) {
    this.#servers = maps.dns_servers;
    const memory = encode.map(maps, 'service_filter').mmap();
    this.#bytes = new Uint8Array(memory.buffer, memory.byteOffset, 2 ** EA_FILTER_BITS / 8);
  }

  /** Sets the bits of Services. Call it before they are written. */
  add(services: Iterable<Key>): void {
    for (const service of services) this.#add(service, nameOf(service));
  }

  /** Sets the bits of resolvers. Call it before they are written. */
  addServers(servers: Iterable<DnsServer>): void {
    for (const key of keysOf(servers)) this.#add(key, `dns|${nameOf(key)}`);
  }

  #add(key: Key, name: string): void {
    const bit = bitOf(key);
    const names = this.#keys.get(bit);
    if (names) names.add(name);
    else this.#keys.set(bit, new Set([name]));
    Atomics.or(this.#bytes, bit >> 3, 1 << (bit & 7));
  }

  /** Clears the bits of Services. Call it after they are deleted. */
  remove(services: Iterable<Key>): void {
    for (const service of services) this.#remove(service, nameOf(service));
  }

  /** Clears the bits of resolvers. Call it after they are deleted. */
  removeServers(servers: Iterable<DnsServer>): void {
    for (const key of keysOf(servers)) this.#remove(key, `dns|${nameOf(key)}`);
  }

  #remove(key: Key, name: string): void {
    const bit = bitOf(key);
    const names = this.#keys.get(bit);
    if (!names?.delete(name) || names.size > 0) return;
    this.#keys.delete(bit);
    Atomics.and(this.#bytes, bit >> 3, ~(1 << (bit & 7)));
  }

  /** The resolvers in the map `dns_servers`, also those that an earlier agent wrote. */
  servers(): DnsServer[] {
    const out: DnsServer[] = [];
    for (const { keys, count } of this.#servers?.batches() ?? []) {
      for (let i = 0; i < count; i++) {
        const at = i * SK.size;
        const address = keys.subarray(at + SK.fields.addr.offset, at + SK.fields.addr.offset + 16);
        const mapped =
          address.readUInt32LE(0) === 0 && address.readUInt32LE(4) === 0 && address.readUInt32LE(8) === 0xffff0000;
        out.push({ ip: formatBytes16(address, mapped ? 4 : 6), port: keys.readUInt16BE(at + SK.fields.port.offset) });
      }
    }
    return out;
  }

  /**
   * Brings the bits to the content of the maps; bits of existing Services and resolvers stay set.
   * @param services all in the map
   */
  restore(services: Iterable<Key>): void {
    this.#keys.clear();
    this.add(services);
    this.addServers(this.servers());
    bytesOf(this.#keys.keys()).forEach((byte, i) => {
      if (this.#bytes[i] !== byte) Atomics.store(this.#bytes, i, byte);
    });
  }

  /** @param services all that should be in the map. @returns one line for each wrong byte */
  differences(services: Iterable<Key>): string[] {
    const out: string[] = [];
    bytesOf([...services, ...keysOf(this.servers())].map(bitOf)).forEach((byte, i) => {
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

/** The keys of resolvers in the filter: one for each protocol. */
function* keysOf(servers: Iterable<DnsServer>): Generator<Key> {
  for (const { ip, port } of servers) for (const protocol of [UDP, TCP]) yield { ip, port, protocol };
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
