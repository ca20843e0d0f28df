/** Builds the ordered rules of a policy set from the policies that select a pod. */
import { AgentError } from '../errors.js';
import { contents } from '../image/fault.js';
import { requestProgram } from '../image/requests.js';
import { contentName, type Ids } from '../ids.js';
import type { AtomExpr, PolicySet, PortRange, SetRule } from '../image/types.js';
import { formatPolicy, ruleClash, ruleText } from '../ir/names.js';
import { isAudited } from '../ir/said.js';
import { namesItsServers } from './servers.js';
import {
  DEFAULT_RULE,
  defaultRefusal,
  implicitRules,
  type IrPolicy,
  type PortMatch,
  type DnsRefusal,
  refusing,
  type Rule,
  type RuleRef,
  type Tier,
} from '../ir/types.js';
import { type Atom, namedPortAtom, peerAtoms, peersExpr, servicePortAtom } from './atoms/atoms.js';
import type { World } from './atoms/world.js';
import { type Part, partsOf, queryAtoms, type Saying, sayingsOf } from './parts.js';

/** Maximum number of rules of a small and of a large set (EA_SMALL_WORDS, EA_LARGE_WORDS × 64). */
export const SMALL_RULES = 512;
export const LARGE_RULES = 4096;

const LAST_PORT = 65535;
const EVERY_PORT = [[0, LAST_PORT]] as const;

/** Protocols with ports: the meaning of "any protocol, port 80". */
const PORT_PROTOCOLS = [6, 17, 132] as const;

/** The policies of one tier that select a pod, in order. */
export interface Selection {
  readonly tier: Tier;
  readonly policies: readonly IrPolicy[];
}

export interface BuiltSet {
  readonly set: PolicySet;
  readonly atoms: readonly Atom[];
  readonly refs: readonly (readonly [number, RuleRef])[];
  /**
   * `name|protocol` of port names and `@namespace/name` of Services that the set depends on. It is rebuilt if their
   * numbers change.
   */
  readonly portNames: readonly string[];
}

/** The reason why there is no set. */
export interface Refused {
  readonly refused: string;
}

interface Bit extends Omit<SetRule, 'tierEnd'> {
  /** Hash of everything except tierEnd. */
  readonly name: string;
}

interface RuleBits {
  readonly id: number;
  readonly bits: readonly Bit[];
  readonly atoms: readonly Atom[];
  readonly portNames: readonly string[];
}

/** Builds sets. It caches compiled rules. */
export class SetBuilder {
  readonly #ids: Ids;
  readonly #known = new WeakMap<Rule, Map<string, RuleBits>>();

  constructor(ids: Ids) {
    this.#ids = ids;
  }

  /**
   * The set for an ordered list of selections. Refused if it has more rules than the kernel's bitmaps can hold, or if a
   * rule cannot be compiled.
   */
  build(selections: readonly Selection[], world: World): BuiltSet | Refused {
    const rules: SetRule[] = [];
    const names: string[] = [];
    const atoms = new Map<string, Atom>();
    const refs = new Map<number, RuleRef>();
    const portNames = new Set<string>();
    let staged = false;
    let clash: string | undefined;
    for (const { tier, policies } of selections) {
      staged ||= policies.some((p) => p.staged && p.rules.length > 0);
      const bits: Bit[] = [];
      const add = (rule: Rule, asStaged: boolean, refusal?: DnsRefusal) => {
        const ref = rule.ref.staged === asStaged ? rule.ref : { ...rule.ref, staged: asStaged };
        const built = this.#ruleBits(rule, ref, { staged: asStaged, refusal }, world);
        for (const name of built.portNames) portNames.add(name);
        for (const atom of built.atoms) atoms.set(atom.id, atom);
        // A rule that cannot match anything is omitted.
        if (built.bits.length === 0) return;
        const known = refs.get(built.id);
        if (known && !sameRule(known, ref)) clash ??= ruleClash(known, ref);
        refs.set(built.id, ref);
        for (const bit of built.bits) bits.push(bit);
      };
      for (const policy of policies) {
        staged ||= policy.rules.some(isAudited);
        try {
          for (const rule of policy.rules) add(rule, policy.staged, policy.dnsRefusal);
        } catch (e) {
          return { refused: `${formatPolicy(policy.ref)} cannot be compiled: ${(e as Error).message}` };
        }
      }
      const isolating = policies.filter((p) => p.isolates !== false);
      if (isolating.length > 0) {
        const asStaged = isolating.every((p) => p.staged);
        staged ||= asStaged;
        for (const rule of implicitRules(isolating)) add(rule, asStaged);
        add(defaultRule(tier, isolating, asStaged), asStaged);
      }
      const tierEnd = rules.length + bits.length;
      for (const { name, ...bit } of bits) {
        rules.push({ ...bit, tierEnd });
        names.push(`${name}@${tierEnd}`);
      }
    }
    if (rules.length > LARGE_RULES)
      return { refused: `${rules.length} rules apply to it; a policy set holds at most ${LARGE_RULES}` };
    if (clash !== undefined) return { refused: clash };
    const name = contentName(`set|${staged}|${names.join()}`);
    const set: PolicySet = {
      id: this.#ids.of(contents.set(name)),
      name,
      rules,
      large: rules.length > SMALL_RULES,
      staged,
      names: rules.some((rule) => rule.names),
      queries: rules.some((rule) => rule.queries),
      says: rules.some((rule) => rule.said),
    };
    const fault = faultOfRequests(set);
    if (fault !== undefined) return { refused: fault };
    return { set, atoms: [...atoms.values()], refs: [...refs], portNames: [...portNames] };
  }

