/** Random clusters, random policies of all that the IR can say, random packets that meet their edges. */
import { toIr } from '../../src/dialects/index.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { Packet } from '../../src/ir/packet.js';
import type { LabelExpr, Peer } from '../../src/ir/peers.js';
import type { Action, Ir, IrPolicy, PolicyRef, PortMatch, Rule, RuleRef, Tier } from '../../src/ir/types.js';
import type { World } from '../engines/engine.js';
import { NODE_IP, namespace, pod, policy, snapshotOf } from '../policy/world.js';
import type { Random } from './random.js';
import { randomSaying, saidTexts, saying, speaking } from './sayings.js';

const CIDRS4 = [
  '0.0.0.0/0',
  '10.0.0.0/8',
  '10.244.0.0/24',
  '10.244.0.2/31',
  '10.244.0.3/32',
  '192.0.2.0/24',
  '192.0.2.128/25',
  '192.0.2.200/29',
];
const CIDRS6 = ['::/0', '2001:db8::/32', '2001:db8:1::/48', '2001:db8:1::42/128', 'fd00::/8'];
const ADDRESSES = [
  '0.0.0.1',
  '9.255.255.255',
  '10.0.0.0',
  '10.96.0.1',
  '10.96.0.2',
  '10.96.0.3',
  'fd00:96::1',
  '10.244.0.1',
  '10.244.0.2',
  '10.244.0.3',
  '10.244.0.4',
  '10.244.0.255',
  '10.244.1.0',
  '192.0.2.0',
  '192.0.2.127',
  '192.0.2.128',
  '192.0.2.199',
  '192.0.2.200',
  '192.0.2.207',
  '192.0.2.208',
  '192.168.0.1',
  '192.168.0.2',
  '255.255.255.255',
  '::1',
  '2001:db8::',
  '2001:db8:0:ffff::',
  '2001:db8:1::42',
  '2001:db8:1::43',
  '2001:db8:2::',
  '2001:db9::',
  'fd00::1',
  'fd00::2',
  'fd00::9',
  'fe00::1',
];
const PORTS = [1, 53, 79, 80, 81, 443, 444, 1023, 1024, 8080, 65534, 65535];
const PROTOCOLS = [6, 6, 6, 17, 17, 132, 1, 58, 47];
const APPS = ['web', 'db', 'ops'];

/** @param asking how many of a hundred rules ask what connections say */
export function randomWorld(r: Random, asking = 0): World {
  const text = cluster(r);
  if (r.chance(50)) {
    const policies = Array.from({ length: r.below(6) }, (_, n) => networkPolicy(r, n)).join('');
    const snapshot = snapshotOf(text + policies);
    return { snapshot, ir: toIr(snapshot).ir };
  }
  return { snapshot: snapshotOf(text), ir: randomIr(r, asking) };
}

/** @param ir what connections say is at the edges of what its rules ask for; absent: they say nothing */
export function randomPacket(r: Random, snapshot: Snapshot, ir?: Ir): Packet {
  const packet = silentPacket(r, snapshot);
  return ir ? speaking(r, snapshot, packet, textsOf(ir)) : packet;
}

const known = new WeakMap<Ir, ReturnType<typeof saidTexts>>();

function textsOf(ir: Ir): ReturnType<typeof saidTexts> {
  let texts = known.get(ir);
  if (!texts) known.set(ir, (texts = saidTexts(ir)));
  return texts;
}

