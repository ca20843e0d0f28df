/**
 * Connections that are open: they send no event, some for weeks. A pass over the flow table notes them in the ledger,
 * so that those from before it are in it, and the others are seen on each day and in each hour in which they are open.
 */
import * as L from '../../src/image/layout.gen.js';
import type { EdgeCounter } from '../../src/edges/counter.js';
import { EVENT_SIZE } from '../../src/flow/event/decode.js';
import { writeFlowEnd } from '../../src/flow/event/flow-end.js';
import type { FlowMemory } from '../events/flow-table.js';
import { isNews } from '../events/sweeper.js';

const E = L.STRUCTS.ea_entry;

/** Slots of the table that are looked at in one tick, and entries that are noted: a millisecond or two. */
const SLICE = 16_384;
const NOTED = 1000;

export class OpenFlows {
  readonly #table: FlowMemory;
  readonly #counter: EdgeCounter;
  readonly #entry = Buffer.alloc(E.size);
  readonly #event = Buffer.from(new ArrayBuffer(EVENT_SIZE));
  #slot = Number.POSITIVE_INFINITY;
  #fresh = new Set<number>();

  constructor(table: FlowMemory, counter: EdgeCounter) {
    this.#table = table;
    this.#counter = counter;
  }

  /** Begins a pass, unless one is under way. */
  begin(): void {
    if (this.isBusy) return;
    this.#slot = 0;
    this.#fresh = new Set();
  }

  get isBusy(): boolean {
    return this.#slot < this.#table.capacity;
  }

  /** Looks at the next slots of a pass. @param nowNs CLOCK_MONOTONIC */
  tick(nowNs: () => number): void {
    if (!this.isBusy) return;
    const end = Math.min(this.#slot + SLICE, this.#table.capacity);
    const now = nowNs();
    let noted = 0;
    for (; this.#slot < end && noted < NOTED; this.#slot++) {
      if (this.#table.tag(this.#slot) === 0 || !this.#table.read(this.#slot, this.#entry)) continue;
      if (!isNews(this.#entry)) continue;
      const key = this.#entry.subarray(E.fields.key.offset, E.fields.key.offset + L.STRUCTS.ea_flow_key.size);
      writeFlowEnd(this.#event, key, this.#entry.subarray(E.fields.flow.offset), now);
      // The pass waits here for the next tick, when there is a budget again.
      if (!this.#counter.open(this.#event, this.#fresh)) return;
      noted++;
    }
    if (!this.isBusy) this.#fresh = new Set();
  }
}
