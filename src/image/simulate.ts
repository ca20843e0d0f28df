/**
 * simulate(): judges a packet by the Image alone, in the same steps as the kernel (bpf/policy.h): class, rows, AND,
 * first set bit. It is the second of the three engines.
 */
import { NODE_SENDER } from '../ir/sender.js';
import { TCP, UDP } from '../net/protocol.js';
import { isOnLink, isTunnelled } from '../net/tunnels.js';
import { classLookup } from './prefix.js';
import { acceptsOf, type Matcher, matcherOf, patternAtoms } from './names.js';
import { requestRows } from './requests.js';
import {
  CLASS_HIDDEN,
  CLASS_OPENING,
  CLASS_QUIC,
  CLASS_REQUEST,
  CLASS_REQUEST_SILENT,
  CLASS_SELF,
  CLASS_SILENT,
  CLASS_UNSAID,
  classRow,
  fixedRows,
  portRow,
  type Row,
  setIndex,
  testBit,
} from './rows.js';
import { handshakeOf, type Learned, type LearnedName, type Packet, sameDecision, type Verdict } from '../ir/packet.js';
import { type Heard, nameSaid, saidOf } from '../ir/said.js';
import type { Image, PolicySet } from './types.js';

const lookups = new WeakMap<Image, (ip: string) => number>();

const matchers = new WeakMap<Image, Matcher>();

/**
 * Judges one packet.
 * @param ownIps addresses of the sender, canonical text
 * @param learned what endpoints learned from DNS answers
 */
export function simulate(image: Image, packet: Packet, ownIps: readonly string[], learned?: Learned): Verdict {
  const set = image.sets.get(image.endpoints.get(packet.from) ?? 0);
  if (!set) return { verdict: 'allow', rule: 0, logged: [] };
  const { query, ...silent } = packet;
  // As a packet that asks for nothing.
  const as = (hearing: Hearing) => judgePacket(image, set, silent, ownIps, learned, hearing);
  const plain = query === undefined ? as({}) : judgePacket(image, set, packet, ownIps, learned, {});
  if (packet.fragment) return plain;
  if (set.queries) {
    // If it depends on the rules for queries, the queries of its connection decide.
    const asking = as({ asks: true });
    if (!sameDecision(query === undefined ? plain : as({}), asking)) {
      if (query !== undefined) return plain.verdict === 'partial' ? denied(set) : plain;
      const best = plain.verdict === 'deny' ? asking : plain;
      const isHandshake = packet.protocol === TCP && packet.said === undefined;
      return best.verdict === 'deny' || isHandshake ? best : denied(set);
    }
  }
  if (!set.says || packet.from === NODE_SENDER) return plain;
  const met = as({ heard: 'met' });
  if (sameDecision(plain, met)) return plain;
  const heard = saidOf(packet);
  if (packet.protocol === TCP) {
    // Nothing is said on a connection that is not accepted.
    const handshake = handshakeOf(plain, met, () => as({ heard: 'opening' }));
    if (handshake.verdict === 'partial') return denied(set);
    if (heard === 'nothing' || handshake.verdict === 'deny') return handshake;
  }
  const said = as({ heard });
  return said.verdict === 'partial' ? denied(set) : said;
}

/** What is taken as known of a packet. `asks`: rules for queries match, whatever they ask for. */
interface Hearing {
  readonly asks?: boolean;
  readonly heard?: Heard;
}

/** Judges one packet by a set. */
function judgePacket(
  image: Image,
  set: PolicySet,
  packet: Packet,
  ownIps: readonly string[],
  learned: Learned | undefined,
  hearing: Hearing,
): Verdict {
  const fragment = packet.fragment ?? false;
  const unwrapped = (ip: string, port: number) =>
    packet.from !== NODE_SENDER &&
    isTunnelled(image.tunnels, packet.protocol, port, fragment) &&
    (image.nodes.has(ip) || isOnLink(ip));
  const names = learned?.get(packet.from);
  const judge = (ip: string, port: number) =>
    unwrapped(ip, port)
      ? denied(set)
      : classify(image, set, { ...packet, to: ip, port }, ownIps, names?.get(ip) ?? [], hearing);
  if (unwrapped(packet.to, packet.port)) return denied(set);
  const translated = packet.fragment || packet.from === NODE_SENDER;
  const service = translated ? undefined : image.services.get(`${packet.to}|${packet.port}|${packet.protocol}`);
  if (!service) return judge(packet.to, packet.port);
  const verdicts = service.backends.map((b) => judge(b.ip, b.port));
  // No hook sees packets that are translated to the node itself, so a denied backend there denies the packet.
  const closed = verdicts.find((v, i) => service.backends[i]?.own && v.verdict === 'deny');
  if (closed) return { ...closed, logged: [] };
  if (service.many) return { verdict: 'partial', rule: 0, logged: [] };
  const allowed = verdicts.filter((v) => v.verdict === 'allow').length;
  const first = verdicts[0] as Verdict;
  if (allowed !== 0 && allowed !== verdicts.length) return { verdict: 'partial', rule: 0, logged: [] };
  return { ...first, logged: [] };
}

