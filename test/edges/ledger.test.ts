/** The ledger: what it counts, what it does when it is full, and that a pod cannot hide one edge behind another. */
import fc from '../seeded.js';
import t from 'tap';
import { mergeHistories } from '../../src/edges/merge.js';
import { EdgeBook } from '../../src/edges/book.js';
import { DAY_MS, type Edge, type EdgeHistory } from '../../src/edges/edge.js';
import { Ledger } from '../../src/edges/ledger.js';
import { columnsOf, edgeHistoryOf, edgeMessage, edgeRowsMessage } from '../../src/edges/wire.js';
import type { EdgesResponse } from '../../src/proto/edges.js';
import { encode, definitions } from '../../src/proto/load.js';
import { A_DAY, makeDay, makeEdge, outside, workload } from './given.js';

const NOON = A_DAY * DAY_MS + DAY_MS / 2;
const RULE = {
  ref: {
    policy: { dialect: 'calico', kind: 'NetworkPolicy', namespace: 'shop', name: 'web' },
    index: -1,
    tier: 'default',
    staged: true,
    action: 'deny' as const,
  },
  generation: 12345,
};

function called(n: number, source = 'shop/web'): Edge {
  return makeEdge({ source: workload(source), destination: outside(`203.0.${n >> 8}.${n & 255}`) });
}

function slotOf(ledger: Ledger, edge: Edge): number {
  const slot = ledger.slotOf(edge);
  if (slot === undefined) throw new Error('no room');
  return slot;
}

t.test('connections, bytes, drops, days and hours', async (t) => {
  const ledger = Ledger.fresh(NOON);
  const slot = slotOf(ledger, called(1));
  ledger.count(slot, NOON, 1, 0, 0);
  ledger.count(slot, NOON + 3_600_000, 0, 500, 2);
  ledger.count(slot, NOON - 3 * DAY_MS, 1, 0, 0);
  const [history] = ledger.histories({}) as [EdgeHistory];
  t.strictSame(history.days, [
    {
      day: A_DAY - 3,
      firstMs: NOON - 3 * DAY_MS,
      lastMs: NOON - 3 * DAY_MS,
      connections: 1,
      bytes: 0,
      drops: 0,
      hours: 1 << 12,
    },
    {
      day: A_DAY,
      firstMs: NOON,
      lastMs: NOON + 3_600_000,
      connections: 1,
      bytes: 500,
      drops: 2,
      hours: (1 << 12) | (1 << 13),
    },
  ]);
  t.strictSame(ledger.histories({ sinceMs: A_DAY * DAY_MS })[0]?.days.length, 1);
  t.strictSame(ledger.histories({ namespaces: ['other'] }), []);
  t.strictSame(ledger.histories({ workload: 'shop/web' }).length, 1);
  ledger.count(slot, Number.NaN, 1, 0, 0);
  ledger.count(slot, -5, 1, 0, 0);
  ledger.count(slot, 9e15, 1, 0, 0);
  t.equal(ledger.histories({})[0]?.days.length, 2, 'times of clocks that were never set');
});

t.test('only what changed is told again', async (t) => {
  const ledger = Ledger.fresh(NOON);
  const [one, two] = [slotOf(ledger, called(1)), slotOf(ledger, called(2))];
  ledger.count(one, NOON, 1, 0, 0);
  ledger.count(two, NOON, 1, 0, 0);
  const all = ledger.changesSince(0, {});
  t.equal(all.rows.length, 2);
  t.equal(ledger.changesSince(all.version, {}).rows.length, 0);
  const other = ledger.changesSince(0, {});
  ledger.count(two, NOON, 1, 0, 0);
  for (const { version } of [all, other])
    t.strictSame(
      ledger.changesSince(version, {}).rows.map((r) => r.row.connections),
      [2],
    );
});

t.test('a source that calls everybody takes nothing from the others', async (t) => {
  const ledger = Ledger.fresh(NOON, 200, 1000);
  for (let n = 0; n < 500; n++) {
    const slot = ledger.slotOf(called(n, 'shop/scanner'));
    if (slot !== undefined) ledger.count(slot, NOON + n, 1, 0, 0);
  }
  const others = Array.from({ length: 9 }, (_, n) => `shop/quiet-${n}`);
  for (const name of others) for (let n = 0; n < 15; n++) ledger.count(slotOf(ledger, called(n, name)), NOON, 1, 0, 0);
  const histories = ledger.histories({});
  for (const name of others) {
    const own = histories.filter(({ edge }) => `shop/${edge.source.name}` === name);
    t.equal(own.filter(({ edge }) => edge.destination.kind === 'address').length, 15, name);
  }
  const rest = histories.find(({ edge }) => edge.destination.kind === 'other');
  t.ok((rest?.days[0]?.connections ?? 0) > 200, 'what found no room is counted');
  t.ok(ledger.overflow > 200);
  t.ok(ledger.size <= 212);
});

