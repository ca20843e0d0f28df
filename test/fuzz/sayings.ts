/**
 * Rules that ask what connections say, in policies of every dialect, and connections that say something at the edges of
 * what they ask for. Not every language has words for it: what is asked stands beside a manifest's spec, under `says`.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { Packet, Said } from '../../src/ir/packet.js';
import { type Peer, type Verification, VERIFICATIONS } from '../../src/ir/peers.js';
import { NODE_SENDER } from '../../src/ir/sender.js';
import { asksForSaid } from '../../src/ir/said.js';
import type { HttpHeader, HttpMatch, Ir, IrPolicy, PortMatch, Rule } from '../../src/ir/types.js';
import { samples as namesAt } from '../../src/names/samples.js';
import { tableOf } from '../../src/regex/match.js';
import { samples as textsAt } from '../../src/regex/samples.js';
import { saidName } from '../../src/said/name.js';
import { firstSaid } from '../../src/said/said.js';
import { speech } from '../engines/speech.js';
import { NAMES } from './objects/domains.js';
import type { Manifest } from './objects/names.js';
import type { Random } from './random.js';

const [TCP, UDP] = [6, 17];

/** What is added to the rule of this number, counted around. */
export interface Saying {
  readonly rule?: number;
  readonly serverNames?: readonly string[];
  readonly http?: readonly HttpMatch[];
  readonly verify?: Verification;
  readonly quic?: 'reject';
}

const PATTERNS = [
  'z.example',
  '*.z.example',
  '**.z.example',
  'a.example',
  'sub*.z.example',
  '**',
  '***',
  'a.*.example',
];
const METHODS = ['GET', 'GET|HEAD', '[A-Z]{3,4}', 'P.*'];
const PATHS = ['/', '/a.*', '/a/[0-9]+', '/(?:a|b)', '.*', '/a\\?q=.*', '/v[12]/x{2,3}', '/a/.+/b'];
const HOSTS = ['z\\.example', '.*\\.z\\.example(?::80)?', '.*', 'a\\.example:8080', ''];
const HEADERS = ['x-one', 'accept'];
const VALUES = ['1', '[0-9]+', '.*', '1,2', 'a|b', ''];

export function randomSaying(r: Random, rule = r.below(8)): Saying {
  return {
    rule,
    ...(r.chance(45)
      ? { serverNames: Array.from({ length: r.below(3) + (r.chance(95) ? 1 : 0) }, () => r.pick(PATTERNS)) }
      : {}),
    ...(r.chance(45) ? { http: Array.from({ length: r.below(4) }, () => match(r)) } : {}),
    ...(r.chance(60) ? { verify: r.pick(VERIFICATIONS) } : {}),
    ...(r.chance(20) ? { quic: 'reject' as const } : {}),
  };
}

function match(r: Random): HttpMatch {
  return {
    ...(r.chance(50) ? { method: r.pick(METHODS) } : {}),
    ...(r.chance(50) ? { path: r.pick(PATHS) } : {}),
    ...(r.chance(30) ? { host: r.pick(HOSTS) } : {}),
    ...(r.chance(35) ? { headers: Array.from({ length: 1 + r.below(2) }, () => header(r)) } : {}),
  };
}

function header(r: Random): HttpHeader {
  return {
    name: r.pick(HEADERS),
    ...(r.chance(70) ? { value: r.pick(VALUES) } : {}),
    ...(r.chance(30) ? { not: true as const } : {}),
  };
}

/** A rule that asks. Those for queries ask for nothing else. */
export function saying(rule: Rule, { serverNames, http, verify, quic }: Saying): Rule {
  if (rule.queries) return rule;
  return {
    ...rule,
    ...(verify && rule.peers ? { peers: rule.peers.map((peer) => verified(peer, verify)) } : {}),
    ...(serverNames ? { serverNames } : {}),
    ...(http ? { http } : {}),
    ...(quic ? { quic } : {}),
  };
}

function verified(peer: Peer, verify: Verification): Peer {
  if (peer.kind === 'all') return { ...peer, of: peer.of.map((one) => verified(one, verify)) };
  return peer.kind === 'names' ? { ...peer, verify } : peer;
}

const keyOf = (kind: string, { namespace = '', name }: { namespace?: string; name: string }) =>
  `${kind} ${namespace}/${name}`;

/** By policy, and what is added to it: an unchanged policy stays the same object, as the compiler expects. */
const made = new WeakMap<IrPolicy, Map<string, IrPolicy>>();

/** The IR of these objects, with what stands beside their specs. */
export function withSayings(ir: Ir, objects: Iterable<Manifest>): Ir {
  const says = new Map<string, readonly Saying[]>();
  for (const { kind, metadata, says: list } of objects) if (list) says.set(keyOf(kind, metadata), list as Saying[]);
  if (says.size === 0) return ir;
  const tiers = ir.tiers.map((tier) => ({
    ...tier,
    policies: tier.policies.map((policy) => asking(policy, says.get(keyOf(policy.ref.kind, policy.ref)) ?? [])),
  }));
  return { ...ir, tiers };
}

