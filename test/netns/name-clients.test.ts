/** Resolvers and clients as they are: each client in a pod of its own, so that it learns from its own answers only. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Agent } from './agent.js';
import { cnpNames } from './policies.js';
import { answerForMany, Asker, many, Resolver } from './resolver.js';
import { root, run } from './shell.js';
import { servers, World } from './world.js';

const dns = { named: servers.two.ip4, six: servers.two.ip6, unbound: '203.0.113.53', dnsmasq: '203.0.113.54' };
const long = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(253 - 192 - '.good.test'.length)}.good.test`;
const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);
const zone = [
  `plain.good.test. IN A ${many.ip4}.1`,
  `plain.good.test. IN AAAA ${many.ip6}:1`,
  `short.good.test. IN A ${many.ip4}.2`,
  `short.good.test. IN AAAA ${many.ip6}:2`,
  ...range(0, 8).map((i) => `c${i}.${i === 0 ? 'good' : 'chain'}.test. IN CNAME c${i + 1}.chain.test.`),
  `c8.chain.test. IN A ${many.ip4}.3`,
  `c8.chain.test. IN AAAA ${many.ip6}:3`,
  `${long}. IN A ${many.ip4}.4`,
  `zero.good.test. 0 IN A ${many.ip4}.5`,
  `one.good.test. 1 IN A ${many.ip4}.6`,
  `via.other.test. IN CNAME solo.good.test.`,
  `solo.good.test. IN A ${many.ip4}.7`,
  ...range(10, 20).map((i) => `rot.good.test. 0 IN A ${many.ip4}.${i}`),
  ...range(100, 100).map((i) => `big.good.test. IN A ${many.ip4}.${i}`),
  `nodata.good.test. IN TXT "no address"`,
];

const NODE = (resolve: string) => `
const dns = require('dns'), net = require('net');
const [name, first] = process.argv.slice(1);
const talk = (address) => new Promise((done) => {
  const socket = net.connect({ host: address, port: 80, timeout: 800 }, () => socket.write('hello'));
  const end = (what) => { socket.destroy(); done(address + ' ' + what); };
  socket.on('data', () => end('ok')).on('timeout', () => end('timeout')).on('error', (e) => end(e.code));
});
(async () => {
  const found = await (${resolve})(name);
  if (found.length === 0) { console.log('none'); process.exit(2); }
  for (const address of first ? found.slice(0, 1) : found) console.log(await talk(address));
})().catch((e) => { console.log(String(e)); process.exit(2); });`;
const LOOKUP = `async (name) => (await dns.promises.lookup(name, { all: true })).map((a) => a.address)`;
const CARES = `async (name) => {
  const r = new dns.promises.Resolver();
  return (await Promise.allSettled([r.resolve4(name), r.resolve6(name)])).flatMap((a) => a.value ?? []);
}`;
const PYTHON = `
import socket, sys
try: found = socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)
except socket.gaierror as e: print(e); sys.exit(2)
for info in found[:1] if len(sys.argv) > 2 else found:
    try:
        with socket.create_connection(info[4][:2], 0.8) as s:
            s.sendall(b"hello"); s.recv(100); print(info[4][0], "ok")
    except OSError as e: print(info[4][0], "timeout" if isinstance(e, TimeoutError) else e)
`;

interface Client {
  command: readonly string[];
  resolver?: string;
  options?: string;
  /** It has no search list. */
  plainNames?: boolean;
  /** It cannot ask over TCP. */
  noTcp?: boolean;
}

