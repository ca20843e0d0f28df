/** What is tried on every screen while an agent's every text means harm. */
import type { Test } from 'tap';
import type { UiPage } from './browser.js';
import { HAS_RUN, startHostile } from './hostile.js';
import { UiRun } from './run.js';

/** By name: an address, and what is done there. */
export type Tries = Readonly<Record<string, [address: string, act?: (ui: UiPage) => Promise<unknown>]>>;

/** Milliseconds: a page that takes longer for something hangs. */
const HANGS_MS = 5000;

export const press =
  (...keys: string[]) =>
  async ({ page }: UiPage) => {
    for (const key of keys) {
      await page.keyboard.press(key);
      await page.waitForTimeout(100);
    }
  };

/** Fails the test if anything runs, if something is wider than the window, or if other screens cannot be reached. */
export async function tryHarm(t: Test, screens: Tries): Promise<void> {
  const hostile = await startHostile();
  t.teardown(() => hostile.stop());
  const run = await UiRun.start(t, hostile.socket);
  for (const [name, [address, act]] of Object.entries(screens)) {
    await t.test(name, async (t) => {
      // What the server refuses, browsers write to their console.
      const ui = await run.open(t, address, { allowed: [/status of (400|404|502)/] });
      await ui.page.getByRole('main').waitFor();
      await ui.page.waitForTimeout(1000);
      hostile.again();
      await act?.(ui);
      await ui.page.waitForTimeout(500);
      t.notOk(await ui.ask(HAS_RUN), 'nothing has run');
      t.notOk(await ui.ask('"polluted" in {}'), 'prototypes are as they were');
      const wide = await ui.ask<number>('document.documentElement.scrollWidth - innerWidth');
      const beyond =
        '[...document.querySelectorAll("#app *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.className || e.tagName).slice(0, 5).join()';
      t.ok(wide <= 0, `nothing is wider than the window: ${wide} ${wide > 0 ? await ui.ask(beyond) : ''}`);
      const foreign = 'document.querySelectorAll("#app iframe, #app img, #app object, #app script, #app base").length';
      t.equal(await ui.ask(foreign), 0, 'no text has become an element');
      await ui.page.keyboard.press('Escape');
      for (const link of ['Flows', 'Graph'])
        await ui.page.getByRole('navigation', { name: 'screens' }).getByRole('link', { name: link }).click();
      t.match(ui.page.url(), /\/graph/, 'other screens can be reached');
      const longest = (await ui.takeLongTasks()).reduce((most, { duration }) => Math.max(most, duration), 0);
      t.ok(longest < HANGS_MS, `the longest task takes ${longest} ms`);
    });
  }
}
