/** Resolvers that change what they pass on: knot-resolver, and two that make addresses of IPv6 for names without (DNS64). */
import t from 'tap';
import { Agent } from './agent.js';
import { dig } from './dns-server.js';
import { DROP_WAIT } from './host.js';
import { cnpNames } from './policies.js';
import { answerForMany, Asker, many, Resolver } from './resolver.js';
import { servers, World } from './world.js';

const dns = { named: servers.two.ip4, kresd: '203.0.113.55', unbound: '203.0.113.56', bind: servers.one.ip4 };
/** RFC 6052: the well-known prefix, with the IPv4 address in its last bytes. */
const synthesized = (last: number) => `64:ff9b::c633:64${last.toString(16).padStart(2, '0')}`;
const zone = [
  `plain.good.test. IN A ${many.ip4}.1`,
  `plain.good.test. IN AAAA ${many.ip6}:1`,
  'alias.good.test. IN CNAME target.chain.test.',
  `target.chain.test. IN A ${many.ip4}.2`,
  ...Array.from({ length: 100 }, (_, i) => `big.good.test. IN A ${many.ip4}.${100 + i}`),
  `old.good.test. IN A ${many.ip4}.16`,
  `older.good.test. IN A ${many.ip4}.17`,
  `bad.test. IN A ${many.ip4}.18`,
];

t.setTimeout(240_000);
t.test('resolvers', { timeout: 240_000 }, async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  await answerForMany(world);
  await world.internet.ip([
    ...[dns.kresd, dns.unbound].map((a) => `addr add ${a}/32 dev lo`),
    'route add local 64:ff9b::/96 dev lo',
  ]);
  await Resolver.authority(world, [dns.named], zone);
  await Resolver.forwarder(world, 'kresd', [dns.kresd], dns.named);
  await Resolver.forwarder(world, 'unbound', [dns.unbound], dns.named, [
    'module-config: "dns64 iterator"',
    'dns64-prefix: 64:ff9b::/96',
  ]);
  await Resolver.authority(world, [dns.bind], zone, 'dns64 64:ff9b::/96 { clients { any; }; };');
  const names = ['knot', 'unbound', 'bind'];
  for (const name of names) await world.pod(name, { labels: { app: 'client' } });
  const outside = await world.internet.listen('::', 80, 'tcp', 'outside');
  world.write('policy.yaml', [cnpNames('client', 'client', ['**.good.test'], Object.values(dns))]);
  await Agent.start(world, {
    args: ['--name-seed', 'off', ...Object.values(dns).flatMap((address) => ['--dns-servers', address])],
  });
  const podOf = (name: string) => {
    const pod = world.pods.get(`default/${name}`);
    if (!pod) throw new Error(name);
    return pod;
  };

  await t.test('knot-resolver', async (t) => {
    const pod = podOf('knot');
    const asker = new Asker(world, pod, [`nameserver ${dns.kresd}`, 'options timeout:2 attempts:2']);
    for (const name of ['plain.good.test', 'alias.good.test', 'big.good.test'])
      t.match(await asker.probe.call('fetch', { name, port: 80, every: true }), { result: 'ok' }, name);
    const { answers } = await dig(pod.host, dns.kresd, ['+tcp', 'big.good.test']);
    t.equal(answers.length, 100);
    const reply = await asker.probe.call('fetch', { name: 'bad.test', port: 80, timeout: DROP_WAIT });
    t.match(reply, { result: 'timeout' });
  });

  for (const [name, server] of [
    ['unbound', dns.unbound],
    ['bind', dns.bind],
  ] as const) {
    await t.test(`DNS64 of ${name}`, async (t) => {
      const { host } = podOf(name);
      const reach = async (address: string) => (await host.request(address, 80, { timeout: DROP_WAIT })).result;
      const before = await outside.count();
      t.equal(await reach(synthesized(16)), 'timeout', 'before it was asked for');
      for (const [how, asked, last] of [
        ['+notcp', 'old.good.test', 16],
        ['+tcp', 'older.good.test', 17],
      ] as const) {
        t.same((await dig(host, server, [how, asked, 'AAAA'])).answers, [synthesized(last)], how);
        t.equal(await reach(synthesized(last)), 'ok', 'the address that the pod uses');
        t.equal(await reach(`${many.ip4}.${last}`), 'timeout', 'not the one that nobody asked for');
      }
      t.same((await dig(host, server, ['bad.test', 'AAAA'])).answers, [synthesized(18)]);
      t.equal(await reach(synthesized(18)), 'timeout', 'of another name');
      t.same((await dig(host, server, ['plain.good.test', 'AAAA'])).answers, [`${many.ip6}:1`], 'its own address');
      t.equal(await outside.count(), before + 2);
    });
  }
});
