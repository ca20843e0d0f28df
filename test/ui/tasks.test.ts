/** What people come for, done once with the mouse and once with keys alone, with a real agent. */
import t from 'tap';
import { until } from '../netns/shell.js';
import { servers } from '../netns/world.js';
import type { UiPage } from './browser.js';
import { focusedName, startOldWorld, UiRun, walkTo } from './run.js';

t.setTimeout(180_000);
const { two } = servers;
const world = await startOldWorld(t);
const run = await UiRun.start(t, world.socket);

/** Presses keys, one after the other; fingers are slower than a frame is drawn. */
async function press(ui: UiPage, ...keys: string[]): Promise<void> {
  for (const key of keys) {
    await ui.page.keyboard.press(key);
    await ui.ask('new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(0), 30)))');
  }
}

/** Waits until the address has it. */
function led({ page }: UiPage, part: RegExp): Promise<unknown> {
  return until(`the address has ${part}: ${page.url()}`, () => part.test(decodeURIComponent(page.url())), 5000);
}

t.test('who talks to whom: from the cluster into a namespace and a workload, and out', async (t) => {
  const ui = await run.open(t, '/graph');
  const shop = ui.page.getByRole('button', { name: /^namespace shop/ });
  const web = ui.page.getByRole('button', { name: /^workload web/ });
  await shop.waitFor();

  await t.test('mouse', async () => {
    await shop.dblclick();
    await led(ui, /at=ns\/shop/);
    await ui.page.getByRole('button', { name: 'web → api, allowed' }).waitFor();
    await web.dblclick();
    await led(ui, /at=wl\/shop\/Deployment\/web/);
    await ui.page.getByRole('navigation', { name: 'level' }).getByRole('link', { name: 'Cluster' }).click();
    await shop.waitFor();
  });

  await t.test('keys', async () => {
    await walkTo(ui, /^(namespace|name|address|@node)/);
    await walkTo(ui, /^namespace shop/, 'ArrowLeft');
    await press(ui, 'Enter');
    await led(ui, /at=ns\/shop/);
    await web.waitFor();
    await walkTo(ui, /^(workload|service|namespace|name|address|@node)/);
    for (const key of ['ArrowLeft', 'ArrowUp']) for (let n = 0; n < 6; n++) await press(ui, key);
    await walkTo(ui, /^workload web/, 'ArrowDown');
    await press(ui, 'Enter');
    await led(ui, /at=wl\/shop\/Deployment\/web/);
    await press(ui, 'Escape');
    await led(ui, /at=ns\/shop$/);
    await press(ui, 'Escape');
    await shop.waitFor();
    await press(ui, 't');
    await led(ui, /view=table/);
  });
});

