/**
 * Case files: `manifests` (Kubernetes YAML as text), where NetworkPolicy has no words for it the policies as `tiers`
 * (rules of the IR in short form) or `ir` (the IR itself), then `packets`, one a row:
 *
 *   - web → 10.0.0.1:80/tcp: allow [np/default/web#0]
 *   - web → 10.0.0.1/icmp 8/0: deny
 *   - web → 10.0.0.1/udp fragment: deny [np/default/web#default]
 *   - @node → 10.0.0.1:80/tcp: deny
 *   - web → 10.0.0.1:80/tcp: allow [a#1] logs [a#0] audit deny [b#default]
 *   - web → 10.0.0.53:53/udp query api.example.com: allow [np/default/web#0]
 *   - web → 10.0.0.1:443/tcp sni api.example.com: allow [np/default/web#0]
 *   - web → 10.0.0.1:80/tcp http GET http://api.example.com/a: deny
 *
 * What connections say is in the words of test/engines/said-text.ts. A row of TCP without them is a handshake.
 *
 * `names` says what pods learned from DNS answers before: the addresses of each name that they asked for, with the
 * targets of CNAMEs in the answer as `aliases`.
 *
 *   names:
 *     web:
 *       api.example.com: [203.0.113.10, 2001:db8::10]
 *       www.example.com: {aliases: [cdn.example.net], addresses: [203.0.113.11]}
 */
import { asksForSaid } from '../../src/ir/said.js';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { toIr } from '../../src/dialects/index.js';
import { buildSnapshot } from '../../src/identity/builder.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { parseManifest } from '../../src/identity/files/yaml.js';
import type { Learned, Packet, Verdict } from '../../src/ir/packet.js';
import { ruleId, ruleKey } from '../../src/ir/names.js';
import type { Peer, Verification } from '../../src/ir/peers.js';
import {
  implicitRules,
  type Action,
  type HttpMatch,
  type Ir,
  type IrPolicy,
  type PolicyRef,
  type PortMatch,
  type Rule,
  type RuleRef,
  type Tier,
} from '../../src/ir/types.js';
import { canonicalName } from '../../src/names/pattern.js';
import { readLearned } from '../../src/tools/names/learned.js';
import { readSaid } from './said-text.js';
import { parseProtocol } from '../../src/net/protocol.js';
import { root } from '../netns/shell.js';

export interface Row {
  text: string;
  packet: Packet;
  /** What is expected, as show() prints it. */
  expected: string;
}

export interface Case {
  file: string;
  name: string;
  ir: Ir;
  snapshot: Snapshot;
  /** What the pods learned. */
  learned: Learned;
  rows: Row[];
}

const NODE = 'node-a';
const DIR = join(root, 'test/cases');

export function readCases(): Case[] {
  return readdirSync(DIR)
    .filter((f) => f.endsWith('.yaml'))
    .sort()
    .map((f) => parseCase(f, readFileSync(join(DIR, f), 'utf8')));
}

interface CaseFile {
  name: string;
  manifests: string;
  tiers?: TierText[];
  ir?: Ir;
  nodeIps?: string[];
  /** Of the node's own cache of names. */
  dnsIps?: string[];
  names?: Record<string, unknown>;
  packets: (string | Record<string, string>)[];
}

function parseNames(file: string, names: Record<string, unknown> = {}): Learned {
  const byPod = Object.fromEntries(Object.entries(names).map(([pod, known]) => [senderKey(pod), known]));
  return readLearned(byPod, (field, message) => {
    throw new Error(`${file}: names.${field}: ${message}`);
  });
}

function senderKey(text: string): string {
  return text.includes('/') || text === '@node' ? text : `default/${text}`;
}

export function parseCase(file: string, text: string): Case {
  const raw = parse(text) as CaseFile;
  const documents = parseManifest(file, raw.manifests);
  const problems = documents.flatMap((d) => d.problems);
  const built = buildSnapshot(
    documents.flatMap((d) => d.objects),
    { nodeName: NODE, ownNodeIps: raw.nodeIps ?? ['192.168.0.1', 'fd00:ffff::1'], problems },
  );
  const snapshot = raw.dnsIps ? { ...built, ownNode: { ...built.ownNode, dns: raw.dnsIps } } : built;
  if (snapshot.problems.length > 0) throw new Error(`${file}: ${JSON.stringify(snapshot.problems)}`);
  const fromObjects = toIr(snapshot);
  const errors = fromObjects.problems.filter(({ severity }) => severity === 'error');
  if (errors.length > 0) throw new Error(`${file}: ${JSON.stringify(errors)}`);
  const ir: Ir = raw.ir ?? (raw.tiers ? { tiers: raw.tiers.map(parseTier) } : fromObjects.ir);
  const rows = raw.packets.map((row) => {
    // A row without braces is `key: value` to YAML.
    const line =
      typeof row === 'string'
        ? row
        : Object.entries(row)
            .map(([k, v]) => `${k}: ${v}`)
            .join('');
    return parseRow(file, line);
  });
  return { file, name: raw.name, ir, snapshot, learned: parseNames(file, raw.names), rows };
}

