/** The screen recommend: evidence, the policy that follows, and what it would do; as answered, and in a browser. */
import t from 'tap';
import { DAY_MS } from '../../src/edges/edge.js';
import type { RecommendRequest } from '../../src/proto/edges.js';
import { answer } from '../../src/recommend/request.js';
import { EVERYTHING, type Viewer } from '../../src/ui/access/viewer.js';
import { type RecommendSource, recommendHandlers } from '../../src/ui/api/recommend.js';
import { AgentError } from '../../src/errors.js';
import type { RecommendationAnswer, RecommendList } from '../../src/ui/wire/recommend.js';
import { outside } from '../edges/given.js';
import { until } from '../netns/shell.js';
import { A_DAY, type Given, on, party, seen, snapshotOf } from '../recommend/given.js';
import { UiBrowser } from './browser.js';
import { servePage } from './given-page.js';
import { edgesOf } from './source.js';

const GIVEN: Given = {
  workloads: [
    { name: 'shop/web', ips: ['10.0.1.1'] },
    { name: 'shop/api', ips: ['10.0.2.1'] },
    { name: 'data/db', ips: ['10.0.3.1'] },
    { name: 'shop/gone' },
  ],
  policies: `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: api, namespace: shop }
spec: { podSelector: { matchLabels: { app: api } }, policyTypes: [Egress], egress: [{}] }
`,
};
const HISTORIES = [
  seen({ destination: party('shop/api'), port: 8080, address: '10.0.2.1' }),
  seen({ destination: outside('203.0.113.1'), address: '203.0.113.1' }),
  seen({ destination: outside('203.0.113.2'), address: '203.0.113.2' }, on([3])),
  seen({ destination: outside('198.51.100.9'), address: '198.51.100.9', verdict: 'deny' }),
  seen({ source: party('shop/api'), destination: outside('203.0.113.1'), address: '203.0.113.1' }),
  seen({ source: party('data/db'), destination: outside('203.0.113.1'), address: '203.0.113.1' }),
  seen({ source: party('shop/gone'), destination: outside('203.0.113.1'), address: '203.0.113.1' }),
];
const asked: RecommendRequest[] = [];
const source: RecommendSource = {
  edges: (request, signal) => edgesOf(HISTORIES, request, signal),
  recommend: async (request) => {
    asked.push(request);
    return answer({
      request,
      own: { histories: HISTORIES, beganMs: A_DAY * DAY_MS, overflow: 0 },
      snapshot: snapshotOf(GIVEN),
    });
  },
};
const team = (...namespaces: string[]): Viewer => ({
  ...EVERYTHING,
  id: 'team',
  scope: async () => new Set(namespaces),
});
const leaving = () => new AbortController().signal;
const ask = async <A>(name: string, body: Record<string, unknown>, viewer = EVERYTHING, from = source) =>
  (await recommendHandlers(from)[name]?.(body, viewer, leaving())) as A;
const WEB = { workload: 'shop/web', language: 'networkpolicy' };

t.test('the list has no policies, and says who is open', async (t) => {
  const { workloads, days } = await ask<RecommendList>('recommend', {});
  t.equal(days, 30);
  const rows = Object.fromEntries(workloads.map((row) => [row.workload, row]));
  t.match(rows['shop/web'], { state: 'stable', policies: 0, rules: 3, leftOut: 2, misses: 0, days: 30, of: 30 });
  t.equal(rows['shop/api']?.policies, 1);
  t.match(rows['shop/gone']?.refused, /no pods any more/);
  t.notMatch(JSON.stringify(workloads), 'apiVersion');
});

t.test('viewers of some namespaces', async (t) => {
  const { workloads } = await ask<RecommendList>('recommend', {}, team('data'));
  t.same(
    workloads.map(({ workload }) => workload),
    ['data/db'],
  );
  asked.length = 0;
  t.same((await ask<RecommendList>('recommend', {}, team())).workloads, []);
  t.same((await ask<RecommendList>('recommend', { namespaces: ['shop'] }, team('data'))).workloads, []);
  await t.rejects(ask('recommendation', WEB, team('data')), { message: /may not see the namespace/ });
  t.same(asked, [], 'the agent is not even asked');
});

t.test('what cannot be asked', async (t) => {
  for (const [body, message] of [
    [{ ...WEB, workload: 'web' }, /namespace\/name/],
    [{ ...WEB, language: 'perl' }, /language must be one of/],
    [{ ...WEB, minDays: 0 }, /minDays/],
    [{ ...WEB, without: Array(501).fill('x') }, /more than 500/],
    [{ ...WEB, workload: 'shop/nobody' }, /nothing is known of shop\/nobody/],
  ] as const)
    await t.rejects(ask('recommendation', body), { message });
});

t.test('one question of a user at a time: the earlier one is taken back, down to the agent', async (t) => {
  const signals: AbortSignal[] = [];
  const slow: RecommendSource = {
    edges: source.edges,
    recommend: (_, __, signal) =>
      new Promise((_, reject) => {
        signals.push(signal);
        signal.addEventListener('abort', () => reject(new AgentError('AGENT', 'cancelled')));
      }),
  };
  const handler = recommendHandlers(slow)['recommendation'];
  const first = handler?.(WEB, EVERYTHING, leaving());
  const refused = t.rejects(first as Promise<unknown>, { message: /another question of yours/ });
  await until('it is asked', () => signals.length === 1);
  const page = new AbortController();
  const second = handler?.(WEB, EVERYTHING, page.signal);
  await refused;
  t.equal(signals[0]?.aborted, true);
  const other = handler?.(WEB, team('shop'), page.signal);
  await until('another user asks', () => signals.length === 3);
  t.equal(signals[1]?.aborted, false, 'others have their own');
  page.abort();
  await t.rejects(second as Promise<unknown>, { message: 'cancelled' }, 'the page has left');
  await t.rejects(other as Promise<unknown>, { message: 'cancelled' });
});

