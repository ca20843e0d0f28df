/**
 * Decides whether two sets of policies are equivalent, by the reference evaluator on the packets at every boundary of
 * both.
 */
import type { Pod, Service, Snapshot } from '../../identity/snapshot.js';
import { describeSaid } from '../../explain/said.js';
import type { Learned, LearnedName, Packet, Said, Verdict } from '../../ir/packet.js';
import { evaluate } from '../../ir/evaluate.js';
import { ownNodeAddresses, findService } from '../../ir/services.js';
import { matchWorkload } from '../../ir/match.js';
import { formatRule, rulesById } from '../../ir/names.js';
import type { Ir, RuleRef } from '../../ir/types.js';
import { NODE_SENDER } from '../../ir/sender.js';
import { protocolName, TCP, UDP } from '../../net/protocol.js';
import { NO_TUNNELS } from '../../net/tunnels.js';
import { distinctNames } from '../../names/samples.js';
import type { Grounds } from './grounds.js';
import { looksAtPort } from '../../tools/ranges.js';
import { saidKinds } from '../../tools/names/said.js';
import { byNode } from '../../tools/nodes.js';
import { boundaryPackets, leaves, selfSenders, sendersOf } from '../../tools/packets.js';

/** The first packet that two sets of policies judge differently. */
export interface Counterexample {
  /** Such as `shop/web → 10.0.0.3:80/tcp`. */
  readonly packet: string;
  readonly was: Judged;
  readonly is: Judged;
  /**
   * Present if both judge alike, but the fields of the deciding rule can only match `means`, such as `pods`, and not
   * this destination.
   */
  readonly misread?: { readonly rule: RuleRef; readonly means: string };
}

interface Judged {
  /** Such as `allow [np/shop/web#0]`. */
  readonly text: string;
  readonly rule: RuleRef | undefined;
  /** The rule that would decide if policies in audit mode were enforced. */
  readonly audit?: RuleRef;
}

export interface Proof {
  readonly packets: number;
  /** undefined: the sets are equivalent here. */
  readonly counterexample: Counterexample | undefined;
}

/** Number of pods of one kind of sender that are tried, so that each address is also a destination of a pod without it. */
const OF_A_KIND = 4;

/**
 * Compares two sets. Every pod is judged on its own node.
 * @param ignoreOwn ignores packets to the sender itself and to its own node
 * @param grounds what the rules' own fields can match
 */
export function prove(before: Ir, after: Ir, snapshot: Snapshot, ignoreOwn: boolean, grounds: Grounds): Proof {
  let packets = 0;
  // Encapsulated packets, which no policy can allow, would hide differences.
  const bare: Snapshot = { ...snapshot, tunnels: NO_TUNNELS };
  for (const { worlds, keys } of byNode([
    { ir: before, snapshot: bare },
    { ir: after, snapshot: bare },
  ] as const)) {
    const here = worlds[0].snapshot;
    const pods = keys.filter((key) => key !== NODE_SENDER);
    const some = sendersOf(worlds, new Set(pods)).flatMap((senders) => {
      if (senders.policies.every((list) => list.length === 0)) return [];
      return [...spread(senders.pods, OF_A_KIND), ...(ignoreOwn ? [] : selfSenders(senders, worlds))];
    });
    if (some.length === 0) continue;
    const judge = new Reference(before, after, here, grounds);
    const own = new Set(ignoreOwn ? ownNodeAddresses(here) : []);
    for (const packet of boundaryPackets(worlds, new Set(some))) {
      if (ignoreOwn && isOwn(packet, own, here)) continue;
      for (const variant of judge.variants(packet)) {
        packets++;
        const counterexample = judge.difference(variant);
        if (counterexample) return { packets, counterexample };
      }
    }
  }
  return { packets, counterexample: undefined };
}

/** A few elements, spread over the whole list. */
function spread<T>(list: readonly T[], count: number): T[] {
  const step = Math.max(1, Math.floor(list.length / count));
  return list.filter((_, i) => i % step === 0).slice(0, count);
}

