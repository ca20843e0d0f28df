/** The graph without a browser: what is drawn, where, and what stays where it is. */
import t from 'tap';
import { Arrangement, breadth, curve } from '../../src/ui/graph/geometry.js';
import { type Level, levelText, outOf, parseLevel, restUnit, unitOf } from '../../src/ui/graph/levels.js';
import { type Counted, Graph, linkKey, type Seen } from '../../src/ui/graph/model.js';
import { MOST_LINES, Places } from '../../src/ui/graph/places.js';
import { stepFrom } from '../../src/ui/graph/walk.js';
import type { EdgeInfo, Party } from '../../src/ui/wire/messages.js';

const CLUSTER: Level = { kind: 'cluster' };
const SHOP: Level = { kind: 'namespace', namespace: 'shop' };
const VIEWPORT = { width: 1200, height: 600 };

/** `shop/web`, `@n1`, `~other`, `api.example.com`, `192.0.2.1` */
function party(text: string): Party {
  const none = { namespace: '', workloadKind: '', name: text };
  if (text === '~other') return { ...none, kind: 'other', name: '' };
  if (text.startsWith('@')) return { ...none, kind: 'node', name: text.slice(1) };
  const [namespace = '', name] = text.split('/');
  if (name !== undefined) return { kind: 'workload', namespace, workloadKind: 'Deployment', name };
  return { ...none, kind: /^[\d.]+$/.test(text) ? 'address' : 'name' };
}

let ids = 0;

function edge(
  from: string,
  to: string,
  connections = 1,
  more: Partial<EdgeInfo> = {},
): Counted & { connections: number } {
  const info: EdgeInfo = {
    ...{ id: ++ids, source: party(from), destination: party(to), inbound: false, service: '', servicePort: 0 },
    ...{ port: 443, protocol: 6, verdict: 'allow', auditVerdict: 'none', reason: 'rule', address: '' },
    ...more,
  };
  return { info, firstMs: 1, lastMs: 2, connections, bytes: 10, drops: 0, days: 1, hours: 1 };
}

const byId = (...edges: Counted[]) => new Map(edges.map((e) => [e.info.id, e]));
const seen = (info: EdgeInfo): Seen => (info.verdict === 'deny' ? 'denied' : 'allowed');
const graphOf = (level: Level, edges: ReadonlyMap<number, Counted>) => {
  const graph = new Graph({ level, seen, hide: (info) => (info.port === 53 ? 'dns' : undefined) });
  graph.update(edges);
  return graph;
};
const placed = (level: Level, edges: ReadonlyMap<number, Counted>, most?: number) => {
  const graph = graphOf(level, edges);
  const places = new Places(level, most);
  places.update(graph);
  return { graph, places };
};

t.test('levels are read from the address', async (t) => {
  for (const text of ['', 'ns/shop', 'wl/shop/Deployment/web', 'wl/shop/Deployment/a/b'])
    t.equal(levelText(parseLevel(text)), text);
  for (const text of [null, 'nonsense', 'ns/', 'wl/shop', 'wl/shop/Pod/', 'ns/a/b'])
    t.same(parseLevel(text), CLUSTER, String(text));
  t.same(outOf(parseLevel('wl/shop/Deployment/web')), SHOP);
  t.same(outOf(SHOP), CLUSTER);
  t.equal(outOf(CLUSTER), undefined);
});

t.test('what an end is drawn as', async (t) => {
  const keys = (level: Level) =>
    ['shop/web', 'data/db', '@n1', 'a.example', '192.0.2.1', '~other'].map((text) => unitOf(level, party(text)).key);
  t.same(keys(CLUSTER), ['ns/shop', 'ns/data', '@node', 'name/a.example', 'address/192.0.2.1', 'other']);
  t.same(keys(SHOP), ['wl/shop/Deployment/web', 'ns/data', '@node', 'name/a.example', 'address/192.0.2.1', 'other']);
  const web = parseLevel('wl/shop/Deployment/web');
  t.same(keys(web).slice(0, 3), ['wl/shop/Deployment/web', 'wl/data/Deployment/db', 'node/n1']);
});

