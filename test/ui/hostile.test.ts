/** The hostile agent: that its texts do arrive, in all that a client may ask. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { UiBrowser } from './browser.js';
import { HAS_RUN, startHostile, TEXTS } from './hostile.js';

t.test('the hostile agent', { timeout: 60_000 }, async (t) => {
  const hostile = await startHostile();
  t.teardown(() => hostile.stop());
  const client = new AgentClient(hostile.socket);
  t.teardown(() => client.close());

  /**
   * Fails for each text that is missing in an answer. Fields of messages are UTF-8, which has no halves of a pair; they
   * come only in JSON, as an escape.
   */
  const hasAll = (t: Tap, answer: unknown, but = ['lone surrogates']) => {
    const json = JSON.stringify(answer, (_, value) => (Number.isNaN(value) ? 'NaN' : value));
    for (const [name, text] of Object.entries(TEXTS))
      if (!but.includes(name)) t.ok(json.includes(JSON.stringify(text).slice(1, -1)), name);
  };
  type Tap = typeof t;
  const all = async (messages: AsyncIterable<unknown>) => {
    const out: unknown[] = [];
    for await (const message of messages) out.push(message);
    return out;
  };

  await t.test('edges', async (t) => hasAll(t, await all(client.edges({}))));
  await t.test('flows', async (t) => hasAll(t, await all(client.getRecords({ number: '10000' }))));
  await t.test('a sample of them', async (t) => {
    const stop = new AbortController();
    const samples: unknown[] = [];
    for await (const message of client.sampleFlows({ last: 5000 }, stop.signal)) {
      samples.push(message);
      stop.abort();
    }
    // Records of more than 32 KiB are not in a sample.
    hasAll(t, samples, ['lone surrogates', 'long', 'long without breaks', 'combining']);
  });
  await t.test('flows as Hubble’s', async (t) => hasAll(t, await all(client.getFlows({ number: '10000' }))));
  await t.test('policies', async (t) => hasAll(t, await client.policyObjects({})));
  await t.test('states of policies', async (t) => hasAll(t, await client.policies()));
  await t.test('status', async (t) => hasAll(t, await client.status()));
  await t.test('cluster', async (t) => hasAll(t, await client.clusterStatus()));
  await t.test('activity', async (t) => hasAll(t, await client.activity({})));
  await t.test('names', async (t) => hasAll(t, await client.names({ limit: 1000 } as never)));
  await t.test('preview', async (t) => hasAll(t, await client.preview({})));
  await t.test('recommendation', async (t) => hasAll(t, JSON.parse((await client.recommend({})).json ?? ''), []));
  await t.test('explanation', async (t) => {
    const answer = await client.explain({ from: 'shop/web', to: '192.0.2.1', port: 443, protocol: 6 });
    hasAll(t, JSON.parse(answer.json), []);
    await t.rejects(client.explain({ from: TEXTS.image as string, to: '192.0.2.1' }), { message: /no pod <img/ });
  });
  await t.test('again', async (t) => {
    hostile.again();
    hasAll(t, await all(client.getRecords({ number: '200' })));
  });
});

t.test('a page that believes them is found out', { timeout: 60_000 }, async (t) => {
  const body = {
    '/html': Object.values(TEXTS).join('\n'),
    '/text': Object.values(TEXTS)
      .map((text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;'))
      .join('\n'),
  } as Record<string, string>;
  const server = createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
    response.end(
      `<!doctype html><title>A page</title><link rel="icon" href="data:,"><pre>${body[request.url ?? '']}</pre>`,
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const browser = await UiBrowser.start();
  t.teardown(() => browser.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const text = await browser.open(t, `${url}/text`);
  t.equal(await text.ask<boolean>(HAS_RUN), false);
  t.same(text.faults, []);
  const html = await browser.open(t, `${url}/html`);
  t.equal(await html.ask<boolean>(HAS_RUN), true);
  html.faults.length = 0;
  html.allow(/./);
});
