/** The rules of a policy before a language has them: who, on which ports, and what stands behind it. */
import { TCP, UDP } from '../../net/protocol.js';
import { addressNumber } from '../../tools/ranges.js';
import { parseCidr } from '../../net/addr.js';
import { compare } from '../base/cluster.js';
import { rangeOf } from '../base/learn.js';
import { dayText, type Need, needTo, portText, type Window } from '../base/needs.js';
import type { Placed, Resolved, Target } from './resolve.js';
import type { PortRange, RecommendOptions, RuleEvidence } from '../base/types.js';

export interface ModelRule {
  /** Of one kind; of pods, one. */
  readonly targets: readonly Target[];
  /** In order. */
  readonly ports: readonly PortRange[];
  readonly isDns: boolean;
  readonly evidence: readonly RuleEvidence[];
  readonly beyond: readonly string[];
}

/** Evidence of the last days of a window is new, if there is more than that to compare with. */
const NEW_DAYS = 3;

interface Building {
  readonly target: Target;
  readonly isDns: boolean;
  readonly ports: Map<string, PortRange>;
  readonly evidence: Map<string, RuleEvidence>;
  readonly beyond: Set<string>;
  /** Addresses of the block that were seen. */
  readonly seen: Set<string>;
}

/** Puts rules together. */
export class Model {
  readonly #options: RecommendOptions;
  readonly #window: Window;
  readonly #rules = new Map<string, Building>();
  readonly #dns = new Set<string>();

  constructor(options: RecommendOptions, window: Window) {
    this.#options = options;
    this.#window = window;
  }

  /** What every workload needs, seen or not. */
  addDns(placed: readonly Placed[]): void {
    for (const one of placed) {
      this.#dns.add(JSON.stringify([one.target, one.port]));
      const rule = this.#rule(one.target, true);
      for (const protocol of [UDP, TCP]) addPort(rule, { protocol, lo: one.port, hi: one.port });
    }
  }

