/**
 * Finds likely mistakes: rules that can never decide, selectors that match nothing, pods that cannot resolve names.
 * Pure. Faults of the objects themselves are reported by validate.
 */
import type { Problem } from '../../errors.js';
import type { RawPolicy, Snapshot } from '../../identity/snapshot.js';
import { peerMatches, podsAt } from '../../ir/evaluate.js';
import { DNS_PORT } from '../../ir/services.js';
import { matchLabels, matchService, matchWorkload } from '../../ir/match.js';
import { rawOf } from '../../dialects/problems.js';
import { formatRule, ruleField } from '../../ir/names.js';
import type { Peer } from '../../ir/peers.js';
import { DEFAULT_RULE, type IrPolicy, type Rule, type RuleRef } from '../../ir/types.js';
import { leaves, type World } from '../packets.js';
import { bounded } from '../ranges.js';
import { alike, dnsFindings, podsOf } from './dns.js';
import { type Add, adder, type Finding, NAMES } from './findings.js';
import { nameFindings } from './names.js';
import { type Reach, type Reached, reach, reachKey, type SenderFacts } from './reach.js';

export type { Finding } from './findings.js';

/** Checks a world. @param problems of the objects, which contain the reasons of refused rules */
export function lint(world: World, problems: readonly Problem[] = []): Finding[] {
  const reached = reach(world);
  const findings: Finding[] = [];
  for (const tier of world.ir.tiers) {
    for (const policy of tier.policies) {
      const add = adder(findings, world.snapshot, policy);
      const refusal = refusals(problems, rawOf(world.snapshot.policies, policy.ref));
      const selects = selectsSome(policy, world.snapshot);
      if (selects === false) {
        const [what, place] = policy.nodes ? ['node', ''] : ['pod', ', or its namespace'];
        add('warning', 'no-pods', undefined, `selects no ${what}`, `correct its selector${place}`);
      }
      for (const rules of byIndex(policy)) checkRules(rules, selects === true, world, reached, refusal, add);
    }
  }
  dnsFindings(world, reached, findings);
  nameFindings(world, reached, findings);
  for (const [facts, ...more] of alike(reached.senders.filter((one) => one.refused !== undefined)))
    findings.push(tooMany(facts, podsOf([facts, ...more]), world.snapshot));
  return findings;
}

/** undefined: there is no object that it could select. */
function selectsSome({ nodes, subject }: IrPolicy, snapshot: Snapshot): boolean | undefined {
  if (nodes !== undefined) {
    if (snapshot.nodes.size === 0) return undefined;
    return [...snapshot.nodes.values()].some((node) => matchLabels(nodes, node.labels));
  }
  if (snapshot.pods.size === 0) return undefined;
  return [...snapshot.pods.values()].some((pod) => matchWorkload(subject, pod, snapshot));
}

/** The reason why a rule of the object was refused. */
type Refusal = (ref: RuleRef) => Problem | undefined;

