/** The web UI in the cluster: users with real tokens and real rights, and what each of them sees. */
import { spawn } from 'node:child_process';
import { request } from 'node:https';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { EdgeInfo, FlowRow, Session, StreamMessage } from '../../src/ui/wire/messages.js';
import { build } from '../daemonset/kustomize.js';
import { root, run, until } from '../netns/shell.js';
import { type Cluster, SYSTEM } from './cluster.js';
import { byName, policy } from './objects.js';
import { OTHER, SHOP, type World } from './world.js';
import { pageHeaders, remember } from '../ui/page-keys.js';

const PORT = 18443;
const HOST = `localhost:${PORT}`;
/** A label of the other namespace's pods, which no user of the shop is told. */
const SECRET = 'name=web';

interface Answer {
  readonly status: number;
  readonly cookie: string;
  readonly body: string;
}

export async function webUi(t: Test, cluster: Cluster, { client, other, ip }: World): Promise<void> {
  await install(cluster);
  const secret = await cluster.json<{ data: Record<string, string> }>('-n', SYSTEM, 'get', 'secret', 'egress-ui-tls');
  const ca = Buffer.from(secret.data['ca.crt'] ?? '', 'base64');
  const forward = spawn(
    cluster.place.kubectl,
    ['--kubeconfig', cluster.place.kubeconfig, '-n', SYSTEM, 'port-forward', 'svc/egress-ui', `${PORT}:443`],
    { stdio: 'ignore' },
  );
  const page = new Page(ca);
  try {
    await until('the page is served', async () => (await page.send('GET', '/')).status === 200, 60_000);
    await users(cluster);
    await client.tcp(ip(`${OTHER}/web`), 8080, 700);
    await client.tcp(ip('web-1'), 8080, 700);
    await other.tcp(ip(`${OTHER}/web`), 8080, 700);

    t.equal((await page.post('policies', {})).status, 401, 'without a token there is nothing');
    t.equal((await page.post('login', { token: 'eyJhbGciOiJub25lIn0.e30.' })).status, 401, 'nor with any other');
    const elsewhere = await tokenOf(cluster, 'ui-shop', ['somebody-else']);
    t.equal((await page.post('login', { token: elsewhere })).status, 401, 'nor with one for somebody else');

    const token = await tokenOf(cluster, 'ui-shop');
    const strangers: Record<string, string>[] = [{ host: 'evil.example.com' }, { origin: 'https://evil.example.com' }];
    for (const headers of strangers)
      t.equal((await page.post('login', { token }, '', headers)).status, 403, JSON.stringify(headers));
    const { cookie, status } = await page.post('login', { token });
    t.equal(status, 200, 'a ServiceAccount signs in');
    const session = JSON.parse((await page.send('GET', '/api/session', cookie)).body) as Session;
    t.match(session, { user: `system:serviceaccount:${SHOP}:ui-shop`, namespaces: [SHOP], writes: true });

    const all = (await page.post('login', { token: await tokenOf(cluster, 'ui-all') })).cookie;
    // The API server may have said no a moment before the right came, and that is remembered for a while.
    await until(
      'the right to see all is known',
      async () => {
        const { body } = await page.send('GET', '/api/session', all);
        return (JSON.parse(body) as Session).namespaces === undefined;
      },
      60_000,
    );
    const hasSecret = (f: FlowRow) => labelsIn(f, OTHER).some((label) => label.includes(SECRET));
    // Flows of before may be all that has come at first.
    const whole = await page.stream(all, ({ edges, flows }) => edges.length > 0 && flows.some(hasSecret));
    t.ok(whole.flows.some(hasSecret), 'who may see the whole cluster sees the labels of the other namespace');
    const seen = await page.stream(cookie, ({ edges, flows }) => {
      const toOther = edges.some((e) => e.destination.namespace === OTHER);
      return toOther && flows.some((f) => f.destination.namespace === OTHER);
    });
    for (const { source, destination } of [...seen.edges, ...seen.flows])
      t.ok([source.namespace, destination.namespace].includes(SHOP), 'one side of each is of the shop');
    t.strictSame(
      seen.flows.flatMap((f) => labelsIn(f, OTHER)),
      [],
      'the other side has no labels',
    );
    t.ok(
      seen.flows.some((f) => labelsIn(f, SHOP).length > 0),
      'one’s own side has',
    );

    await cluster.apply(policy(OTHER, 'theirs', { matchLabels: { name: 'client' } }, [{ to: [byName('web')] }]));
    await until(
      'the policy is told',
      async () => (await page.post('policies', {}, all)).body.includes('theirs'),
      30_000,
    );
    for (const [name, body] of [
      ['policies', {}],
      ['status', {}],
      ['namespaces', {}],
      ['recommend', {}],
      ['policy', { policy: `np/${OTHER}/theirs` }],
    ] as const) {
      const answer = await page.post(name, body, cookie);
      t.notMatch(
        answer.body.replaceAll(`np/${OTHER}/theirs`, ''),
        /theirs|egress-e2e-other/,
        `${name}: nothing of another`,
      );
    }

    // What a user may write is what their own token may write.
    const yaml = JSON.stringify(policy(SHOP, 'from-ui', { matchLabels: { name: 'nobody' } }, []));
    const apply = (who: string) => page.post('apply', { yaml, as: 'enforced', dryRun: false }, who);
    t.match((await apply(cookie)).body, /forbidden|403/, 'a viewer writes nothing');
    const writer = (await page.post('login', { token: await tokenOf(cluster, 'ui-writer') })).cookie;
    t.equal((await apply(writer)).status, 200, 'an editor does');
    const path = `/apis/networking.k8s.io/v1/namespaces/${SHOP}/networkpolicies/from-ui`;
    const made = await cluster.kubectl('get', '--raw', path);
    t.match(made, /"manager":"egress-ui"/);

    // A right that is taken away is gone within ten seconds, also in the middle of a stream.
    let hasBegun = false;
    const gone = page.stream(cookie, ({ edges, began }) => {
      hasBegun ||= began;
      return began && edges.length === 0;
    });
    await until('the stream has begun', () => hasBegun);
    await cluster.kubectl('-n', SHOP, 'delete', 'rolebinding', 'ui-shop');
    const end = performance.now();
    await gone;
    t.ok(performance.now() - end < 12_000, 'and so is what was shown');
    t.same((JSON.parse((await page.send('GET', '/api/session', cookie)).body) as Session).namespaces, []);
  } finally {
    forward.kill();
    await cluster.kubectl('-n', SHOP, 'delete', 'networkpolicy', 'from-ui', '--ignore-not-found');
    await cluster.kubectl('-n', OTHER, 'delete', 'networkpolicy', 'theirs', '--ignore-not-found');
    await cluster.kubectl('delete', 'clusterrolebinding', 'egress-e2e-ui-all', '--ignore-not-found');
  }
}

