import type { Attack } from './attack.js';
import { echo, tcp, udp } from './craft.js';

export const attack: Attack = {
  name: 'special-addresses',
  tries:
    'Writes denied IPv4 addresses as IPv6 (mapped, 6to4, Teredo, NAT64, compatible), and loopback and link-local ones on the wire.',
  async run(at) {
    const hex = (name: string) =>
      at.bed
        .address(at.name(name), 4)
        .split('.')
        .map((n) => Number(n).toString(16).padStart(2, '0'));
    const forms = (name: string): readonly (readonly [string, string])[] => {
      const [a, b, c, d] = hex(name) as [string, string, string, string];
      const low = `${a}${b}:${c}${d}`;
      return [
        ['mapped', `::ffff:${low}`],
        ['compatible', `::${low}`],
        ['translated', `::ffff:0:${low}`],
        ['6to4', `2002:${low}::1`],
        ['NAT64', `64:ff9b::${low}`],
        ['local NAT64', `64:ff9b:1::${low}`],
        ['Teredo', `2001:0:${low}::1`],
        ['ISATAP', `fe80::5efe:${low}`],
      ];
    };
    const frames: Buffer[] = [];
    const add = (variant: string, dst: string, fields = {}) => {
      const marker = at.forbid(variant);
      for (const l4 of [
        udp(at.port(), 53, marker),
        tcp(at.port(), 80, marker),
        udp(at.port(), 8080, marker),
        echo(at.family, 1, marker),
      ])
        frames.push(at.frame(dst, l4, fields));
    };
    if (at.family === 6) {
      // The default route of the node is where they would leave by. Whom the pod may talk to as IPv4 it may not as that.
      for (const to of ['one', 'two', 'open', 'bad-near', 'good-far'])
        for (const [name, dst] of forms(to)) add(`${name} for ${to}`, dst);
      for (const [name, src] of forms('attacker-ptp')) add(`from ${name}`, at.address('one'), { src });
      for (const dst of ['::1', '::', 'fec0::1', 'fe80::1', 'fe80::a9fe:a9fe', 'fd00:ec2::254', '100::1', '3fff::1'])
        add(dst, dst);
    } else {
      for (const dst of [
        '127.0.0.1',
        '127.0.0.53',
        '127.255.255.254',
        '0.0.0.0',
        '0.1.2.3',
        '169.254.169.254',
        '169.254.1.1',
        '169.254.170.2',
        '192.0.0.8',
        '100.100.100.200',
        '198.18.0.1',
        '240.0.0.1',
        '192.88.99.1',
      ])
        add(dst, dst);
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('as it is', 'wire'))));
    await at.send(frames);
  },
};
