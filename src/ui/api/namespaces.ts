/** Which namespaces there are: those of the pods that agents see, and of policies. */
import type { ClusterStatusResponse } from '../../proto/status.js';
import type { PolicyObjectsRequest, PolicyObjectsResponse } from '../../proto/edges.js';
import { mayUse } from '../access/viewer.js';
import type { NamespaceInfo } from '../wire/namespaces.js';
import type { Handler } from './handler.js';

/** The part of a client that is used. */
export interface NamespaceSource {
  clusterStatus(): Promise<ClusterStatusResponse>;
  policyObjects(request: PolicyObjectsRequest, deadlineMs: number): Promise<PolicyObjectsResponse>;
}

/** All pages of all users share one answer for so long, milliseconds. */
const KEPT_MS = 10_000;
const ANSWER_MS = 30_000;

/** @returns the handler; each viewer gets what they may see */
export function namespacesHandler(source: NamespaceSource): Handler {
  let kept: Promise<readonly NamespaceInfo[]> | undefined;
  let keptAt = 0;
  return async (_, viewer) => {
    if (!kept || Date.now() - keptAt > KEPT_MS) {
      keptAt = Date.now();
      const asked = read(source);
      kept = asked;
      // The next one asks again.
      asked.catch(() => {
        if (kept === asked) kept = undefined;
      });
    }
    const scope = await viewer.scope();
    return { namespaces: (await kept).filter(({ name }) => mayUse(scope, name)) };
  };
}

async function read(source: NamespaceSource): Promise<readonly NamespaceInfo[]> {
  const [status, policies] = await Promise.all([source.clusterStatus(), source.policyObjects({}, ANSWER_MS)]);
  const out = new Map<string, { pods: number; policies: number }>();
  const of = (name: string) => {
    let found = out.get(name);
    if (!found) out.set(name, (found = { pods: 0, policies: 0 }));
    return found;
  };
  for (const node of status.nodes ?? []) {
    for (const { pod } of node.status?.endpoints ?? []) {
      const slash = pod.indexOf('/');
      // `node/NAME` is the node itself.
      if (slash > 0 && !pod.startsWith('node/')) of(pod.slice(0, slash)).pods++;
    }
  }
  for (const { namespace = '' } of policies.objects ?? []) if (namespace !== '') of(namespace).policies++;
  return [...out].map(([name, counts]) => ({ name, ...counts })).sort((a, b) => (a.name < b.name ? -1 : 1));
}
