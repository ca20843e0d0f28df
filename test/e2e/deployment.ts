/** The DaemonSet comes, says that it is ready, and goes without a trace. */
import type { Test } from 'tap';
import { run, until } from '../netns/shell.js';
import { type Cluster, SYSTEM } from './cluster.js';
import { OTHER, SHOP } from './world.js';

export async function deployment(t: Test, cluster: Cluster, what: 'install' | 'remove' = 'install'): Promise<void> {
  if (what === 'remove') {
    await cluster.uninstall();
    for (const ns of [SHOP, OTHER]) await cluster.kubectl('delete', 'namespace', ns, '--ignore-not-found');
    const namespaces = await cluster.kubectl('get', 'namespaces');
    t.notMatch(namespaces, SYSTEM, 'the namespace is gone');
    if (cluster.place.kind !== 'test-node') return;
    const left = await run('sh', ['-c', 'ls -A /sys/fs/bpf/egress-agent /run/egress-agent 2>/dev/null; true']);
    t.equal(left.stdout, '', 'nothing is left on the node');
    t.notMatch(await cluster.gateFiles(), 'egress-gate', 'the CNI configuration is as it was');
    return;
  }
  await cluster.install('dev');
  const pod = await cluster.agentPod();
  const { items } = await cluster.json<{ items: { spec: { containers: { securityContext: object }[] } }[] }>(
    '-n',
    SYSTEM,
    'get',
    'pods',
    '-l',
    'app.kubernetes.io/name=egress-agent',
  );
  t.match(items[0]?.spec.containers[0]?.securityContext, { privileged: false, readOnlyRootFilesystem: true });
  t.match(await cluster.egressctl('status'), /cluster in https:/, `${pod} tells its status`);
  const status = JSON.parse(await cluster.egressctl('status', '-o', 'json')) as { gate?: { installed?: boolean } };
  t.equal(status.gate?.installed, true, 'the CNI gate is installed');
  await until(
    'the certificates are made',
    async () => {
      await cluster.kubectl('-n', SYSTEM, 'get', 'secret', 'egress-client-tls');
      return true;
    },
    60_000,
  );
  t.pass('the certificates are made');
  await cluster.kubectl('-n', SYSTEM, 'rollout', 'status', 'deploy/egress-relay', '--timeout=120s');
  t.pass('the relay runs');
}
