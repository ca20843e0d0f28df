/**
 * The list-watch against a server that misbehaves. By property: whatever happens, no view is a part of a list, nothing goes back
 * in time, and in the end the view is the server's. FUZZ_SEED repeats a run, FUZZ_RUNS makes it longer.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import fc from '../seeded.js';
import t, { type Test } from 'tap';
import type { KubeObject } from '../../src/kube/client/client.js';
import { Reflector, type ReflectorOptions } from '../../src/kube/reflector/reflector.js';
import { makeLogger } from '../../src/log.js';
import { FAULTS_NEXT_EVENT, FAULTS_NEXT_REQUEST, FAULTS_NOW, FakeServer } from './fake-server.js';
import { until, Viewer } from './viewer.js';

const SEED = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31);
const RUNS = Number(process.env.FUZZ_RUNS ?? 200);

async function world(t: Test, opts: Partial<ReflectorOptions<KubeObject>> = {}, objects = 8) {
  const server = new FakeServer();
  for (let i = 0; i < objects; i++) server.put(`ns/pod-${i}`);
  await server.start();
  const viewer = new Viewer(server, [], opts);
  t.teardown(async () => {
    viewer.close();
    await server.stop();
  });
  return { server, viewer, reflector: viewer.reflector };
}

/** No audit: what is seen then came through the watch, or a list that had to be. */
const NO_AUDIT = { auditMs: 3_600_000, idleMs: 3_600_000 };

type Step =
  | { do: 'put' | 'delete' | 'replace'; key: number }
  | { do: 'change'; key: number }
  | { do: 'fault'; fault: string }
  | { do: 'wait'; ms: number };

const ALWAYS = ['ns/always-0', 'ns/always-1', 'ns/always-2', 'ns/always-3'];
const key = (n: number) => `ns/pod-${n}`;

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constantFrom('put', 'delete', 'replace'), key: fc.nat(9) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('change'), key: fc.nat(ALWAYS.length - 1) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fault'), fault: fc.constantFrom(...FAULTS_NOW) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fault'), fault: fc.constantFrom(...FAULTS_NEXT_EVENT) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fault'), fault: fc.constantFrom(...FAULTS_NEXT_REQUEST) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('wait'), ms: fc.nat(12) }) },
) as fc.Arbitrary<Step>;

async function play(server: FakeServer, steps: readonly Step[]): Promise<void> {
  for (const s of steps) {
    if (s.do === 'wait') await sleep(s.ms);
    else if (s.do === 'fault') server.inject(s.fault);
    else if (s.do === 'change') server.put(ALWAYS[s.key] as string);
    else {
      if (s.do !== 'put') server.delete(key(s.key));
      if (s.do !== 'delete') server.put(key(s.key));
    }
  }
}

t.test(`whatever happens, the view ends equal to the server's, FUZZ_SEED=${SEED}`, async (t) => {
  let runs = 0;
  const total = { lists: 0, watches: 0, events: 0, errors: 0, malformed: 0, repairs: 0 };
  const sequence = fc.array(step, { minLength: 5, maxLength: 80, size: '+1' });
  // Half of them while the first list is under way, half when all was well until then.
  const property = fc.asyncProperty(fc.boolean(), sequence, async (well, steps) => {
    const server = new FakeServer();
    for (const k of ALWAYS) server.put(k);
    for (let i = 0; i < 5; i++) server.put(key(i));
    await server.start();
    const viewer = new Viewer(server, ALWAYS);
    try {
      if (well) await until(() => server.openWatches === 1);
      await play(server, steps);
      server.calm();
      const difference = await viewer.equal();
      const { counts } = viewer.reflector;
      for (const k of Object.keys(total) as (keyof typeof total)[]) total[k] += counts[k];
      runs++;
      if (difference !== '') throw new Error(difference);
      if (viewer.wrong.length > 0) throw new Error(`${viewer.wrong.join('\n')}\n${viewer.log.slice(-30).join('')}`);
    } finally {
      viewer.close();
      await server.stop();
    }
  });
  // Real connections and real time: what fails is not always smaller, so the sequence is printed as it was.
  await fc.assert(property, { seed: SEED, numRuns: RUNS, endOnFailure: true, interruptAfterTimeLimit: 15_000 });
  t.ok(runs > 0, `${runs} sequences: ${JSON.stringify(total)}`);
});

t.test('a watch that ends is followed by another, without a list', async (t) => {
  const { server, viewer } = await world(t, NO_AUDIT);
  await viewer.equal();
  const lists = server.lists;
  for (const fault of ['end', 'drop', 'half-line', 'half-line-end', 'refuse', '503', '429', '401', 'no-answer']) {
    await until(() => server.openWatches === 1);
    if (/^\d|no-/.test(fault)) {
      server.inject(fault);
      server.inject('drop');
    } else server.inject(fault);
    server.put('ns/pod-1', fault);
    server.delete('ns/pod-2');
    server.put('ns/pod-2');
    t.equal(await viewer.equal(), '', fault);
    t.equal(server.lists, lists, `${fault}: no list`);
  }
  t.same(viewer.wrong, []);
});

