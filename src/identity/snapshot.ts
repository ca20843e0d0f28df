/**
 * The state of the cluster that policies depend on: a complete, immutable value. It is made from manifests or from the
 * Kubernetes API; all later steps are pure functions of it.
 */
import type { Problem, Where } from '../errors.js';
import type { Tunnel } from '../net/tunnels.js';

export interface ContainerPort {
  name?: string;
  /** IANA protocol number. */
  protocol: number;
  port: number;
}

export interface Pod {
  uid: string;
  namespace: string;
  name: string;
  labels: Readonly<Record<string, string>>;
  annotations: Readonly<Record<string, string>>;
  /** Canonical text; empty until assigned, and for pods that have ended. */
  ips: readonly string[];
  nodeName: string;
  serviceAccount: string;
  hostNetwork: boolean;
  /** Succeeded or Failed: its addresses may belong to other pods. */
  ended: boolean;
  /** Being deleted: it may still run, and its interface may already be gone. */
  terminating?: true;
  ports: readonly ContainerPort[];
  /** The top-level controller according to the metadata: `{kind: 'Deployment', name: 'web'}`. */
  workload?: { kind: string; name: string };
}

/**
 * Annotation of the mirror that kubelet makes of a static pod: the pod's own UID, which kubelet and container runtimes
 * use.
 */
export const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror';

export interface Namespace {
  name: string;
  labels: Readonly<Record<string, string>>;
  annotations: Readonly<Record<string, string>>;
  terminating: boolean;
}

export interface Node {
  name: string;
  labels: Readonly<Record<string, string>>;
  /** Canonical addresses, without host names. */
  ips: readonly string[];
}

export interface Backend {
  ip: string;
  port: number;
}

/** One port of a Service with its backends. */
export interface ServicePort {
  name?: string;
  protocol: number;
  /** The port at the Service's addresses. */
  port: number;
  nodePort?: number;
  /** Ready backends, sorted by address, then by port. */
  backends: readonly Backend[];
}

export interface Service {
  namespace: string;
  name: string;
  labels: Readonly<Record<string, string>>;
  /** Cluster, external and load-balancer addresses; empty if headless. */
  vips: readonly string[];
  /** Those addresses that the Service's author could choose freely: not cluster addresses. undefined: none. */
  external?: readonly string[];
  /** Creation time, as the API server writes it; undefined if unknown. */
  created?: string;
  ports: readonly ServicePort[];
}

/** A policy object as the user wrote it, before a dialect translates it. */
export interface RawPolicy {
  apiVersion: string;
  kind: string;
  namespace?: string;
  name: string;
  /** The whole object, parsed. */
  object: Readonly<Record<string, unknown>>;
  where: Where;
}

export interface Snapshot {
  /** By `namespace/name`. */
  pods: ReadonlyMap<string, Pod>;
  namespaces: ReadonlyMap<string, Namespace>;
  nodes: ReadonlyMap<string, Node>;
  /** By `namespace/name`. */
  services: ReadonlyMap<string, Service>;
  policies: readonly RawPolicy[];
  /**
   * Addresses of this node in addition to those of its Node object (of its interfaces), and the broadcast addresses of
   * its networks. `dns`: addresses at which the node's own DNS cache listens although a Service may have them
   * (NodeLocal DNSCache takes over the address of kube-dns, and kube-proxy does not see packets to it). `beside`:
   * networks that the node reaches by devices without a hook; those with `!` are parts of them that it reaches by other
   * devices.
   */
  ownNode: {
    name: string;
    ips: readonly string[];
    broadcasts?: readonly string[];
    dns?: readonly string[];
    beside?: readonly string[];
  };
  /** The tunnels that nodes unwrap; absent: USUAL_TUNNELS. */
  tunnels?: readonly Tunnel[];
  /** Objects that could not be read. They keep their last valid state, if they had one. */
  problems: readonly Problem[];
}