t.setTimeout(900_000);
t.test('clients', { timeout: 900_000 }, async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  await answerForMany(world);
  await world.internet.ip([dns.unbound, dns.dnsmasq].map((a) => `addr add ${a}/32 dev lo`));
  await Resolver.authority(world, [dns.named, dns.six], zone);
  await Resolver.forwarder(world, 'unbound', [dns.unbound], dns.named);
  await Resolver.forwarder(world, 'dnsmasq', [dns.dnsmasq], dns.named);
  const outside = await world.internet.listen('::', 80, 'tcp', 'outside');

  const bin = mkdtempSync(join(tmpdir(), 'egress-agent-fetch-'));
  t.teardown(() => run('rm', ['-rf', bin]));
  const source = (file: string) => join(root, 'test/netns', file);
  await run('gcc', ['-O1', '-o', join(bin, 'glibc'), source('fetch.c')]);
  await run('musl-gcc', ['-static', '-O1', '-o', join(bin, 'musl'), source('fetch.c')]);
  const go = (await run('sh', ['-c', 'command -v go'], { check: false })).status === 0;
  if (go)
    await run('env', [
      'CGO_ENABLED=0',
      `GOCACHE=${join(bin, 'cache')}`,
      'go',
      'build',
      '-o',
      join(bin, 'go'),
      source('fetch.go'),
    ]);

  const glibc = [join(bin, 'glibc')];
  const clients: Record<string, Client> = {
    glibc: { command: glibc },
    'glibc-ipv6': { command: glibc, resolver: dns.six },
    'glibc-tcp': { command: glibc, options: 'use-vc' },
    'glibc-unbound': { command: glibc, resolver: dns.unbound, options: 'edns0' },
    'glibc-dnsmasq': { command: glibc, resolver: dns.dnsmasq },
    'glibc-single': { command: glibc, options: 'single-request-reopen' },
    musl: { command: [join(bin, 'musl')], noTcp: true },
    python: { command: ['python3', '-c', PYTHON] },
    'node-lookup': { command: [process.execPath, '-e', NODE(LOOKUP)] },
    'node-c-ares': { command: [process.execPath, '-e', NODE(CARES)], plainNames: true },
    ...(go ? { go: { command: [join(bin, 'go')] } } : {}),
  };
  for (const name of Object.keys(clients)) await world.pod(name, { labels: { app: 'client' } });
  const curl = await world.pod('curl', { labels: { app: 'client' } });
  const resolvers = Object.values(dns);
  world.write('policy.yaml', [cnpNames('client', 'client', ['**.good.test'], resolvers)]);
  await Agent.start(world, {
    args: ['--name-seed', 'off', ...resolvers.flatMap((address) => ['--dns-servers', address])],
  });

  for (const [name, client] of Object.entries(clients)) {
    await t.test(name, async (t) => {
      const pod = world.pods.get(`default/${name}`);
      if (!pod) throw new Error(name);
      const asker = new Asker(world, pod, [
        `nameserver ${client.resolver ?? dns.named}`,
        'search shop.svc.cluster.test good.test',
        `options ndots:5 timeout:2 attempts:2 ${client.options ?? ''}`,
      ]);
      const [command, ...args] = client.command as [string, ...string[]];
      const fetch = async (what: string, ...more: string[]) => {
        const { stdout, status } = await asker.run(command, [...args, what, ...more], { check: false });
        return { status, lines: stdout.trim().split('\n').sort() };
      };
      const ok = (...addresses: string[]) => ({ status: 0, lines: addresses.map((a) => `${a} ok`).sort() });
      const both = (n: number) => ok(`${many.ip4}.${n}`, `${many.ip6}:${n}`);

      const before = await outside.count();
      t.same(
        await fetch('via.other.test', 'first'),
        {
          status: 0,
          lines: [`${many.ip4}.7 timeout`],
        },
        'a name that is denied, and leads to one that is allowed',
      );
      t.equal(await outside.count(), before, 'nothing arrived');
      t.same(await fetch('plain.good.test'), both(1), 'A and AAAA');
      if (!client.plainNames) t.same(await fetch('short'), both(2), 'a search list');
      t.same(await fetch('c0.good.test'), both(3), 'eight CNAMEs');
      t.same(await fetch(long), ok(`${many.ip4}.4`), '253 bytes');
      t.same(await fetch('zero.good.test'), ok(`${many.ip4}.5`), 'a TTL of 0');
      t.same(await fetch('one.good.test'), ok(`${many.ip4}.6`), 'a TTL of 1');
      for (const none of ['nodata.good.test', 'none.good.test'])
        t.equal((await fetch(none)).status, 2, `${none}: no address`);
      const big = await fetch('big.good.test');
      t.same(
        big.lines.filter((l) => !l.endsWith(' ok')),
        [],
        'many addresses: each is reached',
      );
      if (!client.noTcp) t.equal(big.lines.length, 100);
      for (let i = 0; i < 8; i++) t.match(await fetch('rot.good.test', 'first'), { lines: [/ ok$/] }, 'rotation');
      t.same(await fetch('PLAIN.Good.Test.'), both(1), 'mixed case, with a final dot');
    });
  }

  await t.test('curl and getent', async (t) => {
    const asker = new Asker(world, curl, [`nameserver ${dns.named}`, 'search good.test']);
    // The server is no web server: it answers at once with its name, and keeps the connection.
    const got = await asker.run('curl', ['-s', '-N', '-m', '2', '--http0.9', 'http://plain/'], { check: false });
    t.match(got.stdout, /^outside \S+ \d+ GET /);
    const listed = (await asker.run('getent', ['ahostsv4', 'short.good.test'])).stdout.split(/\s/)[0];
    t.equal(listed, `${many.ip4}.2`);
    t.equal((await curl.host.request(`${many.ip4}.2`, 80)).result, 'ok');
  });
});
