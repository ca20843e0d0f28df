/**
 * Binds pods to namespaces, and namespaces to interfaces. Evidence assigns namespaces to pods (evidence/evidence.ts),
 * the kernel lists their interfaces, and a binding stays as long as its interfaces exist (bound.ts). In this order:
 *
 *   1. claims         the namespace of each pod: evidence that the pod cannot change, or an earlier binding
 *   2. conflicts      two pods with one namespace: the stronger evidence wins; if equal, both are closed and reported
 *   3. addresses      for pods without evidence, among namespaces that no pod has
 *   4. interfaces     every veth that leads to the pod's namespace, or to one below it
 */
import { AgentError, type Problem } from '../../../src/errors.js';
import type { Pod } from '../../../src/identity/snapshot.js';
import { type BoundPod, BoundPods, type Nic } from './bound.js';
import type { Evidence, EvidenceSource } from '../evidence/evidence.js';
import { type OwnNamespace, Scan, type ScanOptions, type NamespaceView } from './namespace-scan.js';
import type { Link } from '../../netlink/netlink.js';
import { addressesOf, refreshNic, makeNic, sourcesOf } from './nic.js';
import { annotationPath, isRuntimeNamed, namedNamespaces, type Netns, netnsAt } from '../../netlink/netns.js';

export const NETNS_ANNOTATION = 'egress-agent.io/netns';
const ANNOTATION_FIELD = `metadata.annotations["${NETNS_ANNOTATION}"]`;

export interface BinderOptions extends ScanOptions {
  /** Whether the namespace annotation counts. */
  annotations: boolean;
  /** On a cluster's node: interfaces of removed pods stay closed, and a pod without an address is no fault. */
  cluster: boolean;
  /** Sources of evidence, the strongest first. */
  sources: readonly EvidenceSource[];
  /** File in which bindings are kept for the next agent. */
  statePath?: string | undefined;
}

/** An interface of a pod. */
export interface BoundNic {
  readonly pod: Pod;
  readonly ns: Netns;
  readonly nic: Nic;
  readonly link: Link;
  /** Addresses that the pod may send from. */
  readonly ips: readonly string[];
}

/** The result of one pass. */
export interface BindResult {
  readonly nics: readonly BoundNic[];
  /** Interfaces that two pods claim, and those of several namespaces that own one pod's address. */
  readonly conflicts: readonly Link[];
  /** Interfaces of pods that no longer exist. */
  readonly orphans: readonly Link[];
  /** Whether a veth of no pod leads to a namespace of the node's own. */
  isNodes(link: Link): boolean;
  /** UIDs of pods that are not bound. */
  readonly unbound: ReadonlySet<string>;
  readonly problems: readonly Problem[];
}

/** State of the running pass. */
interface Pass {
  readonly own: OwnNamespace;
  readonly scan: Scan;
  readonly local: readonly Pod[];
  readonly evidence: Map<Pod, Evidence>;
  /** Pods that can be found by their addresses only. */
  readonly withoutEvidence: Pod[];
  readonly nics: BoundNic[];
  readonly conflicts: Map<number, Link>;
  readonly unbound: Set<string>;
  readonly problems: Problem[];
  /** Veths that no pod had at the start of the pass, and that were examined in fewer than STRANGER_PASSES passes. */
  readonly fresh: readonly Link[];
}

/** A veth that belongs to no pod. */
interface Stranger {
  /** Number of passes that examined it. */
  passes: number;
  /** Its namespace is the node's: an administrator named it, or a process of the node, and none of a pod, is in it. */
  ofNode: boolean;
}

/**
 * Passes that look for an interface's owner: its process may enter the namespace some milliseconds after the creation.
 */
const STRANGER_PASSES = 5;

function keyOf(link: Link): string {
  return `${link.ifindex}:${link.netnsid}`;
}

export function podFault(pod: Pod, field: string, message: string, hint?: string): AgentError {
  return new AgentError('NETNS', message, { where: { object: nameOf(pod), field }, hint });
}

