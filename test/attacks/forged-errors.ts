import type { Attack } from './attack.js';
import { ACK, be32, echo, icmp, ip, sctp, tcp, type Transport, udp } from './craft.js';

export const attack: Attack = {
  name: 'forged-errors',
  tries:
    'Sends ICMP errors to denied places about flows of its own, of others, of none, and of allowed ones to somebody else.',
  async run(at) {
    const types =
      at.family === 4
        ? [
            [3, 0],
            [3, 1],
            [3, 3],
            [3, 4],
            [3, 13],
            [4, 0],
            [5, 1],
            [11, 0],
            [11, 1],
            [12, 0],
          ]
        : [
            [1, 0],
            [1, 4],
            [2, 0],
            [3, 0],
            [4, 0],
            [4, 1],
            [100, 0],
            [127, 0],
            [0, 0],
          ];
    const port = at.port();
    const open = at.address('open');
    const quotes: readonly (readonly [string, (peer: string) => Buffer])[] = [
      ['a flow that is denied', (peer) => ip({ src: peer, dst: at.own }, udp(8080, port, Buffer.alloc(8)))],
      ['a flow the other way round', (peer) => ip({ src: at.own, dst: peer }, udp(port, 8080, Buffer.alloc(8)))],
      ['an allowed flow, to somebody else', () => ip({ src: open, dst: at.own }, udp(53, port, Buffer.alloc(8)))],
      [
        'a neighbour’s flow',
        (peer) =>
          ip({ src: peer, dst: at.colluder.address(at.family) }, tcp(80, port, Buffer.alloc(8), { flags: ACK })),
      ],
      ['an echo', (peer) => ip({ src: peer, dst: at.own }, echo(at.family, 7, Buffer.alloc(8)))],
      ['SCTP', (peer) => ip({ src: peer, dst: at.own }, sctp(99, port, Buffer.alloc(8)))],
      ['protocol 253', (peer) => ip({ src: peer, dst: at.own }, { protocol: 253, asIs: Buffer.alloc(8) })],
      [
        'a later fragment',
        (peer) => ip({ src: peer, dst: at.own, offset: 64 }, { protocol: 17, asIs: Buffer.alloc(16) }),
      ],
      ['nothing', () => Buffer.alloc(0)],
      ['half a header', (peer) => ip({ src: peer, dst: at.own }, udp(8080, port, Buffer.alloc(8))).subarray(0, 18)],
      ['another family', () => Buffer.alloc(48, at.family === 4 ? 0x60 : 0x45)],
      [
        'an error',
        (peer) =>
          ip({ src: peer, dst: at.own }, icmp(at.family, at.family === 4 ? 3 : 1, 0, be32(0), Buffer.alloc(28))),
      ],
    ];
    const tell = (dst: string, type: number, code: number, about: Buffer, marker: Buffer, fields = {}): Buffer => {
      const l4: Transport = icmp(at.family, type, code, be32(0), Buffer.concat([about, marker]));
      return at.frame(dst, l4, fields);
    };
    // A flow that is allowed, one that is denied.
    await at.send([
      at.frame(open, udp(port, 53, Buffer.alloc(8))),
      ...at.denied.map((to) => at.frame(at.address(to), udp(port, 8080, Buffer.alloc(8)))),
    ]);
    const frames: Buffer[] = [];
    for (const [name, quote] of quotes)
      for (const [type = 0, code = 0] of types)
        frames.push(...at.toDenied(`${type}/${code} about ${name}`, (dst, m) => tell(dst, type, code, quote(dst), m)));
    for (const [type = 0, code = 0] of types.slice(0, 3)) {
      const spoofed = at.forbid(`${type}/${code} in a neighbour’s name`);
      const about = ip({ src: open, dst: at.colluder.address(at.family) }, udp(53, port, Buffer.alloc(8)));
      frames.push(tell(open, type, code, about, spoofed, { src: at.colluder.address(at.family) }));
    }
    const [type = 0, code = 0] = types[2] as number[];
    const control = at.control('about an allowed flow', 'wire');
    frames.push(tell(open, type, code, ip({ src: open, dst: at.own }, udp(53, port, Buffer.alloc(8))), control));
    await at.send(frames);
  },
};
