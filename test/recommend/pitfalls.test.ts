/** What makes recommended policies useless or dangerous elsewhere: each is a test here. */
import t from 'tap';
import type { Edge, EdgeHistory } from '../../src/edges/edge.js';
import { policiesIn } from '../../src/convert/text.js';
import { LANGUAGES } from '../../src/recommend/base/names.js';
import { withoutFuture } from '../../src/recommend/request.js';
import { policyName } from '../../src/recommend/write.js';
import { localResolvers } from '../../src/recommend/rules/dns.js';
import { outside } from '../edges/given.js';
import { forOne, type Given, type GivenWorkload, on, party, seen } from './given.js';

const WEB: GivenWorkload = { name: 'shop/web', ips: ['10.0.1.1', '10.0.1.2'] };
const API: GivenWorkload = { name: 'shop/api', ips: ['10.0.2.1'] };
const NODES = [{ name: 'n1', labels: { 'kubernetes.io/hostname': 'n1' }, ips: ['192.168.0.1', 'fd00::1'] }];
const given = (more: Partial<Given> = {}): Given => ({
  nodes: NODES,
  ...more,
  workloads: [WEB, API, ...(more.workloads ?? [])],
});
const toApi = (more: Parameters<typeof seen>[0] = {}, days?: EdgeHistory['days']) =>
  seen({ destination: party('shop/api'), port: 8080, address: '10.0.2.1', ...more }, days);
const toIp = (ip: string, days?: EdgeHistory['days'], port = 443) =>
  seen({ destination: outside(ip), address: ip, port }, days);
const node = (name: string) => ({ kind: 'node' as const, namespace: '', workloadKind: '', name });
const whys = (one: ReturnType<typeof forOne>) => one.leftOut.map(({ to, port, why }) => `${to} ${port} ${why}`);

t.test('DNS is never forgotten: UDP and TCP to the pods of the resolver, seen or not, on their own port', (t) => {
  for (const language of LANGUAGES) {
    const { rules } = forOne([toApi()], given(), { language });
    t.match(rules[0], { to: 'DNS: pods of kube-system with k8s-app=kube-dns', ports: ['53/tcp', '53/udp'] }, language);
  }
  const openshift = {
    workloads: [
      {
        name: 'openshift-dns/dns-default',
        kind: 'DaemonSet',
        labels: { 'dns.operator.openshift.io/daemonset-dns': 'default' },
        ips: ['10.0.8.1'],
      },
    ],
    services: [
      {
        name: 'openshift-dns/dns-default',
        vip: '172.30.0.10',
        port: 53,
        protocol: 17,
        backends: [['10.0.8.1', 5353] as const],
      },
    ],
  };
  t.match(forOne([toApi()], given(openshift)).rules[1], {
    to: /^DNS: pods of openshift-dns/,
    ports: ['5353/tcp', '5353/udp'],
  });
  t.end();
});

t.test('DNS: addresses at which the node answers are blocks, and in Cilium the host', (t) => {
  const dns = ['169.254.20.10', '10.96.0.10'];
  t.match(forOne([toApi()], given({ dns })).yaml, /cidr: 10\.96\.0\.10\/32\n.*cidr: 169\.254\.20\.10\/32/s);
  const cilium = forOne([toApi()], given({ dns }), { language: 'cilium' });
  t.match(cilium.yaml, /toEntities:\n +- host\n/);
  const asks = (name: string) => ({
    ...seen({
      source: party(name),
      destination: outside('169.254.20.10'),
      port: 53,
      protocol: 17,
      address: '169.254.20.10',
    }),
  });
  t.same(localResolvers([asks('a/a'), asks('b/b')].map((one) => one)), [], 'what two ask is theirs');
  t.same(localResolvers([asks('a/a'), asks('b/b'), asks('c/c')]), ['169.254.20.10']);
  const tenant = ['a/a', 'a/b', 'a/c', 'a/d'].map(asks);
  t.same(localResolvers(tenant), [], 'what those of one namespace ask is theirs');
  t.notMatch(forOne([toApi(), ...tenant], given()).yaml, /169\.254/);
  const learned = forOne([toApi(), asks('a/a'), asks('b/b'), asks('c/c')], given());
  t.match(learned.yaml, /169\.254\.20\.10\/32/);
  t.end();
});

t.test('DNS without a Service: the usual labels', (t) => {
  const one = forOne([toApi()], given());
  t.equal(one.warnings.length, 0);
  t.end();
});

