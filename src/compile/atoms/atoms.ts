/**
 * Atoms: the indivisible selectors on destinations from which classes are made.
 *
 * A rule's CIDR blocks become one atom, or, if there are more than BUCKET blocks, several: block b goes to bucket
 * hash(b) % K. The bucket's content is the atom's name. So one changed CIDR among 100,000 affects the addresses of one
 * bucket only, and two rules with the same list share their atoms.
 */
import { contentName } from '../../ids.js';
import { AgentError } from '../../errors.js';
import { type AtomPrefix, atomPrefix } from '../../image/prefix.js';
import type { AtomExpr } from '../../image/types.js';
import { matchLabels, matchNamespace, matchService, matchWorkload } from '../../ir/match.js';
import type { Peer } from '../../ir/peers.js';
import type { Rule } from '../../ir/types.js';
import type { Pod } from '../../identity/snapshot.js';
import { ownNodeIps, type World } from './world.js';

/** Average number of blocks in one atom of a list that is split. */
const BUCKET = 256;

export interface Atom {
  /** The name of its content (contentName): two atoms with the same id are the same atom. */
  readonly id: string;
  /** IPv4 blocks without exceptions: address × 64 + prefix length, ascending. */
  readonly keys4?: Float64Array;
  /** All other blocks, with their exceptions. */
  readonly prefixes?: readonly AtomPrefix[];
  /** Instead of fixed content: a predicate that is evaluated on the present world. */
  readonly select?: Select;
}

/** A predicate on pods or on nodes. */
export type Select =
  | {
      readonly of: 'pods';
      /** A superset of the pods that can match. */
      readonly candidates: (world: World) => Iterable<Pod>;
      readonly matches: (pod: Pod, ip: string, world: World) => boolean;
      /** Whether the predicate depends on nodes' addresses too. */
      readonly nodes: boolean;
    }
  | { readonly of: 'nodes' | 'services'; readonly members: (world: World) => Iterable<string> };

/** A rule's peers: atoms, expressions over atoms, and whether the endpoint's own addresses match. */
export interface PeerAtoms {
  /** Any of these atoms; null: any destination. */
  readonly atoms: readonly Atom[] | null;
  /** Or any of these expressions. */
  readonly exprs: readonly AtomExpr[];
  /** All atoms in the expressions. */
  readonly named: readonly Atom[];
  readonly self: boolean;
}

const cache = new WeakMap<Rule, PeerAtoms>();

/** Atoms of a rule without named ports. Cached by rule, since dialects return the same object for an unchanged rule. */
export function peerAtoms(rule: Rule): PeerAtoms {
  let found = cache.get(rule);
  if (!found) cache.set(rule, (found = buildAtoms(rule.peers)));
  return found;
}

function buildAtoms(peers: readonly Peer[] | null): PeerAtoms {
  if (peers === null) return { atoms: null, exprs: [], named: [], self: true };
  const atoms: Atom[] = [];
  const exprs: AtomExpr[] = [];
  const named: Atom[] = [];
  const blocks: Block[] = [];
  let self = false;
  for (const peer of peers) {
    if (peer.kind === 'cidr') blocks.push(peer);
    else if (peer.kind === 'self') self = true;
    else if (isPredicate(peer)) atoms.push(predicateAtom(peer));
    else exprs.push(expression(peer, named));
  }
  atoms.push(...cidrAtoms(blocks));
  return { atoms, exprs, named, self };
}

/** @param named receives every atom of the expression */
function expression(peer: Peer, named: Atom[]): AtomExpr {
  switch (peer.kind) {
    case 'any':
      return { all: [] };
    case 'all':
      return { all: peer.of.map((p) => expression(p, named)) };
    case 'some': {
      // A list of blocks may be long here too, so it is split into buckets as in a rule.
      const blocks = cidrAtoms(peer.of.filter((p) => p.kind === 'cidr'));
      named.push(...blocks);
      const others = peer.of.filter((p) => p.kind !== 'cidr');
      return { some: [...blocks.map((a) => a.id), ...others.map((p) => expression(p, named))] };
    }
    case 'not':
      return { not: expression(peer.of, named) };
    case 'cidr': {
      const atoms = cidrAtoms([peer]);
      named.push(...atoms);
      return { some: atoms.map((a) => a.id) };
    }
    case 'self':
      throw new AgentError('INTERNAL', 'a pod itself cannot be a part of a combined peer');
    case 'names':
      throw new AgentError('INTERNAL', 'names cannot be a part of a predicate on destinations');
    case 'pods':
    case 'own-node':
    case 'nodes':
    case 'services': {
      const atom = predicateAtom(peer);
      named.push(atom);
      return atom.id;
    }
    default:
      return peer satisfies never;
  }
}

