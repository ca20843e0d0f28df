/**
 * KernelMapStore: makes the maps equal to an Image.
 *
 * THE ORDER OF THE FOUR PHASES. A packet may be judged between any two writes below,
 * and the agent may die there; each prefix of the sequence is a correct policy.
 *
 *   1 write    everything new under keys that nothing refers to yet: rules, port rows,
 *              class rows, also (old set × new class) and (new set × old class).
 *   2 flip     Services take the kinds of backends of both Images, destinations a class that
 *              holds their old and new atoms; then each endpoint takes its new set by one
 *              aligned 8-byte store.
 *   3 epoch    one store: flows judged under the old sets are judged again.
 *   4 collect  when each packet that was being judged at the flip is through (RCU):
 *              destinations drop their old atoms (no packet reads an old set any more), then
 *              Services their old kinds;
 *              rows of sets and classes that nothing names are deleted a while later.
 *
 * The whole need of room is known before the first write: TOO_LARGE changes nothing.
 */
import { AgentError } from '../src/errors.js';
import { MAX_BACKENDS } from '../src/compile/services.js';
import { sizeOf } from '../src/image/edited.js';
import { type Plan, planDestinations } from '../src/image/plan.js';
import { planServices } from '../src/image/plan-services.js';
import { changedKeys } from '../src/identity/shared-map.js';
import { classRow, fixedRows, portEntries } from '../src/image/rows.js';
import type { Image, PolicySet } from '../src/image/types.js';
import { NODE_SENDER } from '../src/ir/sender.js';
import type { ApplyResult, EndpointBinding, MapFill, MapStore } from '../src/image/store.js';
import * as encode from './encode.js';
import { EndpointTable } from './endpoint-table.js';
import type { BpfMap } from './libbpf/map.js';
import { sys } from './libbpf/sys.js';
import { MapWriter } from './map-writer.js';
import { Journal } from './journal.js';
import { recover, type Recovered } from './map-recovery.js';
import { verifyMaps } from './map-verify.js';

export type Maps = Record<string, BpfMap>;

export interface MapStoreOptions {
  /** Directory in which the sets and classes in the maps are remembered for the next agent; undefined: nowhere. */
  statePath?: string;
  /** Answer denied packets instead of dropping them. */
  reject?: boolean;
}

export class KernelMapStore implements MapStore {
  private readonly writer: MapWriter;
  private readonly endpoints: EndpointTable;
  private readonly state: Int32Array;
  private readonly journal: Journal | undefined;
  private inMaps: Recovered;
  private current: Image | undefined;
  private bindings: readonly EndpointBinding[] = [];
  private trusted = true;
  /** Every set has its row of every class that asks for one: not sure of what an agent before this one wrote. */
  private rowsKnown = false;
  /** A packet may still be judged by what nothing names any more. */
  private inFlight = true;
  /** Classes that the Image in force may not name any more; undefined: any may be one. */
  private maybeDead: Set<number> | undefined;
  /** The rules that the books have last taken in, and whether older ones are left beside them. */
  private rulesOf: Image['rules'] | undefined;
  private rulesLeft = true;

  constructor(
    private readonly maps: Maps,
    opts: MapStoreOptions = {},
  ) {
    this.writer = new MapWriter(maps);
    this.endpoints = new EndpointTable(
      encode.map(maps, 'endpoints'),
      encode.map(maps, 'endpoints_more'),
      encode.map(maps, 'sources'),
      opts.reject ?? false,
    );
    const state = encode.map(maps, 'state').mmap();
    this.state = new Int32Array(state.buffer, state.byteOffset, 2);
    this.journal = opts.statePath === undefined ? undefined : new Journal(opts.statePath);
    this.inMaps = recover(maps, this.journal);
  }

  /** Policy epoch that packets compare their flows with. */
  get epoch(): number {
    return Atomics.load(this.state, encode.EPOCH_WORD) >>> 0;
  }

  /** Rule names that outlived the last agent, for events of flows it judged. */
  get recoveredRules(): Recovered['rules'] {
    return this.inMaps.rules;
  }

