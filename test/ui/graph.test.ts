/** The screen Graph, in a browser, of a real agent: by mouse, by keys alone, by links; and of a hostile one. */
import t, { type Test } from 'tap';
import { until } from '../netns/shell.js';
import { type OpenOptions, UiBrowser, type UiPage } from './browser.js';
import { UiCommand } from './command.js';
import { HAS_RUN, startHostile } from './hostile.js';
import { startWorld } from './world.js';

/** Keys of what is drawn, by a selector. */
const keysOf = (page: UiPage, selector: string) =>
  page.ask<string[]>(`[...document.querySelectorAll(${JSON.stringify(selector)})].map((e) => e.dataset.key)`);
const focused = (page: UiPage) => page.ask<string>(`document.activeElement?.dataset?.key ?? ''`);
const address = (page: UiPage) => page.ask<string>('location.pathname + location.search');
const drawn = (page: UiPage, key: string) =>
  until(`${key} is drawn`, async () => (await keysOf(page, '.node')).includes(key), 15_000);
/** Where a node is, and how the drawing is moved. */
const placeOf = (page: UiPage, key: string) =>
  page.ask<string>(`document.querySelector('[data-key="${key}"]')?.getAttribute('transform')`);
const sceneOf = (page: UiPage) => page.ask<string | null>(`document.querySelector('.scene').getAttribute('transform')`);

const WEB = 'wl/shop/Deployment/web';

