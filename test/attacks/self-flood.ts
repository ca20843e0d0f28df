import { flood } from '../netns/flood.js';
import type { Attack } from './attack.js';
import { udp } from './craft.js';
import { AT4, AT6, BESIDE, beside, manyAnswered, PORTS } from './flood-bed.js';

/** What it asks itself at a time, before it answers. */
const STEP = 20_000;

export const attack: Attack = {
  name: 'self-flood',
  tries:
    'Asks itself on so many ports, and answers, which it always may, that a neighbour’s connections are forgotten.',
  styles: ['ptp'],
  alone: true,
  policies: () => BESIDE,
  async run(at) {
    const { sport, dport, udpSum } = at.family === 4 ? AT4 : AT6;
    const frame = at.frame(at.own, udp(1, 1, Buffer.alloc(8)));
    const sums = [udpSum];
    await beside(at, async () => {
      for (let n = 0; n < manyAnswered(at); n += STEP) {
        const first = PORTS.first + (n % PORTS.many);
        const there = 62_000 + Math.floor(n / PORTS.many);
        for (const [asks, asked] of [
          [sport, dport],
          [dport, sport],
        ] as const) {
          const fields = [
            { at: asks, first, many: STEP, sums },
            { at: asked, first: there, many: 1, sums },
          ];
          await flood(at.me.pod.host.netns, frame, fields, { count: STEP });
        }
      }
    });
  },
};
