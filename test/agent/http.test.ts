import { connect } from 'node:net';
import t from 'tap';
import { HttpServer, parseListen } from '../../agent/serve/http.js';

const state = {
  starting: undefined as string | undefined,
  notReady: undefined as string | undefined,
  metrics: async () => ({ type: 'text/plain; version=0.0.4', text: 'a 1\n' }),
};
const server = new HttpServer({
  startingReason: () => state.starting,
  notReadyReason: () => state.notReady,
  metrics: () => state.metrics(),
});
await server.listen('127.0.0.1:0');
t.teardown(() => server.close());
const url = (path: string) => `http://127.0.0.1:${server.port}${path}`;

async function ask(path: string, method = 'GET'): Promise<[status: number, text: string]> {
  const answer = await fetch(url(path), { method });
  return [answer.status, await answer.text()];
}

t.test('the four paths', async (t) => {
  for (const path of ['/startupz', '/readyz', '/livez', '/readyz?verbose', '/livez?']) {
    t.same(await ask(path), [200, 'ok\n'], path);
  }
  state.starting = 'starting';
  state.notReady = 'the cluster is not known yet';
  t.same(await ask('/startupz'), [503, 'starting\n']);
  t.same(await ask('/readyz'), [503, 'the cluster is not known yet\n']);
  t.same(await ask('/livez'), [200, 'ok\n'], 'alive all the same');
  state.starting = state.notReady = undefined;
  t.same(await ask('/readyz'), [200, 'ok\n']);
  const metrics = await fetch(url('/metrics'));
  t.equal(metrics.headers.get('content-type'), 'text/plain; version=0.0.4');
  t.equal(metrics.headers.get('cache-control'), 'no-store');
  t.equal(await metrics.text(), 'a 1\n');
});

t.test('HEAD: the same without a body', async (t) => {
  state.notReady = 'not yet';
  for (const [path, status] of [
    ['/livez', 200],
    ['/readyz', 503],
    ['/metrics', 200],
    ['/x', 404],
  ] as const) {
    t.same(await ask(path, 'HEAD'), [status, ''], path);
  }
  state.notReady = undefined;
});

t.test('anything else', async (t) => {
  for (const path of ['/', '/livez/', '/LIVEZ', '/metrics/x', '/%00', '/../livez%2f']) {
    t.equal((await ask(path))[0], 404, path);
  }
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
    t.equal((await ask('/livez', method))[0], 405, method);
  }
});

t.test('junk on the wire', async (t) => {
  const raw = (text: string | Buffer) =>
    new Promise<string>((resolve) => {
      let said = '';
      const socket = connect(server.port, '127.0.0.1', () => socket.end(text));
      socket.setEncoding('latin1').on('data', (chunk) => {
        said += chunk;
      });
      socket.on('error', () => {});
      socket.on('close', () => resolve(said));
    });
  const junk = [
    '\0\0\0\0\r\n\r\n',
    'GET\r\n\r\n',
    `GET /${'x'.repeat(100_000)} HTTP/1.1\r\n\r\n`,
    Buffer.alloc(70_000, 255),
  ];
  for (const text of junk) t.match(await raw(text), /^(HTTP\/1\.1 4\d\d|$)/);
  t.match(await raw('GET * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'), /^HTTP\/1\.1 404/);
  t.match(await raw('GET http://other/livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'), /^HTTP\/1\.1 404/);
  t.same(await ask('/livez'), [200, 'ok\n'], 'and it goes on');
});

t.test('a fault in an answer is that answer alone', async (t) => {
  const { metrics } = state;
  state.metrics = () => Promise.reject(new Error('no status'));
  t.same(await ask('/metrics'), [500, 'no status\n']);
  state.metrics = () => {
    throw new Error('at once');
  };
  t.same(await ask('/metrics'), [500, 'at once\n']);
  state.metrics = metrics;
  const broken = new HttpServer({
    startingReason: () => {
      throw new Error('a fault');
    },
    notReadyReason: () => undefined,
    metrics,
  });
  await broken.listen('127.0.0.1:0');
  t.teardown(() => broken.close());
  const answer = await fetch(`http://127.0.0.1:${broken.port}/startupz`);
  t.same([answer.status, await answer.text()], [500, 'a fault\n']);
});

t.test('addresses', async (t) => {
  t.same(parseListen('127.0.0.1:4246'), { host: '127.0.0.1', port: 4246 });
  t.same(parseListen(':80'), { host: undefined, port: 80 });
  t.same(parseListen('[::1]:65535'), { host: '::1', port: 65535 });
  for (const bad of ['', '80', 'a:', ':65536', '::1:80', '[::1]', 'a:b', '1.2.3.4:80x', '[x]:1']) {
    t.throws(() => parseListen(bad), { code: 'USAGE' }, JSON.stringify(bad));
  }
  const second = new HttpServer({
    startingReason: () => undefined,
    notReadyReason: () => undefined,
    metrics: state.metrics,
  });
  await t.rejects(second.listen(`127.0.0.1:${server.port}`), { code: 'AGENT', message: /EADDRINUSE/ });
  second.close();
});
