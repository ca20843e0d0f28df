/** Another user of the same machine: a server of theirs on another port, which the browser takes for the same site. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { chromium } from 'playwright-core';
import { EXECUTABLE, FLAGS } from './browser.js';
import { servePage } from './page.js';
import { client } from './two-teams.js';

t.test('what a browser sends to another port of this host opens no session', async (t) => {
  const { url, link } = await servePage(t, client, 'nothing is written');
  let stolen = '';
  const theirs = createServer((request, response) => {
    stolen = request.headers.cookie ?? stolen;
    response.setHeader('Content-Type', 'text/html');
    response.end('<script>if (!sessionStorage.n) { sessionStorage.n = 1; location.reload(); }</script>');
  });
  await new Promise<void>((resolve) => theirs.listen(0, '127.0.0.1', resolve));
  t.teardown(() => theirs.close());
  const browser = await chromium.launch({ executablePath: EXECUTABLE, args: FLAGS, chromiumSandbox: false });
  t.teardown(() => browser.close());
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(link('/policies'));
  await page.getByText('platform').first().waitFor();
  await page.reload();
  await page.getByText('platform').first().waitFor();
  const tab = await context.newPage();
  await tab.goto(`${url}/policies`);
  await tab.getByText('platform').first().waitFor();

  const lure = await context.newPage();
  await lure.goto(`http://127.0.0.1:${(theirs.address() as AddressInfo).port}/`);
  await lure.waitForTimeout(500);
  t.match(stolen, /^egress-ui-\d+=/, 'it sends the cookie there');
  const headers = { origin: url, 'content-type': 'application/json', cookie: stolen };
  const tries: Record<string, string>[] = [
    {},
    { 'x-egress-page': '' },
    { 'x-egress-page': stolen.split('=')[1] as string },
  ];
  for (const more of tries) {
    const answer = await fetch(`${url}/api/policies`, { method: 'POST', headers: { ...headers, ...more }, body: '{}' });
    t.equal(answer.status, 401);
    t.equal((await fetch(`${url}/api/session`, { headers: { cookie: stolen, ...more } })).status, 401);
  }
  await page.reload();
  await page.getByText('platform').first().waitFor();
});
