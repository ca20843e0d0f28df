/**
 * Kinds of names: names that no rule distinguishes, as learned for an address or asked for in a query. The patterns'
 * automaton tells which kinds there are, so that none is missed.
 */
import { matcherOf } from '../../image/names.js';
import type { Learned, LearnedName, Packet } from '../../ir/packet.js';
import type { Peer } from '../../ir/peers.js';
import type { Rule } from '../../ir/types.js';
import { aliasAtom, isPattern, matchesName, nameAtom, queryAtom, readAtom } from '../../names/pattern.js';
import { samples } from '../../names/samples.js';
import { PatternFault } from '../../names/subsets.js';
import { type Witness, witnesses } from '../../names/witness.js';

/** One name of each kind. */
export interface NameKinds {
  /** Names for an address, each alone. */
  readonly learned: readonly LearnedName[];
  /** Names in queries, also one that no pattern matches; none if no rule asks for queries. */
  readonly queries: readonly string[];
}

const NO_NAMES: NameKinds = { learned: [], queries: [] };

/** With more kinds than this, an address with names of two kinds is not looked at. */
const MAX_PAIRED = 64;

/** Names that an address may have at once: none, one of each kind, and two of different kinds. */
export function namesTogether({ learned }: NameKinds): (readonly LearnedName[])[] {
  const pairs = learned.length > MAX_PAIRED ? [] : learned.flatMap((a, i) => learned.slice(i + 1).map((b) => [a, b]));
  return [[], ...learned.map((one) => [one]), ...pairs];
}

/** The kinds of names that some rules distinguish. */
export function nameKinds(rules: Iterable<Rule>): NameKinds {
  const atoms = atomsOf(rules);
  if (atoms.length === 0) return NO_NAMES;
  const found = witnessesOf(atoms).filter(({ name }) => name.length <= MAX_NAME);
  const learned = found.filter(({ accepts }) => accepts.names.length > 0).map(({ name }): LearnedName => ({ name }));
  const aliases = found
    .filter(({ accepts }) => accepts.aliases.length > 0)
    .map(({ name }): LearnedName => ({ name, alias: true }));
  const queries = found.filter(({ accepts }) => accepts.queries.length > 0).map(({ name }) => name);
  const asked = atoms.map((atom) => readAtom(atom)!).filter(({ kind }) => kind === 'query');
  const strange = STRANGE.find((name) => !asked.some(({ pattern }) => matchesName(pattern, name)))!;
  return { learned: [...learned, ...aliases], queries: asked.length === 0 ? [] : [...queries, strange] };
}

/** The longest name there is. */
const MAX_NAME = 253;

/** Candidates for a name that no pattern matches. None matches the last. */
const STRANGE = ['x', 'other.example', 'x.other.example', '?'];

/** The same, with names that just miss each pattern. */
export function boundaryKinds(rules: readonly Rule[]): NameKinds {
  const kinds = nameKinds(rules);
  const missed = (patterns: readonly string[]) => [
    ...new Set(patterns.filter(isPattern).flatMap((pattern) => missesOf(pattern).slice(0, MISSED))),
  ];
  const peers = rules.flatMap((rule) => namesIn(rule.peers));
  const known = new Set(kinds.learned.map(({ name }) => name));
  const names = missed(peers.flatMap(({ patterns }) => patterns)).filter((name) => !known.has(name));
  const asked = new Set(kinds.queries);
  const queries = missed(rules.flatMap((rule) => rule.queries ?? [])).filter((name) => !asked.has(name));
  return { learned: [...kinds.learned, ...names.map((name) => ({ name }))], queries: [...kinds.queries, ...queries] };
}

function missesOf(pattern: string): string[] {
  return samples(pattern).filter((name) => !matchesName(pattern, name));
}

/** Names that miss a pattern, at most. */
const MISSED = 2;

/** The patterns that some rules name, as atoms, ascending. */
function atomsOf(rules: Iterable<Rule>): string[] {
  const atoms = new Set<string>();
  for (const { peers, queries = [] } of rules) {
    for (const { patterns, aliases } of namesIn(peers))
      for (const pattern of patterns.filter(isPattern)) atoms.add((aliases ? aliasAtom : nameAtom)(pattern));
    for (const pattern of queries.filter(isPattern)) atoms.add(queryAtom(pattern));
  }
  return [...atoms].sort();
}

/** The peers of a rule that ask for names. */
export function namesIn(peers: readonly Peer[] | null): Extract<Peer, { kind: 'names' }>[] {
  return (peers ?? [])
    .flatMap((peer) => (peer.kind === 'all' || peer.kind === 'some' ? namesIn(peer.of) : peer))
    .filter((peer) => peer.kind === 'names');
}

function witnessesOf(atoms: readonly string[]): Witness[] {
  try {
    return witnesses(matcherOf(atoms).automaton);
  } catch (e) {
    if (!(e instanceof PatternFault)) throw e;
    // No agent enforces them together. Each is shown by itself.
    return atoms.flatMap((atom) => witnesses(matcherOf([atom]).automaton));
  }
}

/** What the sender learned, if these are the only names that it knows for the packet's destination. */
export function learnedFor({ from, to }: Packet, names: readonly LearnedName[] = []): Learned | undefined {
  return names.length === 0 ? undefined : new Map([[from, new Map([[to, names]])]]);
}
