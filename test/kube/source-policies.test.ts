/** Policies as a cluster's source brings them: what ends, and what is wrong. */
import t from 'tap';
import { DialectRegistry } from '../../src/dialects/index.js';
import { formatProblem } from '../../src/errors.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { bed, CLOSED, NAMESPACES, namespace, PODS, POLICIES, pod, policy, seen, synced } from './source-bed.js';

t.test('policies of a namespace that ends hold until its pods are gone', async (t) => {
  const b = await bed(t);
  const { server } = b;
  const registry = new DialectRegistry();
  server.put(NAMESPACES, namespace('a'));
  server.put(PODS, pod('a/p', '10.0.0.1'));
  server.put(POLICIES, policy('a/closed', CLOSED));
  await synced(b);
  const judged = (s: Snapshot) =>
    evaluate(registry.toIr(s).ir, s, { from: 'a/p', to: '203.0.113.1', protocol: 6, port: 443 }).verdict;
  t.equal(
    judged(await seen(b, (s) => s.policies.length === 1 && s.pods.size === 1 && s.namespaces.size === 1)),
    'deny',
  );
  const deletionTimestamp = '2026-01-01T00:00:00Z';
  server.put(NAMESPACES, namespace('a', { meta: { deletionTimestamp }, status: { phase: 'Terminating' } }));
  await seen(b, (s) => s.namespaces.get('a')?.terminating === true);
  registry.toIr(b.source.load());
  server.delete(POLICIES, 'a/closed');
  const gone = await seen(b, (s) => s.policies.length === 0);
  t.equal(judged(gone), 'deny', 'its policy is gone, its pod is not');
  server.put(PODS, pod('a/p', '10.0.0.1', { meta: { deletionTimestamp } }));
  const ending = await seen(b, (s) => s.pods.get('a/p')?.terminating === true);
  t.equal(judged(ending), 'deny', 'it ends');
  server.delete(PODS, 'a/p');
  const { ir } = registry.toIr(await seen(b, (s) => s.pods.size === 0));
  t.same(ir.tiers, [], 'and then it is lifted');
});

t.test('what is wrong with a policy closes, and names object and field', async (t) => {
  const b = await bed(t);
  const { server } = b;
  server.put(NAMESPACES, namespace('a'));
  server.put(PODS, pod('a/p', '10.0.0.1'));
  await synced(b);
  const to = { to: [{ ipBlock: { cidr: '0.0.0.0/0' } }] };
  const spec = (more: object) => ({ podSelector: {}, policyTypes: ['Egress'], egress: [to], ...more });
  const broken: [name: string, spec: unknown, field: RegExp][] = [
    ['unknown-field', spec({ egress: [{ ...to, tos: [] }] }), /^spec\.egress\[0\]\.tos$/],
    ['misspelt', { podSelector: {}, policyTypes: ['Egress'], egres: [to] }, /^spec\.egres$/],
    [
      'operator',
      spec({ podSelector: { matchExpressions: [{ key: 'x', operator: 'Near', values: ['y'] }] } }),
      /^spec\.podSelector\.matchExpressions\[0\]\.operator$/,
    ],
    ['key', spec({ podSelector: { matchLabels: { 'a b': 'c' } } }), /^spec\.podSelector\.matchLabels/],
    ['block', spec({ egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/33' } }] }] }), /ipBlock\.cidr$/],
    [
      'except',
      spec({ egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16'] } }] }] }),
      /ipBlock\.except\[0\]$/,
    ],
    ['port', spec({ egress: [{ ...to, ports: [{ port: 99999 }] }] }), /ports\[0\]\.port$/],
    ['no-spec', 'what', /^spec$/],
    ['null-peer', spec({ egress: [{ to: [null] }] }), /^spec\.egress\[0\]\.to\[0\]/],
  ];
  for (const [name, text, field] of broken) {
    server.put(POLICIES, policy(`a/${name}`, text));
    const s = await seen(b, (n) => n.policies.length === 1);
    const { ir, problems } = new DialectRegistry().toIr(s);
    const errors = problems.filter((p) => p.severity === 'error');
    t.ok(errors.length > 0, `${name}: told`);
    t.ok(
      errors.some((p) => p.where.object === `NetworkPolicy a/${name}` && field.test(p.where.field ?? '')),
      `${name}: where: ${JSON.stringify(errors.map((p) => p.where))}`,
    );
    const { verdict } = evaluate(ir, s, { from: 'a/p', to: '203.0.113.1', protocol: 6, port: 443 });
    t.equal(verdict, 'deny', `${name}: closed`);
    server.delete(POLICIES, `a/${name}`);
    await seen(b, (n) => n.policies.length === 0);
  }
});

t.test('what was good stays in force while its object is broken', async (t) => {
  const b = await bed(t);
  const { server } = b;
  const registry = new DialectRegistry();
  server.put(PODS, pod('a/p', '10.0.0.1'));
  const open = {
    podSelector: {},
    policyTypes: ['Egress'],
    egress: [{ to: [{ ipBlock: { cidr: '203.0.113.0/24' } }] }],
  };
  server.put(POLICIES, policy('a/np', open));
  await synced(b);
  const judged = (s: Snapshot, to: string) =>
    evaluate(registry.toIr(s).ir, s, { from: 'a/p', to, protocol: 6, port: 443 }).verdict;
  const good = await seen(b, (s) => s.policies.length === 1 && s.pods.size === 1);
  t.same([judged(good, '203.0.113.1'), judged(good, '198.51.100.1')], ['allow', 'deny']);
  server.put(POLICIES, policy('a/np', { ...open, egress: [{ to: [{ ipBlock: { cidr: 'everywhere' } }] }] }));
  const bad = await seen(b, (s) => s !== good);
  t.same([judged(bad, '203.0.113.1'), judged(bad, '198.51.100.1')], ['allow', 'deny']);
  t.match(registry.toIr(bad).problems.map(formatProblem), [/NetworkPolicy a\/np: .*everywhere.*last good version/]);
});
