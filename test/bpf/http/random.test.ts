/** Streams of HTTP requests at random, in any pieces, in the kernel and by the reference (src/said/http.ts). */
import t from 'tap';
import { isCanonicalPath } from '../../../src/said/http-path.js';
import { type HttpEvent, HttpStream } from '../../../src/said/http.js';
import { StatusReader } from '../../../src/said/http-status.js';
import fc from '../../seeded.js';
import { HttpKernel } from './kernel.js';
import { type Event, KernelStream } from './stream.js';

const numRuns = Number(process.env.EA_ROUNDS ?? 3000);
const kernel = new HttpKernel();
t.teardown(() => kernel.close());

const latin1 = (text: string) => Buffer.from(text, 'latin1');

const target = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom('/', '/a', '/a/b?c=d', '/a/b.c/%20', '*', 'http://a', 'http://a/b', 'http://a?b', 'a:1'),
  },
  fc
    .string({
      unit: fc.constantFrom(
        '/',
        '.',
        '%',
        '2',
        'f',
        'e',
        'E',
        '5',
        'c',
        '0',
        '?',
        ';',
        '\\',
        '#',
        'a',
        '*',
        ':',
        '[',
        ']',
        '\x80',
      ),
      maxLength: 12,
    })
    .map((s) => `/${s}`),
);
const method = fc.constantFrom(
  'GET',
  'GET',
  'GET',
  'POST',
  'OPTIONS',
  'CONNECT',
  'get',
  'PRI',
  'M'.repeat(32),
  'M'.repeat(33),
  'G(T',
  'xconnect',
);
const version = fc.constantFrom('HTTP/1.1', 'HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/1.0', 'HTTP/2.0', 'http/1.1', '');
const line = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom('Accept: */*', 'X-Some-Header:  some longer value \t', 'Y:', 'Connection: keep-alive'),
  },
  fc
    .constantFrom(
      'Host: a',
      'host:a',
      'Host: a:1',
      'Host: A',
      'Content-Length: 3',
      'Content-Length: 0',
      'content-length: 03',
      'Transfer-Encoding: chunked',
    )
    .chain((l) => fc.constantFrom(l, l, l, `${l} `, l.toUpperCase(), l.replace(':', ' :'))),
  fc.constantFrom(
    'Upgrade: x',
    'Transfer-Encoding: x',
    'Host: ',
    'Host: b',
    ' fold',
    ': x',
    'x',
    'X: \xff',
    'X: \x7f',
    'Expect: 100-continue',
  ),
);
const ending = fc.constantFrom(
  '\r\n',
  '\r\n',
  '\r\n',
  '\r\n',
  '\r\n',
  '\r\n',
  '\r\n',
  '\r\n',
  '\r\n',
  '\n',
  '\r',
  '\r\r\n',
);
const sizes = fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 3 });
const chunks = sizes.map(
  (of) => `${of.map((n) => `${n.toString(16)}\r\n${'\r\n0\r\n\r\nGET'.padEnd(n).slice(0, n)}\r\n`).join('')}0\r\n\r\n`,
);

