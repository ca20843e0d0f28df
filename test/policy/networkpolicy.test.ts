import t from 'tap';
import { DialectRegistry, toIr } from '../../src/dialects/index.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { judgeOf, namespace, packet, pod, policy, problemsOf, show, snapshotOf } from './world.js';

const WORLD =
  namespace('default') +
  namespace('data', { team: 'data', tier: 'db' }) +
  namespace('other', { team: 'other' }) +
  pod('default/web', ['10.1.0.1', 'fd00:1::1'], { app: 'web' }) +
  pod('default/db', '10.1.0.2', { app: 'db', tier: 'back' }) +
  pod(
    'data/db',
    '10.1.0.3',
    { app: 'db', tier: 'back' },
    {
      containers: [
        {
          ports: [
            { name: 'pg', containerPort: 5432 },
            { name: 'dns', containerPort: 53, protocol: 'UDP' },
          ],
        },
      ],
    },
  ) +
  pod('data/cache', '10.1.0.4', { app: 'cache' }, { containers: [{ ports: [{ name: 'pg', containerPort: 6432 }] }] }) +
  pod('other/db', '10.1.0.5', { app: 'db' }) +
  pod('other/host', '192.168.0.9', { app: 'db' }, { hostNetwork: true });

const web = (egress: unknown, more = {}) =>
  WORLD +
  policy('default/p', { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Egress'], egress, ...more });

t.test('isolation', async (t) => {
  const judge = judgeOf(web([]));
  t.equal(judge('default/web', '8.8.8.8:53/udp'), 'deny [np/default/p#default]');
  t.equal(judge('default/web', '10.1.0.2:80/tcp'), 'deny [np/default/p#default]');
  t.equal(judge('default/web', '10.1.0.1:80/tcp'), 'allow [np/*#node]', 'itself');
  t.equal(judge('default/web', '[fd00:1::1]:80/tcp'), 'allow [np/*#node]', 'itself, in its other family');
  t.equal(judge('default/web', '192.168.0.1:10250/tcp'), 'allow [np/*#node]', 'its own node');
  t.equal(judge('default/web', '8.8.8.8/icmp'), 'deny [np/default/p#default]');
  t.equal(judge('default/db', '8.8.8.8:53/udp'), 'allow', 'not selected');
  t.equal(judge('data/db', '8.8.8.8:53/udp'), 'allow', 'another namespace');
  t.equal(judge('other/host', '8.8.8.8:53/udp'), 'allow', 'hostNetwork');
  t.equal(judge('default/nobody', '8.8.8.8:53/udp'), 'allow', 'unknown');
});

t.test('policyTypes in all their forms', async (t) => {
  const denied = (spec: object) =>
    judgeOf(WORLD + policy('default/p', { podSelector: {}, ...spec }))('default/web', '8.8.8.8:1/tcp');
  t.equal(denied({}), 'allow', 'absent, no egress: Ingress');
  t.equal(denied({ policyTypes: [] }), 'allow');
  t.equal(denied({ policyTypes: ['Ingress'] }), 'allow');
  t.equal(denied({ policyTypes: ['Egress'] }), 'deny [np/default/p#default]');
  t.equal(denied({ policyTypes: ['Ingress', 'Egress'] }), 'deny [np/default/p#default]');
  t.equal(denied({ egress: [] }), 'deny [np/default/p#default]', 'absent, with egress');
  t.equal(denied({ egress: [{ to: [{ podSelector: {} }] }] }), 'deny [np/default/p#default]');
  t.equal(denied({ egress: null }), 'allow', 'null is absent');
  t.equal(denied({ policyTypes: ['Ingress'], egress: [] }), 'allow', 'egress without its type');
  t.equal(denied({ policyTypes: ['Egress'], egress: [{}] }), 'allow [np/default/p#0]', 'an empty rule is everything');
});

t.test('peers', async (t) => {
  const judge = judgeOf(
    web([
      { to: [{ podSelector: { matchLabels: { app: 'db' } } }], ports: [{ port: 1 }] },
      { to: [{ namespaceSelector: { matchLabels: { team: 'data' } } }], ports: [{ port: 2 }] },
      {
        to: [{ namespaceSelector: { matchLabels: { team: 'data' } }, podSelector: { matchLabels: { app: 'db' } } }],
        ports: [{ port: 3 }],
      },
      {
        to: [{ namespaceSelector: { matchLabels: { team: 'data' } } }, { podSelector: { matchLabels: { app: 'db' } } }],
        ports: [{ port: 4 }],
      },
      { to: [{ namespaceSelector: {} }], ports: [{ port: 5 }] },
      { to: [{ podSelector: {} }], ports: [{ port: 6 }] },
      {
        to: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'other' } } }],
        ports: [{ port: 7 }],
      },
      { to: [], ports: [{ port: 8 }] },
    ]),
  );
  const allowed = (port: number) =>
    ['10.1.0.2', '10.1.0.3', '10.1.0.4', '10.1.0.5', '8.8.8.8', '192.168.0.9'].filter(
      (ip) => judge('default/web', `${ip}:${port}/tcp`) === `allow [np/default/p#${port - 1}]`,
    );
  t.same(allowed(1), ['10.1.0.2'], 'podSelector alone: own namespace');
  t.same(allowed(2), ['10.1.0.3', '10.1.0.4'], 'namespaceSelector alone: all its pods');
  t.same(allowed(3), ['10.1.0.3'], 'both in one peer: AND');
  t.same(allowed(4), ['10.1.0.2', '10.1.0.3', '10.1.0.4'], 'in two peers: OR');
  t.same(
    allowed(5),
    ['10.1.0.2', '10.1.0.3', '10.1.0.4', '10.1.0.5'],
    'every namespace: pods only, and not those of the host',
  );
  t.same(allowed(6), ['10.1.0.2'], 'every pod of the namespace');
  t.same(allowed(7), ['10.1.0.5'], 'the name as a label');
  t.same(
    allowed(8),
    ['10.1.0.2', '10.1.0.3', '10.1.0.4', '10.1.0.5', '8.8.8.8', '192.168.0.9'],
    'an empty `to` is everywhere',
  );
});

