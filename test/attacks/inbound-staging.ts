import type { Attack } from './attack.js';
import { ACK, be32, echo, eth, fragments, icmp, ip, IPV4, IPV6, SYN, tcp, udp } from './craft.js';

export const attack: Attack = {
  name: 'inbound-staging',
  tries: 'Makes it look as if denied hosts had opened connections to it, then answers them.',
  async run(at) {
    const type = at.family === 4 ? IPV4 : IPV6;
    const { me, colluder } = at;
    const toMe = (src: string, l4: ReturnType<typeof udp>) => ip({ src, dst: at.own }, l4);
    for (const to of at.denied) {
      const peer = at.address(to);
      const port = at.port();
      const opens = [
        udp(8080, port, Buffer.alloc(8)),
        tcp(8080, port, Buffer.alloc(0), { flags: SYN }),
        echo(at.family, port, Buffer.alloc(8)),
      ];
      const answers = (marker: Buffer) => [
        at.frame(peer, udp(port, 8080, marker)),
        at.frame(peer, tcp(port, 8080, marker, { flags: SYN | ACK, ack: 1001 })),
        at.frame(peer, tcp(port, 8080, marker, { flags: ACK, ack: 1001 })),
        at.frame(
          peer,
          icmp(at.family, at.family === 4 ? 0 : 129, 0, Buffer.from([port >> 8, port & 255, 0, 1]), marker),
        ),
      ];
      // Through its own interface: to the gateway, to itself, to everybody.
      await at.send(
        opens.flatMap((l4) =>
          [me.link.dst, me.link.src, 'ff:ff:ff:ff:ff:ff'].map((dst) => at.link(toMe(peer, l4), { dst })),
        ),
      );
      await at.send(answers(at.forbid(`by itself, ${to}`)));
      // Through a governed neighbour: by way of the gateway, and straight on a bridge.
      for (const dst of [colluder.link.dst, me.link.src])
        await at.send(
          opens.map((l4) => eth({ src: colluder.link.src, dst }, type, toMe(peer, l4))),
          {},
          colluder,
        );
      const theirs = to === 'two' ? colluder.link.dst : await at.bed.macOf(to);
      await at.send(
        opens.map((l4) => eth({ src: theirs, dst: me.link.src }, type, toMe(peer, l4))),
        {},
        colluder,
      );
      await at.send(answers(at.forbid(`by a governed neighbour, ${to}`)));
      // By errors about what nobody sent, from itself and from the neighbour.
      const quoted = ip({ src: peer, dst: at.own }, udp(8080, port, Buffer.alloc(8)));
      const error = icmp(at.family, at.family === 4 ? 3 : 1, at.family === 4 ? 3 : 4, be32(0), quoted);
      await at.send([at.frame(at.own, error), at.frame(peer, error)]);
      await at.send(answers(at.forbid(`by an error, ${to}`)));
    }
    // Through a neighbour whom no policy governs: it could pass on everything that it is told.
    for (const to of ['two', 'bad-far']) {
      const peer = at.address(to);
      const port = at.port();
      const helper = at.bed.pod(at.name('bad-near'));
      const opening = ip({ src: peer, dst: at.own }, udp(8080, port, Buffer.alloc(8)));
      await helper.host.call('frames', { frames: [await at.bed.frameOf(helper.name, opening, type)] });
      await at.settle();
      const marker = at.measure(`by a free neighbour, ${to}`, 'accomplices whom no policy governs');
      await at.send([at.frame(peer, udp(port, 8080, marker))]);
    }
    // Through Services: its own, where it is a backend; the neighbour asks for it as well.
    const port = at.port();
    await at.send([
      at.frame(at.address('own'), udp(port, 80, Buffer.alloc(8))),
      at.frame(at.address('own'), tcp(port, 80, Buffer.alloc(0))),
    ]);
    await at.send(
      [udp(port, 80, Buffer.alloc(8)), tcp(port, 80, Buffer.alloc(0))].map((l4) =>
        eth(colluder.link, type, ip({ src: colluder.address(at.family), dst: at.address('own') }, l4)),
      ),
      {},
      colluder,
    );
    const hairpin = at.forbid('through its own Service', at.atDenied);
    await at.send(Array.from({ length: 12 }, () => at.frame(at.address('own'), udp(at.port(), 80, hairpin))));
    for (const to of at.denied) {
      const marker = at.forbid(`after its own Service, ${to}`);
      await at.send([
        at.frame(at.address(to), udp(8080, port, marker)),
        at.frame(at.address(to), udp(80, port, marker)),
        at.frame(at.address(to), udp(port, 8080, marker)),
      ]);
    }
    // Who does open a connection is answered, in as many pieces as it takes.
    const near = at.bed.pod(at.name('good-near'));
    const asked = at.port();
    const question = ip({ src: at.address('good-near'), dst: at.own }, udp(9998, asked, Buffer.alloc(8)));
    await near.host.call('frames', { frames: [await at.bed.frameOf(near.name, question, type)] });
    await at.settle();
    const long = Buffer.concat([Buffer.alloc(56), at.control('a long answer to a neighbour', 'good-near')]);
    const pieces = fragments({ src: at.own, dst: at.address('good-near'), id: asked }, udp(asked, 9998, long), [0, 32]);
    await at.send(pieces.map((p) => at.link(p)));
    const open = at.port();
    const control = at.control('who opened it is answered', 'good-far');
    const good = at.bed.pod('good-far');
    await good.host.call('frames', {
      frames: [
        await at.bed.frameOf(
          'good-far',
          ip({ src: at.address('good-far'), dst: at.own }, udp(9999, open, Buffer.alloc(8))),
          type,
        ),
      ],
    });
    await at.settle();
    await at.send([at.frame(at.address('good-far'), udp(open, 9999, control))]);
  },
};
