import type { Attack } from './attack.js';
import { egressPolicy, toApp, toServer } from '../netns/policies.js';
import { tcp, udp } from './craft.js';

const OUTSIDE = { 4: '198.51.100.50', 6: '2001:db8:50::50' } as const;

const LIMIT = 'the ports of other nodes';

/** A Service of type NodePort, as the API server shows it. */
function nodePorts(nodePort: number, backends: readonly string[]): object[] {
  const ports = ['TCP', 'UDP'].map((protocol) => ({
    name: protocol.toLowerCase(),
    port: 80,
    protocol,
    nodePort,
    targetPort: 8080,
  }));
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'by-node-port', namespace: 'default' },
      spec: { type: 'NodePort', clusterIP: '10.96.0.90', clusterIPs: ['10.96.0.90', 'fd00:96::90'], ports },
    },
    ...(['IPv4', 'IPv6'] as const).map((addressType) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: `by-node-port-${addressType.toLowerCase()}`,
        namespace: 'default',
        labels: { 'kubernetes.io/service-name': 'by-node-port' },
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
  name: 'host-ports',
  tries: 'Reaches denied pods through the node’s own host ports, node ports, and external addresses.',
  policies: () => [
    egressPolicy('attacker', 'attacker', [
      toServer('one', 'udp/53'),
      toApp('good'),
      { to: [{ ipBlock: { cidr: '10.0.0.0/24' } }, { ipBlock: { cidr: 'fd00::/64' } }] },
      { to: [{ ipBlock: { cidr: '198.51.100.0/24' } }, { ipBlock: { cidr: '2001:db8:50::/64' } }] },
    ]),
  ],
  async run(at) {
    const { bed } = at;
    const network = at.style === 'ptp' ? 1 : 2;
    const gateway = at.family === 4 ? `10.244.${network}.1` : `fd00:244:${network}::1`;
    let port = 8100;
    for (const [where, address] of [
      ['the node', at.address('a')],
      ['its address on the link', gateway],
      ['an external address', OUTSIDE[at.family]],
      ['the other node', at.address('b')],
    ] as const) {
      for (const to of ['bad-ptp', 'bad-bridge', 'bad-far']) {
        port++;
        for (const proto of ['udp', 'tcp'])
          at.after(await bed.translate(at.family, address, proto, port, at.address(to), 8080));
        const counts = at.atDenied;
        await at.send([
          at.frame(address, udp(at.port(), port, at.forbid(`UDP, a port of ${where}, to ${to}`, counts))),
          at.frame(address, tcp(at.port(), port, at.forbid(`TCP, a port of ${where}, to ${to}`, counts))),
        ]);
      }
    }
    // What another node translates for itself: whoever may talk to that node reaches what is behind its ports.
    const nodePort = 30080;
    await bed.agent.apply(
      'node-port.yaml',
      nodePorts(nodePort, [bed.address('bad-far', 4), bed.address('bad-far', 6)]),
    );
    at.after(() => bed.agent.apply('node-port.yaml', []));
    for (const proto of ['udp', 'tcp'])
      for (const p of [nodePort, nodePort + 1])
        at.after(
          await bed.translate(at.family, at.address('b'), proto, p, at.address('bad-far'), 8080, bed.world.nodeB),
        );
    const there = at.measure('a host port of the other node', LIMIT, at.atDenied);
    await at.send([
      at.frame(
        at.address('b'),
        udp(at.port(), nodePort, at.measure('UDP, a node port of the other node', LIMIT, at.atDenied)),
      ),
      at.frame(
        at.address('b'),
        tcp(at.port(), nodePort, at.measure('TCP, a node port of the other node', LIMIT, at.atDenied)),
      ),
      at.frame(at.address('b'), udp(at.port(), nodePort + 1, there)),
    ]);
    port++;
    at.after(await bed.translate(at.family, at.address('a'), 'udp', port, at.address('good-far'), 8080));
    await at.send([at.frame(at.address('a'), udp(at.port(), port, at.control('an allowed pod', 'good-far')))]);
  },
};
