/**
 * compile(): IR and Snapshot → Image. What it returns depends on these alone; what it remembers only saves work:
 * an event costs as much as it changes, not as much as the cluster is large.
 *
 * 1. For each local pod, the policies that select it, tier by tier      (select.ts)
 * 2. The same list of policies is the same set: built once              (sets.ts)
 * 3. The addresses that belong to the atoms of the sets in force        (world.ts, members.ts)
 * 4. Disjoint destination classes: CIDR blocks, single addresses above  (blocks.ts, destinations.ts)
 * 5. Services as one backend for each kind of backend                   (services.ts)
 */
import type { Ir, IrPolicy, RuleRef } from '../ir/types.js';
import type { Snapshot } from '../identity/snapshot.js';
import { NODE_SENDER } from '../ir/sender.js';
import type { Image, PolicySet } from '../image/types.js';
import type { Atom } from './atoms.js';
import { DestinationTable } from './destinations.js';
import { Members } from './members.js';
import { Selector } from './select.js';
import { ServiceTable } from './services.js';
import { type BuiltSet, buildSet, type Selection } from './sets.js';
import { World, type WorldChanges } from './world.js';

const numbers = new WeakMap<object, number>();
let nextNumber = 1;

/** Dialects keep the identity of what is unchanged. */
function numberOf(it: IrPolicy): number {
  let n = numbers.get(it);
  if (n === undefined) numbers.set(it, (n = nextNumber++));
  return n;
}

const keys = new WeakMap<readonly Selection[], string>();

/** Names a list of policies, with what their tiers add: the same list, the same text. */
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

/** A pod that starts where a policy may isolate it: nothing passes until it is known which pod it is. */
const NOT_KNOWN_YET: readonly Selection[] = [
  {
    tier: { name: 'start', order: 0, policies: [], defaultAction: 'deny' },
    policies: [
      {
        ref: { dialect: 'egress-agent', kind: 'Starting', name: 'pod' },
        subject: { namespaces: { names: [] }, pods: { op: 'true' } },
        rules: [],
        staged: false,
      },
    ],
  },
];

/** What the sets in force amount to; the same object while they are the same. */
interface Sum {
  readonly built: readonly BuiltSet[];
  readonly sets: ReadonlyMap<number, PolicySet>;
  readonly rules: ReadonlyMap<number, RuleRef>;
  readonly atoms: readonly Atom[];
  readonly predicates: ReadonlyMap<number, Atom>;
}

/** Which set each local pod has: the same object while nothing that decides it has changed. */
interface Chosen {
  readonly ir: Ir;
  readonly local: readonly string[];
  readonly closed: readonly string[];
  readonly keys: ReadonlySet<string>;
  readonly endpoints: ReadonlyMap<string, number>;
  readonly refused: ReadonlyMap<string, string>;
}

/** Remembers between compilations, also what a refused pod had before. */
export class Compiler {
  private readonly selector = new Selector();
  private tables = makeTables();
  private sets = new Map<string, BuiltSet>();
  private sum: Sum = summed([]);
  private chosen: Chosen | undefined;
  private readonly lastComplete = new Map<string, readonly Selection[]>();

  /**
   * @param local `namespace/name` of the pods that this node enforces, and NODE_SENDER where it enforces its own
   * @param closed endpoints whose pod is not known yet, and that may reach nothing until it is
   * @throws AgentError HASH_COLLISION, TOO_LARGE
   */
  compile(ir: Ir, snapshot: Snapshot, local: readonly string[], closed: readonly string[] = []): Image {
    try {
      return this.update(ir, snapshot, local, closed);
    } catch (e) {
      // Some tables have taken the change over, others have not: the next compilation begins from nothing.
      this.tables = makeTables();
      this.sets = new Map();
      this.chosen = undefined;
      throw e;
    }
  }

  private update(ir: Ir, snapshot: Snapshot, local: readonly string[], closed: readonly string[]): Image {
    const { world, members, destinations, services } = this.tables;
    const changes = world.update(snapshot);
    const before = this.chosen;
    const { endpoints, refused } = this.choose(ir, snapshot, local, closed, changes);
    const same = this.chosen === before;
    const touched = members.update(world, changes, this.sum.predicates);
    const { swept, ...moved } = destinations.update(this.sum.atoms, members, touched);
    const classOf = (ip: string) => destinations.classOf(ip);
    return {
      sets: this.sum.sets,
      rules: this.sum.rules,
      ...swept,
      services: services.update({ snapshot, classOf, ...moved, local, moved: !same || changes.nodes }),
      endpoints,
      refused,
    };
  }