t.test('an agent of an older version', async (t) => {
  const old: RecommendSource = {
    edges: source.edges,
    recommend: async (request, ...more) => {
      for (const option of ['brief', 'without', 'also'])
        if (request.options?.includes(option)) throw new AgentError('USAGE', `options.${option}: is not known`);
      return await source.recommend(request, ...more);
    },
  };
  t.equal((await ask<RecommendList>('recommend', {}, EVERYTHING, old)).workloads.length, 4);
  t.match((await ask<RecommendationAnswer>('recommendation', WEB, EVERYTHING, old)).yaml, '203.0.113.1');
});

t.test('in a browser', async (t) => {
  t.setTimeout(180_000);
  const browser = await UiBrowser.start();
  t.teardown(() => browser.close());
  const nodes = [{ name: 'n1', state: 'NODE_CONNECTED' }];
  const given = await servePage(t, { ...source, clusterStatus: async () => ({ nodes }) });

  await t.test('from the list to the editor, by keys', async (t) => {
    const page = await browser.open(t, given.link('/recommend'), { width: 1440 });
    const { keyboard } = page.page;
    const query = () => new URL(page.page.url()).searchParams;
    await page.shows('3 workloads have no policy');
    t.equal(await page.page.getByRole('link', { name: /api/ }).count(), 0, 'it has one');
    await page.accessible(t, 'the list');
    await page.shot('recommend-list');
    await page.page.getByRole('checkbox', { name: /With policies too \(1\)/ }).press('Space');
    await page.page.getByRole('link', { name: /shop\/api/ }).waitFor();
    await page.ask('document.activeElement.blur()');
    for (const key of ['j', 'j']) await keyboard.press(key);
    await keyboard.press('Enter');
    await page.shows('no policy selects it now');
    t.equal(query().get('workload'), 'shop/web');
    await page.accessible(t, 'the recommendation');

    const yaml = () => page.ask<string>('document.querySelector(".policy-text").textContent');
    t.match(await yaml(), '203.0.113.1/32');
    const evidence = page.page.getByRole('checkbox', { name: /^203.0.113.1 443/ });
    await evidence.focus();
    t.match(await page.page.locator('.policy-text .lit').textContent(), /# 203\.0\.113\.1: 443\/tcp, 300 connections/);
    await keyboard.press('Space');
    await until('the rule is gone', async () => !(await yaml()).includes('203.0.113.1/32'));
    t.same(query().getAll('without'), ['203.0.113.1: 443/tcp']);
    await page.shows('Not wanted, 1');
    const left = page.page.getByRole('checkbox', { name: /^203.0.113.2 443/ });
    await left.press('Space');
    await until('another is there', async () => (await yaml()).includes('203.0.113.2/32'));
    t.same(query().getAll('also'), ['203.0.113.2: 443/tcp']);
    await page.page.getByRole('tab', { name: /^Policy/ }).press('ArrowRight');
    await page.shows('Would be denied, 2');
    await page.shows(/left out: unwanted/);
    await page.accessible(t, 'the replay');
    await page.shot('recommend-replay');

    await page.page.reload();
    await page.shows('Would be denied, 2');
    await page.page.getByRole('tab', { name: /^What it would do/ }).press('Home');
    await page.page.getByRole('combobox', { name: 'language of the policy' }).selectOption('cilium');
    await until('another language', async () => (await yaml()).includes('CiliumNetworkPolicy'));
    t.match(await yaml(), '203.0.113.2');
    t.notMatch(await yaml(), '203.0.113.1/32');
    await page.shot('recommend-detail');
    await page.page.getByRole('button', { name: /Drop your 2 choices/ }).click();
    await until('all as it was', async () => (await yaml()).includes('203.0.113.1/32'));
    const waiting = page.page.waitForEvent('download');
    await page.page.getByRole('button', { name: 'Download' }).click();
    t.equal((await waiting).suggestedFilename(), 'shop_web-cilium.yaml');
    await page.page.getByRole('button', { name: 'Edit' }).click();
    await until('the editor is asked for', () => /\/policies\?/.test(page.page.url()) && query().get('edit') === 'new');
    const kept = await page.ask<string>('JSON.stringify(sessionStorage)');
    t.match(kept, 'CiliumNetworkPolicy');
    page.faults.length = 0;
  });

  await t.test('a link to one, in the dark; and one that gets no policy', async (t) => {
    const page = await browser.open(t, given.link('/recommend?workload=shop/web&to=fqdn'), { colorScheme: 'dark' });
    await page.shows('no policy selects it now');
    t.equal(await page.page.getByRole('combobox', { name: 'language of the policy' }).inputValue(), 'fqdn');
    await page.accessible(t, 'dark');
    await page.shot('recommend-dark');
    await page.page.goto(`${given.url}/recommend?workload=shop/gone`);
    await page.shows('It gets no policy');
    page.allow(/404/);
    await page.page.goto(`${given.url}/recommend?workload=shop/nobody`);
    await page.shows('nothing is known of shop/nobody');
    await page.page.keyboard.press('Escape');
    await page.shows('3 workloads have no policy');
  });
});
