import type { Attack } from './attack.js';
import { ACK, FIN, PSH, RST, SYN, tcp, udp } from './craft.js';

export const attack: Attack = {
  name: 'port-after-reset',
  tries:
    'Ends allowed connections and goes on from the same port to denied places, directly and through Services, in each order.',
  async run(at) {
    const frames: Buffer[] = [];
    const one = at.address('one');
    const ends: readonly (readonly [string, number])[] = [
      ['RST', RST],
      ['FIN', FIN | ACK],
      ['nothing', 0],
      ['RST and FIN', RST | FIN],
    ];
    for (const [name, flags] of ends) {
      frames.push(
        ...at.toDenied(`after ${name}`, (dst, m) => {
          const port = at.port();
          return [
            at.frame(one, tcp(port, 80, Buffer.alloc(0), { seq: 1 })),
            at.frame(one, tcp(port, 80, Buffer.alloc(0), { flags, seq: 2, ack: 1 })),
            at.frame(dst, tcp(port, 80, m, { seq: 3 })),
            at.frame(dst, tcp(port, 80, m, { flags: ACK | PSH, seq: 4, ack: 1 })),
            at.frame(one, udp(port, 53, Buffer.alloc(8))),
            at.frame(dst, udp(port, 53, m)),
          ];
        }),
      );
      const service = at.forbid(`after ${name}, through a Service`, at.atDenied);
      for (let i = 0; i < 8; i++) {
        const port = at.port();
        for (const vip of ['all', 'none', 'some', 'all', 'some']) {
          frames.push(at.frame(at.address(vip), tcp(port, 80, service, { seq: 1 })));
          frames.push(at.frame(at.address(vip), tcp(port, 80, service, { flags: flags || ACK, seq: 2, ack: 1 })));
          frames.push(at.frame(at.address(vip), udp(port, 80, service)));
        }
        // Directly to whom the Service might have sent it.
        for (const to of at.denied.slice(0, 3))
          frames.push(
            at.frame(at.address(to), tcp(port, 8080, service, { flags: SYN })),
            at.frame(at.address(to), udp(port, 8080, service)),
          );
      }
    }
    frames.push(at.frame(one, tcp(at.port(), 80, at.control('what is allowed', 'wire'))));
    await at.send(frames);
  },
};
