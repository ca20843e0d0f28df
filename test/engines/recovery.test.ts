/** What an agent finds that comes after one that was killed in the middle of an update. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { KernelMapStore } from '../../agent/maps/store.js';
import { Compiler } from '../../src/compile/index.js';
import { world } from '../bench/worlds.js';
import { loadForTest } from './engine.js';

t.test('rows of classes that the journal knows and the maps do not have', async (t) => {
  const statePath = mkdtempSync(join(tmpdir(), 'recovery-'));
  const programs = loadForTest();
  t.teardown(() => {
    programs.close();
    rmSync(statePath, { recursive: true });
  });
  const { ir, snapshot } = world(4, 8);
  const image = new Compiler().compile(ir, snapshot, ['default/web']);
  const first = new KernelMapStore(programs.maps, { statePath });
  first.apply(image, []);
  t.same(first.verify(false), []);
  first.close();

  // The journal is written, the rows are not yet: here the agent dies.
  const rows = programs.maps.class_rules as BpfMap;
  const content = () =>
    [...rows.batches()]
      .flatMap(({ keys, values, count }) =>
        Array.from({ length: count }, (_, i) =>
          [
            keys.subarray(i * rows.keySize, (i + 1) * rows.keySize),
            values.subarray(i * rows.valueSize, (i + 1) * rows.valueSize),
          ]
            .map((b) => b.toString('hex'))
            .join(),
        ),
      )
      .sort();
  const whole = content();
  let gone = 0;
  for (const { keys, count } of [...rows.batches()]) {
    for (let i = 0; i < count; i++) {
      const key = Buffer.from(keys.subarray(i * rows.keySize, (i + 1) * rows.keySize));
      if (key.readBigUInt64LE(8) > 2n) gone += Number(rows.delete(key));
    }
  }
  t.ok(gone > 0, `${gone} rows are missing`);

  const second = new KernelMapStore(programs.maps, { statePath });
  second.apply(image, []);
  t.same(content(), whole, 'the next agent writes them');
  t.same(second.verify(false), []);
  second.close();
});
