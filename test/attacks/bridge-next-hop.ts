import type { Attack } from './attack.js';
import { tcp, udp } from './craft.js';

export const attack: Attack = {
  name: 'bridge-next-hop',
  tries: 'Writes an allowed address into the packet and a denied neighbour’s MAC, or everybody’s, onto the frame.',
  styles: ['bridge'],
  async run(at) {
    const [bad, good] = [await at.bed.macOf('bad-bridge'), await at.bed.macOf('good-bridge')];
    const frames: Buffer[] = [];
    const nobody = '02:de:ad:be:ef:01';
    for (const [name, dst] of [
      ['the neighbour’s', bad],
      ['nobody’s, which is flooded', nobody],
      ['broadcast', 'ff:ff:ff:ff:ff:ff'],
      ['a multicast group', '01:00:5e:01:02:03'],
      ['all nodes of IPv6', '33:33:00:00:00:01'],
      ['the bridge’s group (802.1D)', '01:80:c2:00:00:0e'],
      ['the bridge’s own, odd', '01:80:c2:00:00:00'],
    ] as const) {
      for (const [to, l4] of [
        ['one', udp(at.port(), 53, at.forbid(`${name}: for a server`, at.atDenied))],
        ['good-bridge', tcp(at.port(), 8080, at.forbid(`${name}: for an allowed pod`, at.atDenied))],
        ['a', udp(at.port(), 9, at.forbid(`${name}: for the node`, at.atDenied))],
        ['', udp(at.port(), 9, at.forbid(`${name}: for itself`, at.atDenied))],
      ] as const)
        frames.push(at.frame(to === '' ? at.own : at.address(to), l4, {}, { dst }));
    }
    // Whom it may talk to, by a MAC that is on no port of this bridge: a bridge sends that to all of its ports.
    for (const [what, to] of [
      ['an allowed pod’s on a link of its own', 'good-ptp'],
      ['an allowed pod’s of another node', 'good-far'],
    ] as const) {
      const marker = at.forbid(what, at.atDenied);
      frames.push(at.frame(at.address(to), udp(at.port(), 8080, marker), {}, { dst: await at.bed.macOf(to) }));
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('through the gateway', 'wire'))));
    const toGood = tcp(at.port(), 8080, at.control('to a neighbour by its own MAC', 'good-bridge'));
    frames.push(at.frame(at.address('good-bridge'), toGood, {}, { dst: good }));
    await at.send(frames);
  },
};
