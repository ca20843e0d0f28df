/** DNS over TCP: messages in segments that are cut anywhere, lost, doubled and out of order. */
import t from 'tap';
import { DnsBed, RESOLVER, type TcpBed, withLength } from './bed.js';
import { a, encodeMessage, FLAGS, TYPES } from './wire.js';

const bed = new DnsBed();
t.teardown(() => bed.close());

const nameOf = (n: number) => `n${n}.example.com`;
const query = (n: number) =>
  withLength(encodeMessage({ id: n, flags: 0x100, questions: [{ name: nameOf(n), type: TYPES.A }] }));
/** An answer that is `size` bytes long or more. */
const answer = (n: number, size = 0) => {
  const answers = [a(nameOf(n), `192.0.2.${n}`)];
  const filler = { owner: nameOf(n), type: TYPES.TXT, data: Buffer.alloc(1000, n) };
  while (answers.length * 1000 < size) answers.push(filler);
  return withLength(encodeMessage({ id: n, questions: [{ name: nameOf(n), type: TYPES.A }], answers }));
};
const learnedOf = (n: number) => `${nameOf(n)} 192.0.2.${n} 60`;

/** Delivers bytes in pieces of a size; the offset behind them. */
function deliver(c: TcpBed, at: number, bytes: Buffer, size = 1400, hook: 'fromPod' | 'toPod' = 'toPod'): number {
  for (let i = 0; i < bytes.length; i += size) {
    if (!c.segment(hook, at + i, bytes.subarray(i, i + size))) throw new Error(`byte ${at + i} does not pass`);
  }
  return at + bytes.length;
}

t.beforeEach(() => bed.forget());

t.test('several messages in a segment, in both directions', async (t) => {
  const c = bed.connect();
  t.ok(c.segment('fromPod', 0, Buffer.concat([query(1), query(2), query(3)])));
  t.ok(c.segment('toPod', 0, Buffer.concat([answer(3), answer(1)])));
  t.same(bed.learned(), [learnedOf(1), learnedOf(3)]);
  t.ok(c.segment('toPod', 2 * answer(1).length, answer(2)));
  t.same(bed.learned(), [1, 2, 3].map(learnedOf));
});

t.test('cut anywhere', async (t) => {
  for (const size of [1, 2, 3, 7, 11, 17]) {
    bed.forget();
    const c = bed.connect();
    deliver(c, 0, Buffer.concat([query(1), query(2)]), size, 'fromPod');
    const bytes = Buffer.concat([answer(1), answer(2)]);
    deliver(c, 0, bytes.subarray(0, answer(1).length - 1), size);
    t.same(bed.learned(), [], 'not before the last byte');
    deliver(c, answer(1).length - 1, bytes.subarray(answer(1).length - 1), size);
    t.same(bed.learned(), [1, 2].map(learnedOf), `pieces of ${size} bytes`);
  }
});

t.test('a message of 64 KiB, and one behind it', async (t) => {
  const c = bed.connect();
  deliver(c, 0, Buffer.concat([query(1), query(2)]), 1400, 'fromPod');
  const large = answer(1, 63_000);
  t.ok(large.length > 60_000 && large.length < 65_538, `${large.length} bytes`);
  deliver(c, 0, Buffer.concat([large, answer(2)]));
  t.same(bed.learned(), [1, 2].map(learnedOf));
});

t.test('what leaves a gap is dropped, and what comes again is skipped', async (t) => {
  const c = bed.connect();
  const both = Buffer.concat([query(1), query(2)]);
  t.ok(c.segment('fromPod', 0, both));
  const bytes = Buffer.concat([answer(1), answer(2)]);
  const cut = answer(1).length - 5;
  t.notOk(c.segment('toPod', cut, bytes.subarray(cut)), 'the second segment first');
  t.same(bed.learned(), []);
  t.ok(c.segment('toPod', 0, bytes.subarray(0, cut)));
  t.ok(c.segment('toPod', 0, bytes.subarray(0, cut)), 'again');
  t.ok(c.segment('toPod', 10, bytes.subarray(10, cut + 20)), 'old bytes and new ones');
  t.same(bed.learned(), [learnedOf(1)]);
  t.ok(c.segment('toPod', -1, Buffer.alloc(1)), 'a keepalive');
  t.ok(c.segment('toPod', cut + 20, bytes.subarray(cut + 20), FLAGS.ACK | FLAGS.FIN));
  t.same(bed.learned(), [1, 2].map(learnedOf));
});