function nameOf(pod: Pod): string {
  return `Pod ${pod.namespace}/${pod.name}`;
}

export class Binder {
  readonly #opts: BinderOptions;
  readonly #bound: BoundPods;
  #loaded = false;
  /** UIDs of pods whose namespaces were searched among all files. */
  readonly #searchedUids = new Set<string>();
  /** Veths of no pod, by index and namespace. */
  #strangers = new Map<string, Stranger>();

  constructor(opts: BinderOptions) {
    this.#opts = opts;
    this.#bound = new BoundPods(opts.statePath);
  }

  /** Runs one pass. A fault of one pod becomes a problem; throws KERNEL if the agent's own namespace cannot be read. */
  bind(own: OwnNamespace, local: readonly Pod[]): BindResult {
    if (!this.#loaded) this.#bound.load(own.ns);
    this.#loaded = true;
    const scan = new Scan(own, this.#opts);
    const leadsHere = (ns: Netns) => scan.veths(ns).length > 0;
    for (const source of this.#opts.sources) source.begin({ own: own.ns, leadsHere });
    this.#forget(own, local);
    const pass: Pass = {
      ...{ own, scan, local, evidence: new Map(), withoutEvidence: [], nics: [], conflicts: new Map() },
      ...{ unbound: new Set(), problems: [], fresh: this.#updateStrangers(own) },
    };
    for (const pod of local) {
      this.#attempt(pod, pass, () => {
        const evidence = this.#findEvidence(pod, pass);
        if (evidence) pass.evidence.set(pod, evidence);
        else pass.withoutEvidence.push(pod);
      });
    }
    this.#settleClaims(pass);
    this.#findByAddress(pass);
    for (const pod of local) {
      const evidence = pass.evidence.get(pod);
      if (evidence) this.#attempt(pod, pass, () => this.#bindPod(pod, evidence, pass));
    }
    this.#assignStrangers(pass);
    for (const pod of local) this.#report(pod, pass);
    const problems = [...pass.problems, ...this.#bound.save()];
    const { nics, unbound } = pass;
    const isNodes = (link: Link) => this.#strangers.get(keyOf(link))?.ofNode ?? false;
    return { nics, conflicts: [...pass.conflicts.values()], orphans: this.#orphans(pass), isNodes, unbound, problems };
  }

  #attempt(pod: Pod, pass: Pass, step: () => void): void {
    try {
      step();
    } catch (e) {
      if (!(e instanceof AgentError)) throw e;
      pass.evidence.delete(pod);
      pass.unbound.add(pod.uid);
      // Starting or terminating: no fault.
      if (this.#opts.cluster && (pod.ips.length === 0 || pod.terminating)) return;
      const where = { object: nameOf(pod), ...e.where };
      pass.problems.push({ severity: 'error', where, message: e.message, hint: e.hint });
    }
  }

  /** Removes bindings of interfaces, then of namespaces, then of pods that no longer exist. */
  #forget(own: OwnNamespace, local: readonly Pod[]): void {
    const uids = new Set(local.map((p) => p.uid));
    for (const bound of this.#bound.all()) {
      for (const ifindex of bound.nics.keys()) if (own.links.get(ifindex)?.kind !== 'veth') bound.nics.delete(ifindex);
      const exists = uids.has(bound.uid);
      // A pod without an interface keeps its namespace, and may get another interface.
      const remains = bound.nics.size > 0 || (exists && netnsAt(bound.ns.path)?.id === bound.ns.id);
      if (remains && (exists || this.#opts.cluster)) continue;
      this.#bound.delete(bound.uid);
      this.#searchedUids.delete(bound.uid);
    }
  }

  #updateStrangers(own: OwnNamespace): Link[] {
    const boundIndices = new Set([...this.#bound.all()].flatMap((b) => [...b.nics.keys()]));
    const strangers = [...own.veths.values()].flat().filter((l) => !boundIndices.has(l.ifindex));
    const current = new Map<string, Stranger>();
    const fresh: Link[] = [];
    for (const l of strangers) {
      const stranger = this.#strangers.get(keyOf(l)) ?? { passes: 0, ofNode: false };
      if (stranger.passes++ < STRANGER_PASSES) fresh.push(l);
      current.set(keyOf(l), stranger);
    }
    this.#strangers = current;
    return fresh;
  }

  /** The best evidence; undefined: there is none but, perhaps, the pod's addresses. */
  #findEvidence(pod: Pod, { scan, own }: Pass): Evidence | undefined {
    const bound = this.#bound.get(pod.uid);
    const remembered: Evidence | undefined = bound && { ns: this.#reopenable(bound, scan), by: bound.by, sure: true };
    const annotation = this.#opts.annotations ? pod.annotations[NETNS_ANNOTATION] : undefined;
    if (annotation !== undefined) {
      const field = ANNOTATION_FIELD;
      const path = annotationPath(annotation, this.#opts.runDir);
      const ns = netnsAt(path);
      // A namespace whose name was removed exists as long as a process is in it.
      if (!ns && remembered) return remembered;
      if (!ns) throw podFault(pod, field, `there is no network namespace at ${path}`, 'it is bound when it appears');
      if (ns.id === own.ns.id)
        throw podFault(pod, field, `${path} is the agent's own namespace`, 'set spec.hostNetwork');
      return { ns, by: 'annotation', sure: true };
    }
    for (const source of this.#opts.sources) {
      if (source.costly && bound) continue;
      const evidence = source.find(pod);
      if (!evidence || evidence.ns.id === own.ns.id) continue;
      if (evidence.sure || this.#confirmed(pod, evidence, bound, scan)) return evidence;
    }
    return remembered;
  }

  /** The bound namespace, by a file that opens it. If its process has ended, another file is searched, once. */
  #reopenable({ uid, ns }: BoundPod, scan: Scan): Netns {
    if (this.#searchedUids.has(uid) || netnsAt(ns.path)?.id === ns.id) return ns;
    this.#searchedUids.add(uid);
    return scan.list().find((n) => n.id === ns.id) ?? ns;
  }

  /** Whether evidence without a UID means this pod; otherwise another of its name would be judged by its policy. */
  #confirmed(pod: Pod, { ns }: Evidence, bound: BoundPod | undefined, scan: Scan): boolean {
    if (bound) return bound.ns.id === ns.id;
    return pod.ips.length === 0 || scan.view(ns).addresses.some((a) => pod.ips.includes(a.address));
  }

  /** Decides between pods with one namespace: evidence beats addresses; if several have evidence, none gets it. */
  #settleClaims(pass: Pass): void {
    for (const [pod, { ns }] of pass.evidence) {
      const bound = this.#bound.get(pod.uid);
      // The address belonged to another pod, or does now. A binding by evidence stays as long as its namespace exists.
      if (bound?.by === 'address' && bound.ns.id !== ns.id) bound.nics.clear();
    }
    const claims = new Map<string, Pod[]>();
    for (const [pod, { ns }] of pass.evidence) claims.set(ns.id, [...(claims.get(ns.id) ?? []), pod]);
    for (const pods of claims.values()) {
      if (pods.length === 1) continue;
      const firm = pods.filter((p) => pass.evidence.get(p)?.by !== 'address');
      for (const pod of firm.length > 0 ? pods.filter((p) => !firm.includes(p)) : []) {
        this.#bound.delete(pod.uid);
        pass.evidence.delete(pod);
        pass.withoutEvidence.push(pod);
      }
      const rivals = firm.length > 0 ? firm : pods;
      if (rivals.length > 1) this.#refuseRivals(rivals, (pass.evidence.get(rivals[0] as Pod) as Evidence).ns, pass);
    }
  }

  /** Closes the interfaces of a namespace that several pods claim: one of them would be judged by another's policy. */
  #refuseRivals(pods: readonly Pod[], ns: Netns, pass: Pass): void {
    this.#close(pods, [ns], pass);
    for (const pod of pods) {
      const others = pods.filter((p) => p !== pod).map(nameOf);
      const message = `its network namespace, ${ns.path}, is claimed by ${others.join(', ')} too: its interfaces are closed`;
      pass.evidence.delete(pod);
      pass.unbound.add(pod.uid);
      pass.problems.push({
        severity: 'error',
        where: { object: nameOf(pod), field: this.#fieldOf(pod) },
        message,
        hint: 'give each pod a network namespace of its own',
      });
    }
  }

  #fieldOf(pod: Pod): string {
    const annotated = this.#opts.annotations && pod.annotations[NETNS_ANNOTATION] !== undefined;
    return annotated ? ANNOTATION_FIELD : 'status.podIP';
  }

  #close(pods: readonly Pod[], namespaces: readonly Netns[], { scan, own, conflicts }: Pass): void {
    for (const ns of namespaces) for (const l of scan.veths(ns)) conflicts.set(l.ifindex, l);
    for (const pod of pods) {
      for (const ifindex of this.#bound.get(pod.uid)?.nics.keys() ?? []) {
        conflicts.set(ifindex, own.links.get(ifindex) as Link);
      }
    }
  }

  #findByAddress(pass: Pass): void {
    const { scan, withoutEvidence, evidence } = pass;
    const claimedIds = new Set([...evidence.values()].map((e) => e.ns.id));
    const candidates = new Map<string, { view: NamespaceView; pods: Pod[] }>();
    for (const pod of withoutEvidence) {
      this.#attempt(pod, pass, () => {
        if (pod.ips.length === 0) {
          const hint = `set ${ANNOTATION_FIELD}`;
          throw podFault(pod, 'status.podIP', 'has no address, so that its namespace cannot be found', hint);
        }
        const free = scan
          .owners(pod.ips)
          .filter((v) => !claimedIds.has(v.ns.id) && !this.#hasOtherPodsLink(v.ns, pod, pass));
        const view = this.#singleView(pod, free, pass);
        const candidate = candidates.get(view.ns.id);
        if (candidate) candidate.pods.push(pod);
        else candidates.set(view.ns.id, { view, pods: [pod] });
      });
    }
    for (const { view, pods } of candidates.values()) {
      // The address was given to another pod while its previous owner terminates.
      const running = pods.filter((p) => !p.terminating);
      const rivals = running.length > 0 ? running : pods;
      for (const pod of pods) if (!rivals.includes(pod)) pass.unbound.add(pod.uid);
      if (rivals.length > 1) this.#refuseRivals(rivals, view.ns, pass);
      else evidence.set(rivals[0] as Pod, { ns: view.ns, by: 'address', sure: true });
    }
  }

  /** Whether another pod's interface leads there: that pod could set this pod's address, to get its policy. */
  #hasOtherPodsLink(ns: Netns, pod: Pod, { scan, evidence }: Pass): boolean {
    const otherUids = new Set([...evidence.keys()].filter((p) => p !== pod).map((p) => p.uid));
    const otherBound = [...this.#bound.all()].filter((b) => otherUids.has(b.uid));
    return scan.veths(ns).some((l) => otherBound.some((b) => b.nics.has(l.ifindex)));
  }

  #singleView(pod: Pod, views: readonly NamespaceView[], pass: Pass): NamespaceView {
    const [first, ...more] = views;
    const ips = pod.ips.join(', ');
    const hint = this.#opts.annotations ? `set ${ANNOTATION_FIELD}` : undefined;
    if (!first) throw podFault(pod, 'status.podIP', `no network namespace with a veth here owns ${ips}`, hint);
    if (more.length === 0) return first;
    this.#close(
      [pod],
      views.map((v) => v.ns),
      pass,
    );
    const paths = views.map((v) => v.ns.path).join(', ');
    throw podFault(pod, 'status.podIP', `${ips} is owned by several namespaces, which are closed: ${paths}`, hint);
  }