function isOwn(packet: Packet, ownNode: ReadonlySet<string>, snapshot: Snapshot): boolean {
  const self = snapshot.pods.get(packet.from)?.ips ?? [];
  const own = (ip: string) => ownNode.has(ip) || self.includes(ip);
  return own(packet.to) || (findService(snapshot, packet)?.backends.some((b) => own(b.ip)) ?? false);
}

/** A packet, and the names for which its sender learned its destination. */
interface Variant {
  readonly packet: Packet;
  readonly names: readonly LearnedName[];
}

/**
 * evaluate() in both worlds, reduced to the objects that matter for a packet, since evaluate() reads its whole input
 * for each packet.
 */
class Reference {
  readonly #before: Ir;
  readonly #after: Ir;
  readonly #snapshot: Snapshot;
  readonly #grounds: Grounds;
  readonly #pods = new Map<string, [string, Pod][]>();
  readonly #services = new Map<string, [string, Service][]>();
  readonly #irs = new Map<string, [Ir, Ir]>();
  readonly #vips: ReadonlySet<string>;
  readonly #own: ReadonlySet<string>;
  readonly #refs: readonly [ReadonlyMap<number, RuleRef>, ReadonlyMap<number, RuleRef>];
  #last: { from: string; to: string; snapshot: Snapshot } | undefined;
  readonly #names = new Map<string, { learned: LearnedName[][]; queries: string[]; said: readonly Said[] }>();