const plain = fc.constantFrom(
  'GET /a HTTP/1.1\r\nHost: a\r\n\r\n',
  'GET /b?c HTTP/1.0\r\n\r\n',
  'POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\n',
);
const request = fc.oneof(
  { weight: 2, arbitrary: plain },
  {
    weight: 2,
    arbitrary: chunks.map((body) => `PUT /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${body}`),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(method, target, version, fc.array(line, { maxLength: 4 }), ending, fc.constantFrom('', 'abc', '0\r\n\r\n'))
      .map(([m, p, v, lines, end, body]) => `${[`${m} ${p} ${v}`, 'Host: a', ...lines].join(end)}\r\n\r\n${body}`),
  },
  fc.constantFrom(
    'PRI * HTTP/2.0\r\n\r\n',
    'SSH-2.0-x\r\n',
    'EHLO a\r\n',
    '\x16\x03\x01',
    ' ',
    '\r\n',
    'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n',
  ),
);
const damage = fc.tuple(
  fc.nat(),
  fc.constantFrom('\n', '\r', '\0', ' ', '\t', ':', 'a', '%', '/', '\xff', '\x85', '\x0b', '1', ';', ''),
  fc.nat(2),
);
const stream = fc
  .tuple(fc.array(request, { minLength: 1, maxLength: 5 }), fc.array(damage, { maxLength: 2 }))
  .map(([requests, damages]) => {
    let bytes = latin1(requests.join(''));
    for (const [where, put, skip] of damages) {
      const at = where % (bytes.length + 1);
      bytes = Buffer.concat([bytes.subarray(0, at), latin1(put), bytes.subarray(at + skip)]);
    }
    return bytes;
  });

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length));
}

/** What both can tell of an event. */
function ours(event: Event): unknown {
  if (event.kind !== 'request') return event.kind === 'early' ? 'denied' : event.kind;
  const { method, target, path, host, version, lines, content, chunked, upgrades, connects, length } = event.head;
  return {
    method,
    target,
    path,
    host,
    version,
    lines,
    content,
    chunked,
    awaits: upgrades || connects,
    start: event.start,
    end: event.start + length,
  };
}

function theirs(event: HttpEvent): unknown {
  if (event.kind !== 'request') return event.kind;
  const { request, framing, start, end } = event;
  const { method, target, path, host, version, headers } = request;
  const content = framing.body.kind === 'length' ? framing.body.length : 0;
  const chunked = framing.body.kind === 'chunked';
  return {
    method,
    target,
    path,
    host,
    version,
    lines: headers.length,
    content,
    chunked,
    awaits: framing.awaits !== undefined,
    start,
    end,
  };
}

/** The reference's events; the first request that is awaited, and is not the connection's first, is where the two part. */
function expected(bytes: Buffer): { events: HttpEvent[]; parts: boolean; state: string; cut?: boolean } {
  const reference = new HttpStream();
  const all = reference.push(bytes).filter(({ kind }) => kind !== 'end');
  const parting = all.findIndex((e) => e.kind === 'request' && e.number > 0 && e.framing.awaits !== undefined);
  if (parting >= 0) return { events: all.slice(0, parting + 1), parts: true, state: '' };
  const { state } = reference;
  return { events: all, parts: false, state, cut: reference.end().length > 0 };
}

t.test('streams at random, in any pieces', async (t) => {
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(stream, fc.array(fc.nat(), { maxLength: 12 }), (bytes, places) => {
      const { events, parts, state, cut: isCut } = expected(bytes);
      const wanted = events.map(theirs);
      const kernels = new KernelStream(kernel);
      const got = cut(bytes, places).flatMap((piece) => kernels.push(piece));
      const told = got.map(ours);
      for (const e of got) {
        const what = e.kind === 'denied' ? e.why : e.kind;
        seen.set(what, (seen.get(what) ?? 0) + 1);
      }
      if (parts) told.length = Math.min(told.length, wanted.length);
      // The kernel may refuse a line before it has ended. Every way to end it is one that the reference refuses, too.
      if (told.length === wanted.length + 1 && told.at(-1) === 'denied' && state === 'head') {
        for (const end of [
          '\r\n\r\n',
          'HTTP/1.1\r\n\r\n',
          ' HTTP/1.1\r\nHost: a\r\n\r\n',
          '\nHost: a\r\n\r\n',
          ': x\r\n\r\n',
        ]) {
          const { events } = expected(Buffer.concat([bytes, latin1(end)]));
          if (events[wanted.length]?.kind !== 'denied') return false;
        }
        told.pop();
      }
      const cuts = parts || kernels.part === 'OVER' || kernel.isCut === isCut;
      if (cuts && JSON.stringify(told) === JSON.stringify(wanted)) return true;
      console.error(JSON.stringify(bytes.toString('latin1')), '\n', JSON.stringify(told), '\n', JSON.stringify(wanted));
      return false;
    }),
    { numRuns },
  );
  t.comment([...seen].map(([what, n]) => `${what} ${n}`).join(', '));
  t.ok(seen.size >= 18, `${seen.size} kinds of events`);
});

