import type { Attack } from './attack.js';
import { vnetHeader } from './checksum-pen.js';
import { tcp, udp } from './craft.js';

/** linux/virtio_net.h */
const GSO = {
  none: 0,
  tcp4: 1,
  udpToFragments: 3,
  tcp6: 4,
  udp: 5,
  udpTunnel4: 0x20,
  udpTunnel6: 0x40,
  ecn: 0x80,
} as const;

export const attack: Attack = {
  name: 'gso-fields',
  tries:
    'Sends large packets that the kernel is to cut, with kinds and sizes that do not fit, to denied places and ports.',
  async run(at) {
    const frames: Buffer[] = [];
    const l4at = 14 + (at.family === 4 ? 20 : 40);
    const large = (marker: Buffer) => Buffer.concat(Array.from({ length: 400 }, () => marker));
    for (const [name, gso] of Object.entries(GSO)) {
      for (const flags of [0, 1]) {
        for (const [make, field] of [
          [udp, 6],
          [tcp, 16],
        ] as const) {
          for (const gsoSize of [0, 1, 8, 100, 1400]) {
            const header = (hdrLen: number) =>
              vnetHeader({ flags, gso, gsoSize, hdrLen, start: flags ? l4at : 0, offset: flags ? field : 0 });
            const kind = `${name}, ${make === udp ? 'UDP' : 'TCP'}, size ${gsoSize}, flags ${flags}`;
            const marker = at.forbid(kind);
            for (const to of at.denied)
              frames.push(
                Buffer.concat([header(l4at + 8), at.frame(at.address(to), make(at.port(), 8080, large(marker)))]),
              );
            const wrong = at.forbid(`${kind}, another port`);
            frames.push(Buffer.concat([header(14), at.frame(at.address('one'), make(at.port(), 81, large(wrong)))]));
          }
        }
      }
    }
    // The length of IPv4 and IPv6 may be zero where a packet is larger than it can say.
    const zero = at.forbid('no length of its own');
    for (const to of at.denied)
      frames.push(
        Buffer.concat([
          vnetHeader({ flags: 1, gso: GSO.udp, gsoSize: 1000, hdrLen: l4at + 8, start: l4at, offset: 6 }),
          at.frame(at.address(to), udp(at.port(), 8080, large(zero)), { length: 0 }),
        ]),
      );
    const control = at.control('datagrams for the kernel to cut', 'wire');
    frames.push(
      Buffer.concat([
        vnetHeader({ flags: 1, gso: GSO.udp, gsoSize: 1000, hdrLen: l4at + 8, start: l4at, offset: 6 }),
        at.frame(at.address('one'), udp(at.port(), 53, large(control))),
      ]),
    );
    await at.send(frames, { vnet: true });
  },
};
