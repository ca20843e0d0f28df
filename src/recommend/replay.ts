/**
 * Judges what was seen by the policies in force, and by those with the recommended ones, which are read again as the
 * agent reads them. Each workload is judged in a small world: its pod, those that it talks to, those that its policies
 * mean, and the policies that select it. Nothing else can change a verdict on its packets.
 */
import { Selector } from '../compile/select.js';
import { isSupporting, toIr } from '../dialects/index.js';
import { policiesIn } from '../convert/text.js';
import { kindTitle } from '../identity/kinds.js';
import type { Namespace, Node, Pod, RawPolicy, Service, Snapshot } from '../identity/snapshot.js';
import { matchLabels } from '../ir/match.js';
import { outcomeOf } from '../ir/outcome.js';
import { formatPolicy } from '../ir/names.js';
import { DNS_PORT, ownNodeAddresses } from '../ir/services.js';
import type { Learned, Packet } from '../ir/packet.js';
import type { Ir, PolicyRef } from '../ir/types.js';
import { nodeOf, onNode } from '../ir/sender.js';
import { cidrContains, parseAddr, parseCidr } from '../net/addr.js';
import { TCP, UDP } from '../net/protocol.js';
import { enforcedForm } from '../staging/forms.js';
import { diff } from '../tools/diff.js';
import { lint } from '../tools/lint/index.js';
import { situationText } from '../tools/names/changes.js';
import { bounded, rangesText, spansText } from '../tools/ranges.js';
import { type Cluster, keyOf, partyOf, workloadKey } from './base/cluster.js';
import type { ModelRule } from './rules/model.js';
import type { Probe } from './rules/resolve.js';

/** What becomes of a need, by the policies in force and with the recommended ones. */
export interface Judged {
  readonly was: 'allow' | 'deny' | 'partial';
  readonly is: 'allow' | 'deny' | 'partial';
}

/** A change that the recommended policies make, and how many objects stand in a list. */
const LISTED = 6;
const AUDIT = 'egress-agent.io/enforcement';
/** What DNS queries ask for, where rules read them. */
const QUERY = 'recommended.example';

