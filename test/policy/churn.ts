/**
 * A cluster that changes at random, object by object: pods that come, go, move, share an address for a while; namespaces that
 * end; policies of everything that NetworkPolicy can say, and of other dialects with Services and nodes as peers. Drawn from few names and addresses, so that all of it meets itself.
 */
import { type Entry, readEntry } from '../../src/identity/entry.js';
import type { Section } from '../../src/identity/kinds.js';
import type { KubeObject } from '../../src/kube/client/client.js';
import { EntryReader } from '../../src/kube/read.js';
import type { Random } from '../fuzz/random.js';
import { BlockList } from './churn-blocks.js';
import { CHURNED, churnedSpec } from './churn-policies.js';
import { NODE } from './world.js';

/** One kind as a source applies it, and what it holds. */
export interface Kind {
  readonly name: string;
  readonly section: Section;
  readonly entries: Map<string, Entry>;
}

const NAMESPACES = ['a', 'b', 'c'];
const APPS = ['web', 'db', 'ops'];
const NODES = [NODE, 'node-b', 'node-c'];
const POD_IPS = [
  ...['10.244.0.1', '10.244.0.2', '10.244.0.3', '10.244.0.4', '10.244.1.0', '192.0.2.200', '192.168.0.2'],
  ...['fd00::1', 'fd00::2', 'fd00::3', '2001:db8:1::42'],
];
const NODE_IPS = ['192.168.0.1', '192.168.0.2', '192.168.0.3', 'fd00:1::1', '10.244.0.4'];
const VIPS = ['10.96.0.1', '10.96.0.2', '192.0.2.130', 'fd00:96::1'];
/** Each inside the one before it. */
const CHAINS = [
  ['0.0.0.0/0', '10.0.0.0/8', '10.244.0.0/16', '10.244.0.0/24', '10.244.0.2/31', '10.244.0.3/32'],
  ['192.0.2.0/24', '192.0.2.128/25', '192.0.2.200/29', '192.0.2.200/32'],
  ['192.168.0.0/16', '192.168.0.0/30', '192.168.0.2/32'],
  ['::/0', 'fd00::/8', 'fd00::/64', 'fd00::2/127', 'fd00::2/128'],
  ['2001:db8::/32', '2001:db8:1::/48', '2001:db8:1::42/128'],
];
/** Addresses on both sides of every edge. */
export const ADDRESSES: readonly string[] = [
  ...POD_IPS,
  ...NODE_IPS,
  ...VIPS,
  ...['0.0.0.0', '9.255.255.255', '10.0.0.0', '10.243.255.255', '10.244.0.0', '10.244.0.255', '10.244.255.255'],
  ...['10.245.0.0', '192.0.2.0', '192.0.2.127', '192.0.2.128', '192.0.2.207', '192.0.2.208', '192.0.3.0'],
  ...['192.168.0.4', '255.255.255.255', '::', 'fcff::', 'fd00:0:0:1::', 'fe00::', '2001:db8::', '2001:db8:1::43'],
];

export class Churn {
  readonly kinds = {
    namespaces: kind('v1 Namespace', 'namespaces'),
    nodes: kind('v1 Node', 'nodes'),
    pods: kind('v1 Pod', 'pods'),
    services: kind('v1 Service', 'services'),
    slices: kind('discovery.k8s.io/v1 EndpointSlice', 'slices'),
    policies: kind('networking.k8s.io/v1 NetworkPolicy', 'policies'),
    admin: kind(CHURNED.admin, 'policies'),
    calico: kind(CHURNED.calico, 'policies'),
    cilium: kind(CHURNED.cilium, 'policies'),
  };
  readonly #reader = new EntryReader();
  #uids = 0;

  constructor(private readonly r: Random) {
    this.#lists = [new BlockList(r, 300), new BlockList(r, 40)];
  }

  /** Changes one thing, and says where. */
  step(): { kind: Kind; key: string; entry: Entry | undefined } {
    const { r, kinds } = this;
    const at = r.below(100);
    if (at < 32) return this.#pod();
    if (at < 38) return this.#listed();
    if (at < 50) {
      const dialect = r.pick(Object.keys(CHURNED) as (keyof typeof CHURNED)[]);
      return this.#drop(35, kinds[dialect], `${dialect}${r.below(2)}`, () => ({ spec: churnedSpec(r, dialect) }));
    }
    if (at < 62) return this.#drop(20, kinds.policies, `${r.pick(NAMESPACES)}/np${r.below(3)}`, () => this.#policy());
    if (at < 74) return this.#drop(10, kinds.namespaces, r.pick(NAMESPACES), () => this.#namespace());
    if (at < 80) return this.#drop(20, kinds.nodes, r.pick(NODES), () => this.#node());
    const service = `${r.pick(NAMESPACES)}/s${r.below(2)}`;
    if (at < 88) return this.#drop(15, kinds.services, service, () => this.#service());
    return this.#drop(20, kinds.slices, `${service}-${r.below(2)}`, () => this.#slice());
  }