t.test('a Service: its backends, by their labels, on their port', (t) => {
  const services = [{ name: 'shop/api', vip: '10.96.0.20', port: 80, backends: [['10.0.2.1', 8080] as const] }];
  const through = toApi({ service: 'shop/api', servicePort: 80, address: '10.96.0.20' });
  const one = forOne([through], given({ services }));
  t.match(one.rules[1], { to: 'pods of shop with app=api', ports: ['8080/tcp'] });
  t.notMatch(one.yaml, /10\.96\.0\.20/);
  t.same([one.replay.edges, one.replay.closed, one.replay.unknown], [1, [], 0]);
  t.end();
});

t.test('a Service in front of several workloads: all of them', (t) => {
  const more = { workloads: [{ name: 'shop/canary', labels: { app: 'api-canary' }, ips: ['10.0.3.1'] }] };
  const backends = [['10.0.2.1', 8080] as const, ['10.0.3.1', 9090] as const];
  const services = [{ name: 'shop/api', vip: '10.96.0.20', port: 80, backends }];
  const destination = { kind: 'service' as const, namespace: 'shop', workloadKind: '', name: 'api' };
  const one = forOne(
    [seen({ destination, service: 'shop/api', servicePort: 80, port: 80, address: '10.96.0.20' })],
    given({ ...more, services }),
  );
  t.same(
    one.rules.slice(1).map(({ to, ports }) => `${to} ${ports}`),
    ['pods of shop with app=api 8080/tcp', 'pods of shop with app=api-canary 9090/tcp'],
  );
  t.same(one.replay.closed, []);
  t.end();
});

t.test('two workloads never have one policy', (t) => {
  const names = ['Deployment', 'deployment', 'DeploymenT', 'Rollout', 'rollout'].map((workloadKind) =>
    policyName({ ...party('shop/web'), workloadKind }),
  );
  t.equal(names[0], 'deployment-web-egress');
  t.equal(new Set(names).size, names.length, names.join());
  t.end();
});

t.test('a Service that leads elsewhere than it was seen to lead', (t) => {
  // Who may write Endpoints in the namespace of the Service, and in no other.
  const secret = { name: 'db/secret', labels: { app: 'secret' }, ips: ['10.0.7.1'] };
  const edge = (destination: Edge['destination']) =>
    seen({ destination, service: 'shop/api', servicePort: 80, port: 8080, address: '10.96.0.20' });
  const world = (...backends: [string, number][]) => {
    const services = [{ name: 'shop/api', vip: '10.96.0.20', port: 80, backends }];
    return given({ workloads: [secret], services });
  };
  for (const elsewhere of [
    ['10.0.7.1', 5432],
    ['198.51.100.9', 443],
  ] as [string, number][])
    for (const backends of [[elsewhere], [['10.0.2.1', 8080], elsewhere]] as [string, number][][]) {
      const one = forOne([edge(party('shop/api'))], world(...backends));
      t.notMatch(one.yaml, /secret|198\.51|5432/, JSON.stringify(backends));
      t.match(one.yaml, /app: api\n/);
      t.match(one.warnings, [/shop\/api leads elsewhere/]);
    }
  const service = { kind: 'service' as const, namespace: 'shop', workloadKind: '', name: 'api' };
  const unknown = forOne([edge(service)], world(['10.0.2.1', 8080], ['10.0.7.1', 5432]));
  t.match(unknown.warnings, [/shop\/api has pods of other namespaces/]);
  t.end();
});

t.test('a Service without pods, such as the API server: the addresses of its endpoints, with a warning', (t) => {
  const services = [
    { name: 'default/kubernetes', vip: '10.96.0.1', port: 443, backends: [['192.168.0.1', 6443] as const] },
  ];
  const destination = { kind: 'service' as const, namespace: 'default', workloadKind: '', name: 'kubernetes' };
  const edge = seen({ destination, service: 'default/kubernetes', servicePort: 443, port: 443, address: '10.96.0.1' });
  for (const language of LANGUAGES) {
    const one = forOne([edge], given({ services }), { language });
    t.same([one.replay.edges, one.replay.closed, one.leftOut], [1, [], []], language);
    t.match(one.warnings, [/^default\/kubernetes has backends that are no pods/]);
    t.match(one.yaml, language === 'cilium' ? /kube-apiserver/ : /192\.168\.0\.1\/32/);
    t.notMatch(one.yaml, /0\.0\.0\.0\/0\n.*6443/s);
  }
  t.end();
});

