/** Signing in with a token: by keyboard, with a wrong one first, and out again. */
import t from 'tap';
import { KubeClient } from '../../src/kube/client/client.js';
import { makeLogger } from '../../src/log.js';
import { People } from '../../src/ui/access/people.js';
import { Reviews } from '../../src/ui/access/reviews.js';
import type { Viewer } from '../../src/ui/access/viewer.js';
import { allHandlers } from '../../src/ui/api/handlers.js';
import { Feeds } from '../../src/ui/api/stream.js';
import { Assets } from '../../src/ui/http/assets.js';
import { TokenDoor } from '../../src/ui/http/door.js';
import { Sessions } from '../../src/ui/http/sessions.js';
import { UiServer } from '../../src/ui/server.js';
import { UiBrowser } from './browser.js';
import { ReviewsServer } from './reviews-server.js';
import { client, HUSH, OTHER, OWN } from './two-teams.js';

t.setTimeout(120_000);
const api = new ReviewsServer();
await api.listen();
api.namespaces = [OWN, OTHER];
api.rights.add(`ann get flows.egress-agent.io ${OWN}`);
api.accounts.set('token-of-ann', { username: 'ann' });
const kube = new KubeClient(api.config);
const people = new People({ reviews: new Reviews(kube, []), server: undefined });
const server = new UiServer({
  assets: new Assets(),
  sessions: new Sessions<Viewer>(),
  door: new TokenDoor(people, { header: false }),
  feeds: new Feeds(client),
  handlers: allHandlers(client, () => 'not in this test'),
  session: async (viewer) => ({
    ...{ version: '0', source: 'cluster', user: viewer.name, writes: false, signedIn: true },
    namespaces: [...((await viewer.scope()) ?? [])],
  }),
  log: makeLogger('warn'),
});
const port = await server.listen({ host: '127.0.0.1', port: 0, names: [], tlsDir: undefined });
const browser = await UiBrowser.start();
t.teardown(async () => {
  await browser.close();
  await server.close();
  kube.close();
  await api.close();
});

for (const colorScheme of ['light', 'dark'] as const)
  t.test(`by keyboard, ${colorScheme}`, async (t) => {
    // The browser itself notes each answer that is a refusal.
    const ui = await browser.open(t, `http://127.0.0.1:${port}/policies?w=7d`, {
      colorScheme,
      allowed: [/status of 401/],
    });
    const { page } = ui;
    await ui.shows('Kubernetes token');
    await ui.accessible(t, 'signing in');
    await ui.shot(`sign-in-${colorScheme}`);
    t.equal(await ui.ask<string>('document.activeElement.id'), 'token', 'it takes what is typed');
    await page.keyboard.type('wrong');
    await page.keyboard.press('Enter');
    await ui.shows('this token is not good here');
    await ui.accessible(t, 'a wrong token');
    await ui.shot(`sign-in-wrong-${colorScheme}`);
    await page.locator('#token').focus();
    await page.keyboard.type('token-of-ann');
    await page.keyboard.press('Enter');
    await ui.shows('cluster');
    await page.getByRole('button', { name: 'source: cluster' }).waitFor();
    t.equal(new URL(page.url()).pathname, '/policies', 'the address is what was opened');
    t.notMatch(await ui.ask<string>('document.documentElement.outerHTML'), new RegExp(`${HUSH}|token-of-ann`));
    t.equal(await ui.ask<string>('document.cookie'), '', 'no script has the session');
    t.strictSame(await ui.ask<string[]>('Object.keys({ ...localStorage, ...sessionStorage })'), ['egress-page']);
    await page.getByRole('button', { name: 'source: cluster' }).click();
    await ui.shows('ann');
    await ui.shot(`signed-in-${colorScheme}`);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await ui.shows('Kubernetes token');
    await page.reload();
    await ui.shows('Kubernetes token');
  });