  #drop(percent: number, kind: Kind, key: string, make: () => Record<string, unknown>) {
    const gone = kind.entries.has(key) && this.r.chance(percent);
    return this.#put(kind, key, gone ? undefined : make());
  }

  #put(kind: Kind, key: string, object: Record<string, unknown> | undefined) {
    if (!object) {
      kind.entries.delete(key);
      return { kind, key, entry: undefined };
    }
    const [apiVersion, kindName] = kind.name.split(' ');
    const [namespace, name] = key.includes('/') ? key.split('/') : [undefined, key];
    const metadata = { ...(object.metadata as object), name, ...(namespace === undefined ? {} : { namespace }) };
    const whole = { ...object, apiVersion, kind: kindName, metadata } as KubeObject;
    const entry = this.#reader.read(whole);
    const problems = [...entry.problems, ...readEntry({ object: whole, where: {} }).problems];
    if (entry.key !== key || problems.length > 0) throw new Error(`${key}: ${JSON.stringify([entry, problems])}`);
    kind.entries.set(key, entry);
    return { kind, key, entry };
  }

  #labels(): Record<string, string> {
    const { r } = this;
    return {
      ...(r.chance(85) ? { app: r.pick(APPS) } : {}),
      ...(r.chance(20) ? { tier: r.pick(['x', 'y']) } : {}),
    };
  }

  /** New, changed in one respect, succeeded by another of its name, or gone. */
  #pod() {
    const { r } = this;
    const { pods } = this.kinds;
    const key = `${r.pick(NAMESPACES)}/p${r.below(4)}`;
    const before = this.#podObjects.get(key);
    if (before && r.chance(20)) {
      this.#podObjects.delete(key);
      return this.#put(pods, key, undefined);
    }
    const fresh = () => {
      const v4 = r.pick(POD_IPS.filter((ip) => !ip.includes(':')));
      const v6 = r.pick(POD_IPS.filter((ip) => ip.includes(':')));
      return {
        metadata: { uid: `uid-${++this.#uids}`, labels: this.#labels() },
        spec: {
          nodeName: r.chance(70) ? NODE : r.pick(NODES),
          hostNetwork: r.chance(8),
          containers: [{ name: 'c', ports: this.#ports() }],
        },
        status: {
          phase: 'Running',
          podIPs: r.chance(10) ? [] : r.pick([[v4], [v4], [v6], [v4, v6]]).map((ip) => ({ ip })),
        },
      };
    };
    let object = before && r.chance(75) ? structuredClone(before) : fresh();
    if (before && object.metadata.uid === before.metadata.uid) {
      const other = fresh();
      switch (r.below(6)) {
        case 0:
          object.metadata.labels = other.metadata.labels;
          break;
        case 1:
          object.status.podIPs = other.status.podIPs;
          break;
        case 2:
          object.spec.containers = other.spec.containers;
          break;
        case 3:
          object.status.phase = r.pick(['Running', 'Succeeded', 'Failed']);
          break;
        case 4:
          object.spec.hostNetwork = !object.spec.hostNetwork;
          break;
        default:
          object = { ...object, metadata: { ...object.metadata, ...{ deletionTimestamp: '2026-01-01T00:00:00Z' } } };
      }
    }
    this.#podObjects.set(key, object);
    return this.#put(pods, key, object);
  }
  readonly #podObjects = new Map<
    string,
    {
      metadata: { uid: string; labels: Record<string, string> };
      spec: { nodeName: string; hostNetwork: boolean; containers: { name: string; ports: object[] }[] };
      status: { phase: string; podIPs: { ip: string }[] };
    }
  >();

  #ports(): object[] {
    const { r } = this;
    return [
      ...(r.chance(60) ? [{ name: 'http', containerPort: r.pick([80, 81, 8080]) }] : []),
      ...(r.chance(30) ? [{ name: 'dns', containerPort: r.pick([53, 5353]), protocol: 'UDP' }] : []),
      ...(r.chance(15) ? [{ containerPort: 9000 }] : []),
    ];
  }

  /** Of two policies with hundreds of blocks, one entry is another one. They share many. */
  #listed() {
    const { r } = this;
    const n = r.below(this.#lists.length);
    const key = `${NAMESPACES[n]}/list`;
    const list = this.#lists[n] as BlockList;
    return this.#drop(8, this.kinds.policies, key, () => {
      list.change();
      if (r.chance(10)) list.blocks.push(r.pick((this.#lists[1 - n] as BlockList).blocks));
      const egress = [{ to: list.blocks.map((ipBlock) => ({ ipBlock })) }];
      return {
        metadata: { uid: `uid-${++this.#uids}`, resourceVersion: String(this.#uids) },
        spec: { podSelector: {}, policyTypes: ['Egress'], egress },
      };
    });
  }
  readonly #lists: readonly BlockList[];

  #namespace() {
    const { r } = this;
    return {
      metadata: { labels: { env: r.pick(['prod', 'test']), ...(r.chance(30) ? { extra: 'yes' } : {}) } },
      status: { phase: r.chance(20) ? 'Terminating' : 'Active' },
    };
  }

  #node() {
    const { r } = this;
    const addresses = r.some(NODE_IPS, 2).map((address) => ({ type: 'InternalIP', address }));
    return { metadata: { labels: { zone: r.pick(['z1', 'z2']) } }, status: { addresses } };
  }

  #service() {
    const { r } = this;
    const clusterIPs = r.chance(10) ? ['None'] : [...new Set([r.pick(VIPS), r.pick(VIPS)])];
    const protocol = r.pick(['TCP', 'TCP', 'UDP']);
    const ports = [
      {
        name: 'one',
        port: r.pick([80, 81, 53, 30080]),
        protocol,
        ...(r.chance(40) ? { nodePort: 30080 + r.below(2) } : {}),
      },
      ...(r.chance(30) ? [{ name: 'two', port: 443, protocol: 'TCP' }] : []),
    ];
    const externalIPs = r.chance(30) ? [r.pick([...VIPS, ...NODE_IPS])] : [];
    const made = r.chance(50) ? { creationTimestamp: `2026-01-0${r.below(2) + 1}T00:00:00Z` } : {};
    const metadata = { labels: r.chance(50) ? { kind: 'in' } : {}, ...made };
    return { metadata, spec: { clusterIPs, externalIPs, ports } };
  }

  #slice() {
    const { r } = this;
    const v6 = r.chance(30);
    const ips = [...POD_IPS, ...NODE_IPS, '198.51.100.7'].filter((ip) => ip.includes(':') === v6);
    const endpoints = r.some(ips, 4).map((ip) => ({
      addresses: [ip],
      ...(r.chance(15) ? { conditions: { ready: false, serving: r.chance(50), terminating: r.chance(50) } } : {}),
    }));
    return {
      // Now and then it goes over to another Service.
      metadata: { labels: { 'kubernetes.io/service-name': `s${r.below(2)}` } },
      addressType: v6 ? 'IPv6' : 'IPv4',
      ports: [
        { name: 'one', port: r.pick([80, 8080]), protocol: r.pick(['TCP', 'TCP', 'UDP']) },
        ...(r.chance(50) ? [{ name: 'two', port: 8443, protocol: 'TCP' }] : []),
      ],
      endpoints,
    };
  }

  #selector(): object {
    const { r } = this;
    if (r.chance(20)) return {};
    if (r.chance(60)) return { matchLabels: { app: r.pick(APPS) } };
    const operator = r.pick(['In', 'NotIn', 'Exists', 'DoesNotExist']);
    const values = operator.endsWith('n') ? { values: [r.pick(APPS), r.pick(APPS)] } : {};
    return { matchExpressions: [{ key: r.pick(['app', 'tier']), operator, ...values }] };
  }

  #peer(): object {
    const { r } = this;
    if (r.chance(45)) {
      const chain = r.pick(CHAINS);
      const at = r.below(chain.length);
      const inside = chain.slice(at + 1);
      const except = inside.length > 0 && r.chance(50) ? r.some(inside, 2) : [];
      return { ipBlock: { cidr: chain[at], ...(except.length > 0 ? { except } : {}) } };
    }
    const which = r.below(3);
    const namespaces = r.pick([
      {},
      { matchLabels: { env: r.pick(['prod', 'test']) } },
      { matchExpressions: [{ key: 'extra', operator: 'DoesNotExist' }] },
      { matchLabels: { 'kubernetes.io/metadata.name': r.pick(NAMESPACES) } },
    ]);
    return {
      ...(which !== 1 ? { podSelector: this.#selector() } : {}),
      ...(which !== 0 ? { namespaceSelector: namespaces } : {}),
    };
  }

  #port(): object {
    const { r } = this;
    const protocol = r.pick(['TCP', 'TCP', 'UDP', 'SCTP']);
    if (r.chance(10)) return { protocol };
    if (r.chance(35)) return protocol === 'UDP' ? { protocol, port: 'dns' } : { port: 'http' };
    const port = r.pick([1, 53, 80, 81, 443, 8080, 65535]);
    return { protocol, port, ...(r.chance(30) ? { endPort: Math.min(65535, port + r.below(300)) } : {}) };
  }

  #policy() {
    const { r } = this;
    const list = (make: () => object) => Array.from({ length: r.below(3) + 1 }, make);
    const rule = () => ({
      ...(r.chance(85) ? { to: list(() => this.#peer()) } : {}),
      ...(r.chance(65) ? { ports: list(() => this.#port()) } : {}),
    });
    const policyTypes = r.pick([['Egress'], ['Egress'], ['Ingress', 'Egress'], ['Ingress']]);
    return {
      metadata: { uid: `uid-${++this.#uids}`, resourceVersion: String(this.#uids) },
      spec: { podSelector: this.#selector(), policyTypes, egress: Array.from({ length: r.below(4) }, rule) },
    };
  }
}

function kind(name: string, section: Section): Kind {
  return { name, section, entries: new Map() };
}