t.test('matchExpressions', async (t) => {
  const reach = (matchExpressions: object[], matchLabels = {}) => {
    const judge = judgeOf(web([{ to: [{ namespaceSelector: {}, podSelector: { matchExpressions, matchLabels } }] }]));
    return ['10.1.0.2', '10.1.0.3', '10.1.0.4', '10.1.0.5']
      .filter((ip) => judge('default/web', `${ip}:80/tcp`).startsWith('allow'))
      .map((ip) => ip.slice(-1))
      .join('');
  };
  t.equal(reach([{ key: 'app', operator: 'In', values: ['db', 'x'] }]), '235');
  t.equal(reach([{ key: 'app', operator: 'NotIn', values: ['db'] }]), '4');
  t.equal(reach([{ key: 'tier', operator: 'NotIn', values: ['back'] }]), '45', 'NotIn holds where the key is missing');
  t.equal(reach([{ key: 'tier', operator: 'Exists' }]), '23');
  t.equal(reach([{ key: 'tier', operator: 'DoesNotExist' }]), '45');
  t.equal(
    reach([
      { key: 'app', operator: 'Exists' },
      { key: 'tier', operator: 'DoesNotExist' },
    ]),
    '45',
    'ANDed',
  );
  t.equal(reach([{ key: 'tier', operator: 'DoesNotExist' }], { app: 'db' }), '5', 'ANDed with matchLabels');
});

