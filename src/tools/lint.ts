/**
 * What is most likely not meant: rules that can never decide, selectors that match nothing, pods that cannot resolve names. Pure.
 * Faults of the objects themselves are validate's.
 */
import type { Where } from '../errors.js';
import type { RawPolicy, Snapshot } from '../identity/snapshot.js';
import { peerMatches, podsAt } from '../ir/evaluate.js';
import { matchLabels, matchService, matchWorkload } from '../ir/match.js';
import { formatPolicy, formatRule } from '../ir/names.js';
import type { Peer } from '../ir/peers.js';
import { DEFAULT_RULE, type IrPolicy, type Rule, type RuleRef } from '../ir/types.js';
import { leaves, type World } from './packets.js';
import { bounded } from './ranges.js';
import { type Reach, type Reached, reach, reachKey, type SenderFacts } from './reach.js';

export type Check =
  | 'shadowed' // a rule with another effect always comes first
  | 'redundant' // a rule with the same effect always comes first
  | 'no-destination' // a rule that can match nothing
  | 'empty-selector' // a selector that matches nothing that there is
  | 'no-pods' // a policy that selects no pod, or no node
  | 'no-dns' // a pod that may reach something, but no DNS
  | 'cidr-covers-pods' // a block with pods in it, in a language whose blocks mean none
  | 'too-many-rules'; // a set that does not fit the maps

export interface Finding {
  readonly severity: 'warning' | 'info';
  readonly check: Check;
  readonly where: Where;
  readonly message: string;
  /** What to do. */
  readonly hint: string;
}

/** So many names are listed. */
const NAMES = 5;

export function lint(world: World): Finding[] {
  const reached = reach(world);
  const findings: Finding[] = [];
  for (const tier of world.ir.tiers) {
    for (const policy of tier.policies) {
      const add = adder(findings, world.snapshot, policy);
      const selects = selectsSome(policy, world.snapshot);
      if (selects === false) {
        const [what, place] = policy.nodes ? ['node', ''] : ['pod', ', or its namespace'];
        add('warning', 'no-pods', undefined, `selects no ${what}`, `correct its selector${place}`);
      }
      for (const rules of byIndex(policy)) checkRules(rules, selects === true, world, reached, add);
    }
  }
  dnsFindings(world, reached, findings);
  for (const facts of reached.senders) if (facts.refused !== undefined) findings.push(tooMany(facts, world.snapshot));
  return findings;
}

/** undefined: there is nothing that it could select. */
function selectsSome({ nodes, subject }: IrPolicy, snapshot: Snapshot): boolean | undefined {
  if (nodes !== undefined) {
    if (snapshot.nodes.size === 0) return undefined;
    return [...snapshot.nodes.values()].some((node) => matchLabels(nodes, node.labels));
  }
  if (snapshot.pods.size === 0) return undefined;
  return [...snapshot.pods.values()].some((pod) => matchWorkload(subject, pod, snapshot));
}

type Add = (
  severity: Finding['severity'],
  check: Check,
  ref: RuleRef | undefined,
  message: string,
  hint: string,
) => void;

function adder(findings: Finding[], snapshot: Snapshot, policy: IrPolicy): Add {
  const raw = rawOf(snapshot.policies, policy);
  return (severity, check, ref, message, hint) => {
    const field = ref && fieldOf(ref, raw);
    const where: Where = { object: formatPolicy(policy.ref), ...raw?.where, ...(field === undefined ? {} : { field }) };
    findings.push({ severity, check, where, message, hint });
  };
}

/** The object that a policy was made of. Calico has a kind of the same name as Kubernetes has. */
function rawOf(policies: readonly RawPolicy[], { ref }: IrPolicy): RawPolicy | undefined {
  const same = policies.filter(
    (raw) => raw.kind === ref.kind && raw.name === ref.name && (raw.namespace ?? ref.namespace) === ref.namespace,
  );
  return same.find((raw) => raw.apiVersion.includes('calico') === (ref.dialect === 'calico')) ?? same[0];
}

/** Of a rule in the user's list. Cilium's `specs` count on from one to the next: no path tells which it is. */
function fieldOf(ref: RuleRef, raw: RawPolicy | undefined): string | undefined {
  if (ref.index < 0 || (raw && raw.object.spec === undefined)) return undefined;
  const list = ref.policy.dialect === 'cilium' && ref.action === 'deny' ? 'egressDeny' : 'egress';
  return `spec.${list}[${ref.index}]`;
}

