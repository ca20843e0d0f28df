/** Steps in files: only what says whether a policy is staged changes. */
import t from 'tap';
import { Document } from 'yaml';
import { changeManifests } from '../../src/staging/manifests.js';
import { parsePolicyName } from '../../src/staging/names.js';
import type { StepName } from '../../src/staging/plan.js';
import { parseManifest } from '../../src/identity/files/yaml.js';
import { unifiedDiff } from '../../src/staging/unified.js';
import { seeded } from '../fuzz/random.js';

const random = seeded();

function change(step: StepName, name: string, text: string) {
  return changeManifests(step, parsePolicyName(name), [{ path: 'web.yaml', text }]);
}

const WEB = `# who may call whom
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy   # of Kubernetes
metadata:
  # asked for by the payment team
  name: web
  namespace: 'shop'
spec:
  podSelector: {matchLabels: {app: "web"}}

  policyTypes:
      - Egress      # only
  egress:
  - to: # the database
    - podSelector:
        matchLabels: {app: db}
`;

t.test('stage and enforce: the text is what it was', async (t) => {
  const staged = change('stage', 'np/shop/web', WEB);
  t.equal(
    staged.after,
    WEB.replace('  name: web\n', '  annotations:\n    egress-agent.io/enforcement: audit\n  name: web\n'),
  );
  t.equal(
    staged.diff,
    `--- a/web.yaml
+++ b/web.yaml
@@ -3,6 +3,8 @@
 kind: NetworkPolicy   # of Kubernetes
 metadata:
   # asked for by the payment team
+  annotations:
+    egress-agent.io/enforcement: audit
   name: web
   namespace: 'shop'
 spec:
`,
  );
  t.equal(change('stage', 'NetworkPolicy shop/web', staged.after).diff, '', 'it is staged');
  t.equal(change('enforce', 'np/shop/web', staged.after).after, WEB);
  t.equal(change('undo', 'np/shop/web', WEB).after, staged.after);
  t.equal(change('enforce', 'np/shop/web', WEB).diff, '');
});

t.test('every way to write it', async (t) => {
  const texts: Record<string, [before: string, after: string]> = {
    'other annotations': [
      'kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata:\n    name: web\n    namespace: shop\n    annotations: # ours\n        team: shop  # me\nspec: {}\n',
      'kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata:\n    name: web\n    namespace: shop\n    annotations: # ours\n        egress-agent.io/enforcement: audit\n        team: shop  # me\nspec: {}\n',
    ],
    JSON: [
      '{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": "shop", "name": "web"}, "spec": {}}',
      '{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"annotations": {"egress-agent.io/enforcement": "audit"}, "namespace": "shop", "name": "web"}, "spec": {}}',
    ],
    'JSON with annotations': [
      '{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"annotations": {"a": "b"}, "namespace": "shop", "name": "web"}}',
      '{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"annotations": {"egress-agent.io/enforcement": "audit", "a": "b"}, "namespace": "shop", "name": "web"}}',
    ],
    'a List': [
      'apiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  metadata: {name: other, namespace: shop}\n- metadata:\n    name: web\n    namespace: shop\n  apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n',
      'apiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  metadata: {name: other, namespace: shop}\n- metadata:\n    annotations:\n      egress-agent.io/enforcement: audit\n    name: web\n    namespace: shop\n  apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n',
    ],
    'several documents, and line ends of Windows': [
      `%YAML 1.2\n---\nkind: X\n--- # second\r\nkind: NetworkPolicy\r\napiVersion: networking.k8s.io/v1\r\nmetadata:\r\n  name: web\r\n  namespace: shop\r\n---\nkind: Y\n`,
      `%YAML 1.2\n---\nkind: X\n--- # second\r\nkind: NetworkPolicy\r\napiVersion: networking.k8s.io/v1\r\nmetadata:\r\n  annotations:\r\n    egress-agent.io/enforcement: audit\r\n  name: web\r\n  namespace: shop\r\n---\nkind: Y\n`,
    ],
    'another value': [
      'kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata:\n  annotations: {egress-agent.io/enforcement: "enforce"}\n  name: web\n  namespace: shop\n',
      'kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata:\n  annotations: {egress-agent.io/enforcement: audit}\n  name: web\n  namespace: shop\n',
    ],
  };
  for (const [what, [before, after]] of Object.entries(texts)) {
    t.equal(change('stage', 'np/shop/web', before).after, after, what);
    if (what !== 'another value') t.equal(change('enforce', 'np/shop/web', after).after, before, `${what}, and back`);
  }
  const empty =
    'kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata:\n  name: web\n  annotations: {}\n  namespace: shop\n';
  t.match(
    change('stage', 'np/shop/web', empty).after,
    /^ {2}annotations:\n {4}egress-agent.io\/enforcement: audit\n {2}name: web\n {2}namespace/m,
  );
});