t.test('ipBlock', async (t) => {
  const judge = judgeOf(
    web([
      { to: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16', '10.1.0.0/24', '10.2.0.0/15'] } }] },
      { to: [{ ipBlock: { cidr: '10.1.0.4/32' } }] },
      { to: [{ ipBlock: { cidr: 'fd00::/16', except: ['fd00:2::/32', 'fd00:2:3::/48'] } }] },
      { to: [{ ipBlock: { cidr: '192.168.0.0/24' } }] },
    ]),
  );
  const rows: [string, string][] = [
    ['10.0.0.0', 'allow [np/default/p#0]'],
    ['10.0.255.255', 'allow [np/default/p#0]'],
    ['10.1.0.2', 'deny [np/default/p#default]'],
    ['10.1.0.4', 'allow [np/default/p#1]'],
    ['10.3.255.255', 'deny [np/default/p#default]'],
    ['10.4.0.0', 'allow [np/default/p#0]'],
    ['11.0.0.0', 'deny [np/default/p#default]'],
    ['192.168.0.9', 'allow [np/default/p#3]'],
  ];
  for (const [ip, expected] of rows) t.equal(judge('default/web', `${ip}:80/tcp`), expected, ip);
  t.equal(judge('default/web', '[fd00:1::2]:80/tcp'), 'allow [np/default/p#2]');
  t.equal(judge('default/web', '[fd00:2:3::1]:80/tcp'), 'deny [np/default/p#default]');
  t.equal(judge('default/web', '[fd01::1]:80/tcp'), 'deny [np/default/p#default]');
  t.equal(
    judge('default/web', '192.168.0.1:80/tcp'),
    'allow [np/default/p#3]',
    'a written rule before the implicit one',
  );
});

t.test('ports', async (t) => {
  const judge = judgeOf(
    web([
      { ports: [{ port: 80 }] },
      {
        ports: [
          { port: 8000, endPort: 8002 },
          { protocol: 'UDP', port: 65535 },
        ],
      },
      { ports: [{ protocol: 'SCTP' }] },
      { ports: [{ port: 'pg' }, { protocol: 'UDP', port: 'dns' }] },
    ]),
  );
  const rows: [string, string][] = [
    ['8.8.8.8:79/tcp', 'deny [np/default/p#default]'],
    ['8.8.8.8:80/tcp', 'allow [np/default/p#0]'],
    ['8.8.8.8:81/tcp', 'deny [np/default/p#default]'],
    ['8.8.8.8:80/udp', 'deny [np/default/p#default]'],
    ['8.8.8.8:7999/tcp', 'deny [np/default/p#default]'],
    ['8.8.8.8:8000/tcp', 'allow [np/default/p#1]'],
    ['8.8.8.8:8002/tcp', 'allow [np/default/p#1]'],
    ['8.8.8.8:8003/tcp', 'deny [np/default/p#default]'],
    ['8.8.8.8:65535/udp', 'allow [np/default/p#1]'],
    ['8.8.8.8:1/sctp', 'allow [np/default/p#2]'],
    ['8.8.8.8/icmp', 'deny [np/default/p#default]'],
    ['10.1.0.3:5432/tcp', 'allow [np/default/p#3]'],
    ['10.1.0.3:6432/tcp', 'deny [np/default/p#default]'],
    ['10.1.0.4:6432/tcp', 'allow [np/default/p#3]'],
    ['10.1.0.4:5432/tcp', 'deny [np/default/p#default]'],
    ['10.1.0.3:53/udp', 'allow [np/default/p#3]'],
    ['10.1.0.3:53/tcp', 'deny [np/default/p#default]'],
    ['8.8.8.8:5432/tcp', 'deny [np/default/p#default]'],
  ];
  for (const [target, expected] of rows) t.equal(judge('default/web', target), expected, target);
});

t.test('union, and the name of the default', async (t) => {
  const both = policy('default/a', { podSelector: {}, policyTypes: ['Egress'], egress: [{ ports: [{ port: 80 }] }] });
  const judge = judgeOf(web([{ ports: [{ port: 81 }] }, { ports: [{ port: 80 }] }]) + both);
  t.equal(judge('default/web', '8.8.8.8:80/tcp'), 'allow [np/default/a#0]', 'the first by name');
  t.equal(judge('default/web', '8.8.8.8:81/tcp'), 'allow [np/default/p#0]');
  t.equal(judge('default/web', '8.8.8.8:82/tcp'), 'deny [np/default/a#default]');
});

t.test('what is wrong closes, and only what is wrong', async (t) => {
  const judge = (spec: object | string) => {
    const decide = judgeOf(WORLD + policy('default/p', spec));
    return ['default/web 80', 'default/web 81', 'default/db 80']
      .map((row) => decide(row.split(' ')[0] as string, `8.8.8.8:${row.split(' ')[1]}/tcp`).split(' ')[0])
      .join(' ');
  };
  const good = { ports: [{ port: 80 }] };
  const sel = { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Egress'] };
  t.equal(judge({ ...sel, egress: [good] }), 'allow deny allow');
  for (const [why, bad] of Object.entries({
    'misspelt to': { too: [] },
    'misspelt field of a peer': { to: [{ podSelektor: {} }] },
    'empty peer': { to: [{}] },
    'null peer': { to: [null] },
    'block and selector': { to: [{ ipBlock: { cidr: '0.0.0.0/0' }, podSelector: {} }] },
    'wrong CIDR': { to: [{ ipBlock: { cidr: '10.0.0.0/33' } }] },
    'one wrong peer among good ones': { to: [{ ipBlock: { cidr: '0.0.0.0/0' } }, { ipBlock: { cidr: 'x' } }] },
    'except outside': { to: [{ ipBlock: { cidr: '8.0.0.0/8', except: ['10.0.0.0/16'] } }] },
    'except of the other family': { to: [{ ipBlock: { cidr: '8.0.0.0/8', except: ['fd00::/16'] } }] },
    'except as large as the block': { to: [{ ipBlock: { cidr: '8.0.0.0/8', except: ['8.0.0.0/8'] } }] },
    'port out of range': { ports: [{ port: 65536 }] },
    'port zero': { ports: [{ port: 0 }] },
    'port in quotes': { ports: [{ port: '81' }] },
    'port as a fraction': { ports: [{ port: 80.5 }] },
    'endPort below port': { ports: [{ port: 81, endPort: 80 }] },
    'endPort with a name': { ports: [{ port: 'http', endPort: 90 }] },
    'endPort alone': { ports: [{ endPort: 90 }] },
    'protocol in lower case': { ports: [{ protocol: 'tcp', port: 81 }] },
    'protocol ICMP': { ports: [{ protocol: 'ICMP' }] },
    'ports not a list': { ports: { port: 81 } },
    'operator unknown': { to: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'Gt', values: ['1'] }] } }] },
    'In without values': { to: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } }] },
    'Exists with values': {
      to: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] } }],
    },
    'label value not a string': { to: [{ podSelector: { matchLabels: { a: 1 } } }] },
    'not a rule': 'everything',
  })) {
    t.equal(judge({ ...sel, egress: [bad, good] }), 'allow deny allow', why);
    t.match(
      problemsOf(WORLD + policy('default/p', { ...sel, egress: [bad, good] })),
      [/^error .*spec\.egress\[0\].*allows nothing/],
      why,
    );
  }
  t.equal(
    judge({ podSelector: { matchLabels: { app: 5 } }, policyTypes: ['Egress'], egress: [good] }),
    'deny deny deny',
    'rules meant for some pods are not for all of them',
  );
  const everyPod = judgeOf(
    WORLD + policy('default/p', { podSelector: { matchLabel: {} }, policyTypes: ['Egress'], egress: [good] }),
  );
  t.equal(
    everyPod('default/db', '8.8.8.8:81/tcp'),
    'deny [np/default/p#default]',
    'an unreadable podSelector isolates every pod of the namespace',
  );
  t.equal(everyPod('data/db', '8.8.8.8:81/tcp'), 'allow', 'and no other');
  t.equal(judge({ ...sel, policyTypes: ['egress'] }), 'deny deny allow', 'unreadable policyTypes isolate');
  t.equal(judge({ podSelector: {}, egres: [good] }), 'deny deny deny', 'a misspelt egress isolates');
  t.equal(judge({ ...sel, egress: { ports: [] } }), 'deny deny allow', 'egress that is not a list');
  t.equal(judge('"nonsense"'), 'deny deny deny', 'a spec that is no map isolates the namespace');
  t.equal(
    judge({ ...sel, ingress: [{ form: [] }], egress: [good] }),
    'allow deny allow',
    'a fault of ingress does not touch egress',
  );
});

