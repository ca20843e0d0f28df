/** Chooses what a pod says on a connection, in which pieces, and what it does to confuse whoever listens. */
import { ACK, FIN, PSH, RST, SYN } from '../attacks/craft.js';
import { alpn, type Extension, get, makeHello, records, serverName } from '../said/make.js';
import { readHello } from '../../src/said/hello.js';
import type { Random } from './random.js';
import type { SaidStep } from './said-types.js';

/** Those that the rules of said-run.ts allow or deny, and those beside them. */
const NAMES = [
  ...['good.example', 'a.good.example', 'WWW.Good.Example', 'evil.example', 'a.evil.example', 'xgood.example'],
  ...[
    'good.example.',
    'good.exampl',
    'b.a.good.example',
    '1.2.3.4',
    'good.example\0',
    `${'l'.repeat(60)}.good.example`,
  ],
];
const GOOD = ['good.example', 'a.good.example', 'WWW.Good.Example'];
const HOSTS = ['good.example', 'evil.example', 'Good.Example', 'good.example:80', 'xgood.example', ''];
/** Bytes of a segment, at most: BPF_PROG_TEST_RUN takes no larger frames. */
const LARGEST = 3000;
/** Behind a hello: what says that no other one follows, and what does not. */
const CCS = Buffer.from('140303000101', 'hex');
const DATA = Buffer.concat([Buffer.from('1703030020', 'hex'), Buffer.alloc(32, 1)]);
const FINISHED = Buffer.concat([Buffer.from('16030300250c', 'hex'), Buffer.alloc(36, 2)]);
/** Such ones that look like the beginning of a hello; and an alert that is encrypted. */
const LOOK_ALIKES = ['01ffffff', '01000100', '01004000'].map((begin) =>
  Buffer.concat([Buffer.from(`1603030028${begin}`, 'hex'), Buffer.alloc(36, 2)]),
);
const SEALED_ALERT = Buffer.concat([Buffer.from('150303001a', 'hex'), Buffer.alloc(26, 4)]);
const ALERT = Buffer.from('1503030002015a', 'hex');
const EMPTY = Buffer.from('1603030000', 'hex');
const SERVER_HELLO = (random: Buffer) =>
  Buffer.concat([Buffer.from('160303007a020000760303', 'hex'), random, Buffer.alloc(90)]);
const RETRY = Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex');

/** A hello that is right. */
function rightHello(r: Random, name: string): Buffer {
  const more: Extension[] = [];
  if (r.chance(40)) more.push([51, Buffer.alloc(r.pick([32, 65, 1216]), 9)]);
  if (r.chance(20)) more.push(alpn('h2', 'http/1.1'));
  if (r.chance(6)) more.push([42, Buffer.alloc(0)]);
  if (r.chance(10)) more.push([0xfe0d, Buffer.alloc(200, 3)]);
  if (r.chance(2)) more.push([21, Buffer.alloc(12_000)]);
  if (r.chance(97)) more.splice(r.below(more.length + 1), 0, serverName(name));
  const session = Buffer.alloc(r.pick([0, 32, 32]), 7);
  const message = makeHello({ session, extensions: more });
  const sizes = r.chance(70) ? [] : Array.from({ length: 1 + r.below(5) }, () => 1 + r.below(r.pick([4, 60, 300])));
  return records(message, sizes);
}

/** Bytes are changed, lost, added; numbers are one more or one less. */
function damaged(r: Random, bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  const at = r.below(Math.max(1, r.chance(60) ? Math.min(copy.length, 150) : copy.length));
  switch (r.below(5)) {
    case 0:
      copy[at]! ^= 1 << r.below(8);
      return copy;
    case 1:
      copy[at]! += r.pick([1, -1, 2, -2]);
      return copy;
    case 2:
      return Buffer.concat([copy.subarray(0, at), Buffer.from([r.below(256)]), copy.subarray(at)]);
    case 3:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at + 1)]);
    default:
      return copy.subarray(0, at);
  }
}

