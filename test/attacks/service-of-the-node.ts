import type { Attack } from './attack.js';
import { udp, tcp } from './craft.js';

const VIP = { 4: '10.96.0.70', 6: 'fd00:96::70' } as const;
const PORT = 9099;

export const attack: Attack = {
  name: 'service-of-the-node',
  tries: 'Reaches the node, which a cluster policy denies, through a Service that has the node beside an allowed pod.',
  policies: () => [
    {
      apiVersion: 'policy.networking.k8s.io/v1alpha2',
      kind: 'ClusterNetworkPolicy',
      metadata: { name: 'no-nodes' },
      spec: {
        tier: 'Admin',
        priority: 10,
        subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: 'attacker' } } } },
        egress: [{ name: 'no-nodes', action: 'Deny', to: [{ nodes: { matchLabels: {} } }] }],
      },
    },
  ],
  async run(at) {
    const { bed } = at;
    await bed.watchNode('node-ports', [], [PORT]);
    await bed.world.service({
      name: 'node-too',
      vips: [VIP[4], VIP[6]],
      ports: (['TCP', 'UDP'] as const).map((protocol) => ({
        name: protocol.toLowerCase(),
        port: 80,
        protocol,
        targetPort: PORT,
      })),
      backends: ['good-far', 'a'].flatMap((n) => [bed.address(n, 4), bed.address(n, 6)]),
    });
    await bed.agent.settled();
    const atNode = (a: { place: string }) => a.place === 'node-ports';
    const frames = [at.frame(at.address('a'), udp(at.port(), PORT, at.forbid('directly', atNode)))];
    const marker = at.forbid('through the Service', atNode);
    for (let i = 0; i < 12; i++)
      frames.push(
        at.frame(VIP[at.family], udp(at.port(), 80, marker)),
        at.frame(VIP[at.family], tcp(at.port(), 80, marker)),
      );
    // The Service as a whole may be denied; its allowed backend by itself is not.
    frames.push(at.frame(at.address('good-far'), udp(at.port(), 8080, at.control('the allowed backend', 'good-far'))));
    await at.send(frames);
  },
};
