/** Are two sets of policies one? The reference evaluator's answer, on the packets at every boundary of both. */
import type { Pod, Service, Snapshot } from '../identity/snapshot.js';
import type { Packet, Verdict } from '../image/types.js';
import { evaluate, ownNodeAddresses, findService } from '../ir/evaluate.js';
import { matchWorkload } from '../ir/match.js';
import { formatRule, ruleId } from '../ir/names.js';
import { DEFAULT_RULE, implicitRules, type Ir, type RuleRef } from '../ir/types.js';
import { protocolName } from '../net/protocol.js';
import { looksAtPort } from '../tools/ranges.js';
import { boundaryPackets, sendersOf, type World } from '../tools/packets.js';

/** The first packet that two sets of policies judge differently. */
export interface Counterexample {
  /** `shop/web → 10.0.0.3:80/tcp`. */
  readonly packet: string;
  readonly was: Judged;
  readonly is: Judged;
}

interface Judged {
  /** `allow [np/shop/web#0]`. */
  readonly text: string;
  readonly rule: RuleRef | undefined;
  /** The rules that policies in audit mode would have it decided by. */
  readonly audit?: RuleRef;
}

export interface Proof {
  readonly packets: number;
  /** undefined: there is none, the sets are equivalent here. */
  readonly counterexample: Counterexample | undefined;
}

/** Pods of one kind of sender that are tried with their own addresses: enough to be of several kinds as destinations. */
const OF_A_KIND = 4;

/**
 * Every pod is judged on its own node, unless the snapshot says which one it is.
 * @param ignoreOwn packets to the sender itself and to its own node do not count
 */
export function prove(before: Ir, after: Ir, snapshot: Snapshot, ignoreOwn: boolean): Proof {
  let packets = 0;
  const told = snapshot.ownNode.name !== '';
  const nodes = told ? [snapshot.ownNode.name] : [...new Set([...snapshot.pods.values()].map((pod) => pod.nodeName))];
  for (const name of nodes) {
    const here = told ? snapshot : { ...snapshot, ownNode: { name, ips: [] } };
    const worlds: [World, World] = [
      { ir: before, snapshot: here },
      { ir: after, snapshot: here },
    ];
    const local = [...here.pods].filter(([, pod]) => told || pod.nodeName === name).map(([key]) => key);
    const some = sendersOf(worlds, new Set(local)).flatMap(({ pods, policies }) =>
      policies.every((list) => list.length === 0) ? [] : spread(pods, OF_A_KIND),
    );
    if (some.length === 0) continue;
    const judge = new Reference(before, after, here);
    const own = new Set(ignoreOwn ? ownNodeAddresses(here) : []);
    for (const packet of boundaryPackets(worlds, new Set(some))) {
      if (ignoreOwn && isOwn(packet, own, here)) continue;
      packets++;
      const counterexample = judge.difference(packet);
      if (counterexample) return { packets, counterexample };
    }
  }
  return { packets, counterexample: undefined };
}

/** A few of a list, from all over it. */
function spread<T>(list: readonly T[], count: number): T[] {
  const step = Math.max(1, Math.floor(list.length / count));
  return list.filter((_, i) => i % step === 0).slice(0, count);
}

function isOwn(packet: Packet, ownNode: ReadonlySet<string>, snapshot: Snapshot): boolean {
  const self = snapshot.pods.get(packet.from)?.ips ?? [];
  const own = (ip: string) => ownNode.has(ip) || self.includes(ip);
  return own(packet.to) || (findService(snapshot, packet)?.backends.some((b) => own(b.ip)) ?? false);
}

/** evaluate() in both worlds, given only what a packet can meet: it reads all that it is given, for each packet. */
class Reference {
  private readonly pods = new Map<string, [string, Pod][]>();
  private readonly services = new Map<string, [string, Service][]>();
  private readonly irs = new Map<string, [Ir, Ir]>();
  private readonly vips: ReadonlySet<string>;
  private readonly own: ReadonlySet<string>;
  private last: { from: string; to: string; snapshot: Snapshot } | undefined;

