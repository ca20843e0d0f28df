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
 *   4 settle   when each packet that was being judged at the flip is through (RCU):
 *              destinations drop their old atoms (no packet reads an old set any more), then
 *              Services their old kinds; rows of sets and classes that nothing names are
 *              deleted, those of phase 2 when packets that found them are through, too.
 *
 * apply() does not wait for phase 4 (tidyLater() does it, or tidy(), which blocks): what comes next
 * plans from what the maps show, and agent/leftovers.ts keeps the books of what that is.
 *
 * The whole need of room is known before the first write: TOO_LARGE changes nothing.
 */
import type { AgentError } from '../src/errors.js';
import { MAX_BACKENDS } from '../src/compile/services.js';
import { classAt } from '../src/image/edited.js';
import { type DestinationWrite, planDestinations } from '../src/image/plan.js';
import { planServices } from '../src/image/plan-services.js';
import { changedKeys } from '../src/identity/shared-map.js';
import type { Image, PolicySet } from '../src/image/types.js';
import { NODE_SENDER } from '../src/ir/sender.js';
import type { ApplyResult, EndpointBinding, MapFill, MapStore } from '../src/image/store.js';
import * as encode from './encode.js';
import { EndpointTable } from './endpoint-table.js';
import { Leftovers, type Shown } from './leftovers.js';
import type { BpfMap } from './libbpf/map.js';
import { sys } from './libbpf/sys.js';
import { MapWriter } from './map-writer.js';
import { Journal } from './journal.js';
import { recover, type Recovered } from './map-recovery.js';
import { type Batch, batchFor, entriesOf, type Step, tooLarge } from './map-step.js';
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
  private readonly left = new Leftovers();
  private tidying: Promise<void> | undefined;
  private closed = false;
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

  /** The maps show what the Image in force says, to every packet from now on: nothing waits for tidy() but to be deleted. */
  get settled(): boolean {
    return !this.left.shows;
  }

  /** Rule names that outlived the last agent, for events of flows it judged. */
  get recoveredRules(): Recovered['rules'] {
    return this.inMaps.rules;
  }

  apply(image: Image, bindings: readonly EndpointBinding[]): ApplyResult {
    const start = performance.now();
    // An apply that threw half-way left the books ahead of the maps: read the maps again.
    if (!this.trusted) this.readBack();
    for (const id of this.inMaps.unknownClasses) {
      // Its rows may be incomplete: as a new class it gets all of them.
      if (image.classes.has(id)) this.inMaps.classes.delete(id);
    }
    this.inMaps.unknownClasses.clear();
    const before = this.trusted ? this.current : undefined;
    if (!before) this.rowsKnown = false;
    const settled = before?.endpoints === image.endpoints && before.sets === image.sets && bindings === this.bindings;
    if (!settled) this.endpoints.checkRoom(bindings);
    let step = this.plan(image, bindings, before, settled);
    let lack = this.lack(step);
    if (lack && this.left.any) {
      // What only waits to be deleted makes room.
      this.tidy();
      step = this.plan(image, bindings, before, settled);
      lack = this.lack(step);
    }
    if (lack) throw lack;
    const { batch, plan, services, wanted } = step;
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
    let placed = false;
    for (const [binding, ref] of wanted) if (this.endpoints.put(binding, ref)) placed = true;

    // Phase 3: epoch. Also where an earlier apply, or an agent before this one, may have died ahead of its own.
    if (written > 0 || placed || services.remove.length > 0 || !before) this.bumpEpoch();

    const gone = settled ? 0 : this.endpoints.retain(bindings);
    if (gone > 0) this.bumpEpoch();
    this.bindings = bindings;
    const removed = this.leave(image, step, before === undefined);
    // Phase 4, where no packet is in the way.
    if (!this.left.flipping) this.settle(this.left.now);
    this.trusted = true;
    return { written, deleted: gone + removed, millis: performance.now() - start };
  }

  /** What there is to do, and what of it stands in the way of doing it at once. */
  private plan(image: Image, bindings: readonly EndpointBinding[], before: Image | undefined, settled: boolean): Step {
    const wanted = settled ? [] : bindings.map((b) => [b, refOf(image, b)] as const);
    const flips = wanted.some(([b, ref]) => this.endpoints.setOf(b) !== ref);
    const careful = flips || this.left.flipping;
    const { destinations4, destinations6, services } = this.left;
    const shown = { destinations4: destinations4.values, destinations6: destinations6.values };
    const plan = planDestinations(this.inMaps, image, careful, shown);
    const moves =
      careful || [plan.destinations4, plan.destinations6].some((d) => d.before.length + d.remove.length > 0);
    const how = { flips: careful, moves };
    // What an apply before this one left is as its Image says: what differs from that is all there is to do.
    const changed = before ? changedKeys(before.classes, image.classes) : [...image.classes.keys()];
    return {
      wanted,
      flips,
      changed,
      plan,
      services: planServices(this.inMaps.services, image.services, how, MAX_BACKENDS, services.values),
      batch: batchFor(this.inMaps, image, changed, plan.transitional, this.rowsKnown),
    };
  }

  /** Takes an Image that is in force into the books, with what the maps hold beside it. @returns entries to be deleted */
  private leave(image: Image, { plan, services, flips, changed }: Step, anew: boolean): number {
    const { left } = this;
    const last = this.inMaps;
    const now = left.next(flips);
    const dead = [
      ...left.destinations4.replace(
        plan.destinations4.shown,
        now,
        (key) => classAt(last.destinations4, key) === classAt(image.destinations4, key),
      ),
      ...left.destinations6.replace(
        plan.destinations6.shown,
        now,
        (key) => classAt(last.destinations6, key) === classAt(image.destinations6, key),
      ),
      ...(anew ? last.classes.keys() : changed),
      ...plan.transitional.keys(),
    ];
    left.services.replace(services.shown, now, (key) => last.services.get(key) === image.services.get(key));
    for (const id of left.classes.keys()) if (image.classes.has(id)) left.classes.delete(id);
    for (const id of dead) if (last.classes.has(id) && !image.classes.has(id)) left.classes.set(id, now);
    for (const id of last.sets.keys()) {
      if (image.sets.has(id)) left.sets.delete(id);
      else if (!left.sets.has(id)) left.sets.set(id, now);
    }
    left.strangers = last.strangers.length > 0;
    last.destinations4 = image.destinations4;
    last.destinations6 = image.destinations6;
    last.services = image.services;
    this.current = image;
    return plan.destinations4.remove.length + plan.destinations6.remove.length + services.remove.length;
  }

  /** Phase 4 for what was written up to a moment: entries as the Image in force says. @returns how many were wrong */
  private settle(moment: number): number {
    const image = this.current as Image;
    const { left, writer } = this;
    const split = <K extends number | string>(
      shown: Shown<K, number>,
      wanted: (key: K) => number | undefined,
    ): [DestinationWrite<K>[], K[]] => {
      const writes: DestinationWrite<K>[] = [];
      const gone: K[] = [];
      for (const [key, classId] of shown.until(moment)) {
        const to = wanted(key);
        if (to === undefined) gone.push(key);
        else if (to !== classId) writes.push({ key, classId: to });
        // Who found it there must be through before its rows go.
        if (!image.classes.has(classId) && this.inMaps.classes.has(classId)) left.classes.set(classId, left.now + 1);
      }
      return [writes, gone];
    };
    const [writes4, gone4] = split(left.destinations4, (key) => classAt(image.destinations4, key));
    const [writes6, gone6] = split(left.destinations6, (key) => classAt(image.destinations6, key));
    let n = writer.writeDestinations4(writes4) + writer.writeDestinations6(writes6);
    n += writer.removeDestinations4(gone4) + writer.removeDestinations6(gone6);
    const services = left.services.until(moment);
    n += writer.writeServices(services.flatMap(([key]) => image.services.get(key) ?? []));
    n += writer.removeServices(services.filter(([key]) => !image.services.has(key)).map(([, service]) => service));
    left.next(false);
    // Flows judged while destinations still showed their old atoms are judged once more.
    if (n > 0) this.bumpEpoch();
    return n;
  }

  private readBack(): void {
    this.inMaps = recover(this.maps, this.journal);
    this.rulesOf = undefined;
    this.left.clear();
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

  /** Phase 4, now: blocks, some tens of milliseconds, until packets that are being judged are through. Returns how many entries it changed. */
  tidy(): number {
    let n = 0;
    while (this.current && this.trusted && this.left.any) {
      const moment = this.left.now;
      sys.waitForPrograms();
      n += this.tidyUpTo(moment);
    }
    return n;
  }

  /** Phase 4 without blocking. Resolves when nothing is left; rejects with the kernel's word, and the next apply() reads the maps anew. */
  tidyLater(): Promise<void> {
    const all = async () => {
      while (this.current && this.trusted && (this.left.any || this.left.flipping) && !this.closed) {
        const moment = this.left.now;
        await sys.programsEnded();
        if (this.trusted && !this.closed) this.tidyUpTo(moment);
      }
    };
    this.tidying ??= all().finally(() => {
      this.tidying = undefined;
    });
    return this.tidying;
  }

  /** Every program that ran at this moment has ended. */
  private tidyUpTo(moment: number): number {
    const image = this.current as Image;
    const { left, inMaps } = this;
    left.passed(moment);
    this.trusted = false;
    let n = this.settle(moment);
    const sets = [...left.sets].filter(([, since]) => since <= moment).map(([id]) => id);
    for (const id of sets) {
      const set = inMaps.sets.get(id);
      if (set) n += this.writer.removeSet(set, inMaps.rows.get(id) ?? new Set());
      inMaps.sets.delete(id);
      inMaps.rows.delete(id);
      left.sets.delete(id);
    }
    const shown = left.shownClasses();
    const classes = [...left.classes].filter(([id, since]) => since <= moment && !shown.has(id)).map(([id]) => id);
    for (const [id, have] of classes.length > 0 ? inMaps.rows : []) {
      const old = classes.filter((c) => have.has(c));
      n += this.writer.removeClassRows(inMaps.sets.get(id) as PolicySet, old);
      for (const c of old) have.delete(c);
    }
    for (const id of classes) {
      inMaps.classes.delete(id);
      left.classes.delete(id);
    }
    for (const stranger of inMaps.strangers) if (!image.sets.has(stranger.set)) n += stranger.remove();
    inMaps.strangers = [];
    left.strangers = false;
    if (sets.length + classes.length > 0) this.journal?.keep(inMaps.sets, inMaps.classes);
    if (left.sets.size === 0) this.takeRules(image);
    this.trusted = true;
    return n;
  }

  verify(repair: boolean): string[] {
    if (!this.current) return [];
    this.tidy();
    const differences = verifyMaps(this.maps, this.current, this.endpoints, repair);
    // What was judged by what is mended now is judged again.
    if (repair && differences.length > 0) this.bumpEpoch();
    return differences;
  }

  fill(): MapFill[] {
    return Object.entries({ endpoints: () => this.endpoints.size, ...entriesOf(this.inMaps, this.left) }).map(
      ([name, entries]) => ({
        name,
        entries: entries(),
        max: this.maxOf(name),
      }),
    );
  }

  /** What is left of the last update is settled first: nobody else would, until the next agent comes. */
  close(): void {
    this.closed = true;
    if (this.left.any) this.tidy();
    this.endpoints.close();
  }

  private bumpEpoch(): void {
    Atomics.add(this.state, encode.EPOCH_WORD, 1);
  }

  private lack(step: Step): AgentError | undefined {
    return tooLarge(step, entriesOf(this.inMaps, this.left), (name) => this.maxOf(name));
  }

  private maxOf(name: string): number {
    return encode.map(this.maps, name).maxEntries;
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

/** What the endpoint's `set` field shall hold: the id with its flags; 0n where no policy selects it. */
function refOf(image: Image, binding: EndpointBinding): bigint {
  const key = binding.kind === 'uplink' ? NODE_SENDER : binding.key;
  const set = image.sets.get(image.endpoints.get(key) ?? 0);
  return set ? encode.setRef(set) : 0n;
}
