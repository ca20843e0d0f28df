import type { Attack } from './attack.js';
import { eth, IPV4, IPV6, ip, udp } from './craft.js';

const Q = 0x8100;
const AD = 0x88a8;
const OLD = 0x9100;

const STACKS: readonly (readonly [string, readonly (readonly [number, number])[]])[] = [
  ['a priority tag', [[Q, 0]]],
  ['a priority tag of 7', [[Q, 0xe000]]],
  ['one tag', [[Q, 5]]],
  ['a service tag', [[AD, 0]]],
  [
    'QinQ',
    [
      [AD, 0],
      [Q, 0],
    ],
  ],
  [
    'two tags',
    [
      [Q, 0],
      [Q, 0],
    ],
  ],
  [
    'three tags',
    [
      [AD, 0],
      [Q, 0],
      [Q, 0],
    ],
  ],
  [
    'four tags',
    [
      [Q, 0],
      [Q, 0],
      [Q, 0],
      [Q, 0],
    ],
  ],
  [
    'the old QinQ',
    [
      [OLD, 0],
      [Q, 0],
    ],
  ],
  ['a tag of all ones', [[Q, 0xffff]]],
];

export const attack: Attack = {
  name: 'vlan-stacks',
  tries: 'Hides packets to denied places behind VLAN tags, one to four of them.',
  async run(at) {
    const type = at.family === 4 ? IPV4 : IPV6;
    const frames: Buffer[] = [];
    for (const [name, tags] of STACKS) {
      frames.push(
        ...at.toDenied(name, (dst, marker) =>
          eth(at.me.link, type, ip({ src: at.own, dst }, udp(at.port(), 8080, marker)), tags),
        ),
      );
    }
    if (at.style === 'bridge') {
      const bad = await at.bed.macOf('bad-bridge');
      for (const [name, tags] of STACKS) {
        const marker = at.forbid(`${name}, to the neighbour’s MAC`);
        const packet = ip({ src: at.own, dst: at.address('bad-bridge') }, udp(at.port(), 8080, marker));
        frames.push(eth({ ...at.me.link, dst: bad }, type, packet, tags));
      }
    }
    const allowed = udp(at.port(), 53, at.control('a priority tag, allowed', 'wire'));
    frames.push(eth(at.me.link, type, ip({ src: at.own, dst: at.address('one') }, allowed), [[Q, 0]]));
    await at.send(frames);
  },
};
