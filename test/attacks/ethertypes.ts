import type { Attack } from './attack.js';
import { be16, be32, eth, IPV4, IPV6, ip, udp } from './craft.js';

export const attack: Attack = {
  name: 'ethertypes',
  tries:
    'Sends packets under EtherTypes that are not IP: MPLS, PPPoE, LLC and SNAP, EAPOL, none, and to the neighbour’s MAC.',
  async run(at) {
    const type = at.family === 4 ? IPV4 : IPV6;
    const bad = await at.bed.macOf('bad-bridge');
    const frames: Buffer[] = [];
    const shapes: readonly (readonly [string, (packet: Buffer) => readonly [number, Buffer]])[] = [
      ['MPLS', (p) => [0x8847, Buffer.concat([be32(0x00010140), p])]],
      ['MPLS, two labels', (p) => [0x8847, Buffer.concat([be32(0x00010040, 0x00020140), p])]],
      ['MPLS multicast', (p) => [0x8848, Buffer.concat([be32(0x00010140), p])]],
      ['MPLS explicit null', (p) => [0x8847, Buffer.concat([be32(at.family === 4 ? 0x00000140 : 0x00002140), p])]],
      [
        'PPPoE session',
        (p) => [0x8864, Buffer.concat([be16(0x1100, 1, p.length + 2, at.family === 4 ? 0x21 : 0x57), p])],
      ],
      ['PPPoE discovery', (p) => [0x8863, p]],
      ['EAPOL', (p) => [0x888e, p]],
      ['nothing (0)', (p) => [0, p]],
      ['802.3 and LLC', (p) => [p.length + 3, Buffer.concat([Buffer.from([0x06, 0x06, 3]), p])]],
      ['802.3 and SNAP', (p) => [p.length + 8, Buffer.concat([Buffer.from([0xaa, 0xaa, 3, 0, 0, 0]), be16(type), p])]],
      ['a spanning tree BPDU', (p) => [p.length + 3, Buffer.concat([Buffer.from([0x42, 0x42, 3]), p])]],
      ['802.3 raw', (p) => [p.length, p]],
      ['1535', (p) => [0x05ff, p]],
      ['LLDP', (p) => [0x88cc, p]],
      ['MACsec', (p) => [0x88e5, p]],
      ['PBB', (p) => [0x88e7, p]],
      ['RARP', (p) => [0x8035, p]],
      ['transparent Ethernet bridging', (p) => [0x6558, eth(at.me.link, type, p)]],
      ['ERSPAN', (p) => [0x88be, p]],
      ['PRP', (p) => [0x88fb, p]],
      ['HSR', (p) => [0x892f, p]],
      ['batman', (p) => [0x4305, p]],
      ['NSH', (p) => [0x894f, p]],
      ['loopback test', (p) => [0x9000, p]],
      ['local experimental', (p) => [0x88b5, p]],
      ['the other family', (p) => [at.family === 4 ? IPV6 : IPV4, p]],
      ['a pause frame', (p) => [0x8808, p]],
      ['all ones', (p) => [0xffff, p]],
    ];
    for (const [name, make] of shapes) {
      for (const [where, dst] of [
        ['the gateway’s MAC', at.me.link.dst],
        ['the neighbour’s MAC', bad],
        ['everybody', 'ff:ff:ff:ff:ff:ff'],
        ['the bridges’ group', '01:80:c2:00:00:03'],
      ] as const) {
        const marker = at.forbid(`${name}, to ${where}`);
        const packet = ip({ src: at.own, dst: at.address('bad-near') }, udp(at.port(), 8080, marker));
        const [number, payload] = make(packet);
        frames.push(at.link(payload, { dst }, number));
      }
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('IP', 'wire'))));
    await at.send(frames);
  },
};
