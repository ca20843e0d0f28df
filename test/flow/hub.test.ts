import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { FlowHub, type HubItem, type Records } from '../../src/flow/hub.js';
import type { Flow } from '../../src/flow/types.js';
import type { GetFlowsRequest, Timestamp } from '../../src/rpc/messages.js';
import { LEAD, numbered, SECOND, WORLD } from './flows.js';

const STEP = 1e6;

function never(): AbortSignal {
  return new AbortController().signal;
}

/** When the n-th flow was, and so many milliseconds later. */
function at(n: number, laterMs = 0): Timestamp {
  const ns = LEAD + BigInt(100e9 + n * STEP + laterMs * 1e6);
  return { seconds: String(ns / SECOND), nanos: Number(ns % SECOND) };
}

/** What the kernel would have sent: the number of the flow, and its time. */
const records: Records = {
  size: 16,
  timeNs: (buf, at) => buf.readDoubleLE(at),
  flow: (buf, at) => numbered(buf.readInt32LE(at + 8), buf.readInt32LE(at + 12)),
};
const record = Buffer.from(new ArrayBuffer(24));

/** Flow n: two of three as records, which nobody may tell from flows. */
function put(hub: FlowHub, n: number, step = 1e6): void {
  const flow = numbered(n, step);
  if (n % 3 === 0) {
    hub.publish(flow);
    return;
  }
  record.writeDoubleLE(flow.event.timeNs, 8);
  record.writeInt32LE(n, 16);
  record.writeInt32LE(step, 20);
  hub.note(record, 8);
  record.fill(0);
}

function hubWith(count: number, capacity = 15): { hub: FlowHub; clock: { now: bigint } } {
  const clock = { now: LEAD + BigInt(100e9 + count * STEP) };
  const hub = new FlowHub({ nodeName: 'node-a', records, capacity, now: () => clock.now });
  for (let i = 0; i < count; i++) put(hub, i, STEP);
  return { hub, clock };
}

/** Numbers of flows; losses as `-count`, those of the kernel as text. */
function brief(item: HubItem): number | string {
  if ('flow' in item) return item.flow.source.port;
  return item.lost.source === 'HUBBLE_RING_BUFFER' ? -item.lost.count : `kernel ${item.lost.count}`;
}

async function all(hub: FlowHub, req: GetFlowsRequest, signal = never()): Promise<(number | string)[]> {
  const out: (number | string)[] = [];
  for await (const item of hub.read(req, signal)) out.push(brief(item));
  return out;
}

/** Lets waiting readers run. */
async function idle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Reads in the background. */
function follow(hub: FlowHub, req: GetFlowsRequest): { got: (number | string)[]; stop: () => Promise<void> } {
  const abort = new AbortController();
  const got: (number | string)[] = [];
  const done = (async () => {
    for await (const item of hub.read({ follow: true, ...req }, abort.signal)) got.push(brief(item));
  })();
  return {
    got,
    stop: async () => {
      abort.abort();
      await done;
    },
  };
}

