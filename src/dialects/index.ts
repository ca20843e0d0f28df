/** All dialects → one IR. */
import type { Problem } from '../errors.js';
import { apiGroup } from '../identity/kinds.js';
import { changedKeys } from '../identity/shared-map.js';
import type { RawPolicy, Snapshot } from '../identity/snapshot.js';
import { Unchanged } from '../identity/unchanged.js';
import type { Ir } from '../ir/types.js';
import { adminNetworkPolicy } from './adminnetworkpolicy.js';
import { clusterNetworkPolicy } from './clusternetworkpolicy.js';
import { cilium } from './cilium/index.js';
import { calico } from './calico/index.js';
import type { Dialect, Placed, Understood } from './dialect.js';
import { annotationsOf, enforcementProblems, isAudit, staged } from './enforcement.js';
import { fqdnNetworkPolicy } from './fqdn.js';
import { Lattice } from './lattice.js';
import { networkPolicy } from './networkpolicy.js';
import { faultProblems, toProblem } from './problems.js';

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
  /** Some slot is stale, has problems, or is there without its object: each of them has to be looked at. */
  private special = true;
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
    this.special = true;
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
        this.special = true;
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
    if (!this.special && this.replaceFew(same, policies))
      return this.answer(policies, [...this.supportingProblems], true);
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
    const whole = present === this.slots.size;
    this.special = !whole || problems.length > this.supportingProblems.length;
    return this.answer(policies, problems, whole);
  }

  /** @param whole nothing is in force whose object is gone: that depends on namespaces and pods too */
  private answer(policies: Snapshot['policies'], problems: readonly Problem[], whole: boolean): IrResult {
    const { againMs } = this;
    const result: IrResult = { ir: this.lattice.ir, problems, ...(againMs === undefined ? {} : { againMs }) };
    this.last = whole ? { policies, result } : undefined;
    return result;
  }

  /**
   * What most changes are: some policies took the place of other states of themselves. Without a look at the others.
   * @returns false where there is more to it
   */
  private replaceFew(same: Unchanged<RawPolicy>, policies: Snapshot['policies']): boolean {
    const [removed, added] = [same.removed(), same.added()];
    if (removed.length !== added.length || added.length > FEW) return false;
    const slots = added.map((raw, i) => {
      const slot = this.seen.slots[same.common + i];
      return slot?.key === nameOf(raw) ? slot : undefined;
    });
    if (slots.includes(undefined)) return false;
    const pairs: [Placed, Placed][] = [];
    let replaced = true;
    for (const [i, raw] of added.entries()) {
      const before = (slots[i] as Slot).policies;
      const slot = this.update(raw);
      // The way of all the others finds the rest done already.
      this.changed = true;
      if (!slot || slot.problems.length > 0) return false;
      replaced &&= before.length === slot.policies.length;
      before.forEach((old, n) => pairs.push([old, slot.policies[n] as Placed]));
    }
    this.seen = { policies, slots: this.seen.slots };
    this.againMs = undefined;
    if (replaced && this.lattice.replace(pairs)) this.changed = false;
    else this.assemble();
    return true;
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

/** Beyond so many slots that came, or changed, looking at all is quicker than finding the place of each. */
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
