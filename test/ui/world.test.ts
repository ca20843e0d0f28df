/** The world of the web UI's tests: that it shows what they are about, as a client of the agent gets it. */
import t from 'tap';
import { EdgeBook } from '../../src/edges/book.js';
import { edgeRuleText, type EdgeHistory, partyName } from '../../src/edges/edge.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { until } from '../netns/shell.js';
import { startWorld } from './world.js';

/** `from → to:port verdict`, and what there is of Service, rule, audit. */
function text({ edge }: EdgeHistory): string {
  const ends = `${edge.inbound ? 'in ' : ''}${partyName(edge.source)} → ${partyName(edge.destination)}:${edge.port}`;
  const through = edge.service === '' ? '' : ` by ${edge.service}:${edge.servicePort}`;
  const rule = edge.rule ? `[${edgeRuleText(edge.rule)}]` : edge.reason;
  const audit =
    edge.auditVerdict === 'deny' && edge.verdict !== 'deny' ? ` audit [${edgeRuleText(edge.auditRule)}]` : '';
  return `${ends}${through} ${edge.verdict} ${rule}${audit}`;
}

const EDGES = [
  'shop/web → shop/api:8080 by shop/api:80 allow [np/shop/web#0]',
  'shop/web → 203.0.113.10:443 allow [np/shop/web#1]',
  'shop/web → 2001:db8:100::10:443 allow [np/shop/web#1]',
  'shop/web → 203.0.113.20:443 deny [np/shop/dns#default]',
  'shop/web → svc shop/mixed:443 by shop/mixed:443 partial none',
  'shop/checkout → kube-system/coredns:53 by kube-system/kube-dns:53 allow [np/shop/dns#0]',
  'shop/checkout → payments.example.com:443 allow [fqdn/shop/checkout#0]',
  'shop/checkout → tracker.example.net:443 deny [fqdn/shop/checkout#default]',
  'shop/api → data/db:5432 allow [cilium/shop/api#0 "egress[0]"]',
  'shop/api → data/cache:6380 deny [cilium/shop/api#0 "egressDeny[0]"]',
  'shop/batch → 203.0.113.10:443 allow no-policy',
  'shop/batch → 203.0.113.20:443 allow no-policy audit [np/shop/batch#default]',
  'shop/legacy → shop/mail:25 allow no-policy',
  'shop/legacy → 203.0.113.20:23 deny [cnp/no-telnet#0 "nobody uses telnet"]',
  'data/db → 203.0.113.10:443 allow [calico/data/default.db#0]',
  'data/db → 203.0.113.20:443 deny [gnp/security.data#1]',
  'data/cache → 203.0.113.10:80 allow [cnp/data-baseline#0 "one is fine"]',
  'node node-a → 203.0.113.10:443 allow [ccnp/nodes#0 "egress[0]"]',
  'node node-a → 203.0.113.20:25 deny [ccnp/nodes#0 "egressDeny[0]"]',
  'in 10.0.0.1 → shop/web:8080 allow reply',
  'in node node-a → shop/web:8080 allow reply',
];

t.test('the world', { timeout: 120_000 }, async (t) => {
  const world = await startWorld({ trickle: false });
  t.teardown(() => world.stop());
  const client = new AgentClient(world.socket);
  t.teardown(() => client.close());
  const edges = async () => {
    const book = new EdgeBook();
    for await (const message of client.edges({})) book.add(message);
    return book.histories();
  };

  await t.test('edges of every verdict', async (t) => {
    const missing = async () => {
      const all = new Set((await edges()).map(text));
      return EDGES.filter((e) => !all.has(e));
    };
    await until(
      'all are there',
      async () => {
        if ((await missing()).length === 0) return true;
        // Which backend of two it is, is left to chance.
        await world.traffic.once('partial: web to mixed');
      },
      10_000,
    ).catch(() => undefined);
    t.same(await missing(), [], (await edges()).map(text).join('\n'));
  });

  await t.test('flows of every verdict', async (t) => {
    const seen = async () => {
      const found = new Set<string>();
      for await (const { record } of client.getRecords({ number: '100000' }))
        if (record) found.add(`${record.event} ${record.verdict} ${record.flow.verdict}`);
      return found;
    };
    for (const wanted of [
      'verdict allow FORWARDED',
      'verdict deny DROPPED',
      'verdict allow AUDIT',
      'log none TRACED',
      'end allow FORWARDED',
    ])
      t.ok(await until(wanted, async () => (await seen()).has(wanted)), wanted);
  });

  await t.test('policies of every language and state', async (t) => {
    const { objects = [] } = await client.policyObjects({});
    const dialects = new Set(objects.map((o) => o.dialect).filter(Boolean));
    t.same([...dialects].sort(), ['calico', 'cilium', 'clusternetworkpolicy', 'fqdn', 'networkpolicy']);
    const tiers = new Set(objects.map((o) => o.tier).filter(Boolean));
    for (const tier of ['security', 'kube-admin', 'kube-baseline', 'default']) t.ok(tiers.has(tier), tier);
    t.match(
      objects.find((o) => o.name === 'refused'),
      { state: 'refused', problems: [{ field: /cidr/ }] },
    );
    t.match(
      objects.find((o) => o.name === 'batch'),
      { staged: true, pods: 1 },
    );
    const activity = await client.activity({});
    t.match(activity.would_deny, [{ edge: { source: { name: 'batch' } } }]);
    const { verdict } = await client.explain({
      from: `shop/${world.pods['shop/web']?.name}`,
      to: '203.0.113.20',
      port: 443,
      protocol: 6,
    });
    t.equal(verdict, 'deny');
  });

  await t.test('a policy comes and goes', async (t) => {
    const name = 'denied: web to two';
    const yaml = JSON.stringify({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'more', namespace: 'shop' },
      spec: { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Egress'], egress: [{}] },
    });
    await world.applyManifest('more', yaml);
    t.equal((await world.traffic.once(name))[name]?.result, 'ok');
    await world.removeManifest('more');
    t.equal((await world.traffic.once(name))[name]?.result, 'timeout');
    await t.rejects(world.applyManifest('cluster', ''), /own/);
    await t.rejects(world.traffic.once('nonsense'), /no traffic/);
  });

  await t.test('the trickle, and an agent that goes', async (t) => {
    const before = (await client.status()).flows_seen;
    world.traffic.resume();
    await until(
      'flows come by themselves',
      async () => Number((await client.status()).flows_seen) > Number(before) + 10,
    );
    await world.stopAgent();
    await t.rejects(client.status(500), { code: 'AGENT' });
    await world.restartAgent();
    await until('it is back', async () => (await client.status()).version);
    await world.traffic.pause();
    t.ok((await edges()).length >= EDGES.length);
  });
});
