/** Under steady traffic: the agent killed, the DaemonSet upgraded. What is denied stays denied, what passes goes on. */
import type { Test } from 'tap';
import { until } from '../netns/shell.js';
import { type Cluster, Control, SYSTEM } from './cluster.js';
import { byName, pod, policy } from './objects.js';
import { SHOP, settled, type World } from './world.js';

type Counts = Record<string, number>;

export async function agentGoes(t: Test, cluster: Cluster, { client, ip }: World): Promise<void> {
  const quick = 700;
  await cluster.apply(policy(SHOP, 'main', { matchLabels: { name: 'client' } }, [{ to: [byName('web-1')] }]));
  await settled('the policy', 'timeout', () => client.tcp(ip('db'), 8080, quick));
  const handle = Number(await client.ask('open', { host: ip('web-1'), port: 8080 }));

  const under = async (what: string, change: () => Promise<void>) => {
    // Allowed connections must all succeed, at the first attempt: no packet is lost. Denied ones must all fail.
    const good = Number(await client.ask('steady', { host: ip('web-1'), port: 8080, timeout: 900, everyMs: 10 }));
    const bad = Number(await client.ask('steady', { host: ip('db'), port: 8080, timeout: 250, everyMs: 10 }));
    await change();
    const [passed, denied] = [
      await client.ask<Counts>('stop', { handle: good }),
      await client.ask<Counts>('stop', { handle: bad }),
    ];
    t.ok(
      (passed.ok ?? 0) > 20 && Object.keys(passed).length === 1,
      `${what}: all that may, does: ${JSON.stringify(passed)}`,
    );
    t.ok(
      (denied.timeout ?? 0) > 3 && Object.keys(denied).length === 1,
      `${what}: nothing else does: ${JSON.stringify(denied)}`,
    );
    t.match(await client.ask('ping', { handle, timeout: 3000 }), /^ok/, `${what}: an open connection goes on`);
  };

  const replaced = async (before: string) => {
    await until('another agent is ready', async () => (await cluster.agentPod()) !== before, 90_000);
  };
  await under('agent deleted with --force', async () => {
    const before = await cluster.agentPod();
    await cluster.kubectl('-n', SYSTEM, 'delete', 'pod', before, '--force', '--grace-period=0');
    await replaced(before);
  });
  await under('DaemonSet upgraded', async () => {
    const before = await cluster.agentPod();
    await cluster.kubectl('-n', SYSTEM, 'set', 'env', 'ds/egress-agent', `E2E_UPGRADE=${Date.now()}`);
    await cluster.kubectl('-n', SYSTEM, 'rollout', 'status', 'ds/egress-agent', '--timeout=120s');
    await replaced(before);
  });
  await cluster.apply(policy(SHOP, 'main', { matchLabels: { name: 'client' } }, [{ to: [byName('db')] }]));
  t.equal(await settled('the new agent', 'ok', () => client.tcp(ip('db'), 8080, quick)), 'ok', 'the new agent follows');

  // A pod that is probed by kubelet, and isolated in both directions.
  await cluster.apply(
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'closed', namespace: SHOP },
      spec: { podSelector: { matchLabels: { name: 'probed' } }, policyTypes: ['Egress'], egress: [] },
    },
    pod(SHOP, 'probed', {
      args: ['serve', 'probed', 'tcp:8080'],
      readiness: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
    }),
  );
  await cluster.kubectl('-n', SHOP, 'wait', '--for=condition=Ready', 'pod/probed', '--timeout=60s');
  t.pass('kubelet’s probes reach an isolated pod');
  const probed = new Control(cluster, SHOP, 'probed');
  t.equal(await probed.tcp(ip('web-1'), 8080, quick), 'timeout', 'which reaches nothing itself');
  probed.close();
  await cluster.kubectl('-n', SHOP, 'delete', 'pod', 'probed', '--wait=false');
  await cluster.kubectl('-n', SHOP, 'delete', 'networkpolicy', 'main', 'closed');
}
