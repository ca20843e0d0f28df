/** egressctl lint */
import t from 'tap';
import { bench, CLUSTER, TO_API, TO_WORLD, webPolicy } from './tool.js';

t.setTimeout(120_000);
const { ctl, write } = bench(t);
const DNS = '{ports: [{port: 53, protocol: UDP}]}';
write('cluster/all.yaml', CLUSTER);
write('good/web.yaml', webPolicy(TO_API, DNS));
write(
  'bad/web.yaml',
  webPolicy(
    TO_WORLD,
    '{to: [{ipBlock: {cidr: 203.0.113.7/32}}], ports: [{port: 443}]}',
    '{to: [{podSelector: {matchLabels: {app: x}}}]}',
  ),
);

t.test('findings with file, line, field', async (t) => {
  t.match(ctl('lint', 'good', 'cluster', '--strict'), { code: 0, out: 'good, cluster: nothing found\n', err: '' });
  const r = ctl('lint', 'bad', 'cluster');
  t.equal(r.code, 0);
  t.match(
    r.out,
    /info redundant bad\/web\.yaml:9 \(document 1\): NetworkPolicy shop\/web: spec\.egress\[1\]: np\/shop\/web#1 adds nothing: np\/shop\/web#0/,
  );
  t.match(r.out, /warning empty-selector bad\/web\.yaml:10 .*spec\.egress\[2\]: .*no pod matches app=x/);
  t.match(r.out, /warning no-dns .*shop\/web may not reach port 53 anywhere/);
  t.match(r.out, /2 warnings, 1 note\n$/);
  t.equal(ctl('lint', 'bad', 'cluster', '--strict').code, 1);
});

t.test('json, errors, help', async (t) => {
  const { findings } = JSON.parse(ctl('lint', 'bad', 'cluster', '-o', 'json').out);
  t.same(findings.map((f: { check: string }) => f.check).sort(), ['empty-selector', 'no-dns', 'redundant']);
  t.match(findings[0], {
    severity: /warning|info/,
    where: { file: 'bad/web.yaml', object: 'NetworkPolicy shop/web' },
    hint: /./,
  });
  t.match(ctl('lint', 'bad'), { code: 0, err: /no pods in the manifests/ });
  t.equal(ctl('lint', 'nowhere').code, 1);
  t.equal(ctl('lint').code, 2);
  t.match(ctl('lint', '--help'), { code: 0, out: /shadowed +another rule decides first/ });
});
