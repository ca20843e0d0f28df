/**
 * Addresses of pods that no longer have them. The flows that such a pod opened to pods of this node must end: otherwise
 * a pod under a policy could answer on them, and so send to the address's next owner.
 */
import { changedKeys } from '../../src/identity/shared-map.js';
import type { Pod, Snapshot } from '../../src/identity/snapshot.js';
import { parseAddr } from '../../src/net/addr.js';

/** Passes over the flow table in which flows of an address are ended: one may be running when the pod ends. */
const PASSES = 2;
/** Limit of addresses, more than are released within two passes; beyond it, the oldest are dropped. */
const MAX_ADDRESSES = 65_536;

interface ReleasedAddress {
  /** Time of the release, CLOCK_MONOTONIC in nanoseconds: later flows are the next owner's. */
  readonly releasedNs: number;
  remainingPasses: number;
}

/** The released addresses, for the sweeper. */
export class ReleasedAddresses {
  readonly #nanos: () => number;
  #lastPods: Snapshot['pods'] = new Map();
  readonly #released = new Map<string, ReleasedAddress>();

  constructor(nanos: () => number) {
    this.#nanos = nanos;
  }

  update(pods: Snapshot['pods']): void {
    for (const key of changedKeys(this.#lastPods, pods)) {
      const [previous, current] = [this.#lastPods.get(key), pods.get(key)];
      if (previous && !previous.hostNetwork) this.#noteReleased(previous, current);
    }
    this.#lastPods = pods;
  }

  #noteReleased(previous: Pod, current: Pod | undefined): void {
    const same = current && current.uid === previous.uid && !current.ended;
    for (const ip of previous.ips) {
      if (same && current.ips.includes(ip)) continue;
      const bytes = Buffer.from(parseAddr(ip).bytes).toString('latin1');
      this.#released.delete(bytes);
      this.#released.set(bytes, { releasedNs: this.#nanos(), remainingPasses: PASSES });
      if (this.#released.size > MAX_ADDRESSES) this.#released.delete(this.#released.keys().next().value as string);
    }
  }

  get hasReleased(): boolean {
    return this.#released.size > 0;
  }

  /**
   * Whether the peer of a flow has lost its address since.
   * @param at offset of the address, 16 bytes. @param created the flow's start, CLOCK_MONOTONIC in nanoseconds
   */
  isReleased(keys: Buffer, at: number, created: number): boolean {
    const address = this.#released.get(keys.toString('latin1', at, at + 16));
    return address !== undefined && created < address.releasedNs;
  }

  /** Counts a complete pass over the flow table. */
  endPass(): void {
    for (const [address, entry] of this.#released) if (--entry.remainingPasses <= 0) this.#released.delete(address);
  }
}
