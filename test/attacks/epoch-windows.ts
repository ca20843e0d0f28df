import { setTimeout as sleep } from 'node:timers/promises';
import type { Attack } from './attack.js';
import { egressPolicy, toApp, toHosts, toServer } from '../netns/policies.js';
import { ACK, echo, fragments, tcp, udp } from './craft.js';

/** Two states that both deny the same, each by rules of its own. */
const state = (n: number) => [
  egressPolicy('attacker', 'attacker', [
    toServer('one', 'udp/53', ...(n % 2 ? ['tcp/80'] : ['tcp/443'])),
    toApp('good', 'tcp/8080', 'udp/8080'),
    toHosts(Array.from({ length: 40 }, (_, i) => `198.51.${100 + (n % 3)}.${i}`)),
    ...(n % 2
      ? [
          {
            to: [{ ipBlock: { cidr: '203.0.113.0/24', except: ['203.0.113.16/28'] } }],
            ports: [{ protocol: 'TCP', port: 81 }],
          },
        ]
      : []),
  ]),
];

export const attack: Attack = {
  name: 'epoch-windows',
  tries: 'Sends without a pause while policies change between states each of which denies it.',
  async run(at) {
    const frames: Buffer[] = [];
    let id = Math.floor(Math.random() * 60000);
    for (const to of at.denied) {
      const marker = at.forbid(`to ${to}`);
      const dst = at.address(to);
      const port = at.port();
      frames.push(
        at.frame(dst, udp(port, 8080, marker)),
        at.frame(dst, tcp(port, 8080, marker)),
        at.frame(dst, tcp(port, 80, marker, { flags: ACK, ack: 1 })),
        at.frame(dst, echo(at.family, port, marker)),
        ...fragments(
          { src: at.own, dst, id: ++id },
          udp(port, 53, Buffer.concat([marker, Buffer.alloc(40), marker])),
          [0, 40],
        ).map((p) => at.link(p)),
      );
    }
    const service = at.forbid('through a Service', at.atDenied);
    const ports = Array.from({ length: 8 }, () => at.port());
    frames.push(...ports.map((port) => at.frame(at.address('some'), udp(port, 80, service))));
    const other = at.forbid('another port of who is allowed');
    frames.push(at.frame(at.address('one'), udp(at.port(), 54, other)));
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('what both allow', 'wire'))));
    await at.stream('attack', frames);
    const changes = at.short ? 4 : 12;
    for (let n = 0; n < changes; n++) {
      await at.bed.policies(state(n));
      await sleep(n % 3 === 0 ? 30 : 0);
    }
    await at.stop('attack');
    await at.bed.policies();
  },
};
