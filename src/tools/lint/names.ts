/** Finds likely mistakes of rules that mean names, or filter DNS queries. */
import type { Snapshot } from '../../identity/snapshot.js';
import { judgedAt, ruleMatches } from '../../ir/evaluate.js';
import { formatRule } from '../../ir/names.js';
import type { NamesPeer, Peer } from '../../ir/peers.js';
import { senderOf } from '../../ir/sender.js';
import type { IrPolicy, PortMatch, Rule } from '../../ir/types.js';
import { EVERY_NAME, isExact, matchesName } from '../../names/pattern.js';
import { distinctNames, samples, shortest } from '../../names/samples.js';
import { leaves, type World } from '../packets.js';
import { bounded, groupBy } from '../ranges.js';
import { type DnsPlace, dnsPlaces, resolves } from './dns.js';
import { adder, type Finding, NAMES } from './findings.js';
import { type Reached, reachKey, type SenderFacts } from './reach.js';

/** Adds what is to say of names. */
export function nameFindings(world: World, { senders }: Reached, findings: Finding[]): void {
  const places = dnsPlaces(world.snapshot);
  const facts = senders.filter((one) => one.denies && one.refused === undefined);
  const told = new Map<Rule, Told>();
  for (const one of facts) for (const rule of new Set(one.senders.rules)) meet(told, rule, one, places);
  for (const tier of world.ir.tiers) {
    for (const policy of tier.policies) {
      for (const rule of policy.rules) {
        const add = adder(findings, world.snapshot, policy);
        const name = formatRule(rule.ref);
        const say: Say = (severity, check, message, hint) => {
          add(severity, check, rule.ref, `${name} ${message}`, hint);
        };
        ofPatterns(rule, world.snapshot, say);
        ofSenders(told.get(rule), say);
      }
      voidFilters(policy, facts, world, places, findings);
    }
  }
}

type Say = (severity: Finding['severity'], check: Finding['check'], message: string, hint: string) => void;

function namesIn(rule: Rule): NamesPeer[] {
  return leaves(rule.peers).filter((peer) => peer.kind === 'names');
}

/** What the patterns of a rule are, whoever its pods are. */
function ofPatterns(rule: Rule, snapshot: Snapshot, say: Say): void {
  for (const peer of rule.peers ?? []) {
    const names = namesIn({ ...rule, peers: [peer] });
    const outside = leaves([peer]).some((leaf) => leaf.kind === 'pods');
    for (const pattern of new Set(names.flatMap(({ patterns }) => patterns))) {
      const wide = wideness(pattern);
      if (wide) say('warning', 'wide-pattern', `means ${shown(pattern)}: ${wide}`, 'name what is really asked for');
      const service = serviceText(pattern, outside, snapshot);
      if (service) say('warning', 'service-name', `means ${pattern}: ${service}`, 'select the pods that are behind it');
    }
  }
}

function shown(pattern: string): string {
  return pattern === EVERY_NAME ? '*' : pattern;
}

/** Why a pattern matches names that others may register; undefined if it does not. */
function wideness(pattern: string): string | undefined {
  if (pattern === EVERY_NAME) return 'every name, so whoever answers for some name says which addresses are allowed';
  const [top = '', second, ...below] = pattern.split('.').reverse();
  if (top.includes('*')) return 'names in every top-level domain, where anybody can register one';
  if (second === undefined || !second.includes('*')) return undefined;
  if (second === '*' || second === '**') return `every name in ${top}, where anybody can register one`;
  const other = shortest([...below.reverse(), second.replaceAll('*', 'evil'), top].join('.'));
  return `it matches ${other} too, which anybody can register`;
}

/**
 * Why the name of a Service means nothing; undefined if it is none, or stands for pods.
 * @param outside whether the language's names mean no pods
 */
function serviceText(pattern: string, outside: boolean, snapshot: Snapshot): string | undefined {
  const found = /^(?:[^.]+\.)*?([^.*]+)\.([^.*]+)\.svc(?:\.|$)/.exec(pattern);
  if (!found || !isExact(pattern)) return undefined;
  const key = `${found[2]}/${found[1]}`;
  const service = snapshot.services.get(key);
  if (!service || service.vips.length > 0)
    return `that is the address of Service ${key}, in place of which the pods behind it are judged`;
  return outside ? `Service ${key} stands for pods, which no name means in this language` : undefined;
}

/** What is true of a rule with names for some pods. */
interface Told {
  /** Patterns for which no name may be asked for, with the pods. */
  readonly unresolved: Map<string, string[]>;
  /** Pods that may ask for nothing at all. */
  readonly silent: string[];
  /** Whether Cilium itself would learn nothing for some of its pods, since no filter covers their queries. */
  unfiltered: boolean;
}

