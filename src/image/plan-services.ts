/**
 * Services on their way from the Image in force to the next one. An entry stands for its backends by one of each kind,
 * and kinds are what the classes in force cannot tell apart. So an entry must not be read together with classes or sets
 * that it was not made for: while those change it names the kinds of both Images, or leaves the verdict to the second look. Pure.
 */
import { changedKeys } from '../identity/shared-map.js';
import type { ImageService } from './types.js';

export interface ServicePlan {
  /** Before any destination changes: the kinds of both. */
  readonly early: ImageService[];
  /** After the destinations, before the endpoints flip. */
  readonly before: ImageService[];
  /** After the flip, when destinations have settled: as the next Image says. */
  readonly settle: ImageService[];
  readonly remove: ImageService[];
  /** What those of `settle` and `remove` say until then, by key. */
  readonly shown: Map<string, ImageService>;
  /** Entries that are not there now. */
  readonly added: number;
}

/**
 * @param flips whether any endpoint changes its set, or packets may still be judged by a set that one had before
 * @param moves whether it does, or any address changes its class
 * @param maxBackends kinds that an entry can name
 * @param shown entries that are not as `now` says: an earlier update has not settled yet; also such as `now` has no more
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
      // With the old set its backends would count, which that set may know nothing of; with the new one its address.
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

function undecided(service: ImageService): ImageService {
  return { ...service, backends: [], many: true };
}

/** The first kind stays first: where all agree, its rule is the one that is told. */
function united(from: ImageService, to: ImageService, maxBackends: number): ImageService {
  if (from.many || to.many) return undecided(to);
  const backends = new Map([...from.backends, ...to.backends].map((b) => [`${b.ip}|${b.port}`, b]));
  return backends.size > maxBackends ? undecided(to) : { ...to, backends: [...backends.values()] };
}
