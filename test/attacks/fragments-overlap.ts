import type { Attack } from './attack.js';
import { be16, fragments, type IpFields, ip, SYN, tcp, udp, sealed } from './craft.js';

export const attack: Attack = {
  name: 'fragments-overlap',
  tries: 'Cuts datagrams so that what is put together again has another port than what was judged.',
  async run(at) {
    const frames: Buffer[] = [];
    let id = Math.floor(Math.random() * 60000);
    const dst = at.address('one');
    const piece = (f: Partial<IpFields>, asIs: Buffer, protocol = 17, to = dst) =>
      at.link(ip({ src: at.own, dst: to, id, ...f }, { protocol, asIs }));
    const first = (port: number) => Buffer.concat([be16(7, port, 40, 0), Buffer.alloc(8)]);
    // The first one names an allowed port; a second one writes another over it.
    const over = at.forbid('a second first');
    id++;
    frames.push(
      piece({ offset: 0, more: true }, first(53)),
      piece({ offset: 0, more: true }, Buffer.concat([be16(7, 54, 40, 0), over])),
    );
    const early = at.forbid('the denied first comes first');
    id++;
    frames.push(
      piece({ offset: 0, more: true }, Buffer.concat([be16(7, 54, 40, 0), early])),
      piece({ offset: 0, more: true }, first(53)),
    );
    const tiny = at.forbid('TCP: the flags in the second');
    id++;
    const segment = sealed(at.own, dst, tcp(9, 81, tiny));
    frames.push(
      piece({ offset: 0, more: true }, segment.subarray(0, 8), 6),
      piece({ offset: 8 }, segment.subarray(8), 6),
    );
    const within = at.forbid('TCP: written over within the header');
    id++;
    const allowed = sealed(at.own, dst, tcp(9, 80, Buffer.alloc(8), { flags: SYN }));
    frames.push(
      piece({ offset: 0, more: true }, allowed.subarray(0, 24), 6),
      piece({ offset: 8 }, Buffer.concat([Buffer.alloc(8), within]), 6),
    );
    // A later one without a first, and before it.
    frames.push(
      ...at.toDenied('a later one alone', (to, marker) => {
        id++;
        return piece({ offset: 1480 }, marker, 17, to);
      }),
      ...at.toDenied('all in order', (to, marker) => {
        const whole = udp(at.port(), 53, Buffer.concat([marker, Buffer.alloc(16), marker, Buffer.alloc(16), marker]));
        return fragments({ src: at.own, dst: to, id: ++id }, whole, [0, 24, 48]).map((p) => at.link(p));
      }),
      ...at.toDenied('the last first', (to, marker) => {
        const whole = udp(at.port(), 53, Buffer.concat([marker, Buffer.alloc(16), marker, Buffer.alloc(16), marker]));
        return fragments({ src: at.own, dst: to, id: ++id }, whole, [0, 24, 48])
          .map((p) => at.link(p))
          .reverse();
      }),
      ...at.toDenied('of every protocol, alone', (to, marker) =>
        [1, 6, 17, 47, 50, 58, 132, 253].map((p) => piece({ offset: 64, more: true, id: ++id }, marker, p, to)),
      ),
    );
    // The first one was allowed, to one place; the later one goes to another under the same number.
    id++;
    const firstToOne = piece({ offset: 0, more: true }, first(53));
    frames.push(
      firstToOne,
      ...at.toDenied('another’s later one', (to, marker) => piece({ offset: 16 }, marker, 17, to)),
    );
    const other = at.forbid('a later one of another protocol');
    frames.push(piece({ offset: 24 }, other, 6));
    // What is not allowed by port at all, later ones without a first.
    const alone = at.forbid('a later one where only ports are allowed');
    id++;
    frames.push(piece({ offset: 64 }, alone));
    const control = at.control('the later one of an allowed first', 'wire');
    id++;
    frames.push(piece({ offset: 0, more: true }, first(53)), piece({ offset: 16 }, control));
    await at.send(frames);
  },
};
