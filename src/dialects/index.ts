/** Translates the policies of all dialects to one IR. */
import type { Problem } from '../errors.js';
import { changedKeys } from '../identity/shared-map.js';
import type { RawPolicy, Snapshot } from '../identity/snapshot.js';
import { sameList, Unchanged } from '../identity/unchanged.js';
import type { Ir } from '../ir/types.js';
import type { Placed } from './base/dialect.js';
import { annotationsOf, isAudit } from './enforcement.js';
import { BY_RULES, type Hearing } from './hearing.js';
import { Lattice } from './lattice.js';
import { DIALECTS, isSupporting, NONE, nameOf, type Supporting, supportingOf, understand } from './objects.js';
import { toProblem } from './problems.js';
import { Life, Memory, type Patience, type Slot } from './slot.js';

export { isPolicy, isSupporting, understandOne } from './objects.js';

export interface IrResult {
  readonly ir: Ir;
  readonly problems: readonly Problem[];
  /** If present, ask again after this many milliseconds, because a deleted policy is held for a moment. */
  readonly againMs?: number;
}

/** The policies of a snapshot, and the slot of each; undefined for objects that are not policies. */
interface Seen {
  readonly policies: Snapshot['policies'];
  readonly slots: readonly (Slot | undefined)[];
}

/**
 * Translates successive snapshots to IR. It remembers what must outlive a snapshot: the last valid state of each
 * policy, and the policies of namespaces that are being deleted. An object that is unchanged since the last snapshot
 * costs one look-up.
 */
export class DialectRegistry {
  readonly #options: Patience;
  readonly #hearing: Hearing;
  readonly #slots = new Map<string, Slot>();
  readonly #byRaw = new WeakMap<RawPolicy, Slot>();
  /** All slots in order of precedence, except those that were added or removed since. */
  #order: Slot[] = [];
  readonly #added: Slot[] = [];
  #anyRemoved = false;
  #changed = false;
  readonly #lattice = new Lattice();
  readonly #supporting: Supporting = new Map();
  #supportingProblems: readonly Problem[] = [];
  #seen: Seen = { policies: [], slots: [] };
  #namespaces: Snapshot['namespaces'] = new Map();
  /** Namespaces in audit mode. */
  readonly #audited = new Set<string>();
  #round = 0;
  #againMs: number | undefined;
  /** Whether some slot is stale, has problems, or is held without its object. Each slot must then be examined. */
  #special = true;
  /** The last result, as long as it depends on the policies alone. */
  #last: { readonly policies: Snapshot['policies']; readonly result: IrResult } | undefined;

  constructor({ verifyNames, quic, ...options }: Patience & Partial<Hearing> = {}) {
    this.#options = options;
    const given = { ...(verifyNames ? { verifyNames } : {}), ...(quic ? { quic } : {}) };
    this.#hearing = verifyNames || quic ? { ...BY_RULES, ...given } : BY_RULES;
  }

