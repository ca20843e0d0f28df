/** HTTP/2 by hand (RFC 9113, RFC 7541 without Huffman and tables): a library would not say what bad callers say. */

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export const TYPE = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const;

export const END_STREAM = 1;
export const END_HEADERS = 4;

/** @param length what the head says it is, where that is not true */
export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Buffer = Buffer.alloc(0),
  length = payload.length,
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** HPACK's integers with a prefix of 7 bits. */
function int7(n: number): Buffer {
  if (n < 127) return Buffer.from([n]);
  const out = [127];
  for (n -= 127; n >= 128; n = Math.floor(n / 128)) out.push((n % 128) | 128);
  out.push(n);
  return Buffer.from(out);
}

/** A literal that no table keeps. */
export function header(name: string, value: string): Buffer {
  const [n, v] = [Buffer.from(name, 'latin1'), Buffer.from(value, 'latin1')];
  return Buffer.concat([Buffer.from([0]), int7(n.length), n, int7(v.length), v]);
}

/** What begins a call. @param more in place of, or after, what is usual */
export function callHeaders(path: string, more: Readonly<Record<string, string>> = {}): Buffer {
  const usual = {
    ':method': 'POST',
    ':scheme': 'http',
    ':path': path,
    ':authority': 'localhost',
    'content-type': 'application/grpc',
    te: 'trailers',
  };
  return Buffer.concat(Object.entries({ ...usual, ...more }).map(([k, v]) => header(k, v)));
}

/** A length-prefixed gRPC message. */
export function message(payload: Buffer, compressed = 0, length = payload.length): Buffer {
  const head = Buffer.alloc(5);
  head[0] = compressed;
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, payload]);
}

/** A whole call of a message on one stream, in frames of 16 KiB. */
export function call(stream: number, path: string, body: Buffer, more: Readonly<Record<string, string>> = {}): Buffer {
  const frames = [frame(TYPE.headers, END_HEADERS, stream, callHeaders(path, more))];
  for (let at = 0; at < body.length; at += 16_384)
    frames.push(frame(TYPE.data, 0, stream, body.subarray(at, at + 16_384)));
  frames.push(frame(TYPE.data, END_STREAM, stream));
  return Buffer.concat(frames);
}

/** SETTINGS: identifier to value. */
export function settings(values: Readonly<Record<number, number>> = {}): Buffer {
  const entries = Object.entries(values).map(([id, value]) => {
    const b = Buffer.alloc(6);
    b.writeUInt16BE(Number(id));
    b.writeUInt32BE(value, 2);
    return b;
  });
  return frame(TYPE.settings, 0, 0, Buffer.concat(entries));
}
export const INITIAL_WINDOW = 4;

export function uint32(n: number): Buffer {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(n);
  return b;
}

/** The preface and settings. */
export const GREETING = Buffer.concat([PREFACE, settings()]);