function asking(policy: IrPolicy, says: readonly Saying[]): IrPolicy {
  const { length } = policy.rules;
  if (says.length === 0 || length === 0) return policy;
  const known = made.get(policy) ?? new Map<string, IrPolicy>();
  made.set(policy, known);
  const key = JSON.stringify(says);
  let now = known.get(key);
  if (!now) {
    const rules = [...policy.rules];
    for (const one of says) {
      const at = (one.rule ?? 0) % length;
      rules[at] = saying(rules[at] as Rule, one);
    }
    known.set(key, (now = { ...policy, rules }));
  }
  return now;
}

/** Texts at the edges of all that rules ask for. */
export interface SaidTexts {
  readonly names: readonly string[];
  readonly methods: readonly string[];
  readonly paths: readonly string[];
  readonly hosts: readonly string[];
  readonly values: readonly string[];
  /** Rules that ask, by the protocol, TCP or UDP, whose connections may meet them. */
  readonly rules: Readonly<Record<number, readonly Rule[]>>;
}

const edges = new Map<string, readonly string[]>();

function textsOf(regexes: ReadonlySet<string>, usual: readonly string[]): string[] {
  const found = [...regexes].flatMap((regex) => {
    const known = edges.get(regex);
    if (known) return known;
    const { matching, missing } = textsAt(tableOf(regex));
    const texts = [...matching.slice(0, 12), ...missing.slice(0, 12)];
    edges.set(regex, texts);
    return texts;
  });
  return [...usual, ...found];
}

export function saidTexts(ir: Ir): SaidTexts {
  const [patterns, methods, paths, hosts, values] = Array.from({ length: 5 }, () => new Set<string>()) as [
    Set<string>,
    ...Set<string>[],
  ];
  const names = (peer: Peer): void => {
    if (peer.kind === 'all') for (const one of peer.of) names(one);
    if (peer.kind === 'names' && peer.verify) for (const pattern of peer.patterns) patterns.add(pattern);
  };
  const rules = ir.tiers.flatMap(({ policies }) => policies.flatMap((policy) => policy.rules));
  for (const rule of rules) {
    for (const pattern of rule.serverNames ?? []) patterns.add(pattern);
    for (const peer of rule.peers ?? []) names(peer);
    for (const one of rule.http ?? []) {
      if (one.method !== undefined) methods?.add(one.method);
      if (one.path !== undefined) paths?.add(one.path);
      if (one.host !== undefined) hosts?.add(one.host);
      for (const { value } of one.headers ?? []) if (value !== undefined) values?.add(value);
    }
  }
  const at = [...patterns].slice(0, 12).flatMap(namesAt);
  return {
    names: [...NAMES, ...at].filter((name) => saidName(name) === name),
    methods: textsOf(methods as Set<string>, ['GET', 'POST', 'HEAD', 'get']),
    paths: textsOf(paths as Set<string>, ['/', '/a', '/a/12', '/a?q=1']),
    hosts: textsOf(hosts as Set<string>, ['z.example', 'a.z.example:80', 'A.Z.Example', '192.0.2.1']),
    values: textsOf(values as Set<string>, ['1', 'a', '']),
    rules: Object.fromEntries(
      [TCP, UDP].map((protocol) => [
        protocol,
        rules.filter((rule) => asksForSaid(rule) && (rule.ports === null || rule.ports.some(isOf(protocol)))),
      ]),
    ),
  };
}

function isOf(wanted: number): (ports: PortMatch) => boolean {
  return ({ protocol }) => protocol === null || protocol === wanted;
}

/** A packet to where a rule is that asks, as far as it says where that is, and what it may ask for. */
function toAsked(r: Random, packet: Packet, { rules, ...texts }: SaidTexts): Packet {
  const { protocol } = packet;
  const { ports, peers, serverNames = [], http = [] } = r.pick(rules[protocol] ?? []);
  const port = r.pick(ports?.filter(isOf(protocol)) ?? [undefined])?.ports?.[0]?.[0] ?? r.pick([80, 443]);
  const blocks = peers?.flatMap((peer) => (peer.kind === 'cidr' ? [peer.cidr] : [])) ?? [];
  const to = blocks.length > 0 && r.chance(70) ? (r.pick(blocks).split('/')[0] as string) : packet.to;
  const asked = { ...packet, to, port: port === 53 ? 443 : port };
  const of = (regex: string | undefined, usual: readonly string[]) =>
    regex === undefined ? usual : textsOf(new Set([regex]), []);
  const entry = http.length > 0 && r.chance(60) ? r.pick(http) : undefined;
  const said = randomSaid(r, protocol, {
    ...texts,
    ...(serverNames.length > 0
      ? { names: serverNames.flatMap(namesAt).filter((name) => saidName(name) === name) }
      : {}),
    ...(entry
      ? {
          methods: of(entry.method, texts.methods),
          paths: of(entry.path, texts.paths),
          hosts: of(entry.host, texts.hosts),
          values: of(entry.headers?.[0]?.value, texts.values),
        }
      : {}),
  });
  return said ? { ...asked, said } : asked;
}