  /** Updates the namespaces in audit mode. The policies of those that changed are translated again. */
  #takeAudits(namespaces: Snapshot['namespaces']): void {
    const changed = new Set<string>();
    for (const name of changedKeys(this.#namespaces, namespaces)) {
      const now = isAudit(namespaces.get(name)?.annotations);
      if (now === this.#audited.has(name)) continue;
      changed.add(name);
      if (now) this.#audited.add(name);
      else this.#audited.delete(name);
    }
    this.#namespaces = namespaces;
    if (changed.size === 0) return;
    this.#last = undefined;
    this.#special = true;
    for (const slot of this.#slots.values()) slot.memory.stale ||= changed.has(slot.namespace ?? '');
  }

  /**
   * Updates the supporting objects, with the same list object while they are unchanged, and marks the policies that
   * refer to changed ones as stale.
   */
  #takeSupporting(policies: Snapshot['policies']): void {
    const problems: Problem[] = [];
    for (const dialect of DIALECTS) {
      if (!dialect.supports) continue;
      const now = supportingOf(dialect, policies);
      const before = this.#supporting.get(dialect) ?? NONE;
      if (!sameList(now, before)) {
        this.#supporting.set(dialect, now);
        this.#special = true;
        const changed = difference(before, now);
        for (const slot of this.#slots.values()) {
          if (dialect.claims(slot.raw)) slot.memory.stale ||= slot.memory.refersTo(changed);
        }
      }
      for (const raw of now)
        for (const fault of dialect.check?.(raw) ?? []) problems.push(toProblem(fault, raw, false));
    }
    this.#supportingProblems = problems;
  }

  toIr(snapshot: Snapshot): IrResult {
    this.#takeAudits(snapshot.namespaces);
    if (this.#last?.policies === snapshot.policies) return this.#last.result;
    const { policies } = snapshot;
    const same = new Unchanged(this.#seen.policies, policies);
    if (same.changed().some(isSupporting)) this.#takeSupporting(policies);
    if (!this.#special && this.#replaceFew(same, policies))
      return this.#answer(policies, [...this.#supportingProblems], true);
    const problems: Problem[] = [...this.#supportingProblems];
    const slots: (Slot | undefined)[] = [];
    this.#round++;
    this.#againMs = undefined;
    let present = 0;
    for (let i = 0; i < policies.length; i++) {
      const raw = policies[i] as RawPolicy;
      const at = same.before(i);
      let slot = at === undefined ? this.#byRaw.get(raw) : this.#seen.slots[at];
      if (!slot && at !== undefined) {
        slots.push(undefined);
        continue;
      }
      if (slot?.raw !== raw || slot.memory.stale || slot.life.removed) {
        slot = this.#update(raw);
        this.#changed ||= slot !== undefined;
      }
      slots.push(slot);
      if (!slot) continue;
      slot.life.markPresent(this.#round);
      present++;
      if (slot.memory.problems.length > 0) problems.push(...slot.memory.problems);
    }
    this.#seen = { policies, slots };
    if (present !== this.#slots.size) this.#settleAbsent(snapshot);
    if (this.#changed || this.#anyRemoved) this.#assemble();
    const whole = present === this.#slots.size;
    this.#special = !whole || problems.length > this.#supportingProblems.length;
    return this.#answer(policies, problems, whole);
  }

  /** @param whole no policy is held without its object, which would depend on namespaces and pods too */
  #answer(policies: Snapshot['policies'], problems: readonly Problem[], whole: boolean): IrResult {
    const againMs = this.#againMs;
    const result: IrResult = { ir: this.#lattice.ir, problems, ...(againMs === undefined ? {} : { againMs }) };
    this.#last = whole ? { policies, result } : undefined;
    return result;
  }

  /**
   * The fast path for the most frequent change: some policies were replaced by new states of themselves. Other policies
   * are not examined.
   * @returns false if more has changed
   */
  #replaceFew(same: Unchanged<RawPolicy>, policies: Snapshot['policies']): boolean {
    const [removed, added] = [same.removed(), same.added()];
    if (removed.length !== added.length || added.length > FEW) return false;
    const slots = added.map((raw, i) => {
      const slot = this.#seen.slots[same.common + i];
      return slot?.key === nameOf(raw) ? slot : undefined;
    });
    if (slots.includes(undefined)) return false;
    const pairs: [Placed, Placed][] = [];
    let replaced = true;
    for (const [i, raw] of added.entries()) {
      const before = (slots[i] as Slot).memory.policies;
      const slot = this.#update(raw);
      // The general path continues with the work that is already done.
      this.#changed = true;
      if (!slot || slot.memory.problems.length > 0) return false;
      const { policies: now } = slot.memory;
      replaced &&= before.length === now.length;
      before.forEach((old, n) => pairs.push([old, now[n] as Placed]));
    }
    this.#seen = { policies, slots: this.#seen.slots };
    this.#againMs = undefined;
    if (replaced && this.#lattice.replace(pairs)) this.#changed = false;
    else this.#assemble();
    return true;
  }

  #update(raw: RawPolicy): Slot | undefined {
    const result = understand(raw, this.#supporting, this.#hearing);
    if (!result) return undefined;
    const key = nameOf(raw);
    let slot = this.#slots.get(key);
    if (!slot) {
      slot = { key, namespace: raw.namespace, raw, memory: new Memory(), life: new Life() };
      this.#slots.set(key, slot);
      this.#added.push(slot);
    }
    this.#byRaw.set(raw, slot);
    slot.raw = raw;
    slot.memory.take(raw, result, isAudit(annotationsOf(raw)) || this.#audited.has(raw.namespace ?? ''));
    return slot;
  }

  /**
   * Decides about policies whose objects are gone. A namespace that is deleted loses its objects in any order, so a
   * policy that is deleted before the last pod stays in force until that pod is gone. Without it, the pod would be open
   * in between (CVE-2024-7598).
   */
  #settleAbsent(snapshot: Snapshot): void {
    let populated: Set<string> | undefined;
    for (const slot of this.#slots.values()) {
      const { namespace, memory, life } = slot;
      if (life.round === this.#round) continue;
      const remainingMs =
        memory.policies.length > 0 && namespace !== undefined ? life.markAbsent(namespace, snapshot, this.#options) : 0;
      if (remainingMs > 0 && namespace !== undefined) {
        if (Number.isFinite(remainingMs)) this.#againMs = Math.min(this.#againMs ?? remainingMs, remainingMs);
        populated ??= new Set([...snapshot.pods.values()].filter((p) => !p.ended).map((p) => p.namespace));
        life.held = populated.has(namespace);
        memory.problems = [];
        if (life.held) continue;
      }
      this.#slots.delete(slot.key);
      life.removed = true;
      this.#anyRemoved = true;
    }
  }

  /**
   * Assembles the policies in force. The order also determines which of several equivalent rules is reported, so it is
   * the same everywhere.
   */
  #assemble(): void {
    if (this.#anyRemoved) this.#order = this.#order.filter((slot) => !slot.life.removed);
    this.#anyRemoved = false;
    this.#changed = false;
    const added = this.#added.splice(0).filter((slot) => !slot.life.removed);
    const byKey = (a: Slot, b: Slot) => (a.key < b.key ? -1 : 1);
    if (added.length > FEW) this.#order = [...this.#order, ...added].sort(byKey);
    else for (const slot of added) this.#order.splice(placeOf(this.#order, slot.key), 0, slot);
    const placed: Placed[] = [];
    for (const { memory } of this.#order) for (const one of memory.policies) placed.push(one);
    this.#lattice.take(placed);
  }
}

/** If more slots than this were added or changed, a full sort is faster than single insertions. */
const FEW = 100;

/** The position for a key in slots that are sorted by key. */
function placeOf(slots: readonly Slot[], key: string): number {
  let [lo, hi] = [0, slots.length];
  while (lo < hi) {
    const middle = (lo + hi) >> 1;
    if ((slots[middle] as Slot).key < key) lo = middle + 1;
    else hi = middle;
  }
  return lo;
}

/** The policies that are in one of the lists only. */
function difference(before: readonly RawPolicy[], now: readonly RawPolicy[]): RawPolicy[] {
  const [old, fresh] = [new Set(before), new Set(now)];
  return [...before.filter((raw) => !fresh.has(raw)), ...now.filter((raw) => !old.has(raw))];
}

/** The IR of a single snapshot, without memory of earlier ones. @param hearing default: as the policies say */
export function toIr(snapshot: Snapshot, hearing: Partial<Hearing> = {}): IrResult {
  return new DialectRegistry(hearing).toIr(snapshot);
}
