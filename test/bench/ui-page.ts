/** What a page of the web UI tells of itself to the bench, without a word of its own code. */
import type { Browser } from 'playwright-core';
import { UiPage } from '../ui/browser.js';
import { keyScript } from '../ui/page-keys.js';

/**
 * Runs in each page before its own scripts. Reads along in the page's stream until what it waits for has come, and notes
 * when the screen was drawn after a change: the first task after the frame. A text that becomes another, such as "2 s
 * ago", is no part of a first view.
 */
const PROBE = `(() => {
  const probe = (globalThis.__probe = { wanted: '"caughtUp":true', texts: false, arrived: 0, changed: 0, drawn: 0 });
  const read = ReadableStreamDefaultReader.prototype.read;
  const decoder = new TextDecoder();
  let rest = '';
  ReadableStreamDefaultReader.prototype.read = function () {
    return read.call(this).then((got) => {
      if (probe.wanted !== '' && got.value instanceof Uint8Array) {
        const at = performance.now();
        const text = rest + decoder.decode(got.value, { stream: true });
        if (text.includes(probe.wanted)) Object.assign(probe, { wanted: '', arrived: at, changed: 0, drawn: 0 });
        rest = probe.wanted === '' ? '' : text.slice(-200);
      }
      return got;
    });
  };
  let waits = false;
  new MutationObserver((changes) => {
    const counts = ({ type, target }) =>
      (type !== 'characterData' || probe.texts) && (target.nodeType === 1 ? target : target.parentElement)?.closest('#main');
    if (!changes.some(counts)) return;
    probe.changed ||= performance.now();
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => {
        waits = false;
        probe.drawn = performance.now();
      };
      channel.port2.postMessage(0);
    });
  }).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
})()`;

/** Milliseconds since the page was opened. */
export interface Probe {
  /** When what was waited for had come; 0: not yet. */
  readonly arrived: number;
  /** When the screen was drawn last; 0: not since then. */
  readonly drawn: number;
}

export interface OpenedPage {
  readonly page: UiPage;
  readonly close: () => Promise<void>;
}

/** Opens a page with a session. @param probed whether `takeProbe` is to be asked; it costs the page some of its time */
export async function openPage(browser: Browser, url: string, cookie: string, probed: boolean): Promise<OpenedPage> {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const [name = '', value = ''] = cookie.split('=');
  await context.addCookies([{ name, value, url: new URL(url).origin, sameSite: 'Strict' }]);
  await context.addInitScript({ content: keyScript(cookie) });
  await context.addInitScript({ content: probed ? PROBE : LONG_TASKS });
  const page = await UiPage.in(context, new URL(url).origin, []);
  return { page, close: () => context.close() };
}

const LONG_TASKS = `
  globalThis.__longTasks = [];
  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) globalThis.__longTasks.push({ startTime, duration });
  }).observe({ type: 'longtask', buffered: true });`;

/** Waits until what is waited for has come, and the screen has not changed for some time. @throws Error after 30 s */
export async function settled(page: UiPage, quietMs = 1500): Promise<Probe> {
  const until = performance.now() + 30_000;
  let last = -1;
  let since = performance.now();
  for (;;) {
    const { arrived, drawn } = await page.ask<Probe>('globalThis.__probe');
    const now = performance.now();
    if (drawn !== last || arrived === 0) [last, since] = [drawn, now];
    else if (drawn >= arrived && now - since > quietMs) return { arrived, drawn };
    if (now > until) throw new Error(`the page does not settle: ${JSON.stringify({ arrived, drawn })}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Waits for the next message with this text, after `act`. @returns as `settled`, and what `act` returned */
export async function nextDrawn<T>(page: UiPage, wanted: string, act: () => Promise<T>): Promise<Probe & { made: T }> {
  await page.ask(
    `Object.assign(globalThis.__probe, ${JSON.stringify({ wanted, texts: true, arrived: 0, changed: 0, drawn: 0 })}) && 0`,
  );
  const made = await act();
  const until = performance.now() + 10_000;
  for (;;) {
    const probe = await page.ask<Probe>('globalThis.__probe');
    if (probe.arrived > 0 && probe.drawn > probe.arrived) return { ...probe, made };
    if (performance.now() > until) throw new Error(`${wanted} is not drawn: ${JSON.stringify(probe)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
