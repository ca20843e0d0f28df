/** All dialects → one IR. */
import type { Problem } from '../errors.js';
import { isRecord } from '../identity/fields.js';
import { apiGroup } from '../identity/kinds.js';
import { changedKeys } from '../identity/shared-map.js';
import type { RawPolicy, Snapshot } from '../identity/snapshot.js';
import type { Ir, IrPolicy, Tier } from '../ir/types.js';
import { adminNetworkPolicy } from './adminnetworkpolicy.js';
import { clusterNetworkPolicy } from './clusternetworkpolicy.js';
import { cilium } from './cilium/index.js';
import { calico } from './calico/index.js';
import type { Dialect, Fault, Placed, Understood } from './dialect.js';
import { fqdnNetworkPolicy } from './fqdn.js';
import { networkPolicy } from './networkpolicy.js';

const DIALECTS: readonly Dialect[] = [
  networkPolicy,
  clusterNetworkPolicy,
  adminNetworkPolicy,
  cilium,
  fqdnNetworkPolicy,
  calico,
];

/** Objects that policies refer to, by dialect. */
type Supporting = Map<Dialect, readonly RawPolicy[]>;

export interface IrResult {
  readonly ir: Ir;
  readonly problems: readonly Problem[];
  /** Ask again after so many milliseconds: something is held for a moment. */
  readonly againMs?: number;
}

export interface RegistryOptions {
  /**
   * In a cluster: milliseconds for which a policy that was deleted goes on. Each kind has a watch of its own, and that a namespace
   * ends may be heard of after its first policy went.
   */
  readonly holdMs?: number;
  /** Milliseconds; for tests. */
  readonly now?: () => number;
}

/** What was made of a raw object; holds for as long as it and the supporting objects are the same. */
const understood = new WeakMap<object, { raw: RawPolicy; supporting: readonly RawPolicy[]; result: Understood }>();

const NONE: readonly RawPolicy[] = [];

/** A policy by its name, from one snapshot to the next. */
interface Slot {
  readonly key: string;
  readonly namespace: string | undefined;
  raw: RawPolicy;
  /** Of the object's last state without errors; empty if it did not concern egress then. */
  lastGood: readonly Placed[] | undefined;
  /** In force now. */
  policies: readonly Placed[];
  problems: readonly Problem[];
  /** Its object is gone while its namespace ends. */
  held: boolean;
  /** Since when its object is gone, while that is not believed yet. */
  absentSince: number | undefined;
  /** The snapshot that had it last. */
  round: number;
}

/**
 * Turns snapshots into IR, one after the other, and remembers what must outlive
 * a snapshot: the last good state of each policy, and the policies of namespaces that end.
 * An object that is the same as last time costs one lookup.
 */
export class DialectRegistry {
  private readonly slots = new Map<string, Slot>();
  private readonly byRaw = new WeakMap<RawPolicy, Slot>();
  /** All slots in order of precedence; undefined when one came or went. */
  private order: readonly Slot[] | undefined = [];
  private ir: Ir = makeIr([]);
  private placed: readonly Placed[] = [];
  private readonly supporting: Supporting = new Map();
  private namespaces: Snapshot['namespaces'] = new Map();
  /** Namespaces whose policies are only watched. */
  private readonly audited = new Set<string>();
  private round = 0;
  private againMs: number | undefined;
  /** The last answer, while it depends on the policies alone. */
  private last: { readonly policies: Snapshot['policies']; readonly result: IrResult } | undefined;

  constructor(private readonly options: RegistryOptions = {}) {}

  /** Notes in which namespaces policies are only to be watched; those that changed are understood anew. */
  private takeAudits(namespaces: Snapshot['namespaces']): void {
    const changed = new Set<string>();
    for (const name of changedKeys(this.namespaces, namespaces)) {
      const now = isAudit(namespaces.get(name)?.annotations);
      if (now === this.audited.has(name)) continue;
      changed.add(name);
      if (now) this.audited.add(name);
      else this.audited.delete(name);
    }
    this.namespaces = namespaces;
    if (changed.size === 0) return;
    this.last = undefined;
    for (const slot of this.slots.values()) if (changed.has(slot.namespace ?? '')) this.byRaw.delete(slot.raw);
  }

  /** @returns problems of supporting objects; notes which of them there are, the same list while they are the same */
  private takeSupporting(policies: Snapshot['policies']): Problem[] {
    const problems: Problem[] = [];
    for (const dialect of DIALECTS) {
      const { supports, check } = dialect;
      if (!supports) continue;
      const now = policies.filter((raw) => supports(raw)).sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
      const before = this.supporting.get(dialect) ?? NONE;
      if (now.length !== before.length || now.some((raw, i) => raw !== before[i])) {
        this.supporting.set(dialect, now);
        // Every policy of the dialect may mean something else now.
        for (const slot of this.slots.values()) if (dialect.claims(slot.raw)) this.byRaw.delete(slot.raw);
      }
      for (const raw of now) for (const fault of check?.(raw) ?? []) problems.push(toProblem(fault, raw, false));
    }
    return problems;
  }