  /** The sets of the local pods; of all of them together, this.sum. */
  private choose(
    ir: Ir,
    snapshot: Snapshot,
    local: readonly string[],
    closed: readonly string[],
    changes: WorldChanges,
  ): Chosen {
    const last = this.chosen;
    const holds =
      last?.ir === ir &&
      sameList(last.local, local) &&
      sameList(last.closed, closed) &&
      !changes.namespaces &&
      changes.portNames.size === 0 &&
      !(changes.nodes && last.keys.has(NODE_SENDER)) &&
      !changes.pods.some((key) => last.keys.has(key));
    if (holds) return last;
    const endpoints = new Map<string, number>();
    const refused = new Map<string, string>();
    const kept = new Map<string, BuiltSet>();
    const used = new Set<BuiltSet>();
    for (const [key, selections] of this.selector.select(ir, snapshot, [...local].sort())) {
      if (selections.length === 0) {
        endpoints.set(key, 0);
        this.lastComplete.set(key, selections);
        continue;
      }
      const wanted = this.build(selections, kept, changes);
      let built: BuiltSet | undefined;
      if ('refused' in wanted) {
        refused.set(key, wanted.refused);
        built = this.fallback(key, selections, kept, changes);
      } else {
        this.lastComplete.set(key, selections);
        built = wanted;
      }
      endpoints.set(key, built?.set.id ?? 0);
      if (built) used.add(built);
    }
    for (const key of closed) {
      const built = this.build(NOT_KNOWN_YET, kept, changes);
      if ('refused' in built) continue;
      endpoints.set(key, built.set.id);
      used.add(built);
    }
    this.sets = kept;
    for (const key of this.lastComplete.keys()) if (!endpoints.has(key)) this.lastComplete.delete(key);
    const built = [...used];
    if (!sameList(built, this.sum.built)) this.sum = summed(built);
    this.chosen = { ir, local: [...local], closed: [...closed], keys: new Set(local), endpoints, refused };
    return this.chosen;
  }

  private build(
    selections: readonly Selection[],
    kept: Map<string, BuiltSet>,
    changes: WorldChanges,
  ): BuiltSet | { refused: string } {
    const key = keyOf(selections);
    const now = kept.get(key);
    if (now) return now;
    const before = this.sets.get(key);
    if (before && !before.portNames.some((name) => changes.portNames.has(name))) {
      kept.set(key, before);
      return before;
    }
    const built = buildSet(selections, this.tables.world);
    if (!('refused' in built)) kept.set(key, built);
    return built;
  }

  /** The last complete set; for a pod that never had one, the tiers' defaults alone: closed, not open. */
  private fallback(
    key: string,
    selections: readonly Selection[],
    kept: Map<string, BuiltSet>,
    changes: WorldChanges,
  ): BuiltSet | undefined {
    const last = this.lastComplete.get(key);
    const closed = selections.map((s) => ({
      tier: s.tier,
      policies: s.policies.slice(0, 1).map((p) => ({ ...p, rules: [] })),
    }));
    for (const candidate of last ? [last, closed] : [closed]) {
      if (candidate.length === 0) return undefined;
      const built = this.build(candidate, kept, changes);
      if (!('refused' in built)) return built;
    }
    return undefined;
  }
}

function sameList<T>(a: readonly T[], b: readonly T[]): boolean {
  return a === b || (a.length === b.length && a.every((x, i) => x === b[i]));
}

function makeTables() {
  return {
    world: new World(),
    members: new Members(),
    destinations: new DestinationTable(),
    services: new ServiceTable(),
  };
}

function summed(built: readonly BuiltSet[]): Sum {
  const sets = new Map<number, PolicySet>();
  const rules = new Map<number, RuleRef>();
  const atoms = new Map<number, Atom>();
  for (const { set, refs, atoms: own } of built) {
    sets.set(set.id, set);
    for (const [id, ref] of refs) rules.set(id, ref);
    for (const atom of own) atoms.set(atom.id, atom);
  }
  const sorted = [...atoms.values()].sort((a, b) => a.id - b.id);
  return {
    built,
    sets,
    rules,
    atoms: sorted,
    predicates: new Map(sorted.filter((a) => a.select).map((a) => [a.id, a])),
  };
}