  apply(image: Image, bindings: readonly EndpointBinding[]): ApplyResult {
    const start = performance.now();
    // An apply that threw half-way left the books ahead of the maps: read the maps again.
    if (!this.trusted) this.readBack();
    this.collect();
    for (const id of this.inMaps.unknownClasses) {
      // Its rows may be incomplete: as a new class it gets all of them.
      if (image.classes.has(id)) this.inMaps.classes.delete(id);
    }
    this.inMaps.unknownClasses.clear();
    const before = this.trusted ? this.current : undefined;
    const settled = before?.endpoints === image.endpoints && before.sets === image.sets && bindings === this.bindings;
    const wanted = settled ? [] : bindings.map((b) => [b, refOf(image, b)] as const);
    const flips = wanted.some(([b, ref]) => this.endpoints.setOf(b) !== ref);
    const plan = planDestinations(this.inMaps, image, flips);
    const moves = flips || [plan.destinations4, plan.destinations6].some((d) => d.before.length + d.remove.length > 0);
    const services = planServices(this.inMaps.services, image.services, { flips, moves }, MAX_BACKENDS);
    // What an apply before this one left is as its Image says: what differs from that is all there is to do.
    const changed = before ? changedKeys(before.classes, image.classes) : [...image.classes.keys()];
    if (!before) this.rowsKnown = false;
    const batch = this.prepare(image, changed, plan.transitional);
    this.checkRoom(batch, plan, services.added);
    if (!settled) this.endpoints.checkRoom(bindings);
    this.remember(image, batch);
    this.trusted = false;

    // Phase 1: write.
    let written = this.writer.writeSets(batch.sets);
    written += this.writer.writeClassRows(batch.rows);
    this.rowsKnown = true;

    // Phase 2: flip. Destinations first: a new set must find its atoms. Before them the Services that stay: what they
    // stand for must be told apart by old and by new classes.
    written += this.writer.writeServices(services.early);
    written += this.writer.writeDestinations4(plan.destinations4.before);
    written += this.writer.writeDestinations6(plan.destinations6.before);
    written += this.writer.writeServices(services.before);
    for (const [binding, ref] of wanted) this.endpoints.put(binding, ref);

    // Phase 3: epoch. Also where an earlier apply, or an agent before this one, may have died ahead of its own.
    if (written > 0 || flips || services.remove.length > 0 || !before) this.bumpEpoch();

    // Phase 4: collect.
    this.inFlight ||= flips;
    const narrowed = plan.destinations4.settle.length + plan.destinations6.settle.length + services.settle.length;
    const removed = plan.destinations4.remove.length + plan.destinations6.remove.length + services.remove.length;
    if (flips && narrowed + removed > 0) this.letPass();
    written += this.writer.writeDestinations4(plan.destinations4.settle);
    written += this.writer.writeDestinations6(plan.destinations6.settle);
    let deleted = this.writer.removeDestinations4(plan.destinations4.remove);
    deleted += this.writer.removeDestinations6(plan.destinations6.remove);
    written += this.writer.writeServices(services.settle);
    deleted += this.writer.removeServices(services.remove);
    if (!settled) deleted += this.endpoints.retain(bindings);
    this.bindings = bindings;
    // Flows judged while destinations still showed their old atoms are judged once more.
    if (narrowed + deleted > 0) this.bumpEpoch();

    this.inFlight = true;
    this.trusted = true;
    this.inMaps.destinations4 = image.destinations4;
    this.inMaps.destinations6 = image.destinations6;
    this.inMaps.services = image.services;
    this.current = image;
    if (!before) this.maybeDead = undefined;
    for (const id of [...changed, ...plan.transitional.keys()]) if (!image.classes.has(id)) this.maybeDead?.add(id);
    return { written, deleted, millis: performance.now() - start };
  }

  private readBack(): void {
    this.inMaps = recover(this.maps, this.journal);
    this.rulesOf = undefined;
  }

