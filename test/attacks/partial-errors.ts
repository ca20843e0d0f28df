import type { Attack } from './attack.js';
import { be16, be32, icmp, ip, RST, ACK, FIN, PSH, SYN, tcp, type Transport, udp } from './craft.js';

const TRIES = 12;

export const attack: Attack = {
  name: 'partial-errors',
  tries: 'Opens flows to a Service with some denied backends, then sends ICMP errors about them, and resets with data.',
  async run(at) {
    const service = at.address('some');
    const quote = (l4: Transport) => ip({ src: service, dst: at.own }, l4);
    for (const [name, l4] of [
      ['UDP', udp],
      ['TCP', tcp],
    ] as const) {
      const about = at.forbid(`ICMP errors about ${name}`, at.atDenied);
      const errors =
        at.family === 4
          ? [
              [3, 3],
              [3, 4],
              [11, 0],
              [12, 0],
            ]
          : [
              [1, 4],
              [2, 0],
              [3, 0],
              [4, 0],
            ];
      const frames: Buffer[] = [];
      for (let i = 0; i < TRIES; i++) {
        const port = at.port();
        frames.push(at.frame(service, l4(port, 80, Buffer.alloc(8))));
        const [type, code] = errors[i % errors.length] as [number, number];
        const inner = Buffer.concat([quote(l4(80, port, Buffer.alloc(8))), about]);
        frames.push(at.frame(service, icmp(at.family, type, code, be32(1400), inner)));
      }
      await at.send(frames);
    }
    for (const [name, flags] of [
      ['RST', RST],
      ['RST+ACK', RST | ACK],
      ['FIN+RST', FIN | RST],
      ['RST, then ACK', RST],
    ] as const) {
      const marker = at.forbid(`${name} with data`, at.atDenied);
      const frames: Buffer[] = [];
      for (let i = 0; i < TRIES; i++) {
        const port = at.port();
        frames.push(at.frame(service, tcp(port, 80, Buffer.alloc(0), { seq: 1000, flags: SYN })));
        const data = name === 'RST, then ACK' ? Buffer.alloc(0) : marker;
        frames.push(at.frame(service, tcp(port, 80, data, { seq: 1001, flags })));
        frames.push(at.frame(service, tcp(port, 80, marker, { seq: 1001, ack: 1, flags: ACK | PSH })));
      }
      await at.send(frames);
    }
    const control = at.control('an error about an allowed flow', 'wire');
    const port = at.port();
    const [type, code] = at.family === 4 ? [3, 3] : [1, 4];
    const back = ip({ src: at.address('open'), dst: at.own }, udp(53, port, Buffer.alloc(8)));
    await at.send([
      at.frame(at.address('open'), udp(port, 53, Buffer.alloc(8))),
      at.frame(
        at.address('open'),
        icmp(at.family, type as number, code as number, be16(0, 0), Buffer.concat([back, control])),
      ),
    ]);
  },
};
