import type { Attack } from './attack.js';
import { egressPolicy, toApp, toServer } from '../netns/policies.js';
import { STANDARD } from './bed.js';
import { ACK, be32, echo, fragments, icmp, ip, RST, SYN, tcp, udp } from './craft.js';

const GENEROUS = [
  egressPolicy('attacker', 'attacker', [toServer('one'), toServer('two'), toApp('bad'), toApp('good')]),
];

export const attack: Attack = {
  name: 'stale-flows',
  tries:
    'Opens flows of all kinds while they are allowed, and goes on with them, their fragments and errors when they are not.',
  async run(at) {
    await at.bed.policies(GENEROUS);
    let id = Math.floor(Math.random() * 60000);
    const before: Buffer[] = [];
    const after: Buffer[] = [];
    for (const [i, to] of at.denied.entries()) {
      const dst = at.address(to);
      const port = at.port();
      const allowed = () => (i === 0 ? at.control('while it is allowed', at.seenAt(to)) : Buffer.alloc(8));
      before.push(
        at.frame(dst, udp(port, 8080, allowed())),
        at.frame(dst, tcp(port, 8080, Buffer.alloc(0))),
        at.frame(dst, echo(at.family, port, Buffer.alloc(8))),
      );
      const whole = udp(port, 8081, Buffer.concat([Buffer.alloc(56), at.forbid(`the later fragment, to ${to}`)]));
      const pieces = fragments({ src: at.own, dst, id: ++id }, whole, [0, 32]).map((p) => at.link(p));
      before.push(pieces[0] as Buffer);
      after.push(pieces[1] as Buffer);
      after.push(
        at.frame(dst, udp(port, 8080, at.forbid(`UDP, to ${to}`))),
        at.frame(dst, tcp(port, 8080, at.forbid(`TCP ACK, to ${to}`), { flags: ACK, ack: 1, seq: 1001 })),
        at.frame(dst, tcp(port, 8080, at.forbid(`TCP RST, to ${to}`), { flags: RST, seq: 1001 })),
        at.frame(dst, tcp(port, 8080, at.forbid(`TCP SYN again, to ${to}`), { flags: SYN })),
        at.frame(dst, echo(at.family, port, at.forbid(`an echo, to ${to}`))),
      );
      const quoted = ip({ src: dst, dst: at.own }, udp(8080, port, Buffer.alloc(8)));
      const error =
        at.family === 4
          ? icmp(4, 3, 3, be32(0), Buffer.concat([quoted, at.forbid(`an error, to ${to}`)]))
          : icmp(6, 1, 4, be32(0), Buffer.concat([quoted, at.forbid(`an error, to ${to}`)]));
      after.push(at.frame(dst, error));
    }
    // Through a Service all of whose backends are allowed for now.
    const service = at.forbid('through a Service', at.atDenied);
    for (let i = 0; i < 8; i++) {
      const port = at.port();
      before.push(at.frame(at.address('some'), udp(port, 80, Buffer.alloc(8))));
      after.push(at.frame(at.address('some'), udp(port, 80, service)));
    }
    await at.send(before);
    await at.bed.policies(STANDARD);
    await at.send(after);
    // A peer that was allowed goes on sending: that does not make it one who opened.
    const two = at.address('two');
    const port = at.port();
    await at.bed.policies(GENEROUS);
    await at.send([at.frame(two, udp(port, 443, Buffer.alloc(8)))]);
    await at.bed.policies(STANDARD);
    const reply = ip({ src: two, dst: at.own }, udp(443, port, Buffer.alloc(8)));
    for (let i = 0; i < 4; i++) {
      await at.bed.fromInternet(at.own, reply);
      await at.send([at.frame(two, udp(port, 443, at.forbid('the peer goes on sending')))]);
    }
  },
};
