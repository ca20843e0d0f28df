/**
 * Makes the pictures of the web UI in docs/ from a real run: an agent in a small world with policies and traffic, and
 * `egressctl ui`. What the agent has seen, it is made to have seen for a month.
 *   node dist/scripts/screenshots.js DIRECTORY [NAME…]
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { UiBrowser, UiPage } from '../test/ui/browser.js';
import { UiCommand } from '../test/ui/command.js';
import { keyScript } from '../test/ui/page-keys.js';
import { givePast } from '../test/ui/past.js';
import { startWorld } from '../test/ui/world.js';

/** What each shows: an address, and what is done there. */
const PICTURES: Readonly<Record<string, { address: string; act?: (page: UiPage) => Promise<void> }>> = {
  graph: { address: '/graph?w=35d&at=ns/shop' },
  flows: {
    address: '/flows',
    act: async ({ page }) => {
      await page
        .getByRole('row', { name: /denied.*shop\/web/ })
        .first()
        .click();
      await page.keyboard.press('Enter');
    },
  },
  policies: { address: '/policies?w=35d' },
  recommend: { address: '/recommend?w=35d&workload=shop/web&kind=Deployment&to=calico' },
  status: { address: '/status' },
};
const SIZE = { width: 1280, height: 800 };
/** Traffic for the flows. */
const RUN_MS = 8000;
/** Until a screen has all that it asks for. */
const DRAWN_MS = 2500;

const [out, ...names] = process.argv.slice(2);
if (out === undefined || names.some((name) => !Object.hasOwn(PICTURES, name))) {
  console.error(`usage: screenshots DIRECTORY [${Object.keys(PICTURES).join(' | ')}]…`);
  process.exit(2);
}

const world = await startWorld();
const browser = await UiBrowser.start();
try {
  await sleep(RUN_MS / 2);
  await world.traffic.pause();
  await world.stopAgent();
  givePast(join(world.dir, 'run/ledger'), 34, ({ destination, port }) => destination.kind === 'name' && port === 443);
  await world.restartAgent();
  // By which the world knows that its policies are in force.
  rmSync(join(world.dir, 'manifests/zz-marker.yaml'), { force: true });
  world.traffic.resume();
  await sleep(RUN_MS);
  const command = await UiCommand.start(world.socket);
  try {
    for (const [name, { address, act }] of Object.entries(PICTURES)) {
      if (names.length > 0 && !names.includes(name)) continue;
      for (const colorScheme of ['light', 'dark'] as const) {
        const context = await browser.browser.newContext({ viewport: SIZE, colorScheme, timezoneId: 'UTC' });
        const cookie = await command.cookie();
        const [id = '', value = ''] = cookie.split('=');
        await context.addCookies([{ name: id, value, url: command.url, sameSite: 'Strict' }]);
        await context.addInitScript({ content: keyScript(cookie) });
        const page = await UiPage.in(context, command.url, []);
        await page.page.goto(command.url + address);
        await sleep(DRAWN_MS);
        await page.page.locator('.loading').waitFor({ state: 'detached', timeout: 60_000 });
        await act?.(page);
        if (act) await sleep(DRAWN_MS / 2);
        await page.page.screenshot({ path: join(out, `ui-${name}-${colorScheme}.png`), animations: 'disabled' });
        if (page.faults.length > 0) throw new Error(`${address}: ${page.faults.join('\n')}`);
        await context.close();
      }
    }
  } finally {
    await command.stop();
  }
} finally {
  await browser.close();
  await world.stop();
}
