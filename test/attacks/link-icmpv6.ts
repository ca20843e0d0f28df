import type { Attack } from './attack.js';
import { be32, icmp, udp } from './craft.js';

/** Router solicitation to redirect; multicast listener query, report, done, report of version 2; and their neighbours. */
const TYPES = [133, 134, 135, 136, 137, 130, 131, 132, 143, 141, 142, 148, 149, 151, 152, 153];

export const attack: Attack = {
  name: 'link-icmpv6',
  tries: 'Sends its bytes as neighbour discovery, with hop limit 255, to global addresses.',
  families: [6],
  async run(at) {
    const sources = [at.own, at.colluder.address(6), '2001:db8:dead::1', 'fe80::77', '::'];
    const frames: Buffer[] = [];
    for (const to of at.denied) {
      const marker = at.forbid(`to ${to}`);
      for (const type of TYPES) {
        for (const src of sources) {
          const target = Buffer.concat([Buffer.alloc(16, 0xfd), marker]);
          for (const ttl of [255, 1, 2])
            frames.push(at.frame(at.address(to), icmp(6, type, 0, be32(0), target), { src, ttl }));
        }
      }
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('a datagram', 'wire'))));
    frames.push(
      at.frame(at.address('open'), icmp(6, 135, 0, be32(0), at.control('where all is allowed', 'wire')), { ttl: 255 }),
    );
    await at.send(frames);
  },
};
