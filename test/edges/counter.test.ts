/** Events on their edges: which edge they belong to, however many they are, and whatever is learned meanwhile. */
import fc from '../seeded.js';
import t from 'tap';
import { EdgeCounter } from '../../src/edges/counter.js';
import type { EdgeHistory } from '../../src/edges/edge.js';
import { partyName } from '../../src/edges/edge.js';
import { Ledger } from '../../src/edges/ledger.js';
import { EVENT_SIZE } from '../../src/flow/event/decode.js';
import type { Service, Snapshot } from '../../src/identity/snapshot.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { parseAddr } from '../../src/net/addr.js';
import { LEAD, pod, rule, snapshot } from '../flow/flows.js';

const E = STRUCTS.ea_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const T = ENUMS.ea_event_type;
const V = ENUMS.ea_verdict;
const F = ENUMS.ea_flow_flags;
const MONO = 1000e9;

interface Told {
  type?: number;
  verdict?: number;
  audit?: number;
  endpoint?: number;
  local?: string;
  remote?: string;
  localPort?: number;
  port?: number;
  flags?: number;
  rule?: number;
  service?: string;
  servicePort?: number;
  bytes?: number;
  drops?: number;
}

function event(told: Told): Buffer {
  const b = Buffer.from(new ArrayBuffer(EVENT_SIZE));
  for (const name of ['time_ns', 'created_ns'] as const) b.writeBigUInt64LE(BigInt(MONO), E[name].offset);
  b.writeBigUInt64LE(BigInt(told.rule ?? 0), E.rule.offset);
  b.writeBigUInt64LE(BigInt(told.bytes ?? 0), E.bytes_out.offset);
  b.writeBigUInt64LE(BigInt(told.drops ?? 0), E.drops.offset);
  b[E.type.offset] = told.type ?? T.EA_EVENT_VERDICT;
  b[E.verdict.offset] = told.verdict ?? V.EA_VERDICT_ALLOW;
  b[E.audit_verdict.offset] = told.audit ?? 0;
  b[E.family.offset] = 4;
  b[E.flow_flags.offset] = told.flags ?? 0;
  b.set(parseAddr(told.local ?? '10.0.0.1').bytes, E.flow.offset + K.local.offset);
  b.set(parseAddr(told.remote ?? '203.0.113.1').bytes, E.flow.offset + K.remote.offset);
  if (told.service !== undefined) b.set(parseAddr(told.service).bytes, E.service.offset);
  b.writeUInt16BE(told.servicePort ?? 0, E.service_port.offset);
  b.writeUInt32LE(told.endpoint ?? 1, E.flow.offset + K.endpoint.offset);
  b.writeUInt16BE(told.localPort ?? 40_000, E.flow.offset + K.local_port.offset);
  b.writeUInt16BE(told.port ?? 443, E.flow.offset + K.remote_port.offset);
  b[E.flow.offset + K.protocol.offset] = 6;
  return b;
}

const API: Service = {
  namespace: 'shop',
  name: 'api',
  labels: {},
  vips: ['10.96.0.1'],
  ports: [{ protocol: 6, port: 80, backends: [{ ip: '10.0.0.3', port: 8080 }] }],
};
/** Two workloads behind one name. */
const MIXED: Service = {
  namespace: 'shop',
  name: 'mixed',
  labels: {},
  vips: ['10.96.0.2'],
  ports: [
    {
      protocol: 6,
      port: 80,
      backends: [
        { ip: '10.0.0.3', port: 8080 },
        { ip: '10.0.0.1', port: 8080 },
      ],
    },
  ],
};

function known(): Snapshot {
  const base = snapshot([
    { ...pod('shop', 'web-1', '10.0.0.1'), workload: { kind: 'Deployment', name: 'web' } },
    { ...pod('shop', 'web-2', '10.0.0.2'), workload: { kind: 'Deployment', name: 'web' } },
    { ...pod('shop', 'api-1', '10.0.0.3'), workload: { kind: 'StatefulSet', name: 'api' } },
    pod('shop', 'bare', '10.0.0.4'),
  ]);
  const services = new Map([API, MIXED].map((s) => [`${s.namespace}/${s.name}`, s]));
  return { ...base, services };
}

