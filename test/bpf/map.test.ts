import root from 'tap';
import { errnoName } from '../../agent/kernel/libbpf/ffi.js';
import { BpfMap, MapType, mapInfo, possibleCpus } from '../../agent/kernel/libbpf/map.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';

const NO_PREALLOC = 1;
const MMAPABLE = 1 << 10;

function make(t: Pick<typeof root, 'teardown'>, opts: Parameters<typeof BpfMap.create>[0]): BpfMap {
  const map = BpfMap.create(opts);
  t.teardown(() => map.close());
  return map;
}

/** `count` keys and values: value n is the key's number plus `plus`. */
function numbered(map: BpfMap, count: number, plus = 0, from = 0): { keys: Buffer; values: Buffer } {
  const keys = Buffer.alloc(count * map.keySize);
  const values = Buffer.alloc(count * map.valueSize);
  for (let i = 0; i < count; i++) {
    keys.writeUInt32LE(from + i, i * map.keySize);
    values.writeUInt32LE(from + i + plus, i * map.valueSize);
  }
  return { keys, values };
}

function content(map: BpfMap, size?: number): Map<number, number> {
  const all = new Map<number, number>();
  for (const { keys, values, count } of map.batches(size)) {
    for (let i = 0; i < count; i++) all.set(keys.readUInt32LE(i * map.keySize), values.readUInt32LE(i * map.valueSize));
  }
  return all;
}

root.test('errnos have the names of the manual pages', async (t) => {
  t.same([11, 95, 35, 28, -12, 524, 9999].map(errnoName), [
    'EAGAIN',
    'EOPNOTSUPP',
    'EDEADLK',
    'ENOSPC',
    'ENOMEM',
    'ENOTSUPP',
    'E9999',
  ]);
});

root.test('possible CPUs', async (t) => {
  t.same(['0\n', '0-3\n', '0,2-5', '0-1,7'].map(possibleCpus), [1, 4, 6, 8]);
});

root.test('single entries', async (t) => {
  const map = make(t, { name: 'ea_test_hash', type: MapType.HASH, keySize: 8, valueSize: 12, maxEntries: 2 });
  const info = mapInfo(map.fd);
  t.match(info, { name: 'ea_test_hash', type: MapType.HASH, keySize: 8, valueSize: 12, maxEntries: 2 });
  const key = Buffer.from('key-0001');
  t.equal(map.lookup(key), undefined);
  t.equal(map.delete(key), false);
  map.update(key, Buffer.from('first value.'));
  t.equal(map.lookup(key)?.toString(), 'first value.');
  t.throws(() => map.update(key, Buffer.alloc(12), 1), { code: 'KERNEL', errno: 'EEXIST' }, 'BPF_NOEXIST');
  map.update(Buffer.from('key-0002'), Buffer.alloc(12));
  t.throws(() => map.update(Buffer.from('key-0003'), Buffer.alloc(12)), {
    code: 'TOO_LARGE',
    errno: 'E2BIG',
    message: /map ea_test_hash/,
    hint: /2 entries/,
  });
  t.equal(map.delete(key), true);
  t.equal(map.lookup(key), undefined);
});

for (const [what, flags] of [
  ['hash', 0],
  ['hash, not preallocated', NO_PREALLOC],
] as const) {
  root.test(`batches: ${what}`, async (t) => {
    const map = make(t, { name: 'ea_test', type: MapType.HASH, keySize: 8, valueSize: 8, maxEntries: 20000, flags });
    t.equal(content(map).size, 0);
    const { keys, values } = numbered(map, 10000);
    map.updateBatch(keys, values, 10000);
    for (const size of [1, 100, 4096, 100000]) {
      const all = content(map, size);
      t.equal(all.size, 10000, `complete in slices of ${size}`);
      t.ok([...all].every(([k, v]) => k === v));
      if (size === 1) t.pass('a slice smaller than a bucket grows');
    }
    // Every other key is missing when the whole is deleted.
    const odd = Buffer.concat(Array.from({ length: 5000 }, (_, i) => keys.subarray((2 * i + 1) * 8, (2 * i + 2) * 8)));
    map.deleteBatch(odd, 5000);
    t.equal(content(map).size, 5000);
    map.deleteBatch(keys.subarray(0, 200 * 8), 200);
    t.equal(content(map).size, 4900);
    map.deleteBatch(keys, 0);
    map.updateBatch(keys, values, 0);
    t.equal(content(map).size, 4900, 'nothing to do is fine');
  });
}

