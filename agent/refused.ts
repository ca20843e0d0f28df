/**
 * Problems about refused policy sets, reported on their pods and on the policies that they consist of; and about
 * refused Services, reported on their namespaces.
 */
import type { Problem } from '../src/errors.js';
import { rawOf } from '../src/dialects/problems.js';
import type { Snapshot } from '../src/identity/snapshot.js';
import type { Image, Refusal } from '../src/image/types.js';
import type { PolicyRef } from '../src/ir/types.js';
import { formatPolicy } from '../src/ir/names.js';
import { NODE_SENDER } from '../src/ir/sender.js';

/** Pods of a policy, and Services of a namespace, that a message names; it counts the others. */
const MAX_NAMES = 3;
/** Policies that are reported: a set may consist of thousands. */
const MAX_POLICIES = 100;

const SERVICES_HINT =
  'connections to their addresses are judged by the addresses, not by what is behind them; give the Services fewer addresses or ports';

const HINT = 'the last complete set stays in force, without one what the tiers do by default';

/** The problems to report for an Image's refused sets and Services. */
export function refusedProblems({ refused, refusedServices }: Image, snapshot: Snapshot): Problem[] {
  const out = servicesProblems(refusedServices);
  const byPolicy = new Map<string, { policy: PolicyRef; objects: string[]; first: Refusal }>();
  for (const [key, refusal] of refused) {
    const object = key === NODE_SENDER ? `Node ${snapshot.ownNode.name}` : `Pod ${key}`;
    out.push({
      severity: 'error',
      where: { object },
      message: `its policy set is refused: ${refusal.reason}`,
      hint: HINT,
    });
    for (const policy of refusal.policies) {
      const name = `${policy.dialect} ${formatPolicy(policy)}`;
      const entry = byPolicy.get(name);
      if (entry) entry.objects.push(object);
      else if (byPolicy.size < MAX_POLICIES) byPolicy.set(name, { policy, objects: [object], first: refusal });
    }
  }
  for (const { policy, objects, first } of byPolicy.values()) {
    const more = objects.length > MAX_NAMES ? ` and ${objects.length - MAX_NAMES} more` : '';
    const where = rawOf(snapshot.policies, policy)?.where ?? { object: formatPolicy(policy) };
    const message = `its state now is not in force for ${objects.slice(0, MAX_NAMES).join(', ')}${more}: ${first.reason}`;
    out.push({ severity: 'warning', where, message, hint: HINT });
  }
  return out;
}

/** One problem for each namespace, which may have thousands of refused Services. */
function servicesProblems(refused: Image['refusedServices']): Problem[] {
  const byNamespace = new Map<string, { names: string[]; why: string }>();
  for (const [key, why] of refused) {
    const at = key.indexOf('/');
    const entry = byNamespace.get(key.slice(0, at));
    if (entry) entry.names.push(key.slice(at + 1));
    else byNamespace.set(key.slice(0, at), { names: [key.slice(at + 1)], why });
  }
  return [...byNamespace].map(([namespace, { names, why }]) => {
    const more = names.length > MAX_NAMES ? ` and ${names.length - MAX_NAMES} more` : '';
    const named = names.sort().slice(0, MAX_NAMES).join(', ');
    const message = `left out of what is judged by its backends: Service ${named}${more}: ${why}`;
    return { severity: 'error', where: { object: `Namespace ${namespace}` }, message, hint: SERVICES_HINT };
  });
}
