/** Explains what becomes of a connection to a name: by each address that the sender learned for it. */
import type { Snapshot } from '../identity/snapshot.js';
import { explain, type Explanation } from '../explain/explain.js';
import { formatRule } from '../ir/names.js';
import type { Learned, LearnedName, Packet, Said } from '../ir/packet.js';
import type { Ir } from '../ir/types.js';
import { NamedRules } from './rules.js';

/** An address of nobody (RFC 5737), for a name of which no address is known: it is judged by its name alone. */
export const STAND_IN = '198.51.100.254';
/** Addresses of a name that are explained. */
const MOST = 8;

export interface NameExplanation {
  /** Lower case, without the final dot. */
  readonly name: string;
  /** Whether the sender has learned an address for it. */
  readonly known: boolean;
  /** Of each address; of STAND_IN if none is known. */
  readonly explanations: Explanation[];
  /** Number of further addresses. */
  readonly more: number;
  /** `partial`: not the same for all addresses. */
  readonly verdict: 'allow' | 'deny' | 'partial';
  /** Why patterns that look as if they meant the name do not. */
  readonly hints: string[];
  /** What becomes of the DNS query for it; absent: no resolver is known, or no rule asks for the name in queries. */
  readonly query?: {
    readonly to: string;
    readonly verdict: 'allow' | 'deny' | 'partial';
    readonly rule?: string;
    readonly answer?: Explanation['answer'];
  };
}

export interface NameQuestion {
  readonly from: string;
  /** As canonicalName() writes it. */
  readonly name: string;
  readonly port: number;
  readonly protocol: number;
  /** What the connection says. */
  readonly said?: Said | undefined;
  /** Address of the sender's resolver. */
  readonly resolver?: { readonly ip: string; readonly port: number } | undefined;
}

/** @param learned what endpoints learned */
export function explainName(ir: Ir, snapshot: Snapshot, asked: NameQuestion, learned: Learned): NameExplanation {
  const { from, name, port, protocol, said } = asked;
  const own = learned.get(from) ?? new Map<string, readonly LearnedName[]>();
  const addresses = [...own].filter(([, names]) => names.some((n) => n.name === name)).map(([ip]) => ip);
  const known = addresses.length > 0;
  const facts: Learned = known ? learned : new Map([[from, new Map([[STAND_IN, [{ name }]]])]]);
  const places = known ? addresses.slice(0, MOST) : [STAND_IN];
  const explanations = places.map((to) =>
    explain(ir, snapshot, { from, to, port, protocol, ...(said ? { said } : {}) }, facts),
  );
  const verdicts = new Set(explanations.map((e) => e.verdict.verdict));
  const isAlias = known && addresses.every((ip) => own.get(ip)?.every((n) => n.name !== name || n.alias));
  return {
    name,
    known,
    explanations,
    more: Math.max(addresses.length - places.length, 0),
    verdict: verdicts.size === 1 ? (explanations[0] as Explanation).verdict.verdict : 'partial',
    hints: hintsOf(new NamedRules(ir, snapshot, from), name, isAlias),
    ...queryOf(ir, snapshot, asked),
  };
}

/** The verdict on the query for the name, if that depends on the name. */
function queryOf(ir: Ir, snapshot: Snapshot, { from, name, resolver }: NameQuestion): Pick<NameExplanation, 'query'> {
  if (!resolver || !ir.tiers.some((t) => t.policies.some((p) => p.rules.some((r) => r.queries)))) return {};
  const packet: Packet = { from, to: resolver.ip, port: resolver.port, protocol: 17, query: name };
  const { verdict, rule, answer } = explain(ir, snapshot, packet);
  const by = rule ? { rule: formatRule(rule) } : {};
  return { query: { to: resolver.ip, verdict: verdict.verdict, ...by, ...(answer ? { answer } : {}) } };
}

/** Most hints, since a policy may have thousands of patterns. */
const HINTS = 5;

/** Why patterns do not match a name that they nearly match. */
export function hintsOf(rules: NamedRules, name: string, isAlias: boolean): string[] {
  const hints = new Set<string>();
  for (const { pattern, aliases, ref } of rules.patterns()) {
    if (hints.size >= HINTS) break;
    const where = formatRule(ref);
    const rest = /^\*{1,2}\.([^*]+)$/.exec(pattern)?.[1];
    if (rest !== undefined && name === rest)
      hints.add(`${where}: ${pattern} stands for names below ${rest}, not for ${rest} itself`);
    else if (
      rest !== undefined &&
      !pattern.startsWith('**') &&
      name.endsWith(`.${rest}`) &&
      name.slice(0, -rest.length - 1).includes('.')
    )
      hints.add(`${where}: in ${pattern} the star stands for one label only`);
    else if (isAlias && !aliases && rules.serving(name, false).includes(ref))
      hints.add(`${where}: ${pattern} means names that the pod asks for; this one is only the target of a CNAME`);
  }
  return [...hints];
}
