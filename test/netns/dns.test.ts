/** Names in policies with a real resolver, behind a Service and outside, and real clients; refused queries. */
import t from 'tap';
import { Agent } from './agent.js';
import { dig, startDns } from './dns-server.js';
import { DROP_WAIT } from './host.js';
import { run } from './shell.js';
import { servers, World } from './world.js';

const VIPS = ['10.96.0.10', 'fd00:96::10'] as const;
const MANY = Array.from({ length: 100 }, (_, i) => `198.51.100.${i + 1}`);

t.test('a pod may go where the names lead that it may ask for', async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const [web, dns, forger] = [
    await world.pod('web'),
    await world.pod('dns', { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }),
    await world.pod('forger'),
  ];
  const hosts = {
    'a.ok.example': [servers.two.ip4, servers.two.ip6],
    'b.ok.example': [servers.one.ip4],
    'large.ok.example': MANY,
    'bad.example': [servers.one.ip4],
  };
  const zone = { hosts, aliases: { 'alias.ok.example': 'a.ok.example' } };
  for (const ip of [dns.ip4, dns.ip6]) await startDns(world, dns.host, ip, zone);
  await startDns(world, world.internet, servers.one.ip6, zone);
  const port = (protocol: 'UDP' | 'TCP') => ({ name: protocol.toLowerCase(), port: 53, protocol, targetPort: 53 });
  await world.service({
    namespace: 'kube-system',
    name: 'kube-dns',
    vips: VIPS,
    ports: [port('UDP'), port('TCP')],
    backends: [dns.ip4, dns.ip6],
  });
  for (const ip of [servers.one.ip4, servers.two.ip4, servers.two.ip6])
    await world.internet.listen(ip, 80, 'tcp', 'server');
  const dnsRule = { ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: [{ matchPattern: '*.ok.example' }] } };
  const toOutside = { toCIDR: [`${servers.one.ip6}/128`], toPorts: [dnsRule] };
  const policy = (annotations: Record<string, string>, further: object = toOutside) => [
    {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata: { namespace: 'default', name: 'web', annotations },
      spec: {
        endpointSelector: { matchLabels: { app: 'web' } },
        egress: [
          {
            toEndpoints: [{ matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system', 'k8s-app': 'kube-dns' } }],
            toPorts: [dnsRule],
          },
          further,
          { toFQDNs: [{ matchPattern: '*.ok.example' }], toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] },
        ],
      },
    },
  ];
  world.write('policy.yaml', policy({}));
  const servers53 = ['k8s-service:kube-system/kube-dns', `[${servers.one.ip6}]:53`].join(',');
  const agent = await Agent.start(world, { args: ['--dns-servers', servers53, '--name-seed', 'off'] });
  const reach = async (ip: string) => (await web.host.request(ip, 80, { timeout: DROP_WAIT })).result;

  await t.test('what was not asked for is not reached', async (t) => {
    for (const ip of [servers.one.ip4, servers.two.ip4]) t.equal(await reach(ip), 'timeout');
  });

  await t.test('learned over UDP and TCP, from a Service and from outside', async (t) => {
    t.same((await dig(web.host, VIPS[0], ['alias.ok.example'])).answers, ['a.ok.example.', servers.two.ip4]);
    t.equal(await reach(servers.two.ip4), 'ok', 'the address behind an alias');
    t.equal(await reach(servers.two.ip6), 'timeout', 'nobody asked for it');
    t.same((await dig(web.host, VIPS[1], ['+tcp', 'a.ok.example', 'AAAA'])).answers, [servers.two.ip6]);
    t.equal(await reach(servers.two.ip6), 'ok', 'over TCP and IPv6');
    t.same((await dig(web.host, servers.one.ip6, ['b.ok.example'])).answers, [servers.one.ip4]);
    t.equal(await reach(servers.one.ip4), 'ok', 'of a resolver outside');
    const large = await dig(web.host, VIPS[0], ['large.ok.example']);
    t.equal(large.answers.length, MANY.length, 'truncated, then over TCP');
    t.match(large.text, /Truncated, retrying in TCP mode/);
  });

  await t.test('an answer in fragments', async (t) => {
    for (const server of [...VIPS, servers.one.ip6]) {
      const { answers, text } = await dig(web.host, server, ['+bufsize=4096', 'large.ok.example']);
      t.match(text, /Truncated, retrying in TCP mode/, server);
      t.equal(answers.length, MANY.length);
      const ignored = await dig(web.host, server, ['+bufsize=4096', '+ignore', 'large.ok.example']);
      t.match(ignored.text, /flags: qr .*tc.*ANSWER: 0, AUTHORITY: 0, ADDITIONAL: 0/);
    }
  });

  await t.test('refused queries are answered at once', async (t) => {
    for (const server of [...VIPS, servers.one.ip6]) {
      for (const how of ['+notcp', '+tcp']) {
        const began = Date.now();
        const { status, text } = await dig(web.host, server, [how, 'bad.example']);
        t.equal(status, 'REFUSED', `${server} ${how}`);
        t.match(text, /EDE: 15 \(Blocked\)/);
        t.ok(Date.now() - began < 1500, 'at once');
        t.equal((await dig(web.host, server, [how, '+noedns', 'bad.example'])).status, 'REFUSED', 'without EDNS');
        t.equal((await dig(web.host, server, [how, '+opcode=status', 'a.ok.example'])).status, 'REFUSED', 'no query');
        t.match((await dig(web.host, server, [how, 'a.ok.example', 'AXFR'])).text, /Transfer failed/);
      }
    }
    for (const host of [web.host, dns.host]) {
      const sockets = (await host.run('ss', ['-tanH'])).stdout.split('\n').filter((l) => /:53\s/.test(l));
      t.same(
        sockets.filter((l) => !/^(LISTEN|TIME-WAIT)/.test(l)),
        [],
        'no connection is left',
      );
    }
  });

  await t.test('a policy says how its refused queries are answered', async (t) => {
    const answers = async () => {
      const all = [];
      for (const server of [VIPS[0], servers.one.ip6])
        for (const how of ['+notcp', '+tcp']) {
          const { status, answers } = await dig(web.host, server, [how, 'bad.example']);
          all.push(`${status} ${answers.length}`);
        }
      return [...new Set(all)];
    };
    for (const [value, expected] of [
      ['nxdomain', 'NXDOMAIN 0'],
      ['nodata', 'NOERROR 0'],
      ['refused', 'REFUSED 0'],
      ['nothing', 'REFUSED 0'],
    ] as const) {
      await agent.apply('policy.yaml', policy({ 'egress-agent.io/dns-refusal': value }));
      t.same(await answers(), [expected], value);
      t.same((await dig(web.host, VIPS[0], ['b.ok.example'])).answers, [servers.one.ip4], 'what is allowed passes');
    }
    await agent.logged(/dns-refusal.*"nothing" is not a way to refuse DNS queries/);
    await agent.apply('policy.yaml', policy({}));
  });

  await t.test('nobody else teaches', async (t) => {
    const c = servers.two.ip4;
    await startDns(world, forger.host, forger.ip4, { hosts: { 'c.ok.example': [c] } });
    t.equal((await dig(forger.host, forger.ip4, ['c.ok.example'])).status, 'NOERROR');
    t.equal((await dig(web.host, forger.ip4, ['c.ok.example'])).status, '', 'the pod may not ask it');
  });

  await t.test('a server teaches where the rule names it, trusted or not', async (t) => {
    const further = await world.pod('further', { labels: { app: 'further' } });
    const outside = servers.two.ip4;
    const addresses = ['203.0.113.41', '203.0.113.42'] as const;
    const zone = { hosts: { 'd.ok.example': [addresses[0]], 'e.ok.example': [addresses[1]] } };
    await startDns(world, further.host, further.ip4, zone);
    await startDns(world, world.internet, outside, zone);
    for (const ip of addresses) {
      await run('ip', ['-n', world.internet.netns, 'addr', 'add', `${ip}/32`, 'dev', 'lo']);
      await world.internet.listen(ip, 80, 'tcp', 'server');
    }
    const learns = async (what: string, server: string, peers: object, name: string, expected: string) => {
      await agent.apply('policy.yaml', policy({}, { ...peers, toPorts: [dnsRule] }));
      const [ip] = (await dig(web.host, server, [name])).answers;
      t.ok(ip, `${what}: it may be asked`);
      t.equal(await reach(ip as string), expected, what);
    };
    const [d, e] = ['d.ok.example', 'e.ok.example'] as const;
    await learns('a rule for everywhere', outside, { toEntities: ['all'] }, d, 'timeout');
    await learns('a rule for a network', outside, { toCIDR: ['203.0.113.0/24'] }, d, 'timeout');
    await learns('any pod of the namespace', further.ip4, { toEndpoints: [{}] }, d, 'timeout');
    await learns('pods by label', further.ip4, { toEndpoints: [{ matchLabels: { app: 'further' } }] }, d, 'ok');
    await learns('an address', outside, { toCIDR: [`${outside}/32`] }, e, 'ok');
  });
});