t.test('edges are summed, and forgotten', async (t) => {
  const one = edge('shop/web', 'data/db', 5);
  const two = edge('shop/api', 'data/db', 7);
  const three = edge('shop/web', 'data/db', 2, { verdict: 'deny', port: 22 });
  const dns = edge('shop/web', 'kube-system/coredns', 9, { port: 53 });
  const inside = edge('shop/web', 'shop/api', 1);
  const edges = byId(one, two, three, dns, inside);
  const graph = graphOf(CLUSTER, edges);
  t.same([...graph.nodes.keys()].sort(), ['ns/data', 'ns/shop']);
  t.match(graph.nodes.get('ns/shop'), { total: 15, edges: 5, sends: 3, receives: 0 });
  t.match(graph.nodes.get('ns/data')?.connections, { allowed: 12, denied: 2 });
  t.equal(graph.nodes.get('ns/shop')?.members.size, 2, 'workloads');
  t.match(graph.links.get(linkKey('allowed', 'ns/shop', 'ns/data')), { connections: 12, edges: 2 });
  t.same(graph.hidden.dns, { edges: 1, denied: 0 });

  const shape = graph.shape;
  one.connections = 50;
  graph.update(edges);
  t.equal(graph.nodes.get('ns/data')?.connections.allowed, 57);
  t.equal(graph.shape, shape, 'numbers change no shape');

  edges.delete(three.info.id);
  edges.delete(dns.info.id);
  graph.update(edges);
  t.equal(graph.links.size, 2);
  t.same(graph.hidden.dns, { edges: 0, denied: 0 });
  t.not(graph.shape, shape);

  // Another stream: the same ids are other edges.
  const other = { ...edge('x/y', 'data/db'), info: { ...edge('x/y', 'data/db').info, id: one.info.id } };
  graph.update(byId(other));
  t.same([...graph.nodes.keys()].sort(), ['ns/data', 'ns/x']);
  t.equal(graph.nodes.get('ns/data')?.edges, 1);
  graph.update(new Map());
  t.equal(graph.nodes.size + graph.links.size, 0);
});

t.test('many new edges are taken some at a time', async (t) => {
  const edges = byId(...Array.from({ length: 25 }, (_, n) => edge(`a${n}/x`, 'db.example')));
  const graph = new Graph({ level: CLUSTER, seen, hide: () => undefined });
  t.same(
    [1, 2, 3].map(() => graph.update(edges, 10)),
    [false, false, true],
  );
  t.equal(graph.nodes.size, 26);
  t.equal(graph.nodes.get('name/db.example')?.total, 25);
  // One goes while another waits.
  edges.delete([...edges.keys()][0] as number);
  const late = edge('late/x', 'db.example');
  edges.set(late.info.id, late);
  t.equal(graph.update(edges, 0), false);
  t.notOk(graph.nodes.has('ns/a0'));
  t.equal(graph.update(edges, 1), true);
  t.ok(graph.nodes.has('ns/late'));
});

t.test('columns', async (t) => {
  const { places } = placed(
    CLUSTER,
    byId(
      edge('shop/web', 'data/db'),
      edge('data/db', 'backup.example'),
      edge('shop/web', 'kube-system/metrics', 1, { port: 443 }),
      edge('@n1', 'shop/web'),
      edge('shop/web', '~other'),
    ),
  );
  const columns = Object.fromEntries([...places.all].map(([key, { column }]) => [key, column]));
  t.same(columns, { 'ns/shop': 0, 'ns/data': 1, 'ns/kube-system': 3, '@node': 3, 'name/backup.example': 4, other: 4 });
  const ring = placed(CLUSTER, byId(...[1, 2, 3, 4, 5, 6].map((n) => edge(`r${n}/x`, `r${(n % 6) + 1}/x`))));
  const [sources, receivers] = [0, 1].map((c) => ring.places.slots(c as 0 | 1).length);
  t.ok((sources ?? 0) >= 2 && (receivers ?? 0) >= 2, 'a ring has both');
});

t.test('places are kept while the data changes', async (t) => {
  const edges = byId(edge('shop/web', 'b.example', 5), edge('shop/web', 'a.example', 9), edge('data/db', 'c.example'));
  const { graph, places } = placed(CLUSTER, edges);
  const arrangement = new Arrangement(CLUSTER, VIEWPORT);
  const before = new Map(arrangement.draw(places).boxes);
  for (const e of edges.values()) Object.assign(e, { connections: 1000 });
  for (let n = 0; n < 30; n++) {
    const more = edge(`new-${n}/x`, `${n}.example`, 100_000, { verdict: 'deny' });
    edges.set(more.info.id, more);
  }
  graph.update(edges);
  t.ok(places.update(graph));
  const after = arrangement.draw(places).boxes;
  for (const [key, box] of before) t.same(after.get(key), box, key);
  const taken = new Set([...after.values()].map((b) => `${b.x},${b.y}`));
  t.equal(taken.size, after.size, 'no two are at one place');
  // A free place is used again.
  const gone = [...edges.values()].find((e) => e.info.destination.name === 'a.example') as Counted;
  edges.delete(gone.info.id);
  graph.update(edges);
  places.update(graph);
  const next = edge('shop/web', 'z.example');
  edges.set(next.info.id, next);
  graph.update(edges);
  places.update(graph);
  t.same(arrangement.draw(places).boxes.get('name/z.example'), before.get('name/a.example'));
});

