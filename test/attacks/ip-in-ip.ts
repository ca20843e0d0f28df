import type { Attack } from './attack.js';
import { be16, be32, icmp, IPV4, IPV6, ip, raw, udp } from './craft.js';

export const attack: Attack = {
  name: 'ip-in-ip',
  tries: 'Sends IP within IP, GRE, ESP, AH and other protocols to denied places, and to those allowed by port only.',
  async run(at) {
    const frames: Buffer[] = [];
    const bodies = (marker: Buffer, to: string): readonly (readonly [string, number, Buffer])[] => {
      const v4 = ip({ src: at.me.address(4), dst: at.bed.address(to, 4) }, udp(at.port(), 53, marker));
      const v6 = ip({ src: at.me.address(6), dst: at.bed.address(to, 6) }, udp(at.port(), 53, marker));
      return [
        ['IPv4', 4, v4],
        ['IPv6', 41, v6],
        ['GRE with IPv4', 47, Buffer.concat([be16(0, IPV4), v4])],
        ['GRE with IPv6', 47, Buffer.concat([be16(0, IPV6), v6])],
        ['GRE with a key', 47, Buffer.concat([be16(0x2000, IPV4), be32(7), v4])],
        ['ESP', 50, Buffer.concat([be32(0x100, 1), v4])],
        ['ESP without encryption', 50, Buffer.concat([be32(0x100, 1), v4, Buffer.from([1, 0, 0, 4])])],
        ['AH before IPv4', 51, Buffer.concat([Buffer.from([4, 4]), be16(0), be32(0x100, 1), Buffer.alloc(12), v4])],
        [
          'AH before UDP',
          51,
          Buffer.concat([Buffer.from([17, 4]), be16(0), be32(0x100, 1), Buffer.alloc(12), be16(9, 53, 16, 0), marker]),
        ],
        ['IPCOMP', 108, Buffer.concat([Buffer.from([4, 0]), be16(2), v4])],
        ['EtherIP', 97, Buffer.concat([be16(0x3000), marker])],
        ['L2TP', 115, Buffer.concat([be32(0x100), v4])],
        ['MPLS in IP', 137, Buffer.concat([be32(0x00010140), v4])],
        ['UDP-Lite', 136, Buffer.concat([be16(9, 53, 8, 0), marker])],
        ['DCCP', 33, Buffer.concat([be16(9, 53), be32(0x05000000, 0, 0), marker])],
        ['SCTP', 132, Buffer.concat([be16(9, 53), be32(0, 0), marker])],
        ['no next header', 59, marker],
        ['IGMP', 2, Buffer.concat([be32(0x16000000, 0), marker])],
        ['PIM', 103, Buffer.concat([be32(0x20000000), marker])],
        ['OSPF', 89, Buffer.concat([be32(0x02010000), marker])],
        ['VRRP', 112, Buffer.concat([be32(0x21010000), marker])],
        ['protocol 0', 0, marker],
        ['protocol 253', 253, marker],
        ['protocol 255', 255, marker],
        ['ICMP of the other family', at.family === 4 ? 58 : 1, icmp(4, 8, 0, be32(0), marker).bytes],
      ];
    };
    for (const to of [...at.denied, 'one']) {
      const names = bodies(Buffer.alloc(8), to).map(([name]) => name);
      for (const [i, name] of names.entries()) {
        // AH is a header on the way to UDP in IPv6, and who may send UDP may send it so.
        const allowed = at.family === 6 && to === 'one' && name === 'AH before UDP';
        const marker = at.forbid(`${name}, to ${to}`, () => !allowed);
        const [, protocol, body] = bodies(marker, to)[i] as readonly [string, number, Buffer];
        frames.push(at.frame(at.address(to), raw(protocol, body)));
      }
    }
    frames.push(at.frame(at.address('open'), raw(253, at.control('protocol 253, where all is allowed', 'wire'))));
    frames.push(at.frame(at.address('open'), raw(50, Buffer.concat([be32(1, 1), at.control('ESP, allowed', 'wire')]))));
    await at.send(frames);
  },
};
