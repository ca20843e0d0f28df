import type { Attack } from './attack.js';
import { echo, SYN, ACK, tcp, udp } from './craft.js';

export const attack: Attack = {
  name: 'spoofed-sources',
  tries:
    'Sends in others’ names: neighbours’, the node’s, the gateway’s, strangers’, nobody’s; with own and others’ MACs.',
  async run(at) {
    const four = at.family === 4;
    const network = at.style === 'ptp' ? 1 : 2;
    const sources: readonly (readonly [string, string])[] = [
      ['a governed neighbour', at.colluder.address(at.family)],
      ['a free neighbour', at.address('bad-near')],
      ['an allowed pod', at.address('good-near')],
      ['a pod of another node', at.address('good-far')],
      ['the node', at.address('a')],
      ['the other node', at.address('b')],
      ['the gateway', four ? `10.244.${network}.1` : `fd00:244:${network}::1`],
      ['a server', at.address('one')],
      ['a Service', at.address('all')],
      ['a stranger', four ? '198.51.100.7' : '2001:db8:ffff::7'],
      ['loopback', four ? '127.0.0.1' : '::1'],
      ['broadcast', four ? '255.255.255.255' : 'ff02::1'],
      ['multicast', four ? '224.0.0.1' : 'ff0e::7'],
      ['link-local', four ? '169.254.7.7' : 'fe80::7'],
      ['nobody', four ? '0.0.0.0' : '::'],
      ['IPv4 in IPv6', four ? '0.0.0.1' : `::ffff:${at.me.address(4)}`],
    ];
    const bad = await at.bed.macOf('bad-bridge');
    const frames: Buffer[] = [];
    for (const [name, src] of sources) {
      for (const dst of ['one', 'open', ...at.denied]) {
        // From nobody, and link-local, one may speak where everything may be sent: it is judged as any packet is.
        if (dst === 'open' && (name === 'nobody' || name === 'link-local')) continue;
        if (dst === 'one' && name === 'nobody') continue;
        const marker = at.forbid(`from ${name}, to ${dst}`);
        const port = dst === 'one' ? 53 : 8080;
        frames.push(
          at.frame(at.address(dst), udp(at.port(), port, marker), { src }),
          at.frame(at.address(dst), tcp(at.port(), dst === 'one' ? 80 : port, marker, { flags: SYN }), { src }),
          at.frame(at.address(dst), tcp(port, at.port(), marker, { flags: SYN | ACK, ack: 1 }), { src }),
          at.frame(at.address(dst), echo(at.family, 3, marker), { src }),
        );
      }
    }
    for (const [name, mac] of [
      ['the neighbour’s', bad],
      ['the gateway’s', at.me.link.dst],
      ['nobody’s', '00:00:00:00:00:00'],
      ['everybody’s', 'ff:ff:ff:ff:ff:ff'],
      ['a group’s', '01:00:5e:00:00:01'],
      ['one off', at.me.link.src.replace(/.$/, (c) => (c === '0' ? '1' : '0'))],
    ] as const) {
      const marker = at.forbid(`from ${name} MAC`);
      frames.push(at.frame(at.address('one'), udp(at.port(), 53, marker), {}, { src: mac }));
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('in its own name', 'wire'))));
    await at.send(frames);
  },
};
