/**
 * Chromium without a window, for tests of the web UI: pages that count as failed by what no user would be shown, what
 * they look like, and what they cost. Nothing that is asked of a page here runs under the page's own rules, since a good
 * policy for its content forbids it: it goes over the browser's debugging protocol.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import axe from 'axe-core';
import { type Browser, type BrowserContext, type CDPSession, chromium, type Page } from 'playwright-core';
import type { Test } from 'tap';
import { compiled } from '../netns/shell.js';
import { keyScript } from './page-keys.js';

export const EXECUTABLE = '/usr/bin/chromium';
/** Without a window, with nothing of its own to say to anybody, and unable to: names of others do not resolve. */
export const FLAGS = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-extensions'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-proxy-server'],
  ...['--enable-precise-memory-info', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost'],
];
const SHOTS = join(compiled, 'ui-shots');
/** More faults than this tell nothing new. */
const MOST_FAULTS = 100;

/** Runs in each page before its own scripts. */
const BEFORE = `
  globalThis.__longTasks = [];
  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) globalThis.__longTasks.push({ startTime, duration });
  }).observe({ type: 'longtask', buffered: true });
  document.addEventListener('securitypolicyviolation', (e) =>
    console.error('content security policy: ' + e.effectiveDirective + ' forbids ' + (e.blockedURI || 'this') +
      ' at ' + e.sourceFile + ':' + e.lineNumber + (e.sample ? ': ' + e.sample : '')));
`;

/** Resolves when no color is on its way to another. */
const TRANSITIONS = `Promise.allSettled(
  document.getAnimations().flatMap((a) => (a instanceof CSSTransition ? [a.finished] : [])),
).then(() => 0)`;

/** A task of more than 50 ms: users wait. Milliseconds; the start is since the page was opened. */
export interface LongTask {
  readonly startTime: number;
  readonly duration: number;
}

/** What a page holds, after its garbage was collected. */
export interface Held {
  /** Bytes of JavaScript objects. */
  readonly heap: number;
  /** Elements, texts and the like, in documents and outside. */
  readonly nodes: number;
  readonly listeners: number;
  readonly documents: number;
}

export interface OpenOptions {
  readonly width?: number;
  readonly height?: number;
  readonly colorScheme?: 'light' | 'dark';
  readonly reducedMotion?: boolean;
  /** Faults that the test provokes. */
  readonly allowed?: readonly RegExp[];
  readonly locale?: string;
  readonly timezone?: string;
  /** `name=value`, of the page's origin: a session from before. */
  readonly cookie?: string;
}

/** One browser with an empty profile; each page has a profile of its own. */
export class UiBrowser {
  private constructor(readonly browser: Browser) {}

  /** Ends with `close()`, and with this process at the latest. */
  static async start(): Promise<UiBrowser> {
    const browser = await chromium.launch({ executablePath: EXECUTABLE, args: FLAGS, chromiumSandbox: false });
    return new UiBrowser(browser);
  }

  /** Opens a page, which is closed with the test; the test fails if the page has faults by then. */
  async open(t: Test, url: string, options: OpenOptions = {}): Promise<UiPage> {
    const { width = 1280, height = 800, colorScheme = 'light', reducedMotion = false, locale = 'en-GB' } = options;
    const context = await this.browser.newContext({
      viewport: { width, height },
      colorScheme,
      reducedMotion: reducedMotion ? 'reduce' : 'no-preference',
      locale,
      timezoneId: options.timezone ?? 'UTC',
      serviceWorkers: 'allow',
    });
    await context.addInitScript({ content: BEFORE });
    const [name = '', value = ''] = (options.cookie ?? '').split('=');
    if (name !== '') {
      await context.addCookies([{ name, value, url: new URL(url).origin, sameSite: 'Strict' }]);
      await context.addInitScript({ content: keyScript(`${name}=${value}`) });
    }
    const page = await UiPage.in(context, new URL(url).origin, options.allowed ?? []);
    t.teardown(async () => {
      await context.close();
      // An assertion would come too late here; an exception is a failure of the test.
      if (page.faults.length > 0) throw new Error(`faults of ${url}:\n${page.faults.join('\n')}`);
    });
    await page.page.goto(url);
    return page;
  }

  close(): Promise<void> {
    return this.browser.close();
  }
}

/** A page, and what is wrong with it. */
export class UiPage {
  /** Console errors, exceptions, reports of its content policy, requests to others, dialogs: what no page should have. */
  readonly faults: string[] = [];
  readonly #allowed: RegExp[];
  #world: number | undefined;

  private constructor(
    readonly page: Page,
    readonly cdp: CDPSession,
    readonly origin: string,
    allowed: readonly RegExp[],
  ) {
    this.#allowed = [...allowed];
  }

  /** The first page of a context. @param origin the only one that it may ask */
  static async in(context: BrowserContext, origin: string, allowed: readonly RegExp[]): Promise<UiPage> {
    const page = await context.newPage();
    const made = new UiPage(page, await context.newCDPSession(page), origin, allowed);
    made.#listen(context);
    return made;
  }