t.test('a tenant that renames its pods takes nothing from the others', async (t) => {
  const ledger = Ledger.fresh(NOON, 2000, 20_000);
  const call = (edge: Edge, ms: number) => {
    const slot = ledger.slotOf(edge);
    if (slot !== undefined) ledger.count(slot, ms, 1, 0, 0);
  };
  for (let n = 0; n < 400; n++) call(called(n), NOON);
  // Whoever may write a pod says which controller it has, and may say another one each second.
  for (let name = 0; name < 500; name++)
    for (let n = 0; n < 20; n++) call(called(n, `evil/w-${name}`), NOON + 1000 * name);
  const histories = ledger.histories({});
  const of = (namespace: string) => histories.filter(({ edge }) => edge.source.namespace === namespace);
  t.equal(of('shop').length, 400);
  t.ok(of('shop').every(({ edge }) => edge.destination.kind === 'address'));
  // And who comes later gets a share.
  for (let n = 0; n < 300; n++) call(called(n, 'late/web'), NOON);
  t.equal(ledger.histories({ namespaces: ['late'] }).length, 300);
  t.equal(ledger.histories({ namespaces: ['shop'] }).length, 400);
});

t.test('what gives way is counted under its rule', async (t) => {
  const ledger = Ledger.fresh(NOON, 2000, 20_000);
  const rule = (name: string) => ({ ref: { ...RULE.ref, policy: { ...RULE.ref.policy, name } }, generation: 1 });
  const call = (n: number, source: string) => {
    const edge = { ...called(n, source), auditVerdict: 'deny' as const, auditRule: rule(`p-${n % 3}`) };
    ledger.count(slotOf(ledger, edge), NOON + n * DAY_MS * (n & 1), 1, 10, 2);
  };
  for (let source = 0; source < 20; source++) for (let n = 0; n < 100; n++) call(n, `shop/web-${source}`);
  for (let source = 0; source < 20; source++) for (let n = 0; n < 40; n++) call(n, `late-${source}/web`);
  const sums = new Map<string, number>();
  for (const { edge, days } of ledger.histories({}))
    for (const d of days) {
      const key = `${edge.auditRule?.ref.policy.name} ${edge.auditVerdict}`;
      sums.set(key, (sums.get(key) ?? 0) + d.connections);
      if (d.bytes !== 10 * d.connections || d.drops !== 2 * d.connections) t.fail('bytes and drops go along');
    }
  t.strictSame(Object.fromEntries(sums), { 'p-0 deny': 960, 'p-1 deny': 920, 'p-2 deny': 920 });
  t.equal(ledger.histories({}).filter(({ edge }) => edge.source.namespace !== 'shop').length, 800);
});

t.test('a tenant without room for what has no room takes it from nobody', async (t) => {
  const ledger = Ledger.fresh(NOON, 320, 20_000);
  const call = (edge: Edge) => {
    const slot = ledger.slotOf(edge);
    if (slot !== undefined) ledger.count(slot, NOON, 1, 0, 0);
  };
  for (let n = 0; n < 1000; n++) call({ ...called(n, 'evil/web'), protocol: n & 255 });
  for (let n = 0; n < 1000; n++) call(called(n));
  const shop = ledger.histories({ namespaces: ['shop'] });
  const met = shop.reduce((sum, { days }) => sum + (days[0]?.connections ?? 0), 0);
  t.equal(met, 1000, 'each is counted');
  t.ok(shop.some(({ edge }) => edge.destination.kind === 'other'));
  t.ok(ledger.size <= 340);
});

t.test('days without room: the oldest are given up', async (t) => {
  const ledger = Ledger.fresh(NOON, 10, 20);
  const slots = Array.from({ length: 10 }, (_, n) => slotOf(ledger, called(n)));
  for (let day = 0; day < 10; day++) for (const slot of slots) ledger.count(slot, NOON + day * DAY_MS, 1, 0, 0);
  for (const { days } of ledger.histories({}))
    t.strictSame(
      days.map((d) => d.day),
      [A_DAY + 8, A_DAY + 9],
    );
  t.equal(ledger.forgotten, 80);
  ledger.prune(NOON + 44 * DAY_MS);
  t.strictSame(
    ledger.histories({}).map((h) => h.days.length),
    slots.map(() => 1),
  );
  ledger.prune(NOON + 100 * DAY_MS);
  t.equal(ledger.size, 0);
});

