/**
 * compile(): translates IR and Snapshot to an Image. The result depends on these two alone. What the compiler remembers
 * only saves work: an event costs as much as it changes, independently of the cluster's size.
 *
 * 1. For each local pod, the policies that select it, tier by tier      (select.ts)
 * 2. The policy set of each list of policies, built once per list       (sets.ts)
 * 3. The addresses that belong to the atoms of the sets in force        (atoms/)
 * 4. Disjoint destination classes: CIDR blocks, single addresses above  (destinations/)
 * 5. Services as one backend for each kind of backend                   (services.ts)
 * 6. The nodes' addresses, and the tunnels that nodes unwrap            (nodes.ts)
 */
import { sameList } from '../identity/unchanged.js';
import type { Ir, IrPolicy } from '../ir/types.js';
import type { Snapshot } from '../identity/snapshot.js';
import { NODE_SENDER } from '../ir/sender.js';
import { tunnelTable } from '../net/tunnels.js';
import { SetFault } from '../image/fault.js';
import { type Ids, PLAIN_IDS } from '../ids.js';
import type { Image, Refusal } from '../image/types.js';
import { formatPolicy } from '../ir/names.js';
import { DestinationTable } from './destinations/destinations.js';
import { Members } from './atoms/members.js';
import { NamedClasses } from './named-classes.js';
import { NodeTable } from './nodes.js';
import { Selector } from './select.js';
import { ServiceTable } from './services.js';
import { type BuiltSet, type Refused, type Selection, SetBuilder } from './sets.js';
import { NOTHING, type Sum, summed } from './sum.js';
import { World, type WorldChanges } from './atoms/world.js';

const numbers = new WeakMap<object, number>();
let nextNumber = 1;

/** A number for a policy object. Dialects return the same object for an unchanged policy. */
function numberOf(it: IrPolicy): number {
  let n = numbers.get(it);
  if (n === undefined) numbers.set(it, (n = nextNumber++));
  return n;
}

const keys = new WeakMap<readonly Selection[], string>();

/** A key of a list of policies together with the defaults of their tiers: the same list has the same key. */
function keyOf(selections: readonly Selection[]): string {
  let key = keys.get(selections);
  if (key === undefined) {
    const parts = selections.map(({ tier, policies }) => [
      ...[tier.name, tier.defaultAction],
      ...policies.map(numberOf),
    ]);
    key = JSON.stringify(parts);
    keys.set(selections, key);
  }
  return key;
}

/** A set that denies everything. Its id is reserved, below all ids of contents, so no other set can have it. */
function closedSet(id: number, kind: string): BuiltSet {
  const selection: Selection = {
    tier: { name: 'start', order: 0, policies: [], defaultAction: 'deny' },
    policies: [
      {
        ref: { dialect: 'egress-agent', kind, name: 'pod' },
        subject: { namespaces: { names: [] }, pods: { op: 'true' } },
        rules: [],
        staged: false,
      },
    ],
  };
  return new SetBuilder({ of: () => id }).build([selection], new World()) as BuiltSet;
}

/** For a pod if none of its sets can be in force, not even the defaults of its tiers. */
const REFUSED = closedSet(1, 'Refused');
/** For an interface until its owner is known. */
const STARTING = closedSet(2, 'Starting');
/** For interfaces that are closed, by reason (agent/endpoints/resolver.ts). */
const CLOSED: ReadonlyMap<string, BuiltSet> = new Map([
  ['starting', STARTING],
  ['conflict', closedSet(3, 'Conflict')],
  ['orphaned', closedSet(4, 'Orphaned')],
]);

/** The set of a closed interface. @param key `(why)/interface` */
function closedAs(key: string): BuiltSet {
  return CLOSED.get(/^\((.*?)\)/.exec(key)?.[1] ?? '') ?? STARTING;
}

/** Maximum number of policies that are listed in the message about a refused set. */
const NAMED = 3;

/** The choice of sets for the local pods; the same object while nothing that decides it has changed. */
interface Chosen {
  readonly ir: Ir;
  readonly local: readonly string[];
  readonly closed: readonly string[];
  readonly keys: ReadonlySet<string>;
  readonly endpoints: ReadonlyMap<string, number>;
  readonly refused: Image['refused'];
  /** The selections of each pod. If its set is refused: its last complete selections. */
  readonly complete: ReadonlyMap<string, readonly Selection[]>;
}

/** A set with the selections that it was built from. */
interface Keyed extends BuiltSet {
  readonly key: string;
  readonly selections: readonly Selection[];
}

/** Compiles Images. Between compilations it remembers tables, and the last complete sets of refused pods. */
export class Compiler {
  readonly #ids: Ids;
  readonly #builder: SetBuilder;
  readonly #selector = new Selector();
  #tables: ReturnType<typeof makeTables>;
  #sets = new Map<string, Keyed>();
  #sum: Sum = NOTHING;
  #chosen: Chosen | undefined;
  /** The choice of the last Image. It is assumed to be in force unless refuse() is called. */
  #offered: Chosen | undefined;
  #lastComplete: Chosen['complete'] = new Map();
  #inForce: readonly BuiltSet[] = [];
  /** Sets that are left out, by the key of their selections, with the reasons. */
  readonly #faults = new Map<string, string>();

