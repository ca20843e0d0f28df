import t from 'tap';
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { Packet } from '../../src/ir/packet.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { explain } from '../../src/explain/explain.js';
import { ruleId, ruleKey } from '../../src/ir/names.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Action, Ir, IrPolicy, PortMatch, Rule, Tier } from '../../src/ir/types.js';
import { judgeOf, namespace, packet, pod, policy, show, snapshotOf } from './world.js';

const cidr = (text: string): Peer => ({ kind: 'cidr', cidr: text, except: [] });

interface RuleSpec {
  action: Action;
  peers?: Peer[] | null;
  ports?: PortMatch[] | null;
}

function makePolicy(tier: string, name: string, rules: RuleSpec[], staged = false, app?: string): IrPolicy {
  const ref = { dialect: 'test', kind: 'TestPolicy', name };
  return {
    ref,
    staged,
    subject: {
      namespaces: { labels: { op: 'true' } },
      pods: app ? { op: 'in', key: 'app', values: [app] } : { op: 'true' },
    },
    rules: rules.map(
      ({ action, peers = null, ports = null }, index): Rule => ({
        ref: { policy: ref, index, tier, staged, action },
        action,
        peers,
        ports,
      }),
    ),
  };
}

function makeTier(
  name: string,
  order: number,
  policies: IrPolicy[],
  defaultAction: 'deny' | 'pass',
  implicit: Rule[] = [],
): Tier {
  return { name, order, policies: policies.map((p) => ({ ...p, implicit })), defaultAction };
}

const WORLD = pod('default/web', '10.1.0.1', { app: 'web' }) + pod('default/db', '10.1.0.2', { app: 'db' });

function names(ir: Ir): Map<number, string> {
  const out = new Map<number, string>();
  for (const tier of ir.tiers) {
    for (const p of tier.policies) {
      for (const staged of [true, false]) {
        for (const index of [...p.rules.keys(), -1]) {
          const action = p.rules[index]?.action ?? tier.defaultAction;
          const ref = { policy: p.ref, index, tier: tier.name, staged, action };
          out.set(ruleId(ref), `${ruleKey(ref).replace('testpolicy/', '')}${staged ? ' staged' : ''}`);
        }
      }
    }
  }
  return out;
}

/** `deny b#0 | audit allow a#1 staged | logged a#0` */
function verdictOf(ir: Ir, snapshot: Snapshot, p: Packet): string {
  const v = evaluate(ir, snapshot, p);
  const name = (id: number) => (id === 0 ? '-' : (names(ir).get(id) ?? String(id)));
  t.same(explain(ir, snapshot, p).verdict, v, 'explain agrees');
  return [
    `${v.verdict} ${name(v.rule)}`,
    ...(v.audit ? [`audit ${v.audit.verdict} ${name(v.audit.rule)}`] : []),
    ...(v.logged.length > 0 ? [`logged ${v.logged.map(name).join(' ')}`] : []),
  ].join(' | ');
}

t.test('tiers: first match, pass, log, defaults', async (t) => {
  const snapshot = snapshotOf(WORLD);
  const ir: Ir = {
    tiers: [
      makeTier(
        'admin',
        1,
        [
          makePolicy('admin', 'a', [
            { action: 'log', peers: [cidr('8.0.0.0/8')] },
            { action: 'deny', peers: [cidr('8.8.0.0/16')] },
            { action: 'pass', peers: [cidr('9.0.0.0/8')] },
            { action: 'deny', peers: [cidr('9.9.0.0/16')] },
          ]),
          makePolicy('admin', 'b', [
            { action: 'allow', peers: [cidr('8.0.0.0/8')] },
            { action: 'log', peers: [cidr('7.0.0.0/8')] },
          ]),
          makePolicy('admin', 'other', [{ action: 'deny' }], false, 'nobody'),
        ],
        'pass',
      ),
      makeTier('unselected', 2, [makePolicy('unselected', 'c', [], false, 'nobody')], 'deny'),
      makeTier(
        'default',
        3,
        [makePolicy('default', 'd', [{ action: 'allow', peers: [cidr('9.0.0.0/8')] }], false, 'web')],
        'deny',
      ),
      makeTier('baseline', 4, [makePolicy('baseline', 'e', [{ action: 'deny', peers: [cidr('6.0.0.0/8')] }])], 'pass'),
    ],
  };
  const to = (from: string, ip: string) => verdictOf(ir, snapshot, packet(from, `${ip}:80/tcp`));
  t.equal(to('default/web', '8.8.1.1'), 'deny a#1 | logged a#0', 'log goes on to the next rule');
  t.equal(to('default/web', '8.1.1.1'), 'allow b#0 | logged a#0', 'then the next policy');
  t.equal(to('default/web', '9.9.1.1'), 'allow d#0', 'pass leaves the tier, past its later rules');
  t.equal(
    to('default/web', '7.1.1.1'),
    'deny d#default | logged b#1',
    'a default that passes, a tier that selects nobody, a default that denies',
  );
  t.equal(to('default/db', '6.1.1.1'), 'deny e#0');
  t.equal(to('default/db', '5.1.1.1'), 'allow -', 'every tier passed');
});

