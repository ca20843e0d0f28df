/** The frame of the page, in a browser: by keys, in words, at an address, and when things go wrong. */
import t from 'tap';
import type { ClusterNode } from '../../src/proto/status.js';
import { until } from '../netns/shell.js';
import { UiBrowser, type UiPage } from './browser.js';
import { type GivenSource, servePage } from './given-page.js';
import { silence } from './source.js';

const HOSTILE = '<img src=x onerror=alert(1)>\u202egnp';
const AGENT = {
  version: '0.1.0',
  mode: 'kubernetes',
  source: 'the API server',
  attach_mode: 'tcx',
  deny_response: 'drop',
};
const node = (name: string, more: Partial<NonNullable<ClusterNode['status']>> = {}) =>
  ({
    name,
    state: 'NODE_CONNECTED',
    status: {
      ...AGENT,
      node_name: name,
      maps: [],
      endpoints: [{ pod: 'shop/web', state: 'enforced', interface: 'eth1' }],
      ...more,
    },
  }) as unknown as ClusterNode;
const NODES: ClusterNode[] = [
  node('n1', { flows_per_second: 12, lost_in_ring: ['1200', '4'] }),
  node('n2', { endpoints: [{ pod: 'data/db', interface: 'eth1', state: 'observed' }] as never }),
  { name: 'n3', state: 'NODE_UNAVAILABLE', message: `n3: ${HOSTILE}` },
];
const NOTHING_SEEN = { language: 'networkpolicy', since: '', until: '', days: 0, warnings: [], workloads: [] };
const source: GivenSource = {
  clusterStatus: async () => ({ nodes: NODES }),
  recommend: async () => ({ json: JSON.stringify(NOTHING_SEEN) }),
};

const browser = await UiBrowser.start();
t.teardown(() => browser.close());
t.setTimeout(180_000);

const query = (page: UiPage) => new URL(page.page.url()).searchParams;
const focused = (page: UiPage) => page.ask<string>('document.activeElement?.id || document.activeElement?.className');

t.test('filters, namespaces, time and screens by keys, all of it in the address', async (t) => {
  const given = await servePage(t, source);
  const page = await browser.open(t, given.link('/status?node=n1'));
  const { keyboard } = page.page;
  await page.shows('n1');
  await keyboard.press('/');
  t.equal(await focused(page), 'query');
  await keyboard.type('to-por');
  await page.page.getByRole('option', { name: /^to-port:/ }).waitFor();
  await keyboard.press('Tab');
  await keyboard.type('443');
  await keyboard.press('Enter');
  await keyboard.type('!namespace:kube-system');
  await keyboard.press('Enter');
  await until('both are in the address', () => query(page).getAll('f').length === 2);
  t.same(query(page).getAll('f'), ['to-port:443', '!namespace:kube-system']);
  await keyboard.type('nonsense');
  await keyboard.press('Enter');
  await page.shows(/A filter is a name and a value/);
  t.equal(query(page).getAll('f').length, 2);
  await until('the box is empty', async () => {
    await keyboard.press('Escape');
    return await page.ask<boolean>('document.querySelector("#query").value === ""');
  });
  await keyboard.press('Backspace');
  t.same(query(page).getAll('f'), ['to-port:443'], 'Backspace drops the last');
  await page.page.getByRole('button', { name: 'not to-port: 443' }).press('Enter', { timeout: 5000 });
  t.same(query(page).getAll('f'), ['!to-port:443'], 'turned into its opposite');

  await page.page.getByRole('button', { name: 'namespaces: All namespaces' }).press('Enter');
  await page.page.getByRole('checkbox', { name: /^data/ }).waitFor();
  t.ok(await page.ask('document.activeElement.type === "search"'), 'the filter of the list has the focus');
  await keyboard.type('sho');
  t.equal(await page.page.getByRole('checkbox', { name: /^data/ }).count(), 0);
  await keyboard.press('Enter');
  await keyboard.press('Escape');
  t.equal(query(page).get('ns'), 'shop');
  t.match(await focused(page), 'picker', 'the focus is back');

  await page.page.getByRole('radio', { name: '7 d' }).press('Space');
  t.equal(query(page).get('w'), '7d');
  await page.ask('document.activeElement.blur()');
  await keyboard.press('g');
  await keyboard.press('r');
  t.match(page.page.url(), /\/recommend\?/);
  t.equal(query(page).get('node'), null, 'what is open on a screen stays there');
  t.equal(query(page).get('w'), '7d');
  await until('the focus is on the screen', async () => (await focused(page)) === 'main');
  t.match(await page.page.title(), /^Recommend · cluster test/);
  await page.page.goBack();
  t.match(page.page.url(), /\/status\?/);
});

t.test('the keys, in a dialog that gives the focus back', async (t) => {
  const given = await servePage(t, source);
  const page = await browser.open(t, given.link('/status'));
  await page.shows('n1');
  await page.page.getByRole('button', { name: 'Keys' }).focus();
  await page.page.keyboard.press('?');
  await page.shows('This screen');
  await page.accessible(t, 'the keys');
  await page.page.keyboard.press('g');
  await page.page.keyboard.press('f');
  t.match(page.page.url(), /\/status/, 'keys of what is below do nothing');
  await page.page.keyboard.press('Escape');
  await until('it is closed', () => page.ask<boolean>('!document.querySelector("dialog[open]")'));
  t.ok(await page.ask('document.activeElement.textContent.includes("Keys")'));
});

