/** Enters a name that the agent has resolved into the tables, with the program `learn_seed`: only programs insert. */
import * as L from '../../src/image/layout.gen.js';
import { parseAddr } from '../../src/net/addr.js';
import type { BpfProgram } from '../kernel/libbpf/program.js';

const S = L.STRUCTS.ea_name_seed;
const { EA_NAME_TEXT } = L.ENUMS.ea_name_sizes;
const { EA_SEED_ENTERED, EA_SEED_KNOWN } = L.ENUMS.ea_seeded;
/** struct __sk_buff up to its end; cb[] stands at byte 48. */
const SKB_SIZE = 192;
const CB = 48;
const ETHERNET = 14;

/** An address that the agent has resolved for an endpoint. */
export interface SeededName {
  readonly endpoint: number;
  readonly ifindex: number;
  /** Lower case, without the final dot. */
  readonly name: string;
  /** Canonical text. */
  readonly ip: string;
  readonly ttlS: number;
  readonly resolver: { readonly ip: string; readonly port: number };
}

export interface NameSeeds {
  /** @returns whether it is in the tables now. Throws KERNEL */
  enter(seed: SeededName): boolean;
}

export class NameSeedProgram implements NameSeeds {
  readonly #program: Pick<BpfProgram, 'testRun'>;

  constructor(program: Pick<BpfProgram, 'testRun'>) {
    this.#program = program;
  }

  enter(seed: SeededName): boolean {
    const ctx = Buffer.alloc(SKB_SIZE);
    const { ctxOut } = this.#program.testRun(Buffer.concat([Buffer.alloc(ETHERNET), seedBytes(seed)]), { ctx });
    const result = ctxOut?.readUInt32LE(CB);
    return result === EA_SEED_ENTERED || result === EA_SEED_KNOWN;
  }
}

/** struct ea_name_seed. */
export function seedBytes({ endpoint, ifindex, name, ip, ttlS, resolver }: SeededName): Buffer {
  const f = S.fields;
  const text = Buffer.from(name, 'latin1').subarray(0, EA_NAME_TEXT - 1);
  const bytes = Buffer.alloc(S.size);
  bytes.writeUInt32LE(endpoint, f.endpoint.offset);
  bytes.writeUInt32LE(ifindex, f.ifindex.offset);
  bytes.writeUInt32LE(Math.min(Math.max(ttlS, 0), 0x7fff_ffff), f.ttl_s.offset);
  bytes.writeUInt16LE(text.length, f.length.offset);
  bytes.writeUInt16BE(resolver.port, f.resolver_port.offset);
  Buffer.from(parseAddr(ip).bytes).copy(bytes, f.addr.offset);
  Buffer.from(parseAddr(resolver.ip).bytes).copy(bytes, f.resolver.offset);
  text.copy(bytes, f.text.offset);
  return bytes;
}