  /** Binds the pod to its namespace and to the interfaces that lead there. */
  #bindPod(pod: Pod, evidence: Evidence, pass: Pass): void {
    const { scan, own } = pass;
    const key = `${pod.namespace}/${pod.name}`;
    let bound = this.#bound.get(pod.uid);
    const isNew = bound?.ns.id !== evidence.ns.id;
    if (!bound) this.#bound.set((bound = { uid: pod.uid, key, ns: evidence.ns, by: evidence.by, nics: new Map() }));
    bound.ns = evidence.ns;
    bound.by = evidence.by;
    const numbers = new Set([...bound.nics.keys()].map((i) => own.links.get(i)?.netnsid));
    if (isNew || bound.nics.size === 0 || pass.fresh.length > 0) numbers.add(scan.number(bound.ns));
    const links = [...numbers].flatMap((n) => (n === undefined ? [] : (own.veths.get(n) ?? [])));
    const followed = !this.#opts.cluster || (isNew && !this.#hasNicFacts());
    for (const link of links) {
      if (bound.nics.has(link.ifindex) || this.#belongsToOther(link, pod, pass)) continue;
      bound.nics.set(link.ifindex, makeNic(link, bound.ns, evidence.nics, scan, followed));
    }
    if (bound.nics.size === 0) {
      throw podFault(pod, 'status.podIP', `no interface in ${bound.ns.path} is a veth whose other end is here`);
    }
    for (const nic of bound.nics.values()) refreshNic(nic, pod, bound.ns, evidence.nics, pass, this.#opts.cluster);
  }

  /** Whether another existing pod has the interface. One of a removed pod passes to its successor. */
  #belongsToOther(link: Link, pod: Pod, { local }: Pass): boolean {
    for (const bound of this.#bound.all()) {
      if (bound.uid === pod.uid || !bound.nics.has(link.ifindex)) continue;
      if (local.some((p) => p.uid === bound.uid)) return true;
      bound.nics.delete(link.ifindex);
    }
    return false;
  }

