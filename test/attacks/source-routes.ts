import type { Attack } from './attack.js';
import { addr, be16, tcp, udp } from './craft.js';

const LENIENT = ['all', 'default', 'eth0'].map((d) => `net.ipv4.conf.${d}.accept_source_route`);

export const attack: Attack = {
  name: 'source-routes',
  tries: 'Names a denied place as a later hop in IPv4 source route options, with an allowed one as the destination.',
  families: [4],
  async run(at) {
    const { node } = at.bed.world;
    const device = at.me.pod.bridge ?? at.me.pod.device;
    const names = [...LENIENT, `net.ipv4.conf.${device}.accept_source_route`];
    await node.run('sysctl', ['-qw', ...names.map((n) => `${n}=1`)]);
    at.after(() => node.run('sysctl', ['-qw', ...names.map((n) => `${n}=0`)]));
    const frames: Buffer[] = [];
    const route = (kind: number, pointer: number, hops: readonly string[]) => {
      const body = Buffer.concat([Buffer.from([kind, 3 + hops.length * 4, pointer]), ...hops.map(addr)]);
      return Buffer.concat([Buffer.alloc((4 - (body.length % 4)) % 4, 1), body]);
    };
    for (const [name, kind] of [
      ['loose', 131],
      ['strict', 137],
    ] as const) {
      for (const via of ['a', 'one', 'open', 'good-far']) {
        for (const to of at.denied) {
          const marker = at.forbid(`${name}, by way of ${via}, to ${to}`);
          for (const pointer of [4, 8]) {
            const options = route(kind, pointer, pointer === 4 ? [at.address(to)] : [at.own, at.address(to)]);
            frames.push(
              at.frame(at.address(via), udp(at.port(), via === 'good-far' ? 8080 : 53, marker), { options }),
              at.frame(at.address(via), tcp(at.port(), via === 'good-far' ? 8080 : 80, marker), { options }),
            );
          }
        }
      }
      // At its end the route is only a record; it is still not what a host sends.
      const done = at.forbid(`${name}, at its end`);
      frames.push(
        at.frame(at.address('one'), udp(at.port(), 53, done), { options: route(kind, 8, [at.address('two')]) }),
      );
    }
    const broken = at.forbid('behind an option without an end');
    frames.push(
      at.frame(at.address('one'), udp(at.port(), 53, broken), {
        options: Buffer.concat([
          Buffer.from([7, 7, 4]),
          addr(at.own),
          Buffer.from([131, 7, 4]),
          addr(at.address('two')).subarray(0, 2),
        ]),
      }),
    );
    const long = at.forbid('behind an option longer than the header', () => false);
    frames.push(
      at.frame(at.address('one'), udp(at.port(), 53, long), {
        options: Buffer.concat([Buffer.from([7, 39, 4]), Buffer.alloc(1), be16(0, 0)]),
      }),
    );
    const record = at.control('with a recorded route', 'wire');
    const options = Buffer.concat([Buffer.from([1, 7, 7, 4]), Buffer.alloc(4)]);
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, record), { options }));
    await at.send(frames);
  },
};
