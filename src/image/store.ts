import type { Image } from './types.js';

/** The identity and place of a local endpoint, as the kernel needs it. */
export interface EndpointBinding {
  /** `namespace/name` for pods; `node/<interface>` for uplinks. */
  readonly key: string;
  /** Pod UID. Interfaces are identified by it, never by name. */
  readonly uid: string;
  /** Index of the device whose hooks judge it, in the agent's own network namespace. */
  readonly ifindex: number;
  readonly ifname: string;
  /** Stable number, 1 … 2^32-1. */
  readonly id: number;
  /** MAC address of the pod's interface, `aa:bb:…`; empty: not checked. */
  readonly mac: string;
  /** For a pod: the addresses from which it may send; empty: not checked. For an uplink: the node's addresses. */
  readonly ips: readonly string[];
  readonly kind: 'pod' | 'uplink';
  /** Whether the device has no link-layer header. */
  readonly l3: boolean;
  /**
   * MAC address of the bridge that forwards the pod's frames, except frames to other local pods. Absent: frames may
   * have any destination.
   */
  readonly gateway?: string;
  /** The pod is being deleted. If another pod has the same address, the address belongs to that one. */
  readonly ending?: true;
}

export interface MapFill {
  name: string;
  entries: number;
  max: number;
}

/** The result of apply(). */
export interface ApplyResult {
  /** Number of entries written and deleted, by map. */
  written: number;
  deleted: number;
  /** Milliseconds from the call until every packet sees the flip. */
  millis: number;
}

/**
 * The first kernel crossing: makes the maps equal to an Image, in four phases (write new, flip pointers, bump epoch,
 * settle). All or nothing: if it throws TOO_LARGE, nothing that packets can see has changed.
 */
export interface MapStore {
  apply(image: Image, bindings: readonly EndpointBinding[]): ApplyResult;
  /** Compares the maps with the last applied Image. Returns the differences, and repairs them if asked. */
  verify(repair: boolean): string[];
  fill(): MapFill[];
  close(): void;
}