t.test('what of the past a request gets', async (t) => {
  const { hub } = hubWith(10);
  const rows: [string, GetFlowsRequest, number[]][] = [
    ['nothing said: all', {}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
    ['the last', { number: 3 }, [7, 8, 9]],
    ['as text, as proto-loader has it', { number: '2' }, [8, 9]],
    ['2^64 - 1 is all', { number: '18446744073709551615' }, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
    ['more than there are', { number: 100 }, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
    ['the first', { number: 3, first: true }, [0, 1, 2]],
    ['first without a number', { first: true }, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
    ['since, inclusive', { since: at(7) }, [7, 8, 9]],
    ['until, inclusive', { until: at(2) }, [0, 1, 2]],
    ['between', { since: at(3, 0.5), until: at(6, 0.5) }, [4, 5, 6]],
    ['since beats number', { since: at(5), number: 2 }, [5, 6, 7, 8, 9]],
    ['the first since', { since: at(5), number: 2, first: true }, [5, 6]],
    ['the last until', { until: at(5), number: 2 }, [4, 5]],
    ['the first until', { until: at(1), number: 5, first: true }, [0, 1]],
    ['a time to come', { since: at(100) }, []],
    ['an empty interval', { since: at(5), until: at(4) }, []],
    ['number counts what passes', { number: 2, whitelist: [{ source_port: ['1', '3', '5'] }] }, [3, 5]],
    ['first counts what passes', { number: 2, first: true, blacklist: [{ source_port: ['0', '2'] }] }, [1, 3]],
  ];
  for (const [name, req, expected] of rows) t.same(await all(hub, req), expected, name);
  t.same(await all(new FlowHub({ nodeName: 'n', records }), { number: 20 }), [], 'nothing yet');
});

t.test('requests that contradict themselves', async (t) => {
  const { hub } = hubWith(1);
  const rows: [string, GetFlowsRequest][] = [
    ['first', { first: true, follow: true }],
    ['number', { number: 'many' }],
    ['number', { number: -1 }],
    ['since', { since: { seconds: 'yesterday', nanos: 0 } }],
    ['until', { until: { seconds: 1.5, nanos: 0 } }],
    ['whitelist[0].source_ip[0]', { whitelist: [{ source_ip: ['x'] }] }],
  ];
  for (const [field, req] of rows) t.throws(() => hub.read(req, never()), { code: 'USAGE', where: { field } }, field);
});

t.test('the ring is the naive list: any capacity, number of flows and request', async (t) => {
  const port = fc.integer({ min: 0, max: 80 });
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        capacity: fc.integer({ min: 1, max: 33 }),
        count: fc.integer({ min: 0, max: 80 }),
        number: fc.integer({ min: 0, max: 40 }),
        first: fc.boolean(),
        since: fc.option(port, { nil: undefined }),
        until: fc.option(port, { nil: undefined }),
        only: fc.option(fc.uniqueArray(port, { minLength: 1 }), { nil: undefined }),
        not: fc.uniqueArray(port),
      }),
      async ({ capacity, count, number, first, since, until, only, not }) => {
        const { hub } = hubWith(count, capacity);
        const kept = Array.from({ length: count }, (_, i) => i).slice(-capacity);
        const matching = kept.filter(
          (n) =>
            (since === undefined || n >= since) &&
            (until === undefined || n <= until) &&
            (only === undefined || only.includes(n)) &&
            !not.includes(n),
        );
        const limited = number > 0 && (first || since === undefined);
        const expected = !limited ? matching : first ? matching.slice(0, number) : matching.slice(-number);
        const got = await all(hub, {
          number,
          first,
          ...(since === undefined ? {} : { since: at(since) }),
          ...(until === undefined ? {} : { until: at(until) }),
          ...(only === undefined ? {} : { whitelist: [{ source_port: only.map(String) }] }),
          ...(not.length === 0 ? {} : { blacklist: [{ source_port: not.map(String) }] }),
        });
        const flows = got.filter((n) => typeof n === 'number' && n >= 0 && !Object.is(n, -0));
        if (JSON.stringify(flows) !== JSON.stringify(expected)) {
          throw new Error(`got ${JSON.stringify(got)}, expected ${JSON.stringify(expected)}`);
        }
        const { numFlows, maxFlows, seenFlows } = hub.stats();
        if (numFlows !== kept.length || maxFlows !== capacity || seenFlows !== count) throw new Error('stats');
        // How many of what was asked for had left the ring: never fewer than there were, and hardly more.
        const gone = since === undefined ? 0 : Math.max(count - capacity - since, 0);
        const told = -((got.find((n) => typeof n === 'number' && n < 0) as number | undefined) ?? 0);
        if (told < gone || told > (gone === 0 ? 0 : gone + Math.max(capacity >> 4, 1) - 1)) {
          throw new Error(`told of ${told}, ${gone} were gone`);
        }
      },
    ),
    { numRuns: 500 },
  );
  t.pass('500 runs');
});

t.test('an answer without follow ends with what was there when it was asked for', async (t) => {
  const { hub } = hubWith(3);
  const answer = hub.read({}, never())[Symbol.asyncIterator]();
  put(hub, 3);
  t.equal(brief((await answer.next()).value as HubItem), 0);
  put(hub, 4);
  const rest = [];
  for (let r = await answer.next(); !r.done; r = await answer.next()) rest.push(brief(r.value));
  t.same(rest, [1, 2]);
});

t.test('follow', async (t) => {
  const { hub } = hubWith(5);
  const fresh = follow(hub, {});
  const last = follow(hub, { number: 2 });
  const some = follow(hub, { number: 1, whitelist: [{ source_port: ['3', '6', '7'] }] });
  const since = follow(hub, { since: at(1), number: 1 });
  for (let i = 5; i < 8; i++) {
    put(hub, i);
    await idle();
  }
  t.same(fresh.got, [5, 6, 7], 'nothing of the past unless asked for');
  t.same(last.got, [3, 4, 5, 6, 7], 'number is of the past alone');
  t.same(some.got, [3, 6, 7]);
  t.same(since.got, [1, 2, 3, 4, 5, 6, 7]);
  await Promise.all([fresh.stop(), last.stop(), some.stop(), since.stop()]);
  put(hub, 8);
  await idle();
  t.same(fresh.got, [5, 6, 7], 'stopped');
});

