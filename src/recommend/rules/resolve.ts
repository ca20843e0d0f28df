/** Whom a need means, in terms of policies: pods by their labels, nodes, names, blocks. */
import { type EdgeParty, partyName } from '../../edges/edge.js';
import type { Pod, Service } from '../../identity/snapshot.js';
import { parseAddr, parseCidr, cidrContains, tryCanonicalAddr, tryParseCidr } from '../../net/addr.js';
import { hasPorts } from '../../net/protocol.js';
import { type Cluster, compare, keyOf, partyOf } from '../base/cluster.js';
import type { Need } from '../base/needs.js';
import { needTo } from '../base/needs.js';
import type { Selectors } from '../base/selectors.js';
import type { LeftOutWhy, RecommendOptions } from '../base/types.js';

export type Target =
  | { readonly kind: 'pods'; readonly namespace: string; readonly labels: Readonly<Record<string, string>> }
  /** A node; `ip` is one of its addresses, or several targets are. */
  | { readonly kind: 'node'; readonly name: string; readonly ip: string; readonly hostname: string }
  /** Backends of the API server's Service. */
  | { readonly kind: 'api-server'; readonly ip: string }
  /** An address at which the pod's own node answers: NodeLocal DNSCache. */
  | { readonly kind: 'local'; readonly ip: string }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'block'; readonly cidr: string; readonly network?: string };

export interface Placed {
  readonly target: Target;
  readonly protocol: number;
  /** ICMP: type × 256 + code. */
  readonly port: number;
  readonly beyond?: string;
}

/** A packet that shows whether a need is met. */
export interface Probe {
  readonly to: string;
  readonly protocol: number;
  readonly port: number;
  /** Under which the address was learned. */
  readonly name?: string;
}

export interface Resolved {
  readonly placed: readonly Placed[];
  readonly probes: readonly Probe[];
  readonly warnings: readonly string[];
}

export interface Unresolved {
  readonly why: LeftOutWhy;
  readonly hint?: string;
}

/** Two labels or more, as every language takes them: a name that an answer can show, but no pattern. */
const NAME = /^(?=.{1,253}$)([a-z\d]([-\w]{0,61}[a-z\d])?\.)+[a-z\d]([-\w]{0,61}[a-z\d])?$/;

export class Resolver {
  readonly #cluster: Cluster;
  readonly #selectors: Selectors;
  readonly #options: Pick<RecommendOptions, 'networks' | 'clusterCidrs'>;
  readonly #hasNames: boolean;

  /** @param hasNames whether the language has names */
  constructor(cluster: Cluster, selectors: Selectors, options: RecommendOptions, hasNames: boolean) {
    this.#cluster = cluster;
    this.#selectors = selectors;
    this.#options = options;
    this.#hasNames = hasNames;
  }

  /** @param all what the same workload asked for, and got or not */
  resolve(need: Need, all: readonly Need[] = []): Resolved | Unresolved {
    if (hasPorts(need.protocol) && (need.port < 1 || need.port > 65535)) return { why: 'unsayable', hint: 'no port' };
    const service = need.service === '' ? undefined : this.#cluster.snapshot.services.get(need.service);
    if (service) {
      const found = this.#service(need, service, all);
      if (found) return found;
    }
    const { destination } = need;
    switch (destination.kind) {
      case 'workload':
        return this.#workload(need, destination);
      case 'node':
        return this.#node(need, destination.name);
      case 'name':
        return this.#name(need, destination.name);
      case 'address':
        return this.#address(need, destination.name);
      case 'service':
        return { why: 'gone', hint: service ? 'the Service has no backends' : 'there is no such Service' };
      default:
        return { why: 'other' };
    }
  }

