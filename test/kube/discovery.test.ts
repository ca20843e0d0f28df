/** Which kinds a server has, with what may be wrong about its answers; and the client's requests. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { AgentError } from '../../src/errors.js';
import { KubeClient, KubeError, loadKubeConfig } from '../../src/kube/client/client.js';
import { Discovery } from '../../src/kube/discovery.js';
import { FakeServer } from './fake-server.js';

const SLICES = { group: 'discovery.k8s.io', versions: ['v1', 'v1beta1'], kind: 'EndpointSlice' };
const POLICIES = { group: 'networking.k8s.io', versions: ['v1'], kind: 'NetworkPolicy' };
const PODS = { group: '', versions: ['v1'], kind: 'Pod' };
const TIERS = { group: 'crd.projectcalico.org', versions: ['v1'], kind: 'Tier' };

const verbs = ['get', 'list', 'watch'];
const resource = (name: string, kind: string, namespaced = true) => ({ name, kind, namespaced, verbs });

async function cluster(t: Test, groups: Record<string, Record<string, object[]>>) {
  const server = await new FakeServer().start();
  t.teardown(() => server.stop());
  const serve = (now: Record<string, Record<string, object[]>>): void => {
    server.routes.clear();
    server.routes.set('/version', () => ({ body: { gitVersion: 'v1.30.2' } }));
    server.routes.set('/api/v1', () => ({
      body: {
        resources: [resource('pods', 'Pod'), { ...resource('pods/status', 'Pod') }, resource('nodes', 'Node', false)],
      },
    }));
    const list = Object.entries(now).map(([name, versions]) => ({
      name,
      versions: Object.keys(versions).map((version) => ({ groupVersion: `${name}/${version}`, version })),
    }));
    server.routes.set('/apis', () => ({ body: { kind: 'APIGroupList', groups: list } }));
    for (const [name, versions] of Object.entries(now)) {
      for (const [version, resources] of Object.entries(versions)) {
        server.routes.set(`/apis/${name}/${version}`, () => ({ body: { resources } }));
      }
    }
  };
  serve(groups);
  let now = 0;
  const discovery = new Discovery(server.client(), { goneMs: 1000, now: () => now });
  return { server, serve, discovery, wait: (ms: number) => (now += ms) };
}

const V1_30 = {
  'discovery.k8s.io': { v1: [resource('endpointslices', 'EndpointSlice')] },
  'networking.k8s.io': {
    v1: [resource('networkpolicies', 'NetworkPolicy'), resource('networkpolicies/status', 'NetworkPolicy')],
  },
  apps: { v1: [resource('deployments', 'Deployment')] },
};

t.test('the best version that is served', async (t) => {
  const { server, serve, discovery } = await cluster(t, V1_30);
  t.equal(await discovery.serverVersion(), 'v1.30.2');
  t.same(await discovery.find([PODS, SLICES, POLICIES, TIERS]), [
    { group: '', version: 'v1', kind: 'Pod', plural: 'pods', namespaced: true, path: '/api/v1/pods' },
    {
      ...{
        group: 'discovery.k8s.io',
        version: 'v1',
        kind: 'EndpointSlice',
        plural: 'endpointslices',
        namespaced: true,
      },
      path: '/apis/discovery.k8s.io/v1/endpointslices',
    },
    {
      ...{
        group: 'networking.k8s.io',
        version: 'v1',
        kind: 'NetworkPolicy',
        plural: 'networkpolicies',
        namespaced: true,
      },
      path: '/apis/networking.k8s.io/v1/networkpolicies',
    },
  ]);
  t.notOk(
    server.seen.some(({ url }) => url.pathname.includes('apps')),
    'nobody asks for what is not wanted',
  );
  // v1.20: v1beta1 only. v1.21 … v1.24: both.
  const v1beta1 = [resource('endpointslices', 'EndpointSlice')];
  serve({ 'discovery.k8s.io': { v1beta1 } });
  t.match(await discovery.find([SLICES]), [{ version: 'v1beta1' }]);
  serve({ 'discovery.k8s.io': { v1beta1, v1: v1beta1 } });
  t.match(await discovery.find([SLICES]), [{ version: 'v1' }]);
  t.notOk(discovery.unsure);
});

t.test('what cannot be watched is not there', async (t) => {
  const { discovery } = await cluster(t, {
    'discovery.k8s.io': { v1: [{ ...resource('endpointslices', 'EndpointSlice'), verbs: ['get', 'list'] }] },
    'crd.projectcalico.org': { v1: [resource('../../secrets', 'Tier', false), { name: 5 }, null as unknown as object] },
  });
  t.same(await discovery.find([SLICES, TIERS]), []);
});

t.test('a group that fails keeps its last answer, and hides no other', async (t) => {
  const { server, discovery } = await cluster(t, V1_30);
  server.routes.set('/apis/networking.k8s.io/v1', () => ({ status: 503, body: { reason: 'ServiceUnavailable' } }));
  t.match(await discovery.find([SLICES, POLICIES]), [{ kind: 'EndpointSlice' }]);
  t.match(discovery.failed.get('networking.k8s.io'), /503/);
  server.routes.set('/apis/networking.k8s.io/v1', () => ({ body: { resources: V1_30['networking.k8s.io'].v1 } }));
  t.equal((await discovery.find([SLICES, POLICIES])).length, 2);
  t.equal(discovery.failed.size, 0);
  server.routes.set('/apis/networking.k8s.io/v1', () => ({ body: '<html>' }));
  server.routes.set('/apis/discovery.k8s.io/v1', () => ({ body: { resources: 7 } }));
  t.equal((await discovery.find([SLICES, POLICIES])).length, 2);
  t.same([...discovery.failed.keys()].sort(), ['discovery.k8s.io', 'networking.k8s.io']);
  server.routes.set('/apis', () => ({ status: 500, body: {} }));
  t.match(await refused(discovery.find([SLICES])), { status: 500 });
});

t.test('a kind that comes; one that goes is believed at the second look', async (t) => {
  const { serve, discovery, wait } = await cluster(t, V1_30);
  t.same(await discovery.find([TIERS]), []);
  serve({ ...V1_30, 'crd.projectcalico.org': { v1: [resource('tiers', 'Tier', false)] } });
  t.match(await discovery.find([TIERS]), [{ kind: 'Tier', namespaced: false }]);
  serve(V1_30);
  t.match(await discovery.find([TIERS]), [{ kind: 'Tier' }]);
  t.ok(discovery.unsure);
  wait(999);
  t.match(await discovery.find([TIERS]), [{ kind: 'Tier' }]);
  wait(1);
  t.same(await discovery.find([TIERS]), []);
  t.notOk(discovery.unsure);
});

t.test('errors say what the server said', async (t) => {
  const { server } = await cluster(t, {});
  const client = server.client();
  server.routes.set('/x', () => ({
    status: 429,
    body: { reason: 'TooManyRequests', message: 'slow down' },
    retryAfter: 7,
  }));
  t.match(await refused(client.request('GET', '/x')), {
    ...{ status: 429, reason: 'TooManyRequests', retryAfterMs: 7000, message: 'GET /x: 429 slow down' },
  });
  server.routes.set('/x', () => ({ status: 502, body: '<html>\nBad Gateway' }));
  t.match(await refused(client.request('GET', '/x')), {
    status: 502,
    reason: 'HTTP 502',
    message: 'GET /x: 502 <html>',
  });
  server.routes.set('/x', () => ({ body: 'nonsense' }));
  t.match(await refused(client.request('GET', '/x')), { status: 0, reason: 'Malformed' });
  await server.hangUp();
  t.match(await refused(client.request('GET', '/x')), { status: 0, reason: 'ECONNREFUSED' });
  t.ok(await client.request('GET', '/x').catch((e) => e instanceof KubeError && e instanceof Error));
});

t.test('a patch, a time limit, a signal', async (t) => {
  const { server } = await cluster(t, {});
  const client = server.client();
  server.routes.set('/x', () => ({ body: { ok: true } }));
  const patch = { body: { a: 'ü' }, contentType: 'application/merge-patch+json', query: { fieldManager: 'a b' } };
  t.same(await client.request('PATCH', '/x', patch), { ok: true });
  const seen = server.seen.at(-1);
  t.same(
    [seen?.method, seen?.body, seen?.headers['content-type'], seen?.url.searchParams.get('fieldManager')],
    ['PATCH', '{"a":"ü"}', 'application/merge-patch+json', 'a b'],
  );
  const hanging = `${server.path}?watch=1`;
  t.match(await refused(client.request('GET', server.path, { query: { watch: '1' }, timeoutMs: 30 })), {
    reason: 'Timeout',
  });
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 20);
  t.match(await refused(client.request('GET', server.path, { query: { watch: '1' }, signal: controller.signal })), {
    reason: 'Aborted',
  });
  t.match(await refused(client.request('GET', hanging, { signal: AbortSignal.abort() })), { reason: 'Aborted' });
});

t.test('TLS: the CA is checked, tokens are read again, a path before the API', async (t) => {
  const dir = t.testdir();
  const [keyFile, certFile, config] = [join(dir, 'key'), join(dir, 'cert'), join(dir, 'config')];
  const subject = ['-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const keyKind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  execFileSync('openssl', ['req', '-x509', ...keyKind, ...subject, '-keyout', keyFile, '-out', certFile], {
    stdio: 'ignore',
  });
  const seen: string[] = [];
  const server = createServer({ key: readFileSync(keyFile), cert: readFileSync(certFile) }, (request, response) => {
    seen.push(`${request.url} ${request.headers.authorization}`);
    response.end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/k8s/clusters/a/`;
  mkdirSync(join(dir, 'sub'));
  writeFileSync(join(dir, 'sub', 'token'), 'secret');
  const write = (user: object, cluster: object): void => {
    const document = {
      clusters: [{ name: 'c', cluster: { server: url, ...cluster } }],
      users: [{ name: 'u', user }],
      contexts: ['one', 'two'].map((name) => ({ name, context: { cluster: 'c', user: 'u' } })),
      'current-context': 'one',
    };
    writeFileSync(config, JSON.stringify(document));
  };
  const ask = async (): Promise<unknown> => {
    const client = new KubeClient(loadKubeConfig({ kubeconfig: config, context: 'two' }));
    await client.request('GET', '/api/v1/pods', { query: { limit: '1' } }).finally(() => client.close());
    return seen.at(-1);
  };
  write({ tokenFile: 'sub/token' }, { 'certificate-authority': 'cert' });
  t.equal(await ask(), '/k8s/clusters/a/api/v1/pods?limit=1 Bearer secret');
  write({ token: 'plain' }, { 'certificate-authority-data': readFileSync(certFile).toString('base64') });
  t.match(await ask(), /Bearer plain/);
  const script = `#!/bin/sh\necho '{"status":{"token":"made"}}'\n`;
  writeFileSync(join(dir, 'plugin'), script, { mode: 0o755 });
  write({ exec: { command: join(dir, 'plugin') } }, { 'insecure-skip-tls-verify': true });
  t.match(await ask(), /Bearer made/);
  write({ exec: { command: join(dir, 'missing') } }, { 'insecure-skip-tls-verify': true });
  t.match(await refused(ask()), { reason: 'Credentials', message: /ENOENT/ });
  write({ token: 'plain' }, {});
  const before = seen.length;
  t.match(await refused(ask()), { status: 0, reason: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
  t.equal(seen.length, before, 'no token is shown to a stranger');
});

t.test('a kubeconfig that cannot be used is named', async (t) => {
  const dir = t.testdir({
    broken: 'clusters: [',
    empty: '{}',
    odd: JSON.stringify({
      clusters: [{ name: 'c', cluster: { server: 'api:6443' } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }),
  });
  const saved = { KUBECONFIG: process.env.KUBECONFIG, HOME: process.env.HOME };
  t.teardown(() => {
    for (const [name, value] of Object.entries(saved)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });
  for (const [file, message] of [
    ['missing', /there is no such kubeconfig/],
    ['broken', /cannot be read/],
    ['empty', /no context is set/],
    ['odd', /"api:6443" is not the address/],
  ] as const) {
    const error = thrown(() => loadKubeConfig({ kubeconfig: join(dir, file) }));
    t.match(error, { code: 'USAGE', message, where: { file: join(dir, file) }, hint: /./ });
  }
  t.match(
    thrown(() => loadKubeConfig({ kubeconfig: join(dir, 'odd'), context: 'y' })),
    { hint: 'contexts there: x' },
  );
  process.env.KUBECONFIG = join(dir, 'missing');
  t.match(
    thrown(() => loadKubeConfig()),
    { where: { file: join(dir, 'missing') } },
  );
  process.env.KUBECONFIG = `${join(dir, 'missing')}:${join(dir, 'odd')}:${join(dir, 'empty')}`;
  t.match(
    thrown(() => loadKubeConfig()),
    { message: /api:6443/ },
  );
  delete process.env.KUBECONFIG;
  process.env.HOME = dir;
  t.match(
    thrown(() => loadKubeConfig()),
    { message: /no kubeconfig, and no service account/ },
  );
});

function refused(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => 'it went well',
    (e) => e,
  );
}

function thrown(run: () => unknown): AgentError {
  try {
    run();
  } catch (e) {
    if (e instanceof AgentError) return e;
    throw e;
  }
  throw new Error('nothing was thrown');
}
