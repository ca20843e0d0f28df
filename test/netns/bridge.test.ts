/** A node whose pods are in a bridge: frames go where their packets go, and what the node unwraps is not for pods to send. */
import t from 'tap';
import { Agent } from './agent.js';
import { type Ends, ethernet, ipv4, udp } from './frames.js';
import { egressPolicy, toServer } from './policies.js';
import { until } from './shell.js';
import { nodes, type Pod, servers, World } from './world.js';

const { ip4 } = servers.one;
const NEW_MAC = '0a:58:0a:f4:02:99';

/** Sends one datagram, framed as it is told. */
async function sends(pod: Pod, ends: Ends, to: string, port: number, text: string): Promise<void> {
  const packet = ipv4({ src: pod.ip4, dst: to, protocol: 17 }, udp(9, port, Buffer.from(text)));
  await pod.host.call('frames', { frames: [ethernet(ends, 0x0800, packet)] });
}

t.test('next hops, and packets within packets', async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const [web, other] = [await world.pod('web', { style: 'bridge' }), await world.pod('other', { style: 'bridge' })];
  const elsewhere = await world.pod('elsewhere');
  for (const port of [53, 8472]) await world.internet.listen(ip4, port, 'udp', 'one');
  await other.host.listen(other.ip4, 53, 'udp', 'other');
  for (const port of [8472, 8473]) await world.node.listen(nodes.a.ip4, port, 'udp', 'node');
  const everywhere = [{ to: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }];
  world.write('policy.yaml', [egressPolicy('web', 'web', everywhere)]);
  let agent = await Agent.start(world);
  t.notMatch(agent.log, /is not checked/, 'the bridge is what CNI makes it');
  const ends = await world.macs(web);
  const macOfOther = (await world.macs(other)).macSource;
  const there = await other.host.sniff();
  const reaches = async (dst: string, port: number) =>
    (await web.host.request(dst, port, { proto: 'udp', timeout: 0.5 })).result === 'ok';

  await t.test('frames', async (t) => {
    t.ok(await reaches(ip4, 53), 'through the gateway');
    t.ok(await reaches(other.ip4, 53), 'to a neighbour');
    await sends(web, { ...ends, macDestination: macOfOther }, ip4, 53, 'astray');
    const told = await agent.flow((f) => f.reason === 'next-hop');
    t.match(told, { verdict: 'deny', local: { pod: 'default/web' } });
    // A pod on a link of its own is not in the bridge, which would tell everybody in it.
    const macElsewhere = (await world.macs(elsewhere)).macSource;
    await sends(web, { ...ends, macDestination: macElsewhere }, elsewhere.ip4, 53, 'astray');
    await until('that is dropped, too', async () => (await agent.status()).drops['next-hop'] === 2);
    await sends(web, { ...ends, macDestination: macOfOther }, other.ip4, 53, 'at home');
    const seen = await until('the neighbour has the frame for it', async () => {
      const frames = await there.frames();
      return frames.some((f) => f.includes(Buffer.from('at home').toString('hex'))) && frames;
    });
    t.notOk(
      seen.some((f) => f.includes(Buffer.from('astray').toString('hex'))),
      'and no other',
    );
  });

  await t.test('another address of the bridge', async () => {
    await world.node.run('ip', ['link', 'set', web.bridge as string, 'address', NEW_MAC]);
    // Pods go on sending to the old one, which is nobody's now, until they ask again.
    await web.host.run('ip', ['neigh', 'flush', 'dev', 'eth0']);
    await until('the pod reaches the server again', async () => reaches(ip4, 53));
    await sends(web, { ...ends, macDestination: NEW_MAC }, ip4, 53, 'by the new one');
    const before = (await agent.status()).drops['next-hop'] ?? 0;
    await sends(web, ends, ip4, 53, 'by the old one');
    await until('the old one is nobody’s', async () => ((await agent.status()).drops['next-hop'] ?? 0) > before);
  });

  await t.test('packets within packets', async (t) => {
    t.ok(await reaches(nodes.a.ip4, 8473));
    t.notOk(await reaches(nodes.a.ip4, 8472), 'no rule is asked');
    t.match(await agent.flow((f) => f.reason === 'encapsulation'), { verdict: 'deny', remote: { port: 8472 } });
    t.ok(await reaches(ip4, 8472), 'to anybody else');
    // A tunnel on a port of its own.
    await world.node.ip(['link add tun7 type vxlan id 7 dstport 8473 local 127.0.0.1']);
    await until('its port is known', async () => !(await reaches(nodes.a.ip4, 8473)));
    await world.node.ip(['link del tun7']);
    await until('and forgotten', async () => reaches(nodes.a.ip4, 8473));
  });

  await t.test('other options, another agent', async (t) => {
    await agent.stop();
    agent = await Agent.start(world, { args: ['--allow-encapsulation', '--check-next-hop', 'off'] });
    t.ok(await reaches(nodes.a.ip4, 8472), 'the rules decide');
    await sends(web, { ...ends, macDestination: macOfOther }, ip4, 53, 'anywhere');
    await until('the frame goes where it was sent', async () =>
      (await there.frames()).some((f) => f.includes(Buffer.from('anywhere').toString('hex'))),
    );
    world.write('policy.yaml', [egressPolicy('web', 'web', [toServer('one', 'udp/53')])]);
    await agent.settled();
    t.notOk(await reaches(servers.two.ip4, 8472));
  });
});
