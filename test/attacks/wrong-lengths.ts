import type { Attack } from './attack.js';
import { be16, ip, raw, tcp, udp } from './craft.js';

export const attack: Attack = {
  name: 'wrong-lengths',
  tries: 'Lies about lengths and versions in IP, UDP and TCP headers, with denied places or ports behind them.',
  async run(at) {
    const frames: Buffer[] = [];
    for (const length of [0, 1, 8, 20, 21, 27, 28, 29, 40, 48, 60, 1500, 65535])
      frames.push(...at.toDenied(`length ${length}`, (dst, m) => at.frame(dst, udp(at.port(), 8080, m), { length })));
    for (const length of [0, 1, 7, 8, 9, 65535])
      frames.push(...at.toDenied(`UDP length ${length}`, (dst, m) => at.frame(dst, udp(at.port(), 8080, m, length))));
    for (const first of at.family === 4
      ? [0x44, 0x40, 0x46, 0x4f, 0x55, 0x65, 0x05, 0xf5]
      : [0x40, 0x45, 0x50, 0x70, 0x00]) {
      frames.push(
        ...at.toDenied(`first byte ${first.toString(16)}`, (dst, m) => {
          const packet = ip({ src: at.own, dst }, udp(at.port(), 8080, m));
          packet[0] = first;
          return at.link(packet);
        }),
      );
    }
    for (const offset of [0, 4, 6, 15])
      frames.push(
        ...at.toDenied(`TCP data offset ${offset}`, (dst, m) => {
          const l4 = tcp(at.port(), 8080, m);
          l4.bytes[12] = offset << 4;
          return at.frame(dst, l4);
        }),
      );
    // The port that is judged must be the one at the header's end.
    if (at.family === 4) {
      const shifted = at.forbid(
        'options that look like an allowed port',
        (a) => a.frame.readUInt16BE(14 + 24 + 2) !== 53,
      );
      const options = Buffer.concat([Buffer.from([1]), Buffer.from([0x44, 3]), Buffer.from([0])]);
      const l4 = raw(17, Buffer.concat([be16(7, 54, 16, 0), shifted]));
      frames.push(at.frame(at.address('one'), l4, { options }));
      const fake = at.forbid('a longer header than it says');
      const packet = ip({ src: at.own, dst: at.address('one') }, raw(17, Buffer.concat([be16(7, 54, 16, 0), fake])));
      frames.push(at.link(packet));
    }
    frames.push(
      ...at.toDenied('no payload, no port', (dst, m) =>
        at.link(Buffer.concat([ip({ src: at.own, dst }, raw(17, Buffer.alloc(0))), m])),
      ),
      ...at.toDenied('port 0', (dst, m) => at.frame(dst, udp(0, 0, m))),
      ...at.toDenied('port 65535', (dst, m) => at.frame(dst, tcp(65535, 65535, m))),
    );
    const zero = at.forbid('port 0 of who is allowed another');
    frames.push(at.frame(at.address('one'), udp(at.port(), 0, zero)));
    const trailer = at.control('bytes behind the packet, allowed', 'wire');
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, trailer)));
    await at.send(frames);
  },
};
