/** One suite for both engines of the history: what is written is read, in every way that is asked for. */
import t, { type Test } from 'tap';
import { activityOf } from '../../src/edges/activity.js';
import { type Edge, type EdgeHistory, sumDays } from '../../src/edges/edge.js';
import { dayMatches, edgeMatches, type EdgeQuery } from '../../src/edges/query.js';
import { ruleRefOf } from '../../src/edges/wire.js';
import type { HistoryStore } from '../../src/history/base/store.js';
import { A_DAY, makeDay, makeEdge, outside, workload } from '../edges/given.js';
import { batchOf, engines } from './engines.js';

t.setTimeout(120_000);

const DAY_MS = 86_400_000;
const rule = (name: string, staged = false) => ({
  ref: ruleRefOf({
    kind: 'NetworkPolicy',
    namespace: 'shop',
    name,
    index: 1,
    staged,
    dialect: 'networkpolicy',
    tier: 'x',
    action: 'deny',
  } as never),
  generation: 2 ** 53 - 1,
});
const web = workload('shop/web');
const api = workload('shop/api');
const EDGES: Edge[] = [
  makeEdge({ source: web, destination: api, service: 'shop/api', servicePort: 80, port: 8080, address: '10.0.0.1' }),
  makeEdge({
    source: web,
    destination: outside('example.com', 'name'),
    verdict: 'deny',
    reason: 'rule',
    rule: rule('a'),
  }),
  makeEdge({ source: api, destination: outside('2001:db8::1'), auditVerdict: 'deny', auditRule: rule('b', true) }),
  makeEdge({ source: outside('192.0.2.1'), destination: web, inbound: true, port: 65_535, protocol: 255 }),
  makeEdge({ source: workload('other/web', 'Pod'), destination: workload('other/db', 'StatefulSet') }),
  makeEdge({ verdict: 'partial' }),
];
const CASES: EdgeQuery[] = [
  {},
  { workload: 'shop/web' },
  { workload: 'shop/none' },
  { namespaces: ['other'] },
  { namespaces: ['shop', 'other'] },
  { namespaces: [''] },
  { verdicts: ['deny', 'partial'] },
  { workload: 'shop/web', verdicts: ['allow'] },
  { sinceMs: (A_DAY + 1) * DAY_MS },
  { sinceMs: (A_DAY + 1) * DAY_MS - 1, untilMs: (A_DAY + 2) * DAY_MS },
  { untilMs: (A_DAY + 1) * DAY_MS + 1 },
  { sinceMs: A_DAY * DAY_MS, untilMs: A_DAY * DAY_MS },
  { workload: 'shop/api', sinceMs: (A_DAY + 2) * DAY_MS + 5 },
];

/** What several ledgers say, added up without a store. */
function expected(ledgers: readonly EdgeHistory[][], query: EdgeQuery): EdgeHistory[] {
  const sums = new Map<number, { edge: Edge; days: EdgeHistory['days'] }>();
  for (const { edge, days } of ledgers.flat()) {
    if (!edgeMatches(edge, query)) continue;
    const own = days.filter((d) => dayMatches(d, query));
    const before = sums.get(edge.id)?.days ?? [];
    const all = [...new Set([...before, ...own].map((d) => d.day))].sort((a, b) => a - b);
    const both = all.map((day) => [...before, ...own].filter((d) => d.day === day).reduce(sumDays));
    if (both.length > 0) sums.set(edge.id, { edge, days: both });
  }
  return [...sums.values()].sort((a, b) => a.edge.id - b.edge.id);
}

const ledgers: EdgeHistory[][] = [1, 2, 3].map((n) =>
  EDGES.filter((_, i) => (i + n) % 3 !== 0).map((edge, i) => ({
    edge,
    days: [0, 1, 2]
      .filter((d) => (d + n + i) % 4 !== 0)
      .map((d) => makeDay(A_DAY + d, { connections: 10 ** n, bytes: 2 ** 40 * n, drops: i, hours: 1 << (n * 7) })),
  })),
);

