import type { Attack } from './attack.js';
import { be16, be32, icmp } from './craft.js';

export const attack: Attack = {
  name: 'icmp-messages',
  tries:
    'Sends ICMP messages of every type with its bytes in them to denied places, and to those allowed by port only.',
  async run(at) {
    const frames: Buffer[] = [];
    for (let type = 0; type < 256; type += at.short ? 5 : 1) {
      const marker = at.forbid(`type ${type}`);
      for (const to of [...at.denied, 'one', 'some', 'none'])
        frames.push(at.frame(at.address(to), icmp(at.family, type, 0, be16(7, type), marker)));
    }
    for (const type of at.family === 4 ? [0, 8, 13, 14, 17] : [128, 129, 138, 139, 140])
      for (const code of [1, 7, 255])
        frames.push(
          ...at.toDenied(`type ${type}, code ${code}`, (dst, m) =>
            at.frame(dst, icmp(at.family, type, code, be32(0), m)),
          ),
        );
    const control = at.control('an echo where all is allowed', 'wire');
    frames.push(at.frame(at.address('open'), icmp(at.family, at.family === 4 ? 8 : 128, 0, be16(1, 1), control)));
    await at.send(frames);
  },
};
