import type { Attack } from './attack.js';
import { tcp } from './craft.js';

export const attack: Attack = {
  name: 'tcp-flags',
  tries: 'Sends segments with each combination of flags, with data, to denied places and to denied ports.',
  async run(at) {
    const frames: Buffer[] = [];
    for (let flags = 0; flags < 64; flags += at.short ? 7 : 1)
      frames.push(
        ...at.toDenied(`flags ${flags.toString(16)}`, (dst, m) => [
          at.frame(dst, tcp(at.port(), 8080, m, { flags, ack: 1 })),
          at.frame(dst, tcp(at.port(), 80, m, { flags: flags | 0xc0, seq: 0xffffffff })),
        ]),
      );
    for (let flags = 0; flags < 64; flags++) {
      const marker = at.forbid(`flags ${flags.toString(16)}, to another port`);
      frames.push(at.frame(at.address('one'), tcp(at.port(), 81, marker, { flags })));
    }
    // One after the other in one flow, data in each.
    frames.push(
      ...at.toDenied('one flow, all flags', (dst, m) => {
        const port = at.port();
        return Array.from({ length: 32 }, (_, i) =>
          at.frame(dst, tcp(port, 8080, m, { flags: (i * 11) % 64, seq: 1000 + i })),
        );
      }),
    );
    // Options: fast open, many, none that end.
    frames.push(
      ...at.toDenied('fast open', (dst, m) =>
        at.frame(
          dst,
          tcp(at.port(), 8080, m, { options: Buffer.concat([Buffer.from([34, 10]), m, Buffer.from([1, 1])]) }),
        ),
      ),
      ...at.toDenied('40 bytes of options', (dst, m) =>
        at.frame(dst, tcp(at.port(), 8080, m, { options: Buffer.concat([m, Buffer.alloc(32)]) })),
      ),
    );
    frames.push(at.frame(at.address('one'), tcp(at.port(), 80, at.control('data in a SYN, allowed', 'wire'))));
    await at.send(frames);
  },
};
