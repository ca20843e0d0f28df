/** Teaches a name by hand, as if its answer had been delivered: for names that the agent resolves itself. */
import { STRUCTS } from '../../src/image/layout.gen.js';
import { parseAddr } from '../../src/net/addr.js';
import type { BpfProgram } from '../kernel/libbpf/program.js';

const { size, fields } = STRUCTS.ea_learn;
const ETHERNET = 14;
const SKB_SIZE = 192;
/** Of `cb[2]` in struct __sk_buff. */
const RESULT = 56;

/** An address, and the name under which an endpoint is to know it. */
export interface Lesson {
  /** Id of the endpoint, and the host-side interface that pays for the entry. */
  readonly endpoint: number;
  readonly ifindex: number;
  /** Lower case, without the final dot; at most 253 bytes; empty: the root. */
  readonly name: string;
  readonly address: string;
  readonly ttl: number;
  /** The endpoint asked for another name; this one is the target of a CNAME. */
  readonly alias?: boolean;
  /** Who answered. */
  readonly resolver?: { readonly address: string; readonly port: number };
  /** enum ea_name_flags. */
  readonly flags?: number;
}

/**
 * Runs the program `learn`.
 * @returns `busy`: try again; `no room`: the endpoint has no share left, or the text is no name
 */
export function teach(program: BpfProgram, lesson: Lesson): 'learned' | 'no room' | 'busy' {
  const text = Buffer.from(lesson.name, 'latin1');
  if (text.length > 253) return 'no room';
  const packet = Buffer.alloc(ETHERNET + size + text.length);
  const at = packet.subarray(ETHERNET);
  at.writeUInt32LE(lesson.endpoint, fields.endpoint.offset);
  at.writeUInt32LE(lesson.ifindex, fields.ifindex.offset);
  at.writeUInt32LE(lesson.ttl, fields.ttl_s.offset);
  at.writeUInt32LE(lesson.alias ? 1 : 0, fields.alias.offset);
  at.set(parseAddr(lesson.address).bytes, fields.addr.offset);
  if (lesson.resolver) {
    at.set(parseAddr(lesson.resolver.address).bytes, fields.resolver.offset);
    at.writeUInt16BE(lesson.resolver.port, fields.resolver_port.offset);
  }
  at.writeUInt8(lesson.flags ?? 0, fields.flags.offset);
  at.writeUInt8(text.length, fields.length.offset);
  text.copy(at, size);
  const { ctxOut } = program.testRun(packet, { ctx: Buffer.alloc(SKB_SIZE) });
  const result = ctxOut?.readInt32LE(RESULT) ?? -1;
  return result === 0 ? 'learned' : result === -2 ? 'busy' : 'no room';
}