t.test('nodes that do not answer, and losses, in words; names of others are text', async (t) => {
  const given = await servePage(t, source);
  for (const colorScheme of ['light', 'dark'] as const) {
    const page = await browser.open(t, given.link('/status?f=!port:53&ns=shop'), { colorScheme });
    await page.page.getByRole('button', { name: '2/3 nodes answer' }).click();
    await page.shows('All nodes');
    const body = await page.ask<string>('document.querySelector("dialog.panel").textContent');
    t.match(body, '<img src=x onerror=alert(1)>');
    t.match(body, '\\u202e');
    await page.accessible(t, colorScheme);
    await page.shot(`frame-${colorScheme}`);
    await page.page.keyboard.press('Escape');
    await page.page.getByRole('button', { name: /incomplete: 1,204 events lost/ }).click();
    await page.shows(/Since the agents began, 1,204 events found no room .*\(n1 1,204\)/);
    await page.page.keyboard.press('Escape');
    await page.page.getByRole('button', { name: '2/3 nodes answer' }).click();
    await page.page.getByRole('link', { name: 'n3' }).first().click();
    await until('it is open', () => query(page).get('node') === 'n3');
    await page.shows('This node does not answer');
  }
});

t.test('colors: as the system has them, as was chosen, as the address says', async (t) => {
  const given = await servePage(t, source);
  const page = await browser.open(t, given.link('/status'), { colorScheme: 'dark' });
  const ground = () => page.ask<string>('getComputedStyle(document.body).backgroundColor');
  await page.shows('n1');
  t.equal(await ground(), 'rgb(17, 22, 29)');
  await page.page.getByRole('button', { name: /^colors: Auto/ }).click();
  t.equal(await ground(), 'rgb(247, 248, 250)');
  await page.page.reload();
  await page.shows('n1');
  t.equal(await ground(), 'rgb(247, 248, 250)', 'it is kept');
  await page.page.goto(`${given.url}/status?theme=dark`);
  await page.shows('n1');
  t.equal(await ground(), 'rgb(17, 22, 29)');
  await page.page.getByRole('button', { name: /^colors: Dark/ }).click();
  t.equal(query(page).get('theme'), null);
});

t.test('without a session, and when it is over', async (t) => {
  const given = await servePage(t, source);
  const page = await browser.open(t, `${given.url}/status`, { allowed: [/401/] });
  await page.shows('This page is locked');
  await page.shows('egressctl ui');
  await page.accessible(t, 'locked');
  await page.page.goto('about:blank');
  await page.page.goto(given.link('/status'));
  await page.shows('n1');
  given.forget();
  await given.stop();
  await given.start();
  page.allow(/ERR_|Failed to load/);
  await page.shows('This page is locked', 20_000);
});

t.test('the server goes, and comes back', async (t) => {
  const given = await servePage(t, source);
  const page = await browser.open(t, given.link('/status'), { allowed: [/ERR_|Failed to load/] });
  await page.shows('live');
  await given.stop();
  await page.shows(/no connection: reconnecting in \d+ s/, 20_000);
  await given.start();
  await page.page
    .getByRole('button', { name: /reconnecting/ })
    .click({ timeout: 2000 })
    .catch(() => undefined);
  await page.page.locator('.connection.live').waitFor({ timeout: 20_000 });
});

t.test('a hidden tab asks for nothing, and says so when it is shown again', async (t) => {
  let streams = 0;
  const given = await servePage(t, {
    ...source,
    edges: async function* (_, signal) {
      streams++;
      yield* silence(signal);
      streams--;
    },
  });
  const page = await browser.open(t, given.link('/flows'));
  const turn = (hidden: boolean) =>
    page.ask(`Object.defineProperty(document, 'hidden', { configurable: true, value: ${hidden} });
      document.dispatchEvent(new Event('visibilitychange'))`);
  await until('it asks', () => streams > 0);
  await turn(true);
  await page.page.locator('.connection.paused').waitFor();
  await until('it does not ask', () => streams === 0);
  await turn(false);
  await page.shows(/This tab was hidden for .* and asked for nothing/);
  await page.page.locator('.connection.live').waitFor();
});

t.test('a screen that breaks leaves the others alone', async (t) => {
  const given = await servePage(t, source);
  const page = await browser.open(t, given.link('/recommend'), { allowed: [/console: /] });
  await page.shows('Nothing to recommend yet');
  await page.page.route('**/api/status', (route) => route.fulfill({ json: { nodes: 7 } }));
  await page.page.keyboard.press('g');
  await page.page.keyboard.press('s');
  await page.shows('This screen broke');
  await page.page.unroute('**/api/status');
  await page.page.getByRole('button', { name: 'Show it again' }).click();
  await page.shows('n1');
});

t.test('no agents, and no right to see any namespace', async (t) => {
  const none = await servePage(t, {});
  const page = await browser.open(t, none.link('/status'));
  await page.shows('There are no agents');
  await page.accessible(t, 'no agents');
  const given = await servePage(t, source, { namespaces: [], user: 'eve' });
  const eve = await browser.open(t, given.link('/graph'));
  await eve.shows('You may see no namespace');
  await eve.shows(/the verb get on flows of the API group egress-agent.io/);
});

t.test('narrow windows', async (t) => {
  const given = await servePage(t, source);
  for (const width of [900, 600]) {
    const page = await browser.open(t, given.link('/status?f=!port:53&f=to-port:443&ns=shop'), { width });
    await page.shows('n1');
    t.equal(await page.ask('document.scrollingElement.scrollWidth'), width);
    const inside = await page.ask<boolean>(
      `[...document.querySelectorAll('.bar button, .rail a, .bar input')].every((e) => e.getBoundingClientRect().right <= ${width})`,
    );
    t.ok(inside, `${width}: all of the bar can be reached`);
    await page.shot(`frame-${width}`);
  }
});
