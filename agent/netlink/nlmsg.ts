/**
 * Encoding and decoding of netlink messages, with bounds checks and without system
 * calls. Layout: linux/netlink.h, RFC 3549. All integers of a netlink header are
 * in host order; the agent supports little-endian hosts only.
 */
import { AgentError } from '../../src/errors.js';

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_EXCL = 0x200;
export const NLM_F_DUMP = 0x300;
export const NLM_F_CREATE = 0x400;

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

/** sizeof(struct nlmsghdr). */
const HEADER = 16;
/** NLA_F_NESTED and NLA_F_NET_BYTEORDER are flags in the attribute's type. */
const NLA_TYPE_MASK = 0x3fff;
const NLA_F_NESTED = 0x8000;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;

export interface NlMessage {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  /** The bytes after the header, without padding. */
  readonly body: Buffer;
}

export type Attrs = ReadonlyMap<number, Buffer>;

/** Rounds up to 4. Not by bit operations: a false length may have more than 31 bits. */
const align4 = (n: number): number => Math.ceil(n / 4) * 4;

/** One attribute: `struct nlattr`, payload, padding to 4 bytes. */
export function attr(type: number, payload: Buffer): Buffer {
  const out = Buffer.alloc(align4(4 + payload.length));
  out.writeUInt16LE(4 + payload.length, 0);
  out.writeUInt16LE(type, 2);
  payload.copy(out, 4);
  return out;
}

export function attrU32(type: number, value: number): Buffer {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(value >>> 0);
  return attr(type, b);
}

/** A string with its terminating NUL. */
export function attrString(type: number, value: string): Buffer {
  return attr(type, Buffer.from(`${value}\0`));
}

export function attrNested(type: number, ...inner: Buffer[]): Buffer {
  return attr(type | NLA_F_NESTED, Buffer.concat(inner));
}

/** A whole message, ready to be sent. `parts`: the family's own header, then attributes. */
export function message(type: number, flags: number, seq: number, parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts as Buffer[]);
  const out = Buffer.alloc(align4(HEADER + body.length));
  out.writeUInt32LE(HEADER + body.length, 0);
  out.writeUInt16LE(type, 4);
  out.writeUInt16LE(flags, 6);
  out.writeUInt32LE(seq, 8);
  body.copy(out, HEADER);
  return out;
}

/** The messages of one datagram. Throws INTERNAL if a length exceeds the buffer. */
export function parseMessages(buf: Buffer): NlMessage[] {
  const out: NlMessage[] = [];
  let at = 0;
  while (at + HEADER <= buf.length) {
    const length = buf.readUInt32LE(at);
    if (length < HEADER || at + length > buf.length) {
      throw new AgentError('INTERNAL', `netlink message of ${length} bytes at ${at} of ${buf.length}`);
    }
    out.push({
      type: buf.readUInt16LE(at + 4),
      flags: buf.readUInt16LE(at + 6),
      seq: buf.readUInt32LE(at + 8),
      body: buf.subarray(at + HEADER, at + length),
    });
    at += align4(length);
  }
  return out;
}

/**
 * The attributes from `offset` on, by type without its flags; the last one if a type is
 * repeated. A length that exceeds the buffer ends the list, as in the kernel's nla_for_each_attr.
 */
export function parseAttrs(buf: Buffer, offset: number): Attrs {
  const out = new Map<number, Buffer>();
  let at = offset;
  while (at + 4 <= buf.length) {
    const length = buf.readUInt16LE(at);
    if (length < 4 || at + length > buf.length) break;
    out.set(buf.readUInt16LE(at + 2) & NLA_TYPE_MASK, buf.subarray(at + 4, at + length));
    at += align4(length);
  }
  return out;
}

/** The first four bytes as an unsigned number, little-endian; undefined if there are fewer. */
export function u32Of(b: Buffer | undefined): number | undefined {
  return b && b.length >= 4 ? b.readUInt32LE(0) : undefined;
}

/** The text up to the first NUL; '' if the attribute is missing. */
export function stringOf(b: Buffer | undefined): string {
  if (!b) return '';
  const end = b.indexOf(0);
  return b.toString('utf8', 0, end < 0 ? b.length : end);
}

/**
 * The error number of an NLMSG_ERROR or NLMSG_DONE message, positive; 0 is an acknowledgement.
 * `text` is the kernel's own explanation (NETLINK_EXT_ACK), or ''.
 */
export function parseError(m: NlMessage): { errno: number; text: string } {
  const errno = m.body.length >= 4 ? -m.body.readInt32LE(0) : 0;
  let text = '';
  if (m.type === NLMSG_ERROR && m.flags & NLM_F_ACK_TLVS && m.body.length >= 4 + HEADER) {
    const original = m.flags & NLM_F_CAPPED ? HEADER : m.body.readUInt32LE(4);
    text = stringOf(parseAttrs(m.body, 4 + align4(original)).get(NLMSGERR_ATTR_MSG));
  }
  return { errno, text };
}