t.test('a peer in the network of its node: the addresses of the node, with a warning', (t) => {
  const edge = seen({ destination: node('n1'), port: 9100, address: '192.168.0.1' });
  const one = forOne([edge], given());
  t.match(one.rules[1], { to: 'node n1 192.168.0.1, node n1 fd00::1', ports: ['9100/tcp'] });
  t.match(one.warnings, [/^node n1: .* all that runs in its network/]);
  const exporter = { name: 'mon/exporter', kind: 'DaemonSet', ips: ['192.168.0.1'], hostNetwork: true };
  const asWorkload = forOne(
    [seen({ destination: party('mon/exporter', 'DaemonSet'), port: 9100 })],
    given({ workloads: [exporter] }),
  );
  t.match(asWorkload.rules[1], { to: 'node n1 192.168.0.1' });
  t.match(asWorkload.warnings, [/runs in the network of its nodes/]);
  const itself = forOne([], given({ workloads: [exporter] }), { sinceMs: 0, untilMs: 9e7 }, 'mon/exporter');
  t.equal(itself.refused ?? '', 'it runs in the network of its nodes: no policy selects it');
  t.end();
});

t.test('labels: no hashes, ordinals or names of Jobs, and the workload alone', (t) => {
  const own = (n: number) => ({
    'pod-template-hash': 'x',
    'statefulset.kubernetes.io/pod-name': `web-${n}`,
    'apps.kubernetes.io/pod-index': `${n}`,
    'controller-revision-hash': 'y',
    'batch.kubernetes.io/job-name': 'j',
    'job-name': 'j',
    'controller-uid': 'u',
    'pod-template-generation': '1',
  });
  const only = (labels: Record<string, string>, others: readonly GivenWorkload[] = []) =>
    forOne([toApi()], { workloads: [{ ...WEB, labels, own }, API, ...others], nodes: NODES });
  const selector = (one: ReturnType<typeof forOne>) =>
    (one.objects[0] as { spec: { podSelector: { matchLabels: object } } }).spec.podSelector.matchLabels;
  t.same(selector(only({ zone: 'a', app: 'web', 'app.kubernetes.io/name': 'web' })), {
    'app.kubernetes.io/name': 'web',
  });
  const canary = { name: 'shop/canary', labels: { app: 'web', track: 'canary' }, ips: ['10.0.7.1'] };
  t.same(selector(only({ app: 'web', track: 'stable' }, [canary])), { app: 'web', track: 'stable' });
  t.match(only({ app: 'web' }, [canary]).refused, /select pods of others too, such as shop\/canary-0/);
  t.match(only({}).refused, /no label in common/);
  t.match(only({ app: 'web' }, [{ ...canary, name: 'blog/web' }]).refused, undefined, 'of another namespace');
  t.end();
});

t.test('no wide blocks: single addresses, unless a network is declared; neighbours are named', (t) => {
  const nine = Array.from({ length: 9 }, (_, n) => toIp(`203.0.113.${n * 7 + 1}`));
  const one = forOne(nine, given());
  t.equal(one.yaml.match(/cidr: 203\.0\.113\.\d+\/32/g)?.length, 9);
  t.match(one.warnings, [/^203\.0\.113\.0\/24 covers 256, seen 9/]);
  const declared = forOne(nine, given(), { networks: [{ name: 'office', cidr: '203.0.113.0/24' }] });
  t.match(declared.rules[1], { to: 'network office 203.0.113.0/24', beyond: ['203.0.113.0/24 covers 256, seen 9'] });
  t.match(declared.yaml, /covers 256, seen 9/);
  t.end();
});

t.test('many ports of one peer: a range is asked for, and taken if it is given', (t) => {
  const ports = Array.from({ length: 40 }, (_, n) => toIp('203.0.113.1', on([n % 20]), 30_000 + n * 3));
  const one = forOne([...ports, toIp('203.0.113.1')], given());
  t.same(one.rules[1]?.ports, ['443/tcp']);
  t.same(new Set(one.leftOut.map(({ why }) => why)), new Set(['many-ports']));
  t.match(one.leftOut[0]?.hint, /^41 ports from 443 to 30117: say a range/);
  const ranged = forOne([...ports, toIp('203.0.113.1')], given(), {
    ranges: [{ lo: 30_000, hi: 32_767, protocol: 6 }],
  });
  t.same([ranged.rules[1]?.ports, ranged.leftOut], [['443/tcp', '30000-32767/tcp'], []]);
  t.match(ranged.rules[1]?.beyond, ['all of 30000-32767/tcp']);
  t.end();
});

