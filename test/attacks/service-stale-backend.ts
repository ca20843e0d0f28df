import type { Attack } from './attack.js';
import { egressPolicy, toApp, toServer } from '../netns/policies.js';
import { tcp, udp } from './craft.js';

const VIP = { 4: '10.96.0.50', 6: 'fd00:96::50' } as const;
const EMPTY = { 4: '10.96.0.51', 6: 'fd00:96::51' } as const;

/** A Service as the API server shows it: one backend, or none, of those who are allowed. */
function shown(name: string, vips: readonly string[], backends: readonly string[]): object[] {
  const ports = ['TCP', 'UDP'].map((protocol) => ({
    name: protocol.toLowerCase(),
    port: 80,
    protocol,
    targetPort: 8080,
  }));
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace: 'default' },
      spec: { clusterIP: vips[0], clusterIPs: vips, ports },
    },
    ...(['IPv4', 'IPv6'] as const).map((addressType) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: `${name}-${addressType.toLowerCase()}`,
        namespace: 'default',
        labels: { 'kubernetes.io/service-name': name },
      },
      addressType,
      ports: ports.map((p) => ({ name: p.name, port: p.targetPort, protocol: p.protocol })),
      endpoints: backends
        .filter((b) => b.includes(':') === (addressType === 'IPv6'))
        .map((b) => ({ addresses: [b], conditions: { ready: true } })),
    })),
  ];
}

export const attack: Attack = {
  name: 'service-stale-backend',
  tries:
    'Uses a Service all of whose backends are allowed while the node still sends some of its connections to a former, denied one.',
  policies: () => [
    egressPolicy('attacker', 'attacker', [
      toServer('one', 'udp/53'),
      toApp('good'),
      { to: [{ ipBlock: { cidr: '10.96.0.0/16' } }, { ipBlock: { cidr: 'fd00:96::/64' } }] },
    ]),
  ],
  async run(at) {
    const { bed } = at;
    const good = [bed.address('good-far', 4), bed.address('good-far', 6)];
    await bed.agent.apply('stale.yaml', [
      ...shown('stale', [VIP[4], VIP[6]], good),
      ...shown('stale-empty', [EMPTY[4], EMPTY[6]], []),
    ]);
    at.after(() => bed.agent.apply('stale.yaml', []));
    for (const [what, vip] of [
      ['one allowed backend', VIP[at.family]],
      ['no backend', EMPTY[at.family]],
    ] as const) {
      for (const to of ['bad-far', 'bad-near']) {
        for (const proto of ['udp', 'tcp'])
          at.after(await bed.translate(at.family, vip, proto, 80, at.address(to), 8080));
        for (const [name, l4] of [
          ['UDP', udp],
          ['TCP', tcp],
        ] as const) {
          const marker = at.forbid(`${name}, ${what}, really ${to}`, at.atDenied);
          await at.send([at.frame(vip, l4(at.port(), 80, marker))]);
        }
        await at.undo(2);
      }
    }
    for (const proto of ['udp', 'tcp'])
      at.after(
        await bed.translate(at.family, VIP[at.family], proto, 80, good[at.family === 4 ? 0 : 1] as string, 8080),
      );
    await at.send([at.frame(VIP[at.family], udp(at.port(), 80, at.control('an allowed backend', 'good-far')))]);
  },
};
