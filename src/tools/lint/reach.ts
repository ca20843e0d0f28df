/**
 * Finds the rules that are the first match of some packet at the boundaries, and for the others the rules that match
 * before them.
 */
import { Compiler } from '../../compile/index.js';
import { matcherOf, patternAtoms } from '../../image/names.js';
import { type Row, setBit, testBit } from '../../image/bits.js';
import { CLASS_UNASKED, CLASS_UNNAMED, CLASS_UNSAID, classRow, fixedRows } from '../../image/rows.js';
import type { PolicySet } from '../../image/types.js';
import { DNS_PORT } from '../../ir/services.js';
import { formatPolicy, formatRule } from '../../ir/names.js';
import { type Action, IMPLICIT_RULE, type RuleRef } from '../../ir/types.js';
import { Judge, rowKey } from '../judge.js';
import { senderOf } from '../../ir/sender.js';
import { byNode } from '../nodes.js';
import { cidrEdges, knownAddresses, portSpans, type Senders, sendersOf, type World } from '../packets.js';
import { type AddressRange, addressNumber, addressText, groupBy, pieces } from '../ranges.js';

/** A rule as its author wrote it. A dialect may have made several IR rules of it. */
export interface Reach {
  readonly ref: RuleRef;
  /** Whether it is the first match of some packet. */
  reached: boolean;
  /** Whether some packet matches it, as the first match or not. */
  matched: boolean;
  /** The rules that match first for packets that it matches. */
  readonly before: Map<string, RuleRef>;
  /**
   * Of a rule that allows by server names or requests: whether it matters somewhere what connections say, and where it
   * does not, which rules allow them whatever they say.
   */
  filters?: { matters: boolean; readonly voidedBy: Map<string, RuleRef> };
}

/** A key for each index in a user's list. Cilium's two lists are in two tiers. */
export function reachKey(ref: RuleRef): string {
  return `${ref.policy.dialect} ${ref.policy.kind} ${formatPolicy(ref.policy)} ${ref.tier} ${ref.index}`;
}

/** The results for the pods of one kind. */
export interface SenderFacts {
  readonly senders: Senders;
  /** If present, their set is too large, and nothing is known about its rules. */
  readonly refused?: string;
  /**
   * Whether some packet of theirs is denied; whether some is allowed, apart from traffic that their language always
   * allows (the pod itself, its node).
   */
  readonly denies: boolean;
  readonly allows: boolean;
  /** Whether they can reach port 53 somewhere, with the same exception. */
  readonly dns: boolean;
  /** Judges packets on their node. */
  readonly judge: Judge;
}

export interface Reached {
  readonly rules: ReadonlyMap<string, Reach>;
  readonly senders: readonly SenderFacts[];
}

const DNS_PROTOCOLS = [17, 6];

/** Judges each pod on its own node. */
export function reach(world: World): Reached {
  const rules = new Map<string, Reach>();
  const compiler = new Compiler();
  const senders = byNode([world] as const).flatMap(({ worlds, keys }) => reachOn(worlds[0], keys, compiler, rules));
  return { rules, senders };
}

function reachOn(world: World, keys: readonly string[], compiler: Compiler, rules: Map<string, Reach>): SenderFacts[] {
  const groups = sendersOf([world], new Set(keys));
  const judge = new Judge(
    world,
    groups.flatMap((g) => g.pods),
    compiler,
  );
  const single = (ip: string): AddressRange => {
    const { family, n } = addressNumber(ip);
    return { family, lo: n, hi: n };
  };
  const edges = [...cidrEdges(groups.flatMap((g) => g.rules)), ...[...knownAddresses([world])].map(single)];
  const classes = new Map<number, Place>();
  for (const { family, lo, hi } of pieces(edges)) {
    const ip = addressText(family, lo);
    const id = judge.classOf(ip);
    const place = classes.get(id) ?? { ips: new Set<string>(), wide: false };
    if (lo === hi) place.ips.add(ip);
    else place.wide = true;
    classes.set(id, place);
  }
  return groups.map((group) => walk(group, world, judge, classes, rules));
}