class Bed {
  readonly ledger = Ledger.fresh(Number(LEAD / 1_000_000n));
  readonly counter = new EdgeCounter(this.ledger, {
    nodeName: 'node-a',
    stride: EVENT_SIZE,
    monoNs: () => MONO,
    wallClock: () => LEAD + BigInt(MONO),
  });

  constructor() {
    this.learn(known());
    this.counter.tick(1);
  }

  learn(snapshot: Snapshot): void {
    const endpoints = new Map(
      [...snapshot.pods.values()].map((p, n) => [n + 1, { pod: `${p.namespace}/${p.name}`, uid: p.uid }]),
    );
    this.counter.learn({ snapshot, rules: new Map([[7, rule({ index: 3 })]]), endpoints });
  }

  tell(...told: Told[]): this {
    for (const one of told) this.counter.events(event(one), 0, 1);
    return this;
  }

  /** `from → to:port service verdict connections bytes drops`, in order. */
  get edges(): string[] {
    return this.ledger.histories({}).map(text).sort();
  }
}

function text({ edge, days }: EdgeHistory): string {
  const sum = (of: 'connections' | 'bytes' | 'drops') => days.reduce((n, d) => n + d[of], 0);
  const through = edge.service === '' ? '' : ` by ${edge.service}:${edge.servicePort}`;
  const numbers = [sum('connections'), sum('bytes'), sum('drops')].join(' ');
  const arrow = edge.inbound ? '⇒' : '→';
  return `${partyName(edge.source)} ${arrow} ${partyName(edge.destination)}:${edge.port}${through} ${edge.verdict} ${numbers}`;
}

t.test('pods of one workload have one edge; its end brings the bytes', async (t) => {
  const bed = new Bed().tell(
    {},
    { endpoint: 2, local: '10.0.0.2', localPort: 50_000 },
    { type: T.EA_EVENT_END, bytes: 700 },
    { endpoint: 4, local: '10.0.0.4' },
    { verdict: V.EA_VERDICT_DENY, rule: 7, drops: 1, port: 25 },
    { verdict: V.EA_VERDICT_DENY, rule: 7, drops: 9, port: 25, type: T.EA_EVENT_DROP },
    { type: T.EA_EVENT_LOG },
  );
  t.strictSame(bed.edges, [
    'shop/bare → 203.0.113.1:443 allow 1 0 0',
    'shop/web → 203.0.113.1:25 deny 1 0 10',
    'shop/web → 203.0.113.1:443 allow 2 700 0',
  ]);
  const denied = bed.ledger.histories({ verdicts: ['deny'] })[0]?.edge;
  t.equal(denied?.rule?.ref.index, 3);
  t.equal(denied?.address, '203.0.113.1');
});

t.test('a Service is named with the workload behind it, and counted once', async (t) => {
  const behind = { flags: F.EA_FLOW_POST_DNAT, service: '10.96.0.1', servicePort: 80, remote: '10.0.0.3', port: 8080 };
  const bed = new Bed().tell(
    { remote: '10.96.0.1', port: 80 },
    behind,
    { ...behind, verdict: V.EA_VERDICT_DENY },
    { remote: '10.96.0.2', port: 80 },
    { remote: '10.96.0.1', port: 99 },
  );
  t.strictSame(bed.edges, [
    'shop/web → shop/api:8080 by shop/api:80 allow 1 0 0',
    'shop/web → shop/api:8080 by shop/api:80 deny 1 0 0',
    'shop/web → svc shop/api:99 by shop/api:99 allow 1 0 0',
    'shop/web → svc shop/mixed:80 by shop/mixed:80 allow 1 0 0',
  ]);
});

