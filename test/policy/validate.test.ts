import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { formatProblem } from '../../src/errors.js';
import { validatePath } from '../../src/tools/validate.js';

const dir = mkdtempSync(join(tmpdir(), 'ea-validate-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));
const problems = () => validatePath(dir).map((p) => `${p.severity} ${formatProblem(p).replaceAll(`${dir}/`, '')}`);

t.test('a directory without faults has no problems', async (t) => {
  writeFileSync(join(dir, 'good.yaml'), '# nothing yet\n');
  t.same(problems(), []);
  writeFileSync(
    join(dir, 'good.yaml'),
    `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from: [{ipBlock: {cidr: 10.0.0.0/8}}]
  egress:
    - to: [{namespaceSelector: {matchLabels: {no: such-namespace}}}]
      ports: [{port: 443}, {port: 8000, endPort: 8080}, {port: http}]
`,
  );
  t.same(problems(), []);
});

t.test('each problem with its line', async (t) => {
  mkdirSync(join(dir, 'sub'));
  writeFileSync(
    join(dir, 'sub/bad.yaml'),
    `# policies
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
spec:
  podSelector: {}
  egress:
    - to:
        - ipBlock:
            cidr: 10.0.0.0/8
            except:
              - 10.0.0.0/16
              - 11.0.0.0/16
    - tos: []
      ports:
        - protocol: tcp
---
kind: [
---
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Pod
    metadata: {name: a}
  - apiVersion: v1
    kind: Pod
    metadata:
      name: b
      labels:
        version: 2
---
apiVersion: v1
kind: Secret
metadata: {name: s}
`,
  );
  t.same(problems(), [
    'error sub/bad.yaml:15 (document 1): NetworkPolicy default/web: spec.egress[0].to[0].ipBlock.except[1]: 11.0.0.0/16 is not a part of 10.0.0.0/8 — an exception must lie inside the block and be smaller than it; until then spec.egress[0] allows nothing',
    'error sub/bad.yaml:16 (document 1): NetworkPolicy default/web: spec.egress[1].tos: is not a field of this object — check its spelling and its indentation, or remove it; until then spec.egress[1] allows nothing',
    'error sub/bad.yaml:18 (document 1): NetworkPolicy default/web: spec.egress[1].ports[0].protocol: must be one of TCP, UDP, SCTP — correct the value; letter case counts; until then spec.egress[1] allows nothing',
    'error sub/bad.yaml:21 (document 2): cannot be parsed as YAML: Flow sequence in block collection must be sufficiently indented and end with a ] — correct the syntax',
    'error sub/bad.yaml:33 (document 3): Pod default/b: metadata.labels.version: must be a string — put it in quotes',
    'warning sub/bad.yaml:36 (document 4): Secret: kind: objects of kind Secret (v1) are not read and have no effect',
  ]);
});

t.test('a directory that is not there is a problem', async (t) => {
  t.match(validatePath(join(dir, 'none')), [
    { severity: 'error', where: { file: join(dir, 'none') }, message: /cannot be read/ },
  ]);
});
