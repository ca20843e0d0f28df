import type { ColorMode } from './output.js';
import { type ClusterFlags, DEFAULT_SOCKET, hasKubeconfig, isClusterMeant } from './target.js';

/** The global options, which every command has. */
export interface Globals extends ClusterFlags {
  socket: string;
  color: ColorMode;
}

/** Whether a command queries the agents of a cluster instead of the local one. A non-default socket means the local one. */
export function isCluster(flags: Globals): Promise<boolean> {
  return isClusterMeant(flags, flags.socket === DEFAULT_SOCKET ? undefined : flags.socket, DEFAULT_SOCKET);
}

/** The same for what only a cluster's relay knows: an agent on this machine is no reason not to ask the cluster. */
export async function isRelayMeant(flags: Globals): Promise<boolean> {
  return (await isCluster(flags)) || (flags.socket === DEFAULT_SOCKET && hasKubeconfig());
}