t.test("Calico's Staged kinds become what they stand for", async (t) => {
  const text = `apiVersion: projectcalico.org/v3
kind: StagedNetworkPolicy # try it
metadata:
  name: web
  namespace: shop
spec:
  # Set, Delete, Learn, Ignore
  stagedAction: Set
  selector: app == 'web'
  egress: []
`;
  const enforced = text.replace('kind: Staged', 'kind: ').replace('  stagedAction: Set\n', '');
  t.equal(change('enforce', 'calico/shop/web', text).after, enforced);
  t.equal(change('enforce', 'snp/shop/web', text).after, enforced, 'by either name');
  t.equal(change('undo', 'calico/shop/web', enforced).after, text.replace('  stagedAction: Set\n', ''));
  t.equal(
    change('enforce', 'sknp/shop/web', text.replace('StagedN', 'StagedKubernetesN')).after,
    enforced.replace('projectcalico.org/v3', 'networking.k8s.io/v1'),
  );
  t.throws(() => change('enforce', 'snp/shop/web', text.replace('Action: Set', 'Action: Delete')), { code: 'USAGE' });
});

t.test('what cannot be done is said', async (t) => {
  t.throws(() => change('stage', 'np/shop/api', WEB), { message: /there is no np\/shop\/api/ });
  t.throws(() => change('stage', 'np/shop/web', `${WEB}---\n${WEB}`), { message: /more than once/ });
  const alias =
    'kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nx: &m {name: web, namespace: shop}\nmetadata: *m\n';
  t.throws(() => change('stage', 'np/shop/web', alias), { code: 'MANIFEST', message: /unusual/ });
});

t.test('differences as git shows them', async (t) => {
  t.equal(unifiedDiff('a\n', 'a\n', 'f'), '');
  t.equal(
    unifiedDiff('1\n2\n3\n4\n5\n6\n7\n8', '1\n2\n3\n4\nx\n6\n7\n8\n', 'f'),
    '--- a/f\n+++ b/f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n-8\n\\ No newline at end of file\n+8\n',
  );
  t.equal(unifiedDiff('', 'a\n', 'f'), '--- a/f\n+++ b/f\n@@ -0,0 +1,1 @@\n+a\n');
  const long = `${'x\n'.repeat(5000)}`;
  t.match(unifiedDiff(long, long.replaceAll('x', 'y'), 'f'), /^-x\n/m, 'a long one, without comparing each line');
});

t.test(`there and back, however it is written, FUZZ_SEED=${random.seed}`, async (t) => {
  for (let n = 0; n < 300; n++) {
    const r = random;
    const annotations = r.chance(50) ? { team: r.pick(['a', '1', 'x: y', '#', 'two\nlines\n']), b: 'c' } : undefined;
    const metadata = {
      ...(r.chance(50) ? { labels: { a: 'b' } } : {}),
      name: 'web',
      ...(annotations && { annotations }),
      namespace: 'shop',
    };
    const object = r.chance(50)
      ? { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec: { egress: [{}] } }
      : { spec: { egress: [] }, metadata, kind: 'NetworkPolicy', apiVersion: 'networking.k8s.io/v1' };
    const document = new Document(r.chance(20) ? { apiVersion: 'v1', kind: 'List', items: [object] } : object);
    if (r.chance(50)) document.commentBefore = ' first';
    const path = document.has('items') ? ['items', 0] : [];
    for (const inner of [[], ['metadata'], ['metadata', 'annotations']]) {
      const node = document.getIn([...path, ...inner], true) as { flow?: boolean; comment?: string } | undefined;
      const how = r.below(4);
      if (node && how === 0) node.flow = true;
      if (node && how === 1) node.comment = ' last';
    }
    const style = r.pick([undefined, 'QUOTE_DOUBLE', 'QUOTE_SINGLE'] as const);
    const before = document.toString({
      indent: r.pick([2, 4]),
      indentSeq: r.chance(50),
      ...(style ? { defaultStringType: style } : {}),
    });
    const staged = change('stage', 'np/shop/web', before).after;
    const [found] = parseManifest('', staged).flatMap((d) => d.objects);
    t.match(found?.object.metadata, { annotations: { 'egress-agent.io/enforcement': 'audit' } }, staged);
    t.equal(change('enforce', 'np/shop/web', staged).after, before, staged);
  }
});