t.test('410 and what is no watch lead to a list', async (t) => {
  const { server, viewer, reflector } = await world(t, NO_AUDIT);
  for (const fault of ['error-410', 'junk', 'nameless', 'unknown-type', 'compacted']) {
    await viewer.equal();
    await until(() => server.openWatches === 1);
    const lists = server.lists;
    if (fault === 'compacted') {
      // Away while the history goes: the next watch is refused.
      const away = server.hangUp();
      server.delete('ns/pod-3');
      server.put('ns/new');
      server.inject('compact');
      server.put('ns/newer');
      server.inject('compact');
      await away;
      await server.listen();
    } else {
      server.inject('lose');
      server.delete('ns/pod-4');
      server.inject(fault);
    }
    t.equal(await viewer.equal(), '', fault);
    t.ok(server.lists > lists, `${fault}: listed`);
    server.put('ns/pod-4');
  }
  t.equal(reflector.counts.malformed, 3);
  t.same(viewer.wrong, []);
});

t.test('a list shows when its last page is in; a token that expires begins it anew', async (t) => {
  const { server, viewer, reflector } = await world(t, NO_AUDIT, 30);
  await viewer.equal();
  const takes = viewer.takes;
  t.equal(takes, 1, 'one look');
  await until(() => server.openWatches === 1);
  server.inject('lose');
  server.delete('ns/pod-0');
  server.inject('cut-answer');
  server.inject('error-410');
  await until(() => server.lists > 10);
  server.inject('expire-tokens');
  t.equal(await viewer.equal(), '');
  t.equal(viewer.takes, takes + 1, 'one look for the one difference');
  t.equal(reflector.size, 29);
  const first = server.seen.find(({ url }) => url.pathname === server.path)?.url.searchParams;
  t.notOk(first?.has('resourceVersion'), 'never out of a cache');
});

t.test('an audit makes good what no event told', async (t) => {
  const { server, viewer, reflector } = await world(t, { idleMs: 3_600_000 });
  await viewer.equal();
  await until(() => server.openWatches === 1);
  server.inject('lose');
  server.delete('ns/pod-0');
  server.inject('lose');
  server.put('ns/pod-1');
  t.equal(await viewer.equal(), '');
  t.ok(reflector.counts.repairs > 0);
  t.equal(reflector.counts.watches, 1, 'the watch went on');
});

t.test('an audit does not set back what events bring while it is under way', async (t) => {
  const { server, viewer, reflector } = await world(t, { idleMs: 3_600_000, auditMs: 20 }, 20);
  await viewer.equal();
  for (let i = 0; i < 8; i++) {
    await until(() => server.openWatches === 1);
    for (let page = 0; page < 3; page++) server.inject('slow-answer');
    const lists = server.lists;
    await until(() => server.lists > lists);
    server.put(`ns/new-${i}`);
    server.put('ns/pod-0');
    server.delete(`ns/pod-${19 - i}`);
    server.delete('ns/pod-1');
    server.put('ns/pod-1');
    await until(() => server.lists >= lists + 9);
    t.equal(await viewer.equal(), '');
  }
  t.same(viewer.wrong, []);
  t.equal(reflector.counts.watches, 1);
});

t.test('silence is noticed', async (t) => {
  const { server, viewer, reflector } = await world(t, { auditMs: 3_600_000 });
  await viewer.equal();
  await until(() => server.openWatches === 1);
  server.inject('silence');
  server.put('ns/pod-1');
  t.equal(await viewer.equal(), '');
  t.equal(server.lists, 3, 'without a list');
  t.equal(reflector.staleSince, undefined);
});

t.test('the server is away: the view stays, and since when is told', async (t) => {
  const { server, viewer, reflector } = await world(t);
  await viewer.equal();
  await until(() => server.openWatches === 1);
  t.equal(reflector.staleSince, undefined);
  const before = Date.now();
  await server.hangUp();
  await until(() => reflector.staleSince !== undefined);
  const since = reflector.staleSince as number;
  t.ok(since >= before && since <= Date.now());
  t.match(reflector.lastError, /ECONN|aborted|socket hang up/);
  await sleep(100);
  t.equal(reflector.staleSince, since, 'the first moment stays');
  t.equal(reflector.size, 8);
  t.ok(reflector.synced);
  await server.listen();
  server.delete('ns/pod-5');
  t.equal(await viewer.equal(), '');
  await until(() => reflector.staleSince === undefined);
  t.equal(reflector.lastError, undefined);
  t.ok(viewer.log.filter((l) => / warn /.test(l)).length <= 5, 'the log is short');
});