t.test('a Service whose last backend is elsewhere has no workload behind it', async (t) => {
  // Whoever may write Endpoints lists a pod many times, under one address after the other, and then his own server.
  const pods = Array.from({ length: 40 }, (_, n) => ({
    ...pod('evil', `web-${n}`, `10.0.1.${n}`),
    workload: { kind: 'Deployment', name: 'web' },
  }));
  const backends = [...pods.map(({ ips }) => ips[0] as string), '203.0.113.66'].map((ip) => ({ ip, port: 8080 }));
  const service = { namespace: 'evil', name: 'svc', labels: {}, vips: ['10.96.0.9'] };
  const bed = new Bed();
  const world = (list: typeof backends): Snapshot => ({
    ...known(),
    pods: new Map([...known().pods, ...pods.map((p) => [`evil/${p.name}`, p] as const)]),
    services: new Map([['evil/svc', { ...service, ports: [{ protocol: 6, port: 80, backends: list }] }]]),
  });
  bed.learn(world(backends));
  bed.counter.tick(10_000);
  bed.tell({ remote: '10.96.0.9', port: 80 });
  bed.learn(world(backends.slice(0, 40)));
  bed.counter.tick(20_000);
  bed.tell({ remote: '10.96.0.9', port: 80 });
  t.strictSame(bed.edges, [
    'shop/web → evil/web:8080 by evil/svc:80 allow 1 0 0',
    'shop/web → svc evil/svc:80 by evil/svc:80 allow 1 0 0',
  ]);
});

t.test('a Service that leads outside is named with where it leads', async (t) => {
  const ports = (...ips: string[]) => [{ protocol: 6, port: 80, backends: ips.map((ip) => ({ ip, port: 8080 })) }];
  const service = { namespace: 'evil', labels: {} };
  const services = [
    { ...service, name: 'out', vips: ['10.96.0.8'], ports: ports('203.0.113.66') },
    { ...service, name: 'some', vips: ['10.96.0.9'], ports: ports('10.0.0.3', '203.0.113.66') },
  ];
  const bed = new Bed();
  bed.learn({ ...known(), services: new Map(services.map((s) => [`evil/${s.name}`, s])) });
  bed.counter.tick(10_000);
  const arrived = { flags: F.EA_FLOW_POST_DNAT, servicePort: 80, remote: '203.0.113.66', port: 8080 };
  bed.tell(
    { remote: '10.96.0.8', port: 80 },
    { ...arrived, service: '10.96.0.8' },
    { remote: '10.96.0.9', port: 80 },
    { ...arrived, service: '10.96.0.9' },
    { ...arrived, service: '10.96.0.10' },
    { flags: F.EA_FLOW_POST_DNAT, remote: '203.0.113.66', port: 443 },
  );
  t.strictSame(bed.edges, [
    'shop/web → 203.0.113.66:8080 allow 1 0 0',
    'shop/web → 203.0.113.66:8080 by evil/out:80 allow 1 0 0',
    'shop/web → 203.0.113.66:8080 by evil/some:80 allow 1 0 0',
    'shop/web → svc evil/some:80 by evil/some:80 allow 1 0 0',
  ]);
});

t.test('edges between pods are counted where they begin', async (t) => {
  const inbound = { flags: F.EA_FLOW_INBOUND, localPort: 8080, port: 50_000 };
  const bed = new Bed().tell(
    { ...inbound, remote: '10.0.0.3' },
    { ...inbound, remote: '203.0.113.9' },
    { ...inbound, remote: '192.168.0.1' },
  );
  t.strictSame(bed.edges, ['192.168.0.1 ⇒ shop/web:8080 allow 1 0 0', '203.0.113.9 ⇒ shop/web:8080 allow 1 0 0']);
});

t.test('an address that changes hands is another edge within seconds', async (t) => {
  const bed = new Bed().tell({ remote: '10.0.0.3', port: 8080 });
  const after = known();
  const pods = new Map(after.pods);
  pods.delete('shop/api-1');
  pods.set('shop/other', pod('shop', 'other', '10.0.0.3'));
  bed.learn({ ...after, pods });
  bed.counter.tick(10_000);
  bed.tell({ remote: '10.0.0.3', port: 8080 });
  t.strictSame(
    bed.edges,
    ['shop/api:8080', 'shop/other:8080'].map((to) => `shop/web → ${to} allow 1 0 0`),
  );
});

