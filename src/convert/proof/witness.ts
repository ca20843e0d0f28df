/**
 * Generates small clusters that distinguish policies. Their pods, namespaces, nodes and Services match and miss each
 * requirement of each selector, with addresses inside and outside of each block. Two sets of policies that judge alike
 * here judge alike in any cluster, as far as single requirements and pairs of selectors are concerned.
 */
import type { ContainerPort, Namespace, Node, Pod, Service, Snapshot } from '../../identity/snapshot.js';
import { type LabelExpr, type ServiceMatch, VIRTUAL } from '../../ir/peers.js';
import type { Ir } from '../../ir/types.js';
import type { Cidr } from '../../net/addr.js';
import { cidrEdges, leaves } from '../../tools/packets.js';
import { type AddressRange, addressText, cidrRange, pieces } from '../../tools/ranges.js';
import { alternatives, type Literal, podExpr, Unsayable } from '../terms/labels.js';

/** Values by key; undefined: the label is missing. */
type Labels = ReadonlyMap<string, string | undefined>;

/** Maximum number of pods, since each costs packets. */
const MAX_PODS = 160;
/** Maximum number of values of one requirement that are tried. */
const MAX_VALUES = 12;
const OTHER = 'witness';

/** The properties that the policies depend on. */
interface Topics {
  readonly pods: readonly LabelExpr[];
  readonly nodes: readonly LabelExpr[];
  readonly services: readonly ServiceMatch[];
  readonly names: readonly string[];
  readonly pieces: readonly AddressRange[];
}

/** @param cluster pods and nodes get addresses in these blocks; undefined: anywhere */
export function witnesses(irs: readonly Ir[], cluster: readonly Cidr[] | undefined): Snapshot[] {
  const topics = topicsOf(irs, cluster);
  const pods = samplesOf(topics.pods);
  const nodes = unique([new Map(), ...topics.nodes.flatMap(variations)]).slice(0, 6);
  const small = topics.pieces.some((piece) => isSmall(piece, pods.length + nodes.length));
  // The variants: who gets the addresses of blocks that are too small for all, whether named namespaces have labels,
  // and which node is the own one.
  const plans = [
    { taken: 'nobody', labelled: true, own: 0 },
    { taken: 'pods', labelled: false, own: nodes.length > 1 ? 1 : 0 },
    ...(small ? [{ taken: 'nodes', labelled: true, own: 0 } as const] : []),
  ] as const;
  return plans.map((plan) => makeCluster(topics, pods, nodes, cluster, plan));
}

function topicsOf(irs: readonly Ir[], cluster: readonly Cidr[] | undefined): Topics {
  const policies = irs.flatMap((ir) => ir.tiers.flatMap((tier) => tier.policies));
  const rules = policies.flatMap((p) => [...p.rules, ...(p.implicit ?? [])]);
  const peers = rules.flatMap((rule) => leaves(rule.peers));
  const pods = [
    ...policies.flatMap((p) => ('pods' in p.subject ? [podExpr(p.subject)] : [])),
    ...peers.flatMap((p) => (p.kind === 'pods' ? [podExpr(p)] : [])),
  ];
  const byText = new Map(pods.map((expr) => [JSON.stringify(expr), expr]));
  return {
    pods: [...byText.values()],
    nodes: peers.flatMap((p) => (p.kind === 'nodes' ? [p.labels] : [])),
    services: peers.flatMap((p) => (p.kind === 'services' ? [p] : [])),
    names: [...new Set(rules.flatMap((rule) => rule.ports ?? []).flatMap((port) => port.named ?? []))],
    pieces: pieces([...cidrEdges(rules), ...(cluster ?? []).map(({ text }) => cidrRange(text))]),
  };
}

/** Labels that match an expression, and labels that miss it by one requirement. */
function variations(expr: LabelExpr): Labels[] {
  return expanded(expr).flatMap((one) => {
    const met = new Map(one.flatMap((literal) => meeting(literal)));
    const missed = one.flatMap((literal) =>
      missing(literal).map(([key, value]) => new Map(met).set(key, value) as Labels),
    );
    const others = one.flatMap((literal) =>
      valuesOf(literal).map((value) => new Map(met).set(literal.key, value) as Labels),
    );
    return [met, ...missed, ...others];
  });
}

function expanded(expr: LabelExpr): Literal[][] {
  try {
    return alternatives(expr);
  } catch (e) {
    if (e instanceof Unsayable) return [];
    throw e;
  }
}

