/** What a Reflector is told, and what it counts. */
import type { Logger } from '../log.js';
import type { KubeClient, KubeObject } from './client.js';
import type { Keep } from './keep.js';

export interface ReflectorOptions<T> {
  client: KubeClient;
  /** `/api/v1/pods`, `/apis/networking.k8s.io/v1/networkpolicies` */
  path: string;
  /** fieldSelector, labelSelector */
  query?: Record<string, string>;
  /** What `read` reads of an object, and `metadata` with what tells objects apart; all of it unless told. */
  keep?: Keep;
  /**
   * Called once for each version of each object; only what it returns is kept. If it throws, the version before stays, and the log
   * says so.
   */
  read: (object: KubeObject, key: string) => T;
  /** Something changed; at most once until the next `take`. */
  onChange: () => void;
  log: Logger;
  /** Objects asked for at once; 500 unless told. */
  pageSize?: number;
  /** The time between audits, ±20 %; 10 minutes unless told. */
  auditMs?: number;
  /** A watch without a byte for so long is begun anew; 5 minutes unless told. The server sends a bookmark each minute. */
  idleMs?: number;
  /** Between tries; 200 ms … 30 s unless told. */
  backoff?: { baseMs: number; capMs: number };
  /** A watch that lived for so long was a good one; 1 s unless told. */
  healthyMs?: number;
  /** A kind that the server does not know is believed to be gone when it is still unknown so much later; 10 s unless told. */
  goneMs?: number;
  now?: () => number;
  random?: () => number;
}

/** What happened since the start, for metrics. */
export interface ReflectorCounts {
  /** Lists begun, audits too. */
  lists: number;
  watches: number;
  /** Objects that came through watches. */
  events: number;
  /** Failed lists and watches; 410 counts too. */
  errors: number;
  /** Lines, events and objects that are not what the protocol says, and objects that could not be read. */
  malformed: number;
  /** Audits that found a difference while no event came. */
  repairs: number;
}

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
