/** Room in the flow table: the programs' counters, and the number of entries of each endpoint. */
import { ENUMS } from '../../src/image/layout.gen.js';
import type { FlowRoomView } from '../../src/rpc/view.js';
import type { FlowMemory } from '../events/flow-table.js';
import { sumOf } from './counters.js';
import type { BpfMap } from '../kernel/libbpf/map.js';

const { EA_COUNT_FLOWS_NOT_STORED, EA_COUNT_FLOWS_EVICTED, EA_COUNT_FLOWS_BUSY } = ENUMS.ea_counter;

export class FlowRoom {
  readonly #table: Pick<FlowMemory, 'share' | 'holdings'>;
  readonly #counters: Pick<BpfMap, 'lookupPerCpu'>;
  readonly #slotOf: (ifindex: number) => number | undefined;

  /** @param slotOf the slot of `endpoints` that an interface has */
  constructor(
    table: Pick<FlowMemory, 'share' | 'holdings'>,
    counters: Pick<BpfMap, 'lookupPerCpu'>,
    slotOf: (ifindex: number) => number | undefined,
  ) {
    this.#table = table;
    this.#counters = counters;
    this.#slotOf = slotOf;
  }

  view(): FlowRoomView {
    return {
      share: this.#table.share,
      notStored: sumOf(this.#counters, EA_COUNT_FLOWS_NOT_STORED),
      evicted: sumOf(this.#counters, EA_COUNT_FLOWS_EVICTED),
      busy: sumOf(this.#counters, EA_COUNT_FLOWS_BUSY),
    };
  }

  /** Number of entries of an interface's endpoint. */
  holdings(ifindex: number): number {
    const slot = this.#slotOf(ifindex);
    // Signed: with several CPUs counting, a decrement may be visible before the increment of another CPU.
    return slot === undefined ? 0 : Math.max(this.#table.holdings(slot) | 0, 0);
  }
}
