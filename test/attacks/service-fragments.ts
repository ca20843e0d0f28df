import type { Attack } from './attack.js';
import { fragments, tcp, udp } from './craft.js';

const TRIES = 12;

export const attack: Attack = {
  name: 'service-fragments',
  tries: 'Asks for a Service with some denied backends in fragments: only the first one shows a port.',
  async run(at) {
    let id = Math.floor(Math.random() * 60000);
    for (const [name, l4] of [
      ['UDP', udp],
      ['TCP', tcp],
    ] as const) {
      for (const [size, cuts] of [
        ['small ones', [0, 32, 64]],
        ['large ones', [0, 1400, 2800]],
      ] as const) {
        for (const order of ['in order', 'the last first'] as const) {
          const marker = at.forbid(`${name}, ${size}, ${order}`, at.atDenied);
          const frames: Buffer[] = [];
          for (let i = 0; i < TRIES; i++) {
            const step = cuts[1];
            const body = Buffer.alloc(step * 2 + 60);
            for (const place of [8, step + 8, step * 2 + 8]) marker.copy(body, place);
            const pieces = fragments({ src: at.own, dst: at.address('some'), id: ++id }, l4(at.port(), 80, body), cuts);
            frames.push(...(order === 'in order' ? pieces : pieces.reverse()).map((p) => at.link(p)));
          }
          await at.send(frames);
        }
      }
    }
    const body = Buffer.alloc(2000);
    at.control('fragments to allowed backends', `good-${at.style}`).copy(body, 1900);
    const frames: Buffer[] = [];
    for (let i = 0; i < 24; i++) {
      const pieces = fragments({ src: at.own, dst: at.address('all'), id: ++id }, udp(at.port(), 80, body), [0, 1400]);
      frames.push(...pieces.map((p) => at.link(p)));
    }
    await at.send(frames);
  },
};
