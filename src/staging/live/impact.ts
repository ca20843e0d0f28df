/** The impact of a policy as an object, for JSON. */
import { protocolName } from '../../net/protocol.js';
import type { Impact } from '../impact.js';
import type { PolicyName } from '../names.js';
import { type CountOptions, countOnce, type KnownPolicy } from './count.js';
import type { Evidence } from './evidence.js';

/** As `egressctl impact -o json` prints it. */
export type ImpactObject = ReturnType<typeof impactObject>;

/** Counts the impact of a policy now. @throws AgentError USAGE if the agents do not know the policy, AGENT */
export async function impactNow(
  policy: PolicyName,
  { evidence, ...options }: CountOptions & { evidence: Evidence },
): Promise<ImpactObject & { warnings: readonly string[] }> {
  const { known, impact, warnings } = await countOnce(policy, evidence, options);
  return { ...impactObject(policy, known, impact), warnings };
}

/** Times are RFC 3339, the generation is a decimal text. */
export function impactObject(name: PolicyName, known: KnownPolicy, impact: Impact) {
  const { denied, sinceMs, windowMs, generation, ...rest } = impact;
  const time = (ms: number) => new Date(ms).toISOString();
  return {
    policy: name.text,
    ...rest,
    generation: String(generation),
    pods: known.pods,
    since: time(sinceMs),
    windowSeconds: Math.floor(windowMs / 1000),
    denied: denied.map(({ lastMs, flows, ...workload }) => ({
      ...workload,
      last: time(lastMs),
      flows: flows.map(({ lastMs: last, protocol, ...flow }) => ({
        ...flow,
        protocol: protocolName(protocol).toLowerCase(),
        last: time(last),
      })),
    })),
  };
}
