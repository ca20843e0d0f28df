/** Who may stay connected: the silent push each other out, those who have spoken stay. */
import { connect, createServer, type Socket } from 'node:net';
import t from 'tap';
import { Door, type DoorOptions } from '../../src/net/door.js';
import { until } from '../relay/world.js';

async function house(t: { teardown(f: () => void): void }, opts: Partial<DoorOptions>) {
  const door = new Door({ most: 4, mostSilent: 3, patienceMs: 60_000, ...opts });
  const inside: Socket[] = [];
  let speaks = false;
  const server = createServer((socket) => {
    inside.push(socket);
    door.enter(socket);
    if (speaks) door.spoke(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const outside: Socket[] = [];
  t.teardown(() => {
    server.close();
    for (const s of outside) s.destroy();
  });
  /** @param speaking as soon as it is in */
  const come = async (speaking = false): Promise<Socket> => {
    speaks = speaking;
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    outside.push(socket);
    const before = inside.length;
    await until('it is in', () => inside.length > before);
    return inside.at(-1) as Socket;
  };
  return { door, come, outside };
}

t.test('the silent: the one that came first has to go', async (t) => {
  const { door, come } = await house(t, {});
  const all = [await come(), await come(), await come(), await come(), await come()];
  t.same(
    all.map((s) => s.destroyed),
    [true, true, false, false, false],
  );
  t.equal(door.size, 3);
});

t.test('who has spoken stays, whoever comes', async (t) => {
  const { door, come } = await house(t, {});
  const first = await come();
  t.ok(door.spoke(first));
  for (let i = 0; i < 10; i++) await come();
  t.notOk(first.destroyed);
  t.equal(door.size, 4, 'it, and three that are silent');
  door.enter(first);
  for (let i = 0; i < 3; i++) await come();
  t.ok(first.destroyed, 'having nothing to say any more, it is one of them');
});

t.test('no room: who has asked nothing goes, nobody else', async (t) => {
  const { door, come } = await house(t, { most: 2, leastBytes: 1 });
  const [quiet, other, third] = [await come(), await come(), await come()];
  t.ok(door.spoke(quiet));
  t.ok(door.spoke(other));
  t.ok(door.spoke(third));
  t.same([quiet.destroyed, other.destroyed, third.destroyed], [true, false, false]);
  const full = await house(t, { most: 1 });
  const [one, two] = [await full.come(), await full.come()];
  t.ok(full.door.spoke(one));
  t.notOk(full.door.spoke(two), 'turned away');
  t.same([one.destroyed, two.destroyed], [false, true]);
});

t.test('patience ends; leaving makes room; the silent can be dismissed', async (t) => {
  const short = await house(t, { patienceMs: 30 });
  const [silent, speaker] = [await short.come(), await short.come(true)];
  await until('it had to go', () => silent.destroyed);
  t.notOk(speaker.destroyed);
  speaker.destroy();
  await until('it has left', () => short.door.size === 0);
  const { door, come } = await house(t, {});
  const [a, b] = [await come(), await come()];
  door.spoke(a);
  door.dismiss();
  t.same([a.destroyed, b.destroyed], [false, true]);
  t.notOk(door.spoke(b), 'who is gone has no say');
});

t.test('who has spoken and says nothing more has to go in the end', async (t) => {
  const { door, come, outside } = await house(t, { quietMs: 1000 });
  const [quiet, talker] = [await come(), await come()];
  const talking = setInterval(() => outside[1]?.write('ping'), 20);
  t.teardown(() => clearInterval(talking));
  for (const socket of [quiet, talker]) t.ok(door.spoke(socket.resume()));
  await until('it had to go', () => quiet.destroyed);
  t.notOk(talker.destroyed);
  clearInterval(talking);
  await until('so has the other, once it is quiet', () => talker.destroyed);
  // A socket is destroyed first and says so afterwards, in its event.
  await until('both have left', () => door.size === 0);
});
