/** Signing in while somebody sends wrong tokens: they get no more than their turns, and good tokens get in. */
import t from 'tap';
import { People } from '../../src/ui/access/people.js';
import type { Reviews } from '../../src/ui/access/reviews.js';
import type { HttpError } from '../../src/ui/http/answers.js';
import { TokenDoor } from '../../src/ui/http/door.js';
import { isOver, Turns } from '../../src/ui/http/turns.js';

const LIMITS = { perSecond: 100, burst: 5, running: 4, own: 5, all: 12 };

function doorOf(limits = LIMITS) {
  const reviewed: string[] = [];
  const userOf = async (token: string) => {
    reviewed.push(token);
    await new Promise((resolve) => setTimeout(resolve, 2));
    return token.startsWith('good') ? { username: token, uid: '', groups: [], extra: {} } : undefined;
  };
  const people = new People({ reviews: { userOf } as unknown as Reviews, server: undefined });
  return { door: new TokenDoor(people, { header: true, limits }), reviewed };
}

const statusOf = (answer: Promise<unknown>): Promise<number> =>
  answer.then(
    () => 200,
    (e: HttpError) => e.status,
  );

/** Sends wrong tokens all the time. @returns stops it */
function flood(door: TokenDoor, addressOf: (n: number) => string): () => Promise<Map<number, number>> {
  const statuses = new Map<number, number>();
  const sent: Promise<void>[] = [];
  let n = 0;
  const send = () => {
    for (let m = 0; m < 3; m++, n++)
      sent.push(
        statusOf(door.enter(`bad${n}`, addressOf(n))).then((s) => void statuses.set(s, (statuses.get(s) ?? 0) + 1)),
      );
  };
  const timer = setInterval(send, 5);
  return async () => {
    clearInterval(timer);
    await Promise.all(sent);
    return statuses;
  };
}

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

t.test('a flood from another address keeps nobody out', async (t) => {
  const { door, reviewed } = doorOf();
  const began = performance.now();
  const stop = flood(door, () => '203.0.113.1');
  await later(300);
  for (let n = 0; n < 20; n++) t.equal(await statusOf(door.enter(`good${n}`, '192.0.2.1')), 200);
  const statuses = await stop();
  const seconds = (performance.now() - began) / 1000;
  t.ok(reviewed.length <= 5 + 100 * seconds + 1, `${reviewed.length} reviews in ${seconds} s`);
  t.strictSame([...statuses.keys()].sort(), [401, 429]);
});

t.test('nor from many addresses, or from the same one, for long', async (t) => {
  for (const addressOf of [(n: number) => `203.0.113.${n % 200}`, () => '192.0.2.1']) {
    const { door } = doorOf();
    const stop = flood(door, addressOf);
    await later(200);
    let tries = 1;
    while ((await statusOf(door.enter('good', '192.0.2.1'))) === 429 && tries < 100) tries++;
    t.ok(tries < 100, `${tries} tries`);
    for (let n = 0; n < 10; n++)
      t.equal(await statusOf(door.enter('good', '192.0.2.1')), 200, 'one that was good waits for nobody');
    t.equal(await statusOf(door.bearer('Bearer good')), 200);
    await stop();
  }
});

t.test('what cannot be good is refused without a review', async (t) => {
  const { door, reviewed } = doorOf();
  const jwt = (claims: unknown) =>
    ['{}', JSON.stringify(claims), 'x'].map((part) => Buffer.from(part).toString('base64url')).join('.');
  const now = Date.now() / 1000;
  for (const token of [jwt({ exp: now - 3600 }), jwt({ nbf: now + 3600 }), '', 'a b', '\0'])
    for (let n = 0; n < 50; n++) t.equal(await statusOf(door.enter(token, '192.0.2.1')), 401);
  t.strictSame(reviewed, []);
  for (const token of [
    jwt({ exp: now - 10 }),
    jwt({ exp: 'x' }),
    jwt(null),
    jwt(7),
    'a.b.c',
    'a.b',
    jwt({ exp: now + 9 }),
  ])
    t.equal(isOver(token, now * 1000), false, 'the API server decides');
});

t.test('turns', async (t) => {
  let now = 0;
  const turns = new Turns({ perSecond: 100, burst: 1, running: 9, own: 2, all: 4 }, () => now);
  const order: string[] = [];
  const take = (address: string) =>
    turns.take(address, async () => void order.push(address)).then((taken) => taken !== undefined);
  t.equal(await take('a'), true);
  const own = [take('a'), take('a')];
  const others = ['b', 'c', 'd'].map(take);
  t.equal(await Promise.race(own), false, 'who has most gives way');
  const clock = setInterval(() => (now += 5), 5);
  t.teardown(() => clearInterval(clock));
  t.strictSame(await Promise.all(others), [true, true, true]);
  t.equal((await Promise.all(own)).filter(Boolean).length, 1);
  t.strictSame(order, ['a', 'a', 'b', 'c', 'd']);

  const alone = new Turns({ perSecond: 100, burst: 1, running: 9, own: 1, all: 9 }, () => now);
  const from = (address: string) => alone.take(address, async () => {}).then((taken) => taken !== undefined);
  const first = from('192.0.2.1');
  const near = ['2001:db8::2', '2001:db8::3'].map(from);
  const far = from('2001:db8:0:1::1');
  t.strictSame((await Promise.all(near)).sort(), [false, true], 'a /64 is one address');
  t.strictSame(await Promise.all([first, far]), [true, true]);
});

t.test('with an API server that hangs, few are tried', async (t) => {
  const turns = new Turns({ perSecond: 1000, burst: 50, running: 3, own: 50, all: 50 });
  const answer: (() => void)[] = [];
  const all = Array.from({ length: 10 }, () =>
    turns.take('a', () => new Promise<void>((resolve) => answer.push(resolve))),
  );
  await later(50);
  t.equal(answer.length, 3);
  for (let n = 0; n < 10; n++) {
    answer[n]?.();
    await later(5);
  }
  t.equal((await Promise.all(all)).filter(Boolean).length, 10);
});