/** Addresses of one class: some single ones, and whether there are more. */
interface Place {
  readonly ips: Set<string>;
  wide: boolean;
}

/** The rows of all addresses except the pods' own, since packets to those reach no rule (ir/outcome.ts). */
function peerRows(
  { pods }: Senders,
  { snapshot }: World,
  judge: Judge,
  set: PolicySet,
  classes: ReadonlyMap<number, Place>,
) {
  const own = pods.map((key) => new Set(senderOf(snapshot, key)?.ips ?? []));
  const toOthers = (ip: string) => own.some((ips) => !ips.has(ip));
  return [...classes]
    .filter(([, { ips, wide }]) => wide || [...ips].some(toOthers))
    .map(([id]) => judge.peerRow(set, id));
}

/** The rows of packets to Services of which the pods themselves are backends. */
function hairpins({ pods }: Senders, { snapshot }: World, judge: Judge, set: PolicySet): Uint32Array[] {
  const own = new Set(pods.flatMap((key) => snapshot.pods.get(key)?.ips ?? []));
  return [...judge.places.values()].flatMap(({ backends, protocol }) =>
    backends
      .filter(({ ip }) => own.has(ip))
      .map(({ ip, port }) => {
        const columns = judge.portRow(set, { protocols: [protocol], lo: port, hi: port });
        return both(judge.peerRow(set, judge.classOf(ip), true), columns);
      }),
  );
}

function walk(
  senders: Senders,
  world: World,
  judge: Judge,
  classes: ReadonlyMap<number, Place>,
  rules: Map<string, Reach>,
): SenderFacts {
  const [first] = senders.pods as [string];
  const refused = judge.image.refused.get(first)?.reason;
  const set = judge.setOf(first);
  if (!set || refused !== undefined)
    return {
      senders,
      judge,
      denies: set !== undefined,
      allows: set === undefined,
      dns: true,
      ...(refused ? { refused } : {}),
    };
  const refs = set.rules.map(({ id }) => judge.ruleOf(id));
  const reaches = refs.map((ref) => reachOf(ref, rules));
  const table: SetTable = { set, refs, reaches };
  const spans = portSpans(senders.rules, [world.snapshot]);
  const ports = [...new Map(spans.map((span) => judge.portRow(set, span)).map((row) => [rowKey(row), row])).values()];
  const peers = peerRows(senders, world, judge, set, classes);
  const places = [...groupBy(peers, rowKey).values()].map((same) => same[0] as Uint32Array);
  let [denies, allows, dns] = [false, false, false];
  const dnsRows = DNS_PROTOCOLS.map((p) => judge.portRow(set, { protocols: [p], lo: DNS_PORT, hi: DNS_PORT }));
  const judged = (hits: Uint32Array) => {
    const found = scan(table, hits, false);
    if (set.staged) scan(table, hits, true);
    if (found.action === 'deny') denies = true;
    else if (found.by?.index !== IMPLICIT_RULE) allows = true;
    return found;
  };
  const unsaid = new Map(fixedRows(set)).get(CLASS_UNSAID);
  const meet = (hits: Uint32Array) => {
    if (!unsaid) return void judged(hits);
    // What says nothing that a rule asks for; then, for each rule that asks, what says that alone.
    const silent = both(hits, unsaid);
    const plain = judged(silent);
    set.rules.forEach(({ said }, bit) => {
      if (!said || !testBit(hits, bit)) return;
      noteFilter(table, bit, plain);
      if (reaches[bit]?.reached) return;
      const saying = silent.slice();
      setBit(saying, bit);
      judged(saying);
    });
  };
  const { named, unnamed } = namedRows(set);
  for (const hits of hairpins(senders, world, judge, set)) for (const row of named) meet(both(hits, row));
  for (const place of places) {
    for (const row of named) {
      const hits = both(place, row);
      for (const columns of ports) meet(both(hits, columns));
    }
    for (const row of unnamed) {
      for (const columns of dnsRows) {
        const { action, by } = scan(table, both(both(place, row), columns), false);
        dns ||= action === 'allow' && by?.index !== IMPLICIT_RULE;
      }
    }
  }
  return { senders, judge, denies, allows, dns };
}

