/**
 * KernelMapStore: brings the maps to the content of an Image.
 *
 * THE ORDER OF THE FOUR PHASES. A packet may be judged between any two writes below,
 * and the agent may be killed there; after each prefix of the sequence, the maps are a correct policy.
 *
 *   1 write    everything new under keys that nothing refers to yet: rules, port rows,
 *              class rows, also (old set × new class) and (new set × old class); the owners of
 *              new addresses, and new tunnels.
 *   2 flip     Services take the kinds of backends of both Images, destinations a class that
 *              holds their old and new atoms; then each endpoint takes its new set by one
 *              aligned 8-byte store. Before new Services, the epoch: packets remember classes.
 *   3 epoch    one store: flows judged under the old sets are judged again.
 *   4 settle   when the programs that ran at the flip have ended (an RCU grace period):
 *              destinations drop their old atoms (no packet reads an old set any more), then
 *              Services their old kinds, and addresses their old owners; rows of sets and classes without
 *              references are deleted, those of phase 2 after another grace period.
 *
 * apply() does not wait for phase 4 (tidyLater() does it, or tidy(), which blocks): the next update plans from the
 * content of the maps. Entries have these states; + and − are the phases in which an entry enters and leaves a state.
 *
 *              recover()   1 write   2 flip   3 epoch   4 settle   field
 *   current    +           +         +                  +          inMaps: as in the Image in force, or outdated
 *   outdated                         +                  −          leftovers.destinations4 … tunnels: old and new
 *   unused                                    +         + −        leftovers.sets, classes, nodes: without references
 *   stranger   +                                        −          inMaps.strangers: an earlier agent's, unknown
 *   unknown                +         +        +         +          consistent is false: after a throw
 *
 * The room that an update needs is known before the first write: TOO_LARGE changes nothing.
 */
import { AgentError } from '../../src/errors.js';
import { classAt } from '../../src/image/edited.js';
import { changedKeys } from '../../src/identity/shared-map.js';
import type { Image, PolicySet } from '../../src/image/types.js';
import type { RuleRef } from '../../src/ir/types.js';
import { type Ids, PLAIN_IDS } from '../../src/ids.js';
import type { ApplyResult, EndpointBinding, MapFill, MapStore } from '../../src/image/store.js';
import { AddressMaps } from './address-maps.js';
import * as encode from './tables/encode.js';
import { EndpointTable } from './tables/endpoint-table.js';
import { FlatTrie } from './tables/flat-trie.js';
import { Leftovers } from './books/leftovers.js';
import type { BpfMap } from '../kernel/libbpf/map.js';
import { sys } from '../kernel/libbpf/sys.js';
import { clashOf, idsInMaps } from './clash.js';
import { MapWriter } from './writer.js';
import { Journal } from './books/journal.js';
import { recover, type RecoveredMaps } from './recovery.js';
import { entriesOf, tooLarge } from './room.js';
import { type Batch, type Step, stepTo, planSettle } from './step.js';
import { verifyMaps } from './verify.js';
import { StateWords } from './tables/state-words.js';

export type Maps = Record<string, BpfMap>;

export interface MapStoreOptions {
  /** Directory of the journal, for the next agent; undefined: none. */
  statePath?: string;
  /** Denied packets are answered instead of dropped. */
  reject?: boolean;
  /** Ids of contents that are not in the maps yet; by default the public ones. */
  ids?: Ids;
}

export class KernelMapStore implements MapStore {
  readonly #maps: Maps;
  readonly #writer: MapWriter;
  readonly #endpoints: EndpointTable;
  readonly #state: StateWords;
  readonly #journal: Journal | undefined;
  #inMaps: RecoveredMaps;
  /** Ids that an Image for apply() must use. */
  readonly ids: Ids;
  #current: Image | undefined;
  #bindings: readonly EndpointBinding[] = [];
  /** The bookkeeping matches the maps. */
  #consistent = true;
  /** Every set has a row for every class that needs one; unknown for sets that an earlier agent wrote. */
  #rowsComplete = false;
  readonly #leftovers = new Leftovers();
  readonly #flat: FlatTrie;
  readonly #addressMaps: AddressMaps;
  #tidyRun: Promise<void> | undefined;
  #closed = false;

  constructor(maps: Maps, opts: MapStoreOptions = {}) {
    this.#maps = maps;
    this.#flat = new FlatTrie(maps, this.#leftovers);
    this.#writer = new MapWriter(maps, this.#flat);
    this.#endpoints = new EndpointTable(
      encode.map(maps, 'endpoints'),
      encode.map(maps, 'endpoints_more'),
      encode.map(maps, 'sources'),
      opts.reject ?? false,
    );
    this.#state = new StateWords(encode.map(maps, 'state'));
    this.#addressMaps = new AddressMaps(maps, this.#writer, this.#leftovers);
    this.#journal = opts.statePath === undefined ? undefined : new Journal(opts.statePath);
    this.#inMaps = recover(maps, this.#journal, this.#flat, this.#writer.filter);
    this.ids = idsInMaps(this.#inMaps, opts.ids ?? PLAIN_IDS);
  }

