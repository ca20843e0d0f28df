/** A Service that passes in part: a policy of what was allowed opens nothing that was denied. */
import t from 'tap';
import { recommend } from '../../src/recommend/index.js';
import { outside } from '../edges/given.js';
import { type Given, OPTIONS, party, seen, snapshotOf } from './given.js';

const WORLD: Given = {
  workloads: [
    { name: 'shop/web', ips: ['10.0.1.1'] },
    { name: 'shop/api', ips: ['10.0.2.1'] },
    { name: 'shop/canary', labels: { app: 'api-canary' }, ips: ['10.0.3.1'] },
  ],
  services: [
    {
      ...{ name: 'shop/mixed', vip: '10.96.0.30', port: 80 },
      backends: [
        ['10.0.2.1', 8080],
        ['10.0.3.1', 9090],
        ['203.0.113.20', 443],
      ],
    },
  ],
};
const MIXED = { kind: 'service' as const, namespace: 'shop', workloadKind: '', name: 'mixed' };
const partial = seen({
  ...{ destination: MIXED, service: 'shop/mixed', servicePort: 80, port: 80 },
  ...{ address: '10.96.0.30', verdict: 'partial' },
});
const behind = { service: 'shop/mixed', servicePort: 80, verdict: 'deny' as const };
const outer = seen({ ...behind, destination: outside('203.0.113.20'), port: 443, address: '203.0.113.20' });
const canary = seen({ ...behind, destination: party('shop/canary'), port: 9090, address: '10.0.3.1' });

function rules(...edges: ReturnType<typeof seen>[]) {
  const { workloads } = recommend(edges, snapshotOf(WORLD), { ...OPTIONS, workloads: ['shop/web'] });
  const [web] = workloads;
  return {
    rules: web?.rules.map(({ to, ports }) => `${to} ${ports}`).filter((text) => !text.includes('kube-dns')),
    left: web?.leftOut.map(({ to, why }) => `${to} ${why}`),
    warnings: web?.warnings.filter((text) => text.includes('nothing passed')),
    opened: web?.replay.opened.length,
  };
}

const API = 'pods of shop with app=api 8080/tcp';
const CANARY = 'pods of shop with app=api-canary 9090/tcp';

t.test('backends that were denied get no rule', async (t) => {
  const warnings = ['shop/mixed has backends to which nothing passed: no rule for them'];
  const one = rules(partial, outer);
  t.strictSame(one.rules, [API, CANARY]);
  t.strictSame([one.warnings, one.opened], [warnings, 0]);
  const two = rules(partial, outer, canary);
  t.strictSame(two.rules, [API]);
  t.strictSame([two.warnings, two.opened], [warnings, 0]);
});

t.test('one that was allowed at another time gets its rule', async (t) => {
  const once = seen({
    ...behind,
    destination: party('shop/canary'),
    port: 9090,
    address: '10.0.3.1',
    verdict: 'allow',
  });
  const found = rules(partial, outer, canary, once);
  t.ok(found.rules?.includes(CANARY));
  t.notOk(found.rules?.some((text) => text.includes('203.0.113.20')));
});

t.test('what was seen to lead to one backend opens no other one that was denied', async (t) => {
  const inner = seen({ ...behind, destination: party('shop/api'), port: 8080, address: '10.0.2.1', verdict: 'allow' });
  t.strictSame(rules(inner, outer, canary).rules, [API]);
  const outside10 = { ...behind, destination: outside('203.0.113.10'), port: 443, address: '203.0.113.10' };
  const found = rules(seen({ ...outside10, verdict: 'allow' }), outer, canary).rules;
  t.notOk(
    found?.some((text) => text.includes('203.0.113.20') || text === CANARY),
    String(found),
  );
  const before = seen({ destination: party('shop/api'), port: 8080, address: '10.0.2.1', verdict: 'deny' });
  t.ok(rules(inner, before).rules?.includes(API), 'what was denied on another way, and allowed on this one');
});

t.test('where all of them were denied, so was the Service', async (t) => {
  const api = seen({ ...behind, destination: party('shop/api'), port: 8080, address: '10.0.2.1' });
  const found = rules(partial, outer, canary, api);
  t.strictSame(found.rules, []);
  t.ok(
    found.left?.includes('svc shop/mixed denied') || found.left?.some((text) => / denied$/.test(text)),
    String(found.left),
  );
});
