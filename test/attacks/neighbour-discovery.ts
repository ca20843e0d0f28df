import type { Attack } from './attack.js';
import { addr, be16, be32, extension, icmp, mac, multicastMac, ndOption, solicited, udp } from './craft.js';

export const attack: Attack = {
  name: 'neighbour-discovery',
  tries:
    'Advertises itself as a router and as its neighbours, redirects, and hides bytes in options and listener reports.',
  families: [6],
  async run(at) {
    const link = at.me.link;
    const network = at.style === 'ptp' ? 1 : 2;
    const gateway = `fd00:244:${network}::1`;
    const neighbour = at.address('bad-near');
    const gatewayLocal = await at.bed.linkLocalOfGateway(at.me.pod);
    const frames: Buffer[] = [];
    const own = ndOption(2, mac(link.src));
    const source = ndOption(1, mac(link.src));
    const local = 'fe80::77';
    const group = (ip: string) => ({ dst: multicastMac(ip) });
    const marked = (variant: string) => {
      const marker = at.forbid(variant);
      return ndOption(253, Buffer.concat([marker, Buffer.alloc(6)]));
    };
    for (const src of [at.own, local, '::', gateway, neighbour, gatewayLocal]) {
      for (const dst of ['ff02::1', neighbour, 'fe80::1']) {
        const f = { src, ttl: 255 };
        const l = dst === 'ff02::1' ? group(dst) : {};
        const from = src === at.own ? 'itself' : src;
        const prefix = Buffer.concat([Buffer.from([64, 0xc0]), be32(600, 600, 0), addr('2001:db8:bad::')]);
        const ra = Buffer.concat([
          be32(0, 0),
          source,
          ndOption(3, prefix),
          marked(`router advertisement, from ${from}, to ${dst}`),
        ]);
        frames.push(at.frame(dst, icmp(6, 134, 0, be32(0x40000708), ra), f, l));
        const redirect = Buffer.concat([
          addr(at.own),
          addr(at.address('two')),
          own,
          marked(`redirect, from ${from}, to ${dst}`),
        ]);
        frames.push(at.frame(dst, icmp(6, 137, 0, be32(0), redirect), f, l));
        for (const [name, target] of [
          ['the gateway', gateway],
          ['a neighbour', neighbour],
          ['another node', at.address('b')],
          ['a governed neighbour', at.colluder.address(6)],
          ['the gateway’s link-local address', gatewayLocal],
        ] as const) {
          const na = Buffer.concat([addr(target), own, marked(`advertised as ${name}, from ${from}, to ${dst}`)]);
          frames.push(at.frame(dst, icmp(6, 136, 0, be32(0xe0000000), na), f, l));
          const plain = at.forbid(`as ${name}, no other option, from ${from}, to ${dst}`, () => true, 6);
          frames.push(
            at.frame(dst, icmp(6, 136, 0, be32(0x60000000), Buffer.concat([addr(target), ndOption(2, plain)])), f, l),
          );
        }
        // Questions with more in them than questions have.
        const ask = at.forbid(`a question with an unknown option, from ${from}, to ${dst}`);
        frames.push(
          at.frame(
            dst,
            icmp(
              6,
              135,
              0,
              be32(0),
              Buffer.concat([addr(neighbour), source, ndOption(253, Buffer.concat([ask, Buffer.alloc(6)]))]),
            ),
            f,
            l,
          ),
        );
        const behind = at.forbid(`bytes behind a question, from ${from}, to ${dst}`);
        frames.push(
          at.frame(
            dst,
            icmp(6, 135, 0, be32(0), Buffer.concat([addr(neighbour), source, Buffer.alloc(3), behind])),
            f,
            l,
          ),
        );
        const long = at.forbid(`a question of many options, from ${from}, to ${dst}`);
        frames.push(
          at.frame(
            dst,
            icmp(
              6,
              135,
              0,
              be32(0),
              Buffer.concat([addr(neighbour), ndOption(1, Buffer.concat([mac(link.src), long, Buffer.alloc(200)]))]),
            ),
            f,
            l,
          ),
        );
        const rs = at.forbid(`router solicitation with more, from ${from}, to ${dst}`);
        frames.push(
          at.frame(
            dst,
            icmp(6, 133, 0, be32(0), Buffer.concat([ndOption(253, Buffer.concat([rs, Buffer.alloc(6)]))])),
            f,
            l,
          ),
        );
        const reserved = at.forbid(`an advertisement with a code, from ${from}, to ${dst}`);
        frames.push(
          at.frame(dst, icmp(6, 136, 7, be32(0x60000000), Buffer.concat([addr(at.own), ndOption(2, reserved)])), f, l),
        );
      }
    }
    // In the name of the gateway's link-local address, which is where many pods' default route goes.
    for (const [name, src, target, option] of [
      ['a question by the gateway', gatewayLocal, neighbour, 1],
      ['a question by nobody for the gateway', '::', gatewayLocal, 1],
    ] as const) {
      const to = solicited(target);
      const six = at.forbid(`${name}, at another MAC`, () => true, 6);
      frames.push(
        at.frame(
          to,
          icmp(6, 135, 0, be32(0), Buffer.concat([addr(target), ndOption(option, six)])),
          { src, ttl: 255 },
          group(to),
        ),
      );
    }
    const honestly = ndOption(1, mac(link.src));
    const asks = Buffer.concat([addr(neighbour), honestly]);
    frames.push(
      at.frame(
        solicited(neighbour),
        icmp(6, 135, 0, be32(0), asks),
        { src: gatewayLocal, ttl: 255 },
        group(solicited(neighbour)),
      ),
    );
    const says = Buffer.concat([addr(gatewayLocal), ndOption(2, mac(link.src))]);
    for (const src of [at.own, local, gatewayLocal])
      frames.push(at.frame('ff02::1', icmp(6, 136, 0, be32(0x20000000), says), { src, ttl: 255 }, group('ff02::1')));
    // Listener reports with more than groups in them.
    const alert = [[0, extension(0, Buffer.from([5, 2, 0, 0, 1, 0]))] as const];
    const record = (aux: Buffer, sources: readonly Buffer[]) =>
      Buffer.concat([Buffer.from([4, aux.length / 4]), be16(sources.length), addr('ff02::1:ff00:77'), ...sources, aux]);
    const pad16 = (m: Buffer) => Buffer.concat([m, Buffer.alloc(8)]);
    const shapes: readonly (readonly [string, (m: Buffer) => Buffer])[] = [
      ['auxiliary data', (m) => record(m, [])],
      ['sources', (m) => record(Buffer.alloc(0), [pad16(m)])],
      ['bytes behind it', (m) => Buffer.concat([record(Buffer.alloc(0), []), m])],
    ];
    for (const [name, make] of shapes) {
      for (const dst of ['ff02::16', 'ff02::1', 'ff02::1:ff00:9']) {
        const marker = at.forbid(`listener report with ${name}, to ${dst}`);
        const report = icmp(6, 143, 0, be16(0, 1), make(marker));
        frames.push(at.frame(dst, report, { src: local, ttl: 1, extensions: alert }, group(dst)));
        const bare = at.forbid(`listener report with ${name}, no router alert, to ${dst}`);
        frames.push(at.frame(dst, icmp(6, 143, 0, be16(0, 1), make(bare)), { src: local, ttl: 1 }, group(dst)));
      }
    }
    // Which groups it listens to only the pod knows; nobody can say whether it does.
    const groups = at.measure('in the number of a group', 'numbers of multicast groups');
    const listens = Buffer.concat([Buffer.from([4, 0]), be16(0), Buffer.from([0xff, 0x02, 0, 0, 0, 0, 0, 0]), groups]);
    frames.push(
      at.frame(
        'ff02::16',
        icmp(6, 143, 0, be16(0, 1), listens),
        { src: local, ttl: 1, extensions: alert },
        group('ff02::16'),
      ),
    );
    for (const type of [130, 131, 132]) {
      const marker = at.forbid(`listener message ${type} with bytes behind it`);
      const body = Buffer.concat([addr('ff02::1:ff00:77'), marker]);
      frames.push(
        at.frame(
          'ff02::1:ff00:77',
          icmp(6, type, 0, be32(0), body),
          { src: local, ttl: 1, extensions: alert },
          group('ff02::1:ff00:77'),
        ),
      );
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('a datagram', 'wire'))));
    if (at.style === 'bridge') {
      const to = solicited(at.address('good-bridge'));
      const ask = Buffer.concat([addr(at.address('good-bridge')), source]);
      at.control('an honest question', 'good-bridge', ask);
      frames.push(at.frame(to, icmp(6, 135, 0, be32(0), ask), { ttl: 255 }, group(to)));
    }
    await at.send(frames);
    for (const ip of [gatewayLocal]) {
      const { stdout } = await at.bed
        .pod('bad-bridge')
        .host.run('ip', ['-6', '-j', 'neigh', 'show', ip], { check: false });
      const [entry] = JSON.parse(stdout || '[]') as { lladdr?: string }[];
      if (entry?.lladdr === link.src) at.wrong(`a neighbour believes that ${ip} is at the attacker’s MAC`);
    }
    const believed = await at.bed
      .pod('bad-bridge')
      .host.run('ip', ['-6', '-j', 'neigh', 'show', gateway], { check: false });
    const [entry] = JSON.parse(believed.stdout || '[]') as { lladdr?: string }[];
    if (entry?.lladdr === link.src) at.wrong(`a neighbour believes that ${gateway} is at the attacker’s MAC`);
  },
};
