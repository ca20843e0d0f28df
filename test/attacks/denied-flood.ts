import { flood } from '../netns/flood.js';
import type { Attack } from './attack.js';
import { udp } from './craft.js';
import { AT4, AT6, BESIDE, beside, manyFlows, PORTS, TWICE } from './flood-bed.js';

export const attack: Attack = {
  name: 'denied-flood',
  tries: 'Sends so many different packets to where it may not that a neighbour’s connections are forgotten.',
  styles: ['ptp'],
  alone: true,
  policies: () => BESIDE,
  async run(at) {
    const offsets = at.family === 4 ? AT4 : AT6;
    const frame = at.frame(at.address('two'), udp(1, 1, Buffer.alloc(8)));
    const fields = [
      TWICE[at.family],
      { at: offsets.sport, ...PORTS, sums: [offsets.udpSum] },
      { at: offsets.dport, first: 20_000, many: 1000, sums: [offsets.udpSum] },
    ];
    await beside(at, () => flood(at.me.pod.host.netns, frame, fields, { count: 2 * manyFlows(at, 2.5) }));
  },
};
