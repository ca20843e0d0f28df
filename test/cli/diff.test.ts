/** egressctl diff */
import t from 'tap';
import { bench, CLUSTER, TO_API, TO_WORLD, webPolicy } from './tool.js';

t.setTimeout(120_000);
const { ctl, write } = bench(t);
write('cluster/all.yaml', CLUSTER);
write('old/web.yaml', webPolicy(TO_API, TO_WORLD));
write(
  'new/web.yaml',
  webPolicy(
    '{to: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.128/25]}}], ports: [{port: 443, endPort: 444}]}',
  ),
);

t.test('what changes, by which rules', async (t) => {
  const r = ctl('diff', 'old', 'new', '--with', 'cluster');
  t.equal(r.code, 0, r.err);
  t.equal(r.err, '');
  t.equal(
    r.out,
    `shop/web
  - shop/api on tcp/8080: allow [np/shop/web#0] → deny [np/shop/web#default]
  - 203.0.113.128/25 on tcp/443: allow [np/shop/web#1] → deny [np/shop/web#default]
  - Service shop/api (10.96.0.1) on tcp/80: allow [np/shop/web#0] → deny [np/shop/web#default]
  + 203.0.113.0/25 on tcp/444: deny [np/shop/web#default] → allow [np/shop/web#0]
4 changes, 3 pods compared
`,
  );
  t.equal(ctl('diff', 'old', 'new', '--exit-code', '--with', 'cluster').code, 3);
  t.equal(ctl('diff', '--exit-code', '--with', 'cluster', 'old', 'new').code, 3, 'in any order');
  const few = ctl('diff', 'old', 'new', '--limit', '1', '--with', 'cluster').out;
  t.match(few, /and 3 more changes/);
  const json = JSON.parse(ctl('diff', 'old', 'new', '-o', 'json', '--limit', '2', '--with', 'cluster').out);
  t.match(json, {
    leftOut: 2,
    pods: 3,
    changes: [{ senders: ['shop/web'], was: { verdict: 'allow', rule: 'np/shop/web#0' } }, {}],
  });
  t.same(json.changes[1].to.ranges, ['203.0.113.128/25']);
});

t.test('no change', async (t) => {
  const r = ctl('diff', 'old', 'old', '--exit-code', '--with', 'cluster');
  t.match(r, { code: 0, out: 'no flow of 3 pods changes\n' });
  t.match(ctl('diff', 'old', 'new', '--exit-code'), { code: 0, out: /no pods to compare/ });
});

t.test('errors and help', async (t) => {
  t.match(ctl('diff', 'old', 'nowhere'), { code: 1, err: /nowhere.*cannot be read/ });
  t.equal(ctl('diff', 'old').code, 2);
  t.equal(ctl('diff', 'old', 'new', '--limit', 'x').code, 2);
  t.match(ctl('diff', '--help'), { code: 0, out: /Every packet of every pod is compared/ });
  write('faulty/x.yaml', webPolicy('{tos: []}'));
  t.match(ctl('diff', 'old', 'faulty', '--with', 'cluster').err, /1 problem in faulty/);
});