/** What a dialect made of one rule of the user's. */
function byIndex(policy: IrPolicy): Rule[][] {
  const out = new Map<string, Rule[]>();
  for (const rule of policy.rules) {
    if (rule.ref.index < 0) continue;
    const key = reachKey(rule.ref);
    const same = out.get(key);
    if (same) same.push(rule);
    else out.set(key, [rule]);
  }
  return [...out.values()];
}

function checkRules(rules: readonly Rule[], selects: boolean, world: World, reached: Reached, add: Add): void {
  const [{ ref }] = rules as [Rule];
  const name = formatRule(ref);
  if (rules.every((rule) => rule.peers?.length === 0 || rule.ports?.length === 0)) {
    const message = `${name} names no destination: it can match nothing`;
    add('warning', 'no-destination', ref, message, 'name one, or remove the rule');
    return;
  }
  const empty = new Set(rules.flatMap((rule) => emptySelectors(rule, world.snapshot)));
  for (const what of empty) add('warning', 'empty-selector', ref, `${name}: ${what}`, 'correct it, or remove it');
  for (const text of coveredPods(rules, world.snapshot))
    add('info', 'cidr-covers-pods', ref, `${name}: ${text}`, 'to mean pods, select them: toEndpoints');
  const found = reached.rules.get(reachKey(ref));
  if (!selects || !found || found.reached) return;
  if (found.matched) add(...shadowed(found));
  else if (empty.size === 0)
    add(
      'warning',
      'no-destination',
      ref,
      `${name} matches no packet of the pods that it is for`,
      'correct its destinations or ports',
    );
}

function shadowed({ ref, before }: Reach): Parameters<Add> {
  const by = [...before.values()];
  const first = bounded([...before.keys()], NAMES);
  const name = formatRule(ref);
  if (by.length > 0 && by.every((other) => other.action === ref.action)) {
    const message = `${name} adds nothing: ${first} ${verb(ref)} all of it already`;
    return ['info', 'redundant', ref, message, 'remove one of them'];
  }
  // Where every pod has policies of its own, what stands behind them is never asked: a floor, not a mistake.
  const floor = by.length > 0 && by.every((other) => other.index === DEFAULT_RULE && other.tier !== ref.tier);
  const message = `${name} is never reached: ${first || 'a tier before it'} decides first, wherever it matches`;
  return [floor ? 'info' : 'warning', 'shadowed', ref, message, 'put it before them, narrow them, or remove it'];
}

function verb({ action }: RuleRef): string {
  return { allow: 'allows', deny: 'denies', pass: 'passes', log: 'logs' }[action];
}

/** Selectors of a rule that match nothing of what the manifests have; kinds that they have nothing of are not judged. */
function emptySelectors(rule: Rule, snapshot: Snapshot): string[] {
  const out: string[] = [];
  const { pods, nodes, services } = snapshot;
  for (const peer of leaves(rule.peers)) {
    if (peer.kind === 'pods' && pods.size > 0) {
      if (![...pods.values()].some((pod) => matchWorkload(peer, pod, snapshot)))
        out.push(`no pod matches ${selector(peer)}`);
    } else if (peer.kind === 'nodes' && nodes.size > 0) {
      if (![...nodes.values()].some((node) => matchLabels(peer.labels, node.labels)))
        out.push('no node matches its selector');
    } else if (peer.kind === 'services' && services.size > 0) {
      const found = [...services.values()].some((service) => matchService(peer, service, snapshot));
      if (!found)
        out.push(peer.name === undefined ? 'no Service matches its selector' : `there is no Service ${peer.name}`);
    }
  }
  for (const { named } of rule.ports ?? []) {
    if (named === undefined || pods.size === 0) continue;
    if (![...pods.values()].some((pod) => pod.ports.some((port) => port.name === named)))
      out.push(`no pod has a port named ${named}`);
  }
  return out;
}

function selector(peer: Extract<Peer, { kind: 'pods' }>): string {
  const keys = new Set<string>();
  const walk = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    const { key, values } = value as { key?: unknown; values?: unknown };
    if (typeof key === 'string') keys.add(Array.isArray(values) ? `${key}=${values.join('|')}` : key);
    for (const part of Object.values(value)) walk(part);
  };
  walk(peer.pods);
  if ('names' in peer.namespaces) keys.add(`namespace ${peer.namespaces.names.join('|')}`);
  else walk(peer.namespaces.labels);
  return keys.size === 0 ? 'its selector' : [...keys].join(', ');
}

