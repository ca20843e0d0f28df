/** Words about learned names, for `names` and `explain`. */
import type { LearnedView } from '../../rpc/view.js';
import { formatRule } from '../../ir/names.js';
import { duration, safe } from './output.js';

/** Addresses that are listed in a line. */
const SHOWN = 4;

type Known = Pick<
  LearnedView,
  'name' | 'asked' | 'seeded' | 'learnedAt' | 'answeredAt' | 'expiresAt' | 'resolver' | 'rules'
>;

/** `learned 3m5s ago, last answer 20s ago from 10.96.0.10:53, valid for 40s more`. @param now milliseconds since 1970 */
export function historyOf({ seeded, learnedAt, answeredAt, expiresAt, resolver }: Known, now: number): string {
  const how = seeded ? 'resolved by the agent' : 'learned';
  const again = answeredAt - learnedAt >= 2000 ? `, last answer ${ago(answeredAt, now)}` : '';
  return `${how} ${ago(learnedAt, now)}${again} from ${safe(resolver)}, ${restOf(expiresAt, now)}`;
}

/** How long a name stays. Past its time, it is there because a flow uses it, or because no agent runs. */
export function restOf(expiresAt: number, now: number): string {
  return expiresAt > now ? `valid for ${left(expiresAt, now)} more` : 'its time is over: it stays while a flow uses it';
}

/** `40s` */
export function left(at: number, now: number): string {
  return duration(Math.max(at - now, 0) * 1e6);
}

/** `3m5s ago` */
function ago(at: number, now: number): string {
  return `${duration(Math.max(now - at, 0) * 1e6)} ago`;
}

/** One line about a name of an address. */
export function nameLine(known: Known, now: number): string {
  const what = known.asked ? '' : ' (the target of a CNAME)';
  const rules = known.rules.slice(0, SHOWN).map((ref) => safe(formatRule(ref)));
  const serves =
    rules.length === 0 ? 'serves no rule' : `serves ${rules.join(', ')}${known.rules.length > SHOWN ? ', …' : ''}`;
  return `${safe(known.name || 'the root')}${what}: ${historyOf(known, now)}; ${serves}`;
}

/** Some of the addresses, and how many more. */
export function addressList(ips: readonly string[], most = SHOWN): string {
  return ips.length <= most ? ips.join(', ') : `${ips.slice(0, most).join(', ')} and ${ips.length - most} more`;
}