t.test('a pod that calls everybody at once leaves room for its neighbour', async (t) => {
  const bed = new Bed();
  for (let n = 0; n < 12_000; n++) bed.tell({ remote: `198.18.${n >> 8}.${n & 255}` });
  bed.tell({ endpoint: 4, local: '10.0.0.4', remote: '203.0.113.77' });
  const edges = bed.edges;
  t.ok(edges.includes('shop/bare → 203.0.113.77:443 allow 1 0 0'));
  const total = bed.ledger
    .histories({ workload: 'shop/web' })
    .reduce((sum, h) => sum + h.days.reduce((n, d) => n + d.connections, 0), 0);
  t.equal(total, 12_000, 'each connection is counted, under its own edge or another');
  t.ok(edges.length < 5000, `${edges.length} edges`);
});

t.test('open connections wait for names, and none of them is counted as without an edge', async (t) => {
  const bed = new Bed();
  const fresh = new Set<number>();
  const remotes = Array.from({ length: 9000 }, (_, n) => `198.18.${n >> 8}.${n & 255}`);
  let [next, ticks] = [0, 1];
  while (next < remotes.length && ticks < 100) {
    bed.counter.tick(++ticks);
    while (next < remotes.length && bed.counter.open(event({ remote: remotes[next] as string }), fresh)) next++;
  }
  t.equal(next, remotes.length);
  t.ok(ticks > 2, 'one tick had no budget for all of them');
  t.equal(bed.ledger.overflow, 0);
  t.notOk(
    bed.edges.some((text) => text.includes('other')),
    'none is in the edge for the rest',
  );
});

t.test('random events: each on the edge that it would have alone', async (t) => {
  const of = <T>(...values: T[]) => fc.constantFrom(...values);
  const told = fc.record(
    {
      type: of(T.EA_EVENT_VERDICT, T.EA_EVENT_CHANGED, T.EA_EVENT_DROP, T.EA_EVENT_END, T.EA_EVENT_LOG),
      verdict: of(V.EA_VERDICT_ALLOW, V.EA_VERDICT_DENY, V.EA_VERDICT_PARTIAL),
      audit: of(0, V.EA_VERDICT_ALLOW, V.EA_VERDICT_DENY),
      endpoint: of(1, 2, 3, 4, 9),
      local: of('10.0.0.1', '10.0.0.9'),
      remote: of('10.0.0.3', '10.96.0.1', '10.96.0.2', '203.0.113.1', '192.168.0.1', '2001:db8::1'),
      localPort: of(8080, 40_000),
      port: of(80, 443, 8080),
      flags: of(0, F.EA_FLOW_INBOUND, F.EA_FLOW_POST_DNAT),
      rule: of(0, 7),
      service: of('10.96.0.1', '10.96.0.2'),
      servicePort: of(80, 81),
      bytes: of(0, 100),
      drops: of(0, 1),
    },
    { requiredKeys: [] },
  );
  // Of several addresses, the one that was met last is told.
  const keyOf = (edge: object) => JSON.stringify({ ...edge, address: '' });
  fc.assert(
    fc.property(fc.array(told, { maxLength: 60 }), (list) => {
      const together = new Bed().tell(...list);
      const sums = new Map<string, number[]>();
      for (const one of list) {
        for (const { edge, days } of new Bed().tell(one).ledger.histories({})) {
          const sum = sums.get(keyOf(edge)) ?? [0, 0, 0];
          for (const d of days) [d.connections, d.bytes, d.drops].forEach((n, i) => (sum[i] = (sum[i] ?? 0) + n));
          sums.set(keyOf(edge), sum);
        }
      }
      const found = together.ledger
        .histories({})
        .map(({ edge, days }) => [
          keyOf(edge),
          days.reduce(
            (sum, d) => [d.connections + (sum[0] ?? 0), d.bytes + (sum[1] ?? 0), d.drops + (sum[2] ?? 0)],
            [0, 0, 0],
          ),
        ]);
      t.strictSame(new Map(found as [string, number[]][]), sums);
    }),
    { numRuns: 60 },
  );
});
