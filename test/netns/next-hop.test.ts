/** Which bridges are their pods' gateways, and what the agent makes of it; what nodes unwrap, read off their devices. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { EndpointResolver } from '../../agent/endpoints/resolver.js';
import { withNetlink } from '../../agent/netlink/netlink.js';
import { type NetworkEvent, NetworkEvents } from '../../agent/netlink/network-events.js';
import type { NextHopMode } from '../../agent/endpoints/next-hop.js';
import { attr } from '../../agent/netlink/nlmsg.js';
import { TunnelPorts } from '../../agent/endpoints/tunnel-ports.js';
import { formatProblem } from '../../src/errors.js';
import { sortedTunnels, USUAL_TUNNELS } from '../../src/net/tunnels.js';
import { Bed, pod, sh, snapshot, succeeds } from './attach-bed.js';

const bed = new Bed();
const bridge = `b${process.pid}`;
const extra = `x${process.pid}`;
t.teardown(() => {
  succeeds(`ip link del ${bridge}`);
  succeeds(`ip link del ${extra}`);
  bed.close();
});

sh(`ip link add ${bridge} type bridge && ip link set ${bridge} up`);
bed.addNs('a');
bed.addNs('p');
const a = bed.veth('a', 'eth0', ['10.97.1.2/24']);
sh(`ip link set ${a.ifname} master ${bridge}`);
bed.veth('p', 'eth0', ['10.97.9.2/32']);
const pods = snapshot(pod('a', { ips: ['10.97.1.2'] }), pod('p', { ips: ['10.97.9.2'] }));

const macOf = (dev: string) => sh(`cat /sys/class/net/${dev}/address`).trim();
function look(checkNextHop: NextHopMode): { gateway: string | undefined; ptp: string | undefined; said: string[] } {
  const { pods: bound, problems } = new EndpointResolver({ nodeName: 'node', checkNextHop }).resolve(pods);
  t.equal(bound.length, 2);
  const of = (key: string) => bound.find((b) => b.key === key)?.gateway;
  return { gateway: of('test/a'), ptp: of('test/p'), said: problems.map(formatProblem) };
}

t.test('no gateway: what is sent there is not checked, and that is said', async (t) => {
  const { gateway, ptp, said } = look('auto');
  t.same([gateway, ptp], [undefined, undefined]);
  t.equal(said.length, 1);
  t.match(said[0], new RegExp(`^bridge ${bridge}: its MAC address may change .* is not checked`));
  sh(`ip addr add 10.98.7.1/24 dev ${bridge}`);
  sh(`ip link set ${bridge} address ${macOf(bridge)}`);
  t.match(look('auto').said, [/has no address in the network of Pod test\/a/], 'its address is in another network');
  t.same(look('off'), { gateway: undefined, ptp: undefined, said: [] });
});

t.test('the gateway, as CNI makes it', async (t) => {
  sh(`ip addr add 10.97.1.1/24 dev ${bridge}`);
  t.same(look('auto'), { gateway: macOf(bridge), ptp: undefined, said: [] });
  // Where other ports lead, others may be meant.
  sh(`ip link add ${extra} type veth peer name ${extra}p && ip link set ${extra} master ${bridge}`);
  const beside = look('auto');
  t.equal(beside.gateway, undefined);
  t.match(beside.said, [new RegExp(`leads off the node through ${extra}`)]);
  t.same(look('on'), { gateway: macOf(bridge), ptp: undefined, said: [] });
  sh(`ip link del ${extra}`);
});

t.test('an address set anew is told by the kernel, and followed', async (t) => {
  const resolver = new EndpointResolver({ nodeName: 'node' });
  const before = resolver.resolve(pods).pods.find((b) => b.key === 'test/a')?.gateway;
  const heard = new Set<NetworkEvent>();
  const events = new NetworkEvents((all) => {
    for (const event of all) heard.add(event);
  });
  sh(`ip link set ${bridge} address 02:00:00:00:97:01`);
  for (let i = 0; i < 100 && !heard.has('link'); i++) await sleep(10);
  events.close();
  t.ok(heard.has('link'));
  const now = resolver.resolve(pods).pods.find((b) => b.key === 'test/a')?.gateway;
  t.not(before, now);
  t.equal(now, '02:00:00:00:97:01');
});

t.test('on: a bridge that took its ports’ address keeps what it has', async (t) => {
  sh(`ip link del ${bridge} && ip link add ${bridge} type bridge && ip link set ${bridge} up`);
  sh(`ip link set ${a.ifname} master ${bridge}`);
  const mac = macOf(bridge);
  t.equal(look('auto').gateway, undefined);
  t.same(look('on'), { gateway: mac, ptp: undefined, said: [] }, 'also without an address of its own');
  sh(`ip link add ${extra} address 00:00:00:00:00:11 type veth peer name ${extra}p`);
  sh(`ip link set ${extra} master ${bridge}`);
  t.equal(macOf(bridge), mac, 'the lower address of another port changes nothing');
  sh(`ip link del ${extra}`);
});

t.test('ports of tunnel devices', async (t) => {
  bed.addNs('tunnels');
  const ns = bed.ns('tunnels');
  const links = () => withNetlink(`/run/netns/${ns}`, (nl) => nl.links());
  const ports = new TunnelPorts(false);
  const usual = ports.of(links());
  t.same(usual, sortedTunnels(USUAL_TUNNELS));
  sh(`ip -n ${ns} link add vx0 type vxlan id 7 dstport 4700 local 127.0.0.1`);
  sh(`ip -n ${ns} link add vx1 type vxlan external dstport 8472`);
  const found = ports.of(links());
  t.same(
    found.filter((x) => !usual.some((y) => y.protocol === x.protocol && y.port === x.port)),
    [{ protocol: 17, port: 4700 }],
  );
  t.equal(ports.of(links()), found, 'the same list while it says the same');
  t.ok(
    new TunnelPorts(true).of(links()).every((tunnel) => tunnel.allowed),
    'all of it is for policies to judge',
  );

  // Kinds that not every kernel has.
  const be16 = (port: number) => Buffer.from([port >> 8, port & 255]);
  const [some] = links();
  const device = (kind: string, type?: number, port = 0) => ({
    ...(some as NonNullable<typeof some>),
    kind,
    data: type === undefined ? Buffer.alloc(0) : attr(type, be16(port)),
  });
  const of = (...devices: ReturnType<typeof device>[]) =>
    new TunnelPorts(false)
      .of(devices)
      .filter((x) => !USUAL_TUNNELS.some((y) => y.protocol === x.protocol && y.port === x.port))
      .map((x) => x.port);
  t.same(of(device('geneve', 5, 700)), [700]);
  t.same(of(device('bareudp', 1, 701)), [701]);
  t.same(of(device('ipip', 18, 702)), [702], 'FOU behind IPIP');
  t.same(of(device('gre', 17, 703)), [703], 'and behind GRE');
  t.same(of(device('gtp')), [3386]);
  t.same(of(device('veth', 5, 704), device('geneve', 4, 705), device('geneve', 5, 0)), []);
});
