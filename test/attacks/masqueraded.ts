import type { Attack } from './attack.js';
import { echo, fragments, RST, tcp, udp } from './craft.js';

export const attack: Attack = {
  name: 'masqueraded',
  tries:
    'Uses that the node puts its own address on what leaves: denied places, ports and backends of Services behind it.',
  async run(at) {
    await at.bed.masquerade(true);
    at.after(() => at.bed.masquerade(false));
    const frames: Buffer[] = [];
    let id = Math.floor(Math.random() * 60000);
    frames.push(
      ...at.toDenied('all kinds', (dst, m) => {
        const port = at.port();
        return [
          at.frame(dst, udp(port, 8080, m)),
          at.frame(dst, tcp(port, 8080, m)),
          at.frame(dst, echo(at.family, port, m)),
          ...fragments(
            { src: at.own, dst, id: ++id },
            udp(port, 53, Buffer.concat([m, Buffer.alloc(40), m])),
            [0, 40],
          ).map((p) => at.link(p)),
        ];
      }),
    );
    const port = at.forbid('another port of who is allowed');
    frames.push(
      at.frame(at.address('one'), udp(at.port(), 54, port)),
      at.frame(at.address('one'), tcp(at.port(), 81, port)),
    );
    // To a Service, from ports that a direct flow and a flow to another Service have as well.
    const service = at.forbid('through a Service', at.atDenied);
    for (let i = 0; i < 12; i++) {
      const source = at.port();
      for (const bad of at.denied.slice(0, 3)) frames.push(at.frame(at.address(bad), udp(source, 8080, service)));
      for (const vip of ['all', 'some', 'own', 'some'])
        frames.push(
          at.frame(at.address(vip), udp(source, 80, service)),
          at.frame(at.address(vip), tcp(source, 80, service)),
          at.frame(at.address(vip), tcp(source, 80, service, { flags: RST, seq: 1001 })),
        );
    }
    const control = at.control('what is allowed', 'wire');
    for (let i = 0; i < 4; i++) frames.push(at.frame(at.address('one'), udp(at.port(), 53, control)));
    await at.send(frames);
  },
};