function silentPacket(r: Random, snapshot: Snapshot): Packet {
  const from = r.pick([...snapshot.pods.keys()]);
  const services = [...snapshot.services.values()].filter((s) => s.vips.length > 0 && s.ports.length > 0);
  if (services.length > 0 && r.chance(12)) {
    const service = r.pick(services);
    const { protocol, port, nodePort } = r.pick(service.ports);
    if (nodePort && r.chance(30)) return { from, to: r.pick(snapshot.ownNode.ips), protocol, port: nodePort };
    return { from, to: r.pick(service.vips), protocol, port };
  }
  const protocol = r.pick(PROTOCOLS);
  const families = ADDRESSES.filter((a) =>
    protocol === 58 ? a.includes(':') : protocol === 1 ? !a.includes(':') : true,
  );
  const icmp = protocol === 1 || protocol === 58;
  const types =
    protocol === 1 ? [0, 8, 13, 3 * 256 + 4, 8 * 256, 8 * 256 + 1] : [128 * 256, 129 * 256, 1 * 256 + 4, 3 * 256];
  const fragment = r.chance(6) && !icmp;
  return {
    from,
    to: r.pick(families),
    protocol,
    port: fragment ? 0 : icmp ? r.pick(types) : protocol === 47 ? 0 : r.pick(PORTS),
    ...(fragment ? { fragment } : {}),
  };
}

function cluster(r: Random): string {
  const docs = [
    namespace('default', { env: r.pick(['prod', 'test']) }),
    namespace('other', { env: r.pick(['prod', 'test']) }),
  ];
  for (let n = 1; n <= 4; n++) {
    const ports = r.chance(60)
      ? [
          {
            name: 'p',
            ports: [
              { name: 'http', containerPort: r.pick([80, 8080]) },
              { name: 'dns', containerPort: 53, protocol: 'UDP' },
            ],
          },
        ]
      : [];
    const ips = r.chance(50) ? [`10.244.0.${n}`, `fd00::${n}`] : [`10.244.0.${n}`];
    const more = { containers: ports, ...(r.chance(5) ? { hostNetwork: true } : {}) };
    docs.push(pod(`${r.chance(75) ? 'default' : 'other'}/p${n}`, ips, r.chance(85) ? { app: r.pick(APPS) } : {}, more));
  }
  for (let n = 1; n <= 3; n++) {
    if (r.chance(30)) continue;
    const protocol = r.pick(['TCP', 'TCP', 'UDP', 'SCTP']);
    const clusterIPs = r.chance(40) ? [`10.96.0.${n}`, `fd00:96::${n}`] : [`10.96.0.${n}`];
    const ports = [{ port: 80, protocol, ...(r.chance(40) ? { nodePort: 30080 + r.below(2) } : {}) }];
    // Also what another Service has, and what the node does.
    const wanted = ['10.96.0.1', '10.96.0.2', '10.96.0.3', 'fd00:96::1', '192.0.2.130', NODE_IP];
    const externalIPs = r.chance(40) ? r.some(wanted, 2) : [];
    const made = r.chance(50) ? { creationTimestamp: `2026-01-0${r.below(3) + 1}T00:00:00Z` } : {};
    const spec = { clusterIPs, externalIPs, ports: r.chance(20) ? ports.map((p) => ({ ...p, port: 30080 })) : ports };
    docs.push(manifest('v1', 'Service', { namespace: 'default', name: `s${n}`, ...made }, { spec }));
    for (const [addressType, addresses] of [
      ['IPv4', ['10.244.0.1', '10.244.0.2', '10.244.0.3', '192.0.2.130', '10.244.1.9']],
      ['IPv6', ['fd00::1', 'fd00::2', '2001:db8:1::42', 'fe00::1']],
    ] as const) {
      const endpoints = r.some(addresses, 3).map((ip) => ({ addresses: [ip] }));
      const name = `s${n}-${addressType.toLowerCase()}`;
      const meta = { namespace: 'default', name, labels: { 'kubernetes.io/service-name': `s${n}` } };
      const slice = { addressType, ports: [{ name: '', port: r.pick([80, 8080]), protocol }], endpoints };
      docs.push(manifest('discovery.k8s.io/v1', 'EndpointSlice', meta, slice));
    }
  }
  return docs.join('');
}