/** The component alone: the rest is there. The test node has no DNS, so the relay is named by its address. */
async function install(cluster: Cluster): Promise<void> {
  const relay = await cluster.json<{ spec: { clusterIP: string } }>('-n', SYSTEM, 'get', 'service', 'egress-relay');
  const own = build(join(root, 'daemonset/overlays/dev-ui')).filter((o) => o.metadata.name.startsWith('egress-ui'));
  for (const o of own) {
    if (o.kind !== 'Deployment') continue;
    const [container] = o.spec.template.spec.containers;
    container.args = container.args.map((arg: string) =>
      arg.startsWith('--relay=') ? `--relay=${relay.spec.clusterIP}:4245` : arg,
    );
  }
  await cluster.apply(...own);
  await cluster.kubectl('-n', SYSTEM, 'rollout', 'status', 'deploy/egress-ui', '--timeout=120s');
}

async function users(cluster: Cluster): Promise<void> {
  const account = (name: string) => ({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace: SHOP } });
  const group = 'rbac.authorization.k8s.io';
  const binding = (user: string, role: string) => ({
    apiVersion: `${group}/v1`,
    kind: 'RoleBinding',
    metadata: { name: user === 'ui-shop' ? user : `${user}-${role}`, namespace: SHOP },
    roleRef: { apiGroup: group, kind: 'ClusterRole', name: role },
    subjects: [{ kind: 'ServiceAccount', name: user, namespace: SHOP }],
  });
  await cluster.apply(
    ...['ui-shop', 'ui-writer', 'ui-all'].map(account),
    binding('ui-shop', 'egress-ui-viewer'),
    binding('ui-writer', 'egress-ui-viewer'),
    binding('ui-writer', 'admin'),
    {
      ...binding('ui-all', 'egress-ui-viewer'),
      kind: 'ClusterRoleBinding',
      metadata: { name: 'egress-e2e-ui-all' },
    },
  );
}

