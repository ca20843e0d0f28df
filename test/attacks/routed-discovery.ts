import { randomBytes } from 'node:crypto';
import type { Attack } from './attack.js';
import { addr, be32, icmp, IPV6, ip, mac, ndOption, udp } from './craft.js';

export const attack: Attack = {
  name: 'routed-discovery',
  tries:
    'Asks and tells denied pods of its node in neighbour discovery, word for word as it should be, and has that forwarded.',
  families: [6],
  async run(at) {
    const { link } = at.me;
    const frames: Buffer[] = [];
    const make = (name: string, to: string, type: number, flags: number, target: string, option: number) => {
      const dst = at.address(to);
      const body = Buffer.concat([addr(target), ndOption(option, mac(link.src))]);
      const packet = ip({ src: at.own, dst, ttl: 255 }, icmp(6, type, 0, be32(flags), body));
      // Traffic class and flow label say what they like; the hop limit behind them is another one when it arrives.
      randomBytes(4).copy(packet, 0);
      packet.writeUInt8(0x60 | ((packet[0] as number) & 15), 0);
      at.forbidden.push({
        marker: packet.subarray(0, 7),
        variant: `${at.style} v6 ${name}, to ${to}`,
        counts: () => true,
      });
      frames.push(at.link(packet, {}, IPV6));
    };
    for (const to of at.denied) {
      make('a question', to, 135, 0, at.address(to), 1);
      make('an answer', to, 136, 0x60000000, at.own, 2);
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('a datagram', 'wire'))));
    await at.send(frames);
  },
};
