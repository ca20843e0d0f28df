/** The node of the fuzzer of flows: three pods, two Services, an uplink; and what the policies of a moment say, with and without Services. */
import { toIr } from '../../src/dialects/index.js';
import { NODE_SENDER } from '../../src/ir/sender.js';
import { Evaluate, type World } from '../engines/engine.js';
import { NODE, pod, policy, snapshotOf } from '../policy/world.js';
import { type Actor, hasPorts, isV6, SCTP, TCP, type Tuple, UDP, type WorldSpec } from './flow-types.js';

export const IPS: Readonly<Record<Exclude<Actor, 'out'>, readonly [v4: string, v6: string]>> = {
  web: ['10.244.0.1', 'fd00::1'],
  api: ['10.244.0.2', 'fd00::2'],
  db: ['10.244.0.3', 'fd00::3'],
  node: ['192.168.0.1', 'fd00:a::1'],
};
export const KEYS = { web: 'default/web', api: 'default/api', db: 'default/db', node: NODE_SENDER } as const;
export const PODS = ['web', 'api', 'db'] as const;
/** Beyond the uplink: pods of other nodes, and the Internet. */
export const OUTSIDE = ['10.1.0.1', '10.1.0.2', '10.2.0.1', '2001:db8::1', '2001:db8:8000::1'];
export const VIPS = [
  ['10.96.0.1', 'fd00:96::1'],
  ['10.96.0.2', 'fd00:96::2'],
] as const;
/** Of the first Service, and of pod `db` by the port-mapping of its container. */
export const [NODE_PORT, HOST_PORT] = [30080, 30081];
export const BACKENDS = [...IPS.api, ...IPS.db, ...IPS.web, ...OUTSIDE];

interface ServicePort {
  readonly protocol: number;
  readonly port: number;
  readonly target: number;
}
export const SERVICE_PORTS: readonly ServicePort[] = [
  { protocol: TCP, port: 80, target: 443 },
  { protocol: UDP, port: 53, target: 53 },
  { protocol: SCTP, port: 80, target: 80 },
];

export function actorOf(address: string): Actor | undefined {
  const found = Object.entries(IPS).find(([, ips]) => ips.includes(address));
  if (found) return found[0] as Actor;
  return VIPS.flat().includes(address as (typeof VIPS)[number][number]) ? undefined : 'out';
}

/** What kube-proxy makes of an address: backends of its family with their port; undefined: no Service's. */
export function backendsOf(
  spec: WorldSpec,
  { protocol, to, dport }: Tuple,
): (readonly [ip: string, port: number])[] | undefined {
  const family = (ip: string) => isV6(ip) === isV6(to);
  if (IPS.node.includes(to) && protocol === TCP && dport === HOST_PORT)
    return IPS.db.filter(family).map((ip) => [ip, 80]);
  const nodePort = IPS.node.includes(to) && protocol === TCP && dport === NODE_PORT;
  const service = nodePort ? 0 : VIPS.findIndex((vips) => vips.some((vip) => vip === to));
  const port = SERVICE_PORTS.find((p) => p.protocol === protocol && (nodePort || p.port === dport));
  const ips = port && spec.backends[service]?.filter(family);
  return ips && ips.length > 0 ? ips.map((ip) => [ip, port.target]) : undefined;
}

const NAMES: Readonly<Record<number, string>> = { [TCP]: 'TCP', [UDP]: 'UDP', [SCTP]: 'SCTP' };
const json = (object: object) => `---\n${JSON.stringify(object)}\n`;

function serviceText(spec: WorldSpec, n: number): string {
  const name = `s${n}`;
  const ports = SERVICE_PORTS.map(({ protocol, port }) => ({
    ...{ name: NAMES[protocol]?.toLowerCase(), protocol: NAMES[protocol], port },
    ...(n === 0 && protocol === TCP ? { nodePort: NODE_PORT } : {}),
  }));
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'default', name },
    spec: { clusterIPs: VIPS[n], ports },
  };
  const slices = (['IPv4', 'IPv6'] as const).map((addressType) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      namespace: 'default',
      name: `${name}-${addressType.toLowerCase()}`,
      labels: { 'kubernetes.io/service-name': name },
    },
    addressType,
    ports: SERVICE_PORTS.map(({ protocol, target }) => ({
      name: NAMES[protocol]?.toLowerCase(),
      protocol: NAMES[protocol],
      port: target,
    })),
    endpoints: (spec.backends[n] ?? [])
      .filter((ip) => isV6(ip) === (addressType === 'IPv6'))
      .map((ip) => ({ addresses: [ip] })),
  }));
  return [service, ...slices].map(json).join('');
}

function worldOf(spec: WorldSpec, services: boolean): World {
  const egress = (name: string, rules: readonly object[] | undefined) =>
    rules === undefined
      ? ''
      : policy(`default/${name}`, {
          podSelector: { matchLabels: { app: name } },
          policyTypes: ['Egress'],
          egress: rules,
        });
  const node = {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: NODE },
    status: { addresses: IPS.node.map((address) => ({ type: 'InternalIP', address })) },
  };
  const ofNode = {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumClusterwideNetworkPolicy',
    metadata: { name: 'nodes' },
    spec: { nodeSelector: {}, egress: [{ toCIDR: spec.node }] },
  };
  const snapshot = snapshotOf(
    PODS.map((name) => pod(KEYS[name], IPS[name], { app: name })).join('') +
      egress('web', spec.web) +
      egress('api', spec.api) +
      json(node) +
      (spec.node ? json(ofNode) : '') +
      (services ? VIPS.map((_, n) => serviceText(spec, n)).join('') : ''),
    IPS.node,
  );
  return { snapshot, ir: toIr(snapshot).ir };
}

/** A moment's policies and Services. */
export class Moment {
  readonly world: World;
  readonly #asSent = new Evaluate();
  readonly #plain = new Evaluate();

  constructor(readonly spec: WorldSpec) {
    this.world = worldOf(spec, true);
    this.#asSent.use(this.world);
    this.#plain.use(worldOf(spec, false));
  }

  governs(from: Actor): boolean {
    return (
      from === 'web' ||
      (from === 'api' && this.spec.api !== undefined) ||
      (from === 'node' && this.spec.node !== undefined)
    );
  }

  /** What its rules say of an address as such. `ports` false: of a packet that does not show them. */
  allows(from: Actor, { protocol, to, dport }: Tuple, ports = true): boolean {
    return this.#judge(this.#plain, from, { protocol, to, dport }, ports) === 'allow';
  }

  /** Whether they say so of every backend, of none, or of some; of what is no Service, of the address. */
  allowsSent(from: Actor, t: Tuple): 'allow' | 'deny' | 'partial' {
    return this.#judge(this.#asSent, from, t, true);
  }

  #judge(by: Evaluate, from: Actor, { protocol, to, dport }: Pick<Tuple, 'protocol' | 'to' | 'dport'>, ports: boolean) {
    if (from === 'out' || !this.governs(from)) return 'allow';
    const port = ports && (hasPorts(protocol) || protocol === 1 || protocol === 58) ? dport : 0;
    return by.judge({ from: KEYS[from], to, protocol, port, ...(ports ? {} : { fragment: true }) }).verdict;
  }
}
