/** The node's key, and what endpoints are called with it. */
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { EndpointIds } from '../../agent/endpoints/ids.js';
import { nodeKey } from '../../agent/maps/books/node-key.js';
import { type Ids, keyedIds } from '../../src/ids.js';

t.test('the key is made once, and made again where it cannot be used', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'key-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'ids.key');
  const first = nodeKey(dir);
  t.equal(first.fresh, true);
  t.match(first.key, /^[0-9a-f]{64}$/);
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.same(readdirSync(dir), ['ids.key'], 'nothing is left over');
  t.same(nodeKey(dir), { key: first.key, fresh: false });
  const elsewhere = join(dir, 'elsewhere');
  const damages: Record<string, () => void> = {
    'cut short': () => truncateSync(path, 20),
    empty: () => truncateSync(path, 0),
    'no hexadecimal': () => writeFileSync(path, 'x'.repeat(64)),
    'others may read it': () => chmodSync(path, 0o640),
    'a link': () => {
      writeFileSync(elsewhere, first.key, { mode: 0o600 });
      rmSync(path);
      symlinkSync(elsewhere, path);
    },
    gone: () => rmSync(path),
  };
  const keys = new Set([first.key]);
  for (const [name, damage] of Object.entries(damages)) {
    damage();
    const { key, fresh } = nodeKey(dir);
    t.equal(fresh, true, name);
    keys.add(key);
    t.equal(statSync(path).mode & 0o777, 0o600);
    t.same(nodeKey(dir), { key, fresh: false });
  }
  t.equal(keys.size, 1 + Object.keys(damages).length, 'another one each time');
  t.equal(readFileSync(elsewhere, 'latin1'), first.key, 'what a link shows to is left alone');
});

t.test("an endpoint keeps its number, and gets nobody else's", async (t) => {
  const ids = keyedIds('ab'.repeat(32));
  const one = new EndpointIds(ids);
  const [a, b] = [one.of('a/1', 1), one.of('b/2', 2)];
  t.not(a, b);
  t.equal(one.of('a/1', 1), a);
  const next = new EndpointIds(ids, new Map([[1, a]]));
  t.equal(next.of('a/1', 1), a, 'also after a restart');
  t.not(new EndpointIds(keyedIds('cd'.repeat(32))).of('a/1', 1), a);
});

t.test('numbers that collide', async (t) => {
  // The first choice of all is 7, the second 8, and so on.
  const ids: Ids = { of: (content) => 7 + Number(content.split('|')[1]) };
  const before = new EndpointIds(ids);
  t.same([before.of('a/1', 1), before.of('b/2', 2), before.of('c/3', 3)], [7, 8, 9]);
  // The next agent meets them in another order.
  const after = new EndpointIds(
    ids,
    new Map([
      [1, 7],
      [2, 8],
      [9, 10],
    ]),
  );
  t.same([after.of('c/3', 3), after.of('b/2', 2), after.of('a/1', 1)], [9, 8, 7], 'each keeps its own');
  t.equal(after.of('d/4', 4), 11, 'not that of an interface that is still judged');
});

t.test('another key: what was given stays, where it stands in the maps', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'numbers-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'endpoints.json');
  const first = new EndpointIds(keyedIds('ab'.repeat(32)), new Map(), path);
  const numbers = [first.of('a/1', 1), first.of('b/2', 2)] as [number, number];
  first.keep(numbers.map((id) => ({ id })));
  t.equal(statSync(path).mode & 0o777, 0o600);
  const other = keyedIds('cd'.repeat(32));
  const next = new EndpointIds(other, new Map([[1, numbers[0]]]), path);
  t.equal(next.remembered, true);
  t.equal(next.of('a/1', 1), numbers[0]);
  t.not(next.of('b/2', 2), numbers[1], 'who knows what the maps were used for since');
  writeFileSync(path, '{');
  const damaged = new EndpointIds(other, new Map([[1, numbers[0]]]), path);
  t.equal(damaged.remembered, false);
  t.not(damaged.of('a/1', 1), numbers[0]);
});
