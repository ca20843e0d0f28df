/** What nodes unwrap is not for policies to allow; which addresses are nodes', and at what cost that is known. */
import t from 'tap';
import type { Address } from '../../agent/netlink/netlink.js';
import { broadcastAddresses } from '../../agent/endpoints/uplinks.js';
import { Compiler } from '../../src/compile/index.js';
import { NodeTable } from '../../src/compile/nodes.js';
import { toIr } from '../../src/dialects/index.js';
import { SharedMap } from '../../src/identity/shared-map.js';
import type { Node, Snapshot } from '../../src/identity/snapshot.js';
import { simulate } from '../../src/image/simulate.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { explain } from '../../src/explain/explain.js';
import { sortedTunnels, tunnelTable, USUAL_TUNNELS } from '../../src/net/tunnels.js';
import { packet, pod, policy, show, snapshotOf } from './world.js';

const WORLD =
  pod('default/web', '10.1.0.1', { app: 'web' }) +
  '---\n{apiVersion: v1, kind: Node, metadata: {name: node-b}, status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}}\n' +
  policy('default/web', { podSelector: {}, policyTypes: ['Egress'], egress: [{}] });

const address = (ip: string, prefix: number): Address => ({ ifindex: 1, family: 4, address: ip, prefix, scope: 0 });

function judge(snapshot: Snapshot, target: string): string {
  const { ir } = toIr(snapshot);
  const p = packet('default/web', target);
  const verdict = evaluate(ir, snapshot, p);
  const image = new Compiler().compile(ir, snapshot, ['default/web']);
  t.same(simulate(image, p, ['10.1.0.1']), verdict, `simulate agrees about ${target}`);
  return show(ir, verdict);
}

t.test('the table: usual, with the ports of devices, empty', async (t) => {
  const usual = snapshotOf(WORLD);
  const allowed = 'allow [np/default/web#0]';
  t.equal(judge(usual, '192.168.0.2:4789/udp'), 'deny');
  t.equal(judge(usual, '192.168.0.2:4790/udp'), allowed);
  t.equal(judge(usual, '192.168.0.1/47'), 'deny');
  const more = { ...usual, tunnels: [...USUAL_TUNNELS, { protocol: 17, port: 4790 }] };
  t.equal(judge(more, '192.168.0.2:4790/udp'), 'deny');
  t.equal(judge(more, '192.168.0.2:4789/udp'), 'deny');
  t.equal(judge(more, '192.168.0.3:4790/udp'), allowed, 'nobody lives there');
  const known = { ...usual, tunnels: USUAL_TUNNELS.map((tunnel) => ({ ...tunnel, allowed: true as const })) };
  t.equal(judge(known, '192.168.0.2:4789/udp'), allowed, 'known, but for the rules to judge');
  t.equal(judge(known, '192.168.0.1/47'), allowed);
  const none = { ...usual, tunnels: [] };
  t.equal(judge(none, '192.168.0.2:4789/udp'), allowed);
  t.equal(judge(none, '192.168.0.1/47'), allowed);
  t.same(sortedTunnels([...USUAL_TUNNELS, ...USUAL_TUNNELS]), [...tunnelTable().values()], 'each once, in order');
});

t.test('what everybody on a network hears', async (t) => {
  const allowed = 'allow [np/default/web#0]';
  const usual = snapshotOf(WORLD);
  t.equal(judge(usual, '10.244.2.255:4789/udp'), allowed);
  const known = {
    ...usual,
    ownNode: { ...usual.ownNode, broadcasts: broadcastAddresses([address('10.244.2.1', 24)]) },
  };
  t.equal(judge(known, '10.244.2.255:4789/udp'), 'deny');
  t.equal(judge(known, '10.244.2.0:4789/udp'), 'deny', 'it once was the other way');
  t.equal(judge(known, '10.244.2.254:4789/udp'), allowed);
  t.equal(judge(known, '10.244.2.255:4788/udp'), allowed);
  t.same(
    broadcastAddresses([
      address('172.16.5.6', 30),
      address('172.16.5.9', 31),
      address('10.1.1.1', 32),
      address('255.1.2.3', 8),
    ]),
    ['172.16.5.4', '172.16.5.7', '255.0.0.0', '255.255.255.255'],
  );
});

t.test('explain says so, and asks no rule', async (t) => {
  const snapshot = snapshotOf(WORLD);
  const { ir } = toIr(snapshot);
  const said = explain(ir, snapshot, packet('default/web', '192.168.0.2:8472/udp'));
  t.equal(
    said.summary,
    'default/web to 192.168.0.2, UDP 8472: denied before any rule: a node unwraps UDP 8472, and nobody would have judged what is inside; only with --allow-encapsulation do rules decide',
  );
  t.match(said.targets[0]?.before, /^a node unwraps UDP 8472/);
  t.equal(said.targets[0]?.tiers.find((tier) => tier.applies)?.outcome, 'not-reached');
  t.match(explain(ir, snapshot, packet('default/web', '192.168.0.1/gre')).summary, /a node unwraps IP protocol GRE,/);
  const plain = explain(ir, snapshot, packet('default/web', '192.168.0.2:8471/udp'));
  t.equal(plain.targets[0]?.before, undefined);
  t.match(plain.summary, /allowed by np\/default\/web#0$/);
});

t.test('addresses of nodes cost what changed of them', async (t) => {
  const node = (n: number, ...ips: string[]): [string, Node] => [`n${n}`, { name: `n${n}`, labels: {}, ips }];
  const ip = (n: number) => `10.${n >> 8}.${n & 255}.1`;
  let nodes = SharedMap.of(new Map(Array.from({ length: 5000 }, (_, n) => node(n, ip(n)))));
  const world = (own: string[]): Snapshot => ({ ...snapshotOf(''), nodes, ownNode: { name: 'n0', ips: own } });
  const table = new NodeTable();
  const first = table.update(world([]), true);
  t.equal(first.size, 5000);
  t.equal(first.get(ip(0)), 'own');
  t.equal(first.get(ip(1)), 'other');
  t.equal(table.update(world([]), false), first, 'nothing changed: not looked at');
  t.equal(table.update(world([]), true), first, 'the same where something else of nodes did');

  nodes = nodes.with([node(7, ip(7), ip(8)), node(9, ip(1)), ['n8', undefined]]);
  const then = table.update(world(['192.0.2.1', ip(2)]), true);
  t.same(
    [...(SharedMap.candidates(first as SharedMap<unknown>, then as SharedMap<unknown>) ?? [])].sort(),
    [ip(2), ip(9), '192.0.2.1'].sort(),
  );
  t.equal(then.get(ip(8)), 'other', "another one's now");
  t.equal(then.get(ip(9)), undefined);
  t.equal(then.get(ip(2)), 'own', 'the own one has it as well');
  nodes = nodes.with([node(9, ip(9))]);
  const last = table.update(world([]), true);
  t.equal(last.get(ip(1)), 'other', 'the one that is left has it');
  t.equal(last.get(ip(2)), 'other');
  t.equal(last.get('192.0.2.1'), undefined);
});