t.test('a new connection of the same ports begins anew', async (t) => {
  const c = bed.connect();
  t.ok(c.segment('fromPod', 0, query(1)));
  t.ok(c.segment('toPod', 0, answer(1).subarray(0, 20)));
  t.ok(c.segment('fromPod', 100_000, Buffer.alloc(0), FLAGS.SYN));
  t.ok(c.segment('toPod', 200_000, Buffer.alloc(0), FLAGS.SYN | FLAGS.ACK));
  t.ok(c.segment('fromPod', 100_001, query(2)));
  t.ok(c.segment('toPod', 200_001, answer(2)));
  t.same(bed.learned(), [learnedOf(2)]);
});

const RESET = { flags: FLAGS.RST | FLAGS.ACK, data: 0 };

t.test('a stream whose beginning nobody saw is not delivered', async (t) => {
  for (const address of [RESOLVER, '2001:db8::53']) {
    const c = bed.connect(address);
    bed.kernel.forget();
    t.ok(c.segment('fromPod', 0, query(1)), 'what the pod sends passes');
    t.match(c.given(0, answer(1)), { ...RESET, seq: 0, told: ['unreadable-answer'] }, 'its answer becomes a reset');
    t.match(c.given(0, answer(1)), { flags: FLAGS.ACK, data: 0, seq: 0 }, 'so that its sender is reset next');
    t.match(c.given(0, answer(1)), { ...RESET, seq: 0 });
    t.same(bed.learned(), []);
  }
});

t.test('a stream whose buffer was taken away ends', async (t) => {
  const c = bed.connect();
  t.ok(c.segment('fromPod', 0, Buffer.concat([query(1), query(2)])));
  const bytes = Buffer.concat([answer(2), answer(1)]);
  const [behind, cut] = [answer(2).length, answer(2).length + 30];
  t.ok(c.segment('toPod', 0, bytes.subarray(0, cut)));
  bed.takeBuffers(0xffff);
  t.teardown(() => bed.takeBuffers(0));
  t.notOk(c.given(cut + 1, bytes.subarray(cut + 1)).passes, 'behind a gap, as always');
  t.match(c.given(cut, bytes.subarray(cut)), { ...RESET, seq: cut }, 'where the pod waits for more');
  t.notOk(c.given(cut + 1, bytes.subarray(cut + 1)).passes, 'elsewhere nothing is ended');
  t.match(c.given(behind, bytes.subarray(behind)), { flags: FLAGS.ACK, data: 0, seq: cut });
  t.same(bed.learned(), [learnedOf(2)]);
  t.ok(c.segment('fromPod', 100_000, Buffer.alloc(0), FLAGS.SYN));
  t.ok(c.segment('toPod', 200_000, Buffer.alloc(0), FLAGS.SYN | FLAGS.ACK));
  t.ok(c.segment('fromPod', 100_001, query(1)));
  t.match(c.given(200_001, answer(1)), { passes: true, data: answer(1).length }, 'the next connection is read');
});

t.test('queries that are not followed any more', async (t) => {
  const c = bed.connect();
  t.ok(c.segment('fromPod', 0, query(1).subarray(0, 20)));
  bed.takeBuffers(0xffff);
  t.teardown(() => bed.takeBuffers(0));
  t.notOk(c.segment('fromPod', 20, query(1).subarray(20)));
  t.ok(c.segment('fromPod', 20, query(1).subarray(20)), 'again');
  t.match(c.given(0, answer(1)), { ...RESET, seq: 0 }, 'their answers would teach nothing');
});

t.test('more messages than are read in a segment', async (t) => {
  const c = bed.connect();
  t.ok(c.segment('fromPod', 0, query(1)));
  const empty = Buffer.alloc(2 * 128);
  t.match(c.given(0, empty.subarray(2)), { passes: true, data: empty.length - 2 });
  t.match(c.given(empty.length - 2, empty), { ...RESET, seq: empty.length - 2 });
});

t.test('more streams than buffers', async (t) => {
  const connections = Array.from({ length: 40 }, () => bed.connect());
  const passed = connections.filter((c, i) => {
    c.segment('fromPod', 0, query(i));
    return c.segment('toPod', 0, answer(i).subarray(0, 20));
  });
  t.equal(passed.length, 32, 'the others are sent again');
  for (const c of passed.slice(0, 10)) {
    const n = connections.indexOf(c);
    t.ok(c.segment('toPod', 20, answer(n).subarray(20)));
  }
  for (const [i, c] of connections.entries()) {
    if (!passed.includes(c)) t.ok(c.segment('toPod', 0, answer(i).subarray(0, 20)), 'there is room again');
  }
  t.equal(bed.learned().length, 10);
});
