/** Questions that are answered in a thread of their own: what they may take, and what becomes of the caller meanwhile. */
import t from 'tap';
import { AskThread } from '../../agent/ask/thread.js';
import { SharedMap } from '../../src/identity/shared-map.js';

const JOBS = new URL('./jobs.js', import.meta.url).href;
const limits = { ms: 20_000, mebibytes: 64, waiting: 4 };

t.test('what is asked arrives whole: maps of both kinds, long lists, nothing, keys of the prototype', async (t) => {
  const thread = new AskThread(JOBS, limits);
  const many = new Map(Array.from({ length: 1234 }, (_, n) => [`k${n}`, { n }]));
  const shared = SharedMap.of(many).with([['k1', { n: -1 }]]);
  const list = Array.from({ length: 1700 }, (_, n) => n);
  const hostile = JSON.parse('{"__proto__": {"polluted": [1]}}') as unknown;
  const got = await thread.ask<Record<string, unknown>>('echo', {
    ...{ many, shared, list, empty: [], none: new Map(), text: 'x', absent: undefined, deep: { in: { at: [1, 2] } } },
    hostile,
  });
  t.strictSame(got.many, many);
  t.strictSame(got.shared, new Map(shared), 'as a plain map');
  t.strictSame([got.list, got.empty, got.none, got.text], [list, [], new Map(), 'x']);
  t.strictSame(got.deep, { in: { at: [1, 2] } });
  t.strictSame(JSON.stringify(got.hostile), JSON.stringify(hostile));
  t.equal(({} as Record<string, unknown>).polluted, undefined);
});

t.test('errors are those of the job', async (t) => {
  const thread = new AskThread(JOBS, limits);
  t.equal(await thread.ask('isEven', 2), true);
  const odd = { name: 'AgentError', code: 'USAGE', message: 'odd', hint: 'be even', where: { field: 'n' } };
  await t.rejects(thread.ask('isEven', 1), odd);
  await t.rejects(thread.ask('crash', 1), { code: 'INTERNAL', message: 'no' });
  await t.rejects(thread.ask('toString', 1), { code: 'INTERNAL', message: 'there is no job toString' });
});

t.test('time and memory are limited, and the next question is answered', async (t) => {
  const thread = new AskThread(JOBS, { ...limits, ms: 500 });
  await t.rejects(thread.ask('spin', 1), { code: 'AGENT', message: 'spin took more than 0.5 s' });
  const small = new AskThread(JOBS, limits);
  await t.rejects(small.ask('fill', 1), { code: 'AGENT', message: 'it takes more than 64 MiB of memory' });
  t.equal(await small.ask('isEven', 4), true);
});

t.test('one at a time: a few wait, more are refused', async (t) => {
  const thread = new AskThread(JOBS, { ...limits, waiting: 1 });
  const asked = [thread.ask('echo', 1), thread.ask('echo', 2), thread.ask('echo', 3)];
  t.match(await Promise.allSettled(asked), [
    { value: 1 },
    { value: 2 },
    { status: 'rejected', reason: { code: 'AGENT', message: '2 such questions are open already' } },
  ]);
  t.equal(await thread.ask('echo', 4), 4);
});

t.test('the caller goes on while its question is copied and answered', async (t) => {
  const thread = new AskThread(JOBS, { ...limits, mebibytes: 512 });
  const pod = (n: number) => ({
    uid: `${n}`,
    name: `pod-${n}`,
    labels: { app: `a${n % 9}`, tier: 'x' },
    ips: [`${n}`],
  });
  const pods = new Map(Array.from({ length: 20_000 }, (_, n) => [`ns/${n}`, pod(n)]));
  let longest = 0;
  let before = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    longest = Math.max(longest, now - before);
    before = now;
  }, 1);
  await thread.ask('isEven', { pods }).catch(() => {});
  clearInterval(timer);
  t.ok(longest < 100, `the longest pause was ${Math.round(longest)} ms`);
});

t.test('closing ends what is being answered, and what waits', async (t) => {
  const thread = new AskThread(JOBS, limits);
  const asked = [thread.ask('spin', 1), thread.ask('echo', 2)];
  setTimeout(() => thread.close(), 300);
  t.match(await Promise.allSettled(asked), [{ status: 'rejected' }, { status: 'rejected' }]);
  await t.rejects(thread.ask('echo', 1), { code: 'AGENT', message: 'the agent is being stopped' });
});
