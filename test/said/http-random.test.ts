/** HTTP/1 streams at random: any pieces of a stream tell the same, and no bytes are too odd. */
import fc from '../seeded.js';
import t from 'tap';
import { HttpStream } from '../../src/said/http.js';
import { StatusReader } from '../../src/said/http-status.js';
import { firstSaid } from '../../src/said/said.js';
import { damagedStream } from './http-streams.js';
import { get } from './make.js';

const numRuns = Number(process.env.RUNS ?? 3000);

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

t.test('streams at random, in any pieces', async (t) => {
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(damagedStream, fc.array(fc.nat(), { maxLength: 8 }), (bytes, cuts) => {
      const whole = new HttpStream();
      const want = whole.push(bytes);
      for (const event of want) {
        const name = event.kind === 'denied' ? event.why : event.kind;
        seen.set(name, (seen.get(name) ?? 0) + 1);
      }
      const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
      for (const at of [places, Array.from({ length: bytes.length }, (_, i) => i)]) {
        const pieces = [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length));
        const parts = new HttpStream();
        const got = pieces.flatMap((part) => parts.push(part));
        if (JSON.stringify(got) !== JSON.stringify(want) || parts.state !== whole.state) return false;
      }
      return true;
    }),
    { numRuns },
  );
  t.ok(seen.size >= 12, [...seen.entries()].join(' '));
});

t.test('any bytes', async () => {
  const text = fc.string({
    unit: fc.constantFrom('G', 'E', ' ', '/', '\r', '\n', 'HTTP/1.1', ':', '\0', 'a', '%2', ';'),
    maxLength: 60,
  });
  fc.assert(
    fc.property(
      fc.oneof(
        text.map(latin1),
        fc.uint8Array({ maxLength: 300 }).map((b) => Buffer.from(b)),
      ),
      (bytes) => {
        new HttpStream().push(bytes);
        new StatusReader().push(bytes);
        firstSaid(bytes);
        // Nothing is told twice, and nothing lies behind what was given.
        return new HttpStream().push(bytes).every((e) => !('at' in e) || e.at <= bytes.length);
      },
    ),
    { numRuns },
  );
});

t.test('large streams are read in time', async (t) => {
  const requests = get('GET / HTTP/1.1').repeat(10_000);
  const chunks = `${get('PUT / HTTP/1.1', 'Transfer-Encoding: chunked')}${'1\r\na\r\n'.repeat(50_000)}0\r\n\r\n`;
  const lines = get('GET / HTTP/1.1', ...Array(2000).fill('a:'));
  for (const text of [requests, chunks, lines, 'x'.repeat(1_000_000)]) {
    const start = performance.now();
    new HttpStream().push(latin1(text));
    const ms = performance.now() - start;
    t.ok(ms < 5000, `${text.length} bytes: ${ms.toFixed(0)} ms`);
  }
});
