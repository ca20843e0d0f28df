/**
 * A viewer of one namespace is told nothing that only others may know: by no answer of any handler, no message of a
 * stream and no error. A handler that is new has to say here what is asked of it.
 */
import t from 'tap';
import { EVERYTHING, type Scope, type Viewer } from '../../src/ui/access/viewer.js';
import { allHandlers } from '../../src/ui/api/handlers.js';
import type { Hands } from '../../src/ui/api/hands.js';
import { Feeds, type Outlet } from '../../src/ui/api/stream.js';
import type { HttpError } from '../../src/ui/http/answers.js';
import { viewOf } from '../../src/ui/http/read.js';
import type { StreamMessage } from '../../src/ui/wire/messages.js';
import { policy } from '../policy/world.js';
import { until } from '../netns/shell.js';
import { asked, client, HUSH, OTHER, OWN } from './two-teams.js';

const viewerOf = (scope: Scope, writes = false): Viewer => ({
  id: `of ${[...(scope ?? [])].join()}`,
  name: 'ann',
  scope: async () => scope,
  mayWrite: async (namespace) => writes && (scope?.has(namespace) ?? true),
});
const OWNER = viewerOf(new Set([OWN]));
const WRITER = viewerOf(new Set([OWN]), true);
const NOBODY = viewerOf(new Set());

/** What writes says what it was asked, and of the impact what only this server knows. */
const denied = [OWN, OTHER].map((ns) => ({
  ...{ workload: ns === OWN ? `${OWN}/web` : `${OTHER}/${HUSH}-signer`, kind: 'Pod', connections: 1 },
  flows: [],
}));
const hands = {
  step: async () => ({ impact: { denied } }),
  impact: async () => ({ denied }),
  apply: async () => ({}),
  read: async () => ({ text: 'by the rights of the user’s own token' }),
} as unknown as Hands;
const handlers = allHandlers(client, () => hands);

const party = (kind: string, namespace: string, name: string) => ({ kind, namespace, workloadKind: 'Pod', name });
const peer = (labels: object) => ({
  podSelector: { matchLabels: { app: 'api' } },
  policyTypes: ['Egress'],
  egress: [{ to: [{ namespaceSelector: {}, podSelector: { matchLabels: labels } }] }],
});
/** Of the viewer's own namespace, and a guess at a label of the other. */
const GUESS = policy(`${OWN}/guess`, peer({ clearance: 'guess' }));
const WIDE = policy(`${OWN}/wide`, {
  podSelector: { matchLabels: { app: 'web' } },
  policyTypes: ['Egress'],
  egress: [{ to: [{ ipBlock: { cidr: '10.244.1.2/32' } }] }],
});
const why = (from: object, to: object, more: object = {}) => ({ from, to, port: 5432, protocol: 6, ...more });
const web = party('workload', OWN, 'web');
const api = party('workload', OWN, 'api');

/** What is asked of each handler; all of it must be answered or refused without the word. */
const BODIES: Readonly<Record<string, readonly object[]>> = {
  status: [{}],
  node: [{ name: 'node-a' }],
  namespaces: [{}],
  policies: [{}, { namespaces: [OWN] }, { namespaces: [OTHER] }],
  activity: [{}, { window: '7d' }, { namespaces: [OTHER] }],
  policy: [
    { policy: `np/${OWN}/web` },
    { policy: `np/${OTHER}/${HUSH}` },
    { policy: 'cnp/platform' },
    { policy: 'ClusterNetworkPolicy platform' },
    { policy: 'gnp/audit' },
  ],
  why: [
    why(web, party('workload', OTHER, 'store'), { address: '10.244.1.1' }),
    why(api, party('workload', OTHER, 'store'), { address: '10.244.1.1', port: 9 }),
    why(api, party('address', '', '10.244.1.2')),
    why(api, party('workload', OTHER, 'store')),
    why(party('workload', OTHER, 'store'), web),
    why(party('node', '', 'node-a'), web),
  ],
  preview: [
    { manifests: '' },
    { manifests: GUESS },
    { manifests: WIDE },
    { manifests: `${GUESS}---\n{` },
    { manifests: policy(`${OTHER}/guess`, { podSelector: {}, policyTypes: ['Egress'] }) },
    {
      manifests:
        '{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: x}, spec: {selector: all()}}',
    },
  ],
  recommend: [{}, { namespaces: [OWN] }, { namespaces: [OTHER] }],
  recommendation: ['networkpolicy', 'cilium', 'calico', 'cnp'].flatMap((language) => [
    { workload: `${OWN}/api`, language },
    { workload: `${OWN}/web`, language },
    { workload: `${OTHER}/store`, language },
  ]),
  step: ['stage', 'enforce', 'undo'].flatMap((step) => [
    { step, policy: `np/${OWN}/web` },
    { step, policy: `np/${OTHER}/store` },
    { step, policy: 'gnp/audit' },
  ]),
  impact: [{ policy: `np/${OWN}/web` }, { policy: `np/${OTHER}/store` }, { policy: 'gnp/audit' }],
  apply: [{ yaml: GUESS, as: 'staged', dryRun: true }],
  read: [{ policy: `np/${OWN}/web` }],
};