t.test('many addresses of one port: they are no list', (t) => {
  const many = Array.from({ length: 600 }, (_, n) => toIp(`198.18.${n >> 8}.${n & 255}`));
  const one = forOne([...many, toApi()], given());
  t.equal(one.rules.length, 2);
  t.match(one.leftOut[0], { why: 'many-peers', hint: '600 addresses: say which networks they are' });
  t.same([one.leftOut.length, one.leftOutMore, one.replay.closed.length, one.replay.more], [200, 400, 200, 400]);
  const declared = forOne([...many, toApi()], given(), { networks: [{ name: 'bench', cidr: '198.18.0.0/15' }] });
  t.match(declared.rules[2]?.beyond, ['198.18.0.0/15 covers 131072, seen 600']);
  t.same(declared.leftOut, []);
  t.end();
});

t.test('the clock of a node was wrong: days to come do not end the window', (t) => {
  const later = withoutFuture([toApi({}, on([0, 1, 27_000]))], Date.UTC(2026, 0, 20));
  t.same(later[0]?.days.length, 2);
  t.end();
});

t.test('one-offs, scans, and what nobody answered are left out, and listed', (t) => {
  const scan = Array.from({ length: 30 }, (_, n) => toIp(`198.51.100.${n + 1}`, on([5]), 22));
  const unanswered = toIp('192.0.2.1', on([1, 2, 3, 4], 10, 740));
  const one = forOne([toApi(), toIp('203.0.113.1', on([9])), unanswered, ...scan], given());
  t.same(
    one.rules.map(({ to }) => to),
    ['DNS: pods of kube-system with k8s-app=kube-dns', 'pods of shop with app=api'],
  );
  t.ok(whys(one).includes('203.0.113.1 443/tcp one-off'));
  t.ok(whys(one).includes('192.0.2.1 443/tcp unanswered'));
  t.equal(one.leftOut.filter(({ why }) => why === 'scan').length, 30);
  t.equal(one.replay.closed.length, 32, 'and the replay says that they would be denied');
  const pool = forOne([toIp('203.0.113.5', on([0, 1, 2, 3], 1, 0))], given());
  t.match(pool.rules[1]?.to, '203.0.113.5/32', 'a pool whose connections are open for days has no bytes yet');
  t.end();
});

t.test(
  'CronJobs: once in the month is enough for what runs once, and never stable; without a run there is no policy',
  (t) => {
    const cron = { name: 'shop/report', kind: 'CronJob', ips: ['10.0.6.1'], ended: true };
    const monthly = { ...toApi({ source: party('shop/report', 'CronJob') }, on([14])) };
    const all = [monthly, toApi()];
    const one = forOne(all, given({ workloads: [cron] }), {}, 'shop/report');
    t.match(one.rules[1]?.evidence, [{ days: 1, of: 30 }]);
    t.match(one.yaml, /1 of 30 days/);
    t.same([one.state, one.replay.edges, one.replay.closed], ['learning', 1, []]);
    const none = forOne([toApi()], given({ workloads: [cron] }), {}, 'shop/report');
    t.match(none, { state: 'learning', refused: /^it did not run in this time/, objects: [] });
    t.end();
  },
);

t.test('what was denied is never learned, unless it is asked for', (t) => {
  const denied = toIp('203.0.113.9');
  const edge: EdgeHistory = { ...denied, edge: { ...denied.edge, verdict: 'deny' } };
  const one = forOne([toApi(), edge], given());
  t.same(whys(one), ['203.0.113.9 443/tcp denied']);
  const asked = forOne([toApi(), edge], given(), { withDenied: true });
  t.match(asked.rules[2], { to: '203.0.113.9/32', evidence: [{ denied: true }] });
  t.match(asked.yaml, /denied connections.*asked for, denied until now/);
  t.end();
});

t.test('an attack while it learns: what is new is marked, and nothing is stable then', (t) => {
  const one = forOne([toApi(), toIp('203.0.113.66', on([28, 29]))], given());
  t.match(one.rules[2]?.evidence, [{ isNew: true }]);
  t.match(one.yaml, /new since 2026-01-29/);
  t.match(one, { state: 'learning', reason: 'new on 2026-01-29: 203.0.113.66 on 443/tcp' });
  t.same(one.replay.misses, ['203.0.113.66: 443/tcp'], 'and a policy of the first days would have denied it');
  t.match(forOne([toApi()], given()), { state: 'stable' });
  t.match(forOne([toApi({}, on([0, 1, 2]))], given()), { state: 'learning', reason: /3 days of evidence/ });
  t.end();
});

