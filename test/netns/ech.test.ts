/** Encrypted ClientHello (--ech deny-known), with a real resolver, sockets, and the agent that goes and comes. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import { type Extension, makeHello, records, serverName } from '../said/make.js';
import { echConfig, echList, outer } from '../said/make-ech.js';
import { Agent } from './agent.js';
import { dig } from './dns-server.js';
import { Resolver } from './resolver.js';
import { compiled, run, until } from './shell.js';
import { say, serve } from './speakers.js';
import { servers, World } from './world.js';

const dns = servers.two;
const { ip4 } = servers.one;
/** The server that hides others, which policy allows like an ordinary one. */
const [FRONT, GOOD] = ['front.test', 'a.good.test'];
const IDS = { one: 7, two: 8, late: 9, tcp: 10, six: 11 };
const OTHER = 99;

/** A record with a configuration of its own public name. */
const https = (name: keyof typeof IDS, front: string): string => {
  const list = echList(echConfig({ id: IDS[name], name: front, key: randomBytes(32) }));
  return `${name}.hidden.test. 600 IN HTTPS 1 . alpn=h2 ipv4hint=${ip4} ech=${list.toString('base64')}`;
};

/** Who may ask the resolver, and name these servers. */
const policy = (app: string) => ({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name: app, namespace: 'default' },
  spec: {
    endpointSelector: { matchLabels: { app } },
    egress: [
      { toCIDR: [`${dns.ip4}/32`, `${dns.ip6}/128`], toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }] }] },
      {
        toCIDR: [`${ip4}/32`],
        toPorts: [
          { ports: [{ port: '443', protocol: 'TCP' }], serverNames: ['*.good.test', FRONT] },
          { ports: [{ port: '8443', protocol: 'TCP' }] },
        ],
      },
    ],
  },
});

t.setTimeout(240_000);
t.test('names that are encrypted', { timeout: 240_000 }, async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const zone = [
    https('one', FRONT),
    https('two', 'two.front.test'),
    https('late', 'late.front.test'),
    https('tcp', 'tcp.front.test'),
    https('six', 'six.front.test'),
    `plain.hidden.test. 600 IN HTTPS 1 . alpn=h2 ipv4hint=${ip4}`,
  ];
  await Resolver.authority(world, [dns.ip4, dns.ip6], zone);
  const web = await world.pod('web', { style: 'bridge' });
  const pods = [web, await world.pod('other')];
  world.write(
    'policy.yaml',
    pods.map(({ name }) => policy(name)),
  );
  await serve(world, 443);
  await serve(world, 8443);
  const args = ['--dns-servers', dns.ip4, '--dns-servers', dns.ip6, '--name-seed', 'off'];
  const start = async (ech: string): Promise<Agent> => {
    const agent = await Agent.start(world, { mode: 'tcx', args: [...args, '--ech', ech] });
    for (const pod of pods) await agent.enforced(`default/${pod.name}`);
    return agent;
  };
  const ask = async (name: keyof typeof IDS | 'plain', server: string = dns.ip4, ...more: string[]) =>
    t.match((await dig(web.host, server, [`${name}.hidden.test`, 'HTTPS', ...more])).text, /status: NOERROR/);
  const hello = (name: string, ech?: Extension) =>
    records(makeHello({ extensions: [...(ech ? [ech] : []), [51, Buffer.alloc(1216, 9)], serverName(name)] }));
  const end = Buffer.concat([Buffer.from('1703030001', 'hex'), Buffer.from('?')]);
  /** `ok` or `reset`. */
  const speak = async (name: string, ech?: Extension, { pod = web, port = 443, size = 9000 } = {}) => {
    const bytes = hello(name, ech);
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
      bytes.subarray(i * size, (i + 1) * size),
    );
    return (await say(pod.host, port, [...pieces, end])).split(' ')[0];
  };

  let agent = await start('deny-known');

  await t.test('before the resolver has told of it', async (t) => {
    await ask('plain');
    t.equal(await speak(FRONT, outer(IDS.one)), 'ok', 'nothing tells it from what browsers say');
    t.equal(await speak(GOOD, outer(OTHER)), 'ok');
    t.equal((await agent.status()).drops['encrypted-hello'] ?? 0, 0);
  });

  await t.test('afterwards', async (t) => {
    await ask('one');
    t.equal(await speak(FRONT, outer(IDS.one)), 'reset');
    t.equal(await speak(FRONT, outer(IDS.one), { size: 7 }), 'reset', 'in pieces');
    t.equal(await speak(FRONT, outer(OTHER)), 'reset', 'by the public name');
    t.equal(await speak(GOOD, outer(IDS.one)), 'reset', 'by the config_id');
    t.equal(await speak(GOOD, outer(OTHER)), 'ok', 'what browsers say passes');
    t.equal(await speak(GOOD), 'ok');
    t.equal(await speak(FRONT), 'ok', 'the front itself');
    t.equal(await speak(FRONT, outer(IDS.one), { port: 8443 }), 'ok', 'where no rule asks');
    t.equal(await speak(FRONT, outer(IDS.one), { pod: pods[1] as typeof web }), 'ok', 'each pod for itself');
    t.ok(((await agent.status()).drops['encrypted-hello'] ?? 0) >= 4, 'it is counted');
    const socket = join(agent.runDir, 'agent.sock');
    const ctl = () =>
      run(process.execPath, [join(compiled, 'src/cli/main.js'), '--socket', socket, 'flows', '--verdict', 'DENIED']);
    await until('it is told', async () => /its server name is encrypted/.test((await ctl()).stdout));
    t.match((await ctl()).stdout, /DENIED +(tls front\.test )?cilium\/default\/web#default \(its server name is enc/);
  });

  await t.test('over TCP, and by IPv6', async (t) => {
    await ask('tcp', dns.ip4, '+tcp');
    t.equal(await speak(GOOD, outer(IDS.tcp)), 'reset');
    await ask('six', dns.ip6);
    t.equal(await speak(GOOD, outer(IDS.six)), 'reset');
  });

  await t.test('without an agent, and with the next one', async (t) => {
    await agent.kill();
    t.equal(await speak(GOOD, outer(IDS.one)), 'reset', 'what was learned');
    t.equal(await speak(GOOD, outer(IDS.two)), 'ok');
    await ask('two');
    t.equal(await speak(GOOD, outer(IDS.two)), 'reset', 'what is learned while none runs');
    agent = await start('deny-known');
    for (const id of [IDS.one, IDS.two]) t.equal(await speak(GOOD, outer(id)), 'reset', 'the next one');
    await ask('late');
    t.equal(await speak(GOOD, outer(IDS.late)), 'reset');
    t.equal(await speak(GOOD, outer(OTHER)), 'ok');
  });

  await t.test('by default', async (t) => {
    await agent.stop();
    agent = await start('allow');
    t.equal(await speak(FRONT, outer(IDS.one)), 'ok');
  });
});