  constructor(
    private readonly before: Ir,
    private readonly after: Ir,
    private readonly snapshot: Snapshot,
  ) {
    for (const entry of snapshot.pods) for (const ip of entry[1].ips) push(this.pods, ip, entry);
    for (const entry of snapshot.services)
      for (const ip of new Set(entry[1].ports.flatMap((p) => p.backends).map((b) => b.ip)))
        push(this.services, ip, entry);
    const services = [...snapshot.services.values()];
    this.vips = new Set(services.flatMap((s) => s.vips));
    this.own = new Set(services.some((s) => s.ports.some((p) => p.nodePort)) ? ownNodeAddresses(snapshot) : []);
  }

  difference(packet: Packet): Counterexample | undefined {
    const snapshot = this.near(packet);
    const [before, after] = this.irsOf(packet.from);
    const was = evaluate(before, snapshot, packet);
    const is = evaluate(after, snapshot, packet);
    const audited = (v: Verdict) => v.audit?.verdict ?? v.verdict;
    if (was.verdict === is.verdict && audited(was) === audited(is)) return undefined;
    return { packet: packetText(packet), was: judged(this.before, was), is: judged(this.after, is) };
  }

  private near({ from, to }: Packet): Snapshot {
    const { snapshot, last } = this;
    // Behind a Service's address others stand.
    if (this.vips.has(to) || this.own.has(to)) return snapshot;
    if (last?.from === from && last.to === to) return last.snapshot;
    const pods = new Map([[from, snapshot.pods.get(from) as Pod], ...(this.pods.get(to) ?? [])]);
    const near = { ...snapshot, pods, services: new Map(this.services.get(to)) };
    this.last = { from, to, snapshot: near };
    return near;
  }

  /** The policies that select the sender: evaluate() would pass over the others. */
  private irsOf(from: string): [Ir, Ir] {
    let known = this.irs.get(from);
    if (!known) {
      const pod = this.snapshot.pods.get(from) as Pod;
      const selecting = (ir: Ir): Ir => ({
        tiers: ir.tiers.map((tier) => ({
          ...tier,
          policies: tier.policies.filter((p) => matchWorkload(p.subject, pod, this.snapshot)),
        })),
      });
      known = [selecting(this.before), selecting(this.after)];
      this.irs.set(from, known);
    }
    return known;
  }
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

function packetText({ from, to, protocol, port, fragment }: Packet): string {
  const host = to.includes(':') ? `[${to}]` : to;
  const name = protocolName(protocol).toLowerCase();
  if (fragment) return `${from} → ${host}/${name} (a later fragment)`;
  if (!looksAtPort(protocol)) return `${from} → ${host}/${name}`;
  if (protocol === 1 || protocol === 58) return `${from} → ${host}/${name} type ${port >> 8} code ${port % 256}`;
  return `${from} → ${host}:${port}/${name}`;
}

function judged(ir: Ir, verdict: Verdict): Judged {
  const refs = refsOf(ir);
  const rule = refs.get(verdict.rule);
  const named = (v: string, ref: RuleRef | undefined) => (ref ? `${v} [${formatRule(ref)}]` : v);
  const { audit } = verdict;
  const inAudit = audit && refs.get(audit.rule);
  const also = audit ? `, in audit ${named(audit.verdict, inAudit)}` : '';
  return { text: `${named(verdict.verdict, rule)}${also}`, rule, ...(inAudit ? { audit: inAudit } : {}) };
}

function refsOf(ir: Ir): Map<number, RuleRef> {
  const refs = new Map<number, RuleRef>();
  for (const { name: tier, defaultAction: action, policies } of ir.tiers) {
    const all = [...implicitRules(policies), ...policies.flatMap((p) => p.rules)].map((rule) => rule.ref);
    const rest = policies.map((p) => ({ policy: p.ref, index: DEFAULT_RULE, tier, action }));
    for (const ref of [...all, ...rest])
      for (const staged of [false, true]) refs.set(ruleId({ ...ref, staged }), { ...ref, staged });
  }
  return refs;
}
