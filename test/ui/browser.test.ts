/** What tests of the web UI stand on: that each fault of a page is seen, even where its content policy forbids scripts. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { statSync } from 'node:fs';
import t from 'tap';
import { until } from '../netns/shell.js';
import { UiBrowser } from './browser.js';

const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'";
const page = (body: string, more = '') =>
  `<!doctype html><html lang="en"><title>A page</title>${more}<main><h1>A page</h1>${body}</main></html>`;
const FILES: Readonly<Record<string, string>> = {
  '/good': page('<p>All is well.</p>'),
  '/bad': page(
    '<p>x</p><img src="http://192.0.2.1/x.png" alt=""><script>inline()</script>',
    '<script src="/bad.js"></script>',
  ),
  '/bad.js':
    'console.error("said"); setTimeout(() => { throw new Error("thrown"); }); setTimeout(() => alert("hi"), 50);',
  '/slow': page('<p>slow</p><script src="/slow.js"></script>'),
  '/slow.js':
    'setTimeout(() => { const end = performance.now() + 120; while (performance.now() < end); document.title = "done"; }, 100);',
  '/unlabelled': page('<button></button><img src="data:image/png;base64,x">'),
};

t.test('pages', async (t) => {
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    const file = FILES[path];
    const headers = {
      'content-type': path.endsWith('.js') ? 'text/javascript' : 'text/html',
      'content-security-policy': CSP,
    };
    response.writeHead(file === undefined ? 404 : 200, headers).end(file);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const browser = await UiBrowser.start();
  t.teardown(() => browser.close());

  await t.test('a good one', async (t) => {
    const good = await browser.open(t, `${url}/good`);
    await good.shows('All is well.');
    await good.accessible(t, 'good');
    t.same(await good.takeLongTasks(), []);
    const { heap, nodes } = await good.held();
    t.ok(heap > 100_000 && heap < 50_000_000, `${heap} bytes`);
    t.ok(nodes > 5);
    t.ok(statSync(await good.shot('browser-good')).size > 1000);
  });

  await t.test('each fault is seen', async (t) => {
    const bad = await browser.open(t, `${url}/bad`);
    await until('it asks', () => bad.faults.some((f) => f.includes('dialog')));
    const faults = bad.faults.splice(0).join('\n');
    for (const text of [
      'said',
      'exception: Error: thrown',
      'a dialog: alert: hi',
      'policy: script-src-elem forbids inline',
      'img-src',
    ])
      t.match(faults, text);
  });

  await t.test('a request to another origin is seen', async (t) => {
    const good = await browser.open(t, `${url}/good`);
    await good.page.goto('http://192.0.2.1:1/').catch(() => undefined);
    t.match(good.faults.splice(0).join('\n'), /another origin: http:\/\/192\.0\.2\.1:1/);
  });

  await t.test('a long task, and what nobody can read', async (t) => {
    const slow = await browser.open(t, `${url}/slow`);
    await until('it is done', () => slow.ask<boolean>('document.title === "done"'));
    const tasks = await slow.takeLongTasks();
    t.ok(
      tasks.some(({ duration }) => duration >= 100),
      JSON.stringify(tasks),
    );
    const bare = await browser.open(t, `${url}/unlabelled`, { allowed: [/img-src/] });
    const failures: string[] = [];
    await bare.accessible({ fail: (text: string) => failures.push(text), pass: () => undefined } as never, 'bare');
    t.match(failures.join('\n'), /button-name[\s\S]*image-alt/);
  });
});
