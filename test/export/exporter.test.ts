/** Filters aside, what is exported is what a plain model says: sums, samples, and what is lost. */
import fc from '../seeded.js';
import t from 'tap';
import { Aggregator } from '../../src/export/aggregator.js';
import { factsOf } from '../../src/export/base/facts.js';
import type { Item } from '../../src/export/base/item.js';
import type { Outcome, Sink } from '../../src/export/base/sink.js';
import { Exporter } from '../../src/export/exporter.js';
import { Queue } from '../../src/export/queue.js';
import { Sampler } from '../../src/export/sampler.js';
import type { FlowEvent, Party } from '../../src/flow/event/types.js';
import { rule, WEB, WORLD } from '../flow/flows.js';
import { type FlowResponse, memoryLog, response, spec, Stream, until } from './given.js';

const parties: readonly Party[] = [
  WEB,
  { ...WEB, pod: 'web-2', ip: '10.0.0.2' },
  { ...WEB, namespace: 'other' },
  { ip: '10.0.0.9', port: 8080, kind: 'pod', namespace: 'shop', pod: 'lone', labels: {} },
  WORLD,
  { ...WORLD, ip: '192.0.2.2' },
];
const anyFlow: fc.Arbitrary<FlowResponse> = fc
  .record({
    from: fc.constantFrom(...parties),
    to: fc.constantFrom(...parties),
    port: fc.constantFrom(80, 443),
    names: fc.constantFrom<readonly string[] | undefined>(undefined, ['a.example'], ['b.example']),
    isRuled: fc.boolean(),
    event: fc.record({
      type: fc.constantFrom<FlowEvent['type']>('verdict', 'drop', 'end', 'log'),
      verdict: fc.constantFrom<FlowEvent['verdict']>('allow', 'deny'),
      auditVerdict: fc.constantFrom<FlowEvent['verdict']>('none', 'deny'),
      isReply: fc.boolean(),
      bytesOut: fc.nat(1000),
      drops: fc.nat(5),
      timeNs: fc.integer({ min: 1, max: 1000 }).map((n) => n * 1e8),
    }),
  })
  .map(({ from, to, port, names, isRuled, event }) =>
    response(
      {
        source: from,
        destination: { ...to, port },
        ...(names ? { destinationNames: names } : {}),
        ...(isRuled ? { rule: rule() } : {}),
      },
      event,
    ),
  );

t.test('sums', (t) => {
  fc.assert(
    fc.property(fc.array(anyFlow, { maxLength: 60 }), fc.constantFrom(2, 5, 4096), (flows, most) => {
      const aggregator = new Aggregator(most);
      for (const { record, time } of flows) aggregator.add(record, time as never);
      const sums = aggregator.take();
      const total = (pick: (s: (typeof sums)[number]) => number) => sums.reduce((n, s) => n + pick(s), 0);
      const expected = (pick: (r: FlowResponse['record']) => unknown) =>
        flows.reduce((n, { record }) => n + Number(pick(record)), 0);
      t.equal(
        total((s) => s.flows),
        flows.length,
      );
      t.equal(
        total((s) => s.bytesOut),
        expected((r) => r.bytes_out),
      );
      t.equal(
        total((s) => s.drops),
        expected((r) => r.drops),
      );
      t.ok(sums.filter((s) => !s.isOther).length <= most);
      // The model: by what a person would group them.
      const groups = new Map<string, number>();
      for (const { record: r } of flows) {
        const f = factsOf(r);
        const side = (s: typeof f.source) =>
          s.workload ? `${s.namespace}/${s.workload}` : s.pod ? `${s.namespace}/${s.pod}` : (s.names[0] ?? s.ip);
        const key = [side(f.source), side(f.destination), f.destination.port, r.event, r.verdict, r.audit_verdict];
        const text = [...key, f.rule, f.direction].join('|');
        groups.set(text, (groups.get(text) ?? 0) + 1);
      }
      if (groups.size <= most) t.strictSame(sums.map((s) => s.flows).sort(), [...groups.values()].sort());
      t.equal(aggregator.take().length, 0);
    }),
    { numRuns: 200 },
  );
  t.end();
});

t.test('samples', (t) => {
  const sampler = new Sampler(10, 1);
  let kept = 0;
  for (let port = 1; port <= 4000; port++) {
    const end = { ...WEB, port };
    const begin = sampler.stands(response({ source: end }).record);
    t.equal(sampler.stands(response({ source: end }, { type: 'end' }).record), begin);
    const reply = response({ source: { ...WORLD }, destination: end }, { isReply: true }).record;
    t.equal(sampler.stands(reply), begin, 'both directions');
    t.equal(sampler.stands(response({ source: end }, { verdict: 'deny' }).record), 1);
    t.equal(sampler.stands(response({ source: end }, { auditVerdict: 'deny' }).record), 1);
    t.equal(sampler.stands(response({ source: end }, { type: 'log' }).record), 1);
    kept += begin;
  }
  t.ok(Math.abs(kept - 4000) < 1200, `scaled, they are ${kept} of 4000`);
  const other = new Sampler(10, 1);
  const differ = Array.from({ length: 200 }, (_, n) => response({ source: { ...WEB, port: n } }).record);
  t.ok(
    differ.some((r) => sampler.stands(r) !== other.stands(r)),
    'nobody knows the seed',
  );
  t.end();
});