  toIr(snapshot: Snapshot): IrResult {
    this.takeAudits(snapshot.namespaces);
    if (this.last?.policies === snapshot.policies) return this.last.result;
    const problems: Problem[] = this.takeSupporting(snapshot.policies);
    this.round++;
    this.againMs = undefined;
    let changed = false;
    let present = 0;
    for (const raw of snapshot.policies) {
      let slot = this.byRaw.get(raw);
      if (slot?.raw !== raw || !this.slots.has(slot.key)) {
        slot = this.update(raw);
        if (!slot) continue;
        changed = true;
      }
      slot.round = this.round;
      slot.held = false;
      slot.absentSince = undefined;
      present++;
      if (slot.problems.length > 0) problems.push(...slot.problems);
    }
    if (present !== this.slots.size) this.settleAbsent(snapshot);
    if (changed || !this.order) this.assemble();
    const result: IrResult = {
      ir: this.ir,
      problems,
      ...(this.againMs === undefined ? {} : { againMs: this.againMs }),
    };
    // What is held although it is gone depends on namespaces and pods too.
    this.last = present === this.slots.size ? { policies: snapshot.policies, result } : undefined;
    return result;
  }

  private update(raw: RawPolicy): Slot | undefined {
    const result = understand(raw, this.supporting);
    if (!result) return undefined;
    const key = nameOf(raw);
    let slot = this.slots.get(key);
    if (!slot) {
      const fresh = {
        lastGood: undefined,
        policies: [],
        problems: [],
        held: false,
        absentSince: undefined,
        round: 0,
      };
      slot = { key, namespace: raw.namespace, raw, ...fresh };
      this.slots.set(key, slot);
      this.order = undefined;
    }
    this.byRaw.set(raw, slot);
    if (result.good) slot.lastGood = result.policies;
    slot.raw = raw;
    const audited = isAudit(annotationsOf(raw)) || this.audited.has(raw.namespace ?? '');
    slot.policies = (slot.lastGood ?? result.policies).map((p) => (audited ? staged(p) : p));
    slot.problems = [...faultProblems(result, raw, slot.lastGood !== undefined), ...enforcementProblems(raw)];
    return slot;
  }

  /**
   * A namespace that is deleted loses its objects in any order: a policy that went
   * before the last pod goes on holding until that pod has gone (CVE-2024-7598).
   */
  private settleAbsent(snapshot: Snapshot): void {
    let populated: Set<string> | undefined;
    for (const slot of this.slots.values()) {
      if (slot.round === this.round) continue;
      if (slot.policies.length > 0 && slot.namespace !== undefined && this.goesOn(slot, slot.namespace, snapshot)) {
        populated ??= new Set([...snapshot.pods.values()].filter((p) => !p.ended).map((p) => p.namespace));
        slot.held = populated.has(slot.namespace);
        slot.problems = [];
        if (slot.held) continue;
      }
      this.slots.delete(slot.key);
      this.order = undefined;
    }
  }

  /** Its object is gone: does it hold all the same? */
  private goesOn(slot: Slot, name: string, snapshot: Snapshot): boolean {
    const { holdMs, now = () => performance.now() } = this.options;
    const namespace = snapshot.namespaces.get(name);
    if (namespace?.terminating) return true;
    // Manifests need not say that a namespace exists; in a cluster one that is gone had lost its pods before.
    if (!namespace) return slot.held || holdMs !== undefined;
    if (holdMs === undefined) return false;
    slot.absentSince ??= now();
    const left = slot.absentSince + holdMs - now();
    if (left <= 0) return false;
    this.againMs = Math.min(this.againMs ?? left, left);
    return true;
  }

