/** The agent of the web UI's bench: that its cluster is as large as is said, and that what it makes arrives. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { EdgeBook } from '../../src/edges/book.js';
import { partyName } from '../../src/edges/edge.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { BenchAgent } from '../bench/ui-agent-process.js';
import { until } from '../netns/shell.js';

const EDGES = 3000;

t.test('the agent of the bench', { timeout: 120_000 }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ui-bench-agent-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const agent = await BenchAgent.start(join(dir, 'agent.sock'), EDGES);
  t.teardown(() => agent.stop());
  const client = new AgentClient(agent.socket);
  t.teardown(() => client.close());

  await t.test('edges', async (t) => {
    const book = new EdgeBook();
    for await (const message of client.edges({})) book.add(message);
    const all = book.histories();
    t.equal(all.length, EDGES);
    t.equal(new Set(all.map(({ edge }) => partyName(edge.source))).size, 1000, 'workloads');
    t.equal(new Set(all.map(({ edge }) => edge.source.namespace)).size, 40, 'namespaces');
    t.ok(all.filter(({ days }) => days.length > 10).length > EDGES / 2, 'with a past');
    const dialects = new Set(all.map(({ edge }) => edge.rule?.ref.policy.dialect ?? 'none'));
    for (const one of ['networkpolicy', 'calico', 'cilium', 'fqdn']) t.ok(dialects.has(one), one);
    t.ok(all.some(({ edge }) => edge.verdict === 'allow' && edge.auditVerdict === 'deny'));
    t.notOk(all.some(({ edge }) => edge.destination.kind === 'other'));
  });

  await t.test('policies', async (t) => {
    const { objects = [] } = await client.policyObjects({});
    const policies = objects.filter((o) => !o.supporting);
    t.equal(new Set(policies.map((o) => `${o.kind} ${o.namespace}/${o.name}`)).size, 300);
    t.ok(policies.every((o) => o.state === 'in-force' && (o.yaml?.length ?? 0) > 50));
    const { verdict } = await client.explain({
      from: 'shop-0/web-0-6d4b8c7f9d-x00',
      to: '10.200.0.40',
      port: 80,
      protocol: 6,
    });
    t.equal(verdict, 'allow');
  });

  await t.test('flows, and an edge that is new', async (t) => {
    await agent.rate(2000);
    await until('they are made', async () => (await agent.stats()).produced > 500);
    await agent.rate(0);
    let flows = 0;
    for await (const { record } of client.getRecords({ number: '100' })) if (record) flows++;
    t.equal(flows, 100);
    const denied = await agent.denyOne();
    t.ok(Math.abs(performance.timeOrigin + performance.now() - denied.at) < 5000);
    const book = new EdgeBook();
    for await (const message of client.edges({ verdicts: ['deny'] })) book.add(message);
    t.ok(book.histories().some(({ edge }) => edge.destination.name === denied.to && edge.port === denied.port));
    t.equal((await agent.stats()).edges, EDGES + 1);
  });
});