t.test('pods that are gone: left out, and counted as unknown', (t) => {
  const gone = seen({ destination: party('shop/old'), port: 80, address: '10.0.9.9' });
  const nobody = forOne([toApi(), gone, toIp('10.0.5.5')], given(), { clusterCidrs: ['10.0.0.0/8'] });
  t.same(whys(nobody), ['10.0.5.5 443/tcp gone', 'shop/old 80/tcp gone']);
  t.equal(nobody.replay.unknown, 2);
  t.match(forOne([toIp('10.0.2.1')], given()).leftOut, [{ why: 'gone', hint: /shop\/api-0 has the address now/ }]);
  t.match(forOne([toApi({ source: party('shop/old') })], given(), {}, 'shop/old').refused, /no pods any more/);
  t.match(
    forOne(
      [
        toApi(),
        {
          ...toApi(),
          edge: { ...toApi().edge, destination: { kind: 'other', namespace: '', workloadKind: '', name: '' } },
        },
      ],
      given(),
    ).leftOut,
    [{ why: 'other' }],
  );
  t.end();
});

t.test('names are preferred to addresses, where the language has them', (t) => {
  const edge = seen({ destination: outside('api.example.com', 'name'), address: '203.0.113.9' });
  for (const language of LANGUAGES) {
    const { yaml, warnings, replay } = forOne([edge], given(), { language });
    t.same(replay.closed, [], language);
    if (language === 'networkpolicy') {
      t.match(yaml, /203\.0\.113\.9\/32/);
      t.match(warnings, [/a rule for 203\.0\.113\.9, which may change; other languages have names/]);
    } else t.notMatch(yaml, /203\.0\.113\.9/);
  }
  t.match(
    forOne([edge], given(), { language: 'cilium' }).yaml,
    /rules:\n +dns:\n +- matchPattern: "\*"/,
    'Cilium learns names only where a rule reads queries',
  );
  t.end();
});

t.test('beside policies in force: what changes is listed, and what would be opened', (t) => {
  const policies = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: 198.51.100.0/24}}]}]
`;
  const denied = toApi({ verdict: 'deny', reason: 'rule' });
  const one = forOne([denied, toIp('198.51.100.3')], given({ policies }), { withDenied: true });
  t.match(one.replay.opened, [{ to: 'shop/api', port: '8080/tcp', was: 'deny', is: 'allow' }]);
  t.same(one.replay.closed, []);
  t.ok(
    one.replay.beyond.some((text) => /^shop\/api-0 on tcp\/8080$/.test(text)),
    one.replay.beyond.join('; '),
  );
  t.same(
    forOne([toIp('198.51.100.3')], given({ policies }), { language: 'cnp' }).replay.opened,
    [],
    'Baseline opens nothing',
  );
  t.end();
});

t.test('names that would break out of a comment or a document do not', (t) => {
  const evil = 'x.example.com\n- to: []\n---\nkind: Pod # \u001b[31m\u202e';
  const source = { ...party('shop/web') };
  const edges = [
    seen({ source, destination: outside(evil, 'name'), address: '203.0.113.9' }),
    seen({ source, destination: outside('*.example.com', 'name'), address: '203.0.113.10' }),
    seen({ source, destination: party(`shop/${evil}`), address: '10.0.2.1' }),
    seen({ source, destination: node(evil), address: '192.168.0.77' }),
    seen({ source, destination: outside('api.example.com', 'name'), service: `shop/${evil}`, address: evil }),
    seen({ source, destination: party('shop/evil', 'evil\nkind: x'), address: '10.0.4.1' }),
  ];
  const evilPod: GivenWorkload = {
    name: 'shop/evil',
    kind: 'evil\nkind: x',
    labels: { app: 'evil', 'x\ny': 'z\n---' },
    ips: ['10.0.4.1'],
  };
  for (const language of LANGUAGES) {
    const one = forOne(edges, given({ workloads: [evilPod] }), { language });
    t.notMatch(one.yaml, /[^\x20-\x7e\n]/, 'nothing but printable ASCII');
    const { policies, problems } = policiesIn(one.yaml);
    t.same([policies.length, problems], [one.objects.length, []]);
    t.same(
      policies.map(({ object }) => object),
      one.objects,
      'the text says what the objects say',
    );
    t.notMatch(JSON.stringify(one.objects), /\*\.example\.com/, 'a star in a name is no pattern');
    const itself = forOne(
      [toApi({ source: party('shop/evil', 'evil\nkind: x') })],
      given({ workloads: [evilPod] }),
      { language },
      'shop/evil',
    );
    t.equal(policiesIn(itself.yaml).policies.length, itself.objects.length);
    t.match(itself.objects[0]?.metadata, { name: /^[a-z0-9.-]+$/ });
  }
  t.end();
});