t.test('staged policies', async (t) => {
  const snapshot = snapshotOf(WORLD);
  const deny = [{ action: 'deny' as const, peers: [cidr('8.0.0.0/8')] }];
  const allow = [{ action: 'allow' as const, peers: [cidr('8.0.0.0/8')] }];
  const ir = (tiers: Tier[]): Ir => ({ tiers });
  const to = (i: Ir, ip = '8.1.1.1') => verdictOf(i, snapshot, packet('default/web', `${ip}:80/tcp`));
  const beside = ir([
    makeTier('default', 1, [makePolicy('default', 'a', deny, true), makePolicy('default', 'b', allow)], 'deny'),
  ]);
  t.equal(to(beside), 'allow b#0 | audit deny a#0 staged');
  t.equal(to(beside, '9.1.1.1'), 'deny b#default | audit deny b#default', 'the default is in force because of b');
  const alone = ir([makeTier('default', 1, [makePolicy('default', 'a', allow, true)], 'deny')]);
  t.equal(to(alone), 'allow - | audit allow a#0 staged');
  t.equal(
    to(alone, '9.1.1.1'),
    'allow - | audit deny a#default staged',
    'a tier of staged policies is staged as a whole',
  );
  const elsewhere = ir([
    makeTier('default', 1, [makePolicy('default', 'a', deny, true, 'db'), makePolicy('default', 'b', allow)], 'deny'),
  ]);
  t.equal(to(elsewhere), 'allow b#0', 'a staged policy that does not select the sender is nothing to it');
});

