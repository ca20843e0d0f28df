import type { Attack } from './attack.js';
import { tcp, udp } from './craft.js';

export const attack: Attack = {
  name: 'nobodys-source',
  tries: 'Goes through Services and host ports of its node with the unspecified source, which is nobody’s behind them.',
  async run(at) {
    const { bed } = at;
    const src = at.family === 4 ? '0.0.0.0' : '::';
    const frames: Buffer[] = [];
    // Which backend is chosen is a matter of chance.
    for (let i = 0; i < 24; i++) {
      const [one, two] = [at.forbid('UDP, a Service', at.atDenied), at.forbid('TCP, a Service', at.atDenied)];
      frames.push(at.frame(at.address('some'), udp(at.port(), 80, one), { src }));
      frames.push(at.frame(at.address('some'), tcp(at.port(), 80, two), { src }));
    }
    let port = 8300;
    for (const to of ['bad-ptp', 'bad-bridge', 'bad-far']) {
      port++;
      for (const proto of ['udp', 'tcp'])
        at.after(await bed.translate(at.family, at.address('a'), proto, port, at.address(to), 8080));
      frames.push(
        at.frame(at.address('a'), udp(at.port(), port, at.forbid(`UDP, a host port, to ${to}`)), { src }),
        at.frame(at.address('a'), tcp(at.port(), port, at.forbid(`TCP, a host port, to ${to}`)), { src }),
      );
    }
    frames.push(at.frame(at.address('good-far'), udp(at.port(), 8080, at.control('in its own name', 'good-far'))));
    await at.send(frames);
  },
};
