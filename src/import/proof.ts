/**
 * Compares what a list says with what its policies mean: the policies are read again by their own dialect, and both are
 * asked about connections at the boundary of every name, block and port.
 */
import type { Namespace, Pod, RawPolicy, Snapshot } from '../identity/snapshot.js';
import { toIr } from '../dialects/index.js';
import { evaluate } from '../ir/evaluate.js';
import type { LearnedName, Packet } from '../ir/packet.js';
import type { Peer } from '../ir/peers.js';
import type { Ir } from '../ir/types.js';
import { NO_TUNNELS } from '../net/tunnels.js';
import { protocolName } from '../net/protocol.js';
import { addressNumber, addressText } from '../tools/ranges.js';
import type { Listing } from './base/model.js';
import { addressesOf, hasAddress, hasPort } from './base/spans.js';
import type { Subject } from './targets/common.js';

/** A connection, or a query. */
export interface Probe {
  /** Canonical; undefined: the address has no name. */
  readonly name: string | undefined;
  readonly to: string;
  readonly protocol: number;
  readonly port: number;
}

export interface Proof {
  /** Connections or queries that were judged. */
  readonly packets: number;
  /** Names of the list, and how many of them were looked at. */
  readonly names: number;
  readonly looked: number;
  /** Of these, the source allows so many that the policies do not. */
  readonly narrower: number;
  readonly narrow?: string;
  /** What the policies allow and the source does not. */
  readonly wide?: string;
  /** A DNS server that the policies do not let the pods ask, since a deny is before that. */
  readonly deaf?: string;
}

/** Packets to judge, at most. */
const MAX_PACKETS = 60_000;
const MAX_ADDRESSES = 64;
const MAX_PORTS = 48;
/** Names that are judged with one IR, from which patterns that match none of them were left out. */
const BATCH = 16;
const FROM = '192.0.2.1';
const RESOLVER = '192.0.2.53';
/** Addresses that no list means by itself. */
const NEUTRAL = ['198.51.100.77', '2001:db8::77'];
/** Packets to the pod itself do not leave it, nor those to a loopback address. An IPv4 address has no other form. */
const NEVER_SENT = /^(192\.0\.2\.(1|53)|127\..*|0\.0\.0\.0|::1?|::ffff:.*)$/;
const TCP = 6;
const UDP = 17;

/** What the source says of a probe. */
export function saysOf({ rules, otherwise, universe }: Listing, { name, to, protocol, port }: Probe): 'allow' | 'deny' {
  if (!hasPort(universe, protocol, port)) return 'deny';
  const address = addressNumber(to);
  const rule = rules.find(
    ({ names, addresses, ports }) =>
      names.has(name) && hasPort(ports, protocol, port) && (addresses === null || hasAddress(addresses, address)),
  );
  return rule?.action ?? otherwise;
}

/** Compares the rules of a list with policies. @param policies as they were read again */
export function prove(listing: Listing, policies: readonly RawPolicy[], subject: Subject): Proof {
  const snapshot = worldOf(subject, policies);
  const { ir } = toIr(snapshot);
  const from = [...snapshot.pods.keys()][0] as string;
  const servers = serversOf(subject);
  const places = listing.about === 'queries' ? servers : connectionsTo(listing, subject);
  const all = namesNear(listing);
  const most = Math.max(1, Math.floor(MAX_PACKETS / places.length));
  const names = spread(all, most);
  let [packets, narrower] = [0, 0];
  let wide: string | undefined;
  let narrow: string | undefined;
  const near = new Near(ir);
  const ask = (place: Omit<Probe, 'name'>) =>
    verdictOf(near.of(['far.invalid']), snapshot, from, { ...place, name: 'far.invalid' }, true);
  const deaf = listing.about === 'queries' ? undefined : servers.find((place) => ask(place) === 'deny')?.to;
  for (let i = 0; i < names.length; i += BATCH) {
    const some = names.slice(i, i + BATCH);
    const small = near.of(some);
    for (const name of some)
      for (const place of places) {
        const probe: Probe = { ...place, name };
        const said = saysOf(listing, probe);
        const is = verdictOf(small, snapshot, from, probe, listing.about === 'queries');
        packets++;
        if (said === is) continue;
        if (said === 'deny') wide ??= textOf(probe, listing.about);
        else {
          narrower++;
          narrow ??= textOf(probe, listing.about);
        }
      }
  }
  return {
    packets,
    names: all.length,
    looked: names.length,
    narrower,
    ...(narrow === undefined ? {} : { narrow }),
    ...(wide === undefined ? {} : { wide }),
    ...(deaf === undefined ? {} : { deaf }),
  };
}

