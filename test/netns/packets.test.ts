/** Packets that no well-behaved socket sends: fragments, forged sources, header options, broken headers. */
import t from 'tap';
import { Agent } from './agent.js';
import { type Ends, ethernet, ipv4, tcp, udp } from './frames.js';
import { DROP_WAIT } from './host.js';
import { egressPolicy, toServer } from './policies.js';
import { until } from './shell.js';
import { type Pod, servers, World } from './world.js';

const { ip4, ip6 } = servers.one;

t.test('packets by hand', async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  const pod = await world.pod('web');
  const other = await world.pod('other');
  for (const addr of [ip4, ip6]) {
    await world.internet.listen(addr, 53, 'udp', 'one');
    await world.internet.listen(addr, 54, 'udp', 'one');
  }
  world.write('policy.yaml', [egressPolicy('web', 'web', [toServer('one', 'udp/53')])]);
  const agent = await Agent.start(world);
  const ends = await world.macs(pod);
  const arrivals = await world.internet.sniff('to-a');

  /** Sends frames from the pod, then one that is allowed: when that has arrived, the others have or never will. */
  let marker = 0;
  async function arrived(
    frames: readonly string[],
    pick = (hex: string) => hex.startsWith('45', 28),
  ): Promise<string[]> {
    const before = (await arrivals.frames()).length;
    const end = Buffer.from(`marker ${++marker}.`);
    const last = ethernet(ends, 0x0800, ipv4({ src: pod.ip4, dst: ip4, protocol: 17, id: 9999 }, udp(9, 53, end)));
    await pod.host.call('frames', { frames: [...frames, last] });
    const all = await until('the marker arrives', async () => {
      const now = (await arrivals.frames()).slice(before);
      return now.some((f) => f.includes(end.toString('hex'))) && now;
    });
    return (
      all
        .filter((f) => f.startsWith('in ') && !f.includes(end.toString('hex')))
        .map((f) => f.slice(3))
        // ICMP is the pod's own answer to echoes that no socket of it waits for.
        .filter((hex) => hex.slice(24, 28) === '0800' && hex.slice(46, 48) !== '01' && pick(hex))
    );
  }

  await t.test('datagrams larger than a packet', async (t) => {
    for (const addr of [ip4, ip6]) {
      const reply = await pod.host.request(addr, 53, { proto: 'udp', data: 'x'.repeat(5000) });
      t.equal(reply.text?.length, 5000, `to an allowed port: all fragments pass, both ways, ${addr}`);
      const denied = await pod.host.request(addr, 54, { proto: 'udp', data: 'x'.repeat(5000), timeout: DROP_WAIT });
      t.equal(denied.result, 'timeout', `to another port: none does, ${addr}`);
    }
    const { held, share } = await agent.status();
    const { 'default/web': web, 'default/other': idle } = held;
    t.ok(web && web >= 4, `what it sent is held for it: ${web}`);
    t.ok(idle !== undefined && idle < (web ?? 0), `not for another pod: ${idle}`);
    t.ok(share >= 64, `of a share of ${share}`);
  });

  await t.test('fragments by hand', async (t) => {
    const fragment = (id: number, offset: number, more: boolean, payload: Buffer) =>
      ethernet(ends, 0x0800, ipv4({ src: pod.ip4, dst: ip4, protocol: 17, id, offset, more }, payload));
    const first = udp(7, 53, Buffer.alloc(16));
    t.same(
      await arrived([fragment(70, 3, false, Buffer.alloc(8))]),
      [],
      'a later one without a first: only a rule without ports could allow it',
    );
    t.same(await arrived([fragment(71, 0, true, first.subarray(0, 4))]), [], 'a first one without its whole header');
    t.equal(
      (await arrived([fragment(72, 0, true, first), fragment(72, 3, false, Buffer.alloc(8))])).length,
      2,
      'both: the later one follows the first',
    );
  });

  await t.test('header options are no way around', async (t) => {
    const options = Buffer.from([1, 1, 1, 0]);
    const packet = (dport: number) =>
      ethernet(
        ends,
        0x0800,
        ipv4({ src: pod.ip4, dst: ip4, protocol: 17, options }, udp(7, dport, Buffer.from('with options'))),
      );
    const any = () => true;
    t.equal((await arrived([packet(53)], any)).length, 1, 'the allowed port, with options');
    t.same(await arrived([packet(54)], any), [], 'another port, with options');
  });

  await t.test('forged sources', async (t) => {
    const from = (src: string, macs: Ends) =>
      ethernet(macs, 0x0800, ipv4({ src, dst: ip4, protocol: 17 }, udp(7, 53, Buffer.from('forged'))));
    t.same(await arrived([from(other.ip4, ends)]), [], "another pod's address");
    t.equal((await agent.flow((f) => f.reason === 'spoofed-address')).local.pod, 'default/web', 'is told');
    t.same(await arrived([from(pod.ip4, { ...ends, macSource: '02:00:00:00:00:99' })]), [], 'a foreign MAC address');
    await agent.flow((f) => f.reason === 'spoofed-mac');
    t.equal((await arrived([from(pod.ip4, ends)])).length, 1, 'its own');
  });

  await t.test('the middle of a connection that nobody opened', async (t) => {
    const packet = (p: Pod, flags: number) =>
      ethernet(ends, 0x0800, ipv4({ src: p.ip4, dst: ip4, protocol: 6 }, tcp(80, 4000, flags)));
    t.same(
      await arrived([packet(pod, 0x10), packet(pod, 0x12), packet(pod, 0x04)]),
      [],
      'ACK, SYN+ACK, RST: judged like any packet',
    );
  });

  await t.test('broken headers', async (t) => {
    const short = Buffer.concat([
      Buffer.from(ipv4({ src: pod.ip4, dst: ip4, protocol: 17 }, udp(7, 53, Buffer.alloc(0)))),
    ]);
    short[0] = 0x44;
    t.same(await arrived([ethernet(ends, 0x0800, short)], () => true), [], 'a header shorter than a header');
    t.ok((await agent.status()).drops['malformed'], 'counted by its reason');
    t.same(await arrived([ethernet(ends, 0x88b5, Buffer.alloc(40))], () => true), [], 'an unknown EtherType');
  });

  await t.test('path MTU: an ICMP error about a flow reaches the pod', async (t) => {
    // Both ends of the link: a veth takes nothing larger than its own MTU.
    await Promise.all([world.node.ip(['link set eth0 mtu 1300']), world.internet.ip(['link set to-a mtu 1300'])]);
    await world.node.run('ip', ['route', 'flush', 'cache']);
    const large = { proto: 'udp', data: 'y'.repeat(1400) } as const;
    const seen = await pod.host.sniff();
    const connection = await pod.host.open(ip4, 53, { proto: 'udp' });
    await until(
      'a datagram of 1400 bytes passes',
      async () => (await connection.say(large.data, DROP_WAIT)).result === 'ok',
    );
    const errors = (await seen.frames()).filter(
      (f) => f.startsWith('in ') && f.slice(3 + 46, 3 + 48) === '01' && f.slice(3 + 68, 3 + 72) === '0304',
    );
    t.ok(errors.length > 0, 'fragmentation needed');
    await seen.close();
    await Promise.all([world.node.ip(['link set eth0 mtu 1500']), world.internet.ip(['link set to-a mtu 1500'])]);
  });
});
