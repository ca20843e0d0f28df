import type { Attack } from './attack.js';
import { echo, raw, sctp, tcp, udp, be16, be32 } from './craft.js';

export const attack: Attack = {
  name: 'ports-and-protocols',
  tries: 'Tries the neighbours of each allowed port, and each allowed port with another protocol.',
  async run(at) {
    const frames: Buffer[] = [];
    const make = { udp, tcp, sctp } as const;
    const allowed = {
      one: { udp: [53], tcp: [80], sctp: [99] },
      'good-far': { udp: [8080], tcp: [8080], sctp: [8080] },
    } as const;
    for (const [place, ports] of Object.entries(allowed)) {
      const all = new Set(Object.values(ports).flat());
      for (const port of [...all].flatMap((p) => [p - 1, p, p + 1, p ^ 256, ((p & 255) << 8) | (p >> 8), p | 0x8000])) {
        for (const [name, l4] of Object.entries(make)) {
          if ((ports[name as keyof typeof ports] as readonly number[]).includes(port)) continue;
          frames.push(at.frame(at.address(place), l4(at.port(), port, at.forbid(`${name} ${port} of ${place}`))));
        }
      }
      for (const protocol of [33, 136, 6, 17, 132, 0, 255]) {
        const marker = at.forbid(`protocol ${protocol}, a header of another`);
        frames.push(
          at.frame(at.address(place), raw(protocol, Buffer.concat([be16(53, 1), be32(0, 0, 0x50020000, 0), marker]))),
        );
      }
      frames.push(at.frame(at.address(place), echo(at.family, 1, at.forbid(`an echo, ${place}`))));
    }
    // Source ports that are allowed as destinations.
    frames.push(
      ...at.toDenied('from an allowed port', (dst, m) => [
        at.frame(dst, udp(53, 5353, m)),
        at.frame(dst, tcp(80, 8080, m)),
        at.frame(dst, sctp(99, 8080, m)),
      ]),
    );
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('UDP', 'wire'))));
    frames.push(at.frame(at.address('one'), tcp(at.port(), 80, at.control('TCP', 'wire'))));
    frames.push(at.frame(at.address('one'), sctp(at.port(), 99, at.control('SCTP', 'wire'))));
    await at.send(frames);
  },
};
