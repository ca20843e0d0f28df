/**
 * Policies that allow what was seen: for each workload, in any language, staged, with the evidence of each rule. What is
 * printed has been read again and replayed. A pure function: the same evidence gives the same text, in whatever order it
 * comes.
 */
import { counted } from '../counted.js';
import { type EdgeHistory, type EdgeParty, partyName } from '../edges/edge.js';
import type { Pod, Snapshot } from '../identity/snapshot.js';
import { Cluster, compare, push, workloadKey } from './base/cluster.js';
import { type DnsServers, dnsServers, localResolvers } from './rules/dns.js';
import { type Left, learn } from './base/learn.js';
import { Model, type ModelRule, ruleTo } from './rules/model.js';
import {
  dayText,
  type Need,
  needName,
  needsOf,
  needTo,
  portText,
  type Window,
  windowOf,
  type WorkloadNeeds,
} from './base/needs.js';
import { Replayer } from './replay.js';
import { type Resolved, Resolver, type Unresolved } from './rules/resolve.js';
import { Selectors } from './base/selectors.js';
import { stateOf } from './rules/state.js';
import { suggestions } from './rules/suggest.js';
import type {
  EdgeChange,
  LeftOut,
  RecommendOptions,
  Recommendation,
  Replay,
  WorkloadRecommendation,
} from './base/types.js';
import { hasNames, policyName, unsayable, write } from './write.js';

/** Addresses, or names, of one port that are recommended one by one. */
const MANY_PEERS = 500;
/** Entries of one list of a workload. */
const LISTED = 200;

/**
 * @param histories edges of all workloads, of whatever time: the window is one of the options
 * @param snapshot the cluster, with the policies in force
 */
export function recommend(
  histories: readonly EdgeHistory[],
  snapshot: Snapshot,
  options: RecommendOptions,
): Recommendation {
  const { language } = options;
  const window = windowOf(histories, options);
  if (!window) {
    const warnings = ['nothing was seen in this time'];
    return { language, since: '', until: '', days: 0, workloads: [], warnings };
  }
  const one = new Recommender(histories, snapshot, options, window);
  const workloads = one.parties().map((party) => one.recommend(party));
  const days = window.last - window.first + 1;
  const { minDays } = options;
  const short =
    days < minDays
      ? [
          `there is evidence of ${counted(days, 'day')}, and what was seen on fewer than ${minDays} is left out: see --min-days`,
        ]
      : [];
  return {
    language,
    since: dayText(window.first),
    until: dayText(window.last),
    days,
    workloads,
    warnings: [...short, ...one.dns.warnings],
  };
}

const NOTHING: Replay = {
  ...{ edges: 0, closed: [], opened: [], more: 0, unknown: 0, beyond: [], misses: [] },
  ...{ learnedDays: 0, heldOutDays: 0, findings: [] },
};

class Recommender {
  readonly #options: RecommendOptions;
  readonly #window: Window;
  readonly #cluster: Cluster;
  readonly #selectors: Selectors;
  readonly #resolver: Resolver;
  readonly #replayer: Replayer;
  readonly #needs: ReadonlyMap<string, WorkloadNeeds>;
  readonly dns: DnsServers;

