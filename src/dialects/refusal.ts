/** The annotation by which a policy says how the DNS queries that it refuses are answered. */
import type { Problem } from '../errors.js';
import type { RawPolicy } from '../identity/snapshot.js';
import { DNS_REFUSALS, type DnsRefusal } from '../ir/types.js';
import type { Understood } from './base/dialect.js';
import { annotationsOf } from './enforcement.js';

const REFUSAL = 'egress-agent.io/dns-refusal';

/** The object's policies with what its annotation says. A value that means nothing changes nothing. */
export function withRefusal(raw: RawPolicy, result: Understood): Understood {
  const refusal = DNS_REFUSALS.find((one) => one === annotationsOf(raw)?.[REFUSAL]);
  if (refusal === undefined) return result;
  const policies = result.policies.map((placed) => ({ ...placed, policy: refusingBy(placed.policy, refusal) }));
  return { ...result, policies };
}

function refusingBy<T extends object>(policy: T, refusal: DnsRefusal): T {
  return Object.freeze({ ...policy, dnsRefusal: refusal });
}

/** Problems of the annotation. */
export function refusalProblems(raw: RawPolicy): Problem[] {
  const value = annotationsOf(raw)?.[REFUSAL];
  if (value === undefined || DNS_REFUSALS.some((one) => one === value)) return [];
  const where = { ...raw.where, field: `metadata.annotations["${REFUSAL}"]` };
  const message = `${JSON.stringify(value)} is not a way to refuse DNS queries: the agent's --dns-refusal stays in force`;
  return [
    { severity: 'warning', where, message, hint: `write ${DNS_REFUSALS.join(', ').replace(/, (?=[^,]*$)/, ' or ')}` },
  ];
}
