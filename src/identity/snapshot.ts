/**
 * The world as the policies see it: a complete, immutable value. Made from
 * manifests or from the Kubernetes API; everything downstream is a pure function of it.
 */
import type { Problem, Where } from '../errors.js';

export interface ContainerPort {
  name?: string;
  /** IANA number. */
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
  /** Succeeded or Failed: its addresses are no longer its own. */
  ended: boolean;
  /** Being deleted: it may still run, and its interface may be gone already. */
  terminating?: true;
  ports: readonly ContainerPort[];
  /** The top controller that the metadata shows: `{kind: 'Deployment', name: 'web'}`. */
  workload?: { kind: string; name: string };
}

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

/** One port of a Service, with what stands behind it. */
export interface ServicePort {
  name?: string;
  protocol: number;
  /** The port at the Service's addresses. */
  port: number;
  nodePort?: number;
  /** Ready backends, sorted by address then port. */
  backends: readonly Backend[];
}

export interface Service {
  namespace: string;
  name: string;
  labels: Readonly<Record<string, string>>;
  /** Cluster, external and load-balancer addresses; empty if headless. */
  vips: readonly string[];
  ports: readonly ServicePort[];
}

/** A policy object as the user wrote it, not yet understood by a dialect. */
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
  /** Addresses of this node beyond those of its Node object (interfaces' own). */
  ownNode: { name: string; ips: readonly string[] };
  /** What could not be read; the objects concerned keep their last good state where there is one. */
  problems: readonly Problem[];
}