type Predicate = Extract<Peer, { kind: 'pods' | 'own-node' | 'nodes' | 'services' }>;

function isPredicate(peer: Peer): peer is Predicate {
  return peer.kind === 'pods' || peer.kind === 'own-node' || peer.kind === 'nodes' || peer.kind === 'services';
}

function predicateAtom(peer: Predicate): Atom {
  const id = contentName(`atom|${JSON.stringify(peer)}`);
  if (peer.kind === 'services')
    return { id, select: { of: 'services', members: (world) => serviceMembers(peer, world) } };
  if (peer.kind !== 'pods') return { id, select: { of: 'nodes', members: (world) => nodeMembers(peer, world) } };
  const matches = (pod: Pod, _ip: string, world: World) => matchWorkload(peer, pod, world.snapshot);
  return { id, select: { of: 'pods', candidates: (world) => candidatePods(peer, world), matches, nodes: false } };
}

function* nodeMembers(peer: Extract<Peer, { kind: 'own-node' | 'nodes' }>, world: World): Generator<string> {
  if (peer.kind === 'own-node') {
    yield* ownNodeIps(world.snapshot);
    return;
  }
  for (const node of world.snapshot.nodes.values()) if (matchLabels(peer.labels, node.labels)) yield* node.ips;
}

function* serviceMembers(peer: Extract<Peer, { kind: 'services' }>, world: World): Generator<string> {
  const { snapshot } = world;
  for (const service of snapshot.services.values()) {
    if (!matchService(peer, service, snapshot)) continue;
    for (const port of service.ports) for (const backend of port.backends) yield backend.ip;
  }
}

/** Only the pods of matching namespaces, so that the other pods of a cluster cost nothing. */
function* candidatePods(peer: Extract<Peer, { kind: 'pods' }>, world: World): Generator<Pod> {
  const match = peer.namespaces;
  if ('names' in match) {
    for (const name of new Set(match.names)) yield* world.podsOf(name);
    return;
  }
  for (const name of world.namespaces()) {
    if (matchNamespace(match, name, world.snapshot.namespaces.get(name))) yield* world.podsOf(name);
  }
}

type Block = Extract<Peer, { kind: 'cidr' }>;

/** A bucket under construction: simple IPv4 blocks as numbers, all others as objects. */
interface Bucket {
  plain: number[];
  other: { text: string; prefixes: AtomPrefix[] }[];
}

function cidrAtoms(blocks: readonly Block[]): Atom[] {
  if (blocks.length === 0) return [];
  let k = 1;
  while (k * BUCKET < blocks.length) k *= 2;
  const buckets = new Map<number, Bucket>();
  const bucket = (hash: number): Bucket => {
    const slot = hash & (k - 1);
    let found = buckets.get(slot);
    if (!found) buckets.set(slot, (found = { plain: [], other: [] }));
    return found;
  };
  for (const block of blocks) {
    const p = atomPrefix(block.cidr, 1);
    if (p.family === 4 && block.except.length === 0) {
      const key = p.addr4 * 64 + p.prefix;
      bucket(mix(p.addr4 ^ (p.prefix << 26))).plain.push(key);
    } else {
      const text = `${block.cidr}!${[...block.except].sort().join(',')}`;
      bucket(mix(fnv1a(text))).other.push({ text, prefixes: blockPrefixes(block) });
    }
  }
  return [...buckets.values()].map(({ plain, other }) => {
    const keys4 = Float64Array.from(plain).sort();
    other.sort((x, y) => (x.text < y.text ? -1 : x.text > y.text ? 1 : 0));
    const numbers = Buffer.from(keys4.buffer, keys4.byteOffset, keys4.byteLength);
    const id = contentName(`cidrs|${keys4.length}|${other.map((o) => o.text).join(' ')}|`, numbers);
    return { id, keys4, prefixes: other.flatMap((o) => o.prefixes) };
  });
}

