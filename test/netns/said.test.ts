/** Connections that are judged by what they say, as sockets make them: large segments, retransmissions, both ends. */
import t from 'tap';
import { type Extension, makeHello, records, serverName } from '../said/make.js';
import { Agent } from './agent.js';
import { say, serve } from './speakers.js';
import { servers, World } from './world.js';

const { ip4 } = servers.one;

const cut = (bytes: Buffer, size: number): Buffer[] =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));

function hello(name: string, share: number): Buffer {
  const extensions: Extension[] = [[51, Buffer.alloc(share, 9)], serverName(name)];
  return records(makeHello({ extensions }));
}

const until = async (is: () => boolean): Promise<void> => {
  for (let i = 0; i < 100 && !is(); i++) await new Promise((resolve) => setTimeout(resolve, 50));
};

t.test('as sockets say it', async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const pods = [await world.pod('web'), await world.pod('bridged', { labels: { app: 'web' }, style: 'bridge' })];
  world.write('policy.yaml', [
    {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata: { name: 'web', namespace: 'default' },
      spec: {
        endpointSelector: { matchLabels: { app: 'web' } },
        egress: [
          {
            toCIDR: [`${ip4}/32`],
            toPorts: [
              { ports: [{ port: '443', protocol: 'TCP' }], serverNames: ['*.good.test'] },
              { ports: [{ port: '80', protocol: 'TCP' }], rules: { http: [{ path: '/ok' }] } },
            ],
          },
        ],
      },
    },
  ]);
  const tls = await serve(world, 443);
  const http = await serve(world, 80);
  const agent = await Agent.start(world, { mode: 'tcx' });
  for (const pod of pods) await agent.enforced(`default/${pod.name}`);
  const data = Buffer.concat([Buffer.from('1703030100', 'hex'), Buffer.alloc(256, 1)]);
  const last = Buffer.from('1703030001', 'hex');

  for (const pod of pods) {
    for (const [what, share, size] of [
      ['in one segment', 0, 9000],
      ['in a large one', 1700, 9000],
      ['of 15 KiB', 15_000, 20_000],
      ['in pieces', 1216, 7],
    ] as const) {
      const good = hello('a.good.test', share);
      tls.length = 0;
      t.equal(
        await say(pod.host, 443, [...cut(good, size), data, last, Buffer.from('?')]),
        `ok yes ${good.length + 267}`,
        what,
      );
      const evil = hello('a.evil.test', share);
      tls.length = 0;
      t.equal(await say(pod.host, 443, cut(evil, size)), 'reset', what);
      await until(() => tls.length > 0);
      t.match(tls, [/^[0-9]+ reset$/], 'the server is told');
      t.ok(Number(tls[0]?.split(' ')[0]) < evil.length);
    }
    const bulk = Buffer.concat([data, Buffer.alloc(3_000_000, 7), Buffer.from('?')]);
    t.match(await say(pod.host, 443, [hello('b.good.test', 0), bulk]), /^ok yes 3000/, 'what follows is free');

    const get = (path: string) => Buffer.from(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
    const post = (n: number) => Buffer.from(`POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: ${n}\r\n\r\n`);
    http.length = 0;
    t.match(await say(pod.host, 80, [get('/evil')]), /^ok HTTP\/1.1 403 Forbidden\r\n[\s\S]*\r\n\r\nAccess denied$/);
    await until(() => http.length > 0);
    t.same(http, ['0 reset']);
    const upload = Buffer.concat([Buffer.alloc(2_999_999, 'GET /evil HTTP/1.1\r\n'), Buffer.from('?')]);
    t.equal(await say(pod.host, 80, [post(3_000_000), upload]), `ok yes ${3_000_000 + post(3_000_000).length}`);
    t.match(await say(pod.host, 80, [post(2), Buffer.from('a?'), get('/evil')]), /403|reset/);
    const chunk = (n: number) =>
      Buffer.concat([Buffer.from(`${n.toString(16)}\r\n`), Buffer.alloc(n, 5), Buffer.from('\r\n')]);
    const chunked = Buffer.concat([
      Buffer.from('POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'),
      ...Array.from({ length: 200 }, (_, i) => chunk(10_000 + i)),
      Buffer.from('0\r\n\r\n'),
    ]);
    const ask = Buffer.from('POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n?');
    t.equal(await say(pod.host, 80, [chunked, ask]), `ok yes ${chunked.length + ask.length}`, 'in chunks');
  }
});
