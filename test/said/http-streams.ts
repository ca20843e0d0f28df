/** Streams of HTTP/1 at random, right ones and nearly right ones. */
import fc from '../seeded.js';
import { get } from './make.js';

/** Pieces of requests, right and wrong, that make streams which come far. */
const piece = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.constantFrom(get('GET /a HTTP/1.1'), get('GET /b HTTP/1.0'), get('GET /c HTTP/1.1', 'X: 1')),
  },
  { weight: 4, arbitrary: fc.nat(300).map((n) => get('POST /l HTTP/1.1', `Content-Length: ${n}`) + 'x'.repeat(n)) },
  {
    weight: 4,
    arbitrary: fc
      .array(fc.integer({ min: 1, max: 40 }), { maxLength: 4 })
      .map((sizes) =>
        [
          get('PUT /k HTTP/1.1', 'Transfer-Encoding: chunked'),
          ...sizes.map((n) => `${n.toString(16)}\r\n${'y'.repeat(n)}\r\n`),
          '0\r\n\r\n',
        ].join(''),
      ),
  },
  fc.constantFrom(
    'GET / HTTP/1.1\r\n',
    'Host: b\r\n',
    '\r\n',
    'X : 1\r\n',
    ' x\r\n',
    '0\r\n',
    'PRI * HTTP/2.0\r\n\r\n',
  ),
  fc.constantFrom(get('GET / HTTP/1.1', 'Upgrade: x'), get('CONNECT a:1 HTTP/1.1'), '\0', '\n', '\r', 'HTTP/', ' '),
);

const text = fc.array(piece, { minLength: 1, maxLength: 6 }).map((pieces) => pieces.join(''));
const PUT = ['\n', '\r', '\0', ' ', '\t', '\x0b', '\x85', ':', ';', ',', 'a', '%', '/', '\xff', '1', '\r\n', ''];
/** In the first bytes often: they decide what a stream is. */
const place = fc.oneof(fc.nat(), fc.nat(30));
const damage = fc.array(fc.tuple(place, fc.constantFrom(...PUT), fc.nat(2)), { maxLength: 3 });

/** Streams of requests in which some bytes were changed. */
export const damagedStream: fc.Arbitrary<Buffer> = fc.tuple(text, damage).map(([text, damage]) => {
  let bytes = Buffer.from(text, 'latin1');
  for (const [where, put, skip] of damage) {
    const at = where % (bytes.length + 1);
    bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from(put, 'latin1'), bytes.subarray(at + skip)]);
  }
  return bytes;
});
