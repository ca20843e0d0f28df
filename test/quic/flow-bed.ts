/** bpf/quic_flow.h with flows of a test's own: what it says of each datagram (flow.bpf.c). */
import { randomBytes } from 'node:crypto';
import { STRUCTS } from '../../src/image/layout.gen.js';
import { TestObject } from './object.js';
import { crypto, type InitialOptions, initial } from './writer.js';

/** enum quic_verdict. */
export const VERDICT = {
  pass: 0,
  hold: 1,
  saysOther: 2,
  deny: 3,
  unreadable: 4,
  version: 5,
  tooLarge: 6,
  lost: 7,
  noRoom: 8,
} as const;
export const nameOf = (verdict: number): string =>
  Object.entries(VERDICT).find(([, value]) => value === verdict)?.[0] ?? String(verdict);

/** The rules of hellos: what allows is odd. */
export const [ALLOWS, ALSO_ALLOWS, DENIES] = [1, 3, 2];

/** A hello of `size` bytes with its header, whose first byte and last byte make this rule. */
export function hello(rule: number, size = 300): Buffer {
  const body = randomBytes(size - 4);
  body[0] = rule ^ (body.at(-1) as number);
  return Buffer.concat([Buffer.from([1, 0, (size - 4) >> 8, (size - 4) & 255]), body]);
}

/** An Initial packet with bytes `from` to `to` of what its client says. */
export const part = (said: Buffer, from: number, to: number, opts: InitialOptions): Buffer =>
  initial(crypto(from, said.subarray(from, to)), opts);
export const whole = (said: Buffer, opts: InitialOptions): Buffer => part(said, 0, said.length, opts);

/** struct quic_state. */
const STATE = 8;
const MOST_FLOWS = 16_384;
const HOLDER = 16;

export class FlowBed {
  readonly #object = new TestObject('flow');
  readonly #sent = this.#object.program('sent');
  readonly #received = this.#object.program('received');
  readonly #long = this.#object.program('has_long_header');
  readonly row = this.#object.program('row_of');
  readonly #flows = this.#object.map('quic_flows');
  readonly #holders = this.#object.map('quic_holders');
  readonly #rows = this.#object.map('quic_rows');
  readonly #judged = this.#object.map('quic_judged_hello');
  #made = 0;

  constructor() {
    const state = this.#object.map('state');
    const value = state.lookup(Buffer.alloc(4)) as Buffer;
    randomBytes(96).copy(value, STRUCTS.ea_state.fields.secret.offset);
    state.update(Buffer.alloc(4), value);
  }

  close(): void {
    this.#object.close();
  }

  /** Whether one of these datagrams begins with a long header. */
  hasLongHeader(datagrams: readonly Buffer[]): boolean {
    const gsoSize = datagrams.length > 1 ? (datagrams[0] as Buffer).length : 0;
    return this.#long(Buffer.concat(datagrams), [], { gsoSize }).retval === 1;
  }

  /** The first bytes of the hello that was judged last. */
  get judged(): Buffer {
    const value = this.#judged.lookup(Buffer.alloc(4)) as Buffer;
    return value.subarray(4, 4 + Math.min(60, value.readUInt32LE(0)));
  }