t.test('what has no room', async (t) => {
  const edges = byId(...Array.from({ length: 20 }, (_, n) => edge('shop/web', `${n}.example`, n)));
  const denied = edge('shop/web', 'evil.example', 1, { verdict: 'deny' });
  edges.set(denied.info.id, denied);
  const { graph, places } = placed(CLUSTER, edges, 6);
  t.equal(places.all.size, 6);
  t.ok(places.all.has('name/evil.example'), 'denied first');
  t.ok(places.all.has('name/19.example') && !places.all.has('name/0.example'), 'then traffic');
  t.equal(places.rest.get(4)?.length, 16);
  const { lines } = places.lines(graph);
  const rest = lines.find((l) => l.to === restUnit(4).key);
  t.equal(
    rest?.connections,
    [...Array(16).keys()].reduce((a, b) => a + b, 0),
    'the rest has a line of its own',
  );
  // Somebody who is denied later takes the place of who has the least to tell.
  const later = edge('shop/web', 'worse.example', 1, { verdict: 'deny' });
  edges.set(later.info.id, later);
  graph.update(edges);
  t.ok(places.update(graph));
  t.ok(places.all.has('name/worse.example') && !places.all.has('name/16.example'));
  t.equal(places.all.size, 6);
  t.ok(arranged(places).has('rest/4'));
});

const arranged = (places: Places) => new Arrangement(CLUSTER, VIEWPORT).draw(places).boxes;

t.test('lines', async (t) => {
  const edges = byId(
    ...Array.from({ length: 30 }, (_, a) =>
      Array.from({ length: 30 }, (_, b) => edge(`s${a}/x`, `${b}.example`, a + b, a === 0 ? { verdict: 'deny' } : {})),
    ).flat(),
  );
  const { graph, places } = placed(CLUSTER, edges);
  const first = places.lines(graph);
  t.equal(first.lines.length, MOST_LINES);
  t.equal(first.more, 900 - MOST_LINES);
  t.equal(first.lines.filter((l) => l.seen === 'denied').length, 30, 'denied ones are all drawn');
  t.equal(first.lines.at(-1)?.seen, 'denied', 'and on top');
  for (const e of edges.values()) Object.assign(e, { connections: 3 });
  graph.update(edges);
  t.equal(places.lines(graph), first, 'the same list while only numbers change');
  t.ok(first.lines.every((l) => l.connections === 3));
  const chosen = places.lines(graph, 'name/0.example');
  t.equal(chosen.lines.filter((l) => l.to === 'name/0.example').length, 30, 'all of the node that is selected');
});

t.test('a namespace, and what is around it', async (t) => {
  const edges = byId(
    edge('shop/web', 'shop/api'),
    edge('shop/api', 'data/db'),
    edge('front/x', 'shop/web'),
    edge('shop/api', 'pay.example'),
    edge('front/x', 'data/db'),
  );
  const { graph, places } = placed(SHOP, edges);
  t.notOk(graph.links.has(linkKey('allowed', 'ns/front', 'ns/data')), 'of others');
  const [web, api] = ['wl/shop/Deployment/web', 'wl/shop/Deployment/api'];
  const region = new Map([
    [web, { x: 98, y: 22 }],
    [api, { x: 400, y: 22 }],
  ]);
  const { boxes, frame } = new Arrangement(SHOP, VIEWPORT, region).draw(places);
  const x = (key: string) => boxes.get(key)?.x ?? Number.NaN;
  t.ok(x('ns/front') < x(web) && x(web) < x(api) && x(api) < x('ns/data'));
  t.equal(x('ns/data'), x('name/pay.example'), 'what it connects to is in one column');
  t.ok(frame && frame.x < x(web) && frame.x + frame.w > x(api) + 196);
  const late = edge('shop/late', 'pay.example');
  edges.set(late.info.id, late);
  graph.update(edges);
  places.update(graph);
  const after = new Arrangement(SHOP, VIEWPORT, region).draw(places).boxes.get('wl/shop/Deployment/late');
  t.ok(after && after.y > (boxes.get(web)?.y ?? 0), 'who comes later is below');
});

t.test('lines and keys', async (t) => {
  const box = (x: number, y: number) => ({ x, y, w: 100, h: 40 });
  t.equal(curve(box(0, 0), box(300, 0), 0).d, 'M100 20C189 20 208 20 297 20');
  t.match(curve(box(300, 0), box(0, 0), 2).d, /^M300 22C.* 103 22$/);
  t.match(curve(box(0, 0), box(0, 100), 0).d, /^M100 20C.* 103 120$/);
  t.ok(breadth(10) > breadth(1) && breadth(1e12) === 7);
  const boxes = [
    { key: 'a', box: box(0, 0) },
    { key: 'b', box: box(0, 60) },
    { key: 'c', box: box(300, 50) },
    { key: 'd', box: box(300, 400) },
    { key: 'e', box: box(600, 0) },
  ];
  t.equal(stepFrom(boxes, 'a', 'ArrowDown'), 'b');
  t.equal(stepFrom(boxes, 'a', 'ArrowRight'), 'c');
  t.equal(stepFrom(boxes, 'd', 'ArrowUp'), 'c');
  t.equal(stepFrom(boxes, 'e', 'ArrowLeft'), 'c');
  t.equal(stepFrom(boxes, 'a', 'ArrowUp'), undefined);
  t.equal(stepFrom(boxes, 'gone', 'ArrowUp'), 'a');
});
