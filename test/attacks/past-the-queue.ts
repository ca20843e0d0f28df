import type { Attack } from './attack.js';
import { ip, tcp, udp } from './craft.js';

/** A raw socket that writes its own IP header, and the mark, the priority and the device that root may choose. */
const RAW = `
family = socket.AF_INET6 if ":" in to else socket.AF_INET
for protocol in (255,):
    with socket.socket(family, socket.SOCK_RAW, protocol) as s:
        for level, name, value in ((1, 36, 0x4000), (1, 36, 0x8000), (1, 12, 6), (1, 25, b"eth0\\0")):
            try:
                s.setsockopt(level, name, value)
            except OSError:
                pass
            try:
                s.sendto(bytes.fromhex(packet), (to, 0))
            except OSError:
                pass
`;

export const attack: Attack = {
  name: 'past-the-queue',
  tries:
    'Sends past its own queues and hooks, with marks that the node’s own rules use, and with filters of its own in the way.',
  async run(at) {
    const make = (variant: string) =>
      at.toDenied(variant, (dst, m) => [
        at.frame(dst, udp(at.port(), 8080, m)),
        at.frame(dst, tcp(at.port(), 8080, m)),
      ]);
    await at.send(make('past the queue'), { bypass: true });
    const control = at.control('past the queue, allowed', 'wire');
    await at.send([at.frame(at.address('one'), udp(at.port(), 53, control))], { bypass: true });
    for (const to of at.denied) {
      const dst = at.address(to);
      const packet = ip({ src: at.own, dst }, udp(at.port(), 8080, at.forbid(`with marks, to ${to}`)));
      await at.me.program(RAW, { to: dst, packet: packet.toString('hex') });
    }
    // The pod's own hooks, marks and rules are of its namespace.
    const tc = (...args: string[]) => at.me.pod.host.run('tc', args, { check: false });
    await tc('qdisc', 'add', 'dev', 'eth0', 'clsact');
    await tc(
      'filter',
      'add',
      'dev',
      'eth0',
      'egress',
      'matchall',
      'action',
      'skbedit',
      'mark',
      '0x4000',
      'priority',
      '7',
    );
    at.after(() => tc('qdisc', 'del', 'dev', 'eth0', 'clsact'));
    await at.send(make('by way of a filter of its own'));
  },
};