  /** A flow that has sent nothing yet. @param each what becomes of all its hellos */
  flow(endpoint = 1, each?: 'allow' | 'deny'): Flow {
    const index = Buffer.alloc(4);
    index.writeUInt32LE(this.#made++ % MOST_FLOWS);
    this.#flows.update(index, Buffer.alloc(STATE));
    const cb = [index.readUInt32LE(), endpoint, each ? ['allow', 'deny'].indexOf(each) + 1 : 0];
    const of = (datagrams: readonly Buffer[]) => ({
      gsoSize: datagrams.length > 1 ? (datagrams[0] as Buffer).length : 0,
    });
    return {
      send: (...datagrams) => {
        const r = this.#sent(Buffer.concat(datagrams), cb, of(datagrams));
        return { verdict: r.retval, judged: r.cb[2] === 1, rule: r.cb[3] as number };
      },
      receive: (...datagrams) => {
        this.#received(Buffer.concat(datagrams), cb, of(datagrams));
      },
      holds: () => this.#buffer(index) !== undefined,
      lose: () => {
        const buffer = this.#buffer(index);
        if (buffer !== undefined) this.#free(buffer);
      },
      forget: () => this.#flows.update(index, Buffer.alloc(STATE)),
    };
  }

  #buffer(flow: Buffer): number | undefined {
    const buffer = (this.#flows.lookup(flow) as Buffer).readUInt16LE(4);
    return buffer === 0 ? undefined : buffer - 1;
  }

  #holder(buffer: number): { key: Buffer; value: Buffer } {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(buffer);
    return { key, value: this.#holders.lookup(key) as Buffer };
  }

  /** Takes a buffer away from its holder. */
  #free(buffer: number): void {
    const { key, value } = this.#holder(buffer);
    value.writeUInt32LE(0, 4);
    this.#holders.update(key, value);
  }

  /** Buffers that each endpoint holds. */
  holders(): Map<number, number> {
    const held = new Map<number, number>();
    for (let buffer = 0; buffer < 128; buffer++) {
      const endpoint = this.#holder(buffer).value.readUInt32LE(4);
      if (endpoint !== 0) held.set(endpoint, (held.get(endpoint) ?? 0) + 1);
    }
    return held;
  }

  freeAll(): void {
    for (let buffer = 0; buffer < 128; buffer++) this.#free(buffer);
  }

  /** As if nobody had used any buffer for 20 seconds. */
  age(): void {
    for (let buffer = 0; buffer < 128; buffer++) {
      const { key, value } = this.#holder(buffer);
      const used = value.subarray(8, HOLDER);
      if (used.readBigUInt64LE() !== 0n) used.writeBigUInt64LE(used.readBigUInt64LE() - 20_000_000_000n);
      this.#holders.update(key, value);
    }
  }

  /** What an endpoint has noted in this minute; afterwards it has noted `then`. */
  notes(endpoint: number, then: number): number {
    const row = this.row(Buffer.alloc(1), [0, endpoint, this.minute]).retval - 1;
    const key = Buffer.alloc(4);
    key.writeUInt32LE(row);
    const value = this.#rows.lookup(key) as Buffer;
    const count = value.readUInt32LE(8);
    value.writeUInt32LE(then, 8);
    this.#rows.update(key, value);
    return count;
  }

  /** As if notes had been made `minutes` earlier. */
  ageNotes(endpoint: number, minutes: number): void {
    const row = this.row(Buffer.alloc(1), [0, endpoint, this.minute]).retval - 1;
    const key = Buffer.alloc(4);
    key.writeUInt32LE(row);
    const value = this.#rows.lookup(key) as Buffer;
    const minute = value.readUInt32LE(4);
    value.writeUInt32LE(minute - minutes, 4);
    // Even and odd minutes change places.
    if (minutes % 2) {
      const half = (value.length - 16) / 2;
      const [even, odd] = [Buffer.from(value.subarray(16, 16 + half)), Buffer.from(value.subarray(16 + half))];
      odd.copy(value, 16);
      even.copy(value, 16 + half);
    }
    this.#rows.update(key, value);
  }

  /** In units of 64 s of CLOCK_MONOTONIC. */
  get minute(): number {
    return Math.floor(Number(process.hrtime.bigint()) / 64e9);
  }
}

export interface Flow {
  /** Gives it datagrams of one packet. */
  send(...datagrams: Buffer[]): { readonly verdict: number; readonly judged: boolean; readonly rule: number };
  /** What its peer sends. */
  receive(...datagrams: Buffer[]): void;
  holds(): boolean;
  /** Its buffer is taken away. */
  lose(): void;
  /** Its entry is taken away. */
  forget(): void;
}