function fnv1a(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/** Spreads neighbouring addresses over the buckets, since the low bits choose the bucket (finalizer of MurmurHash3). */
function mix(h: number): number {
  let x = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/**
 * Prefixes of a block and its exceptions. An exception inside another one is redundant and would be subtracted twice,
 * so only the outermost are kept.
 */
function blockPrefixes(block: Block): AtomPrefix[] {
  const out = [atomPrefix(block.cidr, 1)];
  if (block.except.length === 0) return out;
  const excepts = block.except.map((e) => ({ text: e, p: atomPrefix(e, -1) })).sort((a, b) => a.p.prefix - b.p.prefix);
  const kept: AtomPrefix[] = [];
  for (const { p } of excepts) if (!kept.some((outer) => covers(outer, p))) kept.push(p);
  for (const p of kept) if (covers(out[0] as AtomPrefix, p)) out.push(p);
  return out;
}

function covers(outer: AtomPrefix, inner: AtomPrefix): boolean {
  if (outer.family !== inner.family || outer.prefix > inner.prefix) return false;
  if (outer.family === 4) {
    const size = 2 ** (32 - outer.prefix);
    return Math.floor(outer.addr4 / size) === Math.floor(inner.addr4 / size);
  }
  const shift = BigInt(128 - outer.prefix);
  return BigInt(`0x${outer.addr6}`) >> shift === BigInt(`0x${inner.addr6}`) >> shift;
}

/** The atom of the pods that match a rule's peers and give the port `number` the name `named`. */
export function namedPortAtom(rule: Rule, named: string, protocol: number, number: number): Atom {
  const key = JSON.stringify([rule.peers, named, protocol, number]);
  return {
    id: contentName(`named|${key}`),
    select: {
      of: 'pods',
      candidates: (world) => portCandidates(rule.peers, world) ?? world.podsWithPort(named, protocol, number),
      matches: (pod, ip, world) =>
        pod.ports.some((p) => p.name === named && p.protocol === protocol && p.port === number) &&
        podMatchesPeers(rule.peers, pod, ip, world),
      nodes: (rule.peers ?? []).some(looksBeyondPods),
    },
  };
}

/**
 * The atom of the backends of a Service on one port.
 * @param service `namespace/name`
 */
export function servicePortAtom(service: string, protocol: number, number: number): Atom {
  function* members({ snapshot }: World): Generator<string> {
    for (const port of snapshot.services.get(service)?.ports ?? []) {
      if (port.protocol !== protocol) continue;
      for (const backend of port.backends) if (backend.port === number) yield backend.ip;
    }
  }
  const id = contentName(`serviceport|${JSON.stringify([service, protocol, number])}`);
  return { id, select: { of: 'services', members } };
}

/** A rule's peers (without `self`) as one expression; undefined: every destination. */
export function peersExpr({ peers }: Rule): { expr?: AtomExpr; named: readonly Atom[] } {
  if (peers === null) return { named: [] };
  const named: Atom[] = [];
  return { expr: expression({ kind: 'some', of: peers }, named), named };
}

/** Whether the peer's members may change without a change of pods. */
function looksBeyondPods(peer: Peer): boolean {
  if (peer.kind === 'all' || peer.kind === 'some') return peer.of.some(looksBeyondPods);
  if (peer.kind === 'not') return looksBeyondPods(peer.of);
  return peer.kind === 'own-node' || peer.kind === 'nodes' || peer.kind === 'services';
}

/** If every peer selects pods: the candidates of these peers, which are fewer than all pods with such a port. */
function portCandidates(peers: readonly Peer[] | null, world: World): Set<Pod> | undefined {
  if (!peers?.every((peer) => peer.kind === 'pods')) return undefined;
  const out = new Set<Pod>();
  for (const peer of peers) for (const pod of candidatePods(peer, world)) out.add(pod);
  return out;
}

function podMatchesPeers(peers: readonly Peer[] | null, pod: Pod, ip: string, world: World): boolean {
  if (peers === null) return true;
  return peers.some((peer): boolean => {
    switch (peer.kind) {
      case 'any':
        return true;
      case 'all':
        return peer.of.every((p) => podMatchesPeers([p], pod, ip, world));
      case 'some':
        return podMatchesPeers(peer.of, pod, ip, world);
      case 'not':
        return !podMatchesPeers([peer.of], pod, ip, world);
      case 'services':
        return [...serviceMembers(peer, world)].includes(ip);
      case 'pods':
        return matchWorkload(peer, pod, world.snapshot);
      case 'cidr':
        return blockContains(peer, ip);
      case 'own-node':
      case 'nodes':
        return [...nodeMembers(peer, world)].includes(ip);
      case 'names':
        return false; // parts.ts: such a port belongs to pods, not to learned names
      case 'self':
        return false; // SetRule.self covers it, also for a named port of the sender itself
      default:
        return peer satisfies never;
    }
  });
}

function blockContains(block: Block, ip: string): boolean {
  const address = atomPrefix(ip, 1);
  const inside = (cidr: string) => covers(atomPrefix(cidr, 1), address);
  return inside(block.cidr) && !block.except.some(inside);
}
