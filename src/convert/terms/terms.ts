/**
 * Splits the peers of a rule into terms: alternatives, each of which is a conjunction such as "in these blocks, a pod
 * with these labels, none of those nodes". A target language then needs to express one term at a time.
 */
import { blocksOf, type Block, everywhere, intersect, without } from '../../dialects/calico/nets.js';
import { describePatterns } from '../../names/describe.js';
import type { LabelExpr, NamesPeer, Peer, ServiceMatch } from '../../ir/peers.js';
import { type Cidr, cidrCovers, formatBytes16, parseCidr } from '../../net/addr.js';
import { cidrRange, joinRanges, rangeText } from '../../tools/ranges.js';
import { allOf, oneOf, podExpr, Unsayable } from './labels.js';

/** A conjunction: all of its conditions hold. */
export interface Term {
  /** null: any address. */
  readonly blocks: readonly Block[] | null;
  /** The address belongs to a matching pod; to no matching pod. */
  readonly pod?: LabelExpr;
  readonly notPod?: LabelExpr;
  readonly node?: LabelExpr;
  readonly notNode?: LabelExpr;
  /** Whether it is an address of the sender's node; of the sender itself. Absent: either. */
  readonly own?: boolean;
  readonly self?: boolean;
  /** Whether it is a backend of a Service. If a Service matches several conditions, the first one counts. */
  readonly service?: ServiceMatch;
  readonly notService?: ServiceMatch;
  /** The address was learned for one of these names. */
  readonly names?: NamesPeer;
}

/** The assumptions of a conversion. */
export interface Assumptions {
  /** All pods and nodes have addresses in these blocks; undefined: anywhere. */
  readonly cluster?: readonly Cidr[];
  /** Whether packets to the sender itself and to its own node are ignored. */
  readonly ignoreOwn: boolean;
}

const ANYWHERE: Term = { blocks: null };
const MAX_TERMS = 256;

/**
 * @param peers null: every destination
 * @throws Unsayable if there are too many terms
 */
export function termsOf(peers: readonly Peer[] | null, assumed: Assumptions): Term[] {
  if (peers === null) return [ANYWHERE];
  const terms = limited(peers.flatMap((peer) => expand(peer, true))).flatMap((term) => simplified(term, assumed));
  const plain = terms.filter(isPlain);
  // Blocks that together cover everything are one term.
  const blocks = plain.every((t) => t.blocks !== null) ? plain.flatMap((t) => t.blocks ?? []) : null;
  if (plain.length > 0 && (blocks === null || areEverything(blocks))) return [ANYWHERE];
  const rest = terms.filter((t) => !isPlain(t));
  return [...(plain.length > 0 ? [{ blocks }] : []), ...rest];
}

/** Whether the term has no conditions except blocks. */
export function isPlain(term: Term): boolean {
  return Object.entries(term).every(([key, value]) => key === 'blocks' || value === undefined);
}

/** Whether the term matches every address. */
export function isAnywhere(term: Term): boolean {
  return isPlain(term) && term.blocks === null;
}

/** Whether the term has these conditions and no others. */
export function saysOnly(term: Term, ...keys: readonly (keyof Term)[]): boolean {
  return (
    (term.blocks === null || keys.includes('blocks')) &&
    Object.entries(term).every(
      ([key, value]) => key === 'blocks' || value === undefined || keys.includes(key as keyof Term),
    )
  );
}

function expand(peer: Peer, holds: boolean): Term[] {
  switch (peer.kind) {
    case 'any':
      return holds ? [ANYWHERE] : [];
    case 'all':
    case 'some':
      return (peer.kind === 'all') === holds
        ? product(peer.of.map((p) => expand(p, holds)))
        : limited(peer.of.flatMap((p) => expand(p, holds)));
    case 'not':
      return expand(peer.of, !holds);
    case 'cidr': {
      const cidr = parseCidr(peer.cidr);
      const except = peer.except.map(parseCidr);
      const blocks = holds
        ? without(blocksOf([cidr]), except)
        : [...without(everywhere(4, 6), [cidr]), ...blocksOf(except.filter((e) => cidrCovers(cidr, e)))];
      return blocks.length === 0 ? [] : [{ blocks }];
    }
    case 'pods':
      return [{ blocks: null, [holds ? 'pod' : 'notPod']: podExpr(peer) }];
    case 'nodes':
      return [{ blocks: null, [holds ? 'node' : 'notNode']: peer.labels }];
    case 'own-node':
      return [{ blocks: null, own: holds }];
    case 'self':
      return [{ blocks: null, self: holds }];
    case 'services':
      return [{ blocks: null, [holds ? 'service' : 'notService']: peer }];
    case 'names':
      if (!holds) throw new Unsayable('excludes names');
      return [{ blocks: null, names: peer }];
    default:
      return unknownPeer(peer);
  }
}

/** Fails to compile if the IR gets another kind of peer. */
function unknownPeer(peer: never): never {
  throw new Unsayable(`means ${(peer as Peer).kind}: no other language can be asked for that here`);
}

function product(lists: readonly Term[][]): Term[] {
  let out: Term[] = [ANYWHERE];
  for (const list of lists) out = limited(out.flatMap((a) => list.flatMap((b) => both(a, b))));
  return out;
}