/** What `kubectl create token` does, which old versions of it do not have. */
async function tokenOf(cluster: Cluster, user: string, audiences?: string[]): Promise<string> {
  const { kubectl, kubeconfig } = cluster.place;
  const path = `/api/v1/namespaces/${SHOP}/serviceaccounts/${user}/token`;
  const input = JSON.stringify({
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec: audiences ? { audiences } : {},
  });
  const { stdout } = await run(kubectl, ['--kubeconfig', kubeconfig, 'create', '--raw', path, '-f', '-'], { input });
  return (JSON.parse(stdout) as { status: { token: string } }).status.token;
}

function labelsIn({ source, destination }: FlowRow, namespace: string): readonly string[] {
  return [source, destination].flatMap((end) => (end.namespace === namespace ? end.labels : []));
}

interface Seen {
  /** Some of it has come. */
  began: boolean;
  readonly edges: readonly EdgeInfo[];
  readonly flows: readonly FlowRow[];
}

/** A browser, as far as the server can tell. */
class Page {
  readonly #ca: Buffer;

  constructor(ca: Buffer) {
    this.#ca = ca;
  }

  post(name: string, body: object, cookie = '', headers: Record<string, string> = {}): Promise<Answer> {
    return this.send('POST', `/api/${name}`, cookie, JSON.stringify(body), headers);
  }

  send(
    method: string,
    path: string,
    cookie = '',
    body = '',
    headers: Record<string, string> = {},
    heard?: (text: string) => boolean,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const r = request(
        {
          ...{ host: '127.0.0.1', port: PORT, servername: 'localhost', ca: this.#ca, agent: false, method, path },
          headers: {
            ...{ host: HOST, origin: `https://${HOST}`, 'content-type': 'application/json' },
            ...(cookie === '' ? {} : { cookie, ...pageHeaders(cookie) }),
            ...headers,
          },
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8');
          // Whoever has read enough leaves.
          response.on('error', () => {});
          response.on('data', (part: string) => {
            text += part;
            if (heard?.(text)) r.destroy();
          });
          response.on('close', () => {
            const [set = ''] = response.headers['set-cookie'] ?? [];
            resolve({ status: response.statusCode ?? 0, cookie: set === '' ? '' : remember(set, text), body: text });
          });
        },
      );
      r.on('error', reject);
      r.setTimeout(60_000, () => r.destroy(new Error(`${path}: nothing for a minute`)));
      r.end(body);
    });
  }

  /** Reads a stream until it has shown what is wanted. */
  async stream(cookie: string, isEnough: (seen: Seen) => boolean): Promise<Seen> {
    const edges = new Map<number, EdgeInfo>();
    const flows: FlowRow[] = [];
    let [at, began] = [0, false];
    const now = (): Seen => ({ began, edges: [...edges.values()], flows });
    const take = (message: StreamMessage) => {
      if (message.type === 'flows') flows.push(...message.flows);
      if (message.type !== 'edges') return;
      for (const id of message.gone ?? []) edges.delete(id);
      for (const edge of message.edges) edges.set(edge.id, edge);
      began ||= edges.size > 0;
    };
    const view = { window: 'live', edges: true, flows: { last: 500 } };
    await this.send('POST', '/api/stream', cookie, JSON.stringify(view), {}, (text) => {
      for (let end = text.indexOf('\n\n', at); end >= 0; end = text.indexOf('\n\n', at)) {
        const line = text.slice(at, end);
        at = end + 2;
        if (line.startsWith('data: ')) take(JSON.parse(line.slice(6)) as StreamMessage);
      }
      return isEnough(now());
    });
    return now();
  }
}
