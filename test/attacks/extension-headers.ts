import type { Attack } from './attack.js';
import { be16, be32, extension, ip, tcp, udp } from './craft.js';

/** RFC 8754 and older: a routing header with addresses. */
const routing = (type: number, left: number, addresses: readonly Buffer[]) => {
  const body = Buffer.concat([Buffer.from([type, left]), be32(0), ...addresses]);
  return extension(addresses.length * 2, body);
};

export const attack: Attack = {
  name: 'extension-headers',
  tries: 'Hides ports behind chains of IPv6 extension headers, and the destination in a routing header.',
  families: [6],
  async run(at) {
    const two = Buffer.from('20010db8010000000000000000000020', 'hex');
    const ah = Buffer.concat([Buffer.from([0, 4]), be16(0), be32(1, 1), Buffer.alloc(12)]);
    const alert = extension(0, Buffer.from([5, 2, 0, 0, 1, 0]));
    const jumbo = extension(0, Buffer.concat([Buffer.from([0xc2, 4]), be32(70000)]));
    const unknown = (type: number) => extension(0, Buffer.from([type, 4, 1, 2, 3, 4]));
    const chains: readonly (readonly [string, readonly (readonly [number, Buffer])[]])[] = [
      ['hop-by-hop', [[0, extension()]]],
      ['router alert', [[0, alert]]],
      ['a jumbo option', [[0, jumbo]]],
      ['destination options', [[60, extension(4)]]],
      [
        'hop-by-hop, twice',
        [
          [0, extension()],
          [0, extension()],
        ],
      ],
      [
        'hop-by-hop behind others',
        [
          [60, extension()],
          [0, extension()],
        ],
      ],
      ['AH', [[51, ah]]],
      [
        'AH and options',
        [
          [51, ah],
          [60, extension(2)],
        ],
      ],
      ['routing, none left', [[43, routing(0, 0, [two])]]],
      ['routing, one left', [[43, routing(0, 1, [two])]]],
      ['mobile routing', [[43, routing(2, 1, [two])]]],
      ['segment routing', [[43, routing(4, 1, [two, two])]]],
      ['segment routing, at its end', [[43, routing(4, 0, [two, two])]]],
      ['mobility', [[135, extension()]]],
      ['host identity', [[139, extension()]]],
      ['shim6', [[140, extension()]]],
      ['experimental', [[253, extension()]]],
      ['eight', Array.from({ length: 8 }, () => [60, extension()] as const)],
      ['nine', Array.from({ length: 9 }, () => [60, extension()] as const)],
      ['sixteen', Array.from({ length: 16 }, () => [60, extension()] as const)],
      ['a long one', [[60, extension(100)]]],
      [
        'all',
        [
          [0, extension()],
          [60, extension()],
          [43, routing(0, 0, [])],
          [51, ah],
          [60, extension(1)],
        ],
      ],
      ['unknown option, skip', [[0, unknown(0x1e)]]],
      ['unknown option, discard', [[0, unknown(0x5e)]]],
      ['unknown option, report', [[60, unknown(0x9e)]]],
      ['unknown option, report if unicast', [[60, unknown(0xde)]]],
      ['home address', [[60, extension(2, Buffer.concat([Buffer.from([0xc9, 16]), two]))]]],
    ];
    const frames: Buffer[] = [];
    for (const [name, extensions] of chains) {
      frames.push(
        ...at.toDenied(name, (dst, m) => [
          at.frame(dst, udp(at.port(), 8080, m), { extensions }),
          at.frame(dst, tcp(at.port(), 8080, m), { extensions }),
        ]),
      );
      const port = at.forbid(`${name}, to another port`);
      frames.push(at.frame(at.address('one'), udp(at.port(), 54, port), { extensions }));
      // The next of its hops is denied: nobody on the way may send it on.
      if (extensions.some(([kind, b]) => kind === 43 && (b[3] ?? 0) > 0)) {
        const via = at.forbid(`${name}, by way of who is allowed`);
        for (const hop of ['one', 'open', 'a', 'good-far'])
          frames.push(at.frame(at.address(hop), udp(at.port(), 53, via), { extensions }));
      }
    }
    // Headers that are longer than the packet.
    const cut = ip(
      { src: at.own, dst: at.address('one') },
      {
        protocol: 60,
        asIs: Buffer.concat([Buffer.from([17, 200, 1, 4]), Buffer.alloc(4), at.forbid('longer than the packet')]),
      },
    );
    frames.push(at.link(cut));
    const control = at.control('behind options, allowed', 'wire');
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, control), { extensions: [[60, extension(1)]] }));
    await at.send(frames);
  },
};