function manifest(apiVersion: string, kind: string, metadata: object, rest: object): string {
  return `---\n${JSON.stringify({ apiVersion, kind, metadata, ...rest })}\n`;
}

function networkPolicy(r: Random, n: number): string {
  const selector = () =>
    r.chance(20)
      ? {}
      : r.chance(70)
        ? { matchLabels: { app: r.pick(APPS) } }
        : {
            matchExpressions: [{ key: 'app', operator: r.pick(['In', 'NotIn']), values: [r.pick(APPS), r.pick(APPS)] }],
          };
  const block = () => {
    const cidrs = r.chance(75) ? CIDRS4 : CIDRS6;
    const at = r.below(cidrs.length);
    const nested =
      cidrs === CIDRS4
        ? [
            ['192.0.2.0/24', '192.0.2.128/25', '192.0.2.200/29'],
            ['10.0.0.0/8', '10.244.0.0/24', '10.244.0.2/31', '10.244.0.3/32'],
          ]
        : [['2001:db8::/32', '2001:db8:1::/48', '2001:db8:1::42/128']];
    const family = nested.find((f) => f.includes(cidrs[at] as string));
    const inside = family?.slice(family.indexOf(cidrs[at] as string) + 1) ?? [];
    return {
      ipBlock: { cidr: cidrs[at], ...(inside.length > 0 && r.chance(50) ? { except: r.some(inside, 2) } : {}) },
    };
  };
  const peer = () => {
    if (r.chance(55)) return block();
    const which = r.below(3);
    return {
      ...(which !== 1 ? { podSelector: selector() } : {}),
      ...(which !== 0
        ? { namespaceSelector: r.chance(40) ? {} : { matchLabels: { env: r.pick(['prod', 'test']) } } }
        : {}),
    };
  };
  const port = () => {
    const protocol = r.pick(['TCP', 'TCP', 'UDP', 'SCTP']);
    if (r.chance(12)) return { protocol };
    if (r.chance(20)) return protocol === 'UDP' ? { protocol, port: 'dns' } : { protocol: 'TCP', port: 'http' };
    const lo = r.pick(PORTS);
    return { protocol, port: lo, ...(r.chance(30) ? { endPort: Math.max(lo, r.pick(PORTS)) } : {}) };
  };
  const egress = Array.from({ length: r.below(4) }, () => ({
    ...(r.chance(85) ? { to: Array.from({ length: r.below(3) + (r.chance(90) ? 1 : 0) }, peer) } : {}),
    ...(r.chance(70) ? { ports: Array.from({ length: r.below(3) + (r.chance(90) ? 1 : 0) }, port) } : {}),
  }));
  const types = r.pick([['Egress'], ['Egress'], ['Ingress', 'Egress'], ['Ingress'], undefined]);
  return policy(`${r.chance(75) ? 'default' : 'other'}/np${n}`, {
    podSelector: selector(),
    ...(types ? { policyTypes: types } : {}),
    ...(r.chance(90) ? { egress } : {}),
  });
}

function randomIr(r: Random, asking: number): Ir {
  return {
    tiers: Array.from({ length: r.below(4) }, (_, order): Tier => {
      const name = `t${order}`;
      return {
        name,
        order,
        defaultAction: r.pick(['deny', 'pass']),
        policies: Array.from({ length: r.below(3) + 1 }, (_, n): IrPolicy => {
          const ref: PolicyRef = { dialect: 'test', kind: 'Test', name: `${name}-p${n}` };
          const staged = r.chance(20);
          return {
            ref,
            staged,
            ...(r.chance(25) ? { isolates: false } : {}),
            subject: {
              namespaces: r.chance(70) ? { labels: { op: 'true' } } : { names: [r.pick(['default', 'other'])] },
              pods: r.chance(60) ? { op: 'true' } : { op: 'in', key: 'app', values: [r.pick(APPS)] },
            },
            // Now and then a set of more than 512 rules, which has maps of its own.
            rules: Array.from({ length: r.chance(3) ? 520 : r.below(6) }, (_, i) =>
              randomRule(r, { policy: ref, index: i, tier: name, staged }, asking),
            ),
          };
        }),
      };
    }),
  };
}