/** Notes what a filter by server names or requests does for packets on which `plain` is the verdict without it. */
function noteFilter({ set, reaches }: SetTable, bit: number, plain: { action: Action; by?: RuleRef }): void {
  const { action, staged, said } = set.rules[bit]!;
  const reached = reaches[bit];
  // Where only names are verified, the address is the filter.
  if (!reached || action !== 'allow' || staged || (said?.hosts && !said.request)) return;
  reached.filters ??= { matters: false, voidedBy: new Map() };
  if (plain.action !== 'allow') reached.filters.matters = true;
  else if (plain.by) reached.filters.voidedBy.set(formatRule(plain.by), plain.by);
}

function both(one: Row, other: Row): Row {
  return one.map((word, i) => word & (other[i] as number));
}

/**
 * The rules that match by what is known of a packet's name: each combination of patterns that a name of the destination
 * can match, or none, with each that a query can match, or none. `unnamed`: those without a name of the destination.
 */
function namedRows(set: PolicySet): { named: Row[]; unnamed: Row[] } {
  const fixed = new Map(fixedRows(set));
  const every = new Uint32Array((fixed.get(0) as Row).length).fill(0xffffffff);
  const { accepts } = matcherOf(patternAtoms([set]));
  const rowsOf = (none: Row | undefined, lists: readonly (readonly string[])[]) =>
    none ? [none, ...lists.flatMap((atoms) => classRow(set, atoms) ?? [])] : [every];
  const names = rowsOf(
    fixed.get(CLASS_UNNAMED),
    [...accepts.values()].flatMap((one) => [one.names, one.aliases]),
  );
  const queries = rowsOf(
    fixed.get(CLASS_UNASKED),
    [...accepts.values()].map((one) => one.queries),
  );
  const rows = names.flatMap((name) => queries.map((query) => both(name, query)));
  const named = [...new Map(rows.map((row) => [rowKey(row), row])).values()];
  return { named, unnamed: queries.map((query) => both(names[0] as Row, query)) };
}

/** A set with the names of its rules, bit by bit. */
interface SetTable {
  readonly set: PolicySet;
  readonly refs: readonly (RuleRef | undefined)[];
  /** undefined: a rule that nobody wrote. */
  readonly reaches: readonly (Reach | undefined)[];
}

function reachOf(ref: RuleRef | undefined, rules: Map<string, Reach>): Reach | undefined {
  if (!ref || ref.index < 0) return undefined;
  const key = reachKey(ref);
  let found = rules.get(key);
  if (!found) rules.set(key, (found = { ref, reached: false, matched: false, before: new Map() }));
  return found;
}

/**
 * The same as scan in image/simulate.ts, and records the result of each matching rule. Staged rules count only if
 * staged policies are treated as enforced.
 */
function scan(
  { set, refs, reaches }: SetTable,
  hits: Uint32Array,
  withStaged: boolean,
): { action: Action; by?: RuleRef } {
  let verdict: Action | undefined;
  let decided: RuleRef | undefined;
  let skipTo = 0;
  for (let bit = 0; bit < set.rules.length; bit++) {
    const rule = set.rules[bit];
    if (!rule || !testBit(hits, bit) || (rule.staged && !withStaged)) continue;
    const reached = reaches[bit];
    if (reached && rule.staged === withStaged) {
      reached.matched = true;
      if (verdict === undefined && bit >= skipTo) reached.reached = true;
      else if (decided && !reached.reached) reached.before.set(formatRule(decided), decided);
    }
    if (verdict !== undefined || bit < skipTo || rule.action === 'log') continue;
    if (rule.action === 'pass') {
      skipTo = rule.tierEnd;
      decided = refs[bit];
      continue;
    }
    verdict = rule.action;
    decided = refs[bit];
  }
  return verdict === undefined ? { action: 'allow' } : { action: verdict, by: decided };
}
