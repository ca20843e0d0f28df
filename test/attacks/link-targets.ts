import type { Attack } from './attack.js';
import { addr, ARP, be16, be32, icmp, IPV4, mac, multicastMac, udp } from './craft.js';

export const attack: Attack = {
  name: 'link-targets',
  tries: 'Writes to denied neighbours in whom it asks for and whom it answers: ARP, neighbour discovery.',
  styles: ['bridge'],
  async run(at) {
    const bad = await at.bed.macOf('bad-bridge');
    const { link } = at.me;
    const frames: Buffer[] = [];
    if (at.family === 4) {
      const says = (target: Buffer) => Buffer.concat([be16(1, IPV4, 0x0604, 2), mac(link.src), addr(at.own), target]);
      for (const [where, dst] of [
        ['a neighbour', bad],
        ['everybody', 'ff:ff:ff:ff:ff:ff'],
      ] as const) {
        const marker = at.forbid(`in the target of an ARP reply to ${where}`);
        frames.push(at.link(says(Buffer.concat([marker, be16(0)])), { dst }, ARP));
      }
    } else {
      const asks = (marker: Buffer) =>
        icmp(6, 135, 0, be32(0), Buffer.concat([addr('2001:db8::').subarray(0, 8), marker]));
      for (const [where, dst] of [
        ['a neighbour', bad],
        ['everybody', multicastMac('ff02::1')],
      ] as const)
        frames.push(
          at.frame('ff02::1', asks(at.forbid(`in the target of a question to ${where}`)), { ttl: 255 }, { dst }),
        );
      const group = Buffer.concat([addr('ff02::').subarray(0, 8), at.forbid('in the group that a question goes to')]);
      const to = Array.from({ length: 8 }, (_, i) => group.readUInt16BE(i * 2).toString(16)).join(':');
      const target = addr(at.address('good-bridge'));
      frames.push(at.frame(to, icmp(6, 135, 0, be32(0), target), { ttl: 255 }, { dst: bad }));
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('a datagram', 'wire'))));
    await at.send(frames);
  },
};
