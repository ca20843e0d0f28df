/** The options and counters of a Reflector. */
import type { Logger } from '../../log.js';
import type { KubeClient, KubeObject } from '../client/client.js';
import type { Keep } from '../client/keep.js';

export interface ReflectorOptions<T> {
  client: KubeClient;
  /** Such as `/api/v1/pods` or `/apis/networking.k8s.io/v1/networkpolicies`. */
  path: string;
  /** fieldSelector, labelSelector */
  query?: Record<string, string>;
  /** Members that `read` uses, and the `metadata` that identifies objects. Default: all. */
  keep?: Keep;
  /**
   * Called once for each version of each object; only its result is kept. If it throws, the version before stays, and
   * the error is logged.
   */
  read: (object: KubeObject, key: string) => T;
  /** Called after a change, at most once until the next `take`. */
  onChange: () => void;
  log: Logger;
  /** Number of objects in one page. Default: 500. */
  pageSize?: number;
  /** Time between audits in milliseconds, ±20 %. Default: 10 minutes. */
  auditMs?: number;
  /**
   * A watch without data for this time is restarted, in milliseconds. Default: 5 minutes. The server sends a bookmark
   * each minute.
   */
  idleMs?: number;
  /** Delays between attempts. Default: 200 ms to 30 s. */
  backoff?: { baseMs: number; capMs: number };
  /** A watch that lived for this time counts as healthy, in milliseconds. Default: 1 s. */
  healthyMs?: number;
  /**
   * A kind that is unknown to the server counts as deleted if it is still unknown after this time, in milliseconds.
   * Default: 10 s.
   */
  goneMs?: number;
  now?: () => number;
  random?: () => number;
}

/** Counters since the start, for metrics. */
export interface ReflectorCounts {
  /** Lists begun, including audits. */
  lists: number;
  watches: number;
  /** Objects received by watches. */
  events: number;
  /** Failed lists and watches, including those with 410. */
  errors: number;
  /** Lines, events and objects that violate the protocol, and objects that could not be read. */
  malformed: number;
  /** Audits that found a difference without an event. */
  repairs: number;
}

/** The options with their defaults. */
export function withDefaults<T>(opts: ReflectorOptions<T>): Required<ReflectorOptions<T>> {
  return {
    query: {},
    keep: true,
    pageSize: 500,
    auditMs: 10 * 60_000,
    idleMs: 5 * 60_000,
    backoff: { baseMs: 200, capMs: 30_000 },
    healthyMs: 1000,
    goneMs: 10_000,
    now: Date.now,
    random: Math.random,
    ...opts,
  };
}
