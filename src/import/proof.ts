/**
 * Compares what a list says with what its policies mean: the policies are read again by their own dialect, and both are
 * asked about connections at the boundary of every name, block and port, that name their server in every way, rightly,
 * wrongly or not at all.
 */
import type { Namespace, Pod, RawPolicy, Snapshot } from '../identity/snapshot.js';
import { toIr } from '../dialects/index.js';
import { judgedAt, readAs, type TierView, tiersFor } from '../ir/evaluate.js';
import type { LearnedName, Packet, Said } from '../ir/packet.js';
import type { Peer } from '../ir/peers.js';
import type { HttpMatch, Ir } from '../ir/types.js';
import { NO_TUNNELS } from '../net/tunnels.js';
import { protocolName } from '../net/protocol.js';
import { addressNumber, addressText } from '../tools/ranges.js';
import type { Listing } from './base/model.js';
import { addressesOf, hasAddress, hasPort } from './base/spans.js';
import type { Kind } from './base/speech.js';
import type { Subject } from './targets/common.js';
import { hostOf } from './targets/requests.js';

/** A connection, or a query. */
interface Probe {
  /** Under which the address was looked up, or for which the query is. Canonical; undefined: the address has no name. */
  readonly name: string | undefined;
  readonly says: Says;
  readonly to: string;
  /** The same as a number. */
  readonly address: ReturnType<typeof addressNumber>;
  readonly protocol: number;
  readonly port: number;
}

/** What a connection says. @param name canonical; undefined: it names nobody */
interface Says {
  readonly kind: Kind;
  readonly name?: string | undefined;
}

type Place = Pick<Probe, 'to' | 'address' | 'protocol' | 'port'>;

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
/** Rules with fewer hosts are asked for all of them. */
const FEW_HOSTS = 4;
const FROM = '192.0.2.1';
const RESOLVER = '192.0.2.53';
/** Addresses that no list means by itself. */
const NEUTRAL = ['198.51.100.77', '2001:db8::77'];
/** Packets to the pod itself do not leave it, nor those to a loopback address. An IPv4 address has no other form. */
const NEVER_SENT = /^(192\.0\.2\.(1|53)|127\..*|0\.0\.0\.0|::1?|::ffff:.*)$/;
const TCP = 6;
const UDP = 17;

/** What the source says of a probe. */
function saysOf(listing: Listing, { name, says, address, protocol, port }: Probe): 'allow' | 'deny' {
  const { rules, otherwise, universe } = listing;
  if (!hasPort(universe, protocol, port)) return 'deny';
  const rule = rules.find(
    ({ names, speech, looked, addresses, ports }) =>
      speech[says.kind] &&
      names.has(says.name) &&
      (looked?.has(name) ?? true) &&
      hasPort(ports, protocol, port) &&
      (addresses === null || hasAddress(addresses, address)),
  );
  return rule?.action ?? otherwise;
}

/**
 * Compares the rules of a list with policies.
 * @param policies as they were read again
 * @param tells whether their language tells TLS from HTTP; otherwise what may be said in one may be in the other, too
 */
