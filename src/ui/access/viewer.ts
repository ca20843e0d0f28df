/** Who looks, and what they may see. */
import type { KubeClient } from '../../kube/client/client.js';

/** Namespaces that may be seen; undefined: all of the cluster, with what has no namespace. */
export type Scope = ReadonlySet<string> | undefined;

/** One user of one page. Every answer goes through it. */
export interface Viewer {
  /** The same for all pages of one user: limits count by it. */
  readonly id: string;
  /** Whom this user counts as, together with others, where something is shared among users. Absent: the user alone. */
  readonly share?: string;
  /** For people; empty: whoever may use the socket or the kubeconfig. */
  readonly name: string;
  /**
   * What may be seen now. Asked again while a stream goes on, since rights change.
   * @throws AgentError AGENT if nobody can say: then nothing is shown; SignedOut
   */
  scope(): Promise<Scope>;
  /** Whether the user's credentials are still good. Absent: always. @throws SignedOut, AgentError AGENT */
  review?(): Promise<unknown>;
  /**
   * Whether this user may write policies of a namespace: whoever may, finds out by trying what a policy would do.
   * Absent: whoever may see everything. @throws AgentError AGENT, SignedOut
   */
  mayWrite?(namespace: string): Promise<boolean>;
  /** A client with this user's own credentials and no other; the viewer closes it. Absent: nothing can be written. */
  kube?(): KubeClient;
}

/** The user's credentials are not good any more. */
export class SignedOut extends Error {
  constructor() {
    super('the session is over');
  }
}

/** The user of `egressctl ui`: whatever the socket or the kubeconfig allows has been decided there. */
export const EVERYTHING: Viewer = { id: 'local', name: '', scope: () => Promise.resolve(undefined) };

/** Nobody's. */
export const NOTHING: ReadonlySet<string> = new Set();

/** Whether something of a namespace may be seen. @param namespace empty: of the cluster */
export function mayUse(scope: Scope, namespace: string): boolean {
  return scope === undefined || scope.has(namespace);
}

/**
 * The namespaces to ask a source for: what is not seen need not be read.
 * @param wanted empty: all that may be seen
 * @returns empty: all of the cluster; undefined: none, so that nothing is asked, since a source takes an empty list for all
 */
export function askedOf(wanted: readonly string[], scope: Scope): string[] | undefined {
  const chosen = wanted.length > 0 ? wanted.filter((ns) => mayUse(scope, ns)) : [...(scope ?? [])];
  if (chosen.length === 0 && (wanted.length > 0 || scope !== undefined)) return undefined;
  return [...new Set(chosen)].sort();
}