  /** Endpoint ids by interface, also those of an earlier agent. */
  get endpointIds(): ReadonlyMap<number, number> {
    return this.#endpoints.ids();
  }

  /** The slot of `endpoints` that an interface has; undefined if this agent gave it none. */
  slotOf(ifindex: number): number | undefined {
    return this.#endpoints.slot(ifindex);
  }

  /** Policy epoch that packets compare their flows with. */
  get epoch(): number {
    return this.#state.epoch;
  }

  /** Packets find the Image in force in all maps: tidy() has nothing to do but deletions. */
  get settled(): boolean {
    return !this.#leftovers.hasOutdated;
  }

  /** Phase 4 has something to settle or to delete. */
  get #hasLeftovers(): boolean {
    return this.#leftovers.hasWork || this.#inMaps.strangers.length > 0;
  }

  /** Names of an earlier agent's rules, for events of flows that it judged. */
  get recoveredRules(): ReadonlyMap<number, RuleRef> {
    return this.#inMaps.rules.names;
  }

  apply(image: Image, bindings: readonly EndpointBinding[]): ApplyResult {
    const start = performance.now();
    // The last apply() threw half-way: the bookkeeping is ahead of the maps. Read the maps again.
    if (!this.#consistent) this.#readBack();
    for (const id of this.#inMaps.unknownClasses) {
      // Its rows may be incomplete: a new class gets all of them.
      if (image.classes.has(id)) this.#inMaps.classes.delete(id);
    }
    this.#inMaps.unknownClasses.clear();
    const previous = this.#consistent ? this.#current : undefined;
    if (!previous) this.#rowsComplete = false;
    const unchanged =
      previous?.endpoints === image.endpoints && previous.sets === image.sets && bindings === this.#bindings;
    if (!unchanged) this.#endpoints.checkRoom(bindings);
    let step = this.#planStep(image, previous, unchanged ? [] : bindings, bindings);
    if (step instanceof AgentError && this.#hasLeftovers) {
      // Deleting leftovers makes room, and frees their ids.
      this.tidy();
      step = this.#planStep(image, previous, unchanged ? [] : bindings, bindings);
    }
    if (step instanceof AgentError) throw step;
    const { batch, plan, services, wanted } = step;
    this.#flat.makeRoom(plan.destinations4.before);
    this.#addToBooks(image, batch);
    this.#consistent = false;
    if (!previous) this.#closeUnknown(image);

    // Phase 1: write.
    let written = this.#addressMaps.write(step.places) + this.#writer.writeSets(batch.sets);
    written += this.#writer.writeClassRows(batch.rows);
    this.#rowsComplete = true;

    this.#state.enableUplinkCheck(image);

    // Phase 2: flip. Destinations before endpoints: a new set must find its atoms. Existing Services before
    // destinations: their backends must be distinguishable by old and by new classes.
    written += this.#writer.writeServices(services.early);
    const moved = this.#writer.writeDestinations(plan.destinations4.before, plan.destinations6.before);
    this.#state.forgetClasses(moved, step.mayReadOldSets ? [] : services.before);
    written += moved + this.#writer.writeServices(services.before);
    let endpointsChanged = false;
    for (const [binding, ref] of wanted) if (this.#endpoints.put(binding, ref)) endpointsChanged = true;

    // Phase 3: epoch. Also if an earlier apply() or an earlier agent may have ended before its own phase 3.
    if (written > 0 || endpointsChanged || services.remove.length > 0 || !previous) this.#state.bumpEpoch();

    const removedEndpoints = unchanged ? 0 : this.#endpoints.retain(bindings);
    if (removedEndpoints > 0) this.#state.bumpEpoch();
    this.#bindings = bindings;
    const removed = this.#commit(image, step, previous === undefined);
    // Phase 4 at once, if no packet can depend on the old state.
    if (!this.#leftovers.flipPending && !this.#leftovers.addressesPending) this.#settle(this.#leftovers.moment);
    this.#consistent = true;
    return { written, deleted: removedEndpoints + removed, millis: performance.now() - start };
  }

  /**
   * Plans the step to an Image. @returns the step, or the error why it is impossible
   * @param moving bindings whose set may have to change
   */
  #planStep(
    image: Image,
    previous: Image | undefined,
    moving: readonly EndpointBinding[],
    bindings: readonly EndpointBinding[],
  ): Step | AgentError {
    // After a complete apply(), the maps are as its Image: only the differences need writing.
    const changed = previous ? changedKeys(previous.classes, image.classes) : [...image.classes.keys()];
    const clash = clashOf(this.#inMaps, image, changed);
    if (clash) return clash;
    const [inMaps, leftovers] = [this.#inMaps, this.#leftovers];
    const { ids } = this;
    const [rowsComplete, endpoints] = [this.#rowsComplete, this.#endpoints];
    const places = this.#addressMaps.plan(image, bindings);
    const step = stepTo({ inMaps, leftovers, ids, rowsComplete, places, endpoints }, image, changed, moving);
    const entries = entriesOf(inMaps, leftovers, this.#addressMaps, this.#flat);
    return tooLarge(step, image, entries, (name) => this.#maxOf(name), this.#flat) ?? step;
  }

  /** Records an Image that is in force, and the leftovers in the maps. @returns number of entries to delete */
  #commit(image: Image, { plan, services, places, flips, changed }: Step, afterRestart: boolean): number {
    const leftovers = this.#leftovers;
    const inMaps = this.#inMaps;
    const moment = leftovers.next(flips);
    const same4 = (key: number) => classAt(inMaps.destinations4, key) === classAt(image.destinations4, key);
    const same6 = (key: string) => classAt(inMaps.destinations6, key) === classAt(image.destinations6, key);
    const unusedClasses = [
      ...leftovers.destinations4.replace(plan.destinations4.shown, moment, same4),
      ...leftovers.destinations6.replace(plan.destinations6.shown, moment, same6),
      ...(afterRestart ? inMaps.classes.keys() : changed),
      ...plan.transitional.keys(),
    ];
    this.#addressMaps.commit(places, image, moment);
    leftovers.services.replace(services.shown, moment, (key) => inMaps.services.get(key) === image.services.get(key));
    for (const id of leftovers.classes.keys()) if (image.classes.has(id)) leftovers.classes.delete(id);
    for (const id of unusedClasses)
      if (inMaps.classes.has(id) && !image.classes.has(id)) leftovers.classes.set(id, moment);
    for (const id of inMaps.sets.keys()) {
      if (image.sets.has(id)) leftovers.sets.delete(id);
      else if (!leftovers.sets.has(id)) leftovers.sets.set(id, moment);
    }
    inMaps.destinations4 = image.destinations4;
    inMaps.destinations6 = image.destinations6;
    inMaps.services = image.services;
    this.#current = image;
    return plan.destinations4.remove.length + plan.destinations6.remove.length + services.remove.length;
  }

  /** Settles what was written up to a moment: entries become as in the Image in force. @returns how many changed */
  #settle(moment: number): number {
    const image = this.#current as Image;
    const [leftovers, writer] = [this.#leftovers, this.#writer];
    const settled4 = planSettle(leftovers.destinations4, moment, (key) => classAt(image.destinations4, key));
    const settled6 = planSettle(leftovers.destinations6, moment, (key) => classAt(image.destinations6, key));
    for (const id of [...settled4.shown, ...settled6.shown]) {
      // Packets that found this class must be judged before its rows are deleted.
      if (!image.classes.has(id) && this.#inMaps.classes.has(id)) leftovers.classes.set(id, leftovers.moment + 1);
    }
    let n = writer.writeDestinations(settled4.writes, settled6.writes);
    n += writer.removeDestinations(settled4.removals, settled6.removals);
    const services = leftovers.services.takeUntil(moment);
    this.#state.forgetClasses(n, services);
    n += writer.writeServices(services.flatMap(([key]) => image.services.get(key) ?? []));
    n += this.#addressMaps.settle(moment);
    n += writer.removeServices(services.filter(([key]) => !image.services.has(key)).map(([, service]) => service));
    leftovers.next(false);
    // Flows that were judged while destinations still had their old atoms are judged again.
    if (n > 0) this.#state.bumpEpoch();
    return n;
  }

  #readBack(): void {
    this.#leftovers.clear();
    this.#inMaps = recover(this.#maps, this.#journal, this.#flat, this.#writer.filter);
    this.#addressMaps.readBack();
  }

  /**
   * Empties the slots of an earlier agent's interfaces without hooks. Call it when all pods of this node are bound.
   * `hooked`: interfaces with hooks. Returns how many.
   */
  dropStrangers(hooked: ReadonlySet<number>): number {
    const strangers = this.#endpoints.strangers().filter((ifindex) => !hooked.has(ifindex));
    for (const ifindex of strangers) this.#endpoints.clear(ifindex);
    this.#addressMaps.dropStrangers(hooked);
    return strangers.length;
  }

  /** Phase 4, now: blocks for grace periods, some tens of milliseconds each. Returns how many entries it changed. */
  tidy(): number {
    let n = 0;
    while (this.#current && this.#consistent && this.#hasLeftovers) {
      const moment = this.#leftovers.moment;
      sys.waitForPrograms();
      n += this.#tidyUpTo(moment);
    }
    return n;
  }

  /** Phase 4 without blocking. Resolves when all is done; rejects with KERNEL, and the next apply() reads the maps. */
  tidyLater(): Promise<void> {
    const tidyAll = async () => {
      const isPending = () => this.#hasLeftovers || this.#leftovers.flipPending;
      while (this.#current && this.#consistent && isPending() && !this.#closed) {
        const moment = this.#leftovers.moment;
        await sys.programsEnded();
        if (this.#consistent && !this.#closed) this.#tidyUpTo(moment);
      }
    };
    this.#tidyRun ??= tidyAll().finally(() => {
      this.#tidyRun = undefined;
    });
    return this.#tidyRun;
  }

  /** Phase 4 for one moment: every program that ran then has ended. @returns how many entries it changed */
  #tidyUpTo(moment: number): number {
    const image = this.#current as Image;
    const [leftovers, inMaps] = [this.#leftovers, this.#inMaps];
    leftovers.markPassed(moment);
    this.#flat.release(moment);
    this.#consistent = false;
    let n = this.#settle(moment);
    const sets = [...leftovers.sets].filter(([, since]) => since <= moment).map(([id]) => id);
    for (const id of sets) {
      const set = inMaps.sets.get(id);
      if (set) n += this.#writer.removeSet(set, inMaps.rows.get(id) ?? new Set());
      inMaps.sets.delete(id);
      inMaps.rows.delete(id);
      leftovers.sets.delete(id);
    }
    const inUse = leftovers.outdatedClasses();
    const classes = [...leftovers.classes].filter(([id, since]) => since <= moment && !inUse.has(id)).map(([id]) => id);
    for (const [id, have] of classes.length > 0 ? inMaps.rows : []) {
      const removable = classes.filter((c) => have.has(c));
      n += this.#writer.removeClassRows(inMaps.sets.get(id) as PolicySet, removable);
      for (const c of removable) have.delete(c);
    }
    for (const id of classes) {
      inMaps.classes.delete(id);
      leftovers.classes.delete(id);
    }
    for (const stranger of inMaps.strangers) if (!image.sets.has(stranger.set)) n += stranger.remove();
    inMaps.strangers = [];
    if (sets.length + classes.length > 0) this.#journal?.keep(inMaps.sets, inMaps.classes);
    if (leftovers.sets.size === 0) inMaps.rules.keepOnly(image.rules);
    this.#consistent = true;
    return n;
  }

  verify(repair: boolean): string[] {
    if (!this.#current) return [];
    this.tidy();
    const [flat, filter] = [this.#flat, this.#writer.filter];
    const wanted = this.#addressMaps.wanted;
    const differences = verifyMaps(this.#maps, this.#current, this.#endpoints, wanted, repair, flat, filter);
    // Flows that were judged by the wrong entries are judged again.
    if (repair && differences.length > 0) this.#state.bumpEpoch();
    return differences;
  }

  fill(): MapFill[] {
    return Object.entries({
      endpoints: () => this.#endpoints.size,
      ...entriesOf(this.#inMaps, this.#leftovers, this.#addressMaps, this.#flat),
    }).map(([name, entries]) => ({
      name,
      entries: entries(),
      max: this.#maxOf(name),
    }));
  }

  /** Settles the leftovers first: otherwise they would stay until the next agent starts. */
  close(): void {
    this.#closed = true;
    if (this.#hasLeftovers) this.tidy();
    this.#endpoints.close();
  }

  /**
   * Closes the endpoints whose sets are unknown (the journal is lost), until they have new sets. Otherwise such a set
   * would be applied to new classes for which it has no rows.
   */
  #closeUnknown(image: Image): void {
    const isKnown = (id: number) => this.#inMaps.sets.has(id) || image.sets.has(id);
    if (this.#endpoints.closeUnless(isKnown) === 0) return;
    this.#state.bumpEpoch();
    sys.waitForPrograms();
  }

  #maxOf(name: string): number {
    return encode.map(this.#maps, name).maxEntries;
  }

  /** Records new content, in the journal first: after a crash, the next agent must know what the maps may contain. */
  #addToBooks(image: Image, batch: Batch): void {
    const { sets, classes, rows } = this.#inMaps;
    this.#journal?.add(batch.sets, [...batch.classes], image.rules);
    for (const set of batch.sets) {
      sets.set(set.id, set);
      rows.set(set.id, new Set());
    }
    for (const [id, atoms] of batch.classes) classes.set(id, atoms);
    for (const { set, classId } of batch.rows) (rows.get(set.id) as Set<number>).add(classId);
    this.#inMaps.rules.add(image.rules);
  }
}