  #listen(context: BrowserContext): void {
    const { page } = this;
    page.on('console', (message) => {
      if (message.type() === 'error') this.#fault(`console: ${message.text()} (${message.location().url})`);
    });
    page.on('pageerror', (error) => this.#fault(`exception: ${error.stack ?? error.message}`));
    page.on('crash', () => this.#fault('the page crashed'));
    page.on('dialog', (dialog) => {
      this.#fault(`a dialog: ${dialog.type()}: ${dialog.message()}`);
      void dialog.dismiss().catch(() => undefined);
    });
    page.on('websocket', (socket) => this.#asked(socket.url()));
    context.on('request', (request) => this.#asked(request.url()));
    context.on('page', (other) => this.#fault(`a second window: ${other.url()}`));
    page.on('framenavigated', () => {
      this.#world = undefined;
    });
  }

  #asked(text: string): void {
    const { protocol, host } = new URL(text);
    if (protocol === 'data:' || text.startsWith(`blob:${this.origin}/`)) return;
    if (host !== new URL(this.origin).host) this.#fault(`a request to another origin: ${text.slice(0, 300)}`);
  }

  #fault(text: string): void {
    if (this.faults.length >= MOST_FAULTS || this.#allowed.some((pattern) => pattern.test(text))) return;
    this.faults.push(text.length > 2000 ? `${text.slice(0, 2000)}…` : text);
  }

  /** From now on such faults are those that the test provokes. */
  allow(pattern: RegExp): void {
    this.#allowed.push(pattern);
  }

  /** Fails the test for each fault so far, and forgets them. */
  check(t: Test): void {
    for (const fault of this.faults.splice(0)) t.fail(`the page: ${fault}`);
  }

  /** Waits until a text is shown somewhere. @param timeoutMs gives up after it */
  async shows(text: string | RegExp, timeoutMs = 10_000): Promise<void> {
    await this.page.getByText(text).first().waitFor({ state: 'visible', timeout: timeoutMs });
  }

  /** Writes dist/ui-shots/NAME.png. @returns its path */
  async shot(name: string, fullPage = false): Promise<string> {
    mkdirSync(SHOTS, { recursive: true });
    const path = join(SHOTS, `${name}.png`);
    await this.page.screenshot({ path, fullPage, animations: 'disabled' });
    return path;
  }

  /**
   * Fails the test for each rule of WCAG 2 (A and AA) and of good practice that the page breaks now.
   * @param off ids of rules that are left out
   */
  async accessible(t: Test, name: string, off: readonly string[] = []): Promise<void> {
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const rules = Object.fromEntries(off.map((id) => [id, { enabled: false }]));
    const options = JSON.stringify({ runOnly: { type: 'tag', values: tags }, rules, resultTypes: ['violations'] });
    await this.#apart(`${axe.source}; 0`);
    // Between two states, a color is neither of them.
    await this.#apart(TRANSITIONS);
    const found = await this.#apart<AxeViolation[]>(
      `axe.run(document, ${options}).then(({ violations }) => JSON.stringify(violations)).then(JSON.parse)`,
    );
    for (const { id, impact, help, helpUrl, nodes } of found) {
      const where = nodes.slice(0, 5).map((n) => `  ${n.target.flat().join(' ')}\n    ${n.html.slice(0, 200)}`);
      const why = nodes[0]?.failureSummary?.replace(/^/gm, '    ') ?? '';
      t.fail(
        `${name}: ${id} (${impact ?? 'minor'}): ${help}, ${nodes.length} times\n${where.join('\n')}\n${why}\n  ${helpUrl}`,
      );
    }
    if (found.length === 0) t.pass(`${name} is accessible`);
  }

  /** The tasks of more than 50 ms since the page was opened, or since they were taken last. */
  async takeLongTasks(): Promise<LongTask[]> {
    return this.ask<LongTask[]>('globalThis.__longTasks.splice(0)');
  }

  /** Collects garbage, and tells what is left. */
  async held(): Promise<Held> {
    await this.cdp.send('HeapProfiler.enable');
    await this.cdp.send('Performance.enable');
    // What finalizers release is gone with the second time.
    for (let n = 0; n < 2; n++) await this.cdp.send('HeapProfiler.collectGarbage');
    const { metrics } = await this.cdp.send('Performance.getMetrics');
    const of = (name: string) => metrics.find((m) => m.name === name)?.value ?? Number.NaN;
    return {
      heap: of('JSHeapUsedSize'),
      nodes: of('Nodes'),
      listeners: of('JSEventListeners'),
      documents: of('Documents'),
    };
  }

  /**
   * The value of an expression in the page's own world, which must be plain; promises are waited for. Playwright's
   * evaluate() would break a content policy with `require-trusted-types-for`.
   */
  ask<T>(expression: string): Promise<T> {
    return this.#evaluate<T>(expression);
  }

  async #evaluate<T>(expression: string, contextId?: number): Promise<T> {
    const { result, exceptionDetails } = await this.cdp.send('Runtime.evaluate', {
      ...{ expression, awaitPromise: true, returnByValue: true },
      ...(contextId === undefined ? {} : { contextId }),
    });
    if (exceptionDetails)
      throw new Error(
        exceptionDetails.exception?.description ?? `${exceptionDetails.text}: ${expression.slice(0, 200)}`,
      );
    return result.value as T;
  }

  /** An expression in a world beside: with the same document, without the page's globals and its content policy. */
  async #apart<T>(expression: string): Promise<T> {
    if (this.#world === undefined) {
      const { frameTree } = await this.cdp.send('Page.getFrameTree');
      const made = await this.cdp.send('Page.createIsolatedWorld', { frameId: frameTree.frame.id, worldName: 'test' });
      this.#world = made.executionContextId;
    }
    return this.#evaluate<T>(expression, this.#world);
  }
}

interface AxeViolation {
  readonly id: string;
  readonly impact?: string | null;
  readonly help: string;
  readonly helpUrl: string;
  readonly nodes: readonly {
    readonly target: readonly (string | string[])[];
    readonly html: string;
    readonly failureSummary?: string;
  }[];
}
