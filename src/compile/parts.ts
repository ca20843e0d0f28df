/**
 * Splits rules by what they ask of names. An address that matches a rule by itself and one that matches it by a learned
 * name are different bits of a set, since a bit is met by all of its conditions together.
 */
import { AgentError } from '../errors.js';
import { asksForName, type NamesPeer, type Peer, type Verification } from '../ir/peers.js';
import type { Rule } from '../ir/types.js';
import type { SaidMatch } from '../image/types.js';
import { aliasAtom, hostAtom, isPattern, nameAtom, queryAtom, serverAtom } from '../names/pattern.js';

/** A part of a rule. The rule matches what any of its parts matches. */
export interface Part {
  /** The rule, with only the peers of this part, none of which asks for a name. */
  readonly rule: Rule;
  /** The atoms of patterns of which a learned name must match one, ascending; absent: no name is asked for. */
  readonly names?: readonly string[];
  /** The patterns of which the connection itself must name one, and how strictly. */
  readonly verified?: { readonly by: Verification; readonly patterns: readonly string[] };
}

const known = new WeakMap<Rule, readonly Part[]>();

/** The parts of a rule. Cached by rule, so that what is cached by the rule of a part stays too. */
export function partsOf(rule: Rule): readonly Part[] {
  if (!rule.peers?.some(asksForName)) return [{ rule }];
  let parts = known.get(rule);
  if (!parts) known.set(rule, (parts = split(rule, rule.peers)));
  return parts;
}

function split(rule: Rule, peers: readonly Peer[]): Part[] {
  const plain = peers.filter((peer) => !asksForName(peer));
  const parts: Part[] = plain.length === 0 ? [] : [{ rule: { ...rule, peers: plain } }];
  // Names with the same other conditions are one part.
  const places = new Map<string, Place>();
  for (const peer of peers.filter(asksForName)) {
    const { names, others } = conditions(peer);
    // Who is to name one of the names is asked for those of its own peer.
    const by = rule.serverNames ? undefined : names.verify;
    const key = JSON.stringify([others, by && [by, names.patterns]]);
    let place = places.get(key);
    if (!place) {
      const where: Peer[] | null = others.length === 0 ? null : [{ kind: 'all', of: others }];
      const verified = by && { verified: { by, patterns: names.patterns } };
      places.set(key, (place = { peers: where, atoms: new Set(), ...verified }));
    }
    for (const pattern of names.patterns) place.atoms.add((names.aliases ? aliasAtom : nameAtom)(checked(pattern)));
  }
  for (const { peers: where, atoms, verified } of places.values())
    if (atoms.size > 0)
      parts.push({ rule: { ...rule, peers: where }, names: [...atoms].sort(), ...(verified && { verified }) });
  return parts;
}

interface Place {
  readonly peers: readonly Peer[] | null;
  readonly atoms: Set<string>;
  readonly verified?: NonNullable<Part['verified']>;
}

/** What a bit of a rule asks of what a connection says, and in which of the two verdicts it counts. */
export interface Saying {
  readonly said?: SaidMatch;
  readonly unaudited?: true;
  /** It counts for the audit only. */
  readonly audited?: true;
}

/**
 * What the bits of a part ask of what a connection says: each of them is a bit of its own. An empty list: nothing that
 * it could say matches.
 */
export function sayingsOf(part: Part): readonly Saying[] {
  const sayings = sayingsIn(part);
  if (part.rule.quic !== 'reject') return sayings;
  return sayings.map(({ said, ...saying }) => ({ ...saying, ...(said ? { said: { ...said, noQuic: true } } : {}) }));
}

function sayingsIn({ rule: { serverNames, http }, verified }: Part): readonly Saying[] {
  const servers = atomsOf(serverNames, serverAtom);
  const asked: (SaidMatch | undefined)[] =
    serverNames || http
      ? [...(servers.length > 0 ? [{ servers }] : []), ...(http ?? []).map((request) => ({ request }))]
      : [undefined];
  if (!verified) return asked.map((said) => (said ? { said } : {}));
  const { by, patterns } = verified;
  const hosts = atomsOf(patterns, hostAtom);
  const named: SaidMatch = { hosts, ...(by === 'strict' ? {} : { silent: true as const }) };
  const strictly = asked.map((said): SaidMatch => {
    return said ? { ...said, ...named } : { servers: atomsOf(patterns, serverAtom), ...named };
  });
  if (by !== 'audit') return strictly.map((said) => ({ said }));
  const inForce = asked.map((said): Saying => ({ ...(said && { said }), unaudited: true }));
  return [...inForce, ...strictly.map((said): Saying => ({ said, audited: true }))];
}

function atomsOf(patterns: readonly string[] | undefined, atom: (pattern: string) => string): readonly string[] {
  return [...new Set(patterns)].map((pattern) => atom(checked(pattern))).sort();
}

/** The names of a peer, and what else must match. @throws AgentError INTERNAL if names are nested otherwise */
function conditions(peer: Peer): { names: NamesPeer; others: readonly Peer[] } {
  const parts = peer.kind === 'all' ? peer.of : [peer];
  const names = parts.filter((part) => part.kind === 'names');
  const others = parts.filter((part) => part.kind !== 'names');
  if (names.length !== 1 || others.some(asksForName))
    throw new AgentError('INTERNAL', 'names can stand alone, or once in a list of which all must match');
  return { names: names[0]!, others };
}

/** The atoms of the patterns that a rule for queries names, ascending; undefined: it is no such rule. */
export function queryAtoms({ queries }: Rule): readonly string[] | undefined {
  return queries && [...new Set(queries)].map((pattern) => queryAtom(checked(pattern))).sort();
}

/** @throws AgentError INTERNAL if a dialect has made a pattern that is not canonical */
function checked(pattern: string): string {
  if (!isPattern(pattern)) throw new AgentError('INTERNAL', `${JSON.stringify(pattern)} is no pattern of names`);
  return pattern;
}
