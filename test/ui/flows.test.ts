/** The screen flows: by keys alone, with its exports, with hostile texts, and with more flows than anybody can read. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { EdgeInfo, FlowRow } from '../../src/ui/wire/messages.js';
import { csvLine, EDGE_HEADER, edgeCells, FLOW_HEADER, flowCells } from '../../src/ui/text/csv.js';
import { compiled, until } from '../netns/shell.js';
import { UiRun } from './run.js';
import { UiBrowser, type UiPage } from './browser.js';
import { UiCommand } from './command.js';
import { HAS_RUN, startHostile, TEXTS } from './hostile.js';
import { startWorld } from './world.js';

/** Reads a CSV as RFC 4180 has it. */
function readCsv(text: string): string[][] {
  const rows: string[][] = [[]];
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|$)/y;
  while (field.lastIndex < text.length) {
    const [whole, quoted, plain = '', end] = field.exec(text) ?? [];
    if (whole === undefined) throw new Error(`no CSV at ${field.lastIndex}`);
    rows.at(-1)?.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === '\r\n') rows.push([]);
  }
  return rows.filter((row) => row.length > 0);
}

t.test('CSV', (t) => {
  t.equal(csvLine(['a', 1, 'b,c', 'd"e', 'f\ng', '']), 'a,1,"b,c","d""e","f\ng",\r\n');
  for (const [name, text] of Object.entries(TEXTS)) {
    const [[read = ''] = []] = readCsv(csvLine([text, 'x']));
    t.equal(read.replace(/^'(?=[=+\-@\t\r])/, ''), text, `${name} is whole`);
    t.notMatch(read, /^[=+\-@\t\r]/, `${name} is no formula`);
  }
  t.equal(csvLine([-5]), '-5\r\n', 'numbers are ours');
  const end = {
    ip: '',
    port: 0,
    namespace: '',
    pod: '',
    workload: '',
    workloadKind: '',
    names: [],
    labels: [],
    reserved: '',
  };
  const flow = { timeMs: 1, source: end, destination: end } as unknown as FlowRow;
  t.equal(flowCells(flow).length, FLOW_HEADER.length);
  const party = { kind: 'other', namespace: '', workloadKind: '', name: '' };
  const sum = {
    info: { source: party, destination: party } as EdgeInfo,
    firstMs: 0,
    lastMs: 1,
    connections: 1,
    bytes: 0,
    drops: 0,
  };
  t.equal(edgeCells(sum).length, EDGE_HEADER.length);
  t.equal(edgeCells(sum)[0], '', 'no time is no time of 1970');
  t.end();
});

const rows = (ui: UiPage) => ui.page.locator('[role=row][data-at]');
const grid = (ui: UiPage) => ui.page.locator('[role=grid]');

/** What an item of the export menu saves. */
async function saved(ui: UiPage, item: string): Promise<string> {
  const download = ui.page.waitForEvent('download');
  await ui.page.getByRole('button', { name: 'export' }).click();
  await ui.page.getByRole('button', { name: item }).click();
  return readFileSync(await (await download).path(), 'utf8');
}

t.test('in the world', { timeout: 180_000 }, async (t) => {
  const world = await startWorld();
  t.teardown(() => world.stop());
  const command = await UiCommand.start(world.socket);
  t.teardown(() => command.stop());
  const browser = await UiBrowser.start();
  t.teardown(() => browser.close());
  const ui = await browser.open(t, command.link, { width: 1440, height: 900 });
  const { page } = ui;
  const keys = async (...names: string[]) => {
    for (const name of names) await page.keyboard.press(name);
  };

  await t.test('single flows, by keys alone', async (t) => {
    await ui.shows('All namespaces');
    await keys('g', 'f');
    await until('flows are there', async () => (await rows(ui).count()) > 5);
    await ui.accessible(t, 'flows');
    await ui.shot('flows');
    await keys('j', 'j');
    await ui.shows('Go on');
    t.equal(await page.locator('[aria-selected=true]').count(), 1);
    const text = await page.locator('[aria-selected=true]').textContent();
    await page.locator('button.more').waitFor();
    t.equal(await page.locator('[aria-selected=true]').textContent(), text, 'it does not move');
    await keys('x');
    await ui.shows('Leave out');
    await ui.accessible(t, 'the menu');
    await keys('j', 'k', 'Enter');
    await until('a filter excludes', async () => /[?&]f=%21/.test(page.url()));
    await page.locator('button.more').waitFor({ state: 'detached' });
    await keys(' ');
    await ui.shows('Go on');
    await keys(' ');
    await page.getByRole('button', { name: 'Pause' }).waitFor();
    await keys('/');
    t.equal(await ui.ask('document.activeElement.id'), 'query');
    await page.keyboard.type('to-port:1');
    await keys('Enter', 'Escape');
    await ui.shows('Nothing matches');
    await ui.accessible(t, 'nothing');
    await page.locator('.empty-actions button').first().press('Enter');
    await page.locator('.empty-actions button').first().press('Enter');
    await until('flows are there again', async () => (await rows(ui).count()) > 5);
  });

  await t.test('sums', async (t) => {
    await page.goto(`${command.url}/flows?mode=sums`);
    await until('edges are there', async () => (await rows(ui).count()) > 10);
    await ui.shows('Times');
    await page.getByRole('button', { name: 'Times' }).click();
    await until('the most frequent is first', async () => /sort=count/.test(page.url()));
    const counts = async () =>
      (await rows(ui).locator('.number').allInnerTexts())
        .filter((text) => text.startsWith('×'))
        .map((text) => Number(text.slice(1).replaceAll(',', '')));
    // On a button, Space would press that.
    await grid(ui).focus();
    await keys(' ');
    await ui.shows('Go on');
    const found = await counts();
    t.same(
      found,
      [...found].sort((a, b) => b - a),
    );
    await ui.accessible(t, 'sums');
    await ui.shot('flows-sums');
    const all = readCsv((await saved(ui, 'CSV of what is shown')).slice(1));
    t.same(all[0], EDGE_HEADER);
    t.equal(all.length - 1, Number(await grid(ui).getAttribute('aria-rowcount')) - 1, 'all lines that are shown');
    t.ok(all.every((row) => row.length === EDGE_HEADER.length));
    const lines = (await saved(ui, 'JSON lines')).trim().split('\n');
    t.equal(lines.length, all.length - 1);
    t.hasProps(JSON.parse(lines[0] ?? ''), ['info', 'connections']);
  });

  await t.test('a click on a value is a filter; columns can be hidden', async (t) => {
    await page.goto(`${command.url}/flows?mode=sums`);
    await page.locator('[data-chip="to-port:5432"]').first().click();
    await until('a filter', async () => /f=to-port%3A5432/.test(page.url()));
    await until('nothing else is shown', async () => (await rows(ui).count()) === 1);
    await page.getByRole('button', { name: 'columns' }).click();
    await page.getByLabel('Staged').uncheck();
    await keys('Escape');
    t.equal(await page.getByRole('columnheader', { name: 'Staged' }).count(), 0);
    await page.reload();
    await until('it is in the address', async () => (await rows(ui).count()) === 1);
    t.equal(await page.getByRole('columnheader', { name: 'Staged' }).count(), 0);
  });

  await t.test('filters that contradict each other', async () => {
    ui.allow(/400 \(Bad Request\)/);
    await page.goto(`${command.url}/flows?f=namespace:shop&f=from-namespace:data`);
    await ui.shows('The flows cannot be shown');
    await page.locator('.empty-actions button').first().click();
    await until('flows are there', async () => (await rows(ui).count()) > 0);
  });
  ui.check(t);
});

t.test('hostile texts', { timeout: 240_000 }, async (t) => {
  const hostile = await startHostile();
  t.teardown(() => hostile.stop());
  const run = await UiRun.start(t, hostile.socket);
  const ui = await run.open(t, '/flows');
  for (const mode of ['', '?mode=sums']) {
    await ui.page.goto(`${run.command.url}/flows${mode}`);
    // Texts of a megabyte each take their time.
    await until('lines are there', async () => (await rows(ui).count()) > 5, 30_000);
    for (let n = 0; n < 12; n++) {
      await ui.page.keyboard.press('j');
      await ui.page.keyboard.press('Enter');
      await sleep(100);
      await ui.page.keyboard.press('x');
      // A line whose names are all too long offers nothing.
      const menu = ui.page.locator('dialog.chip-dialog');
      await menu.waitFor({ timeout: 2000 }).catch(() => undefined);
      await until('it is closed', async () => {
        await ui.page.keyboard.press('Escape');
        return (await menu.count()) === 0;
      });
    }
    await ui.shot(`flows-hostile${mode === '' ? '' : '-sums'}`);
    t.equal(await ui.ask(HAS_RUN), false);
    const shown = await grid(ui).textContent();
    t.notMatch(shown ?? '', /[\u202a-\u202e\u2066-\u2069\u200b\ufeff]/, 'nothing changes the direction of a text');
    const table = readCsv((await saved(ui, 'CSV')).slice(1));
    t.ok(table.length > 5);
    t.notOk(
      table.flat().some((cell) => /^[=+@\t\r]/.test(cell) || (cell.startsWith('-') && !/^-\d+$/.test(cell))),
      'no cell is a formula',
    );
    await ui.page.keyboard.press('Escape');
  }
  ui.check(t);
});

t.test('10,000 flows a second', { timeout: 120_000 }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ui-flows-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const socket = join(dir, 'agent.sock');
  const agent = spawn(process.execPath, [join(compiled, 'test/bench/ui-agent.js'), socket], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(async () => {
    const ended = once(agent, 'exit');
    agent.stdin.end();
    await ended;
  });
  const lines = createInterface({ input: agent.stdout })[Symbol.asyncIterator]();
  t.equal((await lines.next()).value, 'ready');
  agent.stdin.write('rate 10000\n');
  await lines.next();
  const run = await UiRun.start(t, socket);
  const ui = await run.open(t, '/flows');
  await ui.shows(/ of [\d,]+ flows shown/);
  // Until the ring of the page is full, it grows.
  await until('the ring is full', () => ui.ask<boolean>('/the last 5,000 kept/.test(document.body.innerText)'), 60_000);
  await ui.takeLongTasks();
  const before = await ui.held();
  await sleep(10_000);
  const tasks = await ui.takeLongTasks();
  const after = await ui.held();
  // Other processes share the processors of a test; the bench measures on its own.
  t.ok(tasks.length <= 2, `${tasks.length} tasks of more than 50 ms: ${JSON.stringify(tasks)}`);
  t.ok(after.heap - before.heap < 3_000_000, `the heap is flat: ${before.heap} → ${after.heap}`);
  t.ok(after.nodes - before.nodes < 500, `${before.nodes} → ${after.nodes} nodes`);
  t.ok((await rows(ui).count()) < 60, 'only what is seen is drawn');
  await ui.page.keyboard.press('End');
  await ui.shows('Go on');
  await ui.shot('flows-many');
  ui.check(t);
});
