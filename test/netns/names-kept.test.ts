/** Learned names in the agent: those of pods that ran before it, how long names stay, and what is told of DNS. */
import { join } from 'node:path';
import t from 'tap';
import { Agent } from './agent.js';
import { DROP_WAIT } from './host.js';
import { answerForMany, Asker, many, Resolver } from './resolver.js';
import { servers, World } from './world.js';
import { compiled, run, until } from './shell.js';

const dns = servers.two;
const ZONE = [
  `seed.good.test. 60 IN A ${many.ip4}.1`,
  `seed.good.test. 60 IN AAAA ${many.ip6}:1`,
  `pool.good.test. 1 IN A ${many.ip4}.11`,
  `pool.good.test. 1 IN A ${many.ip4}.12`,
  `brief.good.test. 1 IN A ${many.ip4}.21`,
];
/** Seconds: the TTL, and what the agent adds. */
const [TTL, EXTRA] = [1, 2];

/** A pod may ask the resolver for names below good.test, and use two of them. */
const POLICY = [
  {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { namespace: 'default', name: 'web' },
    spec: {
      endpointSelector: { matchLabels: { app: 'web' } },
      egress: [
        {
          toCIDR: [`${dns.ip4}/32`],
          toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: [{ matchPattern: '*.good.test' }] } }],
        },
        { toFQDNs: [{ matchName: 'seed.good.test' }, { matchPattern: '*.good.test' }] },
      ],
    },
  },
];

t.setTimeout(300_000);
t.test('names', { timeout: 300_000 }, async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  await answerForMany(world);
  await Resolver.authority(world, [dns.ip4], ZONE);
  const web = await world.pod('web');
  await world.internet.listen('::', 80, 'tcp', 'outside');
  const asker = new Asker(world, web, [`nameserver ${dns.ip4}`, 'options timeout:2 attempts:1']);
  // The pod asks before there is an agent.
  t.equal((await asker.probe.call('fetch', { name: 'seed.good.test', port: 80 })).result, 'ok');
  world.write('policy.yaml', POLICY);
  const args = [
    '--dns-servers',
    dns.ip4,
    '--name-ttl-min',
    '0',
    '--name-ttl-extra',
    String(EXTRA),
    '--dns-flows',
    'all',
  ];
  const agent = await Agent.start(world, { args });
  const ctl = async (...more: string[]) =>
    run(process.execPath, [join(compiled, 'src/cli/main.js'), '--socket', join(agent.runDir, 'agent.sock'), ...more], {
      check: false,
    });
  const request = async (address: string) => (await web.host.request(address, 80, { timeout: DROP_WAIT })).result;
  const isKnown = async (name: string) => (await ctl('names', '--name', name)).stdout.includes(name);

  await t.test('of a pod that ran before the agent', async (t) => {
    await until('the name is resolved', () => isKnown('seed.good.test'));
    t.match((await ctl('names', '--name', 'seed.good.test')).stdout, /seed\.good\.test \(seeded\)/);
    t.equal(await request(`${many.ip4}.1`), 'ok', 'it need not ask again');
    t.equal(await request(`${many.ip6}:1`), 'ok');
    t.equal(await request(`${many.ip4}.21`), 'timeout', 'a pattern does not tell which names there are');
  });

  await t.test('explained', async (t) => {
    const seed = await ctl('explain', '--from', 'default/web', '--to', 'seed.good.test:80');
    t.match(seed.stdout, /ALLOWED: it is known as .*198\.51\.100\.1/);
    t.match(seed.stdout, /seed\.good\.test: resolved by the agent .* from 203\.0\.113\.\d+:53/);
    t.match(seed.stdout, /its DNS query to .*: allowed by cilium\/default\/web#0/);
    const address = await ctl('explain', '--from', 'default/web', '--to', `${many.ip4}.1:80`);
    t.match(address.stdout, /seed\.good\.test: resolved by the agent/);
    t.match((await ctl('status')).stdout, /Names: +\d+ known, .* 2 records resolved by the agent/);
  });

  await t.test('for as long as the TTL, and while a connection uses them', async (t) => {
    t.equal((await asker.probe.call('fetch', { name: 'brief.good.test', port: 80 })).result, 'ok');
    t.equal((await asker.probe.call('fetch', { name: 'pool.good.test', port: 80 })).result, 'ok');
    const open = await web.host.open(`${many.ip4}.11`, 80);
    await until('it is forgotten', async () => !(await isKnown('brief.good.test')), 60_000);
    t.ok(await isKnown('pool.good.test'), 'a connection uses one of its addresses');
    t.match((await ctl('names', '--name', 'pool.good.test')).stdout, /in use/);
    t.equal(await request(`${many.ip4}.12`), 'ok', 'and so the other one stays, too');
    t.equal(await request(`${many.ip4}.21`), 'timeout', 'what is forgotten opens nothing');
    t.equal((await open.say('still')).text, 'still');
    await open.close({ reset: true });
    await until('it is forgotten, too', async () => !(await isKnown('pool.good.test')), (TTL + EXTRA + 150) * 1000);
    t.equal(await request(`${many.ip4}.12`), 'timeout');
  });

  await t.test('DNS in flows', async (t) => {
    const evil = await asker.probe.call('fetch', { name: 'evil.bad.test', port: 80, timeout: 1 });
    t.equal(evil.result, 'gaierror', 'refused at once');
    const flows = async (...more: string[]) => (await ctl('flows', '--protocol', 'dns', ...more)).stdout;
    await until('it is told', async () => /evil\.bad\.test/.test(await flows('--verdict', 'DENIED')));
    t.match(
      await flows('--verdict', 'DENIED'),
      /default\/web +→ .*:53\/udp +DENIED +cilium\/default\/web#default \(A evil\.bad\.test\)/,
    );
    const answers = await flows('--dns-query', '^brief\\.good');
    t.match(answers, /ALLOWED cilium\/default\/web#0.* \(A brief\.good\.test\)/);
    t.match(answers, /reply +answer \(A brief\.good\.test → 198\.51\.100\.21, TTL 1/);
    t.match(await flows('-o', 'jsonpb', '--dns-query', '^evil'), /"query":"evil\.bad\.test\."/);
    const named = (await ctl('flows', '--to-fqdn', '*.good.test', '--all')).stdout;
    t.match(
      named,
      /→ brief\.good\.test \(198\.51\.100\.21\):80\/tcp +ALLOWED cilium\/default\/web#1/,
      'after it is forgotten',
    );
  });
});
