/** What bad callers do to a gRPC server: each attack opens its own connections, and has all of them closed in the end. */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { EGRESS, HEALTH, OBSERVER, PEER } from '../../src/proto/load.js';
import type { Random } from '../fuzz/random.js';
import {
  call,
  callHeaders,
  END_HEADERS,
  END_STREAM,
  frame,
  GREETING,
  INITIAL_WINDOW,
  message,
  PREFACE,
  settings,
  TYPE,
  uint32,
} from './h2.js';

export interface Caller {
  /** A new connection; errors on it are nobody's business. */
  dial(): Promise<Socket>;
  random: Random;
  /** Multiplies numbers of connections and frames: 1 in a proof, less in a test. */
  scale: number;
}

export type Attack = (c: Caller) => Promise<void>;

const STATUS = '/egress.v1.Egress/Status';
const POLICIES = '/egress.v1.Egress/Policies';
const FLOWS = '/observer.Observer/GetFlows';

/** Every method that the server has, and some that it has not. */
export const METHODS = [
  ...[EGRESS, OBSERVER, PEER, HEALTH].flatMap((s) => Object.values(s).map((m) => m.path)),
  '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
  '/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo',
];

/** Writes as fast as it is taken, until `ms` are over or the other side has had enough. */
async function pour(socket: Socket, pieces: Iterable<Buffer>, ms = 4000): Promise<void> {
  const end = Date.now() + ms;
  socket.setMaxListeners(0);
  for (const piece of pieces) {
    if (socket.destroyed || !socket.writable || Date.now() > end) return;
    if (!socket.write(piece)) await Promise.race([event(socket, 'drain'), event(socket, 'close'), sleep(500)]);
  }
}

function event(socket: Socket, name: string): Promise<void> {
  return new Promise((resolve) => socket.once(name, () => resolve()));
}

/** One connection: says it all, stays a moment, is gone. */
async function say(c: Caller, pieces: Iterable<Buffer>, opts: { read?: boolean; stayMs?: number } = {}): Promise<void> {
  const socket = await c.dial();
  try {
    if (opts.read !== false) socket.resume();
    await pour(socket, pieces);
    await Promise.race([event(socket, 'close'), sleep(opts.stayMs ?? 100)]);
  } finally {
    socket.destroy();
  }
}

function* repeat(n: number, make: (i: number) => Buffer): Generator<Buffer> {
  for (let i = 0; i < n; i++) yield make(i);
}

const bytes = (random: Random, n: number) => Buffer.from(Array.from({ length: n }, () => random.below(256)));
const stream = (i: number) => 2 * i + 1;
const n = (c: Caller, count: number) => Math.max(1, Math.round(count * c.scale));