t.test('all short paths', async (t) => {
  const alphabet = [...'/.%2fE5c03?;\\#a'];
  let refused = 0;
  let count = 0;
  const check = (path: string) => {
    const canonical = isCanonicalPath(path);
    const text = `GET ${path} HTTP/1.0\r\n\r\n`;
    kernel.connect();
    kernel.put(latin1(text));
    const { result } = kernel.head(0, text.length);
    if (result !== (canonical ? 'head' : 'refused')) t.fail(`${path}: ${result}`);
    count++;
    if (!canonical) refused++;
  };
  const each = (path: string, left: number) => {
    check(path);
    if (left > 0) for (const c of alphabet) each(path + c, left - 1);
  };
  each('/', 4);
  for (let byte = 0; byte < 256; byte++) {
    const hex = byte.toString(16).padStart(2, '0');
    for (const form of [hex, hex.toUpperCase(), `${hex[0]?.toUpperCase()}${hex[1]}`]) {
      check(`/%${form}`);
      check(`/a%${form}/`);
      check(`/a?%${form}`);
    }
    if (byte !== 0x20 && byte !== 0x0a)
      for (const around of ['/', '/a', '/?', '/..', '/%2']) check(around + String.fromCharCode(byte));
  }
  t.comment(`${count} paths, ${refused} of them refused`);
  t.ok(refused > 10_000);
});

t.test('first bytes at random', async () => {
  const unit = fc.constantFrom(
    'G',
    'H',
    'h',
    'T',
    't',
    'P',
    'p',
    ' ',
    '/',
    '\r',
    '\n',
    'HTTP/',
    '1.1',
    ':',
    '\0',
    '\x0b',
    '\xa0',
    'a',
    '*',
    '\t',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ unit, maxLength: 40 }).map(latin1),
        fc.uint8Array({ maxLength: 60 }).map((b) => Buffer.from(b)),
      ),
      fc.array(fc.nat(), { maxLength: 4 }),
      (bytes, places) => {
        const wanted = expected(bytes).events.map(theirs);
        const stream = new KernelStream(kernel);
        const told = cut(bytes, places)
          .flatMap((piece) => stream.push(piece))
          .map(ours);
        return JSON.stringify(told) === JSON.stringify(wanted);
      },
    ),
    { numRuns },
  );
});

t.test('answers at random', async () => {
  const piece = fc.constantFrom(
    'HTTP/1.1 ',
    'HTTP/1.0 ',
    '101',
    '100',
    '200',
    '103',
    '404',
    ' ',
    '\r\n',
    '\r\n\r\n',
    '\r',
    '\n',
    'x',
    'Link: x\r\n',
    'HTTP/1.1 100 C\r\n\r\n',
  );
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 12 }).map((p) => latin1(p.join(''))),
      fc.integer({ min: 1, max: 40 }),
      fc.boolean(),
      (bytes, step, connects) => {
        const request = latin1(
          connects ? 'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n' : 'GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n',
        );
        const reference = new HttpStream();
        reference.push(request);
        for (const event of new StatusReader().push(bytes))
          if (event.kind === 'status') reference.answered(event.answer);
        const stream = new KernelStream(kernel);
        stream.push(request);
        const part = stream.answer(bytes, step);
        const { state } = reference;
        return state === 'through'
          ? part === 'OPAQUE'
          : state === 'head'
            ? part === 'IN_HEAD'
            : part === 'AWAIT' || part === 'BROKEN';
      },
    ),
    { numRuns },
  );
});