  constructor(histories: readonly EdgeHistory[], snapshot: Snapshot, options: RecommendOptions, window: Window) {
    this.#options = options;
    this.#window = window;
    this.#cluster = new Cluster(snapshot);
    this.#selectors = new Selectors(this.#cluster);
    this.#resolver = new Resolver(this.#cluster, this.#selectors, options, hasNames(options.language));
    this.#replayer = new Replayer(this.#cluster);
    this.#needs = needsOf(histories, window);
    this.dns = dnsServers(this.#cluster, this.#resolver, [...options.resolvers, ...localResolvers(histories)]);
  }

  /** The workloads that are asked for: those that have pods, and those that were seen. */
  parties(): EdgeParty[] {
    const { workloads, namespaces, except } = this.#options;
    const all = new Map<string, EdgeParty>();
    for (const party of [...this.#cluster.workloads(), ...[...this.#needs.values()].map((n) => n.party)])
      all.set(workloadKey(party), party);
    const isAsked = (party: EdgeParty) => {
      if (except?.includes(partyName(party))) return false;
      if (workloads) return workloads.includes(partyName(party));
      return namespaces ? namespaces.includes(party.namespace) : !party.namespace.startsWith('kube-');
    };
    return [...all]
      .filter(([, party]) => isAsked(party))
      .sort(([a], [b]) => compare(a, b))
      .map(([, party]) => party);
  }

  recommend(party: EdgeParty): WorkloadRecommendation {
    const of = this.#window.last - this.#window.first + 1;
    const needs = this.#needs.get(workloadKey(party)) ?? { party, needs: [], days: new Set<number>() };
    const head = { workload: partyName(party), kind: party.workloadKind, days: needs.days.size, of };
    const refusal = this.#refusal(party, needs);
    if (refusal !== undefined) {
      const empty = {
        rules: [],
        leftOut: [],
        leftOutMore: 0,
        warnings: [],
        policies: 0,
        objects: [],
        yaml: '',
        replay: NOTHING,
      };
      return { ...head, ...empty, state: 'learning', reason: refusal, refused: refusal };
    }
    return { ...head, ...this.#policies(party, needs) };
  }

  /** Why a workload gets no policy. */
  #refusal(party: EdgeParty, { days }: WorkloadNeeds): string | undefined {
    const pods = this.#cluster.podsOf(party);
    if (pods.length === 0) return 'it has no pods any more: nothing says by which labels they are selected';
    if (pods.every((pod) => pod.hostNetwork)) return 'it runs in the network of its nodes: no policy selects it';
    if (party.workloadKind === 'CronJob' && days.size === 0)
      return 'it did not run in this time: nobody knows its needs';
    const selected = this.#selectors.of(party);
    if (!selected) return 'its pods have no label in common by which a policy could select them';
    const [other] = selected.others;
    if (other !== undefined)
      return `its labels select pods of others too, such as ${other}: give it a label of its own`;
    return undefined;
  }

  #policies(party: EdgeParty, needs: WorkloadNeeds) {
    const { language } = this.#options;
    const learned = learn(needs, this.#options);
    const resolved = new Map<Need, Resolved | Unresolved>();
    for (const need of needs.needs) resolved.set(need, this.#resolver.resolve(need, needs.needs));
    const left: Left[] = [...learned.left];
    const model = new Model(this.#options, this.#window);
    model.addDns(this.dns.placed);
    const warnings = new Set<string>();
    const kept: Need[] = [];
    const many = manyPeers(learned.kept, resolved);
    for (const need of learned.kept) {
      const found = resolved.get(need) as Resolved | Unresolved;
      const why = 'why' in found ? found : (many.get(need) ?? unsaid(found, language));
      if (why) {
        left.push({ need, ...why });
        continue;
      }
      kept.push(need);
      model.add(need, found as Resolved);
      for (const warning of (found as Resolved).warnings) warnings.add(warning);
    }
    const rules = model.rules();
    for (const text of suggestions(kept)) warnings.add(text);
    const selected = this.#selectors.of(party) as { labels: Readonly<Record<string, string>> };
    const subject = { namespace: party.namespace, name: policyName(party), labels: selected.labels };
    const held = this.#heldOut(needs, kept);
    const state = stateOf({ party, needs, kept, window: this.#window, misses: held.missed });
    const sorted = left.map((one) => this.#leftOut(one)).sort(byConnections);
    const listed = {
      ...state,
      rules: rules.map(ruleOf),
      leftOut: sorted.slice(0, LISTED),
      leftOutMore: Math.max(0, sorted.length - LISTED),
    };
    const heldOut = { misses: held.misses, learnedDays: held.learnedDays, heldOutDays: held.heldOutDays };
    if (this.#options.brief) {
      const policies = this.#replayer.policies(this.#sender(party));
      const replay = { ...NOTHING, ...heldOut };
      return { ...listed, warnings: [...warnings].sort(compare), policies, objects: [], yaml: '', replay };
    }
    const staged = write(language, subject, rules, this.#head(party, needs, state));
    const yaml = staged.map(({ text }) => text).join('');
    const replay = this.#replay(party, rules, needs, resolved, left, yaml);
    for (const fault of replay.faults) warnings.add(`is not read as it is meant: ${fault}`);
    const { faults: _, policies, ...said } = replay;
    return {
      ...listed,
      warnings: [...warnings].sort(compare),
      policies,
      objects: staged.map(({ object }) => ({ ...object })),
      yaml,
      replay: { ...said, ...heldOut },
    };
  }

  #head(party: EdgeParty, { days }: WorkloadNeeds, { state, reason }: { state: string; reason: string }): string[] {
    const { first, last } = this.#window;
    return [
      `${party.workloadKind} ${partyName(party)}, seen on ${days.size} of ${last - first + 1} days, ${dayText(first)} to ${dayText(last)}`,
      `${state}: ${reason}`,
    ];
  }

  /** What a policy of the first days would have missed of the others. */
  #heldOut(needs: WorkloadNeeds, kept: readonly Need[]) {
    const { first, last } = this.#window;
    const of = last - first + 1;
    const heldOutDays = Math.floor(of * this.#options.holdOut);
    const learnedDays = of - heldOutDays;
    if (heldOutDays === 0 || learnedDays === 0) return { misses: [], missed: 0, learnedDays: of, heldOutDays: 0 };
    const cut = last - heldOutDays;
    const before = needs.needs.flatMap((need) => {
      const days = new Set([...need.days].filter((day) => day <= cut));
      return days.size === 0 ? [] : [{ ...need, days }];
    });
    const daysBefore = new Set([...needs.days].filter((day) => day <= cut));
    const known = learn({ party: needs.party, needs: before, days: daysBefore }, this.#options);
    const keys = new Set(known.kept.map((need) => need.key));
    const missed = kept.filter((need) => !need.denied && !keys.has(need.key) && [...need.days].some((d) => d > cut));
    const misses = missed.map(needName);
    return { misses: misses.slice(0, LISTED), missed: missed.length, learnedDays, heldOutDays };
  }

  /** A pod that stands for all of a workload's. */
  #sender(party: EdgeParty): Pod {
    const pods = this.#cluster.podsOf(party).filter((pod) => !pod.hostNetwork);
    return pods.find((pod) => !pod.ended) ?? (pods[0] as Pod);
  }

  #replay(
    party: EdgeParty,
    rules: readonly ModelRule[],
    { needs }: WorkloadNeeds,
    resolved: ReadonlyMap<Need, Resolved | Unresolved>,
    left: readonly Left[],
    yaml: string,
  ) {
    const sender = this.#sender(party);
    const probesOf = (need: Need) => {
      const found = resolved.get(need);
      return found && 'probes' in found ? found.probes : [];
    };
    const world = this.#replayer.world(sender, rules, needs.flatMap(probesOf), yaml);
    const why = new Map(left.map((one) => [one.need, one.why]));
    const [closed, opened]: [EdgeChange[], EdgeChange[]] = [[], []];
    let edges = 0;
    let unknown = 0;
    for (const need of needs) {
      const judged = world.judge(probesOf(need));
      if (!judged) {
        unknown++;
        continue;
      }
      edges++;
      if (judged.was === judged.is) continue;
      const reason = why.get(need);
      const change: EdgeChange = {
        ...{ to: needTo(need), port: portText(need.protocol, need.port), ...judged, connections: need.connections },
        ...(reason === undefined ? {} : { why: reason }),
      };
      (judged.is === 'allow' || judged.was === 'deny' ? opened : closed).push(change);
    }
    const more = Math.max(0, closed.length - LISTED) + Math.max(0, opened.length - LISTED);
    return {
      ...{ edges, unknown, more, closed: closed.slice(0, LISTED), opened: opened.slice(0, LISTED) },
      ...{ beyond: world.opened().slice(0, LISTED), findings: world.findings(), faults: world.faults },
      policies: world.policies,
    };
  }

  #leftOut({ need, why, hint }: Left): LeftOut {
    return {
      ...{ to: needTo(need), port: portText(need.protocol, need.port), why, connections: need.connections },
      ...{ drops: need.drops, days: need.days.size, last: dayText(Math.max(...need.days)) },
      ...(hint === undefined ? {} : { hint }),
    };
  }
}

/**
 * Addresses or names of one port of which there are so many that a list of them says nothing, and would be out of date
 * tomorrow.
 */
function manyPeers(
  kept: readonly Need[],
  resolved: ReadonlyMap<Need, Resolved | Unresolved>,
): ReadonlyMap<Need, Unresolved> {
  const groups = new Map<string, Need[]>();
  for (const need of kept) {
    const found = resolved.get(need);
    const [placed] = found && 'placed' in found ? found.placed : [];
    if (!placed) continue;
    const { target, protocol, port } = placed;
    if (target.kind === 'name' || (target.kind === 'block' && target.network === undefined))
      push(groups, `${target.kind} ${protocol} ${port}`, need);
  }
  const out = new Map<Need, Unresolved>();
  for (const [key, group] of groups) {
    if (group.length <= MANY_PEERS) continue;
    const what = key.startsWith('name') ? 'names: nobody lists them' : 'addresses: say which networks they are';
    for (const need of group) out.set(need, { why: 'many-peers', hint: `${group.length} ${what}` });
  }
  return out;
}

function unsaid({ placed }: Resolved, language: RecommendOptions['language']): Unresolved | undefined {
  for (const { target, protocol, port } of placed) {
    const hint = unsayable(language, { protocol, lo: port, hi: port }, target);
    if (hint !== undefined) return { why: 'unsayable', hint };
  }
  return undefined;
}

function byConnections(a: LeftOut, b: LeftOut): number {
  return b.connections - a.connections || compare(`${a.to} ${a.port} ${a.why}`, `${b.to} ${b.port} ${b.why}`);
}

function ruleOf(rule: ModelRule) {
  const ports = rule.ports.map(({ protocol, lo, hi }) => portText(protocol, lo, hi));
  return { to: ruleTo(rule), ports, evidence: rule.evidence, beyond: rule.beyond };
}
