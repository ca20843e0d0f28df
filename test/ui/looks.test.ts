/** All screens, light and dark: what programs that read them aloud find, and whether they look as they did. */
import t from 'tap';
import { servers } from '../netns/world.js';
import type { UiPage } from './browser.js';
import { Pictures } from './pictures.js';
import { startOldWorld, UiRun } from './run.js';

t.setTimeout(180_000);

/** By name: an address, and what is there when all is there. */
const SCREENS: Readonly<Record<string, [address: string, ready: (ui: UiPage) => Promise<unknown>]>> = {
  graph: ['/graph?w=35d', ({ page }) => page.getByRole('button', { name: /^namespace shop/ }).waitFor()],
  'graph-namespace': [
    '/graph?w=35d&at=ns/shop',
    ({ page }) => page.getByRole('button', { name: /^workload web/ }).waitFor(),
  ],
  'graph-table': [
    '/graph?w=35d&view=table',
    (ui) =>
      ui.page
        .getByRole('row', { name: /denied/ })
        .first()
        .waitFor(),
  ],
  flows: [
    `/flows?f=to-ip:${servers.two.ip4}`,
    ({ page }) =>
      page
        .getByRole('row', { name: /denied/ })
        .nth(8)
        .waitFor(),
  ],
  'flows-sums': [
    '/flows?mode=sums&w=35d',
    ({ page }) =>
      page
        .getByRole('row', { name: /denied/ })
        .first()
        .waitFor(),
  ],
  why: [
    `/flows?f=from-workload:legacy&f=to-ip:${servers.two.ip4}`,
    async ({ page }) => {
      await page
        .getByRole('row', { name: /denied/ })
        .first()
        .click();
      await page.keyboard.press('Enter');
      await page.getByText('nobody uses telnet').nth(1).waitFor();
    },
  ],
  policies: ['/policies?w=35d', ({ page }) => page.getByRole('link', { name: /batch/ }).first().waitFor()],
  policy: ['/policies?w=35d&policy=np/shop/batch', ({ page }) => page.getByText('podSelector').first().waitFor()],
  editor: ['/policies?w=35d&edit=np/shop/web', ({ page }) => page.getByText(/judged \d+ flows/).waitFor()],
  recommend: [
    '/recommend?w=35d&show=all',
    ({ page }) =>
      page
        .getByRole('link', { name: /shop\/web/ })
        .first()
        .waitFor({ timeout: 60_000 }),
  ],
  'recommend-one': [
    '/recommend?w=35d&workload=shop/web&kind=Deployment',
    ({ page }) => page.getByRole('region', { name: 'the policy' }).waitFor({ timeout: 60_000 }),
  ],
  status: ['/status', ({ page }) => page.getByText('node-a').nth(1).waitFor()],
};

t.test('screens', async (t) => {
  const world = await startOldWorld(t);
  const run = await UiRun.start(t, world.socket);
  const pictures = await Pictures.start(run.browser.browser);
  for (const [name, [address, ready]] of Object.entries(SCREENS)) {
    await t.test(name, async (t) => {
      const ui = await run.open(t, address, { reducedMotion: true });
      await ready(ui);
      await ui.page.mouse.move(700, 795);
      for (const colorScheme of ['light', 'dark'] as const) {
        await ui.page.emulateMedia({ colorScheme });
        await ui.page.waitForTimeout(400);
        await ui.accessible(t, `${name}, ${colorScheme}`);
        await pictures.compare(t, ui, `${name}-${colorScheme}`);
        const wide = await ui.ask<number>('document.documentElement.scrollWidth - innerWidth');
        t.ok(wide <= 0, `${name} fits`);
      }
    });
  }
});