  /** Pods of the cluster's DNS, by their labels, with the ports on which they answer. */
  dns(): Placed[] {
    const out = new Map<string, Placed>();
    for (const [, service] of this.#cluster.dnsServices()) {
      for (const { port, protocol, backends } of service.ports) {
        if (port !== 53) continue;
        for (const { ip, port: own } of backends)
          for (const placed of this.#at(ip, protocol, own, false))
            out.set(JSON.stringify([placed.target, protocol, own]), placed);
      }
    }
    return [...out.values()];
  }

  /** All backends of a Service: whoever asks it cannot choose among them. */
  #service(need: Need, service: Service, seen: readonly Need[]): Resolved | Unresolved | undefined {
    const at = service.ports.find((p) => p.port === need.servicePort && p.protocol === need.protocol);
    if (!at || at.backends.length === 0) return undefined;
    const isApi = need.service === 'default/kubernetes';
    // A Service that passed opens all of its backends, but none of which it is known that nothing ever passed to it;
    // what was denied itself is asked for only by whoever wants that.
    const isRefused = ({ ip, port }: { ip: string; port: number }) => {
      const there = seen.filter((one) => this.#isAt(one, need.protocol, ip, port));
      return !need.denied && there.length > 0 && there.every((one) => one.denied);
    };
    const backends = at.backends.filter((backend) => !isRefused(backend));
    if (backends.length === 0) return { why: 'denied', hint: 'so was all that is behind it' };
    const all = backends.flatMap(({ ip, port }) => this.#at(ip, need.protocol, port, isApi));
    // Whoever may write its Endpoints leads where he likes, and not where it was seen to lead.
    const isOwn = ({ target }: Placed) => target.kind === 'pods' && target.namespace === service.namespace;
    const placed = need.destination.kind === 'workload' ? all.filter(isOwn) : all;
    const warnings = new Set<string>();
    if (backends.length < at.backends.length)
      warnings.add(`${need.service} has backends to which nothing passed: no rule for them`);
    if (placed.length < all.length) warnings.add(`${need.service} leads elsewhere than it did: no rule for that`);
    if (placed.some(({ target }) => target.kind === 'pods' && target.namespace !== service.namespace))
      warnings.add(`${need.service} has pods of other namespaces behind it: rules for them`);
    for (const { target } of placed)
      if (target.kind !== 'pods')
        warnings.add(`${need.service} has backends that are no pods: rules for their addresses, which may change`);
    const own = need.destination.kind === 'workload' ? this.#workload(need, need.destination) : undefined;
    const family = need.address === '' ? undefined : parseAddr(need.address).family;
    const vips = service.vips.filter((ip) => family === undefined || parseAddr(ip).family === family);
    const probes: Probe[] = vips.map((to) => ({ to, protocol: need.protocol, port: need.servicePort }));
    // Its address stands for all that is behind it.
    if (vips.length === 0) for (const { ip, port } of backends) probes.push({ to: ip, protocol: need.protocol, port });
    if (own && 'placed' in own) return { placed: [...placed, ...own.placed], probes, warnings: [...warnings] };
    if (placed.length === 0) return undefined;
    return { placed, probes, warnings: [...warnings] };
  }

  /** Whether a need was for what is at an address and port. */
  #isAt({ destination, address, ...need }: Need, protocol: number, ip: string, port: number): boolean {
    if (need.protocol !== protocol || need.port !== port || destination.kind === 'service') return false;
    if (destination.kind !== 'workload') return address === ip || destination.name === ip;
    const at = this.#cluster.podsAt(ip).map(partyOf);
    return at.some((p) => partyName(p) === partyName(destination) && p.workloadKind === destination.workloadKind);
  }

  /** Whom an address of the cluster means. */
  #at(ip: string, protocol: number, port: number, isApi: boolean): Placed[] {
    if (isApi) return [{ target: { kind: 'api-server', ip }, protocol, port }];
    const pods = this.#cluster.podsAt(ip);
    if (pods.length > 0) return pods.flatMap((pod) => this.#pods(partyOf(pod), protocol, port) ?? []);
    const nodes = this.#cluster.nodesAt(ip);
    if (nodes.length > 0) return nodes.map((node) => ({ target: nodeTarget(node, ip), protocol, port }));
    return [{ target: this.#block(ip), protocol, port }];
  }

  #pods(party: EdgeParty, protocol: number, port: number): Placed | undefined {
    const selected = this.#selectors.of(party);
    if (!selected) return undefined;
    const { labels, others } = selected;
    const more = others.length > 1 ? ` and ${others.length - 1} more` : '';
    const beyond = others.length > 0 ? `its labels are also those of ${others[0]}${more}` : undefined;
    const target = { kind: 'pods', namespace: party.namespace, labels } as const;
    return { target, protocol, port, ...(beyond === undefined ? {} : { beyond }) };
  }

  #workload(need: Need, party: EdgeParty): Resolved | Unresolved {
    const pods = this.#cluster.podsOf(party);
    const { protocol, port } = need;
    if (pods.length === 0) return { why: 'gone', hint: 'it has no pods any more' };
    if (pods.every((pod) => pod.hostNetwork)) {
      const warnings = [`${partyName(party)} runs in the network of its nodes: rules for the addresses of these nodes`];
      const all = [...new Set(pods.filter((p) => !p.ended).flatMap((p) => p.ips))].sort(compare);
      const placed = all.flatMap((ip) => this.#at(ip, protocol, port, false));
      if (placed.length === 0) return { why: 'gone', hint: 'its nodes are not known' };
      return { placed, probes: all.map((to) => ({ to, protocol, port })), warnings };
    }
    const placed = this.#pods(party, protocol, port);
    if (!placed) return { why: 'unsayable', hint: 'its pods have no label in common' };
    return { placed: [placed], probes: addressesOf(pods, need).map((to) => ({ to, protocol, port })), warnings: [] };
  }

  #node(need: Need, name: string): Resolved | Unresolved {
    const { protocol, port, address } = need;
    if (address !== '' && isLinkLocal(address)) return this.#local(need, address);
    if (this.#cluster.snapshot.ownNode.dns?.includes(address)) return this.#local(need, address);
    const node = this.#cluster.snapshot.nodes.get(name);
    const ips = node?.ips.length ? node.ips : address === '' ? [] : [address];
    if (ips.length === 0) return { why: 'gone', hint: 'there is no such node' };
    const placed = ips.map((ip) => ({
      target: node ? nodeTarget(node, ip) : ({ kind: 'block', cidr: single(ip) } as const),
      protocol,
      port,
    }));
    const warnings = [`node ${name}: rules for its addresses mean all that runs in its network`];
    return { placed, probes: ips.map((to) => ({ to, protocol, port })), warnings };
  }

  #local({ protocol, port }: Need, ip: string): Resolved {
    const target = { kind: 'local', ip } as const;
    return { placed: [{ target, protocol, port }], probes: [{ to: ip, protocol, port }], warnings: [] };
  }

  #name(need: Need, name: string): Resolved | Unresolved {
    const address = tryCanonicalAddr(need.address);
    const { protocol, port } = need;
    if (NAME.test(name)) {
      const to = address ?? '192.0.2.1';
      if (this.#hasNames) {
        const placed = [{ target: { kind: 'name', name } as const, protocol, port }];
        return { placed, probes: [{ to, protocol, port, name }], warnings: [] };
      }
    }
    if (address === undefined) return { why: 'unsayable', hint: 'its address is not known' };
    const found = this.#address(need, address);
    if (!('placed' in found)) return found;
    const warning = this.#hasNames
      ? `${needTo(need)} is no name that a policy can have: a rule for ${address}`
      : `${needTo(need)}: a rule for ${address}, which may change; other languages have names`;
    return { ...found, warnings: [...found.warnings, warning] };
  }