t.test('follow until a time', async (t) => {
  const hub = new FlowHub({ nodeName: 'n', records });
  const end = BigInt(Date.now()) * 1_000_000n + 100_000_000n;
  const until = { seconds: String(end / SECOND), nanos: Number(end % SECOND) };
  const got = await Promise.race([all(hub, { follow: true, until }), sleep(5000, ['too late'], { ref: false })]);
  t.same(got, [], 'the time ends it, though no flow comes');
});

t.test('a signal that was given before ends it at once', async (t) => {
  const { hub } = hubWith(3);
  t.same(await all(hub, { follow: true, number: 2 }, AbortSignal.abort()), []);
});

t.test('readers that are too slow are told how many flows they missed', async (t) => {
  const { hub, clock } = hubWith(0, 7);
  const signal = new AbortController();
  const reader = hub.read({ follow: true }, signal.signal)[Symbol.asyncIterator]();
  const next = async () => brief((await reader.next()).value as HubItem);
  const first = next();
  await idle();
  for (let i = 0; i < 20; i++) put(hub, i);
  // The reader woke at 0, but 0 to 12 were overwritten before its turn came.
  t.equal(await first, -13);
  t.equal(await next(), 13);
  for (let i = 20; i < 30; i++) put(hub, i);
  // 14 to 22 are gone. It was told less than a second ago: not yet.
  t.equal(await next(), 23);
  clock.now += SECOND;
  t.equal(await next(), -9);
  t.equal(await next(), 24);
  t.equal(hub.stats().queueLost, 22);
  signal.abort();
  t.ok((await reader.next()).done);
});

t.test('a notice that had to wait comes without another flow', async (t) => {
  const hub = new FlowHub({ nodeName: 'n', records, capacity: 3 });
  const reader = hub.read({ follow: true }, never())[Symbol.asyncIterator]();
  const next = async () => brief((await reader.next()).value as HubItem);
  const first = next();
  await idle();
  for (let i = 0; i < 5; i++) put(hub, i);
  t.equal(await first, -2);
  t.same([await next(), await next(), await next()], [2, 3, 4]);
  hub.lostInRing(4);
  hub.lostInRing(2);
  const started = Date.now();
  t.equal(await next(), 'kernel 6');
  t.ok(Date.now() - started >= 500, 'at most one a second');
  await reader.return?.();
});

t.test('notices are at most one a second, however much is lost', async (t) => {
  const { hub, clock } = hubWith(0, 3);
  const reader = hub.read({ follow: true }, never())[Symbol.asyncIterator]();
  const given: bigint[] = [];
  let lost = 0;
  let read = 0;
  let written = 0;
  for (let i = 0; i < 300; i++) {
    clock.now += SECOND / 20n;
    for (let k = 0; k < 5; k++) put(hub, written++);
    hub.lostInRing(1, i % 2);
    const item = (await reader.next()).value as HubItem;
    if ('lost' in item) {
      given.push(clock.now);
      if (item.lost.source === 'HUBBLE_RING_BUFFER') lost += item.lost.count;
    } else {
      read++;
    }
  }
  t.ok(given.length >= 14 && given.length <= 15, `${given.length} notices in 15 seconds`);
  t.ok(given.every((ns, i) => i === 0 || ns - (given[i - 1] as bigint) >= SECOND));
  t.ok(read + hub.stats().queueLost <= written && lost <= hub.stats().queueLost);
  await reader.return?.();
});

t.test('losses of the kernel pass every filter, in their place', async (t) => {
  const { hub, clock } = hubWith(3);
  hub.lostInRing(5, 1);
  hub.lostInRing(7, 1);
  put(hub, 3);
  t.same(await all(hub, {}), [0, 1, 2, 'kernel 12', 3]);
  t.same(await all(hub, { whitelist: [{ source_port: ['2', '3'] }] }), [2, 'kernel 12', 3]);
  t.same(await all(hub, { number: 1 }), [3], 'older than what is asked for');
  t.same(await all(hub, { since: at(20_000) }), [], 'before since');
  t.same(await all(hub, { until: at(0) }), [0, 'kernel 12'], 'some time in the second before');
  t.equal(hub.stats().ringLost, 12);

  const items: HubItem[] = [];
  hub.lostInRing(1, 2);
  for await (const item of hub.read({}, never())) if ('lost' in item) items.push(item);
  const [a, b] = items.map((i) => ('lost' in i ? i.lost : undefined));
  t.match(a, { source: 'PERF_EVENT_RING_BUFFER', count: 12, cpu: 1, firstNs: clock.now - SECOND, lastNs: clock.now });
  t.match(b, { count: 1, cpu: 2 }, 'what is left is told at the end');

  for (let i = 0; i < 1000; i++) hub.lostInRing(1, i % 4);
  const total = (await all(hub, {})).filter((x) => typeof x === 'string').map((x) => Number((x as string).slice(7)));
  t.equal(
    total.reduce((x, y) => x + y, 0),
    1013,
    'entries are bounded, their counts are not lost',
  );
});