function tls(r: Random, names: readonly string[]): Buffer {
  const parts: Buffer[] = [];
  const hello = () => {
    const right = rightHello(r, r.pick(names));
    return r.chance(25) ? damaged(r, right) : right;
  };
  parts.push(hello());
  for (let n = r.below(4); n > 0; n--) parts.push(r.pick([CCS, CCS, DATA, FINISHED, ALERT, EMPTY]));
  if (r.chance(15)) parts.push(...finished(r));
  if (r.chance(35)) parts.push(hello());
  if (r.chance(30)) parts.push(DATA);
  if (r.chance(5)) parts.unshift(r.pick([Buffer.from('SSH-2.0-x\r\n'), Buffer.from([0x80, 0x2e, 1]), CCS]));
  return Buffer.concat(parts);
}

/** What a client sends that resumes a session of TLS 1.2, or something like it. */
function finished(r: Random): Buffer[] {
  const parts = [CCS, r.pick([FINISHED, ...LOOK_ALIKES]), r.pick([DATA, DATA, SEALED_ALERT])];
  if (r.chance(20)) parts.splice(r.below(3), 1);
  if (r.chance(20)) parts.splice(r.below(3), 0, r.pick([CCS, ALERT, EMPTY, ...LOOK_ALIKES]));
  return r.chance(20) ? parts.map((part) => damaged(r, part)) : parts;
}

function request(r: Random): string {
  const host = r.pick(HOSTS);
  const line = `${r.pick(['GET', 'GET', 'POST', 'PUT', 'get'])} ${r.pick(['/', '/a', '/a/12', '/b', '/a?x=/b'])}`;
  const head = (...more: string[]) =>
    [`${line} HTTP/1.${r.chance(90) ? 1 : 0}`, ...(host === '' ? [] : [`Host: ${host}`]), ...more, '', ''].join('\r\n');
  const size = r.below(80);
  switch (r.below(6)) {
    case 0:
      return `${head(`Content-Length: ${size}`)}${'x'.repeat(size)}`;
    case 1:
      return `${head('Transfer-Encoding: chunked')}${size.toString(16)}\r\n${'y'.repeat(size)}\r\n0\r\n\r\n`;
    case 2:
      // A body that looks like a request.
      return `${head(`Content-Length: ${get('GET /b HTTP/1.1').length}`)}${get('GET /b HTTP/1.1')}`;
    default:
      return head(...(r.chance(30) ? [`X-One: ${size}`] : []));
  }
}

function http(r: Random): Buffer {
  const bytes = Buffer.from(Array.from({ length: 1 + r.below(4) }, () => request(r)).join(''), 'latin1');
  return r.chance(40) ? damaged(r, bytes) : bytes;
}

/** The steps of one connection. @param rules number of its rules @param isHttp what it is about */
export function randomSaid(r: Random, rules: number, isHttp: boolean): SaidStep[] {
  const say = (names: readonly string[]) => (isHttp ? http(r) : tls(r, names));
  const steps: SaidStep[] = [{ do: 'connect', rules }];
  if (r.chance(25)) return [...steps, ...honest(r, isHttp ? http(r) : wellMeant(r))];
  if (!isHttp && r.chance(20)) return [...steps, ...tryAgain(r)];
  // Two stories, of which pieces get mixed.
  const stories = [say(GOOD), r.chance(50) ? say(NAMES) : say(GOOD)] as const;
  if (r.chance(3)) steps.push(segment(-1, stories[0].subarray(0, 200), SYN));
  if (r.chance(93)) steps.push(...open(r, 0));
  let [at, base] = [0, 0];
  const most = r.pick([8, 8, 30]);
  while (steps.length < most && at < Math.max(stories[0].length, stories[1].length)) {
    const story = r.pick([stories[0], stories[0], stories[0], stories[1]]);
    const size = r.chance(25) ? LARGEST : 1 + r.below(r.pick([4, 60, 300]));
    const kind = r.below(100);
    if (kind < 60) {
      const piece = story.subarray(at, at + size);
      steps.push(sent(r, base + at, piece));
      if (r.chance(92)) at += piece.length;
    } else if (kind < 76) {
      // What was said before, the same or other bytes, and perhaps a little more.
      const from = Math.max(0, at - 1 - r.below(r.pick([10, 100, 2000])));
      steps.push(sent(r, base + from, story.subarray(from, from + size)));
    } else if (kind < 82) {
      const from = at + 1 + r.below(100);
      steps.push(sent(r, base + from, story.subarray(from, from + size)));
    } else if (kind < 92) {
      steps.push({ do: 'acknowledge' });
    } else if (kind < 95) {
      const retry = r.chance(50);
      const bytes = SERVER_HELLO(retry ? RETRY : Buffer.alloc(32, 3)).toString('hex');
      steps.push({ do: 'answer', bytes, ...(retry ? { retry } : {}) });
    } else if (kind < 97) {
      steps.push(
        segment(base + at + r.pick([0, 0, 0, 5, -3]), Buffer.alloc(0), r.pick([FIN | ACK, RST, RST | ACK, ACK])),
      );
    } else {
      // Another beginning, with the same number or another one.
      const begins = r.chance(40) ? base : base + at + r.pick([0, 1, 70_000]);
      steps.push(...open(r, begins));
      if (r.chance(60)) [base, at] = [begins, 0];
    }
  }
  return steps;
}

