/** Moves events from the ring to the hub in small batches: a flood of events must not block the agent's other work. */
import type { Intake } from '../../src/flow/intake.js';
import type { RingReader } from './ring.js';

/** Events in a batch, after which other work may run if the hub has readers: as many as a reader handles at once. */
const BATCH = 1024;
/** Milliseconds after which other work may run if the hub has no readers: events are only copied then. */
const SLICE_MS = 1;
/**
 * Milliseconds of each run of the timer that may be spent on events, including the readers' work: a policy change waits
 * no longer than that. Events that do not fit stay in the ring, where each endpoint has its share.
 */
const TURN_MS = 20;

export class Drain {
  readonly #ring: RingReader;
  readonly #intake: Intake;
  #deadline = 0;
  #active = false;

  constructor(ring: RingReader, intake: Intake) {
    this.#ring = ring;
    this.#intake = intake;
  }

  /** Reads events for at most TURN_MS. Call it on a timer. */
  run(): void {
    if (this.#active) return;
    const now = performance.now();
    this.#deadline = now + TURN_MS;
    this.#batch(now);
  }

  /** Reads all events that are in the ring, before the agent ends. */
  finish(): void {
    while (this.#read());
  }

  /** Reads one batch. @returns whether there may be more */
  #read(): boolean {
    return this.#ring.runs((buf, at, count) => this.#intake.add(buf, at, count), BATCH) === BATCH;
  }

  #batch(now: number): void {
    const sliceEnd = this.#intake.hub.isRead ? now : now + SLICE_MS;
    let more = this.#read();
    while (more && performance.now() < sliceEnd) more = this.#read();
    this.#active = more && performance.now() < this.#deadline;
    if (!this.#active) return;
    // More events are waiting; readers of the hub run in between.
    setImmediate(() => this.#batch(performance.now()));
  }
}