function randomRule(r: Random, ref: Omit<RuleRef, 'action'>, asking: number): Rule {
  const action = r.pick<Action>(['allow', 'allow', 'deny', 'deny', 'pass', 'log']);
  const rule: Rule = {
    ref: { ...ref, action },
    action,
    peers: r.chance(12) ? null : Array.from({ length: r.below(3) + (r.chance(95) ? 1 : 0) }, () => randomPeer(r)),
    ports: r.chance(30) ? null : Array.from({ length: r.below(3) + (r.chance(95) ? 1 : 0) }, () => randomPorts(r)),
  };
  return r.chance(asking) ? saying(rule, randomSaying(r)) : rule;
}

function randomPeer(r: Random, depth = 0): Peer {
  if (depth < 2 && r.chance(depth === 0 ? 20 : 35)) {
    const some = () => Array.from({ length: r.below(3) }, () => randomPeer(r, depth + 1));
    return r.chance(45) ? { kind: 'not', of: randomPeer(r, depth + 1) } : { kind: r.pick(['all', 'some']), of: some() };
  }
  switch (r.below(depth > 0 ? 10 : 9)) {
    case 9:
      return { kind: 'any' };
    case 8:
      return {
        kind: 'services',
        namespaces: r.chance(50) ? { labels: { op: 'true' } } : { names: ['default'] },
        ...(r.chance(50) ? { name: r.pick(['web', 's0', 's1']) } : {}),
        labels: { op: 'true' },
      };
    case 3:
      return {
        kind: 'pods',
        namespaces: { labels: { op: 'true' } },
        pods: r.pick<LabelExpr>([
          { op: 'starts', key: 'app', value: 'w' },
          { op: 'ends', key: 'app', value: 'b' },
          { op: 'contains', key: 'app', value: 'p' },
          { op: 'in', key: '@namespace', values: ['default'] },
          { op: 'not', of: { op: 'in', key: '@serviceaccount', values: ['default'] } },
          { op: 'exists', key: '@ns/team' },
        ]),
      };
    case 0:
      return {
        kind: 'pods',
        namespaces: { labels: { op: 'true' } },
        pods: { op: r.pick(['in', 'notin']), key: 'app', values: [r.pick(APPS)] },
      };
    case 1:
      return { kind: 'pods', namespaces: { names: [r.pick(['default', 'other'])] }, pods: { op: 'true' } };
    case 2:
      return { kind: 'own-node' };
    default: {
      const cidrs = r.chance(75) ? CIDRS4 : CIDRS6;
      const at = r.below(cidrs.length);
      return {
        kind: 'cidr',
        cidr: cidrs[at] as string,
        except: r.chance(30) ? cidrs.slice(at + 1, at + 1 + r.below(3)) : [],
      };
    }
  }
}

function randomPorts(r: Random): PortMatch {
  const protocol = r.pick([6, 6, 17, 132, 1, 58, null]);
  if (protocol === null) return { protocol, ...(r.chance(30) ? { ports: [[0, 65535]] as const } : {}) };
  if (r.chance(15)) return { protocol };
  if (protocol === 1 || protocol === 58) {
    const type = r.pick(protocol === 1 ? [0, 3, 8, 13] : [1, 128, 129]);
    return { protocol, ports: [r.chance(50) ? [type * 256, type * 256 + 255] : [type * 256, type * 256]] };
  }
  if (r.chance(12)) return { protocol, named: r.pick(['http', 'dns']) };
  const lo = r.pick(PORTS);
  return { protocol, ports: [[lo, r.chance(40) ? Math.max(lo, r.pick(PORTS)) : lo]] };
}
