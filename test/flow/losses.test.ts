/** What readers are told of flows that they do not get. */
import t from 'tap';
import { FlowHub, type HubItem } from '../../src/flow/hub/hub.js';
import { SECOND } from './flows.js';
import { all, at, brief, hubWith, idle, never, put, records } from './hubs.js';

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
  const started = Date.now();
  t.equal(await first, -2);
  t.same([await next(), await next(), await next()], [2, 3, 4]);
  hub.lostInRing(4);
  hub.lostInRing(2);
  t.equal(await next(), 'kernel 6');
  t.ok(Date.now() - started >= 500, 'at most one a second');
  await reader.return?.();
});

t.test('notices of one kind are at most one a second, however much is lost', async (t) => {
  const { hub, clock } = hubWith(0, 3);
  const reader = hub.read({ follow: true }, never())[Symbol.asyncIterator]();
  const given: Record<string, bigint[]> = { PERF_EVENT_RING_BUFFER: [], HUBBLE_RING_BUFFER: [] };
  let lost = 0;
  let read = 0;
  let written = 0;
  for (let i = 0; i < 300; i++) {
    clock.now += SECOND / 20n;
    for (let k = 0; k < 5; k++) put(hub, written++);
    hub.lostInRing(1, i % 2);
    const item = (await reader.next()).value as HubItem;
    if ('lost' in item) {
      given[item.lost.source]?.push(clock.now);
      if (item.lost.source === 'HUBBLE_RING_BUFFER') lost += item.lost.count;
    } else {
      read++;
    }
  }
  for (const [source, times] of Object.entries(given)) {
    t.ok(times.length >= 13 && times.length <= 15, `${source}: ${times.length} notices in 15 seconds`);
    t.ok(times.every((ns, i) => i === 0 || ns - (times[i - 1] as bigint) >= SECOND - SECOND / 10n));
  }
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

t.test('whose events the kernel lost', async (t) => {
  const { hub, clock } = hubWith(1);
  hub.lostInRing(5, undefined, 'shop/web');
  hub.lostInRing(3, undefined, 'shop/db');
  hub.lostInRing(2);
  hub.lostInRing(7, undefined, 'shop/web');
  put(hub, 1);
  const told = async () => {
    const out: string[] = [];
    for await (const item of hub.read({}, never()))
      out.push('lost' in item ? `${item.lost.pod ?? '-'} ${item.lost.count}` : 'flow');
    return out;
  };
  t.same(await told(), ['flow', 'shop/web 12', 'shop/db 3', '- 2', 'flow'], 'each for itself, all at once');
  const reader = hub.read({ follow: true }, never())[Symbol.asyncIterator]();
  const first = reader.next();
  await idle();
  hub.lostInRing(4, undefined, 'shop/db');
  t.match(await first, { value: { lost: { pod: 'shop/db', count: 4, source: 'PERF_EVENT_RING_BUFFER' } } });
  clock.now += SECOND;
  await reader.return?.();
});

t.test('an answer says when it does not reach back as far as asked', async (t) => {
  const { hub } = hubWith(100, 15);
  const [notice] = await all(hub, { since: at(50) });
  t.equal(notice, -(85 - 50));
  t.same((await all(hub, { since: at(85) })).slice(0, 2), [85, 86], 'what it asks for is there');
  t.same((await all(hub, { number: 100 })).length, 15, 'a number asks for what there is');
});
