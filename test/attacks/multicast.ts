import type { Attack } from './attack.js';
import { echo, multicastMac, raw, tcp, udp } from './craft.js';

export const attack: Attack = {
  name: 'multicast',
  tries: 'Speaks to everybody on the link: broadcast, subnet broadcast, multicast groups of both families, DHCP.',
  async run(at) {
    const four = at.family === 4;
    const groups = four
      ? [
          '255.255.255.255',
          '10.244.2.255',
          '10.244.1.255',
          '10.255.255.255',
          '224.0.0.1',
          '224.0.0.2',
          '224.0.0.22',
          '224.0.0.251',
          '239.255.255.250',
          '232.1.1.1',
          '240.0.0.1',
          '0.0.0.0',
        ]
      : [
          'ff02::1',
          'ff02::2',
          'ff02::16',
          'ff02::fb',
          'ff01::1',
          'ff05::1:3',
          'ff0e::101',
          'ff00::1',
          'ff3e::8000:1',
          'ff02::1:2',
          'ff02::1:ff00:9',
        ];
    const frames: Buffer[] = [];
    for (const group of groups) {
      const dst =
        four && (group.endsWith('255') || group.startsWith('0') || group.startsWith('24'))
          ? 'ff:ff:ff:ff:ff:ff'
          : multicastMac(group);
      for (const [name, mac] of [
        ['as a group', dst],
        ['to the gateway', at.me.link.dst],
        ['to everybody', 'ff:ff:ff:ff:ff:ff'],
      ] as const) {
        for (const src of [at.own, four ? '0.0.0.0' : 'fe80::7', ...(four ? [] : ['::'])]) {
          const marker = at.forbid(`${group} ${name}, from ${src === at.own ? 'itself' : src}`);
          frames.push(
            at.frame(group, udp(5353, 5353, marker), { src, ttl: 1 }, { dst: mac }),
            at.frame(group, udp(68, 67, marker), { src, ttl: 255 }, { dst: mac }),
            at.frame(group, tcp(at.port(), 80, marker), { src }, { dst: mac }),
            at.frame(group, echo(at.family, 9, marker), { src }, { dst: mac }),
            at.frame(group, raw(2, marker), { src, ttl: 1 }, { dst: mac }),
          );
        }
      }
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('to one', 'wire'))));
    await at.send(frames);
  },
};