  /** The same Ir object while the same policies are in force. */
  private assemble(): void {
    // Where order has no meaning it still decides which rule is named: the same everywhere.
    this.order ??= [...this.slots.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    const placed: Placed[] = [];
    for (const { policies } of this.order) placed.push(...policies);
    if (placed.length === this.placed.length && placed.every((p, i) => p === this.placed[i])) return;
    this.placed = placed;
    this.ir = makeIr(placed);
  }
}

/** On a policy, or on a namespace for all of its policies: verdicts are computed and told, and not in force. */
const ENFORCEMENT = 'egress-agent.io/enforcement';

function isAudit(annotations: Readonly<Record<string, unknown>> | undefined): boolean {
  return annotations !== undefined && Object.hasOwn(annotations, ENFORCEMENT) && annotations[ENFORCEMENT] === 'audit';
}

/** A misspelt wish to watch is not one to watch: the policy is in force, and its author is told. */
function enforcementProblems(raw: RawPolicy): Problem[] {
  const value = annotationsOf(raw)?.[ENFORCEMENT];
  if (value === undefined || value === 'audit' || value === 'enforce') return [];
  const where = { ...raw.where, field: `metadata.annotations["${ENFORCEMENT}"]` };
  const message = `${JSON.stringify(value)} is not a way of enforcement: the policy is in force`;
  return [{ severity: 'warning', where, message, hint: 'write audit, or enforce' }];
}

function annotationsOf({ object }: RawPolicy): Readonly<Record<string, unknown>> | undefined {
  const annotations = isRecord(object.metadata) ? object.metadata.annotations : undefined;
  return isRecord(annotations) ? annotations : undefined;
}

function staged(placed: Placed): Placed {
  return { ...placed, policy: Object.freeze({ ...placed.policy, staged: true }) };
}

/** API groups have kinds of the same name: Calico's NetworkPolicy is not Kubernetes'. */
function nameOf({ namespace, name, kind, apiVersion }: RawPolicy): string {
  return [namespace ?? '', name, kind, apiGroup(apiVersion)].join('\0');
}

function makeIr(placed: readonly Placed[]): Ir {
  const tiers = new Map<string, { place: Placed['tier']; placed: Placed[] }>();
  for (const p of placed) {
    const { name, order, defaultAction } = p.tier;
    const key = JSON.stringify([name, order, defaultAction]);
    const tier = tiers.get(key);
    if (tier) tier.placed.push(p);
    else tiers.set(key, { place: p.tier, placed: [p] });
  }
  const sorted = [...tiers].sort(([a, x], [b, y]) => x.place.order - y.place.order || (a < b ? -1 : 1));
  return Object.freeze({
    tiers: Object.freeze(
      sorted.map(([, tier]): Tier => {
        // Stable: those of one order stay as they stand.
        const policies: IrPolicy[] = tier.placed.sort((a, b) => compare(a.order, b.order)).map((p) => p.policy);
        const { name, order, defaultAction } = tier.place;
        return Object.freeze({ name, order, defaultAction, policies: Object.freeze(policies) });
      }),
    ),
  });
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const [x = 0, y = 0] = [a[i], b[i]];
    // Infinities are equal; their difference is not a number.
    if (x !== y) return x < y ? -1 : 1;
  }
  return 0;
}

/** Is it a policy by itself? Others (tiers, network sets, groups of CIDRs) are what policies refer to. */
export function isPolicy(raw: RawPolicy): boolean {
  return DIALECTS.some((dialect) => dialect.claims(raw));
}

/** IR of one snapshot by itself, without memory of earlier ones. */
export function toIr(snapshot: Snapshot): IrResult {
  return new DialectRegistry().toIr(snapshot);
}

/** What is made of one object; undefined: it is no policy. Policies that are only to be watched are staged. */
export function understandOne(raw: RawPolicy, { policies, namespaces }: Snapshot): Understood | undefined {
  const dialect = DIALECTS.find((d) => d.claims(raw));
  if (!dialect) return undefined;
  const supporting = policies.filter((other) => dialect.supports?.(other));
  const result = dialect.understand(
    raw,
    supporting.sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1)),
  );
  const audited = isAudit(annotationsOf(raw)) || isAudit(namespaces.get(raw.namespace ?? '')?.annotations);
  return audited ? { ...result, policies: result.policies.map(staged) } : result;
}

/** Objects that policies refer to, and none themselves. */
export function isSupporting(raw: RawPolicy): boolean {
  return DIALECTS.some((dialect) => dialect.supports?.(raw));
}

function understand(raw: RawPolicy, supporting: Supporting): Understood | undefined {
  const dialect = DIALECTS.find((d) => d.claims(raw));
  if (!dialect) return undefined;
  const objects = supporting.get(dialect) ?? NONE;
  const cached = understood.get(raw.object);
  const { apiVersion, kind, namespace, name } = raw;
  if (
    cached?.supporting === objects &&
    cached.raw.apiVersion === apiVersion &&
    cached.raw.kind === kind &&
    cached.raw.namespace === namespace &&
    cached.raw.name === name
  ) {
    return cached.result;
  }
  const result = dialect.understand(raw, objects);
  understood.set(raw.object, { raw, supporting: objects, result });
  return result;
}

/** A list of a million wrong entries is one mistake: the first of them will do. */
const MAX_PROBLEMS = 100;

function faultProblems(result: Understood, raw: RawPolicy, hasLast: boolean): Problem[] {
  const problems = result.faults.slice(0, MAX_PROBLEMS).map((fault) => toProblem(fault, raw, !result.good && hasLast));
  const more = result.faults.length - MAX_PROBLEMS;
  if (more > 0) problems.push({ severity: 'error', where: raw.where, message: `has ${more} more problems` });
  return problems;
}

function toProblem(fault: Fault, raw: RawPolicy, keptLast: boolean): Problem {
  const effect =
    fault.severity === 'error' ? (keptLast ? 'its last good version stays in force' : fault.effect) : undefined;
  const hint = [fault.hint, effect && `until then ${effect}`].filter((s) => s !== undefined).join('; ');
  const where = { ...raw.where, field: fault.field };
  return { severity: fault.severity, where, message: fault.message, hint: hint === '' ? undefined : hint };
}
