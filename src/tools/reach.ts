/** Which rules the packets at the boundaries reach as the first that matches, and which stand in the way of those that none reaches. */
import { testBit } from '../image/rows.js';
import type { PolicySet } from '../image/types.js';
import { formatPolicy, formatRule } from '../ir/names.js';
import { type Action, IMPLICIT_RULE, type RuleRef } from '../ir/types.js';
import { Judge, rowKey } from './judge.js';
import { cidrEdges, knownAddresses, portSpans, type Senders, sendersOf, type World } from './packets.js';
import { type AddressRange, addressNumber, addressText, groupBy, pieces, type PortSpan } from './ranges.js';

/** A rule as its user knows it: what a dialect made of it may be several of the IR. */
export interface Reach {
  readonly ref: RuleRef;
  /** It is the first match of some packet. */
  reached: boolean;
  /** Some packet matches it, if not as the first. */
  matched: boolean;
  /** Rules that come first where it matches. */
  readonly before: Map<string, RuleRef>;
}

/** One for each index in a list of the user's; Cilium's two lists are judged in two tiers. */
export function reachKey(ref: RuleRef): string {
  return `${ref.policy.dialect} ${ref.policy.kind} ${formatPolicy(ref.policy)} ${ref.tier} ${ref.index}`;
}

/** What is known about the pods of one kind. */
export interface SenderFacts {
  readonly senders: Senders;
  /** Their set is too large: nothing is known of its rules. */
  readonly refused?: string;
  /** Some packet of theirs is denied; some is allowed, beyond what their language always allows (the pod itself, its node). */
  readonly denies: boolean;
  readonly allows: boolean;
  /** They may reach port 53 somewhere, likewise. */
  readonly dns: boolean;
}

export interface Reached {
  readonly rules: ReadonlyMap<string, Reach>;
  readonly senders: readonly SenderFacts[];
  readonly judge: Judge;
}

const DNS = 53;
const DNS_PROTOCOLS = [17, 6];

export function reach(world: World): Reached {
  const groups = sendersOf([world]);
  const judge = new Judge(
    world,
    groups.flatMap((g) => g.pods),
  );
  const rules = new Map<string, Reach>();
  const single = (ip: string): AddressRange => {
    const { family, n } = addressNumber(ip);
    return { family, lo: n, hi: n };
  };
  const edges = [...cidrEdges(groups.flatMap((g) => g.rules)), ...[...knownAddresses([world])].map(single)];
  const classes = new Set(pieces(edges).map(({ family, lo }) => judge.classOf(addressText(family, lo))));
  const senders = groups.map((group) => walk(group, world, judge, classes, rules));
  return { rules, senders, judge };
}

function walk(
  senders: Senders,
  world: World,
  judge: Judge,
  classes: ReadonlySet<number>,
  rules: Map<string, Reach>,
): SenderFacts {
  const [first] = senders.pods as [string];
  const refused = judge.image.refused.get(first);
  const set = judge.setOf(first);
  if (!set || refused !== undefined)
    return {
      senders,
      denies: set !== undefined,
      allows: set === undefined,
      dns: true,
      ...(refused ? { refused } : {}),
    };
  const refs = set.rules.map(({ id }) => judge.ruleOf(id));
  const table: SetTable = { set, refs, reaches: refs.map((ref) => reachOf(ref, rules)) };
  const spans = portSpans(senders.rules, [world.snapshot]);
  const ports = [...groupBy(spans, (span) => rowKey(judge.portRow(set, span))).values()].map(
    (same) => same[0] as PortSpan,
  );
  const peers = [...classes].map((id) => judge.peerRow(set, id));
  if (judge.meansItself(first))
    for (const key of senders.pods)
      for (const ip of world.snapshot.pods.get(key)?.ips ?? []) peers.push(judge.peerRow(set, judge.classOf(ip), true));
  const places = [...groupBy(peers, rowKey).values()].map((same) => same[0] as Uint32Array);
  let [denies, allows, dns] = [false, false, false];
  const dnsRows = DNS_PROTOCOLS.map((p) => judge.portRow(set, { protocols: [p], lo: DNS, hi: DNS }));
  for (const row of places) {
    for (const span of ports) {
      const columns = judge.portRow(set, span);
      const hits = row.map((word, i) => word & (columns[i] as number));
      const { action, by } = scan(table, hits, false);
      if (set.staged) scan(table, hits, true);
      if (action === 'deny') denies = true;
      else if (by?.index !== IMPLICIT_RULE) allows = true;
    }
    for (const columns of dnsRows) {
      const hits = row.map((word, i) => word & (columns[i] as number));
      const { action, by } = scan(table, hits, false);
      dns ||= action === 'allow' && by?.index !== IMPLICIT_RULE;
    }
  }
  return { senders, denies, allows, dns };
}

/** A set with its rules' names, bit by bit. */
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

/** As image/simulate.ts scan, and notes what each matching rule met. A staged rule counts where what is staged is in force. */
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