  #hasNicFacts(): boolean {
    return this.#opts.sources.some((s) => s.hasNicFacts);
  }

  /** Finds the owners of veths of no pod: they lead to a namespace that a pod made, or to one of the node's own. */
  #assignStrangers(pass: Pass): void {
    const had = new Set([...this.#bound.all()].flatMap((b) => [...b.nics.keys()]));
    if (!this.#opts.cluster || pass.fresh.every((l) => had.has(l.ifindex))) return;
    const nodeNamespaces = namedNamespaces(this.#opts.runDir).filter((ns) => !isRuntimeNamed(ns));
    const owners = this.#opts.sources.flatMap((s) => s.owners?.() ?? []);
    for (const { ns, uid } of [...nodeNamespaces.map((ns) => ({ ns, uid: undefined })), ...owners]) {
      const bound = uid === undefined ? undefined : this.#bound.get(uid);
      for (const link of pass.scan.veths(ns)) {
        if (had.has(link.ifindex)) continue;
        const stranger = this.#strangers.get(keyOf(link));
        if (bound) bound.nics.set(link.ifindex, makeNic(link, ns, undefined, pass.scan, false));
        else if (uid === undefined && stranger) stranger.ofNode = true;
      }
    }
  }

  #report(pod: Pod, pass: Pass): void {
    const bound = this.#bound.get(pod.uid);
    if (!bound || !pass.evidence.has(pod)) return;
    const nics = [...bound.nics.values()];
    const others = () => addressesOf(pass.local.filter((p) => p !== pod));
    for (const nic of nics) {
      const link = pass.own.links.get(nic.ifindex) as Link;
      pass.nics.push({ pod, ns: bound.ns, nic, link, ips: sourcesOf(nic, pod, nics, others) });
    }
  }

  #orphans({ local, own }: Pass): Link[] {
    const uids = new Set(local.map((p) => p.uid));
    return [...this.#bound.all()]
      .filter((b) => !uids.has(b.uid))
      .flatMap((b) => [...b.nics.keys()].map((ifindex) => own.links.get(ifindex) as Link));
  }
}