function open(r: Random, at: number): SaidStep[] {
  return [segment(at - 1, Buffer.alloc(0), SYN), ...(r.chance(90) ? [segment(at, Buffer.alloc(0), ACK)] : [])];
}

function segment(at: number, bytes: Buffer, flags: number): SaidStep {
  return { do: 'send', at, bytes: bytes.toString('hex'), flags };
}

function sent(r: Random, at: number, piece: Buffer): SaidStep {
  const flags = r.chance(94) ? ACK | PSH : r.pick([ACK | FIN, PSH, ACK | 32, ACK | SYN, ACK | RST, ACK | 0xc0]);
  return {
    ...{ do: 'send', at, bytes: piece.toString('hex'), flags },
    ...(r.chance(5) ? { sum: 1 + r.below(65_534) } : {}),
    ...(r.chance(18) ? { lost: true } : {}),
  };
}

/** A hello that is allowed; sometimes it resumes a session of TLS 1.2. */
function wellMeant(r: Random): Buffer {
  const hello = rightHello(r, r.pick(GOOD));
  const read = readHello(hello);
  // Early data is of TLS 1.3.
  const resumes = read.state === 'hello' && !read.earlyData && r.chance(25);
  return resumes ? Buffer.concat([hello, CCS, r.pick(LOOK_ALIKES), r.pick([DATA, SEALED_ALERT])]) : hello;
}

/** A hello, an answer that asks for another one, and then another one, or not, all in order. */
function tryAgain(r: Random): SaidStep[] {
  const first = rightHello(r, r.pick(GOOD));
  const behind = Array.from({ length: r.below(4) }, () => r.pick([CCS, CCS, CCS, ALERT, ALERT, EMPTY, FINISHED, DATA]));
  const second = rightHello(r, r.pick(NAMES));
  const all = Buffer.concat([first, ...behind, r.chance(20) ? damaged(r, second) : second, DATA]);
  const steps = open(r, 0);
  for (let at = 0; at < all.length && steps.length < 40; ) {
    const until = at < first.length ? first.length : all.length;
    const piece = all.subarray(at, Math.min(until, at + (r.chance(60) ? LARGEST : 1 + r.below(r.pick([8, 200])))));
    steps.push(segment(at, piece, ACK | PSH));
    at += piece.length;
    if (at === first.length && r.chance(70)) {
      const bytes = SERVER_HELLO(RETRY).toString('hex');
      steps.push({ do: 'answer', bytes, retry: true });
    } else if (r.chance(20)) {
      steps.push({ do: 'acknowledge' });
    }
  }
  return steps;
}

/** A client that means well, on a bad way: loss, other order, twice the same. In the end all must have arrived. */
function honest(r: Random, stream: Buffer): SaidStep[] {
  const steps = [segment(-1, Buffer.alloc(0), SYN), segment(0, Buffer.alloc(0), ACK)];
  for (let n = r.below(7); n > 0; n--) {
    const from = r.below(stream.length);
    if (r.chance(30)) steps.push({ do: 'acknowledge' });
    else {
      const piece = stream.subarray(from, from + 1 + r.below(r.pick([10, 200, 2000])));
      const lost = r.chance(40) ? { lost: true as const } : {};
      const sum = r.chance(10) ? { sum: 7 } : {};
      steps.push({ do: 'send', at: from, bytes: piece.toString('hex'), flags: ACK | PSH, ...lost, ...sum });
    }
  }
  return [
    ...steps,
    { do: 'finish', stream: stream.toString('hex'), size: 1 + r.below(r.pick([3, 100, 1448, LARGEST])) },
  ];
}