async function ask(name: string, body: object, viewer: Viewer): Promise<string> {
  const handler = handlers[name];
  if (!handler) throw new Error(`there is no handler ${name}`);
  try {
    return JSON.stringify(await handler(body as never, viewer, new AbortController().signal)) ?? '';
  } catch (e) {
    const { message, fault, hint, where } = e as Error & Partial<HttpError> & { hint?: string; where?: object };
    return `refused: ${JSON.stringify([message, fault, hint, where])}`;
  }
}

t.test('the world is one in which there is something to hide', async (t) => {
  for (const name of ['status', 'policies', 'recommend'])
    t.match(await ask(name, {}, EVERYTHING), new RegExp(HUSH), name);
  t.match(await ask('preview', { manifests: WIDE }, EVERYTHING), new RegExp(HUSH));
  t.match(await ask('policy', { policy: `np/${OTHER}/${HUSH}` }, EVERYTHING), /yaml/);
});

t.test('every handler', async (t) => {
  t.strictSame(
    Object.keys(handlers).filter((name) => !BODIES[name]),
    [],
    'has its questions here',
  );
  for (const name of Object.keys(handlers))
    for (const body of BODIES[name] ?? []) {
      // A refusal repeats what was asked.
      const said = (text: string) => text.replaceAll(JSON.stringify(body).match(/np\/vault\/hush/)?.[0] ?? '\0', '');
      for (const viewer of [OWNER, WRITER])
        t.notMatch(
          said(await ask(name, body, viewer)),
          new RegExp(HUSH),
          `${name} ${JSON.stringify(body).slice(0, 120)}`,
        );
    }
});

t.test('who may see nothing is told nothing, and no source is asked for everything', async (t) => {
  asked.length = 0;
  for (const name of Object.keys(handlers))
    for (const body of BODIES[name] ?? []) {
      // With one's own token one may write, and read, what that allows.
      if (name === 'apply' || name === 'read') continue;
      const text = await ask(name, body, NOBODY);
      t.notMatch(
        text.replaceAll(JSON.stringify(Object.values(body)), ''),
        /10\.244\.|clearance/,
        `${name} ${text.slice(0, 100)}`,
      );
    }
  t.strictSame(
    asked.filter(({ method }) => method === 'recommend'),
    [],
  );
});

t.test('what is one’s own is told', async (t) => {
  t.match(await ask('namespaces', {}, OWNER), /shop/);
  t.match(await ask('policies', {}, OWNER), /np\/shop\/web.*|platform/);
  t.match(await ask('policy', { policy: `np/${OWN}/web` }, OWNER), /yaml.*podSelector/);
  t.match(await ask('why', BODIES.why?.[0] as object, OWNER), /may not reach/);
  const own = JSON.parse(await ask('preview', { manifests: GUESS }, OWNER)) as { flows: unknown[]; judged: number };
  t.equal(own.flows.length, 1, 'flows of one’s own, to one’s own and outside');
  const all = JSON.parse(await ask('preview', { manifests: GUESS }, WRITER)) as { flows: unknown[] };
  t.equal(all.flows.length, 2, 'who may write such a policy is told what it does to others');
  t.match(await ask('preview', { manifests: policy(`${OTHER}/x`, {}) }, WRITER), /you may not see vault/);
});

t.test('a guess at a label has the same answer, right or wrong', async (t) => {
  const guesses = ['guess', HUSH].map((clearance) => policy(`${OWN}/guess`, peer({ clearance })));
  const answers = await Promise.all(
    guesses.map((manifests) => ask('preview', { manifests }, { ...OWNER, id: manifests })),
  );
  t.equal(answers[0], answers[1]);
});

t.test('a recommendation goes by what may be seen, and says so', async (t) => {
  const text = await ask('recommendation', { workload: `${OWN}/api`, language: 'networkpolicy' }, OWNER);
  t.match(text, /192\.0\.2\.9/, 'what is outside');
  t.notMatch(text, /store/, 'by labels of pods, which are not told');
  t.match(text, /1 flow goes to pods of namespaces that you may not see/, 'what is left out is counted');
  const all = await ask('recommendation', { workload: `${OWN}/api`, language: 'networkpolicy' }, EVERYTHING);
  t.match(all, /app: store/);
});