const ROW =
  /^(\S+) → (\S+?)(?:\/(icmp|icmpv6) (\d+)\/(\d+)|(?::(\d+))?\/(\w+))( fragment)?(?: query (\S+))?(?: ((?:sni|http|says) .+?))?: ((?:allow|deny|partial)\b.*)$/;

function parseRow(file: string, text: string): Row {
  const m = ROW.exec(text);
  if (!m) throw new Error(`${file}: not a row: ${text}`);
  const [, from, to, icmp, type, code, port, protocol, fragment, query, says, expected] = m as unknown as string[];
  const said = says === undefined ? undefined : readSaid(says);
  if (says !== undefined && !said) throw new Error(`${file}: nothing that a connection says: ${says}`);
  const number = parseProtocol(icmp ?? (protocol as string));
  if (number === undefined) throw new Error(`${file}: no protocol: ${text}`);
  return {
    text,
    expected: (expected as string).trim(),
    packet: {
      from: senderKey(from as string),
      to: (to as string).replace(/^\[|\]$/g, ''),
      protocol: number,
      port: icmp ? Number(type) * 256 + Number(code) : Number(port ?? 0),
      ...(fragment ? { fragment: true } : {}),
      ...(query === undefined ? {} : { query: canonicalName(query) }),
      ...(said ? { said } : {}),
    },
  };
}

/** Prints verdicts of a case with its rules' names. */
export function printer(ir: Ir): (v: Verdict, packet: Packet) => string {
  const names = new Map<number, string>();
  const add = (ref: RuleRef) => {
    for (const staged of [false, true]) names.set(ruleId({ ...ref, staged }), ruleKey(ref));
  };
  for (const tier of ir.tiers) {
    for (const rule of implicitRules(tier.policies)) add(rule.ref);
    for (const policy of tier.policies) {
      for (const rule of policy.rules) add(rule.ref);
      add({ policy: policy.ref, index: -1, tier: tier.name, staged: false, action: tier.defaultAction });
    }
  }
  const name = (rule: number) => ` [${names.get(rule) ?? rule}]`;
  return (v, packet) => {
    // Of a later fragment that passes no event tells; of one that does not, the verdict is enough.
    if (packet.fragment) return v.verdict;
    const logs = v.logged.map((r) => ` logs${name(r)}`).join('');
    const audit = v.audit ? ` audit ${v.audit.verdict}${v.audit.rule === 0 ? '' : name(v.audit.rule)}` : '';
    return `${v.verdict}${v.rule === 0 ? '' : name(v.rule)}${logs}${audit}`;
  };
}

interface TierText {
  name: string;
  default?: 'deny' | 'pass';
  policies: { name: string; staged?: boolean; pods?: string; rules: RuleText[] }[];
}

/** One rule; or `times` rules, with the numbers 0, 1, … in place of `{n}`. */
type RuleText = string | { rule: string; times: number };

function parseTier(t: TierText, order: number): Tier {
  return {
    name: t.name,
    order,
    defaultAction: t.default ?? 'pass',
    policies: t.policies.map((p): IrPolicy => {
      const ref: PolicyRef = { dialect: 'test', kind: 'Test', name: p.name };
      const staged = p.staged ?? false;
      return {
        ref,
        staged,
        subject: { namespaces: { names: ['default'] }, pods: labelsOf(p.pods ?? '') },
        rules: p.rules.flatMap(repeated).map((text, index) => parseRule(text, ref, index, t.name, staged)),
      };
    }),
  };
}

function repeated(text: RuleText): string[] {
  if (typeof text === 'string') return [text];
  return Array.from({ length: text.times }, (_, n) => text.rule.replaceAll('{n}', String(n)));
}

function labelsOf(text: string) {
  const [key, value] = text.split('=');
  return key ? ({ op: 'in', key, values: [value ?? ''] } as const) : ({ op: 'true' } as const);
}

