/** What is counted where rules ask what connections say. */
import { ENUMS } from '../../src/image/layout.gen.js';
import type { SaidStatus } from '../../src/rpc/view.js';
import type { BpfMap } from '../kernel/libbpf/map.js';
import { sumOf } from './counters.js';

const {
  EA_COUNT_SAID_INSPECTED,
  EA_COUNT_SAID_JUDGED,
  EA_COUNT_SAID_DENIED,
  EA_COUNT_SAID_OVERSIZE,
  EA_COUNT_SAID_NO_ROOM,
  EA_COUNT_ECH_NO_ROOM,
  EA_COUNT_SAID_EVENTS_LOST,
} = ENUMS.ea_counter;

/** @param sweeper knows the flows that are pending @param intake has seen the events */
export function saidStatus(
  counters: Pick<BpfMap, 'lookupPerCpu'>,
  sweeper: { readonly pending: number },
  intake: { readonly audited: number },
): SaidStatus {
  const sum = (index: number) => sumOf(counters, index);
  return {
    inspected: sum(EA_COUNT_SAID_INSPECTED),
    judged: sum(EA_COUNT_SAID_JUDGED),
    denied: sum(EA_COUNT_SAID_DENIED),
    pending: sweeper.pending,
    oversize: sum(EA_COUNT_SAID_OVERSIZE),
    echWithoutRoom: sum(EA_COUNT_ECH_NO_ROOM),
    withoutBuffer: sum(EA_COUNT_SAID_NO_ROOM),
    audited: intake.audited,
    eventsLost: sum(EA_COUNT_SAID_EVENTS_LOST),
  };
}