/** A denial before any rule. It is the same if staged rules are enforced. */
function denied(set: PolicySet): Verdict {
  const verdict = { verdict: 'deny', rule: 0, logged: [] } as const;
  return set.staged ? { ...verdict, audit: { verdict: 'deny', rule: 0 } } : verdict;
}

function classify(
  image: Image,
  set: PolicySet,
  packet: Packet,
  ownIps: readonly string[],
  names: readonly LearnedName[],
  { asks, heard = 'nothing' }: Hearing,
): Verdict {
  const { to: ip, protocol, port, fragment = false } = packet;
  let lookup = lookups.get(image);
  if (!lookup) lookups.set(image, (lookup = classLookup(image)));
  const fixed = new Map(fixedRows(set));
  const peers = (classRow(set, image.classes.get(lookup(ip)) ?? []) ?? (fixed.get(0) as Row)).slice();
  const self = fixed.get(CLASS_SELF);
  if (self && ownIps.includes(ip))
    for (let i = 0; i < peers.length; i++) peers[i] = (peers[i] as number) | (self[i] as number);
  const ports = portRow(set, protocol, port, fragment);
  let hits: Row = both(peers, ports);
  const named = namesRow(image, set, names);
  if (named) hits = both(hits, named);
  const asked = asks ? undefined : queryRow(image, set, fragment ? undefined : packet.query);
  if (asked) hits = both(hits, asked);
  if (set.says && heard !== 'met') hits = both(hits, saidRow(image, set, heard, protocol));
  const real = scan(set, hits, false);
  if (!set.staged) return real;
  const audit = scan(set, hits, true);
  return { ...real, audit: { verdict: audit.verdict as 'allow' | 'deny', rule: audit.rule } };
}

/** The rules that both rows have. */
export function both(one: Row, other: Row): Row {
  return one.map((word, i) => word & (other[i] as number));
}

/**
 * The rules of a set that match an address with these names: any of the rows of the names' classes. undefined: no rule
 * asks for names.
 */
export function namesRow(image: Image, set: PolicySet, names: readonly LearnedName[]): Row | undefined {
  const unnamed = setIndex(set).names?.others;
  if (!unnamed) return undefined;
  const row = unnamed.slice();
  for (const { name, alias } of names) {
    const accepts = acceptsOf(matcherFor(image), name);
    const own = classRow(set, (alias ? accepts?.aliases : accepts?.names) ?? []) ?? unnamed;
    for (let i = 0; i < row.length; i++) row[i] = (row[i] as number) | (own[i] as number);
  }
  return row;
}

/**
 * The rules of a set that match a query for this name; undefined: what is no query. @returns undefined: no rule asks for
 * queries
 */
export function queryRow(image: Image, set: PolicySet, query: string | undefined): Row | undefined {
  const unasked = setIndex(set).queries?.others;
  if (!unasked || query === undefined) return unasked;
  return classRow(set, acceptsOf(matcherFor(image), query)?.queries ?? []) ?? unasked;
}

/** The rules of a set that match what a connection says. */
function saidRow(image: Image, set: PolicySet, heard: Exclude<Heard, 'met'>, protocol: number): Row {
  const fixed = new Map(fixedRows(set));
  if (heard === 'opening') return fixed.get(CLASS_OPENING) as Row;
  const byName = (none: number, mark: 'servers' | 'hosts', name: string) =>
    classRow(set, acceptsOf(matcherFor(image), name)?.[mark] ?? []) ?? (fixed.get(none) as Row);
  if (heard === 'nothing') return fixed.get(CLASS_UNSAID) as Row;
  const name = nameSaid(heard);
  if (heard.kind !== 'http') {
    const named = () => (name === undefined ? (fixed.get(CLASS_SILENT) as Row) : byName(CLASS_UNSAID, 'servers', name));
    const hello = heard.kind === 'tls' && heard.hidden ? (fixed.get(CLASS_HIDDEN) as Row) : named();
    // A hello over UDP is one of QUIC.
    return protocol === UDP && heard.kind === 'tls' ? both(hello, fixed.get(CLASS_QUIC) as Row) : hello;
  }
  const row = name === undefined ? (fixed.get(CLASS_REQUEST_SILENT) as Row) : byName(CLASS_REQUEST, 'hosts', name);
  return requestRows(set, heard).reduce(both, row);
}

function matcherFor(image: Image): Matcher {
  let matcher = matchers.get(image);
  if (!matcher) matchers.set(image, (matcher = matcherOf(patternAtoms(image.sets.values()))));
  return matcher;
}

/** The first set bit decides. Pass continues with the next tier, Log with the next bit. */
function scan(set: PolicySet, hits: Row, withStaged: boolean): Verdict {
  const logged: number[] = [];
  for (let bit = 0; bit < set.rules.length; ) {
    const rule = set.rules[bit];
    if (!rule || !testBit(hits, bit) || (withStaged ? rule.unaudited : rule.staged)) {
      bit++;
      continue;
    }
    if (rule.action === 'pass') {
      bit = rule.tierEnd;
      continue;
    }
    if (rule.action === 'log') {
      // Several bits of one rule stand side by side.
      if (logged.at(-1) !== rule.id) logged.push(rule.id);
      bit++;
      continue;
    }
    return { verdict: rule.action, rule: rule.id, logged };
  }
  return { verdict: 'allow', rule: 0, logged };
}
