/** Two edges of one id in the ledgers of two agents: neither hides the other, whatever a pod chose its names for. */
import t from 'tap';
import { type Edge, edgeId, edgeText } from '../../src/edges/edge.js';
import { edgeMessage } from '../../src/edges/wire.js';
import { markOf } from '../../src/history/base/marks.js';
import { Rows } from '../../src/history/base/rows.js';
import { decodeEdges } from '../../src/history/decode.js';
import { EdgeNames } from '../../src/history/edge-names.js';
import { openStore, placeOf } from '../../src/history/place.js';
import { HistoryWriter } from '../../src/history/writer.js';
import { encode } from '../../src/proto/load.js';
import { A_DAY, makeDay, makeEdge, outside, workload } from '../edges/given.js';
import { quiet } from '../relay/world.js';

t.test('edges with one id', async (t) => {
  const good = makeEdge({
    source: workload('shop/web'),
    destination: outside('good.example', 'name'),
    address: '192.0.2.1',
  });
  const bad: Edge = {
    ...makeEdge({ source: workload('shop/web'), destination: outside('bad.example', 'name'), address: '192.0.2.1' }),
    id: good.id,
  };
  const moved = { ...good, address: '192.0.2.9' };
  const store = await openStore(placeOf('memory'));
  const writer = new HistoryWriter({ log: quiet, store: async () => store, onLoss: () => {}, gatherMs: 5 });
  const { signal } = new AbortController();
  const say = async (ledger: number, edge: Edge, names = new EdgeNames(store, writer)) => {
    const bytes = encode('egress.v1.EdgesResponse', {
      ...{ ledger, edges: [edgeMessage(edge)], id: [edge.id], day: [A_DAY], first_ms: [1], last_ms: [1] },
      ...{ connections: [ledger], bytes: [0], drops: [0], hours: [1] },
    });
    const { described, rows } = decodeEdges(bytes, (id, mark) => store.knows(id, mark) || writer.describes(id, mark));
    rows.clamp(A_DAY, A_DAY);
    const edges = described.length > 0 ? await names.take(described) : [];
    names.rename(rows);
    await writer.put({ edges, rows, notes: [] }, signal);
    return described.length;
  };
  t.equal(await say(1, good), 1);
  t.equal(await say(2, good), 0, 'it waits to be written: nothing is read twice');
  await say(4, bad);
  while (writer.counters.rowsWritten < 3) await new Promise((resolve) => setTimeout(resolve, 10));
  t.equal(await say(8, good), 0, 'it is written: nothing is read twice');
  const next = new EdgeNames(store, writer);
  await say(16, bad, next);
  await say(32, moved);
  await writer.close();
  const { histories } = await store.edges({});
  t.same(
    histories.map((h) => [h.edge.id, h.edge.destination.name, h.days[0]?.connections, h.edge.address]).sort(),
    [
      [good.id, 'good.example', 1 + 2 + 8 + 32, '192.0.2.9'],
      [edgeId(edgeText(bad), 1), 'bad.example', 4 + 16, '192.0.2.1'],
    ].sort(),
  );
  await store.close();
});

t.test('bytes that are no message are refused, whatever they are', (t) => {
  const whole = encode('egress.v1.EdgesResponse', {
    ...{ ledger: 2 ** 53 - 1, node_name: 'n', began_at: { seconds: 5, nanos: 0 }, overflow: 3 },
    ...{ edges: [edgeMessage(makeEdge())], id: [1, 2 ** 40], day: [1, 2], first_ms: [1, 2], last_ms: [3, 4] },
    ...{ connections: [1, 2], bytes: [2 ** 50, 1], drops: [0, 0], hours: [2 ** 24 - 1, 0], caught_up: true },
  });
  const all = decodeEdges(whole, () => false);
  t.match(all, { ledger: 2 ** 53 - 1, node: 'n', beganMs: 5000, overflow: 3, caughtUp: true });
  t.same([...all.rows.column('bytes')], [2 ** 50, 1]);
  t.equal(all.described.length, 1);
  for (let n = 0; n < whole.length; n++) {
    for (const bytes of [
      whole.subarray(0, n),
      Buffer.concat([whole.subarray(0, n), Buffer.from([255]), whole.subarray(n + 1)]),
    ])
      try {
        const { rows } = decodeEdges(bytes, () => false);
        t.ok(rows.size <= whole.length);
      } catch (e) {
        t.match((e as Error).message, /EdgesResponse|index out of range|invalid/i);
      }
  }
  const rows = new Rows();
  rows.add(1, 1, makeDay(5));
  rows.add(1, 2, makeDay(7, { firstMs: 0, lastMs: Number.MAX_SAFE_INTEGER }));
  rows.add(1, 3, makeDay(9));
  t.same(rows.clamp(6, 8), { early: 1, late: 1 });
  t.same([rows.size, rows.column('id')[0]], [1, 2]);
  t.same([rows.column('first')[0], rows.column('last')[0]], [7 * 86_400_000, 8 * 86_400_000 - 1]);
  t.not(markOf(Buffer.from('a')), markOf(Buffer.from('b')));
  t.end();
});
