/** The policies board: what is where, what passes its filters, and every task by keys alone. */
import t from 'tap';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { type BoardFilter, columnsOf, moved, rowsInSight, rowsOf } from '../../src/ui/wire/board.js';
import type { BoardPolicy, Hits, PoliciesAnswer } from '../../src/ui/wire/policies.js';
import { until } from '../netns/shell.js';
import { UiBrowser } from './browser.js';
import { servePage } from './page.js';
import { startWorld } from './world.js';

const ALL: BoardFilter = { text: '', dialect: '', show: [], namespaces: [] };
const HEIGHT = { group: 30, card: 90 };

function policy(id: string, more: Partial<BoardPolicy> = {}): BoardPolicy {
  const [short = '', namespace = '', name = ''] = id.split('/');
  return {
    ...{
      id,
      kind: 'NetworkPolicy',
      namespace: name === '' ? '' : namespace,
      name: name || namespace,
      pods: 1,
      rules: 1,
    },
    ...{ dialect: short === 'np' ? 'networkpolicy' : short === 'gnp' ? 'calico' : 'cilium', staged: false },
    ...{ refused: false, warnings: 0 },
    ...more,
  };
}

function board(...policies: BoardPolicy[]): PoliciesAnswer {
  return { tiers: [{ name: 'default', defaultAction: 'deny', policies: policies.map((p) => p.id) }], policies };
}

/** `[shop] web db | 1:gate`: lines of namespaces, cards with their places. */
function text(answer: PoliciesAnswer, filter: Partial<BoardFilter> = {}, hits: Record<string, Hits> = {}) {
  const columns = columnsOf(answer, { hits }, { ...ALL, ...filter }, 'judged');
  return columns.map(({ items }) =>
    items
      .map((i) => (i.type === 'group' ? `[${i.namespace}]` : `${i.place > 0 ? `${i.place}:` : ''}${i.policy.name}`))
      .join(' '),
  );
}

t.test('policies with an order stand in it, those that are united below their namespaces', async (t) => {
  const all = board(
    policy('np/shop/web'),
    policy('gnp/gate'),
    policy('np/shop/db'),
    policy('cilium/data/x'),
    policy('np/shop/api'),
  );
  t.same(text(all), ['[shop] web 1:gate [data] x [shop] db api']);
  t.same(text(all, { dialect: 'calico' }), ['1:gate']);
  t.same(text(all, { namespaces: ['data'] }), ['1:gate [data] x'], 'what concerns the whole cluster stays');
  t.same(text(all, { text: 'NP shop' }), ['[shop] web [shop] db api'.replace(' [shop] db api', ' db api')]);
});

t.test('filters', async (t) => {
  const fault = { field: 'spec.egress[0]', message: 'is not a CIDR' };
  const all = board(
    policy('np/a/staged', { staged: true }),
    policy('np/a/refused', { refused: true, fault }),
    policy('np/a/used'),
    policy('np/a/idle'),
  );
  const hits: Record<string, Hits> = {
    'np/a/used': [3, 1, 0, 0, 9],
    'np/a/staged': [0, 0, 0, 2, 9],
    'np/a/refused': [1, 0, 0, 0, 9],
  };
  t.same(text(all, { show: ['staged'] }, hits), ['[a] staged']);
  t.same(text(all, { show: ['unused'] }, hits), ['[a] idle']);
  t.same(text(all, { show: ['denied'] }, hits), ['[a] staged used']);
  t.same(text(all, { show: ['refused', 'unused'] }, hits), ['[a] refused idle'], 'one of them is enough');
  t.same(text(all, { text: 'cidr' }, hits), ['[a] refused'], 'problems are searched');
  const [column] = columnsOf(all, { hits }, ALL, 'hits');
  t.same(
    column?.items.map((i) => i.type === 'card' && i.policy.name),
    ['used', 'staged', 'refused', 'idle'],
  );
  t.match(columnsOf(all, { hits: {} }, { ...ALL, text: 'x' }, 'judged'), [{ cards: 0, hidden: 4 }]);
});

t.test('names of properties that objects have are policies like others', async (t) => {
  const all = board(policy('np/a/__proto__'), policy('np/a/constructor'));
  t.same(text(all, { show: ['unused'] }), ['[a] __proto__ constructor']);
});

t.test('10,000 policies: only the rows in sight, found at once', async (t) => {
  const all = board(...Array.from({ length: 10_000 }, (_, n) => policy(`np/ns${n % 50}/p${n}`)));
  const [column] = columnsOf(all, undefined, ALL, 'judged');
  const rows = rowsOf(column?.items ?? [], 3, HEIGHT);
  const last = rows.at(-1);
  t.equal((last?.top ?? 0) + (last?.height ?? 0), 50 * 30 + 50 * Math.ceil(200 / 3) * 90);
  const seen = rowsInSight(rows, 100_000, 101_000);
  t.ok(seen.length > 8 && seen.length < 16, `${seen.length} rows`);
  t.ok(seen.every((r) => r.top + r.height >= 100_000 && r.top <= 101_000));
  const began = performance.now();
  for (let n = 0; n < 10_000; n++) rowsInSight(rows, n * 30, n * 30 + 1000);
  t.ok(performance.now() - began < 1000);
});