  /**
   * Empties the slots of interfaces that an agent before this one placed and that have no hooks any more. To be called
   * when all pods of this node are bound; `hooked`: interfaces with hooks. Returns how many.
   */
  dropStrangers(hooked: ReadonlySet<number>): number {
    const strangers = this.endpoints.strangers().filter((ifindex) => !hooked.has(ifindex));
    for (const ifindex of strangers) this.endpoints.clear(ifindex);
    return strangers.length;
  }

  /** Deletes the rows of sets and classes that the Image in force does not name. */
  collect(): number {
    const image = this.current;
    if (!image) return 0;
    let deleted = 0;
    const dead = [...this.inMaps.sets.values()].filter((s) => !image.sets.has(s.id));
    const deadClasses = [...(this.maybeDead ?? this.inMaps.classes.keys())].filter(
      (c) => this.inMaps.classes.has(c) && !image.classes.has(c),
    );
    this.maybeDead = new Set();
    if (dead.length === 0 && deadClasses.length === 0 && this.inMaps.strangers.length === 0) return 0;
    this.letPass();
    for (const set of dead) {
      deleted += this.writer.removeSet(set, this.inMaps.rows.get(set.id) ?? new Set());
      this.inMaps.sets.delete(set.id);
      this.inMaps.rows.delete(set.id);
    }
    for (const [id, classes] of this.inMaps.rows) {
      const set = this.inMaps.sets.get(id) as PolicySet;
      const old = deadClasses.filter((c) => classes.has(c));
      deleted += this.writer.removeClassRows(set, old);
      for (const c of old) classes.delete(c);
    }
    for (const c of deadClasses) this.inMaps.classes.delete(c);
    for (const stranger of this.inMaps.strangers) if (!image.sets.has(stranger.set)) deleted += stranger.remove();
    this.inMaps.strangers = [];
    this.takeRules(image);
    this.journal?.keep(image.sets, this.inMaps.classes);
    return deleted;
  }

  verify(repair: boolean): string[] {
    if (!this.current) return [];
    this.collect();
    return verifyMaps(this.maps, this.current, this.inMaps.rows, this.endpoints, repair);
  }

  fill(): MapFill[] {
    return Object.entries(this.counts()).map(([name, entries]) => ({
      name,
      entries: entries(),
      max: this.maxOf(name),
    }));
  }

  close(): void {
    this.endpoints.close();
  }

  /** A packet that read what was in force before the last write may be held up for as long as its CPU is: it is waited for. */
  private letPass(): void {
    if (this.inFlight) sys.waitForPrograms();
    this.inFlight = false;
  }

  private bumpEpoch(): void {
    Atomics.add(this.state, encode.EPOCH_WORD, 1);
  }

  private maxOf(name: string): number {
    return encode.map(this.maps, name).maxEntries;
  }

  /** Entries that each map holds. */
  private counts(): Record<string, () => number> {
    const total = (large: boolean, of: (s: PolicySet) => number) => {
      let n = 0;
      for (const s of this.inMaps.sets.values()) if (s.large === large) n += of(s);
      return n;
    };
    const rows = (s: PolicySet) => (this.inMaps.rows.get(s.id)?.size ?? 0) + fixedRows(s).length;
    const ports = (s: PolicySet) => portEntries(s).length;
    const rules = (s: PolicySet) => s.rules.length;
    return {
      endpoints: () => this.endpoints.size,
      destinations4: () => sizeOf(this.inMaps.destinations4),
      destinations6: () => sizeOf(this.inMaps.destinations6),
      class_rules: () => total(false, rows),
      class_rules_large: () => total(true, rows),
      port_rules: () => total(false, ports),
      port_rules_large: () => total(true, ports),
      rules: () => total(false, rules) + total(true, rules),
      services: () => this.inMaps.services.size,
    };
  }