t.test('readiness: not before the first complete list', async (t) => {
  const server = new FakeServer();
  for (let i = 0; i < 8; i++) server.put(`ns/pod-${i}`);
  await server.start();
  for (const fault of ['503', '401', 'junk-answer', 'cut-answer', '429']) server.inject(fault);
  const viewer = new Viewer(server);
  t.teardown(async () => {
    viewer.close();
    await server.stop();
  });
  t.notOk(viewer.reflector.synced);
  t.same(viewer.reflector.take(), { changed: new Map() });
  t.equal(await viewer.equal(), '');
  t.equal(viewer.takes, 1);
});

t.test('a kind that the server no longer knows is gone at the second look', async (t) => {
  const { server, viewer, reflector } = await world(t, NO_AUDIT);
  await viewer.equal();
  await until(() => server.openWatches === 1);
  server.inject('404');
  server.inject('drop');
  await until(() => server.lists > 3);
  t.equal(await viewer.equal(), '', 'one 404 says nothing');
  t.equal(reflector.size, 8);
  server.routes.set(server.path, () => ({ status: 404, body: { reason: 'NotFound' } }));
  server.inject('drop');
  await until(() => viewer.view.size === 0);
  t.ok(reflector.synced);
  t.equal(reflector.staleSince, undefined, 'what it shows is true');
  server.routes.clear();
  t.equal(await viewer.equal(), '', 'it is back');
});

t.test('a storage that was restored: older versions are the truth then', async (t) => {
  const { server, viewer } = await world(t, { idleMs: 3_600_000 });
  await viewer.equal();
  const backup = new Map(server.objects);
  const version = server.version;
  for (let i = 0; i < 4; i++) server.put(`ns/pod-${i}`);
  server.delete('ns/pod-5');
  await viewer.equal();
  server.restore(backup, version);
  t.equal(await viewer.equal(), '');
  server.put('ns/after');
  t.equal(await viewer.equal(), '', 'events count again');
});

t.test('out of order and twice', async (t) => {
  const { server, viewer, reflector } = await world(t, NO_AUDIT);
  await viewer.equal();
  await until(() => server.openWatches === 1);
  server.inject('swap');
  server.delete('ns/pod-0');
  server.put('ns/pod-0');
  server.inject('swap');
  server.put('ns/pod-1');
  server.delete('ns/pod-1');
  server.inject('duplicate');
  server.delete('ns/pod-2');
  server.inject('duplicate');
  server.put('ns/pod-2');
  server.inject('replay');
  t.equal(await viewer.equal(), '');
  t.same(viewer.wrong, []);
  t.ok(reflector.size === 7 && reflector.counts.lists === 1);
});

t.test('an object that cannot be read stays as it was', async (t) => {
  const { server, viewer, reflector } = await world(t, {
    ...NO_AUDIT,
    read: (object) => {
      if (object.metadata?.['annotations'] && JSON.stringify(object).includes('poison')) throw new Error('poison');
      return object;
    },
  });
  await viewer.equal();
  await until(() => server.openWatches === 1);
  const before = viewer.view.get('ns/pod-1');
  server.put('ns/pod-1', 'poison');
  server.put('ns/pod-2');
  await until(() => viewer.view.get('ns/pod-2') !== undefined && reflector.counts.malformed === 1);
  server.inject('error-410');
  await until(() => reflector.counts.malformed === 2);
  t.equal(viewer.view.get('ns/pod-1'), before);
  t.equal(viewer.log.filter((l) => l.includes('ns/pod-1 cannot be read: poison')).length, 1, 'said once');
  server.put('ns/pod-1', 'well');
  t.equal(await viewer.equal(), '');
});

t.test('50,000 objects', async (t) => {
  const server = new FakeServer();
  for (let i = 0; i < 50_000; i++) server.put(`ns-${i % 5000}/pod-${i}`, 'x'.repeat(1000));
  await server.start();
  server.bookmarkMs = 60_000;
  const log = makeLogger('warn', () => {});
  const reflector = new Reflector<string>({
    client: server.client(),
    path: server.path,
    read: (object) => object.metadata?.uid as string,
    onChange: () => {},
    log,
  });
  t.teardown(async () => {
    reflector.close();
    await server.stop();
  });
  const before = process.memoryUsage().heapUsed;
  const start = performance.now();
  reflector.start();
  await until(() => reflector.synced, 30_000);
  const listMs = performance.now() - start;
  const all = reflector.take();
  t.equal('all' in all && all.all.size, 50_000);
  await until(() => server.openWatches === 1);
  const events = performance.now();
  for (let i = 0; i < 5000; i++) server.put(`ns-${i % 5000}/pod-${i}`, 'y');
  const changed = new Set<string>();
  while (changed.size < 5000) {
    await until(() => reflector.counts.events > changed.size);
    const changes = reflector.take();
    if ('changed' in changes) for (const k of changes.changed.keys()) changed.add(k);
  }
  const eventMs = performance.now() - events;
  const held = (process.memoryUsage().heapUsed - before) / 2 ** 20;
  t.comment(
    `list in ${listMs.toFixed(0)} ms, 5,000 events in ${eventMs.toFixed(0)} ms, heap +${held.toFixed(0)} MiB (with garbage)`,
  );
  t.ok(listMs < 20_000);
});