export function prove(listing: Listing, policies: readonly RawPolicy[], subject: Subject, tells: boolean): Proof {
  const snapshot = worldOf(subject, policies);
  const { ir } = toIr(snapshot);
  const [sender] = [...snapshot.pods.values()] as [Pod];
  const servers = serversOf(subject);
  const queries = listing.about === 'queries';
  const places = queries ? servers : connectionsTo(listing, subject);
  const all = namesNear(listing);
  const each = queries ? 1 : all.length * places.length * EVERY_SAYING <= FEW_PACKETS ? EVERY_SAYING : SOME_SAYINGS;
  const names = spread(all, Math.max(1, Math.floor(MAX_PACKETS / (places.length * each))));
  let [packets, narrower] = [0, 0];
  let wide: string | undefined;
  let narrow: string | undefined;
  const near = new Near(ir);
  // evaluate() would put the same rules in order for each packet.
  const tiersNear = (names: readonly (string | undefined)[]) => tiersFor(near.of(names), snapshot, sender);
  const asked = (name: string | undefined) => ({ name, says: { kind: 'tls', name } }) as const;
  const ask = (place: Place) =>
    verdictOf(tiersNear(['far.invalid']), snapshot, sender, { ...place, ...asked('far.invalid') }, true);
  const deaf = queries ? undefined : servers.find((place) => ask(place) === 'deny')?.to;
  const judge = (tiers: readonly TierView[], probe: Probe) => {
    const said = saysOf(listing, probe);
    const is = verdictOf(tiers, snapshot, sender, probe, queries);
    packets++;
    if (said === is) return;
    if (is === 'allow') {
      if (tells || !saysOtherwise(listing, probe)) wide ??= textOf(probe, listing.about);
      // A name that is said counts for addresses that were looked up under it.
    } else if (probe.says.name === undefined || probe.says.name === probe.name) {
      narrower++;
      narrow ??= textOf(probe, listing.about);
    }
  };
  for (let i = 0; i < names.length; i += BATCH) {
    const some = names.slice(i, i + BATCH);
    // Some say the name of another that is near.
    const small = tiersNear([...some, 'far.invalid']);
    some.forEach((name, n) => {
      const other = some[(n + 1) % some.length];
      const overTcp = queries ? [asked(name).says] : sayings(name, other);
      places.forEach((place, at) => {
        for (const says of queries || place.protocol === TCP ? turnOf(overTcp, each, n + at) : [NOTHING])
          judge(small, { ...place, name, says });
      });
    });
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

/** What is said in one place for one name: everything, or some of it if there are more packets than a few. */
const EVERY_SAYING = 9;
const SOME_SAYINGS = 2;
const FEW_PACKETS = 6_000;
const NOTHING: Says = { kind: 'other' };

/** What a connection to an address of a name may say: it, in both ways; another name, one that is far, none; nothing. */
function sayings(name: string | undefined, other: string | undefined): Says[] {
  const all = [...new Set([name, other, 'far.invalid', undefined])].filter((one) => one !== '');
  return [
    ...all.flatMap((name): Says[] => [
      { kind: 'tls', name },
      { kind: 'http', name },
    ]),
    NOTHING,
  ];
}

/** Some of what may be said: the name itself in one of both ways, and of the rest what has its turn. */
function turnOf(every: readonly Says[], count: number, turn: number): readonly Says[] {
  if (every.length <= count) return every;
  return [every[turn % 2]!, every[2 + (Math.floor(turn / 2) % (every.length - 2))]!];
}

/** Whether the source allows the same, said in the other way. */
function saysOtherwise(listing: Listing, probe: Probe): boolean {
  const { kind, name } = probe.says;
  if (kind === 'other') return false;
  return saysOf(listing, { ...probe, says: { kind: kind === 'tls' ? 'http' : 'tls', name } }) === 'allow';
}

function verdictOf(
  tiers: readonly TierView[],
  snapshot: Snapshot,
  sender: Pod,
  probe: Probe,
  query: boolean,
): 'allow' | 'deny' {
  const { name, says, address: _, ...to } = probe;
  const from = `${sender.namespace}/${sender.name}`;
  const packet: Packet = { from, ...to, ...(query ? { query: name ?? '' } : { said: saidOf(says) }) };
  const names: LearnedName[] = name === undefined || query ? [] : [{ name }];
  const learned = new Map([[from, new Map([[to.to, names]])]]);
  const { verdict } = readAs(tiers, snapshot, packet, judgedAt(sender, packet, learned), learned);
  return verdict.verdict === 'allow' ? 'allow' : 'deny';
}

/** As the kernel would read it. */
export function saidOf({ kind, name }: Says): Said {
  switch (kind) {
    case 'tls':
      return { kind, ...(name === undefined ? {} : { serverName: name }) };
    case 'http':
      return { kind, method: 'GET', path: '/', ...(name === undefined ? {} : { host: name }), headers: [] };
    case 'other':
      return { kind };
    default:
      return kind satisfies never;
  }
}

function textOf({ name, says, to, protocol, port }: Probe, about: Listing['about']): string {
  if (about === 'queries') return `a query for ${name || 'the root'}`;
  const whose = name === undefined ? 'an address without a name' : name || 'the root';
  const saying = { tls: 'in TLS', http: 'in HTTP', other: 'in neither TLS nor HTTP' }[says.kind];
  const told = protocol !== TCP ? '' : `, ${saying}${says.kind === 'other' ? '' : ` for ${says.name ?? 'nobody'}`}`;
  return `${whose} (${to}) port ${port}/${protocolName(protocol).toLowerCase()}${told}`;
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

function serversOf({ resolvers }: Subject): Place[] {
  return resolvers.slice(0, 8).flatMap((one, i) => {
    const to = 'cidr' in one ? (one.cidr.split('/')[0] as string) : resolverAddress(i);
    const address = addressNumber(to);
    return [UDP, TCP].map((protocol) => ({ to, address, protocol, port: 53 }));
  });
}

function connectionsTo({ rules, universe }: Listing, { resolvers }: Subject): Place[] {
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
  return [...addresses].flatMap((to) => {
    const address = addressNumber(to);
    const isDns = hasAddress(dns, address);
    return [...ports.values()].filter(({ port }) => !isDns || port !== 53).map((one) => ({ to, address, ...one }));
  });
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
    const said = [...wanted].filter((pattern) => !pattern.startsWith('*.'));
    const wantedHosts = new Set([...said, '***'].map(hostOf));
    const hostsNear = (http: readonly HttpMatch[]) =>
      http.length <= FEW_HOSTS ? http : http.filter(({ host }) => host === undefined || wantedHosts.has(host));
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
            ...(rule.serverNames ? { serverNames: near(rule.serverNames) } : {}),
            ...(rule.http ? { http: hostsNear(rule.http) } : {}),
          }))
          // A rule without peers matches nothing.
          .filter(
            ({ peers, queries, serverNames, http }) =>
              ![peers, queries, serverNames, http].some((list) => list?.length === 0),
          ),
      })),
    }));
    return { ...this.#ir, tiers };
  }
}