  /**
   * New sets, and the rows that old and new sets need for old, new and transitional classes.
   * @param changed classes that may be new
   */
  private prepare(image: Image, changed: readonly number[], transitional: Plan['transitional']): Batch {
    const sets = [...image.sets.values()].filter((s) => !this.inMaps.sets.has(s.id));
    const fresh = new Map<number, readonly number[]>();
    for (const id of changed) {
      const atoms = image.classes.get(id);
      if (atoms && !this.inMaps.classes.has(id)) fresh.set(id, atoms);
    }
    for (const [id, atoms] of transitional) if (!this.inMaps.classes.has(id)) fresh.set(id, atoms);
    const rows: Batch['rows'] = [];
    const add = (set: PolicySet, classes: Iterable<readonly [number, readonly number[]]>) => {
      const have = this.inMaps.rows.get(set.id);
      for (const [classId, atoms] of classes) {
        if (have?.has(classId)) continue;
        const row = classRow(set, atoms);
        if (row) rows.push({ set, classId, row });
      }
    };
    // An agent before this one may have died when the journal knew a class, and not all of its rows were written.
    if (!this.rowsKnown) for (const set of this.inMaps.sets.values()) add(set, this.inMaps.classes);
    if (fresh.size > 0) for (const set of this.inMaps.sets.values()) add(set, fresh);
    for (const set of sets) {
      add(set, this.inMaps.classes);
      add(set, fresh);
    }
    return { sets, classes: fresh, rows };
  }

  private checkRoom(batch: Batch, plan: Plan, services: number): void {
    const count = (large: boolean, of: (s: PolicySet) => number) =>
      batch.sets.filter((s) => s.large === large).reduce((n, s) => n + of(s), 0);
    const rows = (large: boolean) =>
      batch.rows.filter((r) => r.set.large === large).length + count(large, (s) => fixedRows(s).length);
    const more: Record<string, number> = {
      destinations4: plan.destinations4.before.length,
      destinations6: plan.destinations6.before.length,
      class_rules: rows(false),
      class_rules_large: rows(true),
      port_rules: count(false, (s) => portEntries(s).length),
      port_rules_large: count(true, (s) => portEntries(s).length),
      rules: batch.sets.reduce((n, s) => n + s.rules.length, 0),
      services,
    };
    const entries = this.counts();
    for (const [name, added] of Object.entries(more)) {
      if (added === 0) continue;
      const need = (entries[name]?.() ?? 0) + added;
      const max = this.maxOf(name);
      if (need <= max) continue;
      throw new AgentError(
        'TOO_LARGE',
        `map ${name} holds ${max} entries; these policies need ${need} while they replace the old ones`,
        {
          hint: `raise it with --map-size ${name}=${2 ** Math.ceil(Math.log2(need))}, or use fewer or wider CIDRs; the last complete policy stays in force`,
        },
      );
    }
  }

  /** Takes the new content into the books, on disk first: whoever comes after a crash must know what may be there. */
  private remember(image: Image, batch: Batch): void {
    const { sets, classes, rows } = this.inMaps;
    this.journal?.add(batch.sets, [...batch.classes], image.rules);
    for (const set of batch.sets) {
      sets.set(set.id, set);
      rows.set(set.id, new Set());
    }
    for (const [id, atoms] of batch.classes) classes.set(id, atoms);
    for (const { set, classId } of batch.rows) (rows.get(set.id) as Set<number>).add(classId);
    if (image.rules === this.rulesOf) return;
    for (const [id, ref] of image.rules) this.inMaps.rules.set(id, ref);
    this.rulesOf = image.rules;
    this.rulesLeft = true;
  }

  /** Forgets the names of rules that are not in the maps any more. */
  private takeRules(image: Image): void {
    if (!this.rulesLeft && image.rules === this.rulesOf) return;
    this.inMaps.rules = new Map(image.rules);
    this.rulesOf = image.rules;
    this.rulesLeft = false;
  }
}

interface Batch {
  sets: PolicySet[];
  /** New ones, with their atoms. */
  classes: ReadonlyMap<number, readonly number[]>;
  rows: { set: PolicySet; classId: number; row: Uint32Array }[];
}

/** What the endpoint's `set` field shall hold: the id with its flags; 0n where no policy selects it. */
function refOf(image: Image, binding: EndpointBinding): bigint {
  const key = binding.kind === 'uplink' ? NODE_SENDER : binding.key;
  const set = image.sets.get(image.endpoints.get(key) ?? 0);
  return set ? encode.setRef(set) : 0n;
}