  /** @param ids makes the ids under which the kernel knows sets, classes and rules */
  constructor(ids: Ids = PLAIN_IDS) {
    this.#ids = ids;
    this.#builder = new SetBuilder(ids);
    this.#tables = makeTables(ids);
  }

  /**
   * Compiles an Image. Sets that cannot be in force are listed in `refused` with their pods; all others are in force.
   * @param local `namespace/name` of the pods that this node enforces, and NODE_SENDER if it enforces its own traffic
   * @param closed `(why)/interface` of endpoints that may reach nothing, because no pod or several pods claim them
   */
  compile(ir: Ir, snapshot: Snapshot, local: readonly string[], closed: readonly string[] = []): Image {
    this.#takeOver();
    for (let fromScratch = false; ; fromScratch = true) {
      try {
        const image = this.#update(ir, snapshot, local, closed);
        this.#offered = this.#chosen;
        return image;
      } catch (e) {
        // The tables may have taken the change over only partly, so the next compilation starts from scratch.
        this.#tables = makeTables(this.#ids);
        this.#sets = new Map();
        this.#chosen = undefined;
        if (!(e instanceof SetFault)) throw e;
        // One of the two classes of a clash may be of the last compilation alone. Then no set of this one causes it.
        if (fromScratch && !this.#leaveOut(e)) throw e;
      }
    }
  }

  /**
   * Reports that the last Image cannot be put in force. The next one leaves out the set that caused the fault. @returns
   * whether there is such a set
   */
  refuse(fault: SetFault): boolean {
    this.#offered = undefined;
    this.#chosen = undefined;
    return this.#leaveOut(fault);
  }

  /** Makes the next compilation try the sets again that were left out. @returns whether there are any */
  retry(): boolean {
    if (this.#faults.size === 0) return false;
    this.#faults.clear();
    this.#chosen = undefined;
    return true;
  }

  /** Records that the last Image is in force. */
  #takeOver(): void {
    if (!this.#offered) return;
    this.#lastComplete = this.#offered.complete;
    this.#inForce = this.#sum.built;
    this.#offered = undefined;
  }

  /** Leaves out one of the sets that cause a fault: the newest one, or the first one named. */
  #leaveOut({ blamed, message, hint }: SetFault): boolean {
    const built = this.#keyed();
    let found: Keyed | undefined;
    if ('sets' in blamed) {
      for (const id of blamed.sets) found ??= built.find(({ set }) => set.id === id);
    } else {
      const [one, other] = blamed.classes.map((atoms) => new Set(atoms)) as [Set<string>, Set<string>];
      const having = built.filter(({ atoms }) => atoms.some(({ id }) => one.has(id) !== other.has(id)));
      const old = new Set(this.#inForce.map((one) => ('key' in one ? one.key : undefined)));
      found = having.findLast(({ key }) => !old.has(key)) ?? having.at(-1);
    }
    if (!found) return false;
    this.#fault(found, hint === undefined ? message : `${message} — ${hint}`);
    return true;
  }

  #fault({ key, selections }: Keyed, why: string): void {
    const policies = selections.flatMap((s) => s.policies.map((p) => formatPolicy(p.ref)));
    const more = policies.length > NAMED ? ` and ${policies.length - NAMED} more` : '';
    this.#faults.set(key, `${policies.slice(0, NAMED).join(', ')}${more}: ${why}`);
  }

  /** The sets of the last choice that were built from policies. */
  #keyed(): readonly Keyed[] {
    return this.#sum.built.filter((one): one is Keyed => 'key' in one);
  }

