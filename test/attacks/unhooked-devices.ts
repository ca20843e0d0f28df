import type { Attack } from './attack.js';
import type { Bed } from './bed.js';
import { Host } from '../netns/host.js';
import { tcp, udp } from './craft.js';

const NET = { 4: '172.31.9', 6: 'fd00:31:9:' } as const;
const VIP = { 4: '10.96.0.60', 6: 'fd00:96::60' } as const;

/** Addresses of the pod that is not known, by the bed that it is in. */
const strangers = new WeakMap<Bed, readonly string[]>();

export const attack: Attack = {
  name: 'unhooked-devices',
  tries: 'Asks for a Service with a denied backend behind a device of the node that is neither a pod’s nor an uplink.',
  async run(at) {
    const { bed } = at;
    const { world } = bed;
    // Once for each bed: a network of the node's own, as another container engine has, with somebody in it.
    if (!bed.has('bad-beside')) {
      const host = await Host.create(`${world.prefix}-beside`);
      world.onClose(() => host.close());
      await world.node.ip([
        `link add beside type veth peer name eth0 netns ${host.netns}`,
        `addr add ${NET[4]}.1/24 dev beside`,
        `addr add ${NET[6]}:1/64 dev beside nodad`,
        'link set beside up',
      ]);
      await host.ip([
        `addr add ${NET[4]}.2/24 dev eth0`,
        `addr add ${NET[6]}:2/64 dev eth0 nodad`,
        'link set eth0 up',
        `route add default via ${NET[4]}.1`,
        `route add ::/0 via ${NET[6]}:1`,
      ]);
      await bed.watch('bad-beside', host.netns, ['eth0']);
    }
    // And a pod of the node's that nothing told the agent of.
    if (!bed.has('bad-unknown')) {
      const unknown = await world.podNamespace('unknown');
      world.onClose(() => unknown.host.close());
      await bed.watch('bad-unknown', unknown.host.netns, ['eth0']);
      strangers.set(bed, [unknown.ip4, unknown.ip6]);
    }
    const backend = { 4: `${NET[4]}.2`, 6: `${NET[6]}:2` } as const;
    const service = {
      name: 'beside',
      vips: [VIP[4], VIP[6]],
      ports: (['TCP', 'UDP'] as const).map((protocol) => ({
        name: protocol.toLowerCase(),
        port: 80,
        protocol,
        targetPort: 8080,
      })),
      backends: [
        bed.address('good-far', 4),
        bed.address('good-far', 6),
        backend[4],
        backend[6],
        ...(strangers.get(bed) ?? []),
      ],
    };
    await world.service(service);
    await bed.agent.settled();
    const frames: Buffer[] = [];
    for (const [name, l4] of [
      ['UDP', udp],
      ['TCP', tcp],
    ] as const) {
      const direct = at.forbid(`${name}, directly`, at.atDenied);
      frames.push(at.frame(backend[at.family], l4(at.port(), 8080, direct)));
      const marker = at.forbid(`${name}, through the Service`, at.atDenied);
      for (let i = 0; i < 18; i++) frames.push(at.frame(VIP[at.family], l4(at.port(), 80, marker)));
    }
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('to a server', 'wire'))));
    await at.send(frames);
  },
};