t.test('the graph of a node', { timeout: 240_000 }, async (t) => {
  const world = await startWorld();
  t.teardown(() => world.stop());
  const command = await UiCommand.start(world.socket);
  t.teardown(() => command.stop());
  const browser = await UiBrowser.start();
  t.teardown(() => browser.close());
  /** A page of its own, signed in. */
  const open = async (t: Test, path: string, options: OpenOptions = {}) => {
    return browser.open(t, `${command.url}${path}`, { ...options, cookie: await command.cookie() });
  };

  await t.test('the cluster, by mouse', async (t) => {
    const page = await open(t, '/graph');
    await drawn(page, 'ns/shop');
    await until('all verdicts are drawn', async () => {
      const classes = await page.ask<string>(
        `[...document.querySelectorAll('.line')].map((e) => e.getAttribute('class')).join(' ')`,
      );
      return (
        ['denied', 'would-deny', 'partial', 'allowed', 'no-policy'].filter((v) => !classes.includes(v)).length <= 2
      );
    });
    const nodes = await keysOf(page, '.node');
    for (const key of ['ns/data', '@node', 'name/payments.example.com', 'address/203.0.113.20'])
      t.ok(nodes.includes(key), key);
    t.notOk(nodes.includes('ns/kube-system'), 'hidden until it is asked for');
    await page.shows(/kube-system hidden/);
    await page.accessible(t, 'the cluster');

    // Lines lie below each other: the topmost is what is clicked.
    await page.page.locator('[data-key="denied|ns/shop|address/203.0.113.20"] .hit').hover({ force: true });
    await until('the label', () =>
      page.ask<boolean>(`/443.tcp/.test(document.querySelector('.tip.shown')?.textContent)`),
    );
    await page.ask(`document.querySelector('[data-key="denied|ns/shop|address/203.0.113.20"] .hit')
      .dispatchEvent(new MouseEvent('click', { bubbles: true }))`);
    const panel = page.page.getByRole('complementary', { name: 'selection' });
    await panel.getByText('np/shop/dns#default').first().waitFor();
    const said = (await panel.textContent()) ?? '';
    t.match(said, /shop\s+→\s+203\.0\.113\.20/);
    t.match(said, /443\/tcp/);
    t.match(await address(page), /sel=denied%7Cns%2Fshop%7Caddress%2F203\.0\.113\.20/);
    const rows = await page.ask<string[]>(`[...document.querySelectorAll('.edges tbody tr')].map((r) => r.innerText)`);
    t.ok(rows.length > 0 && rows.every((r) => /denied/.test(r) && /203\.0\.113\.20/.test(r)), 'the table follows');
    await panel.getByRole('link', { name: 'Why?' }).click();
    t.match(await address(page), /why=edge/);
    await page.page.goBack();

    await page.page.locator('[data-key="ns/shop"]').click();
    await panel.getByRole('heading', { name: 'shop', exact: true }).waitFor();
    await page.accessible(t, 'the cluster with a panel');
    await page.shot('graph-cluster');
    await panel.getByRole('link', { name: 'Open' }).click();
    await drawn(page, WEB);
    t.equal(await address(page), '/graph?at=ns%2Fshop');
    await page.page.goBack();
    await drawn(page, 'ns/shop');
  });

  await t.test('in and out, by keys alone', async (t) => {
    const page = await open(t, '/graph');
    await drawn(page, 'ns/shop');
    const { keyboard } = page.page;
    await until('the drawing has the focus', async () => {
      await keyboard.press('Tab');
      return (await focused(page)) !== '';
    });
    for (let n = 0; n < 12 && (await focused(page)) !== 'ns/shop'; n++)
      await keyboard.press(n % 2 === 0 ? 'ArrowUp' : 'ArrowLeft');
    t.equal(await focused(page), 'ns/shop');
    await keyboard.press('ArrowRight');
    t.not(await focused(page), 'ns/shop');
    await keyboard.press('ArrowLeft');
    t.equal(await focused(page), 'ns/shop');
    await keyboard.press('e');
    t.match(await focused(page), /^denied\|/, 'the most important line first');
    t.match(await page.ask(`document.activeElement.getAttribute('aria-label')`), /→ .*, denied$/);
    await keyboard.press('ArrowDown');
    t.match(await focused(page), /\|ns\/shop/, 'the next one of the same node');
    await keyboard.press('Enter');
    t.match(await address(page), /sel=/);
    await keyboard.press('Escape');
    t.equal(await address(page), '/graph', 'the selection is dropped');
    await keyboard.press('ArrowLeft');
    await keyboard.press('Space');
    t.match(await address(page), /sel=/);
    await keyboard.press('Escape');
    for (let n = 0; n < 12 && (await focused(page)) !== 'ns/shop'; n++)
      await keyboard.press(n % 2 === 0 ? 'ArrowUp' : 'ArrowLeft');
    await keyboard.press('Enter');
    await drawn(page, WEB);
    t.equal(await address(page), '/graph?at=ns%2Fshop');
    await until('something in it has the focus', async () => (await focused(page)) !== '');
    for (const key of ['ArrowRight', 'ArrowUp', 'ArrowUp', 'ArrowUp', 'ArrowUp', 'ArrowDown', 'ArrowDown'])
      if ((await focused(page)) !== WEB) await keyboard.press(key);
    for (let n = 0; n < 8 && !(await focused(page)).startsWith('wl/'); n++) await keyboard.press('ArrowRight');
    const workload = await focused(page);
    t.match(workload, /^wl\/shop\//);
    await keyboard.press('Enter');
    await until(
      'the workload is open',
      async () => (await address(page)) === `/graph?at=${encodeURIComponent(workload)}`,
    );
    await page.page.getByRole('link', { name: 'Recommend a policy' }).waitFor();
    await keyboard.press('Escape');
    await until('its own node has the focus', async () => (await focused(page)) === workload);
    await keyboard.press('Escape');
    await until('its namespace has the focus', async () => (await focused(page)) === 'ns/shop');
    t.equal(await address(page), '/graph');
  });

  await t.test('links to each level, in the dark', async (t) => {
    const page = await open(t, '/graph?at=ns/shop', { colorScheme: 'dark' });
    await drawn(page, WEB);
    await page.ask(`document.querySelector('.frame-box rect') !== null`);
    const verdicts = await keysOf(page, '.line');
    for (const verdict of ['denied', 'allowed', 'no-policy', 'would-deny', 'partial'])
      t.ok(
        verdicts.some((key) => key.startsWith(`${verdict}|`)),
        verdict,
      );
    const patterns = await page.ask<string[]>(`['denied', 'allowed', 'would-deny', 'partial'].map((v) =>
      getComputedStyle(document.querySelector('.line.' + v + ' .stroke')).strokeDasharray)`);
    t.equal(new Set(patterns).size, 4, 'each has a line of its own');
    await page.accessible(t, 'a namespace');
    await page.shot('graph-namespace-dark');
    await page.page.goto(`${command.url}/graph?at=${WEB}`);
    await drawn(page, WEB);
    await page.page.getByRole('heading', { name: 'shop/web' }).waitFor();
    t.ok((await keysOf(page, '.node')).includes('wl/shop/Deployment/api'));
    await page.accessible(t, 'a workload');
    await page.shot('graph-workload-dark');
  });

  await t.test('what is hidden can be shown, and nothing is said why', async (t) => {
    const page = await open(t, '/graph');
    await drawn(page, 'ns/shop');
    await page.page.getByRole('button', { name: /^kube-system hidden/ }).click();
    await page.page.getByRole('button', { name: /^DNS hidden/ }).click();
    await drawn(page, 'ns/kube-system');
    t.match(await address(page), /show=dns%2Csystem/);
    await page.page.goto(`${command.url}/graph?f=to-port:1`);
    await page.shows('All of it is hidden');
    await page.accessible(t, 'without a match');
    await page.page.getByRole('button', { name: 'Drop to-port:1', exact: true }).click();
    await drawn(page, 'ns/shop');
    t.equal(await address(page), '/graph');
    await page.page.goto(`${command.url}/graph?f=to-port:53`);
    await drawn(page, 'ns/shop');
  });

  await t.test('as a table', async (t) => {
    const page = await open(t, '/graph');
    await drawn(page, 'ns/shop');
    await page.page.keyboard.press('t');
    await until('it is a table', async () => (await address(page)) === '/graph?view=table');
    t.same(await keysOf(page, '.node'), []);
    const column = (n: number) =>
      page.ask<string[]>(`[...document.querySelectorAll('.edges tbody tr')].map((r) => r.cells[${n}].innerText)`);
    t.match((await column(0))[0], /denied/, 'denied first');
    await page.page.getByRole('button', { name: /^Source( [↑↓])?$/ }).click();
    await until('sorted', async () => (await address(page)).includes('sort=source'));
    const sources = await column(1);
    t.same(sources, [...sources].sort());
    t.ok(sources.length > 10);
    await page.page.getByRole('button', { name: /^Source( [↑↓])?$/ }).click();
    await until('the other way round', async () => (await column(1))[0] === sources.at(-1));
    await page.accessible(t, 'the table');
    await page.shot('graph-table');
    await page.page
      .getByRole('link', { name: /^why: shop\/web to 203\.0\.113\.20, 443\/tcp/ })
      .first()
      .click();
    t.match(await address(page), /why=edge/);
  });

  await t.test('places are kept, and the view is moved by its user alone', async (t) => {
    const page = await open(t, '/graph');
    await drawn(page, 'ns/data');
    const keys = ['ns/shop', 'ns/data', 'address/203.0.113.20'];
    const before = await Promise.all(keys.map((key) => placeOf(page, key)));
    const count = () =>
      page.ask<string>(`document.querySelector('[data-key="ns/shop"]').getAttribute('aria-description')`);
    const said = await count();
    await until('numbers grow', async () => (await count()) !== said, 15_000);
    await world.traffic.pause();
    t.teardown(() => world.traffic.resume());
    t.same(await Promise.all(keys.map((key) => placeOf(page, key))), before);
    const scene = await sceneOf(page);
    const { mouse, keyboard } = page.page;
    await mouse.move(640, 300);
    await mouse.wheel(0, 120);
    await until('the wheel moves', async () => (await sceneOf(page)) !== scene);
    t.match(await sceneOf(page), /translate\(0\.0 -120\.0\) scale\(1\.000\)/);
    await keyboard.press('+');
    t.match(await sceneOf(page), /scale\(1\.250\)/);
    await keyboard.press('-');
    await keyboard.press('0');
    t.match(await sceneOf(page), /translate\(0\.0 0\.0\) scale\(1\.000\)/);
    await mouse.move(700, 420);
    await mouse.down();
    await mouse.move(760, 440, { steps: 4 });
    await mouse.up();
    t.match(await sceneOf(page), /translate\(60\.0 20\.0\)/);
    t.equal(await address(page), '/graph', 'what was dragged is not selected');
  });
});

t.test('a hostile agent', { timeout: 120_000 }, async (t) => {
  const hostile = await startHostile();
  t.teardown(() => hostile.stop());
  const command = await UiCommand.start(hostile.socket);
  t.teardown(() => command.stop());
  const browser = await UiBrowser.start();
  t.teardown(() => browser.close());
  const page = await browser.open(t, command.link);
  await until('it is drawn', async () => (await keysOf(page, '.node')).length > 20, 20_000);
  await page.accessible(t, 'hostile names');
  for (const key of await keysOf(page, '.node')) {
    await page.page.goto(
      `${command.url}/graph?${new URLSearchParams({ sel: key.slice(0, 500), at: key.slice(0, 500) })}`,
    );
    if (key.length > 200) continue;
    await page.page.locator('.crumbs').waitFor();
  }
  await page.page.goto(`${command.url}/graph?view=table`);
  await page.page.locator('.edges tbody tr').first().waitFor();
  hostile.again();
  t.notOk(await page.ask(HAS_RUN), 'nothing of it has run');
  t.notOk(await page.ask(`({}).polluted !== undefined`));
  page.check(t);
});
