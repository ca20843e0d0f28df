/** POST /api/namespaces: what the namespace picker lists. */
export interface NamespaceInfo {
  readonly name: string;
  readonly pods: number;
  readonly policies: number;
}
