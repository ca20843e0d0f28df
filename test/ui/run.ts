/** What tests of the whole page begin with: an agent, `egressctl ui`, and a browser. */
import { join } from 'node:path';
import type { Test } from 'tap';
import { type OpenOptions, UiBrowser, type UiPage } from './browser.js';
import { UiCommand } from './command.js';
import { givePast } from './past.js';
import { startWorld, type UiWorld } from './world.js';

export class UiRun {
  private constructor(
    readonly command: UiCommand,
    readonly browser: UiBrowser,
  ) {}

  /** Ends with the test. @param socket of the agent */
  static async start(t: Test, socket: string): Promise<UiRun> {
    const browser = await UiBrowser.start();
    t.teardown(() => browser.close());
    const command = await UiCommand.start(socket);
    t.teardown(() => command.stop());
    return new UiRun(command, browser);
  }

  /** Opens a page that is signed in. @param address of a screen: `/flows?f=port:53` */
  async open(t: Test, address: string, options: OpenOptions = {}): Promise<UiPage> {
    return this.browser.open(t, this.command.url + address, { cookie: await this.command.cookie(), ...options });
  }
}

/** A world whose agent has seen all of its traffic for five weeks, and goes on. Ends with the test. */
export async function startOldWorld(t: Test): Promise<UiWorld> {
  const world = await startWorld({ trickle: false });
  t.teardown(() => world.stop());
  await world.stopAgent();
  givePast(join(world.dir, 'run/ledger'), 34);
  await world.restartAgent();
  world.traffic.resume();
  return world;
}

/**
 * Presses Tab until something with this name has the focus, as somebody without a mouse does.
 * @param key another key that goes on
 * @throws Error if it never has
 */
export async function walkTo(ui: UiPage, name: RegExp, key = 'Tab'): Promise<void> {
  const seen: string[] = [];
  for (let n = 0; n < 80; n++) {
    const focused = await focusedName(ui);
    if (name.test(focused)) return;
    seen.push(focused);
    await ui.page.keyboard.press(key);
  }
  throw new Error(`${key} never leads to ${name}, but to ${[...new Set(seen)].join(' | ')}`);
}

/** The name of what has the focus; empty: nothing has. */
export function focusedName(ui: UiPage): Promise<string> {
  return ui.ask<string>(FOCUSED);
}

const FOCUSED = `(() => {
  let at = document.activeElement;
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  if (!at || at === document.body) return '';
  return (at.getAttribute('aria-label') ?? at.labels?.[0]?.textContent ?? at.textContent ?? '').replace(/\\s+/g, ' ').trim().slice(0, 200);
})()`;
