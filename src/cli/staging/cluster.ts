/** The policies and CronJobs of the cluster, with the rights of the user's kubeconfig. */
import type { CronJob } from '../../staging/impact.js';
import type { PolicyApi } from '../../staging/live/api.js';
import type { CronJobSource } from '../../staging/live/count.js';
import type { ClusterFlags } from '../common/target.js';

/** The caller closes it. @throws AgentError USAGE if there is no usable kubeconfig */
export async function openPolicyApi({
  kubeconfig,
  context,
}: Pick<ClusterFlags, 'kubeconfig' | 'context'>): Promise<PolicyApi> {
  // They take longer to load than everything else, and whoever asks the agent of this machine needs none of them.
  const { KubeClient, loadKubeConfig } = await import('../../kube/client/client.js');
  const { PolicyApi: Api } = await import('../../staging/live/api.js');
  return new Api(new KubeClient(loadKubeConfig({ kubeconfig, context }), { userAgent: 'egressctl' }), 'egressctl');
}

/**
 * Reads CronJobs; if they may not be read there are none, with a warning on standard error.
 * @param isOfCluster false: none are looked at
 * @throws AgentError USAGE if there is no usable kubeconfig
 */
export function cronJobsWith(flags: ClusterFlags, isOfCluster: boolean): CronJobSource {
  return async (namespace): Promise<readonly CronJob[]> => {
    if (!isOfCluster) return [];
    const api = await openPolicyApi(flags);
    try {
      return await api.cronJobs(namespace);
    } catch (e) {
      const { message } = e as Error;
      process.stderr.write(
        `egressctl: CronJobs cannot be read, and are not looked at: ${message.replace(/[^ -~]/g, '?')}\n`,
      );
      return [];
    } finally {
      api.close();
    }
  };
}
