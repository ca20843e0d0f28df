/** The ledger of a real agent: what real traffic leaves in it, over restarts, and of connections from before it. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { EdgeBook } from '../../src/edges/book.js';
import { edgeRuleText, type EdgeHistory, partyName } from '../../src/edges/edge.js';
import type { EdgesRequest } from '../../src/proto/edges.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { Agent } from './agent.js';
import { DROP_WAIT } from './host.js';
import { egressPolicy, toApp, toServer } from './policies.js';
import { until } from './shell.js';
import { servers, World } from './world.js';

/** `from → to:port verdict`, and what there is of Service, rule, audit. */
function text({ edge }: EdgeHistory): string {
  const through = edge.service === '' ? '' : ` by ${edge.service}:${edge.servicePort}`;
  const rule = edge.rule ? ` [${edgeRuleText(edge.rule)}]` : '';
  const audit = edge.auditVerdict === 'deny' ? ` audit [${edgeRuleText(edge.auditRule)}]` : '';
  return `${partyName(edge.source)} → ${partyName(edge.destination)}:${edge.port}${through} ${edge.verdict}${rule}${audit}`;
}

t.test('edges', async (t) => {
  const world = await World.create({ masquerade: true });
  t.teardown(() => world.close());
  const web = await world.pod('web');
  const api = await world.pod('api');
  const free = await world.pod('free');
  await api.host.listen('0.0.0.0', 8080, 'tcp', 'api');
  for (const which of ['one', 'two'] as const) await world.internet.listen(servers[which].ip4, 443, 'tcp', which);
  const vip = '10.96.0.77';
  await world.service({
    name: 'api',
    vips: [vip],
    ports: [{ name: 'http', port: 80, targetPort: 8080 }],
    backends: [api.ip4],
  });
  const audited = egressPolicy('draft', 'free', [toServer('one', 'tcp/443')]) as { metadata: object };
  // Whoever may write Services leads where he likes.
  const leads = (name: string, ip: string, ...backends: string[]) =>
    world.service({ name, vips: [ip], ports: [{ name: 'https', port: 80, targetPort: 443 }], backends });
  await leads('out', '10.96.0.78', servers.two.ip4);
  await leads('some', '10.96.0.79', servers.one.ip4, servers.two.ip4);
  world.write('policy.yaml', [
    egressPolicy('web', 'web', [toApp('api', 'tcp/8080'), toServer('one', 'tcp/443')]),
    { ...audited, metadata: { ...audited.metadata, annotations: { 'egress-agent.io/enforcement': 'audit' } } },
  ]);
  let agent = await Agent.start(world);
  const socket = join(agent.runDir, 'agent.sock');
  const read = async (request: EdgesRequest = {}): Promise<EdgeBook> => {
    const client = new AgentClient(socket);
    const book = new EdgeBook();
    try {
      for await (const message of client.edges(request)) book.add(message);
    } finally {
      client.close();
    }
    return book;
  };
  const find = (wanted: string) =>
    until(`the edge ${wanted}`, async () => (await read()).histories().find((h) => text(h) === wanted)).catch(
      async (e: unknown) => {
        throw new Error(`${String(e)}\n${(await read()).histories().map(text).join('\n')}`);
      },
    );

  await web.host.request(servers.one.ip4, 443);
  await web.host.request(servers.two.ip4, 443, { timeout: DROP_WAIT });
  await web.host.request(vip, 80);
  await free.host.request(servers.two.ip4, 443);

  await t.test('allowed, denied, through a Service, audited', async (t) => {
    const one = await find(`default/web → ${servers.one.ip4}:443 allow [np/default/web#1]`);
    t.match(one.days, [{ connections: 1 }]);
    t.ok((one.edge.rule?.generation ?? 0) > 0);
    const denied = await find(`default/web → ${servers.two.ip4}:443 deny [np/default/web#default]`);
    t.ok((denied.days[0]?.drops ?? 0) > 0);
    await find('default/web → default/api:8080 by default/api:80 allow [np/default/web#0]');
    const draft = `default/free → ${servers.two.ip4}:443 allow audit [np/default/draft#default]`;
    t.equal((await find(draft)).edge.reason, 'no-policy');
  });

  await t.test('a Service that leads outside', async (t) => {
    t.match(await free.host.request('10.96.0.78', 80), { result: 'ok', server: 'two' });
    await find(`default/free → ${servers.two.ip4}:443 by default/out:80 allow audit [np/default/draft#default]`);
    await until('it is translated to what is allowed', async () => {
      const { result } = await web.host.request('10.96.0.79', 80, { timeout: DROP_WAIT });
      return result === 'ok';
    });
    await find(`default/web → ${servers.one.ip4}:443 by default/some:80 allow [np/default/web#1]`);
    t.pass();
  });

  await t.test('bytes come with the end', async (t) => {
    const connection = await web.host.open(servers.one.ip4, 443);
    await connection.say('x'.repeat(5000));
    await connection.close();
    await until('the bytes are counted', async () => {
      const { days } = await find(`default/web → ${servers.one.ip4}:443 allow [np/default/web#1]`);
      return (days[0]?.bytes ?? 0) > 10_000 && days[0]?.connections === 2;
    });
    t.pass();
  });

  await t.test('an edited policy begins anew', async (t) => {
    const before = await find(`default/web → ${servers.one.ip4}:443 allow [np/default/web#1]`);
    await agent.apply('policy.yaml', [
      egressPolicy('web', 'web', [toApp('api', 'tcp/8080'), toServer('one', 'tcp/443', 'tcp/444')]),
    ]);
    await web.host.request(servers.one.ip4, 443);
    const generations = await until('both generations', async () => {
      const all = (await read()).histories().filter((h) => text(h) === text(before));
      return all.length === 2 && all.map((h) => h.edge.rule?.generation);
    });
    t.ok(generations.includes(before.edge.rule?.generation));
  });

  await t.test('what changes is told to who follows', async (t) => {
    const client = new AgentClient(socket);
    const stop = new AbortController();
    const book = new EdgeBook();
    let isCaughtUp = false;
    const following = (async () => {
      for await (const m of client.edges({ follow: true, interval_ms: 100 }, stop.signal)) {
        book.add(m);
        isCaughtUp ||= m.caught_up ?? false;
      }
    })();
    await until('all was told', async () => isCaughtUp);
    await free.host.request(servers.one.ip4, 443);
    await until('the new edge is told', async () =>
      book.histories().some(({ edge }) => edge.source.name === 'free' && edge.address === servers.one.ip4),
    );
    stop.abort();
    await following;
    client.close();
    await t.rejects(read({ workload: 'nobody' }), /workload/);
    const activity = new AgentClient(socket);
    const { rules = [] } = await activity.activity({});
    activity.close();
    t.ok(rules.some((r) => r.rule?.text === 'np/default/web#1'));
  });

  await t.test('a restart keeps all', async (t) => {
    const before = (await read()).histories();
    const open = await web.host.open(servers.one.ip4, 443);
    await find(`default/web → ${servers.one.ip4}:443 allow [np/default/web#1]`);
    await agent.stop();
    agent = await Agent.start(world);
    const after = new Map((await read()).histories().map((h) => [h.edge.id, h]));
    for (const { edge, days } of before)
      t.ok((after.get(edge.id)?.days[0]?.connections ?? -1) >= (days[0]?.connections ?? 0), text({ edge, days }));
    t.equal((await open.say('still')).text, 'still');

    // A ledger that is lost: the connection that is open is in the new one.
    await agent.kill();
    rmSync(join(agent.runDir, 'ledger'));
    agent = await Agent.start(world);
    const seeded = await find(`default/web → ${servers.one.ip4}:443 allow [np/default/web#1]`);
    t.match(seeded.days, [{ connections: 1 }]);
    await open.close();
  });
});
