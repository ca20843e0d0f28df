import type { Attack } from './attack.js';
import { RST, tcp, type Transport, udp } from './craft.js';

/** As it is, but its checksum: connection tracking does not translate what is broken. */
function broken(frame: Buffer, at: number): Buffer {
  const out = Buffer.from(frame);
  out.writeUInt16BE(out.readUInt16BE(at) ^ 0x5555 || 1, at);
  return out;
}

export const attack: Attack = {
  name: 'service-untranslated',
  tries: 'Sends to Services what the node does not translate, so that it leaves by the default route as it is.',
  async run(at) {
    const l4at = 14 + (at.family === 4 ? 20 : 40);
    const frames: Buffer[] = [];
    for (const vip of ['some', 'none', 'own']) {
      const dst = at.address(vip);
      const shapes: readonly (readonly [string, Transport, number])[] = [
        ['UDP', udp(at.port(), 80, at.forbid(`UDP with a wrong checksum, ${vip}`)), 6],
        ['TCP', tcp(at.port(), 80, at.forbid(`TCP with a wrong checksum, ${vip}`)), 16],
        ['RST', tcp(at.port(), 80, at.forbid(`RST with a wrong checksum, ${vip}`), { flags: RST }), 16],
      ];
      for (const [, l4, field] of shapes) frames.push(broken(at.frame(dst, l4), l4at + field));
      frames.push(at.frame(dst, udp(at.port(), 81, at.forbid(`a port that it has not, ${vip}`))));
      frames.push(at.frame(dst, udp(at.port(), 8080, at.forbid(`its backends’ port, ${vip}`))));
      // A flow that was let through before.
      const port = at.port();
      const after = at.forbid(
        `after a flow that was translated, ${vip}`,
        (a) => a.place === 'wire' && a.frame.includes(Buffer.from([0, 80])) && vip !== 'own',
      );
      frames.push(
        at.frame(dst, tcp(port, 80, Buffer.alloc(0))),
        broken(at.frame(dst, tcp(port, 80, after)), l4at + 16),
      );
    }
    const control = at.control('a Service', `good-${at.style}`);
    for (let i = 0; i < 24; i++) frames.push(at.frame(at.address('all'), udp(at.port(), 80, control)));
    await at.send(frames);
  },
};
