/** What is known of Encrypted ClientHello leaves with its endpoint. */
import t from 'tap';
import { BpfMap, MapType } from '../../agent/kernel/libbpf/map.js';
import { KnownEch } from '../../agent/names/ech.js';
import { STRUCTS } from '../../src/image/layout.gen.js';

const SIZE = STRUCTS.ea_ech.size;

t.test('entries of endpoints that are gone', async (t) => {
  const map = BpfMap.create({ name: 'ech_known', type: MapType.HASH, keySize: 4, valueSize: SIZE, maxEntries: 16 });
  const known = new KnownEch(map);
  const key = (id: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(id);
    return bytes;
  };
  const left = () => [1, 2, 3, 0xffff_fff0].filter((id) => map.lookup(key(id)) !== undefined);
  for (const id of [1, 2, 3, 0xffff_fff0]) map.update(key(id), Buffer.alloc(SIZE));
  known.sweep(undefined, 1000);
  known.sweep(undefined, 2000);
  t.same(left(), [1, 2, 3, 0xffff_fff0], 'while nobody knows who is there, all stay');
  t.match(known.fill, { name: 'ech_known', entries: 4, max: 16 });
  known.sweep(new Set([1, 0xffff_fff0]), 3000);
  known.sweep(new Set([1, 0xffff_fff0]), 3029);
  t.equal(left().length, 4, 'not at once');
  known.sweep(new Set([1, 3, 0xffff_fff0]), 3029.5);
  known.sweep(new Set([1, 0xffff_fff0]), 3030);
  t.same(left(), [1, 3, 0xffff_fff0], 'one of them was there again meanwhile');
  known.sweep(new Set([1, 0xffff_fff0]), 3060);
  t.same(left(), [1, 0xffff_fff0]);
  t.equal(known.fill.entries, 2);
});
