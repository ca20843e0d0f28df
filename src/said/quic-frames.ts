/** Frames of a client's Initial packets (RFC 9000, 12.4 and 19). Any frame that may not stand there is refused. */
import { MAX_HELLO } from './hello.js';
import { readVarint } from './quic-packet.js';

/** Bytes of the TLS stream. */
export interface CryptoFrame {
  readonly offset: number;
  readonly data: Uint8Array;
}

export type FrameFault =
  | 'no-frames'
  | 'frame' // of a type that may not stand in an Initial packet, or cut off
  | 'too-large'; // behind the bytes that a hello may take

const PADDING = 0x00;
const PING = 0x01;
const ACK = 0x02;
const ACK_ECN = 0x03;
const CRYPTO = 0x06;
const CONNECTION_CLOSE = 0x1c;

/** The CRYPTO frames of a payload, in their order; or why it is refused. */
export function readFrames(payload: Uint8Array): readonly CryptoFrame[] | FrameFault {
  if (payload.length === 0) return 'no-frames';
  const frames: CryptoFrame[] = [];
  let at = 0;
  /** The next number; NaN behind the end of the payload, which makes each comparison false. */
  const number = (): number => {
    const read = readVarint(payload, at);
    at = read?.end ?? Number.NaN;
    return read?.value ?? Number.NaN;
  };
  while (at < payload.length) {
    // All these types are below 64: a longer form is not the shortest, which is forbidden.
    const type = payload[at++];
    switch (type) {
      case PADDING:
      case PING:
        break;
      case ACK:
      case ACK_ECN: {
        number(); // the largest that is acknowledged
        number(); // delay
        // Each range has two numbers: the loop ends with the payload.
        for (let left = number() * 2 + 1; left > 0 && !Number.isNaN(at); left--) number();
        for (let counts = type === ACK_ECN ? 3 : 0; counts > 0; counts--) number();
        break;
      }
      case CRYPTO: {
        const offset = number();
        const length = number();
        if (offset + length > MAX_HELLO) return 'too-large';
        if (!(at + length <= payload.length)) return 'frame';
        frames.push({ offset, data: payload.slice(at, at + length) });
        at += length;
        break;
      }
      case CONNECTION_CLOSE: {
        number(); // error
        number(); // the frame that caused it
        const reason = number();
        at += reason;
        break;
      }
      default:
        return 'frame';
    }
    if (!(at <= payload.length)) return 'frame';
  }
  return frames;
}