  add(need: Need, { placed }: Resolved): void {
    const evidence = evidenceOf(need, this.#window);
    for (const { target, protocol, port, beyond } of placed) {
      const isDns = this.#dns.has(JSON.stringify([target, port])) && (protocol === UDP || protocol === TCP);
      const rule = this.#rule(target, isDns);
      const range = rangeOf({ ...need, port }, this.#options.ranges) ?? { protocol, lo: port, hi: port };
      addPort(rule, range);
      rule.evidence.set(need.key, evidence);
      if (beyond !== undefined) rule.beyond.add(beyond);
      if (target.kind === 'block') rule.seen.add(need.address || need.destination.name);
      if (range.hi > range.lo) rule.beyond.add(`all of ${portText(range.protocol, range.lo, range.hi)}`);
    }
  }

  /** In an order that depends on nothing but the rules. */
  rules(): ModelRule[] {
    for (const rule of this.#rules.values()) {
      const { target, seen } = rule;
      if (target.kind === 'block' && target.network !== undefined)
        rule.beyond.add(`${target.cidr} covers ${cidrSize(target.cidr)}, seen ${seen.size}`);
      if (rule.isDns && rule.evidence.size === 0) rule.beyond.add('DNS, although it was not seen');
    }
    const sorted = [...this.#rules.values()].sort((a, b) => compare(sortKey(a), sortKey(b)));
    const groups = new Map<string, Building[]>();
    for (const rule of sorted) {
      const { kind } = rule.target;
      // What a block, a name or a node stands for is in the evidence: those with the same ports share a rule.
      const own = kind === 'pods' || (kind === 'block' && rule.target.network !== undefined);
      const ports = [...rule.ports.keys()].sort(compare).join();
      const key = own ? sortKey(rule) : `${rule.isDns} ${kind} ${ports}`;
      const group = groups.get(key);
      if (group) group.push(rule);
      else groups.set(key, [rule]);
    }
    return [...groups.values()].map(joined);
  }

  #rule(target: Target, isDns: boolean): Building {
    const key = `${isDns} ${JSON.stringify(target)}`;
    let rule = this.#rules.get(key);
    if (!rule) {
      rule = { target, isDns, ports: new Map(), evidence: new Map(), beyond: new Set(), seen: new Set() };
      this.#rules.set(key, rule);
    }
    return rule;
  }
}

function addPort({ ports }: Building, range: PortRange): void {
  ports.set(`${range.protocol} ${range.lo} ${range.hi}`, range);
}

function joined(group: readonly Building[]): ModelRule {
  const [first] = group as [Building];
  const evidence = new Map(group.flatMap((rule) => [...rule.evidence]));
  const ports = [...first.ports.values()].sort((a, b) => a.protocol - b.protocol || a.lo - b.lo || a.hi - b.hi);
  return {
    targets: group.map(({ target }) => target),
    ports,
    isDns: first.isDns,
    evidence: [...evidence].sort(([a], [b]) => compare(a, b)).map(([, one]) => one),
    beyond: [...new Set(group.flatMap((rule) => [...rule.beyond]))],
  };
}

const KINDS: readonly Target['kind'][] = ['pods', 'local', 'api-server', 'node', 'name', 'block'];

function sortKey({ target, isDns }: Building): string {
  return `${isDns ? 0 : 1}${KINDS.indexOf(target.kind)} ${targetKey(target)}`;
}

function targetKey(target: Target): string {
  if (target.kind === 'pods') return `${target.namespace} ${JSON.stringify(target.labels)}`;
  if (target.kind === 'name') return target.name;
  const ip = target.kind === 'block' ? (target.cidr.split('/')[0] as string) : target.ip;
  const { family, n } = addressNumber(ip);
  return `${family} ${n.toString(16).padStart(32, '0')} ${JSON.stringify(target)}`;
}

function evidenceOf(need: Need, window: Window): RuleEvidence {
  const first = Math.min(...need.days);
  const last = Math.max(...need.days);
  const of = window.last - window.first + 1;
  return {
    to: needTo(need),
    protocol: need.protocol,
    port: portText(need.protocol, need.port),
    connections: need.connections,
    bytes: need.bytes,
    days: need.days.size,
    of,
    first: dayText(first),
    last: dayText(last),
    isNew: of > 2 * NEW_DAYS && first > window.last - NEW_DAYS,
    denied: need.denied,
  };
}

/** `443/tcp, 1,204 connections, 28 of 30 days, last 2026-11-29` */
export function evidenceText(e: RuleEvidence): string {
  const count = String(e.connections).replace(/\B(?=(\d{3})+$)/g, ',');
  const what = `${count} ${e.denied ? 'denied ' : ''}connection${e.connections === 1 ? '' : 's'}`;
  const marks = [
    e.isNew ? `new since ${e.first}` : '',
    e.denied ? 'asked for, denied until now' : '',
    e.bytes === 0 && !e.denied ? 'none has ended' : '',
  ].filter((mark) => mark !== '');
  const tail = marks.length > 0 ? ` (${marks.join('; ')})` : '';
  return `${e.port}, ${what}, ${e.days} of ${e.of} days, last ${e.last}${tail}`;
}

/** Whom a rule is for. */
export function ruleTo({ targets, isDns }: ModelRule): string {
  const texts = targets.map(targetText);
  const some = texts.slice(0, 3).join(', ');
  const more = texts.length > 3 ? ` and ${texts.length - 3} more` : '';
  return `${isDns ? 'DNS: ' : ''}${some}${more}`;
}

function targetText(target: Target): string {
  switch (target.kind) {
    case 'pods':
      return `pods of ${target.namespace} with ${Object.entries(target.labels)
        .map(([k, v]) => `${k}=${v}`)
        .join(',')}`;
    case 'node':
      return `node ${target.name} ${target.ip}`;
    case 'api-server':
      return `API server ${target.ip}`;
    case 'local':
      return target.ip;
    case 'name':
      return target.name;
    default:
      return target.network === undefined ? target.cidr : `network ${target.network} ${target.cidr}`;
  }
}

/** How many addresses a block has: `256`, `2^64` */
function cidrSize(text: string): string {
  const { prefix, family } = parseCidr(text);
  const bits = (family === 4 ? 32 : 128) - prefix;
  return bits <= 20 ? String(2 ** bits) : `2^${bits}`;
}
