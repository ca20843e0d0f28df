import { flood } from '../netns/flood.js';
import type { Attack } from './attack.js';
import { echo, ip } from './craft.js';
import { AT4, BESIDE, beside, manyAnswered, manyFlows, TWICE } from './flood-bed.js';

const IDENTIFIERS = 65_536;
const SENDERS = 250;

export const attack: Attack = {
  name: 'echo-flood',
  tries: 'Answers, and sends, so many different echoes that a neighbour’s connections are forgotten.',
  styles: ['ptp'],
  families: [4],
  alone: true,
  policies: () => BESIDE,
  async run(at) {
    const { bed } = at;
    const asked = await bed.outsideFrame(ip({ src: '198.51.100.1', dst: at.own }, echo(4, 1, Buffer.alloc(8))));
    const identifier = { at: AT4.icmpSum + 2, many: IDENTIFIERS, sums: [AT4.icmpSum] };
    const senders = { at: AT4.src + 2, first: 0x6401, many: SENDERS, sums: [AT4.sum] };
    const own = at.frame(at.address('open'), echo(4, 1, Buffer.alloc(8)));
    const targets = { at: AT4.dst + 2, first: 0x0001, many: 60_000, sums: [AT4.sum] };
    await beside(at, async () => {
      const outside = { count: manyAnswered(at, 1.8), device: 'to-a' };
      await flood(bed.world.internet.netns, asked, [identifier, senders], outside);
      await flood(at.me.pod.host.netns, own, [TWICE[4], targets, identifier], { count: 2 * manyFlows(at, 1.8) });
    });
  },
};
