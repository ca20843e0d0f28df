/** Lines of JSON out of bytes that are cut anywhere. */
import fc from '../seeded.js';
import t from 'tap';
import { JsonLineError, JsonLines } from '../../src/kube/client/json-lines.js';

const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31);

function split(bytes: Buffer, cuts: readonly number[], maxLineBytes = 1 << 20): unknown[] {
  const lines = new JsonLines({ maxLineBytes });
  const at = [0, ...cuts.map((c) => c % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).flatMap((end, i) => [...lines.push(bytes.subarray(at[i], end))]);
}

t.test(`whatever the cuts, the documents are the same, FUZZ_SEED=${seed}`, async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.jsonValue()),
      fc.array(fc.nat()),
      fc.constantFrom('\n', '\r\n', '\n\n'),
      (docs, cuts, end) => {
        const bytes = Buffer.from(docs.map((d) => JSON.stringify(d) + end).join(''));
        const plain = docs.map((d) => JSON.parse(JSON.stringify(d)));
        return JSON.stringify(split(bytes, cuts)) === JSON.stringify(plain);
      },
    ),
    { seed, numRuns: 300 },
  );
  t.pass('300 documents');
});

t.test('a character cut in the middle', async (t) => {
  const bytes = Buffer.from('"🐘"\n');
  for (let cut = 0; cut <= bytes.length; cut++) t.same(split(bytes, [cut]), ['🐘']);
});

t.test('half a line is no document', async (t) => {
  const lines = new JsonLines({ maxLineBytes: 100 });
  t.same([...lines.push(Buffer.from('1\n{"a":'))], [1]);
  t.equal(lines.held, 5);
  t.same([...lines.push(Buffer.from('2}\n'))], [{ a: 2 }]);
  t.equal(lines.held, 0);
});

t.test('what comes before a broken line is there', async (t) => {
  for (const [text, error] of [
    ['1\n2\nnonsense\n3\n', /not JSON: "nonsense"/],
    [`1\n2\n"${'x'.repeat(200)}"\n`, /longer than 100 bytes/],
    [`1\n2\n"${'x'.repeat(200)}`, /longer than 100 bytes/],
    ['1\n2\n"\xff"\n', /not UTF-8/],
  ] as const) {
    const got: unknown[] = [];
    const lines = new JsonLines({ maxLineBytes: 100 });
    t.throws(
      () => {
        for (const doc of lines.push(Buffer.from(text, 'latin1'))) got.push(doc);
      },
      error,
      text.slice(0, 20),
    );
    t.same(got, [1, 2]);
  }
  t.throws(() => [...new JsonLines({ maxLineBytes: 9 }).push(Buffer.from('x\n'))], JsonLineError);
});
