import fc from '../seeded.js';
import t from 'tap';
import { FlowHub, type HubItem, type Records } from '../../src/flow/hub/hub.js';
import type { Flow } from '../../src/flow/event/types.js';
import type { GetFlowsRequest } from '../../src/proto/messages.js';
import { LEAD, numbered, WEB, WORLD } from './flows.js';
import { never } from './hubs.js';

const STRIDE = 24;
const SIZE = 16;

/** Records of a number each; flows say which number, and what was known when they were made. */
class Bench {
  known = 0;
  /** Numbers of the records that flows were made of. */
  readonly made: number[] = [];
  readonly hub: FlowHub;
  #written = 0;
  #turned = 0;

  constructor(capacity: number, more: Partial<Records> = {}) {
    this.hub = new FlowHub({
      nodeName: 'n',
      capacity,
      now: () => LEAD + BigInt(100e9),
      records: {
        size: SIZE,
        stride: STRIDE,
        timeNs: (buf, at) => buf.readDoubleLE(at),
        flow: (buf, at) => {
          const n = buf.readInt32LE(at + 8);
          this.made.push(n);
          const parity = n % 2 ? 'deny' : 'allow';
          const flow = numbered(n, 1e6, { verdict: parity, endpoint: this.known, timeNs: buf.readDoubleLE(at) });
          return { ...flow, source: { ...WEB, port: n, namespace: `ns${n % 3}` }, destination: WORLD };
        },
        lead: () => LEAD,
        ...more,
      },
    });
  }

  /** A run; before, between and behind its records stands what is nobody's. */
  note(count: number): void {
    const buf = Buffer.alloc(STRIDE * (count + 1), 0xff);
    for (let i = 0; i < count; i++) {
      const at = 8 + i * STRIDE;
      buf.writeDoubleLE(100e9 + this.#written * 1e6, at);
      buf.writeInt32LE(this.#written++, at + 8);
    }
    this.hub.note(buf, 8, count);
    buf.fill(0xff);
  }

  put(): void {
    const n = this.#written++;
    this.hub.publish(numbered(n, 1e6, { endpoint: this.#turned }));
  }

  turn(): number {
    const known = ++this.#turned;
    this.hub.turn(() => {
      if (this.known !== known - 1) throw new Error(`from ${this.known} to ${known}`);
      this.known = known;
    });
    return known;
  }

  async read(req: GetFlowsRequest): Promise<Flow[]> {
    const out: Flow[] = [];
    for await (const item of this.hub.read(req, never())) if ('flow' in item) out.push(item.flow);
    return out;
  }
}

t.test('runs of any length are the flows one by one, with what was known when they came', async (t) => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ note: fc.integer({ min: 1, max: 40 }) }) },
    { weight: 1, arbitrary: fc.constant('put' as const) },
    { weight: 3, arbitrary: fc.constant('turn' as const) },
    { weight: 1, arbitrary: fc.constant('look' as const) },
    { weight: 1, arbitrary: fc.record({ read: fc.integer({ min: 1, max: 9 }), first: fc.boolean() }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 33 }), fc.array(step, { maxLength: 40 }), async (capacity, steps) => {
      const bench = new Bench(capacity);
      /** What was known when each came. */
      const came: number[] = [];
      let known = 0;
      const check = (flows: readonly Flow[], expected: readonly number[]) => {
        const got = flows.map((f) => [f.event.localPort, f.event.endpoint, f.event.timeNs]);
        const wanted = expected.map((n) => [n, came[n], 100e9 + n * 1e6]);
        if (JSON.stringify(got) !== JSON.stringify(wanted))
          throw new Error(`got ${JSON.stringify(got)}, expected ${JSON.stringify(wanted)}`);
      };
      for (const step of steps) {
        const kept = came.map((_, n) => n).slice(-capacity);
        if (step === 'put') {
          bench.put();
          came.push(known);
        } else if (step === 'turn') {
          known = bench.turn();
        } else if (step === 'look') {
          bench.hub.examinePending();
          if (bench.known !== known) throw new Error('a change still waits');
        } else if ('note' in step) {
          bench.note(step.note);
          for (let i = 0; i < step.note; i++) came.push(known);
        } else {
          const { read: number, first } = step;
          check(await bench.read({ number, first }), first ? kept.slice(0, number) : kept.slice(-number));
        }
        if (known - bench.known > 8) throw new Error(`${known - bench.known} changes wait`);
      }
      const kept = came.map((_, n) => n).slice(-capacity);
      check(await bench.read({}), kept);
      if (bench.hub.stats().seenFlows !== came.length) throw new Error('stats');
      if (new Set(bench.made).size !== bench.made.length) throw new Error('a flow was made twice');
    }),
    { numRuns: 1000 },
  );
  t.pass('1000 runs');
});