t.test('an answer says when it does not reach back as far as asked', async (t) => {
  const { hub } = hubWith(100, 15);
  const [notice] = await all(hub, { since: at(50) });
  t.equal(notice, -(85 - 50));
  t.same((await all(hub, { since: at(85) })).slice(0, 2), [85, 86], 'what it asks for is there');
  t.same((await all(hub, { number: 100 })).length, 15, 'a number asks for what there is');
});

t.test('a reader that finds nothing lets others have their turn', async (t) => {
  const { hub } = hubWith(5000, 4095);
  let turns = 0;
  const immediate = () => {
    turns++;
    if (turns < 1000) setImmediate(immediate);
  };
  setImmediate(immediate);
  t.same(await all(hub, { number: 0, whitelist: [{ uuid: ['x'] }] }), []);
  t.ok(turns >= 3, `${turns} turns`);
  turns = 1000;
});

t.test('readers that go leave nothing behind', async (t) => {
  const { hub } = hubWith(0);
  const readers = Array.from({ length: 50 }, () => follow(hub, {}));
  await idle();
  await Promise.all(readers.map((r) => r.stop()));
  put(hub, 0);
  await idle();
  t.ok(readers.every((r) => r.got.length === 0));
  const abort = new AbortController();
  let listeners = 0;
  const add = abort.signal.addEventListener.bind(abort.signal);
  const remove = abort.signal.removeEventListener.bind(abort.signal);
  abort.signal.addEventListener = ((...args: Parameters<typeof add>) => {
    listeners++;
    add(...args);
  }) as typeof add;
  abort.signal.removeEventListener = ((...args: Parameters<typeof remove>) => {
    listeners--;
    remove(...args);
  }) as typeof remove;
  const done = all(hub, { follow: true }, abort.signal);
  for (let i = 0; i < 20; i++) {
    await idle();
    put(hub, i);
  }
  await idle();
  t.equal(listeners, 1, 'one listener, however often it waited');
  abort.abort();
  await done;
  t.equal(listeners, 0);
});

t.test('namespaces of the last hour', async (t) => {
  const clock = { now: LEAD + BigInt(100e9) };
  const hub = new FlowHub({ nodeName: 'n', records, capacity: 7, now: () => clock.now });
  t.same(hub.namespaces(), []);
  const seen = (namespace: string, seconds: number) => {
    const f = numbered(0, 0, { timeNs: seconds * 1e9 });
    hub.publish({ ...f, source: { ...f.source, namespace }, destination: WORLD });
    clock.now = LEAD + BigInt(seconds * 1e9);
  };
  seen('old', 100);
  seen('web', 200);
  for (let i = 0; i < 20; i++) seen('api', 3650 + i);
  t.same(hub.namespaces(), [{ namespace: 'api' }, { namespace: 'old' }, { namespace: 'web' }], 'sorted');
  seen('api', 3750);
  t.same(hub.namespaces(), [{ namespace: 'api' }, { namespace: 'web' }]);
  clock.now += 3601n * SECOND;
  t.same(hub.namespaces(), [], 'time passes without flows, too');
  for (let i = 0; i < 10_100; i++) seen(`n${i}`, 7400);
  t.equal(hub.namespaces().length, 10_000, 'bounded');
});

t.test('flows per second, over the last whole seconds', async (t) => {
  const clock = { now: LEAD + BigInt(100e9) };
  const hub = new FlowHub({ nodeName: 'n', records, now: () => clock.now });
  t.equal(hub.stats().flowsPerSecond, 0);
  const flows: Flow[] = [];
  for (let i = 0; i < 3000; i++) flows.push(numbered(i, 1e6));
  for (const f of flows) hub.publish(f);
  clock.now = LEAD + BigInt(103e9);
  t.equal(hub.stats().flowsPerSecond, 1000, 'three seconds old');
  t.equal(hub.stats().uptimeNs, 3e9);
  clock.now = LEAD + BigInt(112e9);
  t.equal(hub.stats().flowsPerSecond, 100, 'one of the last ten had flows');
  clock.now = LEAD + BigInt(200e9);
  t.equal(hub.stats().flowsPerSecond, 0);
});
