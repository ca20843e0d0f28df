/** How full maps are that nobody keeps count of. */
import t from 'tap';
import { BpfMap, MapType } from '../../agent/kernel/libbpf/map.js';
import { MapCounter } from '../../agent/maps/tables/counter.js';

function filled(t: { teardown(f: () => void): void }, name: string, type: number, entries: number): BpfMap {
  const map = BpfMap.create({ name, type, keySize: 4, valueSize: 8, maxEntries: 32_768 });
  t.teardown(() => map.close());
  const keys = Buffer.alloc(entries * 4);
  for (let i = 0; i < entries; i++) keys.writeUInt32LE(i, i * 4);
  if (entries > 0) map.updateBatch(keys, Buffer.alloc(entries * 8), entries);
  return map;
}

t.test('a slice at a time, one map after the other, again and again', async (t) => {
  const [forgets, keeps] = [filled(t, 'lru', MapType.LRU_HASH, 10_000), filled(t, 'hash', MapType.HASH, 0)];
  const counter = new MapCounter([forgets, keeps]);
  t.same(counter.fill(), [], 'nothing is known yet');
  const pass = (name: string) => {
    for (let n = 1; ; n++) {
      counter.tick();
      if (counter.fill().some((m) => m.name === name)) return n;
    }
  };
  t.ok(pass('lru') > 2, 'in several slices');
  t.same(counter.fill(), [{ name: 'lru', entries: 10_000, max: 32_768 }]);
  pass('hash');
  keeps.update(Buffer.alloc(4), Buffer.alloc(8));
  for (let i = 0; i < 50; i++) counter.tick();
  t.same(counter.fill()[1], { name: 'hash', entries: 1, max: 32_768 }, 'and what came since');
});