t.test('ports, names, fragments, nodes', async (t) => {
  const snapshot = snapshotOf(
    pod('default/web', '10.1.0.1', { app: 'web' }) +
      pod('default/db', '10.1.0.2', { app: 'db' }, { containers: [{ ports: [{ name: 'pg', containerPort: 5432 }] }] }) +
      '---\n{apiVersion: v1, kind: Node, metadata: {name: node-a, labels: {zone: a}}, status: {addresses: [{type: InternalIP, address: 192.168.0.2}, {type: Hostname, address: a}]}}\n' +
      '---\n{apiVersion: v1, kind: Node, metadata: {name: node-b, labels: {zone: b}}, status: {addresses: [{type: InternalIP, address: 192.168.0.3}]}}\n',
  );
  const allows = (rule: Omit<RuleSpec, 'action'>, target: string, fragment = false) => {
    const ir: Ir = { tiers: [makeTier('x', 1, [makePolicy('x', 'p', [{ action: 'allow', ...rule }])], 'deny')] };
    return evaluate(ir, snapshot, { ...packet('default/web', target), fragment }).verdict === 'allow';
  };
  t.ok(allows({ ports: [{ protocol: null }] }, '8.8.8.8/icmp'));
  t.ok(allows({ ports: [{ protocol: null, ports: [[80, 81]] }] }, '8.8.8.8:81/sctp'));
  t.notOk(allows({ ports: [{ protocol: null, ports: [[0, 65535]] }] }, '8.8.8.8:8/icmp'), 'type and code are no port');
  t.ok(allows({ ports: [{ protocol: 1, ports: [[8 << 8, (8 << 8) | 255]] }] }, '8.8.8.8:2048/icmp'), 'echo request');
  t.notOk(allows({ ports: [] }, '8.8.8.8:80/tcp'), 'an empty list matches nothing');
  t.notOk(allows({ peers: [] }, '8.8.8.8:80/tcp'), 'an empty list matches nothing');
  t.ok(allows({ ports: [{ protocol: null, named: 'pg' }] }, '10.1.0.2:5432/tcp'));
  t.notOk(allows({ ports: [{ protocol: 17, named: 'pg' }] }, '10.1.0.2:5432/udp'));
  t.ok(allows({ ports: null }, '8.8.8.8:0/udp', true), 'a fragment matches rules without ports');
  t.ok(allows({ ports: [{ protocol: 17 }] }, '8.8.8.8:0/udp', true));
  t.notOk(allows({ ports: [{ protocol: 6 }] }, '8.8.8.8:0/udp', true));
  t.notOk(allows({ ports: [{ protocol: 17, ports: [[0, 100]] }] }, '8.8.8.8:0/udp', true));
  t.notOk(allows({ ports: [{ protocol: 6, named: 'pg' }] }, '10.1.0.2:5432/tcp', true));
  t.ok(allows({ peers: [{ kind: 'own-node' }] }, '192.168.0.1:1/tcp'), 'an interface of the node');
  t.ok(allows({ peers: [{ kind: 'own-node' }] }, '192.168.0.2:1/tcp'), 'an address of its Node object');
  t.notOk(allows({ peers: [{ kind: 'own-node' }] }, '192.168.0.3:1/tcp'));
  t.ok(allows({ peers: [{ kind: 'nodes', labels: { op: 'in', key: 'zone', values: ['b'] } }] }, '192.168.0.3:1/tcp'));
  t.notOk(
    allows({ peers: [{ kind: 'nodes', labels: { op: 'in', key: 'zone', values: ['b'] } }] }, '192.168.0.2:1/tcp'),
  );
  t.ok(allows({ peers: [{ kind: 'self' }] }, '10.1.0.1:1/tcp'));
  t.notOk(allows({ peers: [{ kind: 'self' }] }, '10.1.0.2:1/tcp'));
});

const SERVICE = (backends: string[], more = {}) =>
  `---\n${JSON.stringify({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'db' }, spec: { clusterIPs: ['10.96.0.1', 'fd96::1'], externalIPs: ['203.0.113.1'], ports: [{ port: 80, targetPort: 5432, nodePort: 30080 }], ...more } })}\n` +
  `---\n${JSON.stringify({ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4', metadata: { name: 'db-1', labels: { 'kubernetes.io/service-name': 'db' } }, endpoints: backends.map((ip) => ({ addresses: [ip] })), ports: [{ port: 5432 }] })}\n`;