t.test('problems name file, document, line, object, field, cause and remedy', async (t) => {
  const text = `${pod('default/web', '10.1.0.1')}---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec:
  podSelector: {}
  egress:
    - to:
        - ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/33]}
`;
  t.same(problemsOf(text), [
    'error test.yaml:4 (document 2): NetworkPolicy default/p: spec.egress[0].to[0].ipBlock.except[0]: "10.0.0.0/33" is not a CIDR — write it as address/prefix length, without leading zeros; until then spec.egress[0] allows nothing',
  ]);
});

t.test('warnings', async (t) => {
  const warned = (spec: object) =>
    problemsOf(policy('default/p', spec)).map((p) => p.replace(/^(\w+) .*default\/p: /, '$1 '));
  t.match(warned({ podSelector: {}, egress: [] }), [/^warning spec.egress: is empty and policyTypes is missing/]);
  t.match(warned({ podSelector: {}, policyTypes: ['Ingress'], egress: [{}] }), [/^warning spec.egress: has no effect/]);
  t.match(warned({ policyTypes: ['Egress'] }), [/^warning spec.podSelector: is missing/]);
  t.match(warned({ podSelector: {}, egress: [{ to: [{ ipBlock: { cidr: '10.1.2.3/8' } }] }] }), [
    /^warning .*read as 10.0.0.0\/8/,
  ]);
  t.same(warned({ podSelector: {}, egress: [{ to: [{ namespaceSelector: { matchLabels: { no: 'such' } } }] }] }), []);
  t.same(warned({ podSelector: {}, egress: [{ to: [{ ipBlock: { cidr: 'FD00::/16' } }] }] }), []);
});

