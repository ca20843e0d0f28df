/** DNS messages as bytes, and the packets that carry them. */
import { parseAddr } from '../../src/net/addr.js';

export const TYPES = { A: 1, NS: 2, CNAME: 5, TXT: 16, AAAA: 28, OPT: 41, SVCB: 64, HTTPS: 65 } as const;

export function be16(...values: number[]): Buffer {
  const b = Buffer.alloc(values.length * 2);
  for (const [i, value] of values.entries()) b.writeUInt16BE(value & 0xffff, i * 2);
  return b;
}

export function be32(value: number): Buffer {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(value >>> 0);
  return b;
}

/** A name without compression. Each character is a byte; a dot separates labels; the root is ''. */
export function wireName(name: string): Buffer {
  const labels = name === '' ? [] : name.split('.');
  return Buffer.concat([
    ...labels.map((l) => Buffer.concat([Buffer.from([l.length]), Buffer.from(l, 'latin1')])),
    Buffer.of(0),
  ]);
}

export interface WireRecord {
  owner: string;
  type: number;
  class?: number;
  ttl?: number;
  /** Bytes, or a name that may be compressed. */
  data: Buffer | { name: string };
}

export interface WireMessage {
  id?: number;
  flags?: number;
  questions?: readonly { name: string; type: number; class?: number }[];
  answers?: readonly WireRecord[];
  authority?: readonly WireRecord[];
  additional?: readonly WireRecord[];
  compress?: boolean;
}

/** Encodes a message; with `compress`, names point to earlier ones wherever they can. */
export function encodeMessage(m: WireMessage): Buffer {
  const parts: Buffer[] = [];
  const known = new Map<string, number>();
  let size = 0;
  const put = (...bytes: Buffer[]) => {
    for (const b of bytes) {
      parts.push(b);
      size += b.length;
    }
  };
  const putName = (name: string, may = m.compress ?? true) => {
    const labels = name === '' ? [] : name.split('.');
    for (let i = 0; i < labels.length; i++) {
      const rest = labels.slice(i).join('.');
      const at = known.get(rest);
      if (may && at !== undefined) {
        put(be16(0xc000 | at));
        return;
      }
      if (size < 0x3fff && !known.has(rest)) known.set(rest, size);
      const label = labels[i] as string;
      put(Buffer.from([label.length]), Buffer.from(label, 'latin1'));
    }
    put(Buffer.of(0));
  };
  const sections = [m.answers ?? [], m.authority ?? [], m.additional ?? []];
  const questions = m.questions ?? [];
  put(be16(m.id ?? 0, m.flags ?? 0x8180, questions.length, ...sections.map((s) => s.length)));
  for (const q of questions) {
    putName(q.name);
    put(be16(q.type, q.class ?? 1));
  }
  for (const r of sections.flat()) {
    putName(r.owner);
    put(be16(r.type, r.class ?? 1), be32(r.ttl ?? 60));
    if (Buffer.isBuffer(r.data)) {
      put(be16(r.data.length), r.data);
    } else {
      const length = Buffer.alloc(2);
      put(length);
      const before = size;
      putName(r.data.name);
      length.writeUInt16BE(size - before);
    }
  }
  return Buffer.concat(parts);
}

export const a = (owner: string, ip: string, ttl = 60): WireRecord => ({
  owner,
  type: parseAddr(ip).family === 4 ? TYPES.A : TYPES.AAAA,
  ttl,
  data: addressBytes(ip),
});
export const cname = (owner: string, name: string, ttl = 60): WireRecord => ({
  owner,
  type: TYPES.CNAME,
  ttl,
  data: { name },
});

export function addressBytes(ip: string): Buffer {
  const { family, bytes } = parseAddr(ip);
  return Buffer.from(family === 4 ? bytes.subarray(12) : bytes);
}

/** An HTTPS record's data: priority, target, parameters by key. */
export function svcb(priority: number, target: string, params: readonly (readonly [number, Buffer])[]): Buffer {
  return Buffer.concat([
    be16(priority),
    wireName(target),
    ...params.flatMap(([key, value]) => [be16(key, value.length), value]),
  ]);
}

export interface Ends {
  src: string;
  sport: number;
  dst: string;
  dport: number;
}

/** Flags of TCP. */
export const FLAGS = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16 } as const;

export function udpFrame(e: Ends, payload: Buffer): Buffer {
  return ipFrame(e, 17, Buffer.concat([be16(e.sport, e.dport, 8 + payload.length, 0), payload]));
}

export function tcpFrame(
  e: Ends,
  { seq, ack = 0, flags = FLAGS.ACK }: { seq: number; ack?: number; flags?: number },
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const header = Buffer.concat([be16(e.sport, e.dport), be32(seq), be32(ack), Buffer.from([0x50, flags])]);
  return ipFrame(e, 6, Buffer.concat([header, be16(1024, 0, 0), payload]));
}

const ETHERNET = Buffer.from('020000000001020000000002', 'hex');

function ipFrame({ src, dst }: Ends, protocol: number, l4: Buffer): Buffer {
  const [from, to] = [addressBytes(src), addressBytes(dst)];
  if (from.length === 4) {
    const ip = Buffer.alloc(12);
    ip[0] = 0x45;
    ip.writeUInt16BE(20 + l4.length, 2);
    ip[8] = 64;
    ip[9] = protocol;
    return Buffer.concat([ETHERNET, be16(0x0800), ip, from, to, l4]);
  }
  const ip = Buffer.alloc(8);
  ip[0] = 0x60;
  ip.writeUInt16BE(l4.length, 4);
  ip[6] = protocol;
  ip[7] = 64;
  return Buffer.concat([ETHERNET, be16(0x86dd), ip, from, to, l4]);
}
