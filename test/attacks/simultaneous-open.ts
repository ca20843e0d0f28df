import type { Attack } from './attack.js';
import { ACK, ip, RST, SYN, tcp, type Transport, udp } from './craft.js';

export const attack: Attack = {
  name: 'simultaneous-open',
  tries: 'Waits for answers, resets and errors of denied hosts to things it never sent, and takes them for an opening.',
  async run(at) {
    const frames: Buffer[] = [];
    // Nothing of this opens a connection: a host answers so to what it did not ask for.
    const answers: readonly (readonly [string, (port: number) => Transport])[] = [
      ['SYN and ACK', (port) => tcp(8080, port, Buffer.alloc(0), { flags: SYN | ACK, ack: 1 })],
      ['RST', (port) => tcp(8080, port, Buffer.alloc(0), { flags: RST })],
      ['RST and ACK', (port) => tcp(8080, port, Buffer.alloc(0), { flags: RST | ACK, ack: 1 })],
      ['ACK', (port) => tcp(8080, port, Buffer.alloc(0), { flags: ACK, ack: 1 })],
      ['no flags', (port) => tcp(8080, port, Buffer.alloc(0), { flags: 0 })],
      ['SYN and RST', (port) => tcp(8080, port, Buffer.alloc(0), { flags: SYN | RST })],
    ];
    const two = at.address('two');
    for (const [name, answer] of answers) {
      for (const first of [true, false]) {
        const port = at.port();
        const marker = at.forbid(`${name}, ${first ? 'after' : 'before'} its own SYN`);
        if (first) await at.send([at.frame(two, tcp(port, 8080, marker))]);
        await at.bed.fromInternet(at.own, ip({ src: two, dst: at.own }, answer(port)));
        await at.settle();
        frames.push(
          at.frame(two, tcp(port, 8080, marker)),
          at.frame(two, tcp(port, 8080, marker, { flags: ACK, ack: 2 })),
          at.frame(two, tcp(port, 8080, marker, { flags: SYN | ACK, ack: 2 })),
        );
      }
    }
    // The other protocol of the same ports opens nothing either.
    const port = at.port();
    await at.bed.fromInternet(at.own, ip({ src: two, dst: at.own }, tcp(8080, port, Buffer.alloc(0))));
    await at.settle();
    frames.push(at.frame(two, udp(port, 8080, at.forbid('UDP after a SYN came in'))));
    frames.push(
      at.frame(two, tcp(port + 1, 8080, at.forbid('another port after a SYN came in'), { flags: ACK, ack: 1 })),
    );
    frames.push(at.frame(two, tcp(port, 8080, at.forbid('a SYN of its own after a SYN came in'), { flags: SYN })));
    const control = at.control('who did open is answered', 'wire');
    frames.push(at.frame(two, tcp(port, 8080, control, { flags: ACK, seq: 1, ack: 1001 })));
    await at.send(frames);
  },
};
