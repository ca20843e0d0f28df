/** Contents that had one id as long as ids were hashes that everybody can compute. */
import type { Snapshot } from '../../src/identity/snapshot.js';
import { pod, policy, snapshotOf } from './world.js';

/** Two blocks: whoever was allowed the one reached the other, once somebody's policy named it. */
export const COLLIDING_BLOCKS = ['25.29.41.89', '26.202.175.108'] as const;
/** Two blocks whose classes had one id: no update went through any more. */
export const COLLIDING_CLASSES = ['28.236.23.251', '31.132.106.197'] as const;

export const ATTACKED = 'a/web';
export const ATTACKER = 'b/web';

/** A pod that may reach the first address only, and one of another namespace that may reach the second. */
export function victims([mine, theirs]: readonly [string, string]): Snapshot {
  const to = (ip: string) => ({
    podSelector: {},
    policyTypes: ['Egress'],
    egress: [{ to: [{ ipBlock: { cidr: `${ip}/32` } }] }],
  });
  return snapshotOf(
    pod(ATTACKED, '10.0.0.1') + pod(ATTACKER, '10.0.0.2') + policy('a/mine', to(mine)) + policy('b/theirs', to(theirs)),
  );
}