/**
 * `deny to 10.0.0.0/8 except 10.1.0.0/16, pods app=db on tcp/80-90, udp`; `allow to names a.example *.b.example`, which
 * may end with `in 10.0.0.0/8` or `not in 10.0.0.0/8`; `aliases` in place of `names`; `allow to any on udp/53 asking
 * a.example *.b.example`, `allow to any on tcp/443 naming a.example`, `allow to any on tcp/80 with GET a.example /a/.*`
 * (method, host, path; `-`: any); `allow to strict names a.example`, also `tls` and `audit`.
 */
function parseRule(text: string, policy: PolicyRef, index: number, tier: string, staged: boolean): Rule {
  const m = /^(allow|deny|pass|log) to (.+?)(?: on (.+?))?(?: asking (.+?))?(?: naming (.+?))?(?: with (.+))?$/.exec(
    text,
  );
  if (!m) throw new Error(`not a rule: ${text}`);
  const [, action, to, on, asking, naming, requests] = m as unknown as [string, Action, string, ...string[]];
  return {
    ref: { policy, index, tier, staged, action },
    action,
    peers: to === 'any' ? null : to.split(', ').map(parsePeer),
    ports: on === undefined ? null : on.split(', ').map(parsePorts),
    ...(asking === undefined ? {} : { queries: asking.split(' ') }),
    ...(naming === undefined ? {} : { serverNames: naming.split(' ') }),
    ...(requests === undefined ? {} : { http: requests.split(', ').map(parseRequest) }),
  };
}

function parseRequest(text: string): HttpMatch {
  const fields = text.split(' ').map((field, i) => (field === '-' ? [] : [['method', 'host', 'path'][i], field]));
  return Object.fromEntries(fields.filter((field) => field.length > 0));
}

function parsePeer(text: string): Peer {
  const [head, ...rest] = text.split(' ') as [string, ...string[]];
  switch (head) {
    case 'audit':
    case 'tls':
    case 'strict':
      return verified(parsePeer(rest.join(' ')), head);
    case 'self':
      return { kind: 'self' };
    case 'own-node':
      return { kind: 'own-node' };
    case 'nodes':
      return { kind: 'nodes', labels: labelsOf(rest[0] ?? '') };
    case 'pods':
      return { kind: 'pods', namespaces: { names: ['default'] }, pods: labelsOf(rest[0] ?? '') };
    case 'names':
    case 'aliases': {
      const [, list = '', not, block] = /^(.+?)(?: (not )?in (\S+))?$/.exec(rest.join(' ')) ?? [];
      const names: Peer = {
        kind: 'names',
        patterns: list.split(' '),
        ...(head === 'aliases' ? { aliases: true } : {}),
      };
      if (block === undefined) return names;
      const inside = parsePeer(block);
      return { kind: 'all', of: [names, not ? { kind: 'not', of: inside } : inside] };
    }
    default:
      return { kind: 'cidr', cidr: head, except: rest.slice(1) };
  }
}

function verified(peer: Peer, verify: Verification): Peer {
  if (peer.kind === 'all') return { ...peer, of: peer.of.map((one) => verified(one, verify)) };
  return peer.kind === 'names' ? { ...peer, verify } : peer;
}

function parsePorts(text: string): PortMatch {
  const [name, range] = text.split('/') as [string, string?];
  const protocol = name === 'any' ? null : (parseProtocol(name) as number);
  if (range === undefined) return { protocol };
  if (protocol === 1 || protocol === 58) {
    const [type, code] = range.split('.').map(Number) as [number, number?];
    return {
      protocol,
      ports: [code === undefined ? [type * 256, type * 256 + 255] : [type * 256 + code, type * 256 + code]],
    };
  }
  if (!/^\d/.test(range)) return { protocol, named: range };
  const [lo, hi] = range.split('-').map(Number) as [number, number?];
  return { protocol, ports: [[lo, hi ?? lo]] };
}

/** Whether a rule of the case asks what connections say. Then it depends on that what becomes of a handshake, too. */
export function listens({ ir }: Pick<Case, 'ir'>): boolean {
  return ir.tiers.some(({ policies }) => policies.some(({ rules }) => rules.some(asksForSaid)));
}

/**
 * Whether the kernel cannot be asked: of a handshake that passes nothing is told as long as what follows decides.
 */
export function isUntold(c: Pick<Case, 'ir'>, { protocol, said }: Packet, { verdict }: Verdict): boolean {
  return protocol === 6 && said === undefined && verdict === 'partial' && listens(c);
}