t.test('random counts: as a plain model has them', async (t) => {
  const step = fc.record({
    edge: fc.integer({ min: 0, max: 20 }),
    ms: fc.integer({ min: 0, max: 40 * DAY_MS }),
    connections: fc.integer({ min: 0, max: 3 }),
    bytes: fc.integer({ min: 0, max: 1e9 }),
    drops: fc.integer({ min: 0, max: 5 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const ledger = Ledger.fresh(NOON);
      const model = new Map<
        string,
        { connections: number; bytes: number; drops: number; first: number; last: number }
      >();
      for (const { edge, ms, connections, bytes, drops } of steps) {
        ledger.count(slotOf(ledger, called(edge)), NOON + ms, connections, bytes, drops);
        const key = `${edge} ${Math.floor((NOON + ms) / DAY_MS)}`;
        const sum = model.get(key) ?? { connections: 0, bytes: 0, drops: 0, first: NOON + ms, last: NOON + ms };
        model.set(key, {
          connections: sum.connections + connections,
          bytes: sum.bytes + bytes,
          drops: sum.drops + drops,
          first: Math.min(sum.first, NOON + ms),
          last: Math.max(sum.last, NOON + ms),
        });
      }
      let rows = 0;
      for (const { edge, days } of ledger.histories({})) {
        const n = Number(edge.destination.name.split('.')[3]);
        for (const d of days) {
          rows++;
          const { day, firstMs: first, lastMs: last, connections, bytes, drops } = d;
          if (JSON.stringify(model.get(`${n} ${day}`)) !== JSON.stringify({ connections, bytes, drops, first, last }))
            return false;
        }
      }
      return rows === model.size;
    }),
  );
  t.pass();
});

t.test('an edge survives its message', async (t) => {
  const edge = makeEdge({
    source: workload('shop/web'),
    destination: outside('api.example.com', 'name'),
    service: 'shop/api',
    servicePort: 80,
    auditVerdict: 'deny',
    auditRule: RULE,
    address: '203.0.113.1',
  });
  const history = { edge, days: [makeDay(A_DAY), makeDay(A_DAY + 1, { bytes: 2 ** 40 })] };
  const message = { edges: [edgeMessage(edge)], id: [edge.id, edge.id], ...columnsOf(history.days) };
  const bytes = encode('egress.v1.EdgesResponse', message);
  const { deserialize } = definitions['egress.v1.EdgesResponse'] as unknown as {
    deserialize(b: Buffer): EdgesResponse;
  };
  const book = new EdgeBook();
  book.add(deserialize(bytes));
  t.strictSame(book.histories(), [history]);
  t.strictSame(edgeHistoryOf(JSON.parse(JSON.stringify(edgeRowsMessage(history)))), history);
});

t.test('what two ledgers saw of one edge is summed, in whatever order', async (t) => {
  const ledgers = [Ledger.fresh(NOON), Ledger.fresh(NOON)];
  for (const ledger of ledgers) ledger.count(slotOf(ledger, called(1)), NOON, 1, 0, 0);
  const [a, b] = ledgers.map((ledger) => ledger.histories({})) as [EdgeHistory[], EdgeHistory[]];
  t.equal(a[0]?.edge.id, b[0]?.edge.id);
  const merged = mergeHistories([...a, ...b]);
  t.equal(merged.length, 1);
  t.equal(merged[0]?.days[0]?.connections, 2);
  t.strictSame(mergeHistories([...b, ...a]), merged);
});

t.test('two edges with one id are two edges', async (t) => {
  const [seen, hidden] = [called(1), { ...called(2), id: called(1).id }];
  const told = (ledger: number, edge: Edge): EdgesResponse => ({
    ledger,
    edges: [edgeMessage(edge)],
    id: [edge.id],
    ...columnsOf([makeDay(A_DAY)]),
  });
  const book = new EdgeBook();
  for (const message of [told(1, seen), told(2, hidden), told(2, hidden), told(3, seen)]) book.add(message);
  const names = book.histories().map(({ edge, days }) => [edge.destination.name, days[0]?.connections]);
  t.strictSame(
    new Map(names as [string, number][]),
    new Map([
      ['203.0.0.1', 2],
      ['203.0.0.2', 1],
    ]),
  );
});
