/** Who may see what: users of a server in a cluster, by their tokens and rights. */
import t from 'tap';
import { KubeClient } from '../../src/kube/client/client.js';
import { isAskedAway, seenEdge, seenFlow } from '../../src/ui/access/mask.js';
import { People } from '../../src/ui/access/people.js';
import { Reviews } from '../../src/ui/access/reviews.js';
import { Rights } from '../../src/ui/access/rights.js';
import { askedOf, type Scope, SignedOut, type Viewer } from '../../src/ui/access/viewer.js';
import { ScopeWatch } from '../../src/ui/access/watch.js';
import { flowRow } from '../../src/ui/feeds/flow-row.js';
import { until } from '../netns/shell.js';
import { ReviewsServer } from './reviews-server.js';
import { OTHER, OWN, records } from './two-teams.js';

const api = new ReviewsServer();
await api.listen();
const kube = new KubeClient(api.config);
t.teardown(async () => {
  kube.close();
  await api.close();
});
const FLOWS = 'get flows.egress-agent.io';
let now = 0;

t.beforeEach(() => {
  api.mood = 'well';
  api.seen.length = 0;
  api.accounts.clear();
  api.rights.clear();
  api.namespaces = [OWN, OTHER, 'kube-system'];
});

const people = (audiences: string[] = []) =>
  new People({ reviews: new Reviews(kube, audiences), server: api.config, now: () => now });

t.test('whose token it is', async (t) => {
  api.accounts.set('good', { username: 'ann' });
  api.accounts.set('other', { username: 'bob', audiences: ['egress-ui'] });
  const viewer = await people().viewerOf('good');
  t.equal(viewer?.name, 'ann');
  t.equal(await people().viewerOf('other'), undefined, 'a token for somebody else');
  t.equal((await people(['egress-ui']).viewerOf('other'))?.name, 'bob');
  t.equal(await people(['egress-ui']).viewerOf('good'), undefined);
  api.seen.length = 0;
  for (const token of ['', ' ', 'a b', 'a\n', 'x'.repeat(9000), '{"a":1}', 'ü'])
    t.equal(await people().viewerOf(token), undefined, JSON.stringify(token.slice(0, 10)));
  t.equal(api.count('token'), 0, 'what is no token is not asked about');
  api.mood = 'lies';
  t.equal(await people().viewerOf('good'), undefined, 'true is the only yes');
});

t.test('an API server that is away: nobody comes in, and no token is repeated', async (t) => {
  api.mood = 'broken';
  const refused = await people()
    .viewerOf('a-secret-token')
    .catch((e: Error) => e);
  t.match(refused, { code: 'AGENT', message: /cannot be decided/ });
  t.notMatch((refused as Error).message, /a-secret-token/);
});

t.test('a token is reviewed again, and is over with its answer', async (t) => {
  now = 0;
  api.accounts.set('good', { username: 'ann' });
  api.rights.add(`ann ${FLOWS} *`);
  const all = people();
  const viewer = (await all.viewerOf('good')) as Viewer;
  await viewer.scope();
  t.equal(await all.viewerOf('good'), viewer, 'one of a token');
  t.equal(api.count('token'), 1, 'kept for some time');
  now += 60_000;
  await viewer.scope();
  t.equal(api.count('token'), 2);
  api.accounts.delete('good');
  now += 60_000;
  await t.rejects(viewer.scope(), { message: 'the session is over' });
  await t.rejects(viewer.mayWrite?.(OWN) as Promise<unknown>, { message: 'the session is over' });
  api.accounts.set('good', { username: 'eve' });
  await t.rejects(viewer.scope(), { message: 'the session is over' }, 'over is over');
  const eve = (await all.viewerOf('good')) as Viewer;
  api.accounts.set('good', { username: 'mallory' });
  now += 60_000;
  await t.rejects(eve.scope(), { message: 'the session is over' }, 'somebody else is another session');
  api.mood = 'broken';
  t.equal(await all.viewerOf('good').catch((e: { code: string }) => e.code), 'AGENT');
});

t.test('a token that names its end is reviewed at its end', async (t) => {
  now = 0;
  const payload = Buffer.from(JSON.stringify({ exp: Date.now() / 1000 + 5 })).toString('base64url');
  const token = `h.${payload}.s`;
  api.accounts.set(token, { username: 'ann' });
  const viewer = (await people().viewerOf(token)) as Viewer;
  now += 4000;
  await viewer.review?.();
  t.equal(api.count('token'), 1);
  now += 2000;
  await viewer.review?.();
  t.equal(api.count('token'), 2);
});

