import type { At } from './at.js';
import type { Arrival, Attack } from './attack.js';
import { egressPolicy, toApp } from '../netns/policies.js';
import { be16, be32, eth, IPV4, IPV6, ip, mac, multicastMac, raw, tcp, udp } from './craft.js';

/** IP protocols that nodes unwrap, and UDP ports. */
const PROTOCOLS = [4, 41, 47, 94, 97, 98, 115, 137];
const PORTS = [4789, 6081, 6635, 2152, 5555, 1701];
/** The node's own tunnels, as CNIs make them. */
const TUNNELS = [
  { name: 'flannel.1', id: 1, port: 8472 },
  { name: 'vx-own', id: 2, port: 14789 },
] as const;

/** The node unwraps VXLAN, and forwards what was in it. */
async function tunnels(at: At): Promise<string[]> {
  const { node } = at.bed.world;
  const there = await node.run('ip', ['link', 'show', 'flannel.1'], { check: false });
  if (there.status !== 0)
    await node.ip(
      TUNNELS.flatMap(({ name, id, port }) => [
        `link add ${name} type vxlan id ${id} dstport ${port} local ${at.bed.address('a', 4)} nolearning`,
        `addr add 10.99.${id}.1/32 dev ${name}`,
        `link set ${name} up`,
      ]),
    );
  const macs: string[] = [];
  for (const { name } of TUNNELS) {
    const { stdout } = await node.run('ip', ['-j', 'link', 'show', name]);
    macs.push((JSON.parse(stdout) as { address: string }[])[0]?.address ?? '');
  }
  return macs;
}

/** Which anybody may write who may write Services: its ports lead to the node's tunnels. */
const SERVICE = '10.97.0.80';
const SERVICE_PORT = 10000;
const INNER = '02:00:00:00:00:01';

async function tunnelService(at: At): Promise<void> {
  await at.bed.world.service({
    name: 'tunnels',
    vips: [SERVICE],
    ports: TUNNELS.map((t, n) => ({
      name: `tunnel-${n}`,
      port: SERVICE_PORT + n,
      protocol: 'UDP',
      targetPort: t.port,
    })),
    backends: [at.bed.address('a', 4)],
  });
  await at.bed.agent.settled();
}

function vxlan(id: number, frame: Buffer): Buffer {
  return Buffer.concat([be32(0x08000000, id << 8), frame]);
}

export const attack: Attack = {
  name: 'encapsulation',
  tries: 'Wraps packets to denied places into tunnel packets to the node, which unwraps and forwards them.',
  policies: () => [
    egressPolicy('attacker', 'attacker', [
      toApp('good'),
      // All but those who are denied: the node's addresses on the pods' own links are in here, and 127/8, and multicast.
      {
        to: [
          {
            ipBlock: {
              cidr: '0.0.0.0/0',
              except: ['10.244.0.0/24', '203.0.113.20/32', '10.244.3.0/24', '10.96.0.0/16'],
            },
          },
          { ipBlock: { cidr: '::/0', except: ['2001:db8:100::20/128', 'fd00:244:3::/64', 'fd00:96::/64'] } },
        ],
      },
    ]),
  ],
  async run(at) {
    const macs = await tunnels(at);
    await at.bed.watchNode('node', PROTOCOLS, PORTS);
    const gateway =
      at.family === 4 ? `10.244.${at.style === 'ptp' ? 1 : 2}.1` : `fd00:244:${at.style === 'ptp' ? 1 : 2}::1`;
    const frames: Buffer[] = [];
    const inside = (marker: Buffer, to: string, family: 4 | 6 = 4) =>
      ip({ src: at.me.address(family), dst: at.bed.address(to, family) }, udp(at.port(), 8080, marker));
    const everybody: readonly (readonly [string, string])[] =
      at.family === 4
        ? [
            ['everybody', '255.255.255.255'],
            ['everybody on the link', '10.244.2.255'],
            ['all systems', '224.0.0.1'],
            ['loopback', '127.0.0.1'],
            ['a Service of the node’s', SERVICE],
          ]
        : [['all nodes', 'ff02::1']];
    if (at.family === 4) await tunnelService(at);
    for (const [where, node] of [
      ['the node', at.address('a')],
      ['its address on the link', gateway],
      ...everybody,
    ] as const) {
      const all = where.startsWith('every') ? 'ff:ff:ff:ff:ff:ff' : multicastMac(node);
      const linked = where.startsWith('every') || where.startsWith('all') ? { dst: all } : {};
      // Where everybody may be spoken to, the wrapped one may arrive; not what was in it.
      const unwrapped = (a: Arrival) => !a.frame.includes(mac(INNER));
      // vxlan devices take IPv4 on a socket for IPv4 only.
      if (at.family === 4) {
        for (const [n, { id, port }] of TUNNELS.entries()) {
          for (const to of ['bad-ptp', 'bad-far', 'two']) {
            for (const family of [4, 6] as const) {
              const marker = at.forbid(`VXLAN on ${port} to ${where}, inside to ${to} v${family}`, unwrapped);
              const inner = eth(
                { src: INNER, dst: macs[n] as string },
                family === 4 ? IPV4 : IPV6,
                inside(marker, to, family),
              );
              const entry = node === SERVICE ? SERVICE_PORT + n : port;
              frames.push(at.frame(node, udp(at.port(), entry, vxlan(id, inner)), {}, linked));
            }
          }
        }
      }
      for (const protocol of PROTOCOLS) {
        const marker = at.forbid(`IP protocol ${protocol} to ${where}`, (a) => a.place === 'node');
        const body = protocol === 47 ? Buffer.concat([be16(0, IPV4), inside(marker, 'two')]) : inside(marker, 'two');
        frames.push(at.frame(node, raw(protocol, body), {}, linked));
      }
      for (const port of PORTS) {
        const marker = at.forbid(`UDP ${port} to ${where}`, (a) => a.place === 'node');
        frames.push(
          at.frame(
            node,
            udp(at.port(), port, Buffer.concat([be32(0x08000000, 0x100), mac(INNER), marker])),
            {},
            linked,
          ),
        );
      }
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('to a server', 'wire'))));
    frames.push(at.frame(at.address('one'), udp(at.port(), 4789, at.control('VXLAN to who is no node', 'wire'))));
    frames.push(at.frame(at.address('good-far'), tcp(at.port(), 8080, at.control('to a pod', 'good-far'))));
    await at.send(frames);
  },
};
