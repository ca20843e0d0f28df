/**
 * The source of a rule. It restricts to which of the policy's pods the rule applies, since the sender of an egress rule
 * is always one of them.
 */
import { type Context, type EntitySpec, matching, readEndpoints } from './entity.js';
import { ALL, isTrue, noneOf, NOTHING, onPods } from './meaning.js';
import type { Selector } from './selector.js';

/**
 * The policy's pods that a rule's source selects.
 * @returns undefined if it is invalid or cannot be expressed
 */
export function readSource(spec: EntitySpec, path: string, context: Context): Selector | undefined {
  const { report } = context;
  let said = true;
  for (const field of ['nets', 'notNets', 'ports', 'notPorts', 'domains'] as const) {
    if (!spec[field]?.length) continue;
    said = false;
    const message =
      field === 'domains'
        ? 'have no meaning in a source'
        : `${field === 'ports' || field === 'notPorts' ? 'source ports are' : "a sender's address is"} not enforced`;
    const hint = 'select the senders by their labels';
    report({ severity: 'error', field: `${path}.${field}`, message, hint });
  }
  if (spec.services) {
    said = false;
    const hint = 'select the senders by their labels';
    report({ severity: 'error', field: `${path}.services`, message: 'has no meaning in an egress rule', hint });
  }
  const endpoints = readEndpoints(spec, path, context);
  if (!endpoints || !said) return undefined;
  const selector = endpoints.only ?? (endpoints.not ? noneOf(endpoints.not) : ALL);
  const { sure, maybe } = matching(endpoints.only ?? endpoints.not ?? NOTHING, context);
  const set = isTrue(onPods(selector)) ? undefined : [...sure, ...maybe].find((s) => s.nets.length > 0 || s.broken);
  if (!set) return selector;
  // Felix compares addresses, so a pod inside the set's nets would match too. It does not match here, so an Allow stays
  // closed.
  const message = `means ${set.kind} ${set.name} too: a sender's address is not enforced`;
  const severity = context.action === 'deny' || context.action === 'pass' ? 'error' : 'warning';
  report({ severity, field: path, message, hint: 'select the senders by labels that the set does not have' });
  return selector;
}