  #ruleBits(
    rule: Rule,
    ref: RuleRef,
    { staged, refusal }: { staged: boolean; refusal: DnsRefusal | undefined },
    world: World,
  ): RuleBits {
    const key = `${staged} ${refusal}`;
    const cached = this.#known.get(rule)?.get(key);
    if (cached) return cached;
    const text = ruleText(ref);
    const id = this.#ids.of(text);
    const built = partsOf(refusing(rule, refusal)).flatMap((part) =>
      sayingsOf(part).map((saying) => partBits(part, saying, text, { id, staged }, world)),
    );
    const portNames = built.flatMap((part) => part.portNames);
    const whole = {
      id,
      bits: built.flatMap((part) => part.bits),
      atoms: built.flatMap((part) => part.atoms),
      portNames,
    };
    if (portNames.length === 0) {
      let slot = this.#known.get(rule);
      if (!slot) this.#known.set(rule, (slot = new Map()));
      slot.set(key, whole);
    }
    return whole;
  }
}

/** Why the rules about requests are too much for one set; undefined: they are not. */
function faultOfRequests(set: PolicySet): string | undefined {
  try {
    if (set.says) requestProgram(set);
    return undefined;
  } catch (e) {
    if (e instanceof AgentError) return e.hint === undefined ? e.message : `${e.message}; ${e.hint}`;
    throw e;
  }
}

/** How its queries are refused, or whether the answers to them teach names. */
function dnsOf(rule: Rule): Pick<SetRule, 'dnsRefusal' | 'teaches'> {
  if (rule.action === 'allow') return rule.queries && namesItsServers(rule) ? { teaches: true } : {};
  return rule.dnsRefusal === undefined ? {} : { dnsRefusal: rule.dnsRefusal };
}

/** @param text the content that identifies the rule */
function partBits(
  { rule, names }: Part,
  { audited, ...saying }: Saying,
  text: string,
  { id, staged }: { id: number; staged: boolean },
  world: World,
): Omit<RuleBits, 'id'> {
  const queries = queryAtoms(rule);
  // No query matches none of the patterns.
  if (queries?.length === 0) return { bits: [], atoms: [], portNames: [] };
  const asks = { ...(names ? { names } : {}), ...(queries ? { queries } : {}), ...saying };
  const answer = dnsOf(rule);
  const common = { id, action: rule.action, staged: staged || !!audited, log: rule.log ?? false, ...asks, ...answer };
  const { atoms, exprs, named, self } = peerAtoms(rule);
  const used: Atom[] = [];
  const bits: Bit[] = [];
  const plain = rule.ports?.filter((p) => !p.named && !p.service && !p.notNamed);
  const ports = plain?.flatMap(portRanges) ?? null;
  // The pods that give a port its name are no matter of learned names.
  const byName = names ? [] : (rule.ports ?? []).filter((p) => p.named !== undefined);
  const matchesSomewhere = atoms === null || atoms.length > 0 || exprs.length > 0 || self;
  if ((ports === null || ports.length > 0) && matchesSomewhere) {
    used.push(...(atoms ?? []), ...named);
    bits.push(
      makeBit(text, {
        ...common,
        atoms: atoms?.map((a) => a.id).sort() ?? null,
        ...(exprs.length > 0 ? { exprs } : {}),
        self: self && atoms !== null,
        ports,
      }),
    );
  }
  // A port name stands for the numbers that pods give it; each number matches only the pods that do.
  const portNames: string[] = [];
  const byNumber = new Map<string, { range: PortRange; atoms: Atom[] }>();
  for (const match of byName) {
    const name = match.named as string;
    for (const protocol of match.protocol === null ? PORT_PROTOCOLS : [match.protocol]) {
      portNames.push(`${name}|${protocol}`);
      for (const number of world.portNumbers(name, protocol)) {
        if (ports?.some((r) => (r.protocol === null || r.protocol === protocol) && r.lo <= number && number <= r.hi))
          continue;
        const key = `${protocol}/${number}`;
        let slot = byNumber.get(key);
        if (!slot) byNumber.set(key, (slot = { range: { protocol, lo: number, hi: number }, atoms: [] }));
        slot.atoms.push(namedPortAtom(rule, name, protocol, number));
      }
    }
  }
  for (const { range, atoms: some } of [...byNumber.values()].sort(byRange)) {
    used.push(...some);
    bits.push(makeBit(text, { ...common, atoms: some.map((a) => a.id).sort(), self: false, ports: [range] }));
  }
  // "All but a port name" stands for all other numbers, and for the named numbers at destinations whose pods do not
  // give them that name.
  for (const { protocol, ports: ranges = EVERY_PORT, notNamed } of rule.ports ?? []) {
    if (!notNamed || protocol === null) continue;
    const numbers = new Map<number, Atom[]>();
    for (const name of notNamed) {
      portNames.push(`${name}|${protocol}`);
      for (const number of world.portNumbers(name, protocol)) {
        const called = namedPortAtom({ ...rule, peers: null }, name, protocol, number);
        numbers.set(number, [...(numbers.get(number) ?? []), called]);
      }
    }
    const others = rangesWithout(ranges, [...numbers.keys()]).map(([lo, hi]) => ({ protocol, lo, hi }));
    const where = peersExpr(rule);
    if (others.length > 0) {
      used.push(...where.named);
      bits.push(makeBit(text, { ...common, ...asAtoms(where.expr), self: false, ports: others }));
    }
    for (const [number, called] of numbers) {
      if (!ranges.some(([lo, hi]) => lo <= number && number <= hi)) continue;
      used.push(...called, ...where.named);
      const but = { not: { some: called.map((a) => a.id) } };
      const expr = where.expr === undefined ? but : { all: [where.expr, but] };
      bits.push(
        makeBit(text, { ...common, ...asAtoms(expr), self: false, ports: [{ protocol, lo: number, hi: number }] }),
      );
    }
  }
  // A Service stands for the ports of its backends; each port matches only the backends that have it.
  for (const { service, protocol: only } of rule.ports ?? []) {
    if (!service) continue;
    const key = `${service.namespace}/${service.name}`;
    portNames.push(`@${key}`);
    for (const { protocol, port } of world.servicePorts(key)) {
      if (only !== null && only !== protocol) continue;
      const atom = servicePortAtom(key, protocol, port);
      const where = peersExpr(rule);
      used.push(atom, ...where.named);
      const expr = where.expr === undefined ? { some: [atom.id] } : { all: [atom.id, where.expr] };
      bits.push(makeBit(text, { ...common, ...asAtoms(expr), self: false, ports: [{ protocol, lo: port, hi: port }] }));
    }
  }
  return { bits, atoms: used, portNames };
}

