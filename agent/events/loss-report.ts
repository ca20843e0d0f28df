/** Reports lost events to readers and to the log. */
import type { Known } from '../../src/flow/names/enrich.js';
import type { FlowHub } from '../../src/flow/hub/hub.js';
import type { Logger } from '../../src/log.js';
import type { RingReader } from './ring.js';
import type { Shares } from './shares.js';

/** Number of pods that a log line names. */
const MAX_NAMES = 5;

export class LossReport {
  readonly #ring: RingReader;
  readonly #shares: Shares;
  readonly #hub: FlowHub;
  readonly #log: Logger;
  #lastCounts: readonly number[];
  /** Lost events that are not reported yet, as their pods are not known yet. */
  #unattributed = 0;

  /** Events lost before this are not reported: an earlier agent was their reader. */
  constructor(ring: RingReader, shares: Shares, hub: FlowHub, log: Logger) {
    this.#ring = ring;
    this.#shares = shares;
    this.#hub = hub;
    this.#log = log;
    this.#lastCounts = ring.lost();
  }

  /** Reports the events lost since the last call, with their pods as far as known. */
  report(endpoints: Known['endpoints']): void {
    const [ring, shares, hub] = [this.#ring, this.#shares, this.#hub];
    // In this order: a loss is counted in the ring's counters before it is counted for its endpoint.
    const lossesById = shares.takeNew();
    const counts = ring.lost();
    const total = counts.reduce((sum, count, cpu) => sum + Math.max(count - (this.#lastCounts[cpu] ?? 0), 0), 0);
    this.#lastCounts = counts;
    this.#unattributed += total;
    const pods: string[] = [];
    for (const [id, count] of [...lossesById].sort(([, a], [, b]) => b - a)) {
      const pod = endpoints.get(id)?.pod ?? '';
      const lost = Math.min(count, this.#unattributed);
      if (pod === '' || lost === 0) continue;
      this.#unattributed -= lost;
      hub.lostInRing(lost, undefined, pod);
      if (pods.length < MAX_NAMES) pods.push(`${pod} ${lost}`);
    }
    // Losses of the last moment may not be counted for their endpoints yet: they wait for the next call.
    const unowned = Math.max(this.#unattributed - total, 0);
    this.#unattributed -= unowned;
    if (unowned > 0) hub.lostInRing(unowned);
    if (total === 0) return;
    this.#log.warn('events were lost: the ring was full, or an endpoint wrote more than its share of it', {
      events: total,
      of: pods.join(', ') || undefined,
    });
  }
}