function refusals(problems: readonly Problem[], raw: RawPolicy | undefined): Refusal {
  const own = problems.filter(
    ({ severity, where: { file, document, object } }) =>
      severity === 'error' &&
      raw !== undefined &&
      file === raw.where.file &&
      document === raw.where.document &&
      object === raw.where.object,
  );
  return (ref) => {
    const field = ruleField(ref);
    return own.find(({ where }) => where.field?.startsWith(field) && /^$|^[.[]/.test(where.field.slice(field.length)));
  };
}

/** The IR rules that a dialect made of each rule of the user. */
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

function checkRules(
  rules: readonly Rule[],
  selects: boolean,
  world: World,
  reached: Reached,
  refusal: Refusal,
  add: Add,
): void {
  const [{ ref }] = rules as [Rule];
  const name = formatRule(ref);
  if (rules.every((rule) => rule.peers?.length === 0 || rule.ports?.length === 0)) {
    const refused = refusal(ref);
    if (refused) {
      const why = `${refused.where.field}: ${refused.message}`;
      add('warning', 'refused', ref, `${name} matches nothing, it was refused: ${why}`, refused.hint ?? 'correct it');
      return;
    }
    const message = `${name} names no destination: it can match nothing`;
    add('warning', 'no-destination', ref, message, 'name one, or remove the rule');
    return;
  }
  const empty = new Set(rules.flatMap((rule) => emptySelectors(rule, world.snapshot)));
  for (const what of empty) add('warning', 'empty-selector', ref, `${name}: ${what}`, 'correct it, or remove it');
  for (const text of coveredPods(rules, world.snapshot))
    add('info', 'cidr-covers-pods', ref, `${name}: ${text}`, 'to mean pods, select them: toEndpoints');
  for (const text of serviceAddresses(rules, world.snapshot))
    add('info', 'service-address', ref, `${name}: ${text}`, 'select the pods that are behind it');
  const found = reached.rules.get(reachKey(ref));
  if (selects && found && isVoid(found)) {
    add(...voidFilter(found));
    return;
  }
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

/** Rules unite: what one allows by addresses and ports alone, no other can ask more of. */
function isVoid({ filters }: Reach): boolean {
  return filters !== undefined && !filters.matters && filters.voidedBy.size > 0;
}

function voidFilter({ ref, filters }: Reach): Parameters<Add> {
  const by = bounded([...(filters?.voidedBy.keys() ?? [])], NAMES);
  const message = `${formatRule(ref)} narrows nothing: ${by} allows every connection there`;
  return ['warning', 'void-filter', ref, message, 'ask there too, or remove one of them'];
}

function shadowed({ ref, before }: Reach): Parameters<Add> {
  const by = [...before.values()];
  const first = bounded([...before.keys()], NAMES);
  const name = formatRule(ref);
  if (by.length > 0 && by.every((other) => other.action === ref.action)) {
    const message = `${name} adds nothing: ${first} ${verb(ref)} all of it already`;
    return ['info', 'redundant', ref, message, 'remove one of them'];
  }
  // If every pod has policies of its own, the rules behind them are never reached: they are a fallback, not a mistake.
  const floor = by.length > 0 && by.every((other) => other.index === DEFAULT_RULE && other.tier !== ref.tier);
  const message = `${name} is never reached: ${first || 'a tier before it'} decides first, wherever it matches`;
  const ordered = ![ref, ...by].some(({ policy }) => UNORDERED.has(policy.dialect));
  const hint = ordered ? 'put it before them, narrow them, or remove it' : 'narrow them, or remove it';
  return [floor ? 'info' : 'warning', 'shadowed', ref, message, hint];
}

/** Dialects whose rules have no order: allows are combined, and in Cilium each deny has precedence. */
const UNORDERED: ReadonlySet<string> = new Set(['networkpolicy', 'cilium', 'fqdn']);

function verb({ action }: RuleRef): string {
  return { allow: 'allows', deny: 'denies', pass: 'passes', log: 'logs' }[action];
}

/**
 * Selectors of a rule that match no object in the manifests. Kinds of which the manifests contain no object are not
 * checked.
 */
function emptySelectors(rule: Rule, snapshot: Snapshot): string[] {
  const out: string[] = [];
  const { pods, nodes, services } = snapshot;
  // Calico's selectors may match network sets too, whose networks are separate peers here, or are omitted.
  const calico = rule.ref.policy.dialect === 'calico';
  const sets = calico && snapshot.policies.some(({ kind }) => kind.endsWith('NetworkSet'));
  const ofSets = sets && leaves(rule.peers).some((peer) => peer.kind === 'cidr');
  const who = sets ? 'no pod and no network set matches' : 'no pod matches';
  for (const peer of namedLeaves(rule.peers, calico)) {
    if (peer.kind === 'pods' && pods.size > 0) {
      if (!ofSets && ![...pods.values()].some((pod) => matchWorkload(peer, pod, snapshot)))
        out.push(`${who} ${selector(peer)}`);
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

/**
 * The selectors as they were written. Negations of other dialects than Calico's are made by the dialect itself; if they
 * exclude nothing, that is no mistake.
 */
function namedLeaves(peers: readonly Peer[] | null, negated: boolean): Peer[] {
  return (peers ?? []).flatMap((peer): Peer[] => {
    if (peer.kind === 'all' || peer.kind === 'some') return namedLeaves(peer.of, negated);
    if (peer.kind === 'not') return negated ? namedLeaves([peer.of], negated) : [];
    return [peer];
  });
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

/** Blocks of Cilium's toCIDR that contain pods. toCIDR never matches anything in the cluster. */
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
        const judged = { sender, to, protocol: 6, port: 0, fragment: false, names: [] };
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

/**
 * Blocks with a single address that belongs to a Service. Users mean the Service, or the node's DNS cache that has
 * taken over its address.
 */
function serviceAddresses(rules: readonly Rule[], snapshot: Snapshot): string[] {
  const single = (cidr: string) => /^(.*)\/(?:32|128)$/.exec(cidr)?.[1];
  const blocks = rules.flatMap((rule) => leaves(rule.peers)).flatMap((leaf) => (leaf.kind === 'cidr' ? leaf.cidr : []));
  const out: string[] = [];
  for (const ip of new Set(blocks.flatMap((cidr) => single(cidr) ?? []))) {
    const service = [...snapshot.services.values()].find(({ vips }) => vips.includes(ip));
    if (!service) continue;
    const dns = service.ports.some(({ port }) => port === DNS_PORT);
    const but = dns ? '; unless the node answers there itself (NodeLocal DNSCache)' : '';
    const key = `${service.namespace}/${service.name}`;
    out.push(`${ip} is the address of Service ${key}, for which the pods behind it are judged${but}`);
  }
  return out;
}

function tooMany({ senders, refused }: SenderFacts, pods: readonly string[], snapshot: Snapshot): Finding {
  const policy = senders.policies[0]?.[0];
  const where = (policy && rawOf(snapshot.policies, policy.ref)?.where) ?? {};
  const message = `${bounded(pods, NAMES)}: ${refused}`;
  return { severity: 'warning', check: 'too-many-rules', where, message, hint: 'give its pods fewer rules' };
}
