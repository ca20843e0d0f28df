/** The API server stops answering: enforcement and flows go on, status says since when; then everything catches up. */
import { join } from 'node:path';
import type { Test } from 'tap';
import { compiled, run, until } from '../netns/shell.js';
import { type Cluster, Control } from './cluster.js';
import { byName, pod, policy } from './objects.js';
import { SHOP, settled, type World } from './world.js';

export async function apiGoes(t: Test, cluster: Cluster, { ip }: World): Promise<void> {
  if (cluster.place.kind !== 'test-node') {
    t.comment('this cluster’s API server cannot be stopped from here');
    return;
  }
  await cluster.apply(policy(SHOP, 'main', { matchLabels: { app: 'steady' } }, [{ to: [byName('web-1')] }]));
  // They write into their logs: an exec would end with the API server that carries it.
  const steady = (name: string, to: string, ms: number) =>
    pod(SHOP, name, { labels: { app: 'steady' }, args: ['steady', ip(to), '8080', String(ms), '20'] });
  await cluster.apply(steady('steady-good', 'web-1', 900), steady('steady-bad', 'db', 250));
  await cluster.kubectl(
    '-n',
    SHOP,
    'wait',
    '--for=condition=Ready',
    'pod/steady-good',
    'pod/steady-bad',
    '--timeout=60s',
  );
  const counts = async (name: string) => {
    const log = await cluster.kubectl('-n', SHOP, 'logs', name, '--tail=1');
    return JSON.parse(log) as Record<string, number>;
  };
  await until('they are under way', async () => Object.keys(await counts('steady-bad')).length > 0);
  const [goodBefore, badBefore] = [await counts('steady-good'), await counts('steady-bad')];

  // The run directory is the node's own.
  const main = join(compiled, 'src/cli/main.js');
  const ctl = async (...args: string[]) =>
    (await run(process.execPath, [main, '--socket', '/run/egress-agent/agent.sock', ...args])).stdout;
  const start = cluster.killApiServer();
  try {
    const told = await until(
      'status says that the API server is gone',
      async () => {
        const { api } = JSON.parse(await ctl('status', '-o', 'json')) as { api?: { stale_since?: unknown } };
        return api?.stale_since !== undefined && (await ctl('status'));
      },
      60_000,
    );
    t.match(told, /API.*ago/, 'status says since when the API server cannot be followed');
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    t.match(
      await ctl('flows', '--last', '20', '--from-pod', `${SHOP}/steady-bad`),
      /steady-bad/,
      'flows are told meanwhile',
    );
  } finally {
    start?.();
  }
  await until('the API server answers', () => cluster.kubectl('get', 'nodes'), 60_000);
  const [good, bad] = [await counts('steady-good'), await counts('steady-bad')];
  t.same(Object.keys(good), ['ok'], `what may pass did all the time: ${JSON.stringify([goodBefore, good])}`);
  t.same(Object.keys(bad), ['timeout'], `what may not did not: ${JSON.stringify([badBefore, bad])}`);
  t.ok(
    (good.ok ?? 0) > (goodBefore.ok ?? 0) + 100 && (bad.timeout ?? 0) > (badBefore.timeout ?? 0) + 10,
    'and went on',
  );
  await cluster.apply(policy(SHOP, 'other', { matchLabels: { name: 'client' } }, [{ to: [byName('web-2')] }]));
  // The world's controls ended with the API server.
  const client = new Control(cluster, SHOP, 'client');
  const last = await settled('the next policy', 'timeout', () => client.tcp(ip('web-1'), 8080, 700));
  t.equal(last, 'timeout', 'what changes then is followed');
  client.close();
  await cluster.kubectl('-n', SHOP, 'delete', 'networkpolicy', 'main', 'other');
  await cluster.kubectl('-n', SHOP, 'delete', 'pod', 'steady-good', 'steady-bad', '--wait=false');
}
