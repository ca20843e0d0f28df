/** What many share: nobody shuts the others out, however many pages, sessions and tokens they have. */
import { type ClientRequest, request } from 'node:http';
import t from 'tap';
import { makeLogger } from '../../src/log.js';
import { People } from '../../src/ui/access/people.js';
import type { Reviews } from '../../src/ui/access/reviews.js';
import { shareOf } from '../../src/ui/access/shares.js';
import type { Viewer } from '../../src/ui/access/viewer.js';
import { Feeds } from '../../src/ui/api/stream.js';
import { Assets } from '../../src/ui/http/assets.js';
import { Sessions } from '../../src/ui/http/sessions.js';
import { UiServer } from '../../src/ui/server.js';
import { until } from '../netns/shell.js';
import { silentSource } from './source.js';

/** A user by name; of those without any right it begins with `poor`. */
function viewerOf(name: string): Viewer {
  const mayNothing = /(^|:)poor/.test(name);
  return { id: name, share: shareOf(name, name), name, scope: async () => new Set(mayNothing ? [] : ['shop']) };
}

const server = new UiServer({
  assets: new Assets(),
  sessions: new Sessions<Viewer>(),
  feeds: new Feeds(silentSource()),
  handlers: {},
  session: async () => ({ version: '0', source: 'test', user: '', writes: false }),
  log: makeLogger('error', () => {}),
  door: {
    hint: '',
    enter: async (token) => viewerOf(token),
    bearer: async (header) => viewerOf((header ?? '').slice('Bearer '.length)),
    forget: () => {},
  },
});
const url = await server.listenLocal(0);
t.teardown(() => server.close());

interface Open {
  readonly user: string;
  status: number;
  ended: boolean;
  readonly request: ClientRequest;
}

async function open(user: string): Promise<Open> {
  const headers = { origin: url, 'content-type': 'application/json', authorization: `Bearer ${user}` };
  return new Promise((resolve, reject) => {
    const r = request(`${url}/api/stream`, { method: 'POST', headers, agent: false }, (response) => {
      const own = { user, status: response.statusCode ?? 0, ended: false, request: r };
      response.resume();
      response.on('error', () => {});
      response.on('close', () => (own.ended = true));
      resolve(own);
    });
    r.on('error', reject);
    r.end('{}');
  });
}

async function openAll(users: readonly string[]): Promise<Open[]> {
  const opened: Open[] = [];
  for (const user of users) opened.push(await open(user));
  return opened;
}

const served = (streams: readonly Open[]) => streams.filter(({ status, ended }) => status === 200 && !ended);
async function leave(streams: readonly Open[]): Promise<void> {
  for (const one of streams) one.request.destroy();
  await until('all have left', () => served(streams).length === 0);
}

t.test('streams: accounts of one namespace are one', async (t) => {
  const users = Array.from({ length: 12 }, (_, n) => `system:serviceaccount:bad:a${n}`);
  const bad = await openAll(users.flatMap((user) => Array<string>(20).fill(user)));
  await until('some are ended', () => served(bad).length <= 24);
  t.ok(served(bad).length >= 20);
  const counts = users.map((user) => served(bad).filter((one) => one.user === user).length);
  t.ok(Math.max(...counts) - Math.min(...counts) <= 1, `each of them has as many: ${counts.join()}`);
  const good = await openAll(['ann', 'system:serviceaccount:good:a']);
  t.strictSame(served(good).length, 2);
  await leave([...bad, ...good]);
});

t.test('streams: when all are taken, the oldest of whoever has most ends', async (t) => {
  const names = Array.from({ length: 9 }, (_, n) => `user ${n}`);
  const many = await openAll(names.flatMap((name) => Array<string>(name === 'user 8' ? 8 : 24).fill(name)));
  t.equal(served(many).length, 200);
  const ann = await open('ann');
  t.equal(ann.status, 200);
  await until('one has ended', () => served(many).length === 199);
  t.equal(
    many.find(({ ended }) => ended),
    many[0],
    'the oldest of one who has most',
  );
  const more = await openAll(Array<string>(5).fill('user 8'));
  t.equal(served(more).length, 5);
  await until('others have ended', () => served(many).length === 194);
  t.equal(served(many).filter(({ user }) => user === 'user 8').length, 8, 'of those who have more');
  t.equal(ann.ended, false);
  t.equal((await open('user 7')).status, 429, 'who has most ends nobody’s');
  await leave([...many, ...more, ann]);
});

t.test('streams: who may see nothing has few', async (t) => {
  const poor = await openAll(Array<string>(5).fill('poor'));
  t.strictSame(
    poor.map(({ status }) => status),
    [200, 200, 200, 429, 429],
  );
  await leave(poor);
});

t.test('sessions: many of one user end none of another', (t) => {
  const sessions = new Sessions<Viewer>();
  const ann = sessions.begin(viewerOf('ann'));
  const first = sessions.begin(viewerOf('bob'));
  for (let n = 0; n < 1200; n++) sessions.begin(viewerOf('bob'));
  t.equal(sessions.user(ann)?.name, 'ann');
  t.equal(sessions.user(first), undefined, 'the oldest of one’s own ends');
  for (let n = 0; n < 1200; n++) sessions.begin(viewerOf(`system:serviceaccount:bad:a${n}`));
  t.equal(sessions.user(ann)?.name, 'ann', 'nor those of all accounts of a namespace');
  const others = Array.from({ length: 1500 }, (_, n) => sessions.begin(viewerOf(`user ${n}`)));
  t.ok(others.filter((one) => sessions.user(one)).length <= 1000, 'all together are bounded');
  t.end();
});

t.test('tokens: many of one user have none of another forgotten', async (t) => {
  const userOf = async (token: string) => ({
    ...{ username: token.replace(/\d+$/, ''), uid: '', groups: [], extra: {} },
  });
  const people = new People({ reviews: { userOf } as unknown as Reviews, server: undefined });
  await people.viewerOf('ann1');
  for (let n = 0; n < 1200; n++) await people.viewerOf(`bob${n}`);
  t.equal(people.known('ann1'), true);
  t.equal(people.known('bob1'), false);
  t.equal(people.known('bob1199'), true);
  t.end();
});
