import { setTimeout as sleep } from 'node:timers/promises';
import type { Attack } from './attack.js';
import { tcp, udp } from './craft.js';

export const attack: Attack = {
  name: 'agent-killed',
  families: [4],
  tries: 'Sends without a pause while the agent is killed, is away, and starts again.',
  async run(at) {
    const frames: Buffer[] = [];
    for (const to of at.denied) {
      const marker = at.forbid(`to ${to}`);
      const port = at.port();
      for (let i = 0; i < 6; i++)
        frames.push(
          at.frame(at.address(to), udp(port + i, 8080, marker)),
          at.frame(at.address(to), tcp(port + i, 8080, marker)),
        );
    }
    const service = at.forbid('through a Service', at.atDenied);
    for (let i = 0; i < 8; i++) frames.push(at.frame(at.address('some'), udp(at.port(), 80, service)));
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('what is allowed', 'wire'))));
    await at.stream('attack', frames);
    await at.bed.restart(() => sleep(150));
    await sleep(100);
    await at.stop('attack');
  },
};
