/**
 * KernelMapStore: brings the maps to the content of an Image.
 *
 * THE ORDER OF THE FOUR PHASES. A packet may be judged between any two writes below,
 * and the agent may be killed there; after each prefix of the sequence, the maps are a correct policy.
 *
 *   1 write    everything new under keys that nothing refers to yet: rules, port rows,
 *              class rows, also (old set × new class) and (new set × old class); the owners of
 *              new addresses, and new tunnels.
 *   2 flip     if there are new patterns of names, a matcher with the patterns of all sets in the maps
 *              and of the new ones, by one store: an old set finds the same rules under its classes as before;
 *              then a grace period, so that no program has a new set and a name's class by the old matcher.
 *              Services take the kinds of backends of both Images, destinations a class that
 *              holds their old and new atoms; then each endpoint takes its new set by one
 *              aligned 8-byte store. Before new Services, the epoch: packets remember classes.
 *   3 epoch    one store: flows judged under the old sets are judged again.
 *   4 settle   when the programs that ran at the flip have ended (an RCU grace period):
 *              destinations drop their old atoms (no packet reads an old set any more), then
 *              Services their old kinds, and addresses their old owners; rows of sets and classes without
 *              references are deleted, those of phase 2 after another grace period. When no old set is left,
 *              a matcher without its patterns takes over, unless they are few of many: its rows first, then one store.
 *
 * apply() does not wait for phase 4 (tidyLater() does it, or tidy(), which blocks): the next update plans from the
 * content of the maps. Entries have these states; + and − are the phases in which an entry enters and leaves a state.
 *
 *              recover()   1 write   2 flip   3 epoch   4 settle   field
 *   current    +           +         +                  +          inMaps: as in the Image in force, or outdated
 *   outdated                         +                  −          leftovers.destinations4 … tunnels: old and new
 *   unused                                    +         + −        leftovers.sets, classes, nodes, chunks: unreferenced
 *   stranger   +                                        −          inMaps.strangers: an earlier agent's, unknown
 *   unknown                +         +        +         +          consistent is false: after a throw
 *
 * The room that an update needs is known before the first write: TOO_LARGE changes nothing.
 */
import { AgentError } from '../../src/errors.js';
import { changedKeys } from '../../src/identity/shared-map.js';
import type { Image } from '../../src/image/types.js';
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
import { addToBooks, type Books, commit } from './commit.js';
import { NameMaps } from './name-maps.js';
import { MapWriter } from './writer.js';
import { Journal } from './books/journal.js';
import { recover, type RecoveredMaps } from './recovery.js';
import { entriesOf, tooLarge } from './room.js';
import { dropPatterns, removeUnused, settle, type SettleParts } from './settle.js';
import { type Step, stepTo } from './step.js';
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
  readonly #names: NameMaps;
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
    this.#names = new NameMaps(maps, this.#leftovers);
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
    return this.#leftovers.hasWork || this.#inMaps.strangers.length > 0 || this.#names.mayHaveSurplus;
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
    this.#names.makeRoom(step.names);
    const books = this.#books();
    addToBooks(books, image, batch);
    this.#consistent = false;
    if (!previous) this.#closeUnknown(image);

    // Phase 1: write.
    let written = this.#addressMaps.write(step.places) + this.#writer.writeSets(batch.sets);
    written += this.#writer.writeClassRows(batch.rows);
    this.#rowsComplete = true;

    this.#state.enableUplinkCheck(image);

    // Phase 2: flip. The matcher of names suits old and new sets; no program may judge by a new set and an old matcher.
    // Destinations before endpoints: a new set must find its atoms. Existing Services before destinations: their backends
    // must be distinguishable by old and by new classes.
    if (this.#names.show(step.names)) sys.waitForPrograms();
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
    const removed = commit(books, image, step, previous === undefined);
    this.#current = image;
    // Phase 4 at once, if no packet can depend on the old state.
    if (!this.#leftovers.flipPending && !this.#leftovers.addressesPending)
      settle(this.#settleParts(), this.#leftovers.moment);
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
    const names = this.#names;
    try {
      const step = stepTo({ inMaps, leftovers, ids, rowsComplete, places, names, endpoints }, image, changed, moving);
      const { http } = this.#writer;
      const entries = entriesOf(inMaps, leftovers, this.#addressMaps, this.#flat, names, http);
      return tooLarge(step, image, entries, (name) => this.#maxOf(name), this.#flat, names, http) ?? step;
    } catch (e) {
      // Patterns of names that are too many together, or no free id for a class.
      if (e instanceof AgentError) return e;
      throw e;
    }
  }

  #readBack(): void {
    this.#leftovers.clear();
    this.#inMaps = recover(this.#maps, this.#journal, this.#flat, this.#writer.filter);
    this.#addressMaps.readBack();
    this.#names.readBack();
  }

  #books(): Books {
    const [inMaps, leftovers, addressMaps, names] = [this.#inMaps, this.#leftovers, this.#addressMaps, this.#names];
    return { inMaps, leftovers, addressMaps, names, journal: this.#journal };
  }

  #settleParts(): SettleParts {
    return { books: this.#books(), writer: this.#writer, state: this.#state, image: this.#current as Image };
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
    const parts = this.#settleParts();
    const leftovers = this.#leftovers;
    leftovers.markPassed(moment);
    this.#flat.release(moment);
    this.#names.release(moment);
    this.#consistent = false;
    let n = settle(parts, moment);
    n += removeUnused(parts, moment);
    if (this.#names.mayHaveSurplus && leftovers.sets.size === 0 && !leftovers.flipPending)
      n += dropPatterns(parts, this.ids, (name) => this.#maxOf(name));
    this.#consistent = true;
    return n;
  }

  verify(repair: boolean): string[] {
    if (!this.#current) return [];
    this.tidy();
    const [flat, filter] = [this.#flat, this.#writer.filter];
    const wanted = this.#addressMaps.wanted;
    const { classes } = this.#names;
    const differences = verifyMaps(this.#maps, this.#current, this.#endpoints, wanted, repair, flat, filter, classes);
    const wrongNames = this.#names.differences();
    if (repair && wrongNames.length > 0) this.#names.repair(this.#inMaps, this.#current, this.ids);
    differences.push(...wrongNames);
    // Flows that were judged by the wrong entries are judged again.
    if (repair && differences.length > 0) this.#state.bumpEpoch();
    return differences;
  }

  fill(): MapFill[] {
    return Object.entries({
      endpoints: () => this.#endpoints.size,
      ...entriesOf(this.#inMaps, this.#leftovers, this.#addressMaps, this.#flat, this.#names, this.#writer.http),
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
}