t.test('what a user may see', async (t) => {
  now = 0;
  const rights = new Rights(new Reviews(kube, []), () => now);
  const user = (username: string, groups: string[] = []) => ({ username, uid: '', groups, extra: {} });
  api.rights.add(`ann ${FLOWS} ${OWN}`);
  api.rights.add(`admins ${FLOWS} *`);
  t.strictSame(await rights.scopeOf(user('ann')), new Set([OWN]));
  t.equal(await rights.scopeOf(user('root', ['admins'])), undefined, 'all of the cluster');
  t.strictSame(await rights.scopeOf(user('bob')), new Set(), 'nothing, which is not all');
  t.notOk(api.seen.includes(`access root ${OWN}`), 'one review for who may see all');

  api.seen.length = 0;
  now += 1000;
  await Promise.all([rights.scopeOf(user('ann')), rights.scopeOf(user('ann'))]);
  t.strictSame(api.seen, [], 'kept for some seconds');
  api.rights.delete(`ann ${FLOWS} ${OWN}`);
  now += 6000;
  t.strictSame(await rights.scopeOf(user('ann')), new Set(), 'what was taken away is gone');
  t.strictSame(
    api.seen.filter((line) => line.startsWith('access')),
    ['access ann *', `access ann ${OWN}`],
    'what was refused is asked again later',
  );
  api.rights.add(`ann ${FLOWS} ${OTHER}`);
  now += 50_000;
  t.strictSame(await rights.scopeOf(user('ann')), new Set([OTHER]), 'and what was given is seen');

  for (const mood of ['broken', 'lies'] as const) {
    api.mood = mood;
    now += 60_000;
    const scope = await rights.scopeOf(user('ann')).catch((e: { code: string }) => e.code);
    if (mood === 'broken') t.equal(scope, 'AGENT');
    else t.strictSame(scope, new Set(), 'true is the only yes');
  }
  api.mood = 'well';
  api.rights.add(`ann create networkpolicies.networking.k8s.io ${OWN}`);
  now += 60_000;
  t.equal(await rights.mayWrite(user('ann'), OWN), true);
  t.equal(await rights.mayWrite(user('ann'), OTHER), false);
});

t.test('many namespaces are reviewed some at a time', async (t) => {
  now = 0;
  api.namespaces = Array.from({ length: 1000 }, (_, n) => `n${n}`);
  api.rights.add(`ann ${FLOWS} n7`);
  const rights = new Rights(new Reviews(kube, []), () => now);
  t.strictSame(await rights.scopeOf({ username: 'ann', uid: '', groups: [], extra: {} }), new Set(['n7']));
  t.equal(api.count('access'), 1001);
});

t.test('a scope that is followed: nothing, as long as nobody can say', async (t) => {
  let answer: () => Promise<Scope> = async () => new Set([OWN]);
  const viewer: Viewer = { id: 'a', name: 'a', scope: () => answer() };
  const ending = new AbortController();
  t.teardown(() => ending.abort());
  const watch = await ScopeWatch.start(viewer, ending.signal, { everyMs: 10, silentMs: 50 });
  let changes = 0;
  watch.onChange(() => changes++);
  t.strictSame(watch.scope, new Set([OWN]));
  answer = () => new Promise(() => {});
  await until('the scope is empty', () => watch.scope?.size === 0);
  t.equal(changes, 1);
  ending.abort();

  const again = new AbortController();
  t.teardown(() => again.abort());
  answer = async () => undefined;
  const second = await ScopeWatch.start(viewer, again.signal, { everyMs: 10, silentMs: 50 });
  t.equal(second.scope, undefined);
  answer = async () => {
    throw new Error('away');
  };
  await until('the scope is empty', () => second.scope?.size === 0);
  t.notOk(second.over.aborted);
  answer = async () => new Set([OWN]);
  await until('it is back', () => second.scope?.has(OWN) ?? false);
  answer = async () => {
    throw new SignedOut();
  };
  await until('the session is over', () => second.over.aborted);
  t.equal(second.scope?.size, 0);

  answer = async () => {
    throw new Error('away');
  };
  await t.rejects(ScopeWatch.start(viewer, again.signal), { message: 'away' }, 'nothing begins without an answer');
});

t.test('an empty scope asks for nothing, which is not everything', (t) => {
  t.strictSame(askedOf([], undefined), []);
  t.strictSame(askedOf([OTHER], undefined), [OTHER]);
  t.strictSame(askedOf([], new Set([OWN])), [OWN]);
  t.strictSame(askedOf([OWN, OTHER], new Set([OWN])), [OWN]);
  t.equal(askedOf([OTHER], new Set([OWN])), undefined);
  t.equal(askedOf([], new Set()), undefined);
  t.end();
});

t.test('a filter does not tell what is not shown', (t) => {
  const rows = records.map(flowRow);
  const scope = new Set([OWN]);
  const [out, back] = rows as [(typeof rows)[0], (typeof rows)[0]];
  const asks = (row: typeof out, key: string, value = 'x', not = false) =>
    isAskedAway(row, [{ key, value, ...(not ? { not } : {}) }], scope);
  t.equal(asks(out, 'to-label', 'clearance=hush'), true, 'the labels of the other side');
  t.equal(asks(out, 'to-label', 'clearance=hush', true), true, 'nor by what is left');
  t.equal(asks(out, 'label'), true);
  t.equal(asks(out, 'from-label'), false, 'one’s own labels');
  t.equal(asks(out, 'http-path'), false);
  t.equal(asks(back, 'http-path'), true, 'what the other side says');
  t.equal(asks(back, 'to-fqdn'), true);
  t.equal(asks(out, 'port', '5432'), false);
  t.equal(
    isAskedAway(out, [{ key: 'to-label', value: 'x' }], undefined),
    false,
    'who sees everything asks for everything',
  );
  t.notMatch(JSON.stringify(rows.map((row) => seenFlow(row, scope))), /hush/);
  t.equal(seenEdge({ source: { namespace: OTHER }, destination: { namespace: '' } } as never, scope), undefined);
  t.end();
});
