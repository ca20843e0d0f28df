/**
 * Plans how Services change from the Image in force to the next one. A Service's entry lists one backend of each kind,
 * where a kind is a set of backends that the classes in force cannot distinguish. An entry must therefore not be read
 * together with classes or sets that it was not made for. While those change, the entry lists the kinds of both Images,
 * or leaves the verdict to the post-DNAT check. Pure functions.
 */
import { changedKeys } from '../../identity/shared-map.js';
import type { ImageService } from '../types.js';

/** Maximum number of backends in an entry (EA_MAX_BACKENDS). */
const MAX_OWN_BACKENDS = 16;

export interface ServicePlan {
  /** Written before any destination changes: entries with the kinds of both Images. */
  readonly early: ImageService[];
  /** Written after the destinations, before the endpoints flip. */
  readonly before: ImageService[];
  /** Written after the flip, when destinations have settled: entries of the next Image. */
  readonly settle: ImageService[];
  readonly remove: ImageService[];
  /** What the map shows for the keys of `settle` and `remove` until they are written, by key. */
  readonly shown: Map<string, ImageService>;
  /** Number of entries that do not exist now. */
  readonly added: number;
}

/**
 * Plans the writes for the map of Services.
 * @param flips whether any endpoint changes its set, or packets may still be judged by an endpoint's previous set
 * @param moves whether `flips`, or any address changes its class
 * @param maxBackends maximum number of kinds in an entry
 * @param shown entries whose content in the map differs from `now`, because an earlier update has not settled yet;
 * includes entries that `now` no longer has
 */
export function planServices(
  now: ReadonlyMap<string, ImageService>,
  next: ReadonlyMap<string, ImageService>,
  { flips, moves }: { flips: boolean; moves: boolean },
  maxBackends: number,
  shown: ReadonlyMap<string, ImageService> = new Map(),
): ServicePlan {
  const plan = {
    early: [] as ImageService[],
    before: [] as ImageService[],
    settle: [] as ImageService[],
    remove: [] as ImageService[],
    shown: new Map<string, ImageService>(),
    added: 0,
  };
  const keys = changedKeys(now, next);
  for (const key of shown.size === 0 ? keys : new Set([...keys, ...shown.keys()])) {
    const [from, to] = [shown.get(key) ?? now.get(key), next.get(key)];
    if (from && to) {
      if (same(from, to)) continue;
      const both = moves ? united(from, to, maxBackends) : to;
      if (!same(from, both)) plan.early.push(both);
      if (!same(both, to)) {
        plan.settle.push(to);
        plan.shown.set(key, both);
      }
    } else if (to) {
      // With the old set the backends would be judged, about which that set may know nothing; with the new set the
      // address is judged.
      plan.before.push(flips ? undecided(to) : to);
      if (flips && !to.many) {
        plan.settle.push(to);
        plan.shown.set(key, undecided(to));
      }
      plan.added++;
    } else if (from) {
      if (flips && !from.many) plan.before.push(undecided(from));
      plan.remove.push(from);
      plan.shown.set(key, flips ? undecided(from) : from);
    }
  }
  return plan;
}

function same(a: ImageService, b: ImageService): boolean {
  return a.many === b.many && JSON.stringify(a.backends) === JSON.stringify(b.backends);
}

/**
 * An entry that leaves the verdict to the post-DNAT check. Backends on this node are still judged, by both entries,
 * since no hook sees packets to them after the translation.
 */
function undecided(service: ImageService, other?: ImageService): ImageService {
  const own = [...service.backends, ...(other?.backends ?? [])].filter((b) => b.own);
  const backends = [...new Map(own.map((b) => [`${b.ip}|${b.port}`, b])).values()];
  return { ...service, backends: backends.slice(0, MAX_OWN_BACKENDS), many: true };
}

/** An entry with the kinds of both. The first kind stays first: if all kinds agree, its rule is the one reported. */
function united(from: ImageService, to: ImageService, maxBackends: number): ImageService {
  if (from.many || to.many) return undecided(to, from);
  const backends = new Map([...from.backends, ...to.backends].map((b) => [`${b.ip}|${b.port}`, b]));
  return backends.size > maxBackends ? undecided(to, from) : { ...to, backends: [...backends.values()] };
}
