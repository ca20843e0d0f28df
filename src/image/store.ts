import type { Image } from './types.js';

/** The identity and place of a local endpoint, as the kernel must know it. */
export interface EndpointBinding {
  /** `namespace/name` for pods; `node/<interface>` for uplinks. */
  readonly key: string;
  /** Pod UID; interfaces are keyed by it, never by name. */
  readonly uid: string;
  /** Of the device whose hooks judge it, in the agent's own namespace. */
  readonly ifindex: number;
  readonly ifname: string;
  /** Stable number, 1 … 2^32-1. */
  readonly id: number;
  /** MAC of the pod's interface, `aa:bb:…`; empty: not checked. */
  readonly mac: string;
  /** A pod: the addresses it may send from; empty: not checked. An uplink: the node's addresses. */
  readonly ips: readonly string[];
  readonly kind: 'pod' | 'uplink';
  /** Device without a link-layer header. */
  readonly l3: boolean;
}

export interface MapFill {
  name: string;
  entries: number;
  max: number;
}

/** What one apply() did. */
export interface ApplyResult {
  /** Entries written and deleted, by map. */
  written: number;
  deleted: number;
  /** Milliseconds from the call to the flip being visible to every packet. */
  millis: number;
}

/**
 * The first kernel crossing: makes the maps equal to an Image, in four phases
 * (write new, flip pointers, bump epoch, settle). All or nothing: when it
 * throws TOO_LARGE, nothing that packets can see has changed.
 */
export interface MapStore {
  apply(image: Image, bindings: readonly EndpointBinding[]): ApplyResult;
  /** Compares the maps with the last applied Image; returns and repairs differences. */
  verify(repair: boolean): string[];
  fill(): MapFill[];
  close(): void;
}