t.test('the queue', (t) => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.nat(9).map((n) => -1 - n),
          fc.integer({ min: 1, max: 50 }),
        ),
      ),
      (steps) => {
        const queue = new Queue<number>(20, 300);
        let model: { data: number; size: number }[] = [];
        let next = 0;
        for (const step of steps) {
          if (step > 0) {
            const bytes = model.reduce((n, q) => n + q.size, 0);
            const fits = model.length < 20 && (model.length === 0 || bytes + step <= 300);
            t.equal(queue.fits(1, step), fits);
            if (!fits) continue;
            queue.push({ data: next, weight: 1, told: 0, size: step });
            model.push({ data: next++, size: step });
          } else {
            const batch = queue.peek(-step, 100);
            t.strictSame(
              batch.map((q) => q.data),
              model.slice(0, batch.length).map((q) => q.data),
            );
            queue.drop(batch.length);
            model = model.slice(batch.length);
          }
          t.equal(queue.length, model.length);
          t.equal(
            queue.bytes,
            model.reduce((n, q) => n + q.size, 0),
          );
        }
      },
    ),
  );
  t.end();
});

/** A sink that does what the test says, and keeps what it has taken. */
class Told implements Sink<Item> {
  readonly most = 7;
  readonly mostBytes = 1e9;
  readonly lingerMs = 1;
  readonly taken: Item[] = [];
  outcome: (batch: readonly Item[]) => Outcome = () => ({ done: true, refused: 0 });
  encode(item: Item): Item {
    if (item.kind === 'flow' && item.response.record.reason === 'poison') throw new Error('poison');
    return item;
  }
  sizeOf(): number {
    return 1;
  }
  async write(batch: readonly Item[]): Promise<Outcome> {
    const outcome = this.outcome(batch);
    const taken = outcome.done ? (outcome.refused > 0 ? 0 : batch.length) : outcome.delivered;
    this.taken.push(...batch.slice(0, taken));
    return outcome;
  }
  close(): void {}
}

t.test('whatever the collector does, all flows are exported or counted, in order', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom('take', 'take', 'refuse', 'again', 'some', 'throw'), { minLength: 1, maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 4 }),
      async (behaviour, bursts) => {
        const sink = new Told();
        let turn = 0;
        sink.outcome = (batch) => {
          switch (behaviour[turn++]) {
            case 'refuse':
              return { done: true, refused: batch.length, why: 'no' };
            case 'again':
              return { done: false, delivered: 0, why: 'later' };
            case 'some':
              return { done: false, delivered: Math.min(2, batch.length), why: 'some' };
            case 'throw':
              throw new Error('a bug of the sink');
            default:
              return { done: true, refused: 0 };
          }
        };
        const stream = new Stream();
        const { log } = memoryLog();
        const parts = { spec: await spec('jsonl:-?queue=64'), sink, source: stream.source, node: 'n', log };
        const exporter = new Exporter({ ...parts, retryMs: 1 });
        exporter.start();
        let sent = 0;
        for (const burst of bursts) {
          for (let n = 0; n < burst; n++)
            stream.put(response({ source: { ...WEB, port: ++sent } }, { localPort: sent }));
          await new Promise((resolve) => setTimeout(resolve, 3));
        }
        stream.put(response({}, { reason: 'poison' }));
        await until('all is read', () => stream.isRead);
        await exporter.close(5000);
        const { exported, lost, queued } = exporter.status();
        const flows = sink.taken.filter((i) => i.kind === 'flow');
        t.equal(exported, flows.length);
        t.equal(lost.shutdown, undefined);
        const dropped = (lost.queue ?? 0) + (lost.refused ?? 0);
        t.equal(exported + dropped + (lost.unreadable ?? 0), sent + 1, `${JSON.stringify(lost)} ${queued}`);
        const ports = flows.map((i) => (i.kind === 'flow' ? i.response.record.flow.l4?.TCP?.source_port : 0) ?? 0);
        t.strictSame(
          ports,
          [...ports].sort((a, b) => a - b),
        );
        const told = sink.taken.reduce(
          (n, i) => n + (i.kind === 'lost' ? Number(i.response.lost_events?.num_events_lost) : 0),
          0,
        );
        // What was lost after the last flow may be told of to nobody any more.
        t.ok(told <= dropped, `${told} of ${dropped}`);
        if (!behaviour.includes('refuse')) t.equal(told, dropped);
      },
    ),
    { numRuns: 60 },
  );
});

t.test('sums at the end of their window, and at the end', async (t) => {
  const sink = new Told();
  const stream = new Stream();
  const { log } = memoryLog();
  const parts = { spec: await spec('jsonl:-?aggregate=1s'), sink, source: stream.source, node: 'n', log };
  const exporter = new Exporter(parts);
  exporter.start();
  stream.put(response(), response());
  await until('the window is over', () => sink.taken.length === 1, 3000);
  t.match(sink.taken[0], { kind: 'sum', windowMs: 1000, node: 'n', sum: { flows: 2, source: { workload: 'web' } } });
  stream.put(response());
  await exporter.close(1000);
  t.match(sink.taken[1], { sum: { flows: 1 } });
  t.match(exporter.status(), { exported: 2, summed: 3 });
});

t.test('a stream that ends or fails is read again', async (t) => {
  const sink = new Told();
  const { log, lines } = memoryLog();
  let reads = 0;
  const source = async function* () {
    reads++;
    yield response({}, { localPort: reads });
    if (reads === 1) throw new Error('broken\nstream');
  };
  const exporter = new Exporter({ spec: await spec('jsonl:-'), sink, source, node: '', log, retryMs: 1 });
  exporter.start();
  await until('it is read thrice', () => sink.taken.length >= 3);
  await exporter.close(1000);
  t.match(lines.join(''), /cannot be read .*error="broken stream"/);
  t.match(lines.join(''), /has ended/);
});
