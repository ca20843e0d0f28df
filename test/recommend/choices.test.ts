/** What whoever asks chooses: evidence that is left out, and what is taken although it would be left out. */
import t from 'tap';
import type { EdgeHistory } from '../../src/edges/edge.js';
import { readRequest } from '../../src/recommend/request.js';
import { outside } from '../edges/given.js';
import { forOne, type Given, on, party, seen } from './given.js';

const GIVEN: Given = {
  workloads: [
    { name: 'shop/web', ips: ['10.0.1.1'] },
    { name: 'shop/api', ips: ['10.0.2.1'] },
  ],
};
const toApi = seen({ destination: party('shop/api'), port: 8080, address: '10.0.2.1' });
const toIp = (ip: string, more: Parameters<typeof seen>[0] = {}, days?: EdgeHistory['days']) =>
  seen({ destination: outside(ip), address: ip, port: 443, ...more }, days);

t.test('evidence that is not wanted makes no rule, and is listed as left out and as closed', (t) => {
  const evidence = [toApi, toIp('203.0.113.1'), toIp('203.0.113.2')];
  const one = forOne(evidence, GIVEN, { without: ['203.0.113.1: 443/tcp', 'nobody: 1/tcp'] });
  t.notMatch(one.yaml, '203.0.113.1');
  t.match(one.yaml, '203.0.113.2/32');
  t.match(one.leftOut, [{ to: '203.0.113.1', port: '443/tcp', why: 'unwanted' }]);
  t.match(one.replay.closed, [{ to: '203.0.113.1', was: 'allow', is: 'deny', why: 'unwanted' }]);
  t.end();
});

t.test('what would be left out is taken: seen once, denied, unanswered, one of many ports', (t) => {
  const ports = Array.from({ length: 30 }, (_, n) => toIp('203.0.113.9', { port: 1000 + n }));
  const evidence = [
    toApi,
    toIp('203.0.113.1', {}, on([3])),
    toIp('203.0.113.2', { verdict: 'deny' }),
    toIp(
      '203.0.113.3',
      {},
      on([1, 2], 10, 0).map((row) => ({ ...row, drops: 9 })),
    ),
    ...ports,
  ];
  const also = ['203.0.113.1: 443/tcp', '203.0.113.2: 443/tcp', '203.0.113.3: 443/tcp', '203.0.113.9: 1007/tcp'];
  t.same(
    forOne(evidence, GIVEN)
      .leftOut.filter(({ to }) => to !== '203.0.113.9')
      .map(({ to, why }) => `${to} ${why}`)
      .sort(),
    ['203.0.113.1 one-off', '203.0.113.2 denied', '203.0.113.3 unanswered'],
  );
  const one = forOne(evidence, GIVEN, { also });
  for (const name of also) t.match(one.yaml, `${name.replace(': 443', '')}`.slice(0, 11));
  t.match(one.yaml, 'port: 1007');
  t.notMatch(one.yaml, 'port: 1008');
  t.same(
    one.leftOut.filter(({ to }) => to !== '203.0.113.9'),
    [],
  );
  t.equal(one.rules.flatMap(({ evidence }) => evidence).find(({ to }) => to === '203.0.113.2')?.denied, true);
  t.end();
});

t.test('who does not want it is asked before who wants it', (t) => {
  const name = '203.0.113.1: 443/tcp';
  const one = forOne([toApi, toIp('203.0.113.1')], GIVEN, { without: [name], also: [name] });
  t.match(one.leftOut, [{ why: 'unwanted' }]);
  t.end();
});

t.test('how many policies select the workload already', (t) => {
  t.equal(forOne([toApi], GIVEN).policies, 0);
  const policies = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web, namespace: shop }
spec: { podSelector: { matchLabels: { app: web } }, policyTypes: [Egress], egress: [] }
`;
  t.equal(forOne([toApi], { ...GIVEN, policies }).policies, 1);
  t.end();
});

t.test('a brief answer says the same of a workload, without a policy', (t) => {
  const evidence = [toApi, toIp('203.0.113.1', {}, on([3]))];
  const { yaml, objects, replay, ...whole } = forOne(evidence, GIVEN);
  const brief = forOne(evidence, GIVEN, { brief: true });
  t.match(brief, whole);
  t.match(brief.replay, { misses: replay.misses, learnedDays: 21, heldOutDays: 9, edges: 0 });
  t.ok(yaml !== '' && objects.length > 0);
  t.equal(brief.yaml, '');
  t.same(brief.objects, []);
  t.end();
});

t.test('choices are read with bounds', (t) => {
  const read = (options: unknown) => () => readRequest({ options: JSON.stringify(options) });
  t.match(read({ without: ['a: 1/tcp'], also: [] })(), { options: { without: ['a: 1/tcp'], also: [] } });
  for (const bad of [{ without: 'a' }, { also: [1] }, { without: ['x'.repeat(5000)] }])
    t.throws(read(bad), { code: 'USAGE' }, JSON.stringify(bad).slice(0, 40));
  t.end();
});