function verdictOf(ir: Ir, snapshot: Snapshot, from: string, { name, ...to }: Probe, query: boolean): 'allow' | 'deny' {
  const packet: Packet = { from, ...to };
  if (query) return evaluate(ir, snapshot, { ...packet, query: name ?? '' }).verdict === 'allow' ? 'allow' : 'deny';
  const names: LearnedName[] = name === undefined ? [] : [{ name }];
  const learned = new Map([[from, new Map([[to.to, names]])]]);
  return evaluate(ir, snapshot, packet, learned).verdict === 'allow' ? 'allow' : 'deny';
}

function textOf({ name, to, protocol, port }: Probe, about: Listing['about']): string {
  if (about === 'queries') return `a query for ${name || 'the root'}`;
  const whose = name === undefined ? 'an address without a name' : name || 'the root';
  return `${whose} (${to}) port ${port}/${protocolName(protocol).toLowerCase()}`;
}

/** A pod that the policies select, and its DNS server. */
export function worldOf(
  { namespace = 'default', labels, resolvers }: Subject,
  policies: readonly RawPolicy[],
): Snapshot {
  const pods = new Map<string, Pod>();
  const namespaces = new Map<string, Namespace>();
  const pod = (namespace: string, name: string, labels: Pod['labels'], ip: string) => {
    const common = { annotations: {}, nodeName: '', serviceAccount: 'default', hostNetwork: false, ended: false };
    pods.set(`${namespace}/${name}`, { uid: name, namespace, name, labels, ips: [ip], ports: [], ...common });
    const own = { 'kubernetes.io/metadata.name': namespace };
    namespaces.set(namespace, { name: namespace, labels: own, annotations: {}, terminating: false });
  };
  pod(namespace, 'sender', labels, FROM);
  resolvers.forEach((one, i) => {
    if (!('cidr' in one)) pod(one.namespace, `resolver-${i}`, one.labels, resolverAddress(i));
  });
  return {
    pods,
    namespaces,
    nodes: new Map(),
    services: new Map(),
    policies,
    ownNode: { name: '', ips: [] },
    tunnels: NO_TUNNELS,
    problems: [],
  };
}

function resolverAddress(index: number): string {
  return index === 0 ? RESOLVER : `192.0.2.${100 + (index % 100)}`;
}

function serversOf({ resolvers }: Subject): Omit<Probe, 'name'>[] {
  return resolvers.slice(0, 8).flatMap((one, i) => {
    const to = 'cidr' in one ? (one.cidr.split('/')[0] as string) : resolverAddress(i);
    return [UDP, TCP].map((protocol) => ({ to, protocol, port: 53 }));
  });
}

