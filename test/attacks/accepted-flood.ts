import { flood } from '../netns/flood.js';
import { egressPolicy, toApp } from '../netns/policies.js';
import type { Attack } from './attack.js';
import type { Actor } from './bed.js';
import { eth, IPV4, ip, udp } from './craft.js';
import { AT4, BESIDE, beside, manyAnswered, PORTS } from './flood-bed.js';

/** What is asked at a time, before it is answered. */
const STEP = 20_000;

export const attack: Attack = {
  name: 'accepted-flood',
  tries: 'Has itself asked and answers, by two pods, so often that a neighbour’s connections are forgotten.',
  styles: ['ptp'],
  families: [4],
  alone: true,
  policies: () => [...BESIDE, egressPolicy('attackers', 'attacker', [toApp('attacker')])],
  async run(at) {
    const asks = at.bed.actors.get('attacker-bridge') as Actor;
    const answers = at.bed.actors.get('attacker-ptp') as Actor;
    const frame = (from: Actor, to: Actor) => {
      const packet = ip({ src: from.address(4), dst: to.address(4) }, udp(1, 1, Buffer.alloc(8)));
      const bytes = eth(from.link, IPV4, packet);
      bytes.writeUInt16BE(0, AT4.udpSum);
      return bytes;
    };
    const [question, answer] = [frame(asks, answers), frame(answers, asks)];
    await beside(at, async () => {
      for (let n = 0; n < manyAnswered(at); n += STEP) {
        const first = PORTS.first + (n % PORTS.many);
        const there = 20_000 + Math.floor(n / PORTS.many);
        const fields = (asker: number, asked: number) => [
          { at: asker, first, many: STEP },
          { at: asked, first: there, many: 1 },
        ];
        await flood(asks.pod.host.netns, question, fields(AT4.sport, AT4.dport), { count: STEP });
        await flood(answers.pod.host.netns, answer, fields(AT4.dport, AT4.sport), { count: STEP });
      }
    });
  },
};
