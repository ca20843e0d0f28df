/** Plans what an update of the maps writes. Reads bookkeeping, writes nothing. */
import { MAX_BACKENDS } from '../../src/compile/services.js';
import type { Ids } from '../../src/ids.js';
import { type Plan, planDestinations } from '../../src/image/plan/plan.js';
import { planServices, type ServicePlan } from '../../src/image/plan/services.js';
import { classRow } from '../../src/image/rows.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Image, PolicySet } from '../../src/image/types.js';
import { NODE_SENDER } from '../../src/ir/sender.js';
import type { AddressPlan } from './address-maps.js';
import * as encode from './tables/encode.js';
import type { EndpointTable } from './tables/endpoint-table.js';
import type { Leftovers } from './books/leftovers.js';
import type { NameMaps, NamePlan } from './name-maps.js';
import type { RecoveredMaps } from './recovery.js';

/** One update, planned from the content of the maps. */
export interface Step {
  /** Bindings with the set references that they should have. */
  readonly wanted: readonly (readonly [EndpointBinding, bigint])[];
  /** Endpoints get other sets. */
  readonly flips: boolean;
  /** Packets may be judged by old and by new sets: destinations and Services show both until they settle. */
  readonly mayReadOldSets: boolean;
  /** Ids of classes that the Image has, or had before, and that may be new. */
  readonly changed: readonly number[];
  readonly plan: Plan;
  readonly services: ServicePlan;
  readonly places: AddressPlan;
  /** The next matcher of names; undefined: it stays as it is. */
  readonly names: NamePlan | undefined;
  readonly batch: Batch;
}

/** Rows to write before anything refers to them. */
export interface Batch {
  readonly sets: readonly PolicySet[];
  /** New classes, with their atoms. */
  readonly classes: ReadonlyMap<number, readonly string[]>;
  readonly rows: readonly { set: PolicySet; classId: number; row: Uint32Array }[];
}

/** The state from which a step is planned. */
interface StepInputs {
  readonly inMaps: RecoveredMaps;
  readonly leftovers: Leftovers;
  readonly ids: Ids;
  /** Every set in the maps has its rows for all classes in the maps. */
  readonly rowsComplete: boolean;
  /** The plan for `addresses` and `tunnels`, of all bindings. */
  readonly places: AddressPlan;
  readonly names: Pick<NameMaps, 'plan'>;
  readonly endpoints: Pick<EndpointTable, 'setOf'>;
}

/**
 * Plans the step to an Image.
 * @param changed ids of classes that may be new
 * @param bindings those whose set may have to change
 * @throws AgentError TOO_LARGE if the patterns of names are too many together
 */
export function stepTo(
  { inMaps, leftovers, ids, rowsComplete, places, names, endpoints }: StepInputs,
  image: Image,
  changed: readonly number[],
  bindings: readonly EndpointBinding[],
): Step {
  const wanted = bindings.map((b) => [b, refOf(image, b)] as const);
  const flips = wanted.some(([b, ref]) => endpoints.setOf(b) !== ref);
  const mayReadOldSets = flips || leftovers.flipPending;
  const { destinations4, destinations6, services } = leftovers;
  const shown = { destinations4: destinations4.values, destinations6: destinations6.values };
  const plan = planDestinations(inMaps, image, mayReadOldSets, shown, ids);
  const namePlan = names.plan(inMaps, image, ids, plan.transitional);
  const destinationsChange =
    mayReadOldSets || [plan.destinations4, plan.destinations6].some((d) => d.before.length + d.remove.length > 0);
  return {
    wanted,
    flips,
    mayReadOldSets,
    changed,
    plan,
    services: planServices(
      inMaps.services,
      image.services,
      { flips: mayReadOldSets, moves: destinationsChange },
      MAX_BACKENDS,
      services.values,
    ),
    places,
    names: namePlan,
    batch: batchFor(inMaps, image, changed, [plan.transitional, namePlan?.matcher.classes], rowsComplete),
  };
}

/**
 * New sets, and the rows that old and new sets need for old and new classes.
 * @param changed ids of classes that may be new
 * @param others classes that the Image does not name: transitional ones, and those of names
 * @param rowsComplete every set in the maps has its rows for all classes there; otherwise all are written again
 */
function batchFor(
  inMaps: RecoveredMaps,
  image: Image,
  changed: readonly number[],
  others: readonly (Plan['transitional'] | undefined)[],
  rowsComplete: boolean,
): Batch {
  const sets = [...image.sets.values()].filter((s) => !inMaps.sets.has(s.id));
  const newClasses = new Map<number, readonly string[]>();
  for (const id of changed) {
    const atoms = image.classes.get(id);
    if (atoms && !inMaps.classes.has(id)) newClasses.set(id, atoms);
  }
  for (const classes of others)
    for (const [id, atoms] of classes ?? []) if (!inMaps.classes.has(id)) newClasses.set(id, atoms);
  const rows: { set: PolicySet; classId: number; row: Uint32Array }[] = [];
  const add = (set: PolicySet, classes: Iterable<readonly [number, readonly string[]]>) => {
    const rowClasses = inMaps.rows.get(set.id);
    for (const [classId, atoms] of classes) {
      if (rowClasses?.has(classId)) continue;
      const row = classRow(set, atoms);
      if (row) rows.push({ set, classId, row });
    }
  };
  // An earlier agent may have been killed between writing a class into the journal and writing all of its rows.
  if (!rowsComplete) for (const set of inMaps.sets.values()) add(set, inMaps.classes);
  if (newClasses.size > 0) for (const set of inMaps.sets.values()) add(set, newClasses);
  for (const set of sets) {
    add(set, inMaps.classes);
    add(set, newClasses);
  }
  return { sets, classes: newClasses, rows };
}

/** The rows that the sets in the maps need before packets find a matcher of names. */
export function namesBatch(inMaps: RecoveredMaps, { matcher }: NamePlan): Batch {
  const classes = new Map([...matcher.classes].filter(([id]) => !inMaps.classes.has(id)));
  const rows: { set: PolicySet; classId: number; row: Uint32Array }[] = [];
  for (const set of inMaps.sets.values()) {
    for (const [classId, atoms] of classes) {
      const row = classRow(set, atoms);
      if (row) rows.push({ set, classId, row });
    }
  }
  return { sets: [], classes, rows };
}

/** The value for the endpoint's `set` field: the set's id with flags; 0n if no policy selects the endpoint. */
function refOf(image: Image, binding: EndpointBinding): bigint {
  const key = binding.kind === 'uplink' ? NODE_SENDER : binding.key;
  const set = image.sets.get(image.endpoints.get(key) ?? 0);
  return set ? encode.setRef(set) : 0n;
}
