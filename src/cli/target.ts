/** Whom egressctl asks: the agent of this machine, or those of a cluster. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';

export const DEFAULT_SOCKET = '/run/egress-agent/agent.sock';

/** What chooses a cluster, and says where in it. */
export interface ClusterFlags {
  kubeconfig?: string;
  context?: string;
  namespaceOfAgents: string;
  node?: string;
}

/**
 * The cluster is meant where it is named, where this is `kubectl egress`, and where no agent runs here but a kubeconfig
 * is there.
 * @param socket the agent's; undefined: the default one, which nobody has named
 */
export function isClusterMeant(flags: Partial<ClusterFlags>, socket: string | undefined, fallback: string): boolean {
  if (flags.kubeconfig !== undefined || flags.context !== undefined || flags.node !== undefined) return true;
  if (socket !== undefined) return false;
  if (basename(process.argv[1] ?? '').startsWith('kubectl-egress')) return true;
  const hasConfig =
    Boolean(process.env.KUBECONFIG) || existsSync(join(process.env.HOME || homedir(), '.kube', 'config'));
  return !existsSync(fallback) && hasConfig;
}