/** The default rule at the end of a tier, named after the first enforced policy that selects the pod. */
export function defaultRule(tier: Tier, policies: readonly IrPolicy[], staged: boolean): Rule {
  const first = policies.find((p) => p.staged === staged) ?? (policies[0] as IrPolicy);
  const action = tier.defaultAction;
  const ref: RuleRef = { policy: first.ref, index: DEFAULT_RULE, tier: tier.name, staged, action };
  return refusing({ ref, action, peers: null, ports: null }, defaultRefusal(policies, staged));
}

/** @param expr undefined: every destination */
function asAtoms(expr: AtomExpr | undefined): Pick<SetRule, 'atoms' | 'exprs'> {
  return expr === undefined ? { atoms: null } : { atoms: [], exprs: [expr] };
}

/**
 * The ranges without some numbers. The result is split so that each piece reads the port: a range of all ports would
 * match fragments too.
 */
function rangesWithout(ranges: readonly (readonly [number, number])[], numbers: readonly number[]): [number, number][] {
  const half = (LAST_PORT + 1) / 2;
  const out: [number, number][] = [];
  for (const [lo, hi] of ranges) {
    const cuts = [...new Set([...numbers.filter((n) => lo <= n && n <= hi), hi + 1])].sort((a, b) => a - b);
    let from = lo;
    for (const cut of cuts) {
      if (from < half && cut > half) {
        out.push([from, half - 1], [half, cut - 1]);
      } else if (from < cut) out.push([from, cut - 1]);
      from = cut + 1;
    }
  }
  return out;
}

function byRange(a: { range: PortRange }, b: { range: PortRange }): number {
  return (a.range.protocol ?? -1) - (b.range.protocol ?? -1) || a.range.lo - b.range.lo;
}

/** @param called the content that identifies the rule, since its id differs between nodes */
function makeBit(called: string, rule: Omit<SetRule, 'tierEnd'>): Bit {
  const { action, staged, log, atoms, self, ports, exprs, names, queries, dnsRefusal, teaches } = rule;
  const { said, unaudited = false } = rule;
  const says = said || unaudited ? [{ said, unaudited }] : [];
  const asks = names || queries ? [names ?? null, queries ?? null, ...says] : says;
  const answer = dnsRefusal === undefined && !teaches ? [] : [{ dnsRefusal, teaches }];
  const content = [called, action, staged, log, atoms, self, ports, exprs, ...asks, ...answer];
  return { ...rule, name: contentName(`bit|${JSON.stringify(content)}`) };
}

/** Whether two rules have the same text. */
export function sameRule(a: RuleRef, b: RuleRef): boolean {
  return a === b || ruleText(a) === ruleText(b);
}

function portRanges(match: PortMatch): PortRange[] {
  if (match.ports === undefined) return [{ protocol: match.protocol, lo: 0, hi: 65535 }];
  const protocols = match.protocol === null ? PORT_PROTOCOLS : [match.protocol];
  return protocols.flatMap((protocol) => (match.ports ?? []).map(([lo, hi]) => ({ protocol, lo, hi })));
}
