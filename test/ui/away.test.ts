/** An agent goes and comes back while pages look: they say so, keep what they have, and go on by themselves. */
import t from 'tap';
import { until } from '../netns/shell.js';
import { UiRun } from './run.js';
import { startWorld } from './world.js';

t.setTimeout(180_000);

t.test('an agent that goes and comes back', async (t) => {
  const world = await startWorld();
  t.teardown(() => world.stop());
  const run = await UiRun.start(t, world.socket);
  // What the server cannot answer meanwhile, browsers write to their console.
  const options = { allowed: [/status of 502/] };
  const graph = await run.open(t, '/graph', options);
  const flows = await run.open(t, '/flows', options);
  const policies = await run.open(t, '/policies', options);
  const shop = graph.page.getByRole('button', { name: /^namespace shop/ });
  const rows = flows.page.getByRole('row');
  const card = policies.page.getByRole('link', { name: /no-telnet/ });
  await Promise.all([shop.waitFor(), rows.nth(5).waitFor(), card.waitFor()]);
  const newest = () => rows.nth(1).getByRole('gridcell').first().textContent();

  await world.stopAgent();
  for (const { page } of [graph, flows, policies])
    await page
      .getByRole('banner')
      .getByText(/no news of/)
      .first()
      .waitFor();
  t.ok(await shop.isVisible(), 'what was drawn stays');
  t.ok((await rows.count()) > 5, 'the flows stay');
  t.ok(await card.isVisible(), 'the policies stay');
  const before = await newest();

  await world.restartAgent();
  for (const { page } of [graph, flows, policies])
    await page
      .getByText(/no news of/)
      .first()
      .waitFor({ state: 'hidden', timeout: 30_000 });
  await until('flows come again', async () => (await newest()) !== before, 30_000);
  t.ok(await shop.isVisible());
  t.ok(await card.isVisible());
});

t.test('egressctl ui ends while a page is open', async (t) => {
  const world = await startWorld({ trickle: false });
  t.teardown(() => world.stop());
  const run = await UiRun.start(t, world.socket);
  const { page } = await run.open(t, '/graph', { allowed: [/Failed to load|ERR_/] });
  await page.getByRole('button', { name: /^namespace shop/ }).waitFor();
  await run.command.stop();
  await page
    .getByRole('banner')
    .getByText(/no connection/)
    .first()
    .waitFor();
  t.ok(await page.getByRole('button', { name: /^namespace shop/ }).isVisible());
});