export const ATTACKS: Readonly<Record<string, Attack>> = {
  garbage: async (c) => {
    for (let i = 0; i < n(c, 60); i++) await say(c, [bytes(c.random, 300)], { stayMs: 5 });
    for (let i = 0; i < n(c, 60); i++) await say(c, [PREFACE, bytes(c.random, 300)], { stayMs: 5 });
    for (let i = 0; i < n(c, 200); i++) {
      const one = frame(
        c.random.below(12),
        c.random.below(256),
        c.random.below(8),
        bytes(c.random, c.random.below(40)),
      );
      await say(c, [GREETING, one], { stayMs: 2 });
    }
  },
  'truncated frames': async (c) => {
    const whole = Buffer.concat([GREETING, call(1, STATUS, message(Buffer.alloc(0)))]);
    for (let at = 0; at < whole.length; at += Math.ceil(3 / c.scale))
      await say(c, [whole.subarray(0, at)], { stayMs: 2 });
    await say(c, [GREETING, frame(TYPE.headers, END_HEADERS, 1, Buffer.alloc(10), 16_000)]);
    await say(c, [GREETING, frame(TYPE.data, 0, 1, Buffer.alloc(10), 0xffffff)]);
  },
  'huge headers': async (c) => {
    for (const more of [
      { big: 'x'.repeat(1 << 20) },
      Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`h${i}`, 'v'])),
    ]) {
      const block = callHeaders(STATUS, more);
      const pieces = [frame(TYPE.headers, 0, 1, block.subarray(0, 16_000))];
      for (let at = 16_000; at < block.length; at += 16_000) {
        const last = at + 16_000 >= block.length;
        pieces.push(frame(TYPE.continuation, last ? END_HEADERS : 0, 1, block.subarray(at, at + 16_000)));
      }
      await say(c, [GREETING, ...pieces]);
    }
  },
  'CONTINUATION flood': async (c) => {
    const filler = frame(TYPE.continuation, 0, 1, Buffer.alloc(0));
    const large = frame(TYPE.continuation, 0, 1, callHeaders('/x', { a: 'y'.repeat(16_000) }));
    for (const one of [filler, large]) {
      await say(c, [GREETING, frame(TYPE.headers, 0, 1, callHeaders(STATUS)), ...repeat(n(c, 20_000), () => one)]);
    }
  },
  'rapid reset': async (c) => {
    const open = callHeaders(POLICIES);
    const body = frame(TYPE.data, END_STREAM, 0, message(Buffer.alloc(0)));
    const one = (i: number) => {
      body.writeUInt32BE(stream(i), 5);
      const reset = frame(TYPE.reset, 0, stream(i), uint32(8));
      return Buffer.concat([frame(TYPE.headers, END_HEADERS, stream(i), open), body, reset]);
    };
    for (let round = 0; round < n(c, 10); round++) await say(c, [GREETING, ...repeat(n(c, 20_000), one)]);
  },
  'SETTINGS and PING floods': async (c) => {
    const flip = (i: number) => settings({ [INITIAL_WINDOW]: 1000 + (i % 2) });
    await say(c, [GREETING, ...repeat(n(c, 100_000), flip)], { read: false });
    await say(c, [GREETING, ...repeat(n(c, 100_000), () => frame(TYPE.ping, 0, 0, Buffer.alloc(8)))], { read: false });
    await say(c, [
      GREETING,
      ...repeat(n(c, 50_000), () => frame(TYPE.priority, 0, 3, Buffer.from('0000000110', 'hex'))),
    ]);
    await say(c, [GREETING, ...repeat(n(c, 50_000), () => frame(TYPE.data, 0, 1, Buffer.alloc(0)))]);
  },
  windows: async (c) => {
    const grow = frame(TYPE.window, 0, 0, uint32(0x7fffffff));
    await say(c, [GREETING, grow, grow, grow]);
    await say(c, [GREETING, call(1, STATUS, message(Buffer.alloc(0))), frame(TYPE.window, 0, 1, uint32(0))]);
    await say(c, [PREFACE, settings({ [INITIAL_WINDOW]: 0x80000000 })]);
  },
  'answers that nobody takes': async (c) => {
    const sockets: Socket[] = [];
    try {
      for (let i = 0; i < n(c, 40); i++) {
        const socket = await c.dial();
        sockets.push(socket);
        const calls = repeat(100, (k) => call(stream(k), POLICIES, message(Buffer.alloc(0))));
        await pour(socket, [PREFACE, settings({ [INITIAL_WINDOW]: 0 }), ...calls]);
      }
      await sleep(1500);
    } finally {
      for (const s of sockets) s.destroy();
    }
  },
  'calls that never end': async (c) => {
    const open = (k: number) => frame(TYPE.headers, END_HEADERS, stream(k), callHeaders(k % 2 ? FLOWS : STATUS));
    await Promise.all(repeated(n(c, 40), () => say(c, [GREETING, ...repeat(1000, open)], { stayMs: 1000 })));
  },
  'readers who follow': async (c) => {
    const sockets: Socket[] = [];
    try {
      const request = EGRESS.GetFlows?.requestSerialize({ follow: true, number: '100' }) as Buffer;
      for (let i = 0; i < 3; i++) {
        const socket = await c.dial();
        sockets.push(socket.resume());
        await pour(socket, [GREETING, ...repeat(100, (k) => call(stream(k), FLOWS, message(request)))]);
      }
      await sleep(4000);
    } finally {
      for (const s of sockets) s.destroy();
    }
  },
  'oversized messages': async (c) => {
    for (const path of [FLOWS, STATUS]) {
      await say(c, [
        GREETING,
        frame(TYPE.headers, END_HEADERS, 1, callHeaders(path)),
        frame(TYPE.data, 0, 1, message(Buffer.alloc(10), 0, 0xffffffff)),
      ]);
      await say(c, [GREETING, call(1, path, message(Buffer.alloc(5 << 20)))]);
    }
    const bomb = gzipSync(Buffer.alloc(256 << 20));
    await say(c, [GREETING, call(1, STATUS, message(bomb, 1), { 'grpc-encoding': 'gzip' })], { stayMs: 1500 });
    const small = gzipSync(Buffer.alloc(32 << 20));
    const calls = repeat(n(c, 60), (i) => call(stream(i), STATUS, message(small, 1), { 'grpc-encoding': 'gzip' }));
    await say(c, [GREETING, ...calls], { stayMs: 2000 });
  },
  'calls that are none': async (c) => {
    const wrong: Record<string, string>[] = [
      { 'content-type': 'text/html' },
      { 'content-type': '' },
      { ':method': 'GET' },
      { ':method': 'CONNECT' },
      { ':path': '' },
      { ':path': '/' },
      { ':path': '/no.Such/Method' },
      { ':path': '/egress.v1.Egress/__proto__' },
      { ':path': `/${'x'.repeat(8000)}` },
      { ':scheme': 'ftp' },
      { 'grpc-timeout': '99999999999H' },
      { 'grpc-timeout': '-1n' },
      { 'grpc-timeout': '0n' },
      { 'grpc-encoding': 'no-such' },
      { 'grpc-accept-encoding': ',,,' },
      { 'x-bin': '!!!' },
      { 'content-length': '7' },
      { Upper: 'case' },
      { connection: 'close' },
      { 'transfer-encoding': 'chunked' },
    ];
    for (const more of wrong) {
      for (const body of [
        Buffer.alloc(0),
        message(Buffer.alloc(0)),
        message(Buffer.alloc(3), 1),
        message(Buffer.alloc(3), 77),
      ]) {
        await say(c, [GREETING, call(1, STATUS, body, more)], { stayMs: 5 });
      }
    }
    const two = Buffer.concat([message(Buffer.alloc(0)), message(Buffer.alloc(0))]);
    for (const path of METHODS) await say(c, [GREETING, call(1, path, two)], { stayMs: 5 });
  },
  'connections that never speak': async (c) => silent(c, Buffer.alloc(0)),
  'connections that only greet': async (c) => silent(c, GREETING),
};

/** Handshakes of TLS take their time: as many as there are by then. */
const CROWD_MS = 12_000;

/** Thousands at a time, held for a while. */
async function silent(c: Caller, greeting: Buffer): Promise<void> {
  const sockets: Socket[] = [];
  try {
    const end = Date.now() + CROWD_MS;
    for (let i = 0; i < n(c, 3000) && Date.now() < end; i++) {
      const socket = await Promise.race([c.dial(), sleep(2000)]).catch(() => undefined);
      if (!socket) break;
      if (greeting.length > 0) socket.write(greeting);
      sockets.push(socket);
    }
    await sleep(3000);
  } finally {
    for (const s of sockets) s.destroy();
  }
}

function repeated<T>(count: number, make: (i: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => make(i));
}
