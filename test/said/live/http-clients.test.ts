/** Real clients and servers of HTTP/1 under rules about requests. What the servers logged is the judge. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { compiled } from '../../netns/shell.js';
import { servers } from '../../netns/world.js';
import type { Line } from '../bed.js';
import { LiveBed } from './bed.js';
import { makeCertificates } from './certificates.js';
import { buildGo, clients } from './clients.js';
import type { Heard, Talk } from './raw-client.js';
import { nginx, nodeServer } from './servers.js';

const AT = { nginx: servers.one.ip4, node: servers.two.ip4 } as const;
const HOSTS = { 'nginx.test': AT.nginx, 'node.test': AT.node, 'other.test': AT.node };
const RULES: readonly Line[] = [
  {
    ports: [{ protocol: 6, ports: [[80, 80]] }],
    http: [
      { method: 'GET|HEAD', path: '/allowed(/.*)?', host: '(nginx|node)\\.test' },
      { method: 'POST', path: '/upload' },
      { path: '/secret', headers: [{ name: 'x-token', value: '[0-9]{4}' }] },
      { method: 'GET', path: '/socket' },
      { method: 'CONNECT', host: 'inside\\.test:443' },
    ],
  },
];
const AT_ONCE_MS = 8000;

t.setTimeout(170_000);
t.test('clients of HTTP', { timeout: 170_000 }, async (t) => {
  const bed = await LiveBed.create(RULES, HOSTS);
  t.teardown(() => bed.close());
  const { world } = bed;
  const c = await makeCertificates(world.dir, Object.keys(HOSTS));
  const all = { nginx: await nginx(world, AT.nginx, c), node: await nodeServer(world, AT.node, c) };
  const { node } = all;
  const { go, remove } = await buildGo();
  t.teardown(remove);
  const curl = (...args: string[]) => bed.run(['curl', '-sS', '-m', '10', '--noproxy', '*', ...args]);
  const talk = async (parts: string[], more: Partial<Talk> = {}): Promise<Heard> => {
    const script = join(compiled, 'test/said/live/raw-client.js');
    const { stdout, stderr } = await bed.run([
      process.execPath,
      script,
      JSON.stringify({ host: AT.node, port: 80, parts, ...more }),
    ]);
    if (!stdout) throw new Error(`the client said nothing: ${stderr}`);
    return JSON.parse(stdout) as Heard;
  };
  const get = (path: string, ...headers: string[]) =>
    [`GET ${path} HTTP/1.1`, 'Host: node.test', ...headers, '', ''].join('\r\n');
  const urls = async (atLeast = 0) => (await node.arrived(atLeast)).map(({ url }) => url);
  t.afterEach(async () => {
    bed.told();
    bed.reasons();
    for (const server of Object.values(all)) await server.arrived();
  });

  for (const [client, fetch] of Object.entries(clients(go))) {
    for (const name of ['nginx', 'node'] as const) {
      await t.test(`${client} and ${name}`, async (t) => {
        const server = all[name];
        const got = await bed.run(fetch(`http://${name}.test/allowed`, c.authority));
        t.equal(got.status, 0, got.stderr + got.stdout);
        t.match(await server.arrived(1), [{ what: 'request', url: '/allowed', host: `${name}.test` }]);
        t.match(bed.told(), [{ kind: 'http', text: /\/allowed/, verdict: 'allow' }]);
        for (const [host, path] of [
          [`${name}.test`, '/denied'],
          [AT[name], '/allowed'],
        ]) {
          const start = Date.now();
          const { status, stdout, stderr } = await bed.run(fetch(`http://${host}${path}`, c.authority));
          const took = Date.now() - start;
          t.not(status, 0, `${host}${path} fails`);
          t.match(stdout + stderr, /403/, 'and says why');
          t.ok(took < AT_ONCE_MS, `at once: ${took} ms`);
          t.match(bed.told(), [{ kind: 'http', text: new RegExp(path as string), verdict: 'deny' }]);
        }
        t.same(await server.arrived(), [], 'nothing arrived');
      });
    }
  }

  await t.test('403 and the end', async (t) => {
    const args = ['-o', '/dev/null', '-w', '%{http_code} %{time_total}', 'http://node.test/denied'];
    const { status, stdout } = await curl(...args);
    t.equal(status, 0);
    t.match(stdout, /^403 0\./);
    const heard = await talk([get('/denied')]);
    t.match(heard.text, /^HTTP\/1\.1 403 .*\r\n\r\n./s);
    t.match(heard.end, /^(end|ECONNRESET)$/);
    t.ok(heard.ms < 1000, `${heard.ms} ms`);
    t.same(await urls(), []);
  });

  await t.test('every request of a kept connection', async (t) => {
    const at = (path: string) => `http://node.test${path}`;
    const { stdout } = await curl(
      '-w',
      '%{http_code} %{num_connects}\n',
      ...['/1', '/2', '/3'].map((p) => at(`/allowed${p}`)),
    );
    t.same(stdout.match(/^200 \d$/gm), ['200 1', '200 0', '200 0'], 'one connection');
    t.same(await urls(3), ['/allowed/1', '/allowed/2', '/allowed/3']);
    const mixed = ['/allowed/1', '/denied', '/allowed/2'].map(at);
    const codes = (await curl('-w', '\n%{http_code} %{num_connects}\n', ...mixed)).stdout.match(/^\d{3} \d$/gm);
    t.same(codes, ['200 1', '403 0', '200 1'], 'a denied one ends it');
    t.same(await urls(2), ['/allowed/1', '/allowed/2']);
  });

  await t.test('each request, where only the audit depends on it', async (t) => {
    t.teardown(() => bed.rules(RULES));
    bed.rules(RULES, { staged: true });
    const paths = ['/allowed/1', '/denied', '/allowed/2', '/denied/2'];
    const all = paths.map((path) => `http://node.test${path}`);
    const codes = (await curl('-w', '\n%{http_code} %{num_connects}\n', ...all)).stdout.match(/^\d{3} \d$/gm);
    t.same(codes, ['200 1', '200 0', '200 0', '200 0'], 'one connection, and all of it passes');
    t.same(await urls(4), paths);
    t.match(
      bed.told(),
      paths.map((path) => ({ text: `GET node.test ${path}`, verdict: 'allow', audited: path.startsWith('/denied') })),
    );
    const file = join(world.dir, 'audited');
    writeFileSync(file, Buffer.alloc(3e6, get('/denied')));
    const each = ['-T', file, '-X', 'POST', '-H', 'Transfer-Encoding: chunked', '-H', 'Expect:'];
    const to = ['http://node.test/upload', 'http://node.test/denied/3'];
    await curl('-o', '/dev/null', ...each, to[0] as string, '-o', '/dev/null', '-T', file, to[1] as string);
    t.same(await urls(2), ['/upload', '/denied/3']);
    t.match(bed.told(), [
      { text: 'POST node.test /upload', audited: false },
      { text: 'POST node.test /denied/3', audited: true },
    ]);
    t.same(bed.reasons(), []);
  });

  await t.test('pipelined', async (t) => {
    const many = Array.from({ length: 20 }, (_, i) => `/allowed/${i}`);
    const heard = await talk([many.map((p) => get(p)).join('')]);
    t.equal(heard.text.match(/HTTP\/1\.1 200/g)?.length, 20);
    t.same(await urls(20), many);
    const parts = [get('/allowed/1'), get('/allowed/2') + get('/denied') + get('/allowed/3')];
    const cut = await talk(parts);
    t.match(cut.end, /^(end|ECONNRESET)$/);
    const arrived = await urls(1);
    t.equal(arrived[0], '/allowed/1');
    t.notOk(arrived.includes('/denied'));
    t.notOk(arrived.includes('/allowed/3'), 'nothing behind the denied one');
  });

  await t.test('bodies are bodies', async (t) => {
    const file = join(world.dir, 'body');
    // What is in a body is no request.
    writeFileSync(file, get('/denied').repeat(3000));
    const length = get('/denied').length * 3000;
    for (const how of [[], ['-H', 'Transfer-Encoding: chunked'], ['-H', 'Expect: 100-continue'], ['-H', 'Expect:']]) {
      const args = ['--data-binary', `@${file}`, '-w', ' %{http_code}', ...how];
      const next = ['--next', '-sS', '-w', ' %{http_code} %{num_connects}', 'http://node.test/allowed'];
      const { stdout } = await curl(...args, 'http://node.test/upload', ...next);
      t.match(stdout, / 200.* 200 0$/s, how.join(' '));
      const arrived = (await node.arrived(2)).filter(({ what }) => what === 'request');
      t.match(arrived, [{ url: '/upload', body: length }, { url: '/allowed' }]);
    }
    const { stdout } = await curl('--data-binary', `@${file}`, '-w', ' %{http_code}', 'http://node.test/allowed');
    t.match(stdout, / 403$/, 'another method');
    t.same(await urls(), []);
  });

  await t.test('what follows a body is judged', async (t) => {
    const head = 'POST /upload HTTP/1.1\r\nHost: node.test\r\n';
    const bodies = ['Content-Length: 3\r\n\r\nabc', 'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n'];
    for (const body of bodies) {
      const heard = await talk([head + body, get('/denied')]);
      t.match(heard.text, /200 OK.*403/s);
      t.same(await urls(1), ['/upload']);
    }
    for (const both of [
      'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd',
    ]) {
      await talk([head + both + get('/allowed')]);
      t.same(await urls(), [], 'what is ambiguous');
    }
  });

  await t.test('headers, and another host', async (t) => {
    const code = async (...args: string[]) => (await curl('-o', '/dev/null', '-w', '%{http_code}', ...args)).stdout;
    t.equal(await code('-H', 'X-Token: 1234', 'http://node.test/secret'), '200');
    t.equal(await code('-H', 'X-Token: 12345', 'http://node.test/secret'), '403');
    t.equal(await code('http://node.test/secret'), '403');
    t.equal(await code('http://other.test/allowed'), '403');
    t.equal(await code('-H', 'Host: other.test', 'http://node.test/allowed'), '403');
    t.equal(await code('-X', 'DELETE', 'http://node.test/allowed'), '403');
    t.equal(await code('--path-as-is', 'http://node.test/allowed/../denied'), '403');
    t.same(await urls(1), ['/secret']);
  });

  await t.test('WebSocket', async (t) => {
    const upgrade = [
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==',
    ];
    const frame = '\x81\x85\x01\x02\x03\x04idolo';
    const heard = await talk([get('/socket', ...upgrade), frame, frame]);
    t.match(heard.text, /^HTTP\/1\.1 101 /);
    t.match(heard.text.split('\r\n\r\n')[1], frame + frame, 'both ways');
    t.same(await urls(1), ['/socket']);
    await talk([get('/denied', ...upgrade), frame]);
    t.same(await urls(), []);
    await talk([get('/socket', ...upgrade) + get('/denied')]);
    t.notOk((await urls()).includes('/denied'), 'nothing passes before the 101');
  });

  await t.test('CONNECT', async (t) => {
    const connect = (to: string) => `CONNECT ${to} HTTP/1.1\r\nHost: ${to}\r\n\r\n`;
    const heard = await talk([connect('inside.test:443'), 'hello', get('/denied')]);
    t.match(heard.text, /^HTTP\/1\.1 200 .*hello/s, 'the tunnel is free');
    t.match(await node.arrived(1), [{ what: 'connect', url: 'inside.test:443' }]);
    const other = await talk([connect('outside.test:443'), 'hello']);
    t.match(other.text, /^HTTP\/1\.1 403 /);
    t.same(await node.arrived(), []);
    const proxied = ['-sSk', '-m', '10', '-x', `http://${AT.node}:80`, 'https://outside.test/'];
    t.match((await bed.run(['curl', ...proxied])).stderr, /403/);
    t.same(await node.arrived(), []);
  });

  await t.test('HTTP/2 in plain', async (t) => {
    t.not((await curl('--http2-prior-knowledge', 'http://node.test/allowed')).status, 0);
    t.same(await node.arrived(), []);
    const { stdout } = await curl('--http2', '-w', ' %{http_code}', 'http://nginx.test/allowed');
    t.match(stdout, / 200$/, 'asked for, and not taken up');
    t.match(await all.nginx.arrived(1), [{ url: '/allowed', version: 'HTTP/1.1' }]);
  });
});