/** Cilium's toCIDR means nothing of the cluster: a block and not the pods. Said where there are pods in the block. */
function coveredPods(rules: readonly Rule[], snapshot: Snapshot): string[] {
  const out: string[] = [];
  for (const peer of rules.flatMap((rule) => rule.peers ?? [])) {
    if (peer.kind !== 'all') continue;
    const blocks = peer.of.filter((part) => leaves([part]).every((leaf) => leaf.kind === 'cidr'));
    const butPods = peer.of.some(
      (part) => part.kind === 'not' && leaves([part.of]).some((leaf) => leaf.kind === 'pods'),
    );
    const block = blocks.find((part) => part.kind === 'cidr' || part.kind === 'some');
    if (!butPods || !block) continue;
    const covered = [...snapshot.pods].filter(([, sender]) =>
      sender.ips.some((to) => {
        const judged = { sender, to, protocol: 6, port: 0, fragment: false };
        const inside = podsAt(snapshot, to).length > 0 && blocks.every((part) => peerMatches(part, snapshot, judged));
        return inside && !peerMatches(peer, snapshot, judged);
      }),
    );
    if (covered.length === 0) continue;
    const names = bounded(
      covered.map(([key]) => key),
      NAMES,
    );
    const blockTexts = leaves([block]).flatMap((leaf) => (leaf.kind === 'cidr' ? leaf.cidr : []));
    const text = bounded(blockTexts, NAMES);
    out.push(`${text} has pods in it, which a block never means in this language: ${names}`);
  }
  return [...new Set(out)];
}

/** Node-local DNS caches listen here (Kubernetes' NodeLocal DNSCache). */
const LOCAL_DNS = '169.254.20.10';

/** Pods that may reach something, but neither the cluster's DNS nor, where the manifests do not have it, port 53 anywhere. */
function dnsFindings(world: World, { senders, judge }: Reached, findings: Finding[]): void {
  const places = dnsPlaces(world.snapshot);
  for (const facts of senders) {
    const { denies, allows, dns } = facts;
    const [from] = facts.senders.pods as [string];
    const policy = facts.senders.policies[0]?.find((p) => p.isolates !== false && !p.staged);
    if (!denies || !policy || facts.refused !== undefined) continue;
    const reachable = [...places, { to: LOCAL_DNS, port: 53, protocol: 17 }].some(
      (place) => judge.any({ from, ...place }).verdict !== 'deny',
    );
    if (places.length > 0 ? reachable : dns) continue;
    const pods = bounded(facts.senders.pods, NAMES);
    const add = adder(findings, world.snapshot, policy);
    const hint = 'allow UDP and TCP port 53 to kube-dns, if they are to look up names';
    const where = places.length > 0 ? 'the DNS of the cluster' : 'port 53 anywhere';
    if (allows) add('warning', 'no-dns', undefined, `${pods} may not reach ${where}: names do not resolve`, hint);
    else add('info', 'no-dns', undefined, `${pods} may reach nothing, not even DNS`, hint);
  }
}

/** Addresses and ports of what resolves names: Service and pods with the label of kube-dns, or that Service's name. */
function dnsPlaces(snapshot: Snapshot): { to: string; port: number; protocol: number }[] {
  const out: { to: string; port: number; protocol: number }[] = [];
  for (const service of snapshot.services.values()) {
    const named =
      service.namespace === 'kube-system' &&
      ['kube-dns', 'coredns', 'rke2-coredns-rke2-coredns'].includes(service.name);
    if (!named && service.labels['k8s-app'] !== 'kube-dns') continue;
    for (const { port, protocol } of service.ports)
      if (port === 53) for (const to of service.vips) out.push({ to, port, protocol });
  }
  for (const pod of snapshot.pods.values()) {
    if (pod.hostNetwork || pod.ended || pod.labels['k8s-app'] !== 'kube-dns') continue;
    for (const to of pod.ips) for (const protocol of [17, 6]) out.push({ to, port: 53, protocol });
  }
  return out;
}

function tooMany({ senders, refused }: SenderFacts, snapshot: Snapshot): Finding {
  const policy = senders.policies[0]?.[0];
  const where = (policy && rawOf(snapshot.policies, policy)?.where) ?? {};
  const message = `${bounded(senders.pods, NAMES)}: ${refused}`;
  return { severity: 'warning', check: 'too-many-rules', where, message, hint: 'give its pods fewer rules' };
}
