/**
 * Evidence of a pod's network namespace, the strongest first:
 *
 *   1. annotation   the author of the manifests; only without a cluster
 *   2. gate         the container runtime, by its calls of the CNI gate
 *   3. cgroup       kubelet, which names the cgroups of a pod's processes by the pod's UID
 *   4. cni          the container runtime, by libcni's cache of results
 *   5. address      the namespace itself: last, as root in a pod can set any address
 *
 * A pod cannot change the first four. The fifth is used once: a binding stays (binding/bound.ts).
 */
import { MIRROR_ANNOTATION, type Pod } from '../../../src/identity/snapshot.js';
import type { Netns } from '../../netlink/netns.js';

export type By = 'annotation' | 'gate' | 'cgroup' | 'cni' | 'address';

/** What the creator of a pod's interface reported about it. */
export interface NicFacts {
  /** Canonical addresses. */
  readonly ips: readonly string[];
  readonly mac?: string | undefined;
}

export interface Evidence {
  readonly ns: Netns;
  readonly by: By;
  /** false: it names the pod without its UID, so it may be about a predecessor or successor of the same name. */
  readonly sure: boolean;
  /** By the interface's name in the pod. */
  readonly nics?: ReadonlyMap<string, NicFacts>;
}

/** The node, as sources of evidence see it. */
export interface Surroundings {
  readonly own: Netns;
  /** Whether a veth of the agent's namespace has its other end there. */
  leadsHere(ns: Netns): boolean;
}

export interface EvidenceSource {
  readonly by: By;
  /** Slow: not used for a pod that is bound already. */
  readonly costly?: boolean;
  /** It reports facts about interfaces, so their own addresses need not be read. */
  readonly hasNicFacts?: boolean;
  /** Starts a pass: results of the last one are no longer valid. */
  begin(surroundings: Surroundings): void;
  find(pod: Pod): Evidence | undefined;
  /** Namespaces with processes: a pod's, with its UID, or (undefined) the node's. */
  owners?(): readonly { readonly ns: Netns; readonly uid: string | undefined }[];
}

/** Whether a container runtime's UID is this pod's: of a static pod, it is that of the mirror annotation. */
export function isUidOf(pod: Pod, uid: string): boolean {
  return uid === pod.uid || uid === pod.annotations[MIRROR_ANNOTATION];
}

/** The path with /run for /var/run, which is a link that a container may not have. */
export function plainPath(path: string): string {
  return path.replace(/^\/var\/run\//, '/run/');
}
