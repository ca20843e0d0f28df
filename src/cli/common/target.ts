/** Decides which agents egressctl queries: the one on this machine, or those of a cluster. */
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';

export const DEFAULT_SOCKET = '/run/egress-agent/agent.sock';

/** The options that select a cluster and the agents in it. */
export interface ClusterFlags {
  kubeconfig?: string;
  context?: string;
  namespaceOfAgents: string;
  node?: string;
}

/**
 * Whether to query a cluster: if an option names one, if the program runs as `kubectl egress`, or if no agent listens
 * on this machine and a kubeconfig exists.
 * @param socket path of the agent's socket if the user gave one
 * @param fallback path of the default socket
 */
export async function isClusterMeant(
  flags: Partial<ClusterFlags>,
  socket: string | undefined,
  fallback: string,
): Promise<boolean> {
  if (flags.kubeconfig !== undefined || flags.context !== undefined || flags.node !== undefined) return true;
  if (socket !== undefined) return false;
  if (basename(process.argv[1] ?? '').startsWith('kubectl-egress')) return true;
  return hasKubeconfig() && !(await isListening(fallback));
}

/** Whether there is a kubeconfig without one being named. */
export function hasKubeconfig(): boolean {
  return Boolean(process.env.KUBECONFIG) || existsSync(join(process.env.HOME || homedir(), '.kube', 'config'));
}

/**
 * Whether a process listens on a socket. A killed agent leaves a socket file that refuses connections. Any other error,
 * such as a missing permission, means that an agent listens.
 */
function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(code !== 'ENOENT' && code !== 'ECONNREFUSED'));
  });
}