t.test('the last good state of a policy stays in force', async (t) => {
  const registry = new DialectRegistry();
  const at = (text: string) => {
    const snapshot: Snapshot = snapshotOf(text);
    const { ir, problems } = registry.toIr(snapshot);
    return { verdict: show(ir, evaluate(ir, snapshot, packet('default/web', '8.8.8.8:80/tcp'))), problems };
  };
  t.equal(at(web([{ ports: [{ port: 80 }] }])).verdict, 'allow [np/default/p#0]');
  const broken = at(web([{ ports: [{ port: 'eighty!' }] }]));
  t.equal(broken.verdict, 'allow [np/default/p#0]');
  t.match(broken.problems, [{ severity: 'error', hint: /last good version stays in force/ }]);
  t.equal(at(web([{ ports: [{ port: 81 }] }])).verdict, 'deny [np/default/p#default]', 'mended');
  t.equal(at(WORLD).verdict, 'allow', 'deleted');
  t.equal(at(web([{ ports: [{ port: 'eighty!' }] }])).verdict, 'deny [np/default/p#default]', 'new and broken: closed');
});

t.test('policies of a namespace that ends hold until its pods are gone', async (t) => {
  const registry = new DialectRegistry();
  const pods = pod('data/db', '10.1.0.3');
  const np = policy('data/p', { podSelector: {}, policyTypes: ['Egress'] });
  const live = namespace('data');
  const ending = namespace('data', {}, { phase: 'Terminating' });
  const at = (text: string) => {
    const snapshot = snapshotOf(text);
    const { ir } = registry.toIr(snapshot);
    return show(ir, evaluate(ir, snapshot, packet('data/db', '8.8.8.8:80/tcp')));
  };
  t.equal(at(live + pods + np), 'deny [np/data/p#default]');
  t.equal(at(live + pods), 'allow', 'deleted while the namespace lives');
  at(live + pods + np);
  t.equal(at(ending + pods + np), 'deny [np/data/p#default]');
  t.equal(at(ending + pods), 'deny [np/data/p#default]', 'the policy went before the pod');
  t.equal(at(pods), 'deny [np/data/p#default]', 'and so did the namespace');
  at('');
  t.equal(at(live + pods), 'allow', 'a new namespace of that name starts afresh');
});

t.test('in a cluster a deletion waits for what the namespaces’ own watch may still say', async (t) => {
  const isolated = namespace('a') + pod('a/web', '10.1.0.1', {});
  const closed = policy('a/p', { podSelector: {}, policyTypes: ['Egress'] });
  const denies = (ir: ReturnType<typeof toIr>['ir'], s: Snapshot) =>
    evaluate(ir, s, { from: 'a/web', to: '8.8.8.8', protocol: 17, port: 53 }).verdict === 'deny';
  const step = (registry: DialectRegistry, text: string) => {
    const snapshot = snapshotOf(text);
    const { ir, againMs } = registry.toIr(snapshot);
    return { denied: denies(ir, snapshot), againMs };
  };
  let now = 1000;
  const registry = new DialectRegistry({ holdMs: 300, now: () => now });
  t.equal(step(registry, isolated + closed).denied, true);
  now += 50;
  t.same(step(registry, isolated), { denied: true, againMs: 300 }, 'held for a moment');
  now += 200;
  t.same(step(registry, isolated), { denied: true, againMs: 100 });
  now += 101;
  t.same(step(registry, isolated), { denied: false, againMs: undefined }, 'it was a deletion');

  t.equal(step(registry, isolated + closed).denied, true);
  now += 50;
  t.equal(step(registry, isolated).denied, true, 'held');
  const ending = namespace('a', {}, { phase: 'Terminating' }) + pod('a/web', '10.1.0.1', {});
  now += 100;
  t.same(step(registry, ending), { denied: true, againMs: undefined }, 'the namespace ends: as long as there are pods');
  now += 10_000;
  t.equal(step(registry, ending).denied, true);
  t.equal(step(registry, pod('a/web', '10.1.0.1', {})).denied, true, 'gone but for what is still seen of its pods');
});

t.test('the same objects give the same IR, and only what changed is new', async (t) => {
  const snapshot = snapshotOf(web([{}]) + policy('default/q', { podSelector: {}, egress: [{}] }));
  const registry = new DialectRegistry();
  const first = registry.toIr(snapshot).ir;
  t.equal(registry.toIr(snapshot).ir, first);
  t.equal(toIr(snapshot).ir.tiers[0]?.policies[0], first.tiers[0]?.policies[0]);
  const fewer = registry.toIr({ ...snapshot, policies: snapshot.policies.slice(0, 1) }).ir;
  t.equal(fewer.tiers[0]?.policies[0], first.tiers[0]?.policies[0]);
  t.throws(() => Object.assign(first.tiers[0]?.policies[0] as object, { staged: true }), TypeError, 'frozen');
});