t.test('filters: only some flows, all but some, and one click back', async (t) => {
  const ui = await run.open(t, '/flows');
  const rows = ui.page.getByRole('row');
  await rows.nth(5).waitFor();
  const denied = rows.filter({ hasText: 'denied' });

  await t.test('mouse', async () => {
    const box = ui.page.getByRole('combobox', { name: 'add a filter' });
    await box.click();
    await box.pressSequentially('verdict:ALLOWED');
    await box.press('Enter');
    await led(ui, /f=verdict:ALLOWED/);
    await until('no denied flow is left', async () => (await denied.count()) === 0);
    await ui.page.getByRole('button', { name: /^not verdict/ }).click();
    await led(ui, /f=!verdict:ALLOWED/);
    await denied.first().waitFor();
    await ui.page.getByRole('button', { name: /^drop .*verdict/ }).click();
    await rows.filter({ hasText: 'allowed' }).first().waitFor();
  });

  await t.test('keys', async () => {
    await press(ui, '/');
    await ui.page.keyboard.type('from-namespace:data');
    await press(ui, 'Enter');
    await led(ui, /f=from-namespace:data/);
    await until('flows of data alone', async () => {
      const texts = await rows.allInnerTexts();
      return texts.length > 2 && texts.slice(1).every((text) => /data\//.test(text));
    });
  });
});

t.test('why something is denied', async (t) => {
  const ui = await run.open(t, `/flows?f=to-ip:${two.ip4}&f=from-workload:web`);
  const row = ui.page.getByRole('row').filter({ hasText: 'denied' }).first();
  const why = ui.page.getByRole('complementary', { name: /why/i }).or(ui.page.getByRole('dialog', { name: /why/i }));
  await row.waitFor();

  await t.test('mouse', async (t) => {
    await row.dblclick();
    await led(ui, /why=/);
    await why.getByText('np/shop/dns').or(why.getByText('np/shop/web')).first().waitFor();
    t.match(await why.textContent(), /default/, 'the tier that decided');
    await why.getByRole('button', { name: /close/i }).click();
  });

  await t.test('keys', async () => {
    await press(ui, 'j', 'Enter');
    await led(ui, /why=/);
    await why
      .getByText(/np\/shop\/(dns|web)/)
      .first()
      .waitFor();
    await press(ui, 'Escape');
    await until('it is closed', async () => (await why.count()) === 0, 5000);
  });

  await t.test('somebody else sees the same by the address', async (t) => {
    await press(ui, 'j', 'Enter');
    await led(ui, /why=flow,/);
    const other = await run.open(t, ui.page.url().slice(run.command.url.length));
    await other.page
      .getByText(/np\/shop\/(dns|web)/)
      .first()
      .waitFor();
  });
});

t.test('in which order policies are judged, and which are not used', async (t) => {
  const ui = await run.open(t, '/policies?w=35d');
  const tiers = ui.page.getByRole('region', { name: /^tier / });
  await tiers.first().waitFor();
  const names = await tiers.evaluateAll((all) => all.map((one) => one.getAttribute('aria-label')));
  const card = (name: RegExp) => ui.page.getByRole('link', { name });
  t.same(
    names.filter((name) => /security|kube-admin|default|baseline/.test(String(name))),
    ['tier security', 'tier kube-admin', 'tier default', 'tier kube-baseline'],
  );

  await t.test('mouse', async () => {
    await ui.page
      .getByRole('button', { name: /staged/ })
      .first()
      .click();
    await led(ui, /show=staged/);
    await card(/batch/).first().waitFor();
    await until('others are gone', async () => (await card(/no-telnet/).count()) === 0);
    await card(/batch/).first().click();
    await led(ui, /policy=np\/shop\/batch/);
    await ui.page.getByRole('table').or(ui.page.getByText('Rules')).first().waitFor();
  });

  await t.test('keys', async () => {
    await press(ui, 'Escape');
    await ui.page.goto(`${run.command.url}/policies?w=35d`);
    await card(/no-telnet/)
      .first()
      .waitFor();
    await press(ui, 'j', 'Enter');
    await led(ui, /policy=gnp\/security\.data/);
    await press(ui, 'Escape');
    await walkTo(ui, /unused/, 'Shift+Tab');
    await press(ui, 'Space');
    await led(ui, /show=unused/);
  });
});

t.test('what a change would do', async (t) => {
  const address = '/policies?w=35d&edit=np/shop/web';
  const text = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}
`;
  const ui = await run.open(t, address);
  const editor = ui.page.getByRole('textbox', { name: /YAML/ });
  await editor.waitFor();
  await ui.page.getByText(/judged \d+ flows/).waitFor();

  await t.test('mouse', async () => {
    await editor.click();
    await press(ui, 'ControlOrMeta+a');
    await ui.page.keyboard.insertText(text);
    await ui.page.getByRole('tab', { name: /^Changed flows\s*[1-9]/ }).waitFor();
    await ui.page.getByText('np/shop/web#1').first().waitFor();
    await ui.page.getByRole('tab', { name: /opens or closes/ }).click();
    await ui.page.getByRole('tabpanel').getByText(/shop/).first().waitFor();
  });

  await t.test('keys', async (t) => {
    const other = await run.open(t, '/policies?w=35d');
    await other.page
      .getByRole('link', { name: /no-telnet/ })
      .first()
      .waitFor();
    await press(other, 'n');
    await led(other, /edit=new/);
    await until('the editor has the focus', async () => /YAML|apiVersion/.test(await focusedName(other)));
    await press(other, 'ControlOrMeta+a');
    await other.page.keyboard.insertText(text.replace('name: web,', 'name: more,').replace('app: web', 'app: legacy'));
    await other.page.getByRole('tab', { name: /^Changed flows\s*[1-9]/ }).waitFor();
  });
});

t.test('policies for a workload, of what it was seen to do', async (t) => {
  const ui = await run.open(t, '/recommend?w=35d&show=all');
  const row = ui.page.getByRole('row', { name: /shop\/web/ }).or(ui.page.getByRole('link', { name: /shop\/web/ }));
  const policy = ui.page.getByRole('region', { name: 'the policy' });
  await row.first().waitFor({ timeout: 60_000 });

  await t.test('mouse', async () => {
    await row.first().click();
    await led(ui, /workload=shop\/web/);
    await policy.getByText('app: api').waitFor({ timeout: 60_000 });
    await ui.page.getByRole('checkbox', { name: /^shop\/api through shop\/api:/ }).uncheck();
    await until('it is not allowed any more', async () => (await policy.getByText('app: api').count()) === 0, 30_000);
  });

  await t.test('keys', async () => {
    await ui.page.goto(`${run.command.url}/recommend?w=35d&show=all`);
    await row.first().waitFor({ timeout: 60_000 });
    await press(ui, 'j', 'Enter');
    await led(ui, /workload=/);
    await policy.waitFor({ timeout: 60_000 });
    await walkTo(ui, /language/);
    await press(ui, 'ArrowDown');
    await led(ui, /to=/);
  });
});

t.test('whether all of it is there, and how it looked weeks ago', async (t) => {
  const ui = await run.open(t, '/graph');
  await ui.page.getByRole('button', { name: /^namespace shop/ }).waitFor();

  await t.test('mouse', async () => {
    await ui.page.getByText('35 d', { exact: true }).click();
    await led(ui, /w=35d/);
    await ui.page.getByRole('link', { name: /^Status/ }).click();
    await led(ui, /\/status/);
    await ui.page.getByText('node-a').first().waitFor();
    await ui.page.getByText(/cidr/).first().waitFor();
  });

  await t.test('keys', async (t) => {
    await press(ui, 'g', 'g');
    await led(ui, /\/graph/);
    await press(ui, 'g', 's');
    await led(ui, /\/status/);
    await press(ui, '?');
    t.ok(await ui.page.getByRole('dialog').filter({ hasText: /keys/i }).isVisible());
    await press(ui, 'Escape');
  });
});