class Page implements Outlet {
  readonly messages: StreamMessage[] = [];
  readonly #ending = new AbortController();
  readonly signal = this.#ending.signal;
  send(message: StreamMessage): boolean {
    this.messages.push(message);
    return true;
  }
  async drained(): Promise<void> {}
  leave(): void {
    this.#ending.abort();
  }
  get text(): string {
    return JSON.stringify(this.messages);
  }
  of<T extends StreamMessage['type']>(type: T) {
    return this.messages.filter((m): m is Extract<StreamMessage, { type: T }> => m.type === type);
  }
}

const VIEW = { window: '7d', edges: true, flows: { last: 10 } };

t.test('a stream', async (t) => {
  const feeds = new Feeds(client);
  t.teardown(() => feeds.close());
  const open = (viewer: Viewer, more: object = {}) => {
    const page = new Page();
    const done = feeds.serve(viewOf({ ...VIEW, ...more }), viewer, () => page);
    t.teardown(async () => {
      page.leave();
      await done;
    });
    return { page, done };
  };
  const { page } = open(OWNER);
  await until('all has come', () => page.of('edges').some((m) => m.rows.length > 0) && page.of('flows').length > 0);
  t.notMatch(page.text, new RegExp(HUSH));
  t.match(page.text, /"vault"/, 'who talks to it is told, by name');
  t.equal(page.of('edges').flatMap((m) => m.edges).length, 4);
  const flows = page.of('flows').flatMap((m) => m.flows);
  t.ok(
    flows.some((f) => f.source.labels.includes('k8s:app=web')),
    'one’s own labels',
  );

  const all = open(EVERYTHING).page;
  await until('all has come', () => all.of('edges').some((m) => m.rows.length > 0));
  t.match(all.text, new RegExp(HUSH));

  for (const [value, key] of [`clearance=${HUSH}`, 'clearance=guess'].map((v) => [v, 'to-label'])) {
    const guess = open(OWNER, { chips: [{ key, value }], edges: false }).page;
    await until('flows have come', () => guess.of('flows').length > 0);
    const flows = guess.of('flows').flatMap((m) => m.flows);
    t.notOk(
      flows.some((f) => f.destination.namespace !== OWN),
      `${key} ${value}`,
    );
  }

  asked.length = 0;
  const nothing = open(NOBODY).page;
  await until('an answer', () => nothing.of('edges').length > 0);
  t.strictSame(asked, [], 'an empty scope asks for nothing');
  t.strictSame(
    nothing.of('edges').flatMap((m) => m.edges),
    [],
  );
  t.strictSame(nothing.of('flows'), []);
});

t.test('a stream follows the rights of its viewer', async (t) => {
  const feeds = new Feeds(client);
  t.teardown(() => feeds.close());
  let scope: Scope = new Set([OWN]);
  let isAway = false;
  const viewer: Viewer = {
    id: 'ann',
    name: 'ann',
    scope: async () => {
      if (isAway) throw new Error('away');
      return scope;
    },
  };
  const page = new Page();
  const done = feeds.serve(viewOf(VIEW), viewer, () => page);
  const shown = () => {
    const ids = new Set<number>();
    for (const m of page.of('edges')) {
      for (const id of m.gone ?? []) ids.delete(id);
      for (const { id } of m.edges) ids.add(id);
    }
    return ids.size;
  };
  await until('edges have come', () => shown() === 4);
  isAway = true;
  const began = performance.now();
  await until('nothing is shown', () => shown() === 0);
  t.ok(performance.now() - began < 10_000);
  isAway = false;
  await until('it is back', () => shown() === 4);
  scope = new Set([OWN, OTHER]);
  await until('more is shown', () => shown() === 6);
  scope = new Set();
  await until('nothing is shown', () => shown() === 0);
  page.leave();
  await done;
});

t.test('streams of many users are few of a source', async (t) => {
  const feeds = new Feeds(client);
  t.teardown(() => feeds.close());
  asked.length = 0;
  const pages = Array.from({ length: 40 }, (_, n) => {
    const page = new Page();
    const viewer = { ...viewerOf(new Set([OWN, `of-${n}`])), id: `user ${n}` };
    const done = feeds.serve(viewOf({ ...VIEW, flows: undefined }), viewer, () => page);
    t.teardown(async () => {
      page.leave();
      await done;
    });
    return page;
  });
  await until('all have come', () => pages.every((page) => page.of('edges').some((m) => m.rows.length > 0)));
  t.ok(asked.length <= 21, `${asked.length}`);
  for (const page of pages) {
    t.equal(page.of('edges').flatMap((m) => m.edges).length, 4);
    t.notMatch(page.text, new RegExp(HUSH));
  }
});
