/** 200 pods come and go, most of them isolated: nothing stays behind, and nobody else notices. */
import type { Test } from 'tap';
import { until } from '../netns/shell.js';
import type { Cluster } from './cluster.js';
import { namespace, podSpec, policy } from './objects.js';
import { SHOP, type World } from './world.js';

const NS = 'egress-e2e-churn';
const PODS = 200;
/** Maps that packets fill, or that are only counted now and then (agent/maps/tables/counter.ts). */
const COUNTED = ['flows', 'drop_notes', 'endpoints_more', 'sources'];

interface Status {
  endpoints?: { pod: string }[];
  problems?: { text: string }[];
  maps?: { name: string; entries?: string | number }[];
}

export async function churn(t: Test, cluster: Cluster, { client, ip }: World): Promise<void> {
  const status = async () => JSON.parse(await cluster.egressctl('status', '-o', 'json')) as Status;
  const before = await status();
  await cluster.apply(...namespace(NS), policy(NS, 'deny', {}, []));
  const steady = Number(await client.ask('steady', { host: ip('web-1'), port: 8080, timeout: 1500, everyMs: 50 }));
  const spec = podSpec(['first', ip(`${SHOP}/web-1`), '8080', '300']) as { containers: { command: string[] }[] };
  // Ends when its first connection has been tried: succeeds only if that was denied.
  const script = `require('net').connect(8080, '${ip(`${SHOP}/web-1`)}').on('data', () => process.exit(1)); setTimeout(() => process.exit(0), 300)`;
  (spec.containers[0] as { command: string[] }).command = ['node', '-e', script];
  await cluster.apply({
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: 'churn', namespace: NS },
    spec: {
      completions: PODS,
      parallelism: 12,
      backoffLimit: 0,
      template: { metadata: { labels: { job: 'churn' } }, spec: { ...spec, restartPolicy: 'Never' } },
    },
  });
  const ended = await until(
    `${PODS} pods have run`,
    async () => {
      const job = await cluster.json<{ status: { succeeded?: number; failed?: number } }>(
        '-n',
        NS,
        'get',
        'job',
        'churn',
      );
      return ((job.status.succeeded ?? 0) >= PODS || (job.status.failed ?? 0) > 0) && job.status;
    },
    15 * 60_000,
  );
  t.equal(ended.failed ?? 0, 0, 'none of them could connect');
  t.equal(ended.succeeded, PODS);
  const counts = await client.ask<Record<string, number>>('stop', { handle: steady });
  t.same(Object.keys(counts), ['ok'], `another pod’s connections: ${JSON.stringify(counts)}`);
  await cluster.kubectl('delete', 'namespace', NS);
  const after = await until('the agent has forgotten them', async () => {
    const now = await status();
    return (now.endpoints?.length ?? 0) <= (before.endpoints?.length ?? 0) && now;
  });
  t.same(
    (after.endpoints ?? []).map((e) => e.pod).sort(),
    (before.endpoints ?? []).map((e) => e.pod).sort(),
    'the endpoints are those of before',
  );
  const rows = (s: Status) =>
    Object.fromEntries(
      (s.maps ?? []).filter((m) => !COUNTED.includes(m.name)).map((m) => [m.name, Number(m.entries ?? 0)]),
    );
  await until(
    'the maps are as before',
    async () => JSON.stringify(rows(await status())) === JSON.stringify(rows(before)),
  ).catch(() => undefined);
  t.same(rows(await status()), rows(before), 'the maps hold what they held');
}
