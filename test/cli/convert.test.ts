import t from 'tap';
import { parseAllDocuments } from 'yaml';
import { bench, CLUSTER, TO_API, TO_WORLD, webPolicy } from './tool.js';

t.setTimeout(180_000);
const { ctl, write } = bench(t);
write('cluster/world.yaml', CLUSTER);
write('np/web.yaml', webPolicy(TO_API));
write('np/out.yaml', webPolicy(TO_WORLD).replace('name: web', 'name: out'));
write(
  'ours/own.yaml',
  '{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop, name: own}, spec: {endpointSelector: {}, egress: [{toEntities: [all]}]}}',
);

t.test('all of it', async (t) => {
  const r = ctl(
    'convert',
    '--to',
    'cilium',
    'np',
    '--with',
    'cluster',
    '--cluster-cidr',
    '10.0.0.0/8',
    '--cluster-cidr',
    'fd00::/8',
    '--cluster-cidr',
    '192.168.0.0/16',
  );
  t.match(r, { code: 0, err: /^2 converted, 0 refused; \d+ packets compared\n$/ });
  t.equal(
    r.out,
    `# Equivalent where pods and nodes have addresses in 10.0.0.0/8, fd00::/8, 192.168.0.0/16 only.
---
# from NetworkPolicy shop/out (np/out.yaml:1)
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: out
  namespace: shop
spec:
  endpointSelector:
    matchLabels:
      app: web
  enableDefaultDeny:
    egress: true
  egress:
    - toCIDRSet:
        - cidr: 203.0.113.0/24
      toPorts:
        - ports:
            - port: "443"
              protocol: TCP
    - toEntities:
        - host
---
# from NetworkPolicy shop/web (np/web.yaml:1)
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: web
  namespace: shop
spec:
  endpointSelector:
    matchLabels:
      app: web
  enableDefaultDeny:
    egress: true
  egress:
    - toEndpoints:
        - matchLabels:
            k8s:io.kubernetes.pod.namespace: shop
            app: api
      toPorts:
        - ports:
            - port: "8080"
              protocol: TCP
    - toEntities:
        - host
`,
  );
  write('made/all.yaml', r.out);
  t.match(ctl('validate', 'made'), { code: 0 });
  t.match(ctl('diff', 'np', 'made', '--with', 'cluster', '--exit-code'), { code: 0, out: /no flow of 3 pods changes/ });
});

t.test('some of it: the others are printed, with what is in the language already', async (t) => {
  const r = ctl('convert', '--to', 'cilium', 'np', 'ours');
  t.equal(r.code, 1);
  t.match(
    r.err,
    /^refused NetworkPolicy shop\/out: spec\.egress\[0\]: 203\.0\.113\.0\/24: pods and nodes may have .*\n1 converted, 1 kept, 1 refused; \d+ packets compared\n$/,
  );
  t.same(
    parseAllDocuments(r.out).map((d) => d.toJS().metadata.name),
    ['web', 'own'],
  );
});

t.test('what follows the manifests of the cluster is to be converted', async (t) => {
  const first = ctl('convert', '--to', 'calico', '--ignore-own', 'np', '--with', 'cluster');
  t.same(ctl('convert', '--to', 'calico', '--ignore-own', '--with', 'cluster', 'np'), first);
  t.equal(first.code, 0, first.err);
});

t.test('a cluster that is not where it was said to be', async (t) => {
  write(
    'there/pod.yaml',
    '{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: p}, status: {podIP: 203.0.113.9}}',
  );
  const r = ctl(
    'convert',
    '--to',
    'cilium',
    'np',
    '--with',
    'cluster',
    '--with',
    'there',
    '--cluster-cidr',
    '10.0.0.0/8',
  );
  t.match(r, {
    code: 1,
    err: /shop\/out: spec\.egress\[0\]: beside the other policies, what it becomes is not equivalent: shop\/web → 203\.0\.113\.9:443\/tcp was allow/,
  });
});

t.test('json', async (t) => {
  const r = ctl('convert', '--to', 'calico', 'np', 'ours', '-o', 'json');
  t.equal(r.code, 1);
  t.match(JSON.parse(r.out), {
    converted: [
      {
        from: 'CiliumNetworkPolicy shop/own',
        objects: [{ kind: 'NetworkPolicy', apiVersion: 'projectcalico.org/v3' }],
      },
    ],
    kept: [],
    refused: [
      {
        from: 'NetworkPolicy shop/out',
        where: { file: 'np/out.yaml' },
        reasons: [{ field: 'spec', message: /its own node/ }],
      },
      { from: 'NetworkPolicy shop/web' },
    ],
  });
});

t.test('what is not converted is said', async (t) => {
  write('in/a.yaml', webPolicy('{}').replace('[Egress]', '[Ingress, Egress]'));
  write('in/b.yaml', webPolicy('{}').replace('[Egress]', '[Ingress]').replace('name: web', 'name: in'));
  const r = ctl('convert', '--to', 'calico', 'in');
  t.match(r, {
    code: 0,
    err: /note NetworkPolicy shop\/web: spec\.policyTypes: what it says of ingress is not converted/,
  });
  t.match(r.err, /note NetworkPolicy shop\/in: says nothing of egress: left out/);
  write('bad/a.yaml', webPolicy('{tos: []}'));
  t.match(ctl('convert', '--to', 'calico', 'bad'), { code: 1, out: '', err: /spec\.egress\[0\].*: cannot be read: / });
  write('odd/a.yaml', '{apiVersion: v1, kind: Pod');
  t.match(ctl('convert', '--to', 'calico', 'odd'), { code: 1, err: /1 problem in what was given/ });
});

t.test('errors and help', async (t) => {
  t.equal(ctl('convert', 'np').code, 2);
  t.equal(ctl('convert', '--to', 'iptables', 'np').code, 2);
  t.equal(ctl('convert', '--to', 'calico', 'np', '--cluster-cidr', 'x').code, 2);
  t.match(ctl('convert', '--to', 'calico', 'nowhere'), { code: 1, err: /nowhere.*cannot be read/ });
  t.match(ctl('convert', '--help'), { code: 0, out: /packet by packet at every boundary/ });
});
