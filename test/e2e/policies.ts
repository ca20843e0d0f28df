/** Every construct of a NetworkPolicy's egress, on real pods: what passes, what does not, and who is not concerned. */
import type { Test } from 'tap';
import type { Cluster } from './cluster.js';
import { byName, policy } from './objects.js';
import { OTHER, SHOP, settled, type World } from './world.js';

export async function policies(t: Test, cluster: Cluster, { client, other, host, ip, vip }: World): Promise<void> {
  const quick = 700;
  const to = (name: string, port = 8080) => client.tcp(ip(name), port, quick);
  const denied = (result: string, what: string) => t.equal(result, 'timeout', what);
  const passes = (result: string, what: string) => t.match(result, /^ok/, what);
  const put = async (egress: object[], podSelector: object = { matchLabels: { name: 'client' } }) => {
    await cluster.apply(policy(SHOP, 'main', podSelector, egress));
  };

  passes(await to('web-1'), 'without a policy everything passes');

  await put([], {});
  t.equal(await settled('default deny', 'timeout', () => to('web-1')), 'timeout', 'default deny');
  denied(await client.udp(ip('web-1'), 5353, quick), 'UDP too');
  denied(await client.tcp(vip('web'), 80, quick), 'and a Service whose backends are all denied');
  passes(await other.tcp(ip(`${OTHER}/web`), 8080), 'another namespace is not concerned');
  passes(await other.tcp(ip('web-1'), 8080), 'what is opened to an isolated pod is answered');
  passes(await host.tcp(ip('web-1'), 8080), 'a hostNetwork pod is not concerned');

  await put([{ to: [{ podSelector: { matchLabels: { app: 'web' } } }] }]);
  t.equal(await settled('allowed by pod', 'ok', () => to('web-1')), 'ok', 'allowed by pod label');
  denied(await to('db'), 'others are not');
  denied(await client.tcp(ip(`${OTHER}/web`), 8080, quick), 'nor pods of that label elsewhere');
  passes(await client.tcp(vip('web'), 80), 'a Service with allowed backends');
  denied(await client.tcp(vip('db'), 80, quick), 'a Service with denied backends');

  await put([{ to: [{ namespaceSelector: { matchLabels: { team: 'other' } } }] }]);
  t.equal(
    await settled('allowed by namespace', 'ok', () => client.tcp(ip(`${OTHER}/web`), 8080, quick)),
    'ok',
    'allowed by namespace label',
  );
  denied(await to('web-1'), 'the own namespace is not');

  const net = `${ip('web-1').split('.').slice(0, 3).join('.')}.0/24`;
  await put([{ to: [{ ipBlock: { cidr: net, except: [`${ip('db')}/32`] } }] }]);
  t.equal(await settled('allowed by CIDR', 'ok', () => to('web-1')), 'ok', 'allowed by CIDR');
  denied(await to('db'), 'but not its exception');

  await put([{ ports: [{ port: 'alt' }] }]);
  // Asked first of db, whose every port was denied until now: web-1 was allowed by the policy before, too.
  t.equal(await settled('named port', 'ok', () => to('db', 9003)), 'ok', 'a port name is each pod’s own number');
  passes(await to('web-1', 9001), 'another number at another pod');
  denied(await to('web-1', 9003), 'which is not this one’s');
  denied(await to('web-1', 8080), 'and no other port');

  await put([{ to: [byName('web-1')], ports: [{ port: 8080 }] }]);
  await settled('one backend', 'ok', () => to('web-1'));
  const seen: Record<string, number> = {};
  for (let i = 0; i < 24; i++) {
    const result = await client.tcp(vip('web'), 80, quick);
    seen[result] = (seen[result] ?? 0) + 1;
  }
  t.ok(
    (seen['ok web-1'] ?? 0) > 0 && (seen.timeout ?? 0) > 0,
    `one of two backends is allowed: ${JSON.stringify(seen)}`,
  );
  t.equal(seen['ok web-2'], undefined, 'the other never answers');

  const handle = Number(await client.ask('open', { host: ip('web-1'), port: 8080 }));
  passes(await client.ask('ping', { handle }), 'an open connection');
  await put([{ to: [byName('db')] }]);
  t.equal(
    await settled('the update', 'timeout', () => client.ask('ping', { handle, timeout: quick })),
    'timeout',
    'a policy that changes cuts it',
  );
  await put([{ to: [byName('web-1')], ports: [{ port: 8080 }] }]);
  // What was sent meanwhile is repeated by TCP, with pauses that double.
  t.equal(
    await settled('the way back', 'ok', () => client.ask('ping', { handle, timeout: 3000 })),
    'ok',
    'and joins it again',
  );
  await cluster.kubectl('-n', SHOP, 'delete', 'networkpolicy', 'main');
  t.equal(await settled('the deletion', 'ok', () => to('db')), 'ok', 'a policy that is deleted lets everything pass');
  passes(await client.ask('ping', { handle, timeout: 3000 }), 'the connection is still there');

  // A warning about an object reaches its author as an Event.
  await cluster.apply(
    policy(SHOP, 'odd', byName('nobody').podSelector, [{ to: [{ ipBlock: { cidr: '10.1.2.3/8' } }] }]),
  );
  const events = () => cluster.kubectl('-n', SHOP, 'get', 'events', '--field-selector', 'involvedObject.name=odd');
  t.equal(
    await settled('the Event', 'found', async () =>
      (await events()).includes('PolicyQuestionable') ? 'found' : 'none',
    ),
    'found',
    'a policy that says something odd gets an Event',
  );
  t.match(await cluster.egressctl('status'), /odd.*10\.0\.0\.0\/8/s, 'and stands in status');
  await cluster.kubectl('-n', SHOP, 'delete', 'networkpolicy', 'odd');
}
