import { setTimeout as sleep } from 'node:timers/promises';
import fc from '../seeded.js';
import t from 'tap';
import { FlowHub, type HubItem } from '../../src/flow/hub/hub.js';
import type { Flow } from '../../src/flow/event/types.js';
import type { GetFlowsRequest } from '../../src/proto/messages.js';
import { LEAD, numbered, SECOND, WORLD } from './flows.js';
import { all, at, brief, follow, hubWith, idle, never, put, records } from './hubs.js';

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
