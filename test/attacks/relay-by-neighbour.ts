import type { Attack } from './attack.js';
import { eth, IPV4, IPV6, ip, udp } from './craft.js';

export const attack: Attack = {
  name: 'relay-by-neighbour',
  tries: 'Hands its packets to a governed neighbour, who forwards them: as they are, or in its own name.',
  async run(at) {
    const { colluder, me } = at;
    const { host } = colluder.pod;
    const six = at.family === 6;
    const type = six ? IPV6 : IPV4;
    const forwarding = six ? 'net.ipv6.conf.all.forwarding' : 'net.ipv4.ip_forward';
    await host.run('sysctl', ['-qw', `${forwarding}=1`]);
    at.after(() => host.run('sysctl', ['-qw', `${forwarding}=0`]));
    const frames = (variant: string) =>
      at.toDenied(variant, (dst, m) => [
        at.frame(dst, udp(at.port(), 8080, m), {}, { dst: colluder.link.src }),
        at.frame(colluder.address(at.family), {
          protocol: six ? 41 : 4,
          bytes: ip({ src: me.address(at.family), dst }, udp(at.port(), 8080, m)),
        }),
      ]);
    await at.send(frames('as they are'));
    const tables = six ? 'ip6tables' : 'iptables';
    await host.run(tables, ['-w', '-t', 'nat', '-A', 'POSTROUTING', '-j', 'MASQUERADE']);
    at.after(() => host.run(tables, ['-w', '-t', 'nat', '-F', 'POSTROUTING']));
    await at.send(frames('in its own name'));
    // The neighbour by itself, in both names.
    const all: Buffer[] = [];
    for (const src of [colluder.address(at.family), at.own])
      all.push(
        ...at.toDenied(`by itself as ${src === at.own ? 'the attacker' : 'itself'}`, (dst, m) =>
          eth(colluder.link, type, ip({ src, dst }, udp(at.port(), 8080, m))),
        ),
      );
    await at.send(all, {}, colluder);
    const control = at.control('to whom the neighbour may talk', 'good-far');
    await at.send([at.frame(at.address('good-far'), udp(at.port(), 8080, control))]);
  },
};