export class Replayer {
  readonly #cluster: Cluster;
  readonly #ir: Ir;
  readonly #selector = new Selector();
  readonly #raws = new Map<string, RawPolicy>();
  readonly #supporting: readonly RawPolicy[];
  readonly #found = new Map<string, readonly Pod[]>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#ir = toIr(cluster.snapshot).ir;
    this.#supporting = cluster.snapshot.policies.filter(isSupporting);
    for (const raw of cluster.snapshot.policies) this.#raws.set(keyOfRef(raw), raw);
  }

  /**
   * The world of one workload.
   * @param sender one of its pods; if it has ended, as if it ran
   * @param text the staged policies, as they are printed
   */
  world(sender: Pod, rules: readonly ModelRule[], probes: readonly Probe[], text: string): SmallWorld {
    const from = keyOf(sender);
    const snapshot = this.#small(sender, rules, probes);
    const inForce = this.#inForce(from, snapshot);
    const foreign = [...inForce].some(({ apiVersion }) => /calico|cilium/.test(apiVersion));
    const existing = [...inForce, ...(foreign ? this.#supporting : [])];
    const { policies: staged, problems } = policiesIn(text);
    const recommended = staged.map(asEnforced);
    const names = new Set(recommended.map(keyOfRef));
    const kept = existing.filter((raw) => !names.has(keyOfRef(raw)));
    return new SmallWorld(from, snapshot, existing, kept, recommended, problems);
  }

  /** How many policies in force select a pod. */
  policies(sender: Pod): number {
    return this.#inForce(keyOf(sender), this.#small(sender, [], [])).size;
  }

  #inForce(from: string, snapshot: Snapshot): ReadonlySet<RawPolicy> {
    const selections = this.#selector.select(this.#ir, snapshot, [from]).get(from) ?? [];
    const selecting = selections.flatMap(({ policies }) => policies.filter((policy) => !policy.staged));
    return new Set(selecting.flatMap(({ ref }) => this.#raws.get(keyOfRef(refOf(ref))) ?? []));
  }

  /** Pods with these labels, found once: many workloads talk to the same ones. */
  #selected(namespace: string, labels: Readonly<Record<string, string>>): readonly Pod[] {
    const key = JSON.stringify([namespace, labels]);
    let found = this.#found.get(key);
    if (!found) {
      const of = Object.entries(labels).map(([label, value]) => ({ op: 'in', key: label, values: [value] }) as const);
      found = this.#cluster.podsIn(namespace).filter((pod) => !pod.ended && matchLabels({ op: 'and', of }, pod.labels));
      this.#found.set(key, found);
    }
    return found;
  }

  #small(sender: Pod, rules: readonly ModelRule[], probes: readonly Probe[]): Snapshot {
    const { snapshot } = this.#cluster;
    const cluster = this.#cluster;
    const pods = new Map<string, Pod>([[keyOf(sender), revived(sender)]]);
    const nodes = new Map<string, Node>();
    const services = new Map<string, Service>();
    const addPod = (pod: Pod) => {
      if (!pods.has(keyOf(pod))) pods.set(keyOf(pod), pod);
    };
    const addAddress = (ip: string) => {
      for (const pod of cluster.podsAt(ip)) addPod(pod);
      for (const node of cluster.nodesAt(ip)) nodes.set(node.name, node);
      for (const [key, service] of cluster.servicesAt(ip)) services.set(key, service);
    };
    const own = snapshot.nodes.get(nodeOf(snapshot, sender));
    if (own) nodes.set(own.name, own);
    for (const { to, port } of probes) {
      addAddress(to);
      if (!ownNodeAddresses(snapshot).includes(to) && !own?.ips.includes(to)) continue;
      for (const [key, service] of snapshot.services)
        if (service.ports.some((p) => p.nodePort === port)) services.set(key, service);
    }
    for (const [key, service] of cluster.dnsServices()) services.set(key, service);
    for (const target of rules.flatMap((rule) => rule.targets)) {
      if (target.kind === 'pods') {
        for (const pod of this.#selected(target.namespace, target.labels)) addPod(pod);
      } else if (target.kind === 'block' && target.network !== undefined) {
        const block = parseCidr(target.cidr);
        for (const pod of snapshot.pods.values())
          if (!pod.ended && pod.ips.some((ip) => cidrContains(block, parseAddr(ip)))) addPod(pod);
      } else if (target.kind === 'api-server' || target.kind === 'node') addAddress(target.ip);
    }
    for (const { ports } of [...services.values()])
      for (const { ip } of ports.flatMap((port) => port.backends)) {
        for (const pod of cluster.podsAt(ip)) addPod(pod);
        for (const node of cluster.nodesAt(ip)) nodes.set(node.name, node);
      }
    const namespaces = new Map<string, Namespace>();
    for (const { namespace } of pods.values()) {
      const found = snapshot.namespaces.get(namespace);
      if (found) namespaces.set(namespace, withoutAudit(found));
    }
    const small = { ...snapshot, pods, nodes, services, namespaces, policies: [], problems: [] };
    return onNode(small, nodeOf(snapshot, sender));
  }
}

/** The world of one workload, before and after. */
export class SmallWorld {
  readonly #from: string;
  readonly #snapshot: Snapshot;
  readonly #before: Ir;
  readonly #after: Ir;
  readonly #recommended: readonly RawPolicy[];
  readonly #isJudged: boolean;
  /** Policies in force that select the workload. */
  readonly policies: number;
  /** Why the printed policies would not be read as they were meant; empty: they are. */
  readonly faults: readonly string[];

  constructor(
    from: string,
    snapshot: Snapshot,
    existing: readonly RawPolicy[],
    kept: readonly RawPolicy[],
    recommended: readonly RawPolicy[],
    problems: readonly string[],
  ) {
    this.#from = from;
    this.#snapshot = { ...snapshot, policies: recommended };
    this.#recommended = recommended;
    this.#isJudged = existing.length > 0;
    this.policies = existing.filter((raw) => !isSupporting(raw)).length;
    this.#before = toIr({ ...snapshot, policies: existing }).ir;
    const after = toIr({ ...snapshot, policies: [...kept, ...recommended] });
    this.#after = after.ir;
    const own = new Set(recommended.map(titleOf));
    const faults = after.problems.filter((p) => p.severity === 'error' && own.has(p.where.object ?? ''));
    this.faults = [...problems, ...faults.map((p) => `${p.where.field ?? ''}: ${p.message}`)];
  }

  /** @param probes of one need; none: it cannot be judged */
  judge(probes: readonly Probe[]): Judged | undefined {
    if (probes.length === 0) return undefined;
    // Whom no policy selects may send everything.
    const was = this.#isJudged ? this.#verdict(this.#before, probes) : 'allow';
    return { was, is: this.#verdict(this.#after, probes) };
  }

  #verdict(ir: Ir, probes: readonly Probe[]): Judged['was'] {
    let verdict: Judged['was'] = 'allow';
    for (const { to, protocol, port, name } of probes) {
      const asks = port === DNS_PORT && (protocol === UDP || protocol === TCP);
      const packet: Packet = { from: this.#from, to, protocol, port, ...(asks ? { query: QUERY } : {}) };
      const learned: Learned = name === undefined ? NOTHING : new Map([[this.#from, new Map([[to, [{ name }]]])]]);
      const one = outcomeOf(ir, this.#snapshot, packet, learned).verdict;
      if (one === 'deny') return 'deny';
      if (one === 'partial') verdict = 'partial';
    }
    return verdict;
  }

  /** What is allowed that the policies in force deny, whether it was seen or not. */
  opened(): string[] {
    // Who is not isolated may do everything already.
    if (!this.#isJudged) return [];
    const world = (ir: Ir) => ({ ir, snapshot: this.#snapshot });
    const { changes } = diff(world(this.#before), world(this.#after), new Set([this.#from]));
    const names = (ip: string) => {
      for (const [key, pod] of this.#snapshot.pods) if (pod.ips.includes(ip)) return key;
      return undefined;
    };
    const opened = changes.filter(({ was, is }) => was.verdict === 'deny' && is.verdict !== 'deny');
    return opened.map(({ to, ports, was: _, is: __, senders: ___, ...when }) => {
      const places = to.kind === 'service' ? [`Service ${to.service}`] : rangesText(to.ranges, names);
      return `${bounded(places, LISTED)}${situationText(when)} on ${spansText(ports)}`;
    });
  }

  /** Whether a rule is one of those for nodes, of which some match nothing wherever the pod runs. */
  #meansNode(field: string | undefined): boolean {
    const index = Number(/^spec\.egress\[(\d+)\]/.exec(field ?? '')?.[1] ?? Number.NaN);
    return this.#recommended.some(({ object }) => {
      const { egress } = object.spec as { egress?: unknown[] };
      return NODES.test(JSON.stringify(egress?.[index]) ?? '');
    });
  }

  /** What lint says of the recommended policies. */
  findings(): string[] {
    const own = new Set(this.#recommended.map(titleOf));
    const refs = new Set(
      this.#after.tiers.flatMap(({ policies }) =>
        policies
          .filter(({ ref }) => this.#recommended.some((raw) => raw.name === ref.name))
          .map(({ ref }) => formatPolicy(ref)),
      ),
    );
    // One pod of each workload: lint finds the same, and what it costs grows with the pods.
    const pods = new Map<string, Pod>([[this.#from, this.#snapshot.pods.get(this.#from) as Pod]]);
    const met = new Set<string>();
    for (const [key, pod] of this.#snapshot.pods) {
      const workload = workloadKey(partyOf(pod));
      if (!met.has(workload)) pods.set(key, pod);
      met.add(workload);
    }
    return lint({ ir: this.#after, snapshot: { ...this.#snapshot, pods } })
      .filter(({ where: { object = '' }, severity }) => severity === 'warning' && (own.has(object) || refs.has(object)))
      .filter(({ check, where }) => check !== 'no-destination' || !this.#meansNode(where.field))
      .map(({ check, message }) => `${check}: ${message}`);
  }
}

/** Entities of Cilium for nodes, of which one means the pod's own node and the other one the rest. */
const NODES = /"toNodes"|"toEntities":\["(host|remote-node)"/;

const NOTHING: Learned = new Map();

function revived(pod: Pod): Pod {
  return pod.ended ? { ...pod, ended: false, ips: [] } : pod;
}

function withoutAudit(namespace: Namespace): Namespace {
  if (!Object.hasOwn(namespace.annotations, AUDIT)) return namespace;
  const { [AUDIT]: _, ...annotations } = namespace.annotations;
  return { ...namespace, annotations };
}

function asEnforced(raw: RawPolicy): RawPolicy {
  const object = enforcedForm(raw.object);
  const kind = String(object.kind);
  const { namespace, name } = raw;
  const title = `${kindTitle(raw.apiVersion, kind)} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
  return { ...raw, kind, object, where: { object: title } };
}

function titleOf({ where }: RawPolicy): string {
  return where.object ?? '';
}

type Named = Pick<RawPolicy, 'apiVersion' | 'kind' | 'namespace' | 'name'>;

function keyOfRef({ apiVersion, kind, namespace, name }: Named): string {
  return [apiVersion.includes('calico'), kind, namespace ?? '', name].join(' ');
}

function refOf({ dialect, kind, namespace, name }: PolicyRef): Named {
  return {
    apiVersion: dialect === 'calico' ? 'calico' : '',
    kind,
    ...(namespace === undefined ? {} : { namespace }),
    name,
  };
}