function meeting(literal: Literal): [string, string | undefined][] {
  const { key } = literal;
  switch (literal.op) {
    case 'in':
      return [[key, literal.values[0]]];
    case 'exists':
      return [[key, OTHER]];
    case 'notin':
    case 'notexists':
      return [[key, undefined]];
    default:
      return [[key, literal.not ? undefined : withText(literal)]];
  }
}

function missing(literal: Literal): [string, string | undefined][] {
  const { key } = literal;
  const values = (...list: (string | undefined)[]) => list.map((v): [string, string | undefined] => [key, v]);
  switch (literal.op) {
    case 'in':
      return values(undefined, OTHER);
    case 'notin':
      return values(literal.values[0], OTHER);
    case 'exists':
      return values(undefined);
    case 'notexists':
      return values(OTHER);
    default:
      return literal.not ? values(withText(literal)) : values(undefined, OTHER);
  }
}

function valuesOf(literal: Literal): string[] {
  if (literal.op !== 'in' && literal.op !== 'notin') return [];
  return literal.values.slice(1, MAX_VALUES);
}

/** A longer value with the text in it, extended on the side that does not matter. */
function withText({ op, value }: Extract<Literal, { value: string }>): string {
  return op === 'starts' ? `${value}x` : op === 'ends' ? `x${value}` : `x${value}x`;
}

/**
 * For each selector, labels that match and miss it; for each pair of selectors, labels that match both; and an object
 * without labels.
 */
function samplesOf(exprs: readonly LabelExpr[]): Labels[] {
  const met = exprs.flatMap((expr) => expanded(expr).map((one) => new Map(one.flatMap(meeting))));
  const pairs = met.slice(0, 24).flatMap((a, i) => met.slice(i + 1, 24).map((b) => new Map([...b, ...a])));
  const all = new Map(met.flatMap((one) => [...one]));
  return unique([new Map(), ...met, all, ...exprs.flatMap(variations), ...pairs]).slice(0, MAX_PODS);
}

function unique(list: readonly Labels[]): Labels[] {
  const seen = new Map<string, Labels>();
  for (const labels of list) {
    const key = JSON.stringify([...labels].filter(([, v]) => v !== undefined).sort(([a], [b]) => (a < b ? -1 : 1)));
    if (!seen.has(key)) seen.set(key, labels);
  }
  return [...seen.values()];
}

interface Plan {
  readonly taken: 'nobody' | 'pods' | 'nodes';
  readonly labelled: boolean;
  readonly own: number;
}

function makeCluster(
  topics: Topics,
  samples: readonly Labels[],
  nodeSamples: readonly Labels[],
  cluster: readonly Cidr[] | undefined,
  plan: Plan,
): Snapshot {
  const namespaces = new Map<string, Namespace>();
  const ofNamespaces = new Map(samples.flatMap((labels) => [...partOf(labels, VIRTUAL.ofNamespace)]));
  const inNamespace = (name: string, labels: Labels) => {
    if (!namespaces.has(name)) namespaces.set(name, namespaceOf(name, labels));
    return name;
  };
  const named = [...new Set(samples.flatMap((labels) => labels.get(VIRTUAL.namespace) ?? []))];
  for (const name of named) inNamespace(name, plan.labelled ? ofNamespaces : new Map());
  const numbers = new Map<string, number>();
  const pods: Pod[] = [];
  const add = (namespace: string, labels: Labels, ports: readonly ContainerPort[]) => {
    if (pods.length >= MAX_PODS * 2) return;
    const name = labels.get(VIRTUAL.name) ?? `${OTHER}-${pods.length}`;
    pods.push(podOf(namespace, name, labels, ports));
  };
  for (const labels of samples) {
    const required = labels.get(VIRTUAL.namespace);
    const spaceLabels = partOf(labels, VIRTUAL.ofNamespace);
    const id = JSON.stringify([...spaceLabels].filter(([, v]) => v !== undefined).sort());
    if (!numbers.has(id)) numbers.set(id, numbers.size);
    const elsewhere = () => inNamespace(`${OTHER}-${numbers.get(id)}`, spaceLabels);
    const where = required !== undefined ? [required] : [elsewhere(), ...named.slice(0, 3)];
    for (const namespace of new Set(where)) for (const ports of portsOf(topics.names)) add(namespace, labels, ports);
  }
  const nodes = nodeSamples.map((labels, i) => ({
    name: `${OTHER}-node-${i}`,
    labels: plainOf(labels),
    ips: [] as string[],
  }));
  if (nodes.length === 1) nodes.push({ name: `${OTHER}-node-1`, labels: {}, ips: [] });
  const own = nodes[plan.own] ?? (nodes[0] as (typeof nodes)[number]);
  const placed = pods.map((pod) => ({ ...pod, nodeName: own.name, ips: [] as string[] }));
  give(topics.pieces, cluster, plan, placed, [own, ...nodes.filter((n) => n !== own)]);
  return {
    pods: new Map(placed.map((pod) => [`${pod.namespace}/${pod.name}`, pod])),
    namespaces,
    nodes: new Map(nodes.map((node): [string, Node] => [node.name, node])),
    services: servicesOf(topics, placed, namespaces),
    policies: [],
    ownNode: { name: own.name, ips: [] },
    problems: [],
  };
}

