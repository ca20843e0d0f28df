/** A browser whose DNS has keys for Encrypted ClientHello. What arrives outside is the judge. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Hello, readHello } from '../../src/said/hello.js';
import { QUIET } from '../said/live/browser.js';
import { echConfig, echList } from '../said/make-ech.js';
import { Agent } from './agent.js';
import { Asker, Resolver } from './resolver.js';
import { serve } from './speakers.js';
import { servers, World } from './world.js';

const dns = servers.two;
const { ip4 } = servers.one;
const ID = 7;
/** Ethernet, IPv4 without options. */
const TCP_AT = 14 + 20;

/** What the connections to the server begin with, from frames that arrived. */
function hellos(frames: readonly string[]): Hello[] {
  const streams = new Map<number, Buffer>();
  for (const line of frames) {
    const frame = Buffer.from(line.slice(line.indexOf(' ') + 1), 'hex');
    if (!line.startsWith('in ') || frame.length < TCP_AT + 20 || frame.readUInt16BE(12) !== 0x0800) continue;
    if (frame[23] !== 6 || frame.readUInt16BE(TCP_AT + 2) !== 443) continue;
    const data = frame.subarray(TCP_AT + ((frame[TCP_AT + 12] as number) >> 4) * 4, 14 + frame.readUInt16BE(16));
    const port = frame.readUInt16BE(TCP_AT);
    streams.set(port, Buffer.concat([streams.get(port) ?? Buffer.alloc(0), data]));
  }
  return [...streams.values()].map(readHello).filter((h): h is Hello => h.state === 'hello');
}

t.setTimeout(240_000);
t.test('a browser', { timeout: 240_000 }, async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const list = echList(echConfig({ id: ID, name: 'front.good.test', key: randomBytes(32) })).toString('base64');
  const names = ['hidden.evil.test', 'plain.good.test'];
  await Resolver.authority(
    world,
    [dns.ip4, dns.ip6],
    [
      `hidden.evil.test. 600 IN HTTPS 1 . alpn=h2 ipv4hint=${ip4} ech=${list}`,
      ...names.map((name) => `${name}. 600 IN A ${ip4}`),
    ],
  );
  const web = await world.pod('web');
  await serve(world, 443);
  world.write('policy.yaml', [
    {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata: { name: 'web', namespace: 'default' },
      spec: {
        endpointSelector: { matchLabels: { app: 'web' } },
        egress: [
          { toCIDR: [`${dns.ip4}/32`], toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }] }] },
          {
            toCIDR: [`${ip4}/32`],
            toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }], serverNames: ['*.good.test'] }],
          },
        ],
      },
    },
  ]);
  const asker = new Asker(world, web, [`nameserver ${dns.ip4}`]);
  let profiles = 0;
  /** The hellos that arrive when it loads a page. */
  const visit = async (name: string): Promise<Hello[]> => {
    const wire = await world.internet.sniff('to-a');
    const dir = join(world.dir, `profile-${++profiles}`);
    const page = [`--user-data-dir=${dir}`, '--disable-quic', '--timeout=6000', '--dump-dom', `https://${name}/`];
    await asker.run('timeout', ['40', 'chromium', ...QUIET, ...page], { check: false });
    const frames = await wire.frames();
    await wire.close();
    // Its children write on for a moment.
    rmSync(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    return hellos(frames);
  };
  const start = (...more: string[]) =>
    Agent.start(world, { args: ['--dns-servers', dns.ip4, '--name-seed', 'off', ...more] });

  await t.test('by default the front leads where policy does not', async (t) => {
    const agent = await start();
    await agent.enforced('default/web');
    const arrived = await visit('hidden.evil.test');
    t.ok(arrived.length > 0);
    for (const hello of arrived) t.match(hello, { serverName: 'front.good.test', ech: true, echId: ID });
    await agent.stop();
  });

  await t.test('with --ech deny-known', async (t) => {
    const agent = await start('--ech', 'deny-known');
    await agent.enforced('default/web');
    t.same(await visit('hidden.evil.test'), [], 'nothing of it arrives');
    t.ok(((await agent.status()).drops['encrypted-hello'] ?? 0) > 0);
    const arrived = await visit('plain.good.test');
    t.ok(arrived.length > 0, 'what has GREASE passes');
    for (const hello of arrived) t.match(hello, { serverName: 'plain.good.test', ech: true });
    await agent.stop();
  });

  await t.test('with --https-records strip', async (t) => {
    const agent = await start('--https-records', 'strip');
    await agent.enforced('default/web');
    const before = (await agent.status()).drops['encrypted-hello'];
    t.same(await visit('hidden.evil.test'), [], 'it says whom it means, who is not allowed');
    t.equal((await agent.status()).drops['encrypted-hello'], before);
    t.ok((await visit('plain.good.test')).length > 0);
  });
});
