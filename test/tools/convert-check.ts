/** What a conversion leaves in force, and whether a packet tells it from what was given: without the proof's own code. */
import type { RawPolicy, Snapshot } from '../../src/identity/snapshot.js';
import { toIr } from '../../src/dialects/index.js';
import type { Packet } from '../../src/ir/packet.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { findService, ownNodeAddresses } from '../../src/ir/services.js';
import type { Target } from '../../src/convert/terms/common.js';
import { type Conversion, convert } from '../../src/convert/index.js';
import { parseCidr } from '../../src/net/addr.js';
import { show, snapshotOf } from '../policy/world.js';

export const IN_CLUSTER = ['10.0.0.0/8', '192.168.0.0/16', 'fd00::/8'];

export interface Taken {
  readonly cluster?: readonly string[];
  readonly ignoreOwn?: boolean;
}

export function converted(snapshot: Snapshot, target: Target, taken: Taken = {}): Conversion {
  const cluster = taken.cluster?.map(parseCidr);
  return convert(snapshot.policies, snapshot, target, {
    ignoreOwn: taken.ignoreOwn ?? false,
    ...(cluster ? { cluster } : {}),
  });
}

/** The policies after it. */
export function after(before: readonly RawPolicy[], { converted: all }: Conversion): RawPolicy[] {
  const gone = new Set(all.map((one) => one.source.raw));
  const made = snapshotOf([...new Set(all.flatMap((one) => one.texts))].join(''));
  if (made.problems.length > 0) throw new Error(made.problems[0]?.message);
  const byName = new Map(made.policies.map((p) => [`${p.kind} ${p.namespace} ${p.name}`, p]));
  return [...before.filter((raw) => !gone.has(raw)), ...byName.values()];
}

/** Packets that are judged differently afterwards, in words. */
export function differences(
  snapshot: Snapshot,
  conversion: Conversion,
  packets: Iterable<Packet>,
  { ignoreOwn }: Taken,
): string[] {
  const was = toIr(snapshot).ir;
  const is = toIr({ ...snapshot, policies: after(snapshot.policies, conversion) }).ir;
  const out: string[] = [];
  for (const packet of packets) {
    const own = new Set([...ownNodeAddresses(snapshot), ...(snapshot.pods.get(packet.from)?.ips ?? [])]);
    const backends = findService(snapshot, packet)?.backends ?? [];
    if (ignoreOwn && (own.has(packet.to) || backends.some((b) => own.has(b.ip)))) continue;
    const [a, b] = [evaluate(was, snapshot, packet), evaluate(is, snapshot, packet)];
    const audit = (v: typeof a) => v.audit?.verdict ?? v.verdict;
    if (a.verdict !== b.verdict || audit(a) !== audit(b))
      out.push(`${packet.from} → ${packet.to} ${packet.protocol}/${packet.port}: ${show(was, a)} / ${show(is, b)}`);
  }
  return out;
}
