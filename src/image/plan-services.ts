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
  /** Entries that are not there now. */
  readonly added: number;
}

/**
 * @param flips whether any endpoint changes its set
 * @param moves whether it does, or any address changes its class
 * @param maxBackends kinds that an entry can name
 */
export function planServices(
  now: ReadonlyMap<string, ImageService>,
  next: ReadonlyMap<string, ImageService>,
  { flips, moves }: { flips: boolean; moves: boolean },
  maxBackends: number,
): ServicePlan {
  const plan = {
    early: [] as ImageService[],
    before: [] as ImageService[],
    settle: [] as ImageService[],
    remove: [] as ImageService[],
    added: 0,
  };
  for (const key of changedKeys(now, next)) {
    const [from, to] = [now.get(key), next.get(key)];
    if (from && to) {
      if (same(from, to)) continue;
      const both = moves ? united(from, to, maxBackends) : to;
      if (!same(from, both)) plan.early.push(both);
      if (!same(both, to)) plan.settle.push(to);
    } else if (to) {
      // With the old set its backends would count, which that set may know nothing of; with the new one its address.
      plan.before.push(flips ? undecided(to) : to);
      if (flips && !to.many) plan.settle.push(to);
      plan.added++;
    } else if (from) {
      if (flips && !from.many) plan.before.push(undecided(from));
      plan.remove.push(from);
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
