import type { Arrival, Attack } from './attack.js';
import { egressPolicy, toApp } from '../netns/policies.js';
import { be32, eth, IPV4, ip, mac, udp } from './craft.js';

const INNER = '02:00:00:00:00:01';

/** The Node object does not tell them. */
const LIMIT = 'further addresses of other nodes';

export const attack: Attack = {
  name: 'tunnels-by-broadcast',
  tries:
    'Wraps packets to denied places into VXLAN to broadcast addresses of the node’s networks, and to addresses of nodes that no object names.',
  families: [4],
  policies: () => [
    egressPolicy('attacker', 'attacker', [
      toApp('good'),
      {
        to: [
          {
            ipBlock: {
              cidr: '0.0.0.0/0',
              except: ['203.0.113.20/32', '10.244.3.0/24', '10.96.0.0/16'],
            },
          },
        ],
      },
    ]),
  ],
  async run(at) {
    const { node, nodeB } = at.bed.world;
    const macOf = async (host: typeof node) => {
      const { stdout } = await host.run('ip', ['-j', 'link', 'show', 'vx-b']);
      return (JSON.parse(stdout) as { address: string }[])[0]?.address ?? '';
    };
    const macs: Record<string, string> = {};
    for (const [name, host, extra] of [
      ['a', node, '10.0.0.110'],
      ['b', nodeB, '10.0.0.111'],
    ] as const) {
      const there = await host.run('ip', ['link', 'show', 'vx-b'], { check: false });
      if (there.status !== 0)
        await host.ip([
          'link add vx-b type vxlan id 7 dstport 8472 nolearning',
          `addr add 10.98.7.${name === 'a' ? 1 : 2}/32 dev vx-b`,
          `addr add ${extra}/32 dev eth0`,
          'link set vx-b up',
        ]);
      macs[name] = await macOf(host);
    }
    await at.bed.agent.settled();
    await new Promise((r) => setTimeout(r, 3000));
    const unwrapped = (a: Arrival) => !a.frame.includes(mac(INNER));
    const frames: Buffer[] = [];
    for (const [where, dst, which] of [
      ['broadcast of the uplink’s network', '10.0.0.255', 'a'],
      ['broadcast of the bridge', '10.244.2.255', 'a'],
      ['network of the bridge', '10.244.2.0', 'a'],
      ['another address of this node', '10.0.0.110', 'a'],
      ['another address of the other node', '10.0.0.111', 'b'],
      ['the other node’s tunnel address', '10.98.7.2', 'b'],
    ] as const) {
      for (const to of ['bad-far', 'two']) {
        const name = `VXLAN to ${where}, inside to ${to}`;
        const marker = which === 'b' ? at.measure(name, LIMIT, unwrapped) : at.forbid(name, unwrapped);
        const inner = ip({ src: at.own, dst: at.address(to) }, udp(at.port(), 8080, marker));
        const frame = eth({ src: INNER, dst: macs[which] as string }, IPV4, inner);
        frames.push(at.frame(dst, udp(at.port(), 8472, Buffer.concat([be32(0x08000000, 7 << 8), frame]))));
      }
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('to a server', 'wire'))));
    await at.send(frames);
  },
};