  #address(need: Need, text: string): Resolved | Unresolved {
    const ip = tryCanonicalAddr(text);
    const { protocol, port } = need;
    if (ip === undefined) return { why: 'unsayable', hint: 'it is no address' };
    if (isLinkLocal(ip)) {
      const found = this.#local(need, ip);
      const isMetadata = METADATA.has(ip) && port !== 53;
      return isMetadata ? { ...found, warnings: [`${ip} gives the node's credentials on most clouds`] } : found;
    }
    const pods = this.#cluster.podsAt(ip);
    if (pods.length > 0) return { why: 'gone', hint: `its pod is gone: ${keyOf(pods[0] as Pod)} has the address now` };
    const nodes = this.#cluster.nodesAt(ip);
    if (nodes.length > 0) return this.#node(need, nodes[0]?.name ?? '');
    const inCluster = this.#options.clusterCidrs.find((cidr) => cidrContains(parseCidr(cidr), parseAddr(ip)));
    if (inCluster !== undefined) return { why: 'gone', hint: `nobody has this address of ${inCluster} now` };
    return {
      placed: [{ target: this.#block(ip), protocol, port }],
      probes: [{ to: ip, protocol, port }],
      warnings: [],
    };
  }

  #block(ip: string): Target {
    const address = parseAddr(ip);
    const network = this.#options.networks.find(({ cidr }) => cidrContains(parseCidr(cidr), address));
    return network ? { kind: 'block', cidr: network.cidr, network: network.name } : { kind: 'block', cidr: single(ip) };
  }
}

const METADATA: ReadonlySet<string> = new Set(['169.254.169.254', 'fd00:ec2::254']);

function nodeTarget(node: { name: string; labels: Readonly<Record<string, string>> }, ip: string): Target {
  const label = node.labels['kubernetes.io/hostname'] ?? '';
  return { kind: 'node', name: node.name, ip, hostname: label };
}

/** Addresses of a workload's pods, of the family that was met; at most a few, those of the first pods. */
function addressesOf(pods: readonly Pod[], { address }: Need): string[] {
  const family = address === '' ? undefined : parseAddr(address).family;
  const ips = pods.flatMap((pod) => (pod.ended || pod.hostNetwork ? [] : pod.ips));
  const same = ips.filter((ip) => family === undefined || parseAddr(ip).family === family);
  return (same.length > 0 ? same : ips).slice(0, 3);
}

export function single(ip: string): string {
  return `${ip}/${parseAddr(ip).family === 4 ? 32 : 128}`;
}

export function isLinkLocal(ip: string): boolean {
  const address = parseAddr(ip);
  return ['169.254.0.0/16', 'fe80::/10'].some((cidr) => {
    const block = tryParseCidr(cidr);
    return block !== undefined && cidrContains(block, address);
  });
}
