/** Impact and enforce as users run them on a cluster: the built program, an API, agents over mutual TLS. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { DAY_MS, dayOf } from '../../src/edges/edge.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { stagedForm, withAnnotations } from '../../src/staging/forms.js';
import { generationOf } from '../../src/staging/live/generation.js';
import { STAGED_AT, stamp } from '../../src/staging/plan.js';
import { CTL } from '../cli/tool.js';
import { feedOf, makeDay, makeEdge, outside, workload } from '../edges/given.js';
import { Api } from '../relay/api.js';
import { TestAgent, tempDir, writeTls } from '../relay/world.js';

t.setTimeout(120_000);
const NS = 'egress-system';
const dir = tempDir(t);
const certs = await makeCertificates(NS, 2);
const api = new Api();
await api.listen();
api.writeKubeconfig(join(dir, 'config'));
const { ca, cert, key } = certs.client;
const files = Object.entries({ 'ca.crt': ca, 'tls.crt': cert, 'tls.key': key });
const data = Object.fromEntries(files.map(([name, pem]) => [name, pem.toString('base64')]));
api.objects.set(`/api/v1/namespaces/${NS}/secrets/egress-client-tls`, {
  metadata: { name: 'egress-client-tls' },
  data,
});

const plain = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'web', namespace: 'shop', uid: 'u', resourceVersion: '5' },
  spec: { egress: [] },
};
const generation = generationOf(plain);
const now = new Date(Date.now() - 20 * DAY_MS);
const policy = withAnnotations(stagedForm(plain), { [STAGED_AT]: stamp({ now, generation }) });
const verbs = ['list', 'watch'];
api.objects.set('/apis', { groups: [{ name: 'networking.k8s.io', versions: [{ version: 'v1' }] }] });
api.objects.set('/apis/networking.k8s.io/v1', {
  resources: [{ kind: 'NetworkPolicy', name: 'networkpolicies', namespaced: true, verbs }],
});
api.objects.set('/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/web', policy);

const named = { dialect: 'networkpolicy', kind: 'NetworkPolicy', namespace: 'shop', name: 'web' };
const ref = { policy: named, index: -1, tier: 'default', staged: true, action: 'deny' as const };
const edge = makeEdge({
  ...{ source: workload('shop/web'), destination: outside('192.0.2.7'), verdict: 'allow', auditVerdict: 'deny' },
  auditRule: { ref, generation },
});
const agent = new TestAgent('node-a', {
  edges: feedOf([{ edge, days: [makeDay(dayOf(Date.now()) - 2, { connections: 3 })] }]),
  preview: async () => ({ edges: [] }),
  policyObjects: () => ({
    objects: [
      {
        ...{ kind: 'NetworkPolicy', api_version: 'networking.k8s.io/v1', namespace: 'shop', name: 'web', staged: true },
        ...{ state: 'in-force', pods: 2, generation: String(generation), yaml: JSON.stringify(policy) },
      },
    ],
  }),
});
await agent.listen(writeTls(join(dir, 'agent'), certs.agent));
api.pod(NS, 'agent-a', { node: 'node-a', agent: true, target: agent.port });
t.teardown(async () => {
  await agent.server.close();
  api.close();
});

async function ctl(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const { KUBECONFIG: _, ...env } = process.env;
  const all = [CTL, ...args, '--kubeconfig', join(dir, 'config')];
  const child = spawn(process.execPath, all, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...env, HOME: dir } });
  const text = { out: '', err: '' };
  child.stdout.on('data', (d) => (text.out += d));
  child.stderr.on('data', (d) => (text.err += d));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...text };
}

const CRON_JOBS = 'egressctl: CronJobs cannot be read, and are not looked at: GET /apis/batch/v1beta1/namespaces/shop';
const IMPACT = `np/shop/web: staged; selects 2 pods
  counted for 20 d, since DATE
  would have denied 3 connections of 1 workload; decided 0 others
  ◐ shop/web (Deployment): 3
      192.0.2.7:443/tcp: 3, last AGO [np/shop/web#default]
  not ready: it would have denied 3 connections in the last 7 days
`;
const fixed = (text: string) => text.replace(/since \S+/, 'since DATE').replace(/last \d+ .*? ago/, 'last AGO');

t.test('impact', async (t) => {
  const shown = await ctl('impact', 'np/shop/web', '--exit-code');
  t.equal(shown.code, 3, shown.err);
  t.equal(fixed(shown.out), IMPACT);
  t.ok(shown.err.startsWith(CRON_JOBS), shown.err);
  t.match(JSON.parse((await ctl('impact', 'np/shop/web', '-o', 'json')).out), {
    ...{ policy: 'np/shop/web', stage: 'staged', generation: String(generation), pods: 2 },
    denied: [{ workload: 'shop/web', flows: [{ protocol: 'tcp' }] }],
  });
});

t.test('what is not ready is not enforced', async (t) => {
  const refused = await ctl('enforce', 'np/shop/web', '--color', 'never');
  t.equal(refused.code, 3);
  t.equal(refused.out, '');
  const [first = '', ...rest] = refused.err.split('\n');
  t.ok(first.startsWith(CRON_JOBS), first);
  t.equal(
    fixed(rest.join('\n')),
    `${IMPACT}egressctl: np/shop/web is not enforced: it is not ready
  --force enforces it nevertheless; --days says how long it must be quiet
`,
  );
  t.notOk(api.seen.some((request) => /^(PATCH|POST|PUT|DELETE) /.test(request)));
});

t.test('with --force it is, and whom it denies is named before', async (t) => {
  const forced = await ctl('enforce', 'np/shop/web', '--force');
  t.equal(forced.code, 0);
  t.equal(forced.out, 'np/shop/web is in force\n');
  const text = fixed(forced.err).split('\n').slice(1).join('\n');
  t.ok(text.startsWith(`${IMPACT}egressctl: the Event could not be written: POST `), text);
  const json = await ctl('enforce', 'np/shop/web', '--force', '--dry-run', '-o', 'json');
  t.same(JSON.parse(json.out), {
    ...{ policy: 'np/shop/web', step: 'enforce', says: 'is in force', dryRun: true, warnings: [] },
    changes: ['annotate NetworkPolicy shop/web'],
  });
  await agent.server.close();
  const unknown = await ctl('enforce', 'np/shop/web', '--force', '--dry-run');
  t.equal(unknown.code, 0, unknown.err);
  t.match(unknown.err, /^egressctl: its impact is not known: node-a /m);
  t.match(unknown.out, /is in force \(dry run: nothing was changed\)\n$/);
  t.equal((await ctl('enforce', 'np/shop/web')).code, 1, 'without it, what is not known is not enforced');
});
