/** Addresses with more names than one page holds, as packets to them are judged; and names that are renewed. */
import t from 'tap';
import { AddressesInUse } from '../../agent/names/in-use.js';
import { NameSweeper } from '../../agent/names/sweeper.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import { named, NAME } from '../bench/names/worlds.js';
import { IFINDEX, Kernel } from '../engines/engine.js';
import { STRUCTS } from '../../src/image/layout.gen.js';
import { parseAddr } from '../../src/net/addr.js';
import { NameTable } from '../../agent/names/table.js';

const ADDRESS = '203.0.113.9';

t.test('the name that counts is in the last of several pages', async (t) => {
  const kernel = new Kernel();
  t.teardown(() => kernel.close());
  const { names, table } = kernel.programs;
  kernel.use(named(10));
  kernel.become('default/web');
  const packet = { from: 'default/web', to: ADDRESS, protocol: 6, port: 443 };
  for (let i = 0; i < 20; i++) kernel.learn('default/web', { name: `other-${i}.example.com` }, ADDRESS);
  t.equal(kernel.judge(packet).verdict, 'deny');
  kernel.learn('default/web', { name: NAME }, ADDRESS);
  t.equal(kernel.judge(packet).verdict, 'allow');

  const learned = new NameTable(names);
  const endpoint = learned.list({ limit: 1, addresses: 0 }).names[0]?.endpoint ?? 0;
  const at = () => learned.namesOf(endpoint, Buffer.from(parseAddr(ADDRESS).bytes), 100).length;
  t.equal(at(), 21);
  t.equal(learned.holdings(IFINDEX).pages, 11);
  // All names are over but the last one, which is renewed: the pages before it stay.
  const { memory } = learned;
  const sweeper = new NameSweeper({ memory, inUse: new AddressesInUse(table), endpoints: () => undefined });
  kernel.forget();
  const now = sys.bootSeconds();
  memory.configure({ ttlMin: 1000, ttlExtra: 0, flags: 0, cpus: 128 });
  kernel.learn('default/web', { name: NAME }, ADDRESS);
  sweeper.sweep(now + 500);
  t.equal(at(), 1, 'it was renewed, the others were not');
  t.equal(kernel.judge(packet).verdict, 'allow');
});

t.test('a name that is renewed teaches nothing new', async (t) => {
  const kernel = new Kernel();
  t.teardown(() => kernel.close());
  kernel.use(named(10));
  kernel.become('default/web');
  const { holdings } = kernel.programs.names;
  const { size, fields } = STRUCTS.ea_name_holding;
  const counted = () => holdings.readUInt32LE(IFINDEX * size + fields.learned.offset);
  kernel.learn('default/web', { name: NAME }, ADDRESS);
  const before = counted();
  t.ok(before > 0);
  for (let i = 0; i < 3; i++) kernel.learn('default/web', { name: NAME }, ADDRESS);
  t.equal(counted(), before);
  kernel.learn('default/web', { name: NAME }, '203.0.113.10');
  t.equal(counted(), before + 1);
});
