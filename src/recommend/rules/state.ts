/** Whether what was learned of a workload is likely to be all of it. */
import { dayOf, type EdgeParty } from '../../edges/edge.js';
import { counted } from '../../counted.js';
import { dayText, type Need, needTo, portText, type Window, type WorkloadNeeds } from '../base/needs.js';

/** Days of a window, and without news, before anything is called stable: what happens once a week has happened. */
const LEAST_DAYS = 7;
const QUIET_DAYS = 3;
/** Runs of what runs now and then. */
const LEAST_RUNS = 2;

export interface StateInput {
  readonly party: EdgeParty;
  readonly needs: WorkloadNeeds;
  readonly kept: readonly Need[];
  readonly window: Window;
  /** What a policy of the first days would have missed. */
  readonly misses: number;
}

export interface State {
  readonly state: 'stable' | 'learning';
  readonly reason: string;
}

export function stateOf({ party, needs, kept, window, misses }: StateInput): State {
  const days = window.last - window.first + 1;
  const learning = (reason: string): State => ({ state: 'learning', reason });
  if (days < LEAST_DAYS) return learning(`${counted(days, 'day')} of evidence: ${LEAST_DAYS} are needed`);
  if (needs.days.size === 0) return learning('it sent nothing in this time');
  if (party.workloadKind === 'CronJob' && needs.days.size < LEAST_RUNS)
    return learning(`it ran on ${counted(needs.days.size, 'day')}: what it does at other times is not known`);
  const first = Math.min(...needs.days);
  if (window.last - first + 1 < LEAST_DAYS) return learning(`it is seen since ${dayText(first)} only`);
  let newest: Need | undefined;
  for (const need of kept) if (!need.denied && (!newest || need.firstMs > newest.firstMs)) newest = need;
  if (newest && dayOf(newest.firstMs) > window.last - QUIET_DAYS) {
    const what = `${needTo(newest)} on ${portText(newest.protocol, newest.port)}`;
    return learning(`new on ${dayText(dayOf(newest.firstMs))}: ${what}`);
  }
  if (misses > 0) return learning(`a policy of the first days would have missed ${counted(misses, 'destination')}`);
  return {
    state: 'stable',
    reason: `nothing new for ${QUIET_DAYS} days, nothing missed by a policy of the first days`,
  };
}