/**
 * Half of the connections say something, but not to pods: what those answer meets their own hooks first, which nobody runs here.
 * @param texts what rules ask of connections; absent: none says anything
 */
export function speaking(r: Random, snapshot: Snapshot, packet: Packet, texts: SaidTexts | undefined): Packet {
  const { protocol, fragment, query, port, from } = packet;
  // The node is not listened to, and what is said to resolvers is queries.
  if (
    !texts ||
    (protocol !== TCP && protocol !== UDP) ||
    fragment ||
    query !== undefined ||
    port === 53 ||
    from === NODE_SENDER
  )
    return packet;
  if (r.chance(40)) return packet;
  const spoken =
    (texts.rules[protocol]?.length ?? 0) > 0 && r.chance(60) ? toAsked(r, packet, texts) : spokenTo(r, packet, texts);
  const { said, ...silent } = spoken;
  return said && [...snapshot.pods.values()].some(({ ips }) => ips.includes(spoken.to)) ? silent : spoken;
}

function spokenTo(r: Random, packet: Packet, texts: SaidTexts): Packet {
  const said = randomSaid(r, packet.protocol, texts);
  return said ? { ...packet, said } : packet;
}

/** What a connection says; undefined: nothing. Over UDP, a hello in QUIC, or something else. */
function randomSaid(r: Random, protocol: number, texts: Omit<SaidTexts, 'rules'>): Said | undefined {
  const kind = r.below(protocol === TCP ? 7 : 4);
  if (kind === 0) return { kind: 'other' };
  if (kind < 4) return r.chance(12) ? { kind: 'tls' } : { kind: 'tls', serverName: r.pick(texts.names) };
  for (let n = 0; n < 8; n++) {
    const host = r.chance(80) ? r.pick(r.chance(50) ? texts.hosts : texts.names) : undefined;
    const more = Array.from({ length: r.below(3) }, () => [r.pick(HEADERS), r.pick(texts.values)] as const);
    const said: Said = {
      ...{ kind: 'http', method: r.pick(texts.methods), path: r.pick(texts.paths) },
      ...(host === undefined ? {} : { host }),
      headers: [...(host === undefined ? [] : [['host', host] as const]), ...more],
    };
    if (canBeSaid(said)) return said;
  }
  return undefined;
}

/** Whether a request can be sent, and is what it says; and can be written in a case. */
function canBeSaid(said: Extract<Said, { kind: 'http' }>): boolean {
  const { headers, method, path, host } = said;
  if (/[^!-~]/.test(method + path + (host ?? '')) || /[/?#]/.test(host ?? '')) return false;
  if (headers.some(([, value]) => /[^!-~]/.test(value) || /[;:]/.test(value.replace(/:\d+$/, '')))) return false;
  const first = firstSaid(speech(said));
  return first.state === 'said' && isDeepStrictEqual(first.said, said);
}

/** As readSaid() reads it. */
export function saidText(said: Said): string {
  if (said.kind === 'other') return 'says other';
  if (said.kind === 'tls' && said.hidden) return 'says ech';
  if (said.kind === 'tls') return `sni ${said.serverName ?? '-'}`;
  const more = said.headers.filter(([name], i) => !(i === 0 && name === 'host'));
  const rest = more.length > 0 ? ` with ${more.map(([name, value]) => `${name}: ${value}`).join('; ')}` : '';
  return `http ${said.method} ${said.host === undefined ? '' : `http://${said.host}`}${said.path}${rest}`;
}

export interface SaidFigures {
  /** Connections that said something; those whose verdict follows from it; flows from before a change that had said something. */
  packets: number;
  decided: number;
  kept: number;
  /** Of the first two and of the last ones, those of QUIC. */
  quic: { packets: number; decided: number; kept: number };
}

/** Whether it matters what a connection says. */
export function decides(packet: Packet, same: (other: Packet) => boolean): boolean {
  const other: Said = { kind: 'other' };
  const named: Said = { kind: 'tls', serverName: 'a.name.of.nobody' };
  const { said, ...silent } = packet;
  return said !== undefined && !(same(silent) && same({ ...packet, said: other }) && same({ ...packet, said: named }));
}

/** Whether a packet says a hello of QUIC. */
export function isQuic({ protocol, said }: Packet): boolean {
  return protocol === UDP && said?.kind === 'tls';
}

/** A long name is not kept in a flow: after a change its class alone is known. */
export function isKept({ said }: Packet): boolean {
  return said?.kind !== 'tls' || (said.serverName?.length ?? 0) <= 48;
}