function meet(all: Map<Rule, Told>, rule: Rule, facts: SenderFacts, places: readonly DnsPlace[]): void {
  const patterns = new Set(namesIn(rule).flatMap((peer) => peer.patterns));
  if (patterns.size === 0) return;
  const told: Told = all.get(rule) ?? { unresolved: new Map(), silent: [], unfiltered: false };
  all.set(rule, told);
  const filters = facts.senders.rules.flatMap((one) => one.queries ?? []);
  if (!resolves(facts, places)) {
    told.silent.push(...facts.senders.pods);
    return;
  }
  told.unfiltered ||= filters.length === 0 && rule.ref.policy.dialect === 'cilium';
  if (filters.length === 0) return;
  const asked = filters.flatMap(samples);
  for (const pattern of patterns) {
    const names = [...samples(pattern), ...asked].filter((name) => matchesName(pattern, name));
    if (resolves(facts, places, names)) continue;
    told.unresolved.set(pattern, [...(told.unresolved.get(pattern) ?? []), ...facts.senders.pods]);
  }
}

function ofSenders(told: Told | undefined, say: Say): void {
  if (!told) return;
  if (told.silent.length > 0) {
    const hint = 'allow UDP and TCP port 53 to kube-dns';
    const pods = bounded([...told.silent].sort(), NAMES);
    say('warning', 'unresolved', `means names, and ${pods} may ask no DNS server: it allows nothing`, hint);
  }
  for (const [pods, patterns] of groupBy([...told.unresolved.keys()], (p) =>
    bounded(told.unresolved.get(p) ?? [], NAMES),
  )) {
    const what = bounded(patterns.map(shown), NAMES);
    const hint = 'let these names be asked for, in rules.dns';
    say('warning', 'unresolved', `means ${what}, which ${pods} may not ask a DNS server for: it allows nothing`, hint);
  }
  if (!told.unfiltered) return;
  const message = 'means names without rules.dns: Cilium itself would learn none, here each trusted server counts';
  say('info', 'unfiltered-names', message, 'add rules.dns to what allows DNS, if the policy is for Cilium too');
}

/** Filters of queries beside a rule that allows every query to the same servers. */
function voidFilters(
  policy: IrPolicy,
  facts: readonly SenderFacts[],
  { snapshot }: World,
  places: readonly DnsPlace[],
  findings: Finding[],
): void {
  const add = adder(findings, snapshot, policy);
  const narrow = policy.rules.filter(({ queries }) => queries?.length && !queries.includes(EVERY_NAME));
  for (const rule of narrow) {
    const by = new Set<string>();
    for (const one of facts) {
      if (!one.senders.rules.includes(rule)) continue;
      const wide = wideRule(rule, one, places);
      if (wide) by.add(wide);
    }
    if (by.size === 0) continue;
    const message = `${formatRule(rule.ref)} narrows nothing: ${bounded([...by], NAMES)} allows every query there`;
    add('warning', 'void-filter', rule.ref, message, 'filter there too, or remove one of them');
  }
}

/** The rule that allows every query where this one allows some. */
function wideRule(rule: Rule, { senders, judge }: SenderFacts, places: readonly DnsPlace[]): string | undefined {
  const covers = senders.rules.find(
    (other) =>
      other !== rule &&
      other.action === 'allow' &&
      (other.queries?.includes(EVERY_NAME) ?? true) &&
      coverPeers(other.peers, rule.peers) &&
      coverPorts(other.ports, rule.ports),
  );
  if (covers) return formatRule(covers.ref);
  const filters = senders.rules.flatMap(({ queries = [] }) => queries.filter((pattern) => pattern !== EVERY_NAME));
  const other = distinctNames(filters).find((name) => !filters.some((pattern) => matchesName(pattern, name)));
  const [from] = senders.pods as [string];
  const { snapshot } = judge.world;
  const sender = senderOf(snapshot, from);
  if (other === undefined || !sender) return undefined;
  const own = shortest(rule.queries?.[0] ?? '');
  for (const place of places) {
    if (!ruleMatches(rule, snapshot, judgedAt(sender, { from, ...place, query: own }, undefined))) continue;
    const { verdict, rule: id } = judge.any({ from, ...place, query: other });
    const by = judge.ruleOf(id);
    if (verdict === 'allow' && by && reachKey(by) !== reachKey(rule.ref)) return formatRule(by);
  }
  return undefined;
}

function coverPeers(wide: Rule['peers'], narrow: Rule['peers']): boolean {
  if (wide === null) return true;
  const texts = new Set(wide.map((peer: Peer) => JSON.stringify(peer)));
  return narrow?.every((peer) => texts.has(JSON.stringify(peer))) ?? false;
}

function coverPorts(wide: Rule['ports'], narrow: Rule['ports']): boolean {
  if (wide === null) return true;
  return narrow?.every((one) => wide.some((other) => coversPort(other, one))) ?? false;
}

function coversPort(wide: PortMatch, { protocol, ports, named }: PortMatch): boolean {
  if (wide.protocol !== null && wide.protocol !== protocol) return false;
  if (wide.service || wide.notNamed) return false;
  if (wide.named !== undefined) return wide.named === named;
  if (!wide.ports) return true;
  return ports?.every(([lo, hi]) => wide.ports?.some(([from, to]) => from <= lo && hi <= to)) ?? false;
}