  #update(ir: Ir, snapshot: Snapshot, local: readonly string[], closed: readonly string[]): Image {
    const { world, members, destinations, named, services, nodes } = this.#tables;
    const changes = world.update(snapshot);
    const before = this.#chosen;
    const { endpoints, refused } = this.#choose(ir, snapshot, local, closed, changes);
    const same = this.#chosen === before;
    const touched = members.update(world, changes, this.#sum.predicates);
    const { swept, ...moved } = destinations.update(this.#sum.atoms, members, touched);
    const all = named.update(this.#sum.sets.values(), swept.classes) || moved.all;
    const kinds = {
      ...moved,
      all,
      classOf: (ip: string) => destinations.classOf(ip),
      named: (id: number) => named.has(id),
    };
    const places = { nodes: nodes.update(snapshot, changes.nodes), tunnels: tunnelTable(snapshot.tunnels) };
    return {
      sets: this.#sum.sets,
      rules: this.#sum.rules,
      ...swept,
      services: services.update({ snapshot, ...kinds, local, moved: !same || changes.nodes, ...places }),
      refusedServices: services.refused,
      ...places,
      endpoints,
      refused,
    };
  }

  /** Chooses the sets of the local pods, and sums them up in this.sum. */
  #choose(
    ir: Ir,
    snapshot: Snapshot,
    local: readonly string[],
    closed: readonly string[],
    changes: WorldChanges,
  ): Chosen {
    const last = this.#chosen;
    const holds =
      last?.ir === ir &&
      sameList(last.local, local) &&
      sameList(last.closed, closed) &&
      !changes.namespaces &&
      changes.portNames.size === 0 &&
      !(changes.nodes && last.keys.has(NODE_SENDER)) &&
      !changes.pods.some((key) => last.keys.has(key));
    if (holds) return last;
    const selected = this.#selector.select(ir, snapshot, [...local].sort());
    const kept = new Map<string, Keyed>();
    const requested = new Set<string>();
    const build = (selections: readonly Selection[]) => {
      if (this.#faults.size > 0) requested.add(keyOf(selections));
      return this.#build(selections, kept, changes);
    };
    for (;;) {
      const { used, ...choice } = this.#draft(selected, closed, build);
      const sum = sameList(used, this.#sum.built) ? this.#sum : summed(used, this.#sum);
      if ('clash' in sum) {
        for (const one of sum.clash) this.#fault(one as Keyed, sum.why);
        continue;
      }
      this.#sum = sum;
      this.#sets = kept;
      for (const key of this.#faults.keys()) if (!requested.has(key)) this.#faults.delete(key);
      this.#chosen = { ir, local: [...local], closed: [...closed], keys: new Set(local), ...choice };
      return this.#chosen;
    }
  }

  /** A first choice of the set for each sender. */
  #draft(
    selected: ReadonlyMap<string, readonly Selection[]>,
    closed: readonly string[],
    build: (selections: readonly Selection[]) => Keyed | Refused,
  ): Pick<Chosen, 'endpoints' | 'refused' | 'complete'> & { used: readonly BuiltSet[] } {
    const endpoints = new Map<string, number>();
    const refused = new Map<string, Refusal>();
    const complete = new Map<string, readonly Selection[]>();
    const used = new Set<BuiltSet>();
    for (const [key, selections] of selected) {
      let built: BuiltSet | Refused | undefined = selections.length === 0 ? undefined : build(selections);
      if (built && 'refused' in built) {
        const policies = selections.flatMap((s) => s.policies.map((p) => p.ref));
        refused.set(key, { reason: built.refused, policies });
        built = this.#fallback(key, selections, build);
        const last = this.#lastComplete.get(key);
        if (last) complete.set(key, last);
      } else complete.set(key, selections);
      endpoints.set(key, built?.set.id ?? 0);
      if (built) used.add(built);
    }
    for (const key of closed) {
      const built = closedAs(key);
      endpoints.set(key, built.set.id);
      used.add(built);
    }
    return { endpoints, refused, complete, used: [...used] };
  }

  #build(selections: readonly Selection[], kept: Map<string, Keyed>, changes: WorldChanges): Keyed | Refused {
    const key = keyOf(selections);
    const fault = this.#faults.get(key);
    if (fault !== undefined) return { refused: fault };
    const now = kept.get(key);
    if (now) return now;
    const before = this.#sets.get(key);
    if (before && !before.portNames.some((name) => changes.portNames.has(name))) {
      kept.set(key, before);
      return before;
    }
    const built = this.#builder.build(selections, this.#tables.world);
    if ('refused' in built) return built;
    const keyed = { ...built, key, selections };
    kept.set(key, keyed);
    return keyed;
  }

  /**
   * The last complete set (undefined if no policy selected the pod). For a pod that never had one, the set with only
   * the tiers' defaults, so that the pod is closed instead of open.
   */
  #fallback(
    key: string,
    selections: readonly Selection[],
    build: (selections: readonly Selection[]) => Keyed | Refused,
  ): BuiltSet | undefined {
    const last = this.#lastComplete.get(key);
    for (const candidate of last ? [last, defaultsOf(selections)] : [defaultsOf(selections)]) {
      if (candidate.length === 0) return undefined;
      const built = build(candidate);
      if (!('refused' in built)) return built;
    }
    return REFUSED;
  }
}

const defaults = new WeakMap<readonly Selection[], readonly Selection[]>();

/** The selections without the rules that users wrote. */
function defaultsOf(selections: readonly Selection[]): readonly Selection[] {
  let found = defaults.get(selections);
  if (!found) {
    found = selections.map((s) => ({
      tier: s.tier,
      policies: s.policies.slice(0, 1).map((p) => ({ ...p, rules: [] })),
    }));
    defaults.set(selections, found);
  }
  return found;
}

function makeTables(ids: Ids) {
  return {
    world: new World(),
    members: new Members(),
    destinations: new DestinationTable(ids),
    named: new NamedClasses(),
    services: new ServiceTable(),
    nodes: new NodeTable(),
  };
}