function partOf(labels: Labels, prefix: string): Map<string, string | undefined> {
  return new Map(
    [...labels].filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key.slice(prefix.length), value]),
  );
}

function plainOf(labels: Labels): Record<string, string> {
  return Object.fromEntries(
    [...labels].filter((e): e is [string, string] => !e[0].startsWith('@') && e[1] !== undefined),
  );
}

function namespaceOf(name: string, labels: Labels): Namespace {
  const own = { ...plainOf(labels), 'kubernetes.io/metadata.name': name };
  return { name, labels: own, annotations: {}, terminating: false };
}

function podOf(namespace: string, name: string, labels: Labels, ports: readonly ContainerPort[]): Pod {
  return {
    uid: `${namespace}/${name}`,
    namespace,
    name,
    labels: plainOf(labels),
    annotations: {},
    ips: [],
    nodeName: '',
    serviceAccount: labels.get(VIRTUAL.account) ?? 'default',
    hostNetwork: false,
    ended: false,
    ports: [...ports],
  };
}

/** No port names, and each name in each protocol with its own port. */
function portsOf(names: readonly string[]): ContainerPort[][] {
  if (names.length === 0) return [[]];
  const of = (protocol: number, from: number) => names.map((name, i) => ({ name, protocol, port: from + i }));
  return [[], of(6, 18_080), of(17, 28_080), of(132, 38_080)];
}

function isSmall({ lo, hi }: AddressRange, members: number): boolean {
  return hi - lo < BigInt(members + 4);
}

/** Gives everyone an address in each piece. The edges of pieces remain unused. */
function give(
  all: readonly AddressRange[],
  cluster: readonly Cidr[] | undefined,
  { taken }: Plan,
  pods: readonly { ips: string[] }[],
  nodes: readonly { ips: string[] }[],
): void {
  const ranges = cluster?.map(({ text }) => cidrRange(text));
  all.forEach(({ family, lo, hi }, p) => {
    if (ranges && !ranges.some((r) => r.family === family && r.lo <= lo && hi <= r.hi)) return;
    const at = (n: bigint) => addressText(family, n);
    if (!isSmall({ family, lo, hi }, pods.length + nodes.length)) {
      [...nodes, ...pods].forEach((member, i) => {
        member.ips.push(at(lo + 1n + BigInt(i)));
      });
      return;
    }
    if (taken === 'nobody') return;
    const members = taken === 'pods' ? pods : nodes;
    for (let n = lo, i = p * 7; n <= hi; n++, i++) members[i % members.length]?.ips.push(at(n));
  });
}

/** Services that match and miss, with pods, nodes and outside addresses as backends. */
function servicesOf(
  { services, pieces: all }: Topics,
  pods: readonly Pod[],
  namespaces: ReadonlyMap<string, Namespace>,
): Map<string, Service> {
  const out = new Map<string, Service>();
  const outside = all.slice(0, 8).map(({ family, hi }) => addressText(family, hi));
  services.forEach(({ namespaces: where, name, labels }, i) => {
    const spaces = 'names' in where ? where.names : [...namespaces.keys()].slice(0, 2);
    const kinds = unique([new Map(), ...variations(labels)]);
    for (const namespace of [...spaces, `${OTHER}-none`]) {
      kinds.forEach((one, k) => {
        const called = k === 0 && name !== undefined ? name : `${OTHER}-${i}-${k}`;
        const n = out.size;
        const ips = [pods[(n * 5) % pods.length]?.ips[0], outside[n % Math.max(1, outside.length)]];
        const backends = ips.flatMap((ip) => (ip === undefined ? [] : [{ ip, port: 8080 }]));
        const port = { protocol: 6, port: 80, backends };
        const service = { namespace, name: called, labels: plainOf(one), vips: [], ports: [port] };
        if (!out.has(`${namespace}/${called}`)) out.set(`${namespace}/${called}`, service);
      });
    }
  });
  return out;
}
