import type { Attack } from './attack.js';
import { be16, be32, extension, fragments, type IpFields, ip, sealed, tcp, udp } from './craft.js';

/** Fragment header by hand: offset in units of 8 bytes with the low bits as they are given. */
const header = (offsetAndFlags: number, id: number) => Buffer.concat([be16(0, offsetAndFlags), be32(id)]);

export const attack: Attack = {
  name: 'fragments-shapes',
  tries: 'Sends atomic, nested, empty, tiny, unaligned and far-out fragments to denied places.',
  async run(at) {
    const frames: Buffer[] = [];
    let id = Math.floor(Math.random() * 60000);
    const whole = (dst: string, marker: Buffer) => sealed(at.own, dst, udp(at.port(), 8080, marker));
    const piece = (dst: string, f: Partial<IpFields>, asIs: Buffer, protocol = 17) =>
      at.link(ip({ src: at.own, dst, id: ++id, ...f }, { protocol, asIs }));
    frames.push(
      ...at.toDenied('a first that is whole', (dst, m) => piece(dst, { offset: 0, more: true }, whole(dst, m))),
      ...at.toDenied('cut before the ports', (dst, m) => [
        piece(dst, { offset: 0, more: true, id: 77 }, whole(dst, m).subarray(0, 0)),
        piece(dst, { offset: 0, id: 77 }, whole(dst, m)),
      ]),
      ...at.toDenied('at the end of the number space', (dst, m) => piece(dst, { offset: 65528 }, m)),
      ...at.toDenied('longer than a datagram may be', (dst, m) =>
        piece(dst, { offset: 65520, more: true }, Buffer.concat([m, Buffer.alloc(200)])),
      ),
      ...at.toDenied('TCP with a tiny first', (dst, m) => {
        const segment = sealed(at.own, dst, tcp(at.port(), 8080, m));
        return [
          piece(dst, { offset: 0, more: true, id: 78 }, segment.subarray(0, 16), 6),
          piece(dst, { offset: 16, id: 78 }, segment.subarray(16), 6),
        ];
      }),
    );
    if (at.family === 4) {
      frames.push(
        ...at.toDenied('with the reserved bit', (dst, m) => {
          const packet = ip({ src: at.own, dst }, udp(at.port(), 8080, m));
          packet.writeUInt16BE(0x8000, 6);
          return at.link(packet);
        }),
        ...at.toDenied('a fragment that must not be one', (dst, m) =>
          piece(dst, { offset: 8, more: true, dontFragment: true }, m),
        ),
      );
    } else {
      const chains: readonly (readonly [string, readonly (readonly [number, Buffer])[]])[] = [
        ['atomic', [[44, header(0, 5)]]],
        [
          'atomic, twice',
          [
            [44, header(0, 5)],
            [44, header(0, 6)],
          ],
        ],
        [
          'atomic within a fragment',
          [
            [44, header(1, 5)],
            [44, header(0, 6)],
          ],
        ],
        [
          'a fragment within an atomic one',
          [
            [44, header(0, 5)],
            [44, header(1, 6)],
          ],
        ],
        ['with reserved bits', [[44, header(6, 5)]]],
        [
          'behind options',
          [
            [60, extension()],
            [44, header(1, 5)],
          ],
        ],
        [
          'before options',
          [
            [44, header(1, 5)],
            [60, extension()],
          ],
        ],
        [
          'before a chain of options',
          [
            [44, header(1, 5)],
            [60, extension(3)],
            [60, extension(3)],
            [0, extension()],
          ],
        ],
        [
          'behind a routing header',
          [
            [43, extension()],
            [44, header(0, 5)],
          ],
        ],
      ];
      for (const [name, extensions] of chains)
        frames.push(...at.toDenied(name, (dst, m) => at.frame(dst, udp(at.port(), 8080, m), { extensions })));
      const control = at.control('atomic, allowed', 'wire');
      frames.push(at.frame(at.address('one'), udp(at.port(), 53, control), { extensions: [[44, header(0, 5)]] }));
    }
    const control = udp(
      at.port(),
      9,
      Buffer.concat([Buffer.alloc(40), at.control('two, where all is allowed', 'wire')]),
    );
    frames.push(
      ...fragments({ src: at.own, dst: at.address('open'), id: ++id }, control, [0, 40]).map((p) => at.link(p)),
    );
    await at.send(frames);
  },
};
