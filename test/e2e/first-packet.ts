/** A pod whose first act is to connect: judged by its own policy with the gate, closed until it is known without. */
import type { Test } from 'tap';
import { until } from '../netns/shell.js';
import type { Cluster } from './cluster.js';
import { namespace, pod, policy } from './objects.js';
import { SHOP, type World } from './world.js';

const NS = 'egress-e2e-first';

async function said(cluster: Cluster, name: string): Promise<string> {
  return until(
    `${name} says something`,
    async () => (await cluster.kubectl('-n', NS, 'logs', name)).trim() || false,
    90_000,
  );
}

export async function firstPacket(t: Test, cluster: Cluster, { ip }: World, few: boolean): Promise<void> {
  const rounds = few ? 3 : 8;
  await cluster.apply(
    ...namespace(NS),
    policy(NS, 'deny', {}, []),
    policy(NS, 'allowed', { matchLabels: { may: 'yes' } }, [
      { to: [{ namespaceSelector: { matchLabels: { team: 'shop' } }, podSelector: { matchLabels: { app: 'web' } } }] },
    ]),
  );
  const first = (name: string, may: string, ms: number) =>
    pod(NS, name, { labels: { may }, args: ['first', ip(`${SHOP}/web-1`), '8080', String(ms)] });

  await t.test('with the gate', async (t) => {
    for (let i = 0; i < rounds; i++) {
      await cluster.apply(first(`no-${i}`, 'no', 1500), first(`yes-${i}`, 'yes', 700));
      t.equal(await said(cluster, `no-${i}`), 'timeout', `the first connection of no-${i} is denied`);
      // Shorter than TCP's first repetition: the very first packet passed.
      t.match(
        await said(cluster, `yes-${i}`),
        /^ok/,
        `the first connection of yes-${i} passes, its first packet already`,
      );
      await cluster.kubectl('-n', NS, 'delete', 'pod', `no-${i}`, `yes-${i}`, '--wait=false');
    }
  });

  if (!few) await t.test('without the gate', (t) => withoutGate(t));

  async function withoutGate(t: Test): Promise<void> {
    await cluster.uninstall();
    await cluster.install('dev-plain');
    for (let i = 0; i < rounds; i++) {
      await cluster.apply(first(`plain-no-${i}`, 'no', 1500), first(`plain-yes-${i}`, 'yes', 15_000));
      t.equal(await said(cluster, `plain-no-${i}`), 'timeout', `the first connection of plain-no-${i} is denied`);
      t.match(await said(cluster, `plain-yes-${i}`), /^ok/, `plain-yes-${i} gets through when it is known`);
      await cluster.kubectl('-n', NS, 'delete', 'pod', `plain-no-${i}`, `plain-yes-${i}`, '--wait=false');
    }
    await cluster.uninstall();
    await cluster.install('dev');
  }
  await cluster.kubectl('delete', 'namespace', NS);
}