async function check(t: Test, store: HistoryStore, what: string): Promise<void> {
  for (const query of CASES) {
    const { histories, isCut } = await store.edges(query);
    t.same(histories, expected(ledgers, query), `${what}: ${JSON.stringify(query)}`);
    t.equal(isCut, false);
    const { rules, would_deny } = await store.activity(query);
    const activity = activityOf(expected(ledgers, query));
    const sorted = (a: typeof activity) =>
      [...(a.rules ?? [])].sort((x, y) => JSON.stringify(x.rule).localeCompare(JSON.stringify(y.rule)));
    t.same(sorted({ rules: rules ?? [] }), sorted(activity), `${what}: rules`);
    t.same(would_deny, activity.would_deny, `${what}: would deny`);
  }
}

for (const engine of await engines(t)) {
  t.test(`${engine.name}: written, read, opened again`, async (t) => {
    const place = engine.place();
    let store = await engine.open(place);
    t.equal(store.has((EDGES[0] as Edge).id), false);
    for (const [n, own] of ledgers.entries()) await store.write(batchOf(n + 1, own, 50 + n));
    t.equal(store.knows((EDGES[0] as Edge).id, 9), true);
    t.equal(store.knows((EDGES[0] as Edge).id, 10), false, 'another description');
    await check(t, store, 'as it came');
    for (const [n, own] of ledgers.entries()) await store.write(batchOf(n + 1, own, 60 + n));
    await check(t, store, 'written twice');
    await store.maintain(A_DAY * DAY_MS);
    await check(t, store, 'sorted');
    const fewer = ledgers.map((own) =>
      own.map(({ edge, days }) => ({ edge, days: days.map((d) => ({ ...d, bytes: 1 })) })),
    );
    await store.write(batchOf(1, fewer[0] ?? [], 0));
    await check(t, store, 'an older row never replaces a newer one');
    await store.close();
    store = await engine.open(place);
    await check(t, store, 'opened again');
    t.equal(store.has((EDGES[0] as Edge).id), true);
    t.equal(store.knows((EDGES[0] as Edge).id, 9), false, 'not compared yet');
    t.same([...(await store.describe([(EDGES[0] as Edge).id, 5])).values()], [EDGES[0]]);
    store.confirm((EDGES[0] as Edge).id, 9);
    t.equal(store.knows((EDGES[0] as Edge).id, 9), true);
    const notes = (await store.ledgers()).sort((a, b) => a.ledger - b.ledger);
    t.same(notes[2], { ledger: 3, node: 'node-3', beganMs: 3000, overflow: 3, throughMs: 62 });
    const { histories, isCut } = await store.edges({}, 2);
    t.equal(isCut, true);
    t.same(
      histories.flatMap((h) => h.days.map((d) => d.day)),
      [A_DAY + 2, A_DAY + 2],
      'the most recent days',
    );
    const moved = { ...(EDGES[0] as Edge), address: '10.0.0.2' };
    await store.write({ ...batchOf(1, [{ edge: moved, days: [] }]) });
    const [one] = (await store.edges({ workload: 'shop/web' })).histories.filter((h) => h.edge.id === moved.id);
    t.equal(one?.edge.address, '10.0.0.2', 'the address that was met last');
    t.same((await store.stats()).days, [A_DAY, A_DAY + 1, A_DAY + 2]);
    t.ok((await store.stats()).bytes > 0);
    await store.close();
  });

  t.test(`${engine.name}: texts are never part of a statement`, async (t) => {
    const store = await engine.open(engine.place());
    const texts = [
      `'; DROP TABLE edges; --`,
      `\\'"\`$1 {a:String} %s`,
      'a\0b',
      '\n\t\\N',
      '☃ 𝒳 \u202e',
      '%_',
      'x'.repeat(5000),
      '',
    ];
    const edges = texts.map((name, n) =>
      makeEdge({
        source: { kind: 'workload', namespace: name, workloadKind: name, name: `w${name}` },
        destination: { kind: 'name', namespace: '', workloadKind: '', name },
        service: name,
        reason: name,
        rule: {
          ref: ruleRefOf({ kind: name, namespace: name, name, rule_name: name, dialect: name, tier: name } as never),
          generation: n,
        },
        address: name,
      }),
    );
    await store.write(
      batchOf(
        1,
        edges.map((edge) => ({ edge, days: [makeDay(A_DAY)] })),
      ),
    );
    await store.maintain(A_DAY * DAY_MS);
    const { histories } = await store.edges({});
    t.same(
      histories.map((h) => h.edge),
      [...edges].sort((a, b) => a.id - b.id),
    );
    for (const [n, name] of texts.entries()) {
      const found = (await store.edges({ workload: `${name.replaceAll('/', '')}/w${name}` })).histories;
      if (name !== '' && !name.includes('/'))
        t.same(
          found.map((h) => h.edge),
          [edges[n]],
          `workload ${n}`,
        );
      const inIt = (await store.edges({ namespaces: [name], verdicts: ['allow', name] })).histories;
      t.equal(inIt.length, name === '' ? 0 : 1, `namespace ${n}`);
    }
    const note = { ledger: 2 ** 53 - 1, node: texts.join(''), beganMs: 0, overflow: 2 ** 53 - 1, throughMs: 1 };
    await store.write({ ...batchOf(1, []), notes: [note] });
    t.same(
      (await store.ledgers()).find((l) => l.ledger === note.ledger),
      note,
    );
    await store.close();
  });

  t.test(`${engine.name}: the newest days with rows are kept, whatever a clock says`, async (t) => {
    const store = await engine.open(engine.place(), { days: 35 });
    const edge = EDGES[0] as Edge;
    const days = Array.from({ length: 40 }, (_, n) => A_DAY + n);
    await store.write(batchOf(1, [{ edge, days: days.map((d) => makeDay(d)) }]));
    await store.maintain((A_DAY + 4000) * DAY_MS);
    t.same((await store.stats()).days, days.slice(5), 'a clock ten years ahead deletes nothing more');
    await store.write(batchOf(1, [{ edge, days: [makeDay(A_DAY + 4000)] }]));
    await store.maintain(0);
    t.same((await store.stats()).days, [...days.slice(6), A_DAY + 4000], 'one wrong day costs one day');
    t.equal((await store.edges({})).histories[0]?.days.length, 35);
    await store.close();
  });

  t.test(`${engine.name}: its size is kept`, async (t) => {
    const store = await engine.open(engine.place(), { maxBytes: 1 });
    const edge = EDGES[0] as Edge;
    await store.write(batchOf(1, [{ edge, days: [0, 1, 2].map((n) => makeDay(A_DAY + n)) }]));
    await store.maintain((A_DAY + 2) * DAY_MS);
    const { days, daysLost } = await store.stats();
    t.same(days, [A_DAY + 2], 'the latest day stays');
    t.equal(daysLost, 2);
    await store.close();
  });

  t.test(`${engine.name}: whole flows`, async (t) => {
    const store = await engine.open(engine.place(), { flowsMs: DAY_MS });
    const at = A_DAY * DAY_MS;
    const flow = (ms: number, source: string, destination: string) => {
      return { ms, node: 'n', source, destination, verdict: 'FORWARDED', message: Buffer.from([0, 255, 39, ms & 127]) };
    };
    const flows = [
      flow(at - 2 * DAY_MS, 'shop', ''),
      flow(at, 'shop', 'db'),
      flow(at + 5, '', "a'b"),
      flow(at + 9, 'shop', 'shop'),
    ];
    await store.writeFlows(flows);
    t.same(await store.flows({ limit: 10 }), flows);
    t.same(await store.flows({ limit: 2 }), flows.slice(2), 'the latest ones');
    t.same(await store.flows({ limit: 9, namespaces: ["a'b", 'db'] }), flows.slice(1, 3));
    t.same(await store.flows({ limit: 9, sinceMs: at, untilMs: at + 9 }), flows.slice(1, 3));
    await store.maintain(at + 100);
    t.same(await store.flows({ limit: 9 }), flows.slice(1), 'old ones go');
    await store.close();
  });
}