function both(a: Term, b: Term): Term[] {
  const blocks = a.blocks && b.blocks ? intersect(a.blocks, b.blocks) : (a.blocks ?? b.blocks);
  if (blocks?.length === 0) return [];
  if ((a.own ?? b.own) !== (b.own ?? a.own) || (a.self ?? b.self) !== (b.self ?? a.self)) return [];
  if ((a.service && b.service) || (a.notService && b.notService)) throw new Unsayable('means several Services at once');
  if (a.names && b.names) throw new Unsayable('means several names at once');
  const joined = { ...a, ...b, blocks };
  const and = (x?: LabelExpr, y?: LabelExpr) => (x && y ? allOf(x, y) : (x ?? y));
  const or = (x?: LabelExpr, y?: LabelExpr) => (x && y ? oneOf(x, y) : (x ?? y));
  const notPod = or(a.notPod, b.notPod);
  let pod = and(a.pod, b.pod);
  // An address belongs to one pod.
  if (pod && notPod) pod = allOf(pod, { op: 'not', of: notPod });
  return [
    {
      ...joined,
      pod,
      notPod: pod ? undefined : notPod,
      node: and(a.node, b.node),
      notNode: or(a.notNode, b.notNode),
    },
  ];
}

function limited<T>(list: T[]): T[] {
  if (list.length > MAX_TERMS) throw new Unsayable(`has more than ${MAX_TERMS} alternatives`);
  return list;
}

function simplified(term: Term, { cluster, ignoreOwn }: Assumptions): Term[] {
  let rest = term;
  if (ignoreOwn) {
    if (rest.own === true || rest.self === true) return [];
    rest = { ...rest, own: undefined, self: undefined };
  }
  if (cluster && rest.blocks && intersect([...rest.blocks], blocksOf(cluster)).length === 0) {
    if (rest.pod || rest.node || rest.own === true || rest.self === true) return [];
    rest = { ...rest, notPod: undefined, notNode: undefined, own: undefined, self: undefined };
  }
  return [rest];
}

function areEverything(blocks: readonly Block[]): boolean {
  const joined = joinRanges(blocks.flatMap(plainCidrs).map(cidrRange)).map(rangeText);
  return joined.length === 2 && joined[0] === '0.0.0.0/0' && joined[1] === '::/0';
}

/** Whether all of these addresses are in one of the blocks. */
export function cover(blocks: readonly Block[], cidrs: readonly Cidr[]): boolean {
  return cidrs.every((cidr) => {
    const parts = intersect([...blocks], blocksOf([cidr]))
      .flatMap(plainCidrs)
      .map(cidrRange);
    const joined = joinRanges(parts).map(rangeText);
    return joined.length === 1 && joined[0] === rangeText(cidrRange(cidr.text));
  });
}

/** Whether some block and some CIDR overlap. */
export function touches(blocks: readonly Block[], cidrs: readonly Cidr[]): boolean {
  return intersect([...blocks], blocksOf(cidrs)).length > 0;
}

/** The block without its exceptions, as blocks without exceptions. */
export function plainCidrs({ cidr, except }: Block): string[] {
  if (except.some((e) => cidrCovers(e, cidr))) return [];
  const inside = except.filter((e) => cidrCovers(cidr, e));
  if (inside.length === 0) return [cidr.text];
  return halves(cidr).flatMap((half) => plainCidrs({ cidr: half, except: inside }));
}

function halves(cidr: Cidr): Cidr[] {
  const width = cidr.family === 4 ? 32 : 128;
  const { lo, hi } = cidrRange(cidr.text);
  const middle = lo + (hi - lo + 1n) / 2n;
  return [lo, middle].map((n) => {
    const bytes = new Uint8Array(Buffer.from(n.toString(16).padStart(32, '0'), 'hex'));
    const text = formatBytes16(bytes, width === 32 ? 4 : 6);
    return parseCidr(`${text}/${cidr.prefix + 1}`);
  });
}

/** A term in words, for reasons. */
export function describe(term: Term): string {
  const blocks = term.blocks?.map(blockText).join(', ');
  const parts: string[] = [];
  if (term.names) {
    const aliases = term.names.aliases ? ', or an alias of it' : '';
    parts.push(`what was learned for ${describePatterns(term.names.patterns)}${aliases}`);
  }
  if (term.self !== undefined) parts.push(term.self ? 'the pod itself' : 'not the pod itself');
  if (term.notPod?.op === 'true' && term.notNode?.op === 'true') {
    parts.push(`${blocks === undefined ? 'addresses' : blocks} outside of the cluster (no pod's, no node's)`);
    return parts.join(', ');
  }
  if (term.own !== undefined) parts.push(term.own ? 'the own node' : 'not the own node');
  if (term.node) parts.push('nodes by their labels');
  if (term.notNode) parts.push('not the nodes');
  if (term.pod) parts.push('pods');
  if (term.notPod) parts.push('everything but some pods');
  if (term.service) parts.push(`what is behind ${serviceText(term.service)}`);
  if (term.notService) parts.push(`not what is behind ${serviceText(term.notService)}`);
  if (blocks !== undefined) parts.push(`addresses of ${blocks}`);
  return parts.join(' and ');
}

function serviceText({ name, namespaces }: ServiceMatch): string {
  if (name === undefined) return 'Services by their labels';
  return `Service ${'names' in namespaces ? `${namespaces.names.join()}/` : ''}${name}`;
}

/** Whether the term has no other conditions than names, and that the address is no pod's and no node's. */
export function isNamedOutside(term: Term): boolean {
  return (
    term.names !== undefined &&
    saysOnly(term, 'names', 'notPod', 'notNode', 'own') &&
    term.notPod?.op === 'true' &&
    term.notNode?.op === 'true' &&
    term.own !== true
  );
}

export function blockText({ cidr, except }: Block): string {
  return except.length === 0 ? cidr.text : `${cidr.text} except ${except.map((e) => e.text).join(', ')}`;
}
