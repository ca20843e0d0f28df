/** The map `state`: words that programs read for every packet; one store changes a word for all of them. */
import * as L from '../../../src/image/layout.gen.js';
import type { Image } from '../../../src/image/types.js';
import * as encode from './encode.js';
import type { BpfMap } from '../../kernel/libbpf/map.js';

export class StateWords {
  readonly #words: Int32Array;

  constructor(state: BpfMap) {
    const memory = state.mmap();
    this.#words = new Int32Array(memory.buffer, memory.byteOffset, L.STRUCTS.ea_state.size / 4);
  }

  /** Policy epoch that packets compare their flows with. */
  get epoch(): number {
    return Atomics.load(this.#words, encode.EPOCH_WORD) >>> 0;
  }

  /** Raises the epoch: every flow is judged again with its next packet. */
  bumpEpoch(): void {
    Atomics.add(this.#words, encode.EPOCH_WORD, 1);
  }

  /**
   * Makes packets forget the classes that they remember for as long as an epoch lasts (bpf/decided.h). Without it, a
   * Service's new entry could be judged by old classes, and a pod could reach a backend by the Service's address that
   * neither policy allows, because the old policy allowed the backend's own address.
   * @param moved number of destinations that have just been written
   * @param services those that are written next
   */
  forgetClasses(moved: number, services: readonly unknown[]): void {
    if (moved > 0 && services.length > 0) this.bumpEpoch();
  }

  /**
   * Enables the post-DNAT check at the uplinks, once there are Services and pods under a policy: a connection to a
   * Service may lead to a backend that the Service had before. It stays enabled, since connections outlive Services and
   * policies.
   */
  enableUplinkCheck(image: Image): void {
    if (image.services.size === 0 || Atomics.load(this.#words, encode.POST_DNAT_WORD) !== 0) return;
    if ([...image.endpoints.values()].some((set) => set !== 0)) Atomics.store(this.#words, encode.POST_DNAT_WORD, 1);
  }
}
