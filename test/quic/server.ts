/** What a server makes of the datagrams that reach it, wherever they come from. */
import { randomBytes } from 'node:crypto';
import { KIND, open, packetAt } from './reference.js';
import { keysOf } from './writer.js';

/** Which byte counts where two were said: servers differ. */
export type Overlap = 'first' | 'last';

interface Connection {
  readonly first: Buffer;
  readonly chosen: Buffer;
  readonly bytes: Buffer;
  readonly known: Buffer;
  /** Bytes of hellos that were read. */
  read: number;
}

export class Server {
  /** By the client's first id, and by the server's own. */
  readonly #connections = new Map<string, Connection>();
  /** Hellos that were understood. */
  readonly hellos: Buffer[] = [];

  constructor(readonly overlap: Overlap) {}

  /** Ids that it has chosen. */
  get chosen(): readonly Buffer[] {
    return [...this.#connections.values()].map((c) => c.chosen);
  }

  /** @returns the id by which it answers; undefined: it says nothing */
  receive(datagram: Buffer): Buffer | undefined {
    let answer: Buffer | undefined;
    for (let rest = datagram; rest.length > 0; ) {
      const p = packetAt(rest);
      rest = rest.subarray(p.bytes.length);
      if (p.kind !== KIND.initial) continue;
      const known = this.#connections.get(p.to.toString('hex'));
      let frames: Buffer;
      try {
        frames = open(p, keysOf(p.version, known?.first ?? p.to));
      } catch {
        continue;
      }
      const connection = known ?? this.#begin(p.to);
      answer = connection.chosen;
      this.#add(connection, frames);
    }
    return answer;
  }

  #begin(first: Buffer): Connection {
    const made = { first, chosen: randomBytes(8), bytes: Buffer.alloc(400), known: Buffer.alloc(400), read: 0 };
    this.#connections.set(first.toString('hex'), made);
    this.#connections.set(made.chosen.toString('hex'), made);
    return made;
  }

  /** Of frames, only CRYPTO with offsets and sizes below 16384. */
  #add(c: Connection, frames: Buffer): void {
    const integer = (at: number): [value: number, next: number] => {
      const short = (frames[at] as number) < 64;
      return [short ? (frames[at] as number) : frames.readUInt16BE(at) & 0x3fff, at + (short ? 1 : 2)];
    };
    for (let at = 0; at < frames.length; ) {
      if (frames[at++] !== 6) continue;
      const [offset, behind] = integer(at);
      const [length, from] = integer(behind);
      for (let i = 0; i < length; i++) {
        if (this.overlap === 'first' && c.known[offset + i]) continue;
        c.bytes[offset + i] = frames[from + i] as number;
        c.known[offset + i] = 1;
      }
      at = from + length;
    }
    this.#read(c);
  }

  #read(c: Connection): void {
    for (;;) {
      const gap = c.known.indexOf(0, c.read);
      if (gap < c.read + 4) return;
      const end = c.read + 4 + c.bytes.readUIntBE(c.read + 1, 3);
      if (gap < end) return;
      this.hellos.push(Buffer.from(c.bytes.subarray(c.read, end)));
      c.read = end;
    }
  }
}
