/** Who looks, and what they may see. */

/** Namespaces that may be seen; undefined: all of the cluster, with what has no namespace. */
export type Scope = ReadonlySet<string> | undefined;

/** One user of one page. Every answer goes through it. */
export interface Viewer {
  /** The same for all pages of one user: limits count by it. */
  readonly id: string;
  /** For people; empty: whoever may use the socket or the kubeconfig. */
  readonly name: string;
  /**
   * What may be seen now. Asked again while a stream goes on, since rights change.
   * @throws AgentError AGENT if nobody can say: then nothing is shown
   */
  scope(): Promise<Scope>;
}

/** The user of `egressctl ui`: whatever the socket or the kubeconfig allows has been decided there. */
export const EVERYTHING: Viewer = { id: 'local', name: '', scope: () => Promise.resolve(undefined) };

/** Whether something of a namespace may be seen. @param namespace empty: of the cluster */
export function mayUse(scope: Scope, namespace: string): boolean {
  return scope === undefined || scope.has(namespace);
}
