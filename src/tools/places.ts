/** Finds the addresses of destinations that users name. */
import { AgentError } from '../errors.js';
import type { Snapshot } from '../identity/snapshot.js';

/**
 * The addresses of a pod; at least one.
 * @param key `namespace/name`
 * @throws AgentError USAGE if the pod does not exist, has ended, or has no address yet
 */
export function podAddresses(snapshot: Snapshot, key: string, hint?: string): readonly [string, ...string[]] {
  const fail = (message: string, what?: string) => new AgentError('USAGE', message, { hint: what });
  const pod = snapshot.pods.get(key);
  if (!pod) throw fail(`there is no pod ${key}`, hint);
  if (pod.ended)
    throw fail(
      `pod ${key} has ended: its addresses are no longer its own`,
      'give an address to explain who has it now',
    );
  const [first, ...rest] = pod.ips;
  if (first === undefined) throw fail(`pod ${key} has no address`, 'status.podIP is missing: it has not started yet');
  return [first, ...rest];
}
