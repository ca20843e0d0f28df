import type { At } from './at.js';
import type { Attack } from './attack.js';
import { Line, SAID_POLICY } from './line.js';

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');
const request = (line: string, ...headers: string[]): string => [line, 'Host: a', ...headers, '', ''].join('\r\n');
const OK = request('GET /ok HTTP/1.1');
/** Streams that end with what may not arrive; each is given in segments. */
function streams(at: At): readonly (readonly [string, readonly string[]])[] {
  const post = (n: number) => request('POST /ok HTTP/1.1', `Content-Length: ${n}`);
  const chunked = request('POST /ok HTTP/1.1', 'Transfer-Encoding: chunked');
  const marked = (what: string) => `${marker(at, what)}`;
  return [
    ['alone', [`GET /evil HTTP/1.1\r\nHost: a\r\nX: ${marked('alone')}\r\n\r\n`]],
    ['behind an allowed one', [OK, `GET /evil HTTP/1.1\r\nHost: a\r\nX: ${marked('behind')}\r\n\r\n`]],
    [
      'in the segment of an allowed one',
      [`${OK}GET /evil HTTP/1.1\r\nHost: a\r\nX: ${marked('in its segment')}\r\n\r\n`],
    ],
    ['behind a body', [`${post(5)}hello`, `GET /evil HTTP/1.1\r\nHost: a\r\nX: ${marked('behind a body')}\r\n\r\n`]],
    [
      'behind chunks',
      [`${chunked}5\r\nhello\r\n0\r\n\r\n`, `GET /evil HTTP/1.1\r\nHost: a\r\nX: ${marked('behind chunks')}\r\n\r\n`],
    ],
    [
      'with two lengths',
      [
        `POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 50\r\nX: ${marked('two lengths')}\r\n\r\n`,
      ],
    ],
    [
      'with a length and chunks',
      [
        `POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nX: ${marked('both')}\r\n\r\n`,
      ],
    ],
    ['with two hosts', [`GET /ok HTTP/1.1\r\nHost: a\r\nHost: b\r\nX: ${marked('two hosts')}\r\n\r\n`]],
    ['with a dotted path', [`GET /ok/../evil HTTP/1.1\r\nHost: a\r\nX: ${marked('dots')}\r\n\r\n`]],
    ['folded', [`GET /ok HTTP/1.1\r\nHost: a\r\n X: ${marked('folded')}\r\n\r\n`]],
    ['with bare line feeds', [`GET /ok HTTP/1.1\nHost: a\nX: ${marked('bare LF')}\n\n`]],
    ['with a bad chunk', [chunked, `5;x\r\n${marked('chunk extension')}\r\n`]],
    ['before the 101', [request('GET /ok HTTP/1.1', 'Upgrade: websocket', 'Connection: Upgrade'), marked('early')]],
    ['HTTP/2', [`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${marked('preface')}`]],
    ['a tunnel', [`CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\nX: ${marked('tunnel')}\r\n\r\n`]],
  ];
}

/** Sixteen letters: headers have no other bytes. */
function marker(at: At, what: string): string {
  const raw = at.forbid(what, () => true, 16);
  for (let i = 0; i < raw.length; i++) raw[i] = 0x61 + ((raw[i] as number) % 26);
  return raw.toString('latin1');
}

export const attack: Attack = {
  name: 'said-requests',
  tries: 'Hides an HTTP request behind, in and in place of those that are allowed.',
  policies: () => [SAID_POLICY],
  async run(at) {
    for (const [, segments] of streams(at)) {
      const line = await Line.open(at, 80);
      let seq = line.seq;
      for (const data of segments.map(bytes)) {
        await line.send([line.segment(seq, data)]);
        seq += data.length;
        await line.answer({ ack: seq });
      }
    }
    // In place of an allowed one, and of what stands between chunks, while none of it has arrived.
    const retold = await Line.open(at, 80);
    const other = `GET /no HTTP/1.1\r\nHost: a\r\nX: ${marker(at, 'in place of an allowed one')}\r\n\r\n`;
    await retold.send([retold.segment(retold.seq, bytes(OK), {}, { ttl: 1 })]);
    await retold.send([retold.segment(retold.seq, bytes(other))]);
    const sizes = await Line.open(at, 80);
    const head = request('POST /ok HTTP/1.1', 'Transfer-Encoding: chunked');
    await sizes.send([sizes.segment(sizes.seq, bytes(`${head}64\r\n`), {}, { ttl: 1 })]);
    await sizes.send([sizes.segment(sizes.seq + head.length, bytes(`0\r\n\r\n${marker(at, 'in place of a chunk')}`))]);

    const control = await Line.open(at, 80);
    const letters = Buffer.from(`allowedallowed${String(at.family)}${at.style}`, 'latin1');
    at.control('what is allowed', 'wire', letters);
    const said = `GET /ok HTTP/1.1\r\nHost: a\r\nX: ${letters.toString('latin1')}\r\n\r\n`;
    const [first, second] = [bytes(OK), bytes(said)];
    await control.send([control.segment(control.seq, first)]);
    await control.send([control.segment(control.seq + first.length, second.subarray(0, 30))]);
    await control.send([control.segment(control.seq + first.length + 30, second.subarray(30))]);
  },
};
