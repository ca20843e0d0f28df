/** All dialects → one IR. */
import type { Problem } from '../errors.js';
import { isRecord } from '../identity/fields.js';
import { apiGroup } from '../identity/kinds.js';
import { changedKeys } from '../identity/shared-map.js';
import type { RawPolicy, Snapshot } from '../identity/snapshot.js';
import { Unchanged } from '../identity/unchanged.js';
import type { Ir } from '../ir/types.js';
import { adminNetworkPolicy } from './adminnetworkpolicy.js';
import { clusterNetworkPolicy } from './clusternetworkpolicy.js';
import { cilium } from './cilium/index.js';
import { calico } from './calico/index.js';
import type { Dialect, Fault, Placed, Understood } from './dialect.js';
import { fqdnNetworkPolicy } from './fqdn.js';
import { Lattice } from './lattice.js';
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
  /** To be understood again: what it refers to, or how it is enforced, is not what it was. */
  stale: boolean;
  /** Its policy is gone, and so is it. */
  removed: boolean;
  /** Of the object as it is now. */
  dependsOn: Understood['dependsOn'];
}

/** The policies of a snapshot, and the slot of each: undefined for what is no policy. */
interface Seen {
  readonly policies: Snapshot['policies'];
  readonly slots: readonly (Slot | undefined)[];
}

/**
 * Turns snapshots into IR, one after the other, and remembers what must outlive
 * a snapshot: the last good state of each policy, and the policies of namespaces that end.
 * An object that is the same as last time costs one lookup.
 */
export class DialectRegistry {
  private readonly slots = new Map<string, Slot>();
  private readonly byRaw = new WeakMap<RawPolicy, Slot>();
  /** All slots in order of precedence, but for those that came or went since. */
  private order: Slot[] = [];
  private readonly came: Slot[] = [];
  private anyRemoved = false;
  private changed = false;
  private readonly lattice = new Lattice();
  private readonly supporting: Supporting = new Map();
  private supportingProblems: readonly Problem[] = [];
  private seen: Seen = { policies: [], slots: [] };
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
    for (const slot of this.slots.values()) slot.stale ||= changed.has(slot.namespace ?? '');
  }

  /** Notes which supporting objects there are, the same list while they are the same, and what refers to those that changed. */
  private takeSupporting(policies: Snapshot['policies']): void {
    const problems: Problem[] = [];
    for (const dialect of DIALECTS) {
      const { supports, check } = dialect;
      if (!supports) continue;
      const now = policies.filter((raw) => supports(raw)).sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
      const before = this.supporting.get(dialect) ?? NONE;
      if (now.length !== before.length || now.some((raw, i) => raw !== before[i])) {
        this.supporting.set(dialect, now);
        const changed = difference(before, now);
        for (const slot of this.slots.values()) {
          if (dialect.claims(slot.raw)) slot.stale ||= slot.dependsOn?.(changed) ?? false;
        }
      }
      for (const raw of now) for (const fault of check?.(raw) ?? []) problems.push(toProblem(fault, raw, false));
    }
    this.supportingProblems = problems;
  }

  toIr(snapshot: Snapshot): IrResult {
    this.takeAudits(snapshot.namespaces);
    if (this.last?.policies === snapshot.policies) return this.last.result;
    const { policies } = snapshot;
    const same = new Unchanged(this.seen.policies, policies);
    if (same.changed().some(isSupporting)) this.takeSupporting(policies);
    const problems: Problem[] = [...this.supportingProblems];
    const slots: (Slot | undefined)[] = [];
    this.round++;
    this.againMs = undefined;
    let present = 0;
    for (let i = 0; i < policies.length; i++) {
      const raw = policies[i] as RawPolicy;
      const at = same.before(i);
      let slot = at === undefined ? this.byRaw.get(raw) : this.seen.slots[at];
      if (!slot && at !== undefined) {
        slots.push(undefined);
        continue;
      }
      if (slot?.raw !== raw || slot.stale || slot.removed) {
        slot = this.update(raw);
        this.changed ||= slot !== undefined;
      }
      slots.push(slot);
      if (!slot) continue;
      slot.round = this.round;
      slot.held = false;
      slot.absentSince = undefined;
      present++;
      if (slot.problems.length > 0) problems.push(...slot.problems);
    }
    this.seen = { policies, slots };
    if (present !== this.slots.size) this.settleAbsent(snapshot);
    if (this.changed || this.anyRemoved) this.assemble();
    const result: IrResult = {
      ir: this.lattice.ir,
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
        stale: false,
        removed: false,
        dependsOn: undefined,
      };
      slot = { key, namespace: raw.namespace, raw, ...fresh };
      this.slots.set(key, slot);
      this.came.push(slot);
    }
    slot.stale = false;
    slot.dependsOn = result.dependsOn;
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
      slot.removed = true;
      this.anyRemoved = true;
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

  /** Puts together what is in force. Where order has no meaning it still decides which rule is named: the same everywhere. */
  private assemble(): void {
    if (this.anyRemoved) this.order = this.order.filter((slot) => !slot.removed);
    this.anyRemoved = false;
    this.changed = false;
    const came = this.came.splice(0).filter((slot) => !slot.removed);
    const byKey = (a: Slot, b: Slot) => (a.key < b.key ? -1 : 1);
    if (came.length > FEW) this.order = [...this.order, ...came].sort(byKey);
    else for (const slot of came) this.order.splice(placeOf(this.order, slot.key), 0, slot);
    const placed: Placed[] = [];
    for (const { policies } of this.order) for (const one of policies) placed.push(one);
    this.lattice.take(placed);
  }
}

/** Beyond so many new slots sorting is quicker than finding the place of each. */
const FEW = 100;

/** Where in slots, which are in the order of their keys, one of this key belongs. */
function placeOf(slots: readonly Slot[], key: string): number {
  let [lo, hi] = [0, slots.length];
  while (lo < hi) {
    const middle = (lo + hi) >> 1;
    if ((slots[middle] as Slot).key < key) lo = middle + 1;
    else hi = middle;
  }
  return lo;
}

/** What is in one list only. */
function difference(before: readonly RawPolicy[], now: readonly RawPolicy[]): RawPolicy[] {
  const [old, fresh] = [new Set(before), new Set(now)];
  return [...before.filter((raw) => !fresh.has(raw)), ...now.filter((raw) => !old.has(raw))];
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