t.test('Service addresses stand for what is behind them', async (t) => {
  const world =
    namespace('default') +
    pod('default/web', '10.1.0.1', { app: 'web' }) +
    pod('default/db', '10.1.0.2', { app: 'db' });
  const np = policy('default/p', {
    podSelector: { matchLabels: { app: 'web' } },
    policyTypes: ['Egress'],
    egress: [{ to: [{ podSelector: { matchLabels: { app: 'db' } } }], ports: [{ port: 5432 }] }],
  });
  const all = judgeOf(world + SERVICE(['10.1.0.2']) + np);
  t.equal(all('default/web', '10.96.0.1:80/tcp'), 'allow [np/default/p#0]');
  t.equal(all('default/web', '203.0.113.1:80/tcp'), 'allow [np/default/p#0]', 'external address');
  t.equal(all('default/web', '192.168.0.1:30080/tcp'), 'allow [np/default/p#0]', 'node port of the own node');
  t.equal(all('default/web', '10.96.0.1:81/tcp'), 'deny [np/default/p#default]', 'not a port of the Service');
  t.equal(all('default/web', '10.96.0.1:80/udp'), 'deny [np/default/p#default]', 'nor in this protocol');
  t.equal(all('default/web', '[fd96::1]:80/tcp'), 'deny [np/default/p#default]', 'no backend of this family');
  const some = judgeOf(world + SERVICE(['10.1.0.2', '10.1.0.9']) + np);
  t.equal(some('default/web', '10.96.0.1:80/tcp'), 'partial');
  t.equal(some('default/db', '10.96.0.1:80/tcp'), 'allow', 'no policy, no question');
  const none = judgeOf(world + SERVICE(['10.1.0.8', '10.1.0.9']) + np);
  t.equal(none('default/web', '10.96.0.1:80/tcp'), 'deny [np/default/p#default]');
  t.equal(
    none('default/web', '192.168.0.1:30080/tcp'),
    'deny [np/default/p#default]',
    'the node port goes to the backends, not to the node',
  );
  t.equal(none('default/web', '192.168.0.1:30081/tcp'), 'allow [np/*#node]');
  const empty = judgeOf(world + SERVICE([]) + np);
  t.equal(
    empty('default/web', '10.96.0.1:80/tcp'),
    'deny [np/default/p#default]',
    'without backends an address like any other',
  );
});

t.test('explain tells why', async (t) => {
  const text =
    namespace('default') +
    pod('default/web', '10.1.0.1', { app: 'web' }) +
    pod('default/db', '10.1.0.2', { app: 'db' }) +
    SERVICE(['10.1.0.2', '10.1.0.9']) +
    policy('default/p', {
      podSelector: { matchLabels: { app: 'web' } },
      policyTypes: ['Egress'],
      egress: [
        { to: [{ ipBlock: { cidr: '9.0.0.0/8' } }] },
        { to: [{ podSelector: { matchLabels: { app: 'db' } } }], ports: [{ port: 5432 }] },
      ],
    }) +
    policy('default/q', { podSelector: { matchLabels: { app: 'db' } }, policyTypes: ['Egress'] });
  const snapshot = snapshotOf(text);
  const { toIr } = await import('../../src/dialects/index.js');
  const { ir } = toIr(snapshot);
  const direct = explain(ir, snapshot, packet('default/web', '10.1.0.2:5432/tcp'));
  t.equal(direct.summary, 'default/web to 10.1.0.2, TCP 5432: allowed by np/default/p#1');
  t.same(direct.targets[0]?.is, ['pod default/db']);
  t.match(direct.targets[0]?.tiers, [
    {
      tier: 'default',
      applies: true,
      outcome: 'allow',
      policies: [
        {
          policy: 'np/default/p',
          selected: true,
          rules: [
            { rule: 'np/default/p#0', result: 'no-match', why: '10.1.0.2 is not in 9.0.0.0/8' },
            {
              rule: 'np/default/p#1',
              result: 'decides',
              why: '10.1.0.2 is a pod with app=db in namespace default and TCP 5432 is TCP 5432',
            },
          ],
        },
        {
          policy: 'np/default/q',
          selected: false,
          why: "the sender's labels do not match: pods with app=db in namespace default",
          rules: [],
        },
      ],
      always: [
        { rule: 'np/*#node', result: 'no-match' },
        { rule: 'np/default/p#default', result: 'not-reached' },
      ],
    },
  ]);
  const service = explain(ir, snapshot, packet('default/web', '10.96.0.1:80/tcp'));
  t.match(service.service, { namespace: 'default', name: 'db', backends: 2 });
  t.same(
    service.targets.map((x) => `${x.ip}:${x.port} ${show(ir, x.verdict)}`),
    ['10.1.0.2:5432 allow [np/default/p#1]', '10.1.0.9:5432 deny [np/default/p#default]'],
  );
  t.match(service.summary, /Service default\/db \(10.96.0.1\).* some of the backends/);
  t.match(
    explain(ir, snapshot, packet('default/nobody', '8.8.8.8:53/udp')).summary,
    /allowed, no pod of this name is known/,
  );
  t.doesNotThrow(() => JSON.stringify(service));
});