t.test('nothing is made of what nobody asks for', async (t) => {
  const bench = new Bench(1000);
  bench.note(500);
  t.same(bench.hub.stats().seenFlows, 500);
  t.same(bench.made, [], 'only copied');
  await bench.read({ number: 3 });
  t.same(bench.made, [499, 498, 497]);
  const again = await bench.read({ number: 3 });
  t.equal(bench.made.length, 3, 'made once');
  t.equal(again[0], (await bench.read({ number: 3 }))[0], 'the same for all readers');
  for (let i = 0; i < 8; i++) bench.turn();
  t.equal(bench.known, 0, 'what is learned waits');
  t.equal(bench.made.length, 3);
  bench.turn();
  t.equal(bench.made.length, 500, 'so many changes are not kept');
  t.equal(bench.known, 9, 'nothing is between them: one after the other');
});

t.test('a change that nothing waits for is made at once', async (t) => {
  const bench = new Bench(10);
  bench.turn();
  t.equal(bench.known, 1, 'no flow yet');
  bench.note(3);
  bench.turn();
  t.equal(bench.known, 1);
  bench.hub.examinePending();
  t.equal(bench.known, 2, 'a look ends the waiting');
  t.same(bench.made, [0, 1, 2]);
  bench.note(30);
  bench.turn();
  t.same((await bench.read({ number: 1 }))[0]?.event.endpoint, 2);
  bench.note(30);
  t.same((await bench.read({ number: 1 }))[0]?.event.endpoint, 3);
});

t.test('a look takes a little at a time', async (t) => {
  const bench = new Bench(8191);
  bench.note(8191);
  bench.turn();
  const made = [];
  for (let i = 0; i < 6; i++) {
    bench.hub.examinePending();
    made.push(bench.made.length);
  }
  t.same(made, [2048, 4096, 6144, 8191, 8191, 8191]);
  t.equal(bench.known, 1);
});

t.test('what a reader refuses by its kind is not made', async (t) => {
  // Verdict: none 0, allow 1, deny 2 of enum ea_verdict; type 1.
  const kind: Records['kind'] = (buf, at) => 64 + (buf.readInt32LE(at + 8) % 2 ? 2 : 1) * 8;
  const bench = new Bench(100, { kind });
  bench.note(20);
  t.same(
    (await bench.read({ whitelist: [{ verdict: ['DROPPED'] }] })).map((f) => f.event.localPort),
    [1, 3, 5, 7, 9, 11, 13, 15, 17, 19],
  );
  t.ok(
    bench.made.every((n) => n % 2 === 1),
    'no others',
  );
  t.equal((await bench.read({ whitelist: [{ verdict: ['DROPPED'] }, { reply: [false] }] })).length, 20);
  t.equal((await bench.read({ blacklist: [{ verdict: ['DROPPED'] }] })).length, 10);
  t.equal((await bench.read({ number: 2, whitelist: [{ verdict: ['FORWARDED'] }] })).length, 2);
});

t.test('namespaces are seen though nobody reads, and looked up once for each pair', async (t) => {
  const parties: Records['parties'] = (buf, at) => buf.readInt32LE(at + 8) % 6;
  const bench = new Bench(4000, { parties });
  bench.note(1000);
  bench.hub.examinePending();
  t.same(bench.made, [0, 1, 2, 3, 4, 5]);
  t.same(bench.hub.namespaces(), [{ namespace: 'ns0' }, { namespace: 'ns1' }, { namespace: 'ns2' }]);
  bench.note(1000);
  t.equal(bench.hub.namespaces().length, 3);
  t.equal(bench.made.length, 6);
  bench.turn();
  bench.note(6);
  bench.hub.examinePending();
  t.same(bench.made.slice(-6), [2000, 2001, 2002, 2003, 2004, 2005], 'whose an address is may have changed');
});

t.test('a reader lets others know that it is there', async (t) => {
  const bench = new Bench(10);
  bench.note(3);
  const reader = bench.hub.read({}, never())[Symbol.asyncIterator]();
  t.equal(bench.hub.isRead, false);
  t.equal(((await reader.next()).value as Extract<HubItem, { flow: Flow }>).flow.event.localPort, 0);
  t.equal(bench.hub.isRead, true);
  await reader.return?.();
  t.equal(bench.hub.isRead, false);
});