root.test('a batch that does not fit says so, after the entries that did', async (t) => {
  const map = make(t, { name: 'ea_small', type: MapType.HASH, keySize: 4, valueSize: 4, maxEntries: 10 });
  const { keys, values } = numbered(map, 15);
  t.throws(() => map.updateBatch(keys, values, 15), { code: 'TOO_LARGE', hint: /--map-size ea_small/ });
  t.equal(content(map).size, 10);
});

root.test('batches: LPM trie', async (t) => {
  const map = make(t, {
    name: 'ea_lpm',
    type: MapType.LPM_TRIE,
    keySize: 8,
    valueSize: 8,
    maxEntries: 100000,
    flags: NO_PREALLOC,
  });
  const count = 50000;
  const keys = Buffer.alloc(count * 8);
  const values = Buffer.alloc(count * 8);
  for (let i = 0; i < count; i++) {
    keys.writeUInt32LE(32, i * 8);
    keys.writeUInt32BE(0x0a000000 + i * 3, i * 8 + 4);
    values.writeUInt32LE(i, i * 8);
  }
  map.updateBatch(keys, values, count);
  const seen = new Set<string>();
  for (const slice of map.batches(1000)) {
    for (let i = 0; i < slice.count; i++) seen.add(slice.keys.toString('hex', i * 8, i * 8 + 8));
  }
  t.equal(seen.size, count);
  const bad = Buffer.alloc(8);
  bad.writeUInt32LE(33);
  t.throws(() => map.updateBatch(bad, Buffer.alloc(8), 1), { code: 'KERNEL', errno: 'EINVAL' }, 'prefix too long');
  map.deleteBatch(keys, count);
  t.equal(content(map).size, 0);
});

root.test('array: batches, and the same memory by mmap', async (t) => {
  const opts = { name: 'ea_array', type: MapType.ARRAY, keySize: 4, valueSize: 12, maxEntries: 600, flags: MMAPABLE };
  const map = make(t, opts);
  const memory = map.mmap();
  t.equal(map.mmap(), memory, 'mapped once');
  t.equal(memory.length, Math.ceil((600 * 16) / sys.pageSize) * sys.pageSize, 'whole pages, stride 16');
  const key = Buffer.alloc(4);
  key.writeUInt32LE(599);
  const words = new Int32Array(memory.buffer, memory.byteOffset, memory.length / 4);
  Atomics.store(words, (599 * 16) / 4 + 2, 77);
  t.equal(map.lookup(key)?.readUInt32LE(8), 77, 'the kernel sees what was stored');
  map.update(key, Buffer.alloc(12, 5));
  t.equal(Atomics.load(words, (599 * 16) / 4), 0x05050505, 'and the other way');
  t.equal(content(map, 64).size, 600);
  t.throws(() => map.delete(key), { code: 'KERNEL', errno: 'EINVAL' });
  t.throws(() => make(t, { ...opts, flags: 0 }).mmap(), { code: 'KERNEL' }, 'only of maps made for it');
});

root.test('per-CPU array', async (t) => {
  const cpus = possibleCpus((await import('node:fs')).readFileSync('/sys/devices/system/cpu/possible', 'utf8'));
  const map = make(t, { name: 'ea_cpu', type: MapType.PERCPU_ARRAY, keySize: 4, valueSize: 4, maxEntries: 3, cpus });
  const key = Buffer.alloc(4);
  const slots = Buffer.alloc(8 * cpus);
  for (let cpu = 0; cpu < cpus; cpu++) slots.writeUInt32LE(cpu + 1, cpu * 8);
  map.update(key, slots);
  t.same(
    map.lookupPerCpu(key).map((v) => v.readUInt32LE()),
    Array.from({ length: cpus }, (_, i) => i + 1),
  );
  let entries = 0;
  for (const { values, count } of map.batches()) {
    entries += count;
    t.ok(values.length >= count * slots.length, 'room for all CPUs');
    t.ok(values.subarray(0, slots.length).equals(slots));
  }
  t.equal(entries, 3);
});

root.test('failures name the call and the errno', async (t) => {
  t.throws(() => BpfMap.create({ name: 'x', type: 9999, keySize: 4, valueSize: 4, maxEntries: 1 }), {
    code: 'KERNEL',
    errno: 'EINVAL',
    message: /BPF_MAP_CREATE/,
  });
  t.throws(() => sys.open('/nowhere', 0), { code: 'KERNEL', errno: 'ENOENT', message: /\/nowhere/ });
  t.throws(() => sys.ifNameToIndex('ea-none'), { code: 'KERNEL', errno: 'ENODEV' });
  t.equal(sys.ifNameToIndex('lo'), 1);
  const fd = sys.socket(16, 3 | 0o4000, 0);
  t.equal(sys.recv(fd, Buffer.alloc(16)), -11, 'EAGAIN is a value');
  sys.close(fd);
});
