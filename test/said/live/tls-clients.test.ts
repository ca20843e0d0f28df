/** Real clients and servers under a rule that asks for a server name. What the servers logged is the judge. */
import t from 'tap';
import { servers } from '../../netns/world.js';
import type { Line } from '../bed.js';
import { LiveBed } from './bed.js';
import { makeCertificates } from './certificates.js';
import { buildGo, clients, nodeHttp2 } from './clients.js';
import { caddy, nginx, nodeServer } from './servers.js';

const RULES: readonly Line[] = [{ serverNames: ['good.test', '*.good.test'] }];
const AT = { nginx: servers.one.ip4, node: servers.two.ip4, caddy: '203.0.113.30' } as const;
/** `nginx.good.test`, `nginx.evil.test`, …: the same server under each. */
const HOSTS = Object.fromEntries(
  Object.entries(AT).flatMap(([name, ip]) => ['good', 'evil'].map((zone) => [`${name}.${zone}.test`, ip])),
);
const SIX = servers.one.ip6;
/** From the start of a client to its end; each waits for much longer where nobody answers. */
const AT_ONCE_MS = 8000;

t.setTimeout(170_000);
t.test('clients of HTTPS', { timeout: 170_000 }, async (t) => {
  const bed = await LiveBed.create(RULES, { ...HOSTS, 'six.good.test': SIX, 'six.evil.test': SIX });
  t.teardown(() => bed.close());
  const { world } = bed;
  await world.internet.ip([`addr add ${AT.caddy}/32 dev lo`]);
  const c = await makeCertificates(world.dir, [...Object.keys(HOSTS), ...Object.values(AT), 'six.good.test']);
  const all = {
    nginx: await nginx(world, AT.nginx, c, `server { listen [${SIX}]:443 ssl; }`),
    node: await nodeServer(world, AT.node, c),
    caddy: await caddy(world, AT.caddy, c),
  };
  const { go, remove } = await buildGo();
  t.teardown(remove);
  const pairs = [
    ...Object.entries(clients(go)).map(([name, fetch]) => ['nginx', name, fetch] as const),
    ...['curl', 'go', 'node, http and https'].map((name) => ['node', name, clients(go)[name]!] as const),
    ['node', 'node, http2', nodeHttp2] as const,
    ...['curl', 'wget'].map((name) => ['caddy', name, clients(go)[name]!] as const),
  ];
  for (const [name, client, fetch] of pairs) {
    await t.test(`${client} and ${name}`, async (t) => {
      const server = all[name];
      const [good, evil] = ['good', 'evil'].map((zone) => `${name}.${zone}.test`) as [string, string];
      const got = await bed.run(fetch(`https://${good}/allowed`, c.authority));
      t.equal(got.status, 0, got.stderr + got.stdout);
      const arrived = await server.arrived(name === 'node' ? 3 : 1);
      t.match(
        arrived.filter(({ what }) => what === 'request'),
        [{ sni: good, url: '/allowed' }],
      );
      t.match(bed.told(), [{ kind: 'tls', text: good, verdict: 'allow', quic: false }]);
      bed.reasons();
      for (const host of [evil, AT[name]]) {
        const start = Date.now();
        const { status, stdout, stderr } = await bed.run(fetch(`https://${host}/denied`, c.authority));
        const took = Date.now() - start;
        t.not(status, 0, `${host}: fails`);
        t.not(status, 124, 'and not by a time-out');
        t.match(stdout + stderr, /reset|SSL|ECONNRESET|^4$/i, 'it says that the connection was reset');
        t.ok(took < AT_ONCE_MS, `at once: ${took} ms`);
        const told = bed.told();
        t.ok(told.length > 0);
        for (const one of told) t.match(one, { kind: 'tls', text: host === evil ? evil : '', verdict: 'deny' });
      }
      t.same(await server.arrived(), [], 'nothing arrived, not even a hello');
      t.equal(bed.held(), 0);
    });
  }

  await t.test('a reset comes at once', async (t) => {
    for (const host of ['nginx.evil.test', AT.nginx]) {
      const args = ['-s', '-o', '/dev/null', '-w', '%{time_total}', '-k', `https://${host}/`];
      const { stdout, status } = await bed.run(['curl', '--noproxy', '*', ...args]);
      t.equal(status, 35, 'in the handshake');
      t.ok(Number(stdout) < 1, `${stdout} s`);
    }
    bed.told();
  });

  await t.test('IPv6', async (t) => {
    const fetch = (name: string) => bed.run(['curl', '-sS', '--cacert', c.authority, `https://${name}/six`]);
    t.equal((await fetch('six.good.test')).status, 0);
    t.match(await all.nginx.arrived(1), [{ sni: 'six.good.test', url: '/six' }]);
    t.equal((await fetch('six.evil.test')).status, 35);
    t.same(await all.nginx.arrived(), []);
    t.match(bed.told(), [
      { text: 'six.good.test', verdict: 'allow' },
      { text: 'six.evil.test', verdict: 'deny' },
    ]);
  });

  await t.test('a second request on the connection, and a second connection', async (t) => {
    const url = 'https://nginx.good.test';
    const { status } = await bed.run(['curl', '-sSf', '--cacert', c.authority, `${url}/1`, `${url}/2`, `${url}/3`]);
    t.equal(status, 0);
    t.equal((await all.nginx.arrived(3)).length, 3);
    t.equal(bed.told().length, 1, 'one hello');
    // Of one connection to the allowed name, the client uses another for the other name.
    const both = [`${url}/1`, 'https://nginx.evil.test/2'];
    t.not((await bed.run(['curl', '-sS', '--cacert', c.authority, ...both])).status, 0);
    t.match(await all.nginx.arrived(1), [{ url: '/1' }]);
    bed.told();
  });

  await t.test('100 MB after the verdict take the fast path', async (t) => {
    const before = bed.count('EA_COUNT_SAID_JUDGED');
    const rest = ['--limit-rate', '200M', '-w', '%{size_download}', '-o', '/dev/null'];
    const download = bed.run(['curl', '-sSf', '--cacert', c.authority, ...rest, 'https://nginx.good.test/large']);
    let seen: ReturnType<LiveBed['flows']> = [];
    const isLarge = () => seen.some((f) => f.bytesIn > 1e6);
    for (let i = 0; i < 400 && !isLarge(); i++) {
      seen = bed.flows(443);
      await new Promise((next) => setTimeout(next, 5));
    }
    t.match(
      seen.filter((f) => f.bytesIn > 1e6),
      [{ inspected: false }],
      'while it lasts, nobody inspects it',
    );
    t.equal((await download).stdout, '100000000');
    t.equal(bed.count('EA_COUNT_SAID_JUDGED') - before, 1, 'judged once');
    t.equal(bed.held(), 0);
  });
});
