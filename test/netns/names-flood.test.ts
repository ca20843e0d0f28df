/** A pod that asks for names without end has room for its own only: its neighbour's stay, and are learned anew. */
import t from 'tap';
import { Agent } from './agent.js';
import { cnpNames } from './policies.js';
import { answerForMany, Asker, many, Resolver } from './resolver.js';
import { servers, World } from './world.js';

const dns = servers.two.ip4;
/** With the twenty that it asks for later, within the 32 that each pod is guaranteed in a table of 1,024. */
const OWN = 12;
const zone = [
  ...Array.from({ length: OWN + 20 }, (_, i) => `n${i}.good.test. 60 IN A ${many.ip4}.${i}`),
  `*.flood.test. 60 IN A ${many.ip4}.250`,
];

/** Asks for names of its own making as fast as they are answered. */
const FLOOD = `
import os, socket, struct, sys, threading
def run(worker, count):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((sys.argv[1], 53)); s.settimeout(1)
        for i in range(count):
            label = (b"x%d-%d-%d-" % (os.getpid(), worker, i)).ljust(63 if i % 2 else 20, b"l")
            name = bytes([len(label)]) + label + b"\\5flood\\4test\\0"
            try:
                s.send(struct.pack("!6H", i & 0xffff, 0x100, 1, 0, 0, 0) + name + struct.pack("!2H", 1, 1)); s.recv(512)
            except OSError: pass
threads = [threading.Thread(target=run, args=(n, int(sys.argv[2]) // 4)) for n in range(4)]
for one in threads: one.start()
for one in threads: one.join()
`;

t.setTimeout(600_000);
t.test('a flood of names', { timeout: 600_000 }, async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  await answerForMany(world);
  await Resolver.authority(world, [dns], zone);
  const [victim, flooder] = [await world.pod('victim'), await world.pod('flooder')];
  const outside = await world.internet.listen('::', 80, 'tcp', 'outside');
  world.write('policy.yaml', [
    cnpNames('victim', 'victim', ['*.good.test'], [dns]),
    cnpNames('flooder', 'flooder', ['*.flood.test'], [dns]),
  ]);
  const agent = await Agent.start(world, {
    args: ['--dns-servers', dns, '--name-seed', 'off', '--names', '1024'],
    follow: false,
  });
  const asker = new Asker(world, victim, [`nameserver ${dns}`, 'options timeout:5 attempts:3']);
  const fetch = async (i: number) => (await asker.probe.call('fetch', { name: `n${i}.good.test`, port: 80 })).result;
  for (let i = 0; i < OWN; i++) if ((await fetch(i)) !== 'ok') t.fail(`n${i} before the flood`);

  const flood = (count: number) => flooder.host.run('python3', ['-c', FLOOD, dns, `${count}`]);
  const reached = async () => {
    const before = await outside.count();
    for (let i = 0; i < OWN; i++) await victim.host.request(`${many.ip4}.${i}`, 80, { timeout: 1 });
    return (await outside.count()) - before;
  };
  await flood(6000);
  t.equal(await reached(), OWN, 'all that the neighbour knew stays, after six times the names that there is room for');

  const going = flood(4000);
  const results: string[] = [];
  for (let i = OWN; i < OWN + 20; i++) results.push(await fetch(i));
  t.same(
    results,
    results.map(() => 'ok'),
    'what it asks for during the flood is learned',
  );
  await going;

  await agent.kill();
  await flood(4000);
  t.equal(await reached(), OWN, 'also while no agent runs');
});