t.test('where keys lead', async (t) => {
  const cards = (...names: string[]) =>
    names.map((name) => ({ type: 'card', place: 1, policy: policy(`gnp/${name}`) }) as const);
  const columns = [
    rowsOf(cards('a', 'b', 'c'), 1, HEIGHT),
    rowsOf([], 1, HEIGHT),
    rowsOf(cards('d', 'e', 'f', 'g', 'h'), 2, HEIGHT),
  ];
  const go = (column: number, name: string, ...moves: Parameters<typeof moved>[2][]) =>
    moves
      .reduce<ReturnType<typeof moved>>((spot, move) => moved(columns, spot, move), { column, id: `gnp/${name}` })
      ?.id.slice(4);
  t.equal(moved(columns, undefined, 'next')?.id, 'gnp/a', 'the first one');
  t.equal(go(0, 'a', 'down', 'down', 'down'), 'c', 'the end holds');
  t.equal(go(0, 'b', 'right'), 'f', 'to the level beside, over an empty tier');
  t.equal(go(2, 'f', 'left'), 'b');
  t.equal(go(2, 'd', 'right', 'down'), 'g');
  t.equal(go(2, 'g', 'down'), 'h', 'a shorter row');
  t.equal(go(2, 'd', 'next', 'next', 'previous'), 'e');
  t.equal(go(2, 'gone', 'down'), 'a');
  t.equal(moved([[]], undefined, 'down'), undefined);
});

t.test('the page', { timeout: 180_000 }, async (t) => {
  const world = await startWorld({ trickle: false });
  t.teardown(() => world.stop());
  const client = new AgentClient(world.socket);
  t.teardown(() => client.close());
  const browser = await UiBrowser.start();
  t.teardown(() => browser.close());
  const { link, url } = await servePage(t, client, 'this agent reads files');

  await t.test('tiers in order, each policy with its state', async (t) => {
    const ui = await browser.open(t, link('/policies'));
    const { page } = ui;
    await ui.shows('batch');
    const tiers = await page.locator('.column > header h2').allTextContents();
    t.equal(tiers.length, new Set(tiers).size);
    t.ok(tiers.indexOf('security') < tiers.indexOf('default'), tiers.join());
    t.match(await page.locator('[data-card="np/shop/batch"]').textContent(), /◐.*staged/);
    const refused = page.locator('[data-card="np/shop/refused"]');
    t.match(await refused.textContent(), /spec\.egress\[0\].*203\.0\.113\.300/);
    t.match(await refused.getAttribute('class'), /refused/);
    await until('what they decided', async () =>
      /✕.*[1-9]/.test((await page.locator('[data-card="gnp/security.data"]').textContent()) ?? ''),
    );
    await until('would deny', async () =>
      /◐[^◐]*: [1-9]/.test((await page.locator('[data-card="np/shop/batch"]').textContent()) ?? ''),
    );
    await ui.accessible(t, 'the board');
    await ui.shot('board');
  });

  await t.test('all of it by keys', async (t) => {
    const ui = await browser.open(t, link('/policies'));
    const { page } = ui;
    await ui.shows('batch');
    const focused = () => ui.ask<string>('document.activeElement?.dataset?.card ?? ""');
    const press = async (key: string, lead: string | RegExp) => {
      await page.keyboard.press(key);
      await until(`${key} leads to ${lead}`, async () => new RegExp(lead).test(await focused()));
    };
    await press('j', 'gnp/security.data');
    await press('ArrowRight', 'cnp/no-telnet');
    await page.keyboard.press('f');
    await page.keyboard.type('batch');
    await until('one is left', async () => (await page.locator('[data-card]').count()) === 1);
    t.match(page.url(), /q=batch/, 'the address has it');
    await page.keyboard.press('Escape');
    await press('j', 'np/shop/batch');
    await page.keyboard.press('Enter');
    await ui.shows('what no rule decides');
    t.match(page.url(), /policy=np%2Fshop%2Fbatch/);
    await ui.shows('this agent reads files');
    t.ok(await page.getByRole('button', { name: /^Enforce/ }).isDisabled(), 'nothing can be written');
    await ui.accessible(t, 'a policy');
    await ui.shot('board-policy');
    await page.keyboard.press('Escape');
    await until('it is closed', () => !page.url().includes('policy='));
    await page.keyboard.press('e');
    await until('it is edited', () => page.url().includes('edit=np%2Fshop%2Fbatch'));
  });

  await t.test('what passes no filter, and a policy that is gone', async (t) => {
    const ui = await browser.open(t, link('/policies?q=nothing-like-it'), { allowed: [/404/] });
    await ui.shows('No policy matches');
    await ui.page.getByRole('button', { name: 'Drop the filters' }).click();
    await ui.shows('batch');
    await ui.page.goto(`${url}/policies?policy=np%2Fshop%2Fgone`);
    await ui.shows('there is no such policy');
  });

  await t.test('a change shows without being asked for', async (t) => {
    const ui = await browser.open(t, link('/policies'), { colorScheme: 'dark' });
    await ui.shows('batch');
    await world.applyManifest(
      'extra',
      'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: brand-new, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Egress], egress: [{}]}',
    );
    await ui.shows('brand-new', 15_000);
    await ui.shot('board-dark');
    await world.removeManifest('extra');
  });
});
