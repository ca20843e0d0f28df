import { setTimeout as sleep } from 'node:timers/promises';
import type { Attack } from './attack.js';
import { ACK, PSH, tcp, udp } from './craft.js';

/** Longer than a closed connection is remembered. */
const ROUNDS = 14;

export const attack: Attack = {
  name: 'after-the-close',
  tries: 'Goes on answering a denied host after its connection has been closed by both.',
  styles: ['ptp'],
  families: [4],
  async run(at) {
    const port = at.port();
    await at.me.program(
      `s = socket.socket(socket.AF_INET6); s.bind(('::', port)); s.listen()
def serve():
    c, _ = s.accept()
    while c.recv(100): pass
    c.close()
    s.close()
threading.Thread(target=serve, daemon=True).start()`,
      { port },
    );
    const bad = at.bed.pod('bad-far');
    const connection = await bad.host.open(at.own, port, { proto: 'tcp' });
    await connection.close();
    await sleep(500);
    const to = at.address('bad-far');
    for (let i = 0; i < ROUNDS; i++) {
      await at.send([at.frame(to, tcp(port, connection.port, Buffer.alloc(8), { flags: ACK | PSH, seq: 7, ack: 1 }))]);
      await sleep(1000);
    }
    const marker = at.forbid('14 s after its end', at.atDenied);
    await at.send([at.frame(to, tcp(port, connection.port, marker, { flags: ACK | PSH, seq: 7, ack: 1 }))]);
    await at.send([at.frame(at.address('one'), udp(at.port(), 53, at.control('a datagram', 'wire')))]);
  },
};