function connectionsTo({ rules, universe }: Listing, { resolvers }: Subject): Omit<Probe, 'name'>[] {
  const ports = new Map<string, { protocol: number; port: number }>();
  const add = (protocol: number, port: number) => {
    // To the neutral addresses, DNS is as any other port.
    if (port >= 1 && port <= 65535 && ports.size < MAX_PORTS) ports.set(`${protocol}:${port}`, { protocol, port });
  };
  for (const [key, protocol] of [
    ['tcp', TCP],
    ['udp', UDP],
  ] as const) {
    add(protocol, 443);
    for (const { ports } of [{ ports: universe }, ...rules])
      for (const [lo, hi] of ports[key]) for (const port of [lo, hi, lo - 1, hi + 1]) add(protocol, port);
  }
  ports.set('icmp', { protocol: 1, port: 8 * 256 });
  const addresses = new Set(NEUTRAL);
  for (const { addresses: ranges } of rules)
    for (const { family, lo, hi } of ranges ?? [])
      for (const n of [lo, hi, lo - 1n, hi + 1n]) {
        if (n < 0n || n >= 1n << (family === 4 ? 32n : 128n) || addresses.size >= MAX_ADDRESSES) continue;
        const text = addressText(family, n);
        if (!NEVER_SENT.test(text)) addresses.add(text);
      }
  // Queries to the DNS servers are allowed whatever the list says.
  const dns = addressesOf(resolvers.flatMap((one, i) => ('cidr' in one ? one.cidr : `${resolverAddress(i)}/32`)));
  const isDns = (to: string, port: number) => port === 53 && hasAddress(dns, addressNumber(to));
  return [...addresses].flatMap((to) =>
    [...ports.values()].filter(({ port }) => !isDns(to, port)).map((one) => ({ to, ...one })),
  );
}

/** Names at the boundaries of the domains in a list, one that is far from all, and none. */
function namesNear({ origins, about }: Listing): (string | undefined)[] {
  const names = new Set<string>();
  for (const domain of origins.keys()) {
    const dot = domain.indexOf('.');
    names.add(domain).add(`x.${domain}`).add(`x.x.${domain}`).add(`x${domain}`).add(`${domain}x`);
    if (dot >= 0) names.add(domain.slice(dot + 1));
  }
  const all = [...names].filter((name) => name.length <= 253);
  return [...(about === 'queries' ? [] : [undefined]), 'far.invalid', ...all];
}

/** Elements from everywhere in a list. */
function spread<T>(list: readonly T[], most: number): readonly T[] {
  if (list.length <= most) return list;
  const step = list.length / most;
  return Array.from({ length: most }, (_, i) => list[Math.floor(i * step)] as T);
}

type Names = Extract<Peer, { kind: 'names' }>;

/** IRs from which patterns that cannot match some names are left out: one that is a name, or what is below a name. */
class Near {
  readonly #ir: Ir;
  readonly #sets = new Map<readonly string[], { simple: ReadonlySet<string>; others: readonly string[] }>();

  constructor(ir: Ir) {
    this.#ir = ir;
  }

  of(names: readonly (string | undefined)[]): Ir {
    const wanted = new Set<string>();
    for (const name of names) {
      if (name === undefined) continue;
      wanted.add(name);
      for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
        wanted.add(`**.${name.slice(dot + 1)}`).add(`*.${name.slice(dot + 1)}`);
      }
    }
    const near = (patterns: readonly string[]) => {
      let known = this.#sets.get(patterns);
      if (!known) {
        const isSimple = (p: string) => !p.replace(/^\*\*?\./, '').includes('*');
        known = { simple: new Set(patterns.filter(isSimple)), others: patterns.filter((p) => !isSimple(p)) };
        this.#sets.set(patterns, known);
      }
      const { simple, others } = known;
      return [...others, ...[...wanted].filter((pattern) => simple.has(pattern))];
    };
    const peerNear = (peer: Peer): Peer => {
      if (peer.kind === 'all' || peer.kind === 'some') return { ...peer, of: peer.of.map(peerNear) };
      return peer.kind === 'names' ? ({ ...peer, patterns: near(peer.patterns) } as Names) : peer;
    };
    const isNobody = (peer: Peer): boolean =>
      peer.kind === 'names' ? peer.patterns.length === 0 : peer.kind === 'all' && peer.of.some(isNobody);
    const tiers = this.#ir.tiers.map((tier) => ({
      ...tier,
      policies: tier.policies.map((policy) => ({
        ...policy,
        rules: policy.rules
          .map((rule) => ({
            ...rule,
            peers: rule.peers?.map(peerNear).filter((peer) => !isNobody(peer)) ?? null,
            ...(rule.queries ? { queries: near(rule.queries) } : {}),
          }))
          // A rule without peers matches nothing.
          .filter(({ peers, queries }) => peers?.length !== 0 && queries?.length !== 0),
      })),
    }));
    return { ...this.#ir, tiers };
  }
}