  constructor(before: Ir, after: Ir, snapshot: Snapshot, grounds: Grounds) {
    this.#before = before;
    this.#after = after;
    this.#snapshot = snapshot;
    this.#grounds = grounds;
    this.#refs = [rulesById(before), rulesById(after)];
    for (const entry of snapshot.pods) for (const ip of entry[1].ips) push(this.#pods, ip, entry);
    for (const entry of snapshot.services)
      for (const ip of new Set(entry[1].ports.flatMap((p) => p.backends).map((b) => b.ip)))
        push(this.#services, ip, entry);
    const services = [...snapshot.services.values()];
    this.#vips = new Set(services.flatMap((s) => s.vips));
    this.#own = new Set(services.some((s) => s.ports.some((p) => p.nodePort)) ? ownNodeAddresses(snapshot) : []);
  }

  /**
   * The packet without a name, with each name at the boundaries of its sender's rules, and with all of them at once; the
   * same with what its connection may say, where rules ask for it.
   */
  *variants(packet: Packet): Generator<Variant> {
    const { learned, queries, said } = this.#namesOf(packet.from);
    for (const names of [[], ...learned]) yield { packet, names };
    if (packet.protocol !== TCP && packet.protocol !== UDP) return;
    for (const query of queries) yield { packet: { ...packet, query }, names: [] };
    for (const names of [[], ...learned]) for (const one of said) yield { packet: { ...packet, said: one }, names };
  }

  #namesOf(from: string) {
    let known = this.#names.get(from);
    if (known) return known;
    const rules = this.#irsOf(from).flatMap((ir) => ir.tiers.flatMap((t) => t.policies.flatMap((p) => p.rules)));
    const peers = rules.flatMap((rule) => leaves(rule.peers)).filter((peer) => peer.kind === 'names');
    const own = distinctNames(peers.flatMap((peer) => peer.patterns)).map((name): LearnedName => ({ name }));
    const all = peers.some((peer) => peer.aliases)
      ? [...own, ...own.map((n) => ({ ...n, alias: true as const }))]
      : own;
    const learned = [...all.map((one) => [one]), ...(all.length > 1 ? [all] : [])];
    known = { learned, queries: distinctNames(rules.flatMap((rule) => rule.queries ?? [])), said: saidKinds(rules) };
    this.#names.set(from, known);
    return known;
  }

  difference({ packet, names }: Variant): Counterexample | undefined {
    const snapshot = this.#near(packet);
    const [before, after] = this.#irsOf(packet.from);
    const learned = names.length === 0 ? undefined : this.#learned(packet, names);
    const was = evaluate(before, snapshot, packet, learned);
    const is = evaluate(after, snapshot, packet, learned);
    const audited = (v: Verdict) => v.audit?.verdict ?? v.verdict;
    const [ofBefore, ofAfter] = this.#refs;
    const same = was.verdict === is.verdict && audited(was) === audited(is);
    const misread = same
      ? (this.#misread(packet, was, ofBefore, snapshot) ?? this.#misread(packet, is, ofAfter, snapshot))
      : undefined;
    if (same && !misread) return undefined;
    const found = { packet: packetText(packet, names), was: judged(ofBefore, was), is: judged(ofAfter, is) };
    return misread ? { ...found, misread } : found;
  }

  /** The names at the packet's destination, and at what stands behind it. */
  #learned(packet: Packet, names: readonly LearnedName[]): Learned {
    const behind = this.#vips.has(packet.to) || this.#own.has(packet.to);
    const service = behind ? findService(this.#snapshot, packet) : undefined;
    const addresses = [packet.to, ...(service?.backends ?? []).map(({ ip }) => ip)];
    return new Map([[packet.from, new Map(addresses.map((ip) => [ip, names]))]]);
  }

  /** For a Service's address, the verdict does not say for which backend the rule matched. */
  #misread({ to }: Packet, { rule }: Verdict, refs: ReadonlyMap<number, RuleRef>, snapshot: Snapshot) {
    const ref = refs.get(rule);
    if (!ref || this.#vips.has(to) || this.#own.has(to)) return undefined;
    const means = this.#grounds.fault(ref, to, snapshot);
    return means === undefined ? undefined : { rule: ref, means };
  }

  #near({ from, to }: Packet): Snapshot {
    const [snapshot, last] = [this.#snapshot, this.#last];
    // The backends of a Service's address are other objects.
    if (this.#vips.has(to) || this.#own.has(to)) return snapshot;
    if (last?.from === from && last.to === to) return last.snapshot;
    const pods = new Map([[from, snapshot.pods.get(from) as Pod], ...(this.#pods.get(to) ?? [])]);
    const near = { ...snapshot, pods, services: new Map(this.#services.get(to)) };
    this.#last = { from, to, snapshot: near };
    return near;
  }

  /** The policies that select the sender. evaluate() would skip the others. */
  #irsOf(from: string): [Ir, Ir] {
    let known = this.#irs.get(from);
    if (!known) {
      const pod = this.#snapshot.pods.get(from) as Pod;
      const selecting = (ir: Ir): Ir => ({
        tiers: ir.tiers.map((tier) => ({
          ...tier,
          policies: tier.policies.filter((p) => matchWorkload(p.subject, pod, this.#snapshot)),
        })),
      });
      known = [selecting(this.#before), selecting(this.#after)];
      this.#irs.set(from, known);
    }
    return known;
  }
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

function packetText({ query, said, ...packet }: Packet, names: readonly LearnedName[]): string {
  const texts = names.map(({ name, alias }) => `${name || '.'}${alias ? ' (an alias)' : ''}`);
  const known = texts.length === 0 ? '' : `, learned for ${texts.slice(0, 3).join(', ')}`;
  const says = said === undefined ? '' : ` that is ${describeSaid(said)}`;
  return `${plainText(packet)}${query === undefined ? '' : ` query ${query || '.'}`}${known}${says}`;
}

function plainText({ from, to, protocol, port, fragment }: Packet): string {
  const host = to.includes(':') ? `[${to}]` : to;
  const name = protocolName(protocol).toLowerCase();
  if (fragment) return `${from} → ${host}/${name} (a later fragment)`;
  if (!looksAtPort(protocol)) return `${from} → ${host}/${name}`;
  if (protocol === 1 || protocol === 58) return `${from} → ${host}/${name} type ${port >> 8} code ${port % 256}`;
  return `${from} → ${host}:${port}/${name}`;
}

function judged(refs: ReadonlyMap<number, RuleRef>, verdict: Verdict): Judged {
  const rule = refs.get(verdict.rule);
  const named = (v: string, ref: RuleRef | undefined) => (ref ? `${v} [${formatRule(ref)}]` : v);
  const { audit } = verdict;
  const inAudit = audit && refs.get(audit.rule);
  const also = audit ? `, in audit ${named(audit.verdict, inAudit)}` : '';
  return { text: `${named(verdict.verdict, rule)}${also}`, rule, ...(inAudit ? { audit: inAudit } : {}) };
}
