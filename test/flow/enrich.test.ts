import t from 'tap';
import { Enricher, type Known } from '../../src/flow/names/enrich.js';
import { FlowHub } from '../../src/flow/hub/hub.js';
import type { Flow, FlowEvent } from '../../src/flow/event/types.js';
import type { Pod, Snapshot } from '../../src/identity/snapshot.js';
import type { RuleRef } from '../../src/ir/types.js';
import { event, LEAD, pod, rule, SECOND, service, snapshot } from './flows.js';

const WEB = pod('shop', 'web-1', '10.0.0.1', { workload: { kind: 'Deployment', name: 'web' } });
const DB = pod('data', 'db-0', '10.0.0.2', { nodeName: 'node-b' });

function endpoints(...of: [id: number, pod: string, uid: string][]): Known['endpoints'] {
  return new Map(of.map(([id, pod, uid]) => [id, { pod, uid }]));
}

/** An agent's knowledge with clocks of its own. */
class Bench {
  readonly clock = { mono: 100e9, wall: LEAD + BigInt(100e9) };
  readonly enricher = new Enricher({
    nodeName: 'node-a',
    monoNs: () => this.clock.mono,
    wallClock: () => this.clock.wall,
    names: {
      note: () => {},
      text: (slot, incarnation) => (incarnation === 3 ? `name-${slot}.example` : undefined),
      known: (endpoint, ip) => (endpoint === 1 && ip === '192.0.2.77' ? ['a.example', 'b.example'] : []),
    },
  });

  constructor(
    readonly snapshot: Snapshot = snapshot_(),
    readonly endpoints = web(),
  ) {
    this.update({});
  }

  update(known: Partial<Known>): void {
    this.enricher.update({ snapshot: this.snapshot, rules: new Map(), endpoints: this.endpoints, ...known });
  }

  pass(seconds: number): void {
    this.clock.mono += seconds * 1e9;
    this.clock.wall += BigInt(seconds) * SECOND;
  }

  /** An event of this moment. */
  flow(over: Partial<FlowEvent> = {}): Flow {
    return this.enricher.enrich(event({ timeNs: this.clock.mono, createdNs: this.clock.mono, ...over }));
  }
}

function web(): Known['endpoints'] {
  return endpoints([1, 'shop/web-1', WEB.uid], [9, '', '']);
}

function snapshot_(pods: readonly Pod[] = [WEB, DB]): Snapshot {
  const nodes = [
    { name: 'node-a', labels: { zone: 'a' }, ips: ['172.16.0.1'] },
    { name: 'node-b', labels: { zone: 'b' }, ips: ['172.16.0.2', 'fd00::b'] },
  ];
  const api = service('shop', 'api', '10.96.0.1', {
    ports: [{ protocol: 6, port: 80, nodePort: 30080, backends: [] }],
  });
  // One address, two Services: load balancers share them.
  const shared = [6, 17].map((protocol) =>
    service('dns', protocol === 6 ? 'tcp' : 'udp', '203.0.113.1', { ports: [{ protocol, port: 53, backends: [] }] }),
  );
  return { ...snapshot(pods, [api, ...shared], nodes), ownNode: { name: 'node-a', ips: ['172.16.0.1', '10.0.0.254'] } };
}

t.test('who is who', async (t) => {
  const b = new Bench();
  const sides = (e: Partial<FlowEvent>) => {
    const f = b.flow(e);
    return [f.source, f.destination];
  };
  t.same(sides({ remote: '10.0.0.2', remotePort: 5432 }), [
    {
      ip: '10.0.0.1',
      port: 40000,
      kind: 'pod',
      namespace: 'shop',
      pod: 'web-1',
      labels: { app: 'web-1' },
      workload: { kind: 'Deployment', name: 'web' },
      node: 'node-a',
    },
    {
      ip: '10.0.0.2',
      port: 5432,
      kind: 'pod',
      namespace: 'data',
      pod: 'db-0',
      labels: { app: 'db-0' },
      node: 'node-b',
    },
  ]);
  const rows: [string, Partial<FlowEvent>, object][] = [
    ['nobody we know', { remote: '192.0.2.1' }, { kind: 'world', namespace: '', pod: '' }],
    ['nobody, IPv6', { family: 6, remote: '2001:db8::1' }, { kind: 'world' }],
    ['this node', { remote: '172.16.0.1' }, { kind: 'node', node: 'node-a', labels: { zone: 'a' } }],
    ['another address of this node', { remote: '10.0.0.254' }, { kind: 'node', node: 'node-a' }],
    ['another node', { family: 6, remote: 'fd00::b' }, { kind: 'node', node: 'node-b', labels: { zone: 'b' } }],
    ['a Service', { remote: '10.96.0.1' }, { kind: 'service', namespace: 'shop', pod: '', labels: { svc: 'api' } }],
    ['no IP at all', { family: 0, remote: '' }, { kind: 'world', ip: '' }],
  ];
  for (const [name, e, expected] of rows) t.match(sides(e)[1], expected, name);
  t.match(
    sides({ local: '198.51.100.9' })[0],
    { ip: '198.51.100.9', pod: 'web-1' },
    'a spoofed address is its sender’s',
  );
  t.match(sides({ endpoint: 9, local: '172.16.0.1' })[0], { kind: 'node', node: 'node-a', labels: { zone: 'a' } });
  t.match(
    sides({ endpoint: 77, local: '10.0.0.2' })[0],
    { kind: 'pod', pod: 'db-0' },
    'an unknown endpoint: by address',
  );
  t.match(sides({ protocol: 1, localPort: 7, remotePort: 0x800 }), [{ port: 0 }, { port: 0 }], 'ICMP has no ports');
  t.match(sides({ protocol: 17 }), [{ port: 40000 }, { port: 443 }]);
});

t.test('who sent the packet, and who opened the flow', async (t) => {
  const b = new Bench();
  const rows: [string, Partial<FlowEvent>, 'out' | 'in'][] = [
    ['opened by the pod', {}, 'out'],
    ['its reply', { isReply: true }, 'in'],
    ['opened to the pod', { inbound: true, hook: 'to-pod' }, 'in'],
    ['the pod replies', { inbound: true, isReply: true }, 'out'],
    ['its end, whoever sent the last packet', { type: 'end', isReply: true }, 'out'],
    ['the end of an inbound one', { type: 'end', inbound: true, isReply: true }, 'in'],
    ['a drop of no flow', { type: 'drop', createdNs: 0 }, 'out'],
    ['a drop of no flow at the door', { type: 'drop', createdNs: 0, hook: 'to-pod' }, 'in'],
    ['a post-DNAT event names the client’s flow', { hook: 'to-pod', postDnat: true }, 'out'],
  ];
  for (const [name, e, expected] of rows) {
    const f = b.flow(e);
    t.equal(f.source.ip, expected === 'out' ? '10.0.0.1' : '192.0.2.1', name);
    t.equal(f.destination.ip, expected === 'out' ? '192.0.2.1' : '10.0.0.1', name);
  }
});

t.test('Services', async (t) => {
  const b = new Bench();
  const api = { namespace: 'shop', name: 'api' };
  const rows: [string, Partial<FlowEvent>, object | undefined][] = [
    ['its address', { remote: '10.96.0.1', remotePort: 80 }, api],
    ['its address, a port that it has not', { remote: '10.96.0.1', remotePort: 81 }, api],
    ['the address before the translation', { remote: '10.0.0.2', service: '10.96.0.1', servicePort: 80 }, api],
    ['the reply', { remote: '10.96.0.1', remotePort: 80, isReply: true }, api],
    ['a port of this node', { remote: '172.16.0.1', remotePort: 30080 }, api],
    ['another port of this node', { remote: '172.16.0.1', remotePort: 30081 }, undefined],
    ['the same port, another protocol', { remote: '172.16.0.1', remotePort: 30080, protocol: 17 }, undefined],
    ['shared, TCP', { remote: '203.0.113.1', remotePort: 53 }, { namespace: 'dns', name: 'tcp' }],
    ['shared, UDP', { remote: '203.0.113.1', remotePort: 53, protocol: 17 }, { namespace: 'dns', name: 'udp' }],
    ['none', { remote: '192.0.2.1' }, undefined],
    ['who connects is no Service', { remote: '10.96.0.1', inbound: true }, undefined],
  ];
  for (const [name, e, expected] of rows) t.same(b.flow(e).service, expected, name);
  b.update({ snapshot: { ...b.snapshot, services: new Map() } });
  t.equal(b.flow({ remote: '10.96.0.1' }).service, undefined, 'it is gone');
  t.equal(b.flow({ remote: '10.96.0.1' }).destination.kind, 'world');
});

t.test('rules, and rules of before', async (t) => {
  const b = new Bench();
  const [one, two]: RuleRef[] = [rule({ index: 1 }), rule({ index: 2 })];
  b.update({
    rules: new Map([
      [1, one as RuleRef],
      [2, two as RuleRef],
    ]),
  });
  t.match(b.flow({ rule: 1, auditRule: 2 }), { rule: one, auditRule: two });
  t.equal(b.flow().rule, undefined);
  t.equal(b.flow({ rule: 3 }).rule, undefined, 'unknown');
  b.update({ rules: new Map() });
  b.update({ rules: new Map() });
  t.equal(b.flow({ rule: 1 }).rule, one, 'it has decided before');
  t.equal(b.flow({ rule: 2 }).rule, two, 'it has not, but it was there a moment ago');
  const relabelled = rule({ index: 1, policy: { ...rule().policy, labels: { a: 'b' } } });
  b.update({ rules: new Map([[1, relabelled]]) });
  t.equal(b.flow({ rule: 1 }).rule, relabelled, 'what is known now goes first');

  const never = new Map([[5, rule({ index: 5 })]]);
  b.update({ rules: never });
  b.update({ rules: new Map() });
  b.pass(11);
  b.flow();
  t.equal(b.flow({ rule: 5 }).rule, undefined, 'maps of before are not kept for long');
  t.ok(b.flow({ rule: 1 }).rule, 'what has decided is');
  for (let i = 0; i < 100; i++) {
    const id = 1000 + i * 1000;
    const many = new Map(Array.from({ length: 1000 }, (_, k): [number, RuleRef] => [id + k, rule({ index: k })]));
    b.update({ rules: many });
    for (const key of many.keys()) b.flow({ rule: key });
  }
  t.equal(b.flow({ rule: 1 }).rule, undefined, 'bounded: 100,000 others have decided since');
  t.ok(b.flow({ rule: 99_500 }).rule);
});

t.test('endpoints are pods by their uid, not by their name', async (t) => {
  const b = new Bench();
  const successor = { ...WEB, uid: 'uid-2', labels: { app: 'other' }, ips: ['10.0.0.9'] };
  b.update({ snapshot: snapshot_([successor, DB]) });
  t.match(b.flow().source, { pod: 'web-1', labels: { app: 'web-1' } }, 'what it was, as long as the endpoint is there');
  b.update({ snapshot: snapshot_([successor, DB]), endpoints: endpoints([2, 'shop/web-1', 'uid-2']) });
  t.same(b.flow({ endpoint: 2 }).source.labels, { app: 'other' });
  t.same(b.flow({ endpoint: 1 }).source.labels, { app: 'web-1' }, 'a late event of the former one');
  b.update({ endpoints: endpoints([3, 'shop/new', 'uid-3']) });
  t.match(
    b.flow({ endpoint: 3 }).source,
    { kind: 'pod', namespace: 'shop', pod: 'new' },
    'not in the snapshot: its key',
  );
  const labelled = { ...WEB, labels: { app: 'web-1', more: 'yes' } };
  b.update({ snapshot: snapshot_([labelled, DB]) });
  t.same(b.flow().source.labels, labelled.labels, 'changes of a pod are seen');
  for (let i = 0; i < 2000; i++) b.update({ endpoints: endpoints([100 + i, 'shop/x', `x${i}`]) });
  t.match(b.flow({ endpoint: 2099 }).source, { pod: 'x' });
  t.equal(b.flow({ endpoint: 2, local: '198.51.100.1' }).source.kind, 'world', 'bounded');
});

t.test('addresses change hands', async (t) => {
  const b = new Bench();
  const to = (e: Partial<FlowEvent> = {}) => b.flow({ remote: '10.0.0.2', ...e }).destination;
  const long = b.clock.mono;
  t.equal(to().pod, 'db-0');
  b.pass(60);
  b.update({ snapshot: snapshot_([WEB]) });
  t.equal(to().pod, 'db-0', 'gone, and its last packets are still on their way');
  b.pass(31);
  t.equal(to().kind, 'world', 'nobody’s by now');
  t.equal(to({ type: 'end', createdNs: long }).pod, 'db-0', 'the end of a flow that it had');

  const cache = pod('data', 'cache', '10.0.0.2');
  b.update({ snapshot: snapshot_([WEB, cache]) });
  t.equal(to().pod, 'cache', 'the new owner');
  t.equal(to({ type: 'end', createdNs: long }).pod, 'db-0', 'the end of a flow of the former one');

  b.update({ snapshot: snapshot_([WEB, { ...cache, labels: { app: 'cache', v: '2' } }]) });
  t.same(to().labels, { app: 'cache', v: '2' }, 'a changed pod is the same owner');
  b.update({ snapshot: snapshot_([WEB, { ...cache, ended: true }]) });
  b.pass(60);
  t.equal(to().kind, 'world', 'a pod that has ended has no address');
  b.update({ snapshot: snapshot_([WEB, { ...cache, hostNetwork: true, ips: ['172.16.0.2'] }]) });
  t.equal(
    b.flow({ remote: '172.16.0.2' }).destination.kind,
    'node',
    'a pod with the node’s address cannot be told from it',
  );
});

t.test('one address, two pods: taking one away brings the other back', async (t) => {
  const b = new Bench(snapshot_([WEB, DB, pod('data', 'twin', '10.0.0.2')]));
  t.equal(b.flow({ remote: '10.0.0.2' }).destination.pod, 'twin');
  b.update({ snapshot: snapshot_([WEB, DB]) });
  t.equal(b.flow({ remote: '10.0.0.2' }).destination.pod, 'db-0');
});

t.test('any sequence of snapshots ends as its last one alone', async (t) => {
  let state = 12345;
  const random = (n: number) => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return state % n;
  };
  const b = new Bench();
  const all = Array.from({ length: 12 }, (_, i) => pod('ns', `p${i}`, `10.1.0.${i % 9}`));
  for (let step = 0; step < 300; step++) {
    const pods = all
      .filter(() => random(3) > 0)
      .map((p) => (random(4) === 0 ? { ...p, ips: [`10.1.0.${random(9)}`], ended: random(5) === 0 } : p));
    const next = snapshot_(pods);
    b.update({ snapshot: next });
    // Now and then nobody asks in between.
    if (random(3) === 0) continue;
    b.pass(60);
    const fresh = new Bench(next);
    fresh.pass((b.clock.mono - fresh.clock.mono) / 1e9);
    for (let i = 0; i < 9; i++) {
      const ip = `10.1.0.${i}`;
      const [got, expected] = [b, fresh].map((x) => x.flow({ remote: ip }).destination);
      const claims = pods.filter((p) => !p.ended && p.ips.includes(ip)).map((p) => p.name);
      if (claims.length > 1 ? !claims.includes(got?.pod as string) : got?.pod !== expected?.pod) {
        t.fail(`step ${step}: ${ip} is ${got?.pod}, not ${expected?.pod}`);
        return;
      }
    }
  }
  t.pass('300 steps');
});

t.test('time of day', async (t) => {
  const b = new Bench();
  t.equal(b.flow({ timeNs: 99e9 }).timeNs, LEAD + BigInt(99e9), 'when it happened, not when it was read');
  const early = b.flow();
  b.pass(2);
  b.clock.wall += 900_000n;
  t.equal(b.flow().timeNs, LEAD + BigInt(102e9), 'the grain of the wall clock does not shift flows');
  b.pass(2);
  b.clock.wall += 60n * SECOND;
  t.equal(b.flow().timeNs, LEAD + BigInt(104e9) + 60n * SECOND + 900_000n, 'a clock that was set does');
  t.equal(early.timeNs, LEAD + BigInt(100e9), 'what is told stays');
  const plain = new Enricher({ nodeName: 'n' });
  const now = plain.enrich(event({ timeNs: Number(process.hrtime.bigint()) })).timeNs;
  t.ok(Math.abs(Number(now / 1_000_000n) - Date.now()) < 1000, 'the clocks of the machine');
});

t.test('uuids', async (t) => {
  const b = new Bench();
  const uuids = Array.from({ length: 1000 }, () => b.flow().uuid);
  t.equal(new Set(uuids).size, 1000);
  t.ok(uuids.every((u) => /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/.test(u)));
  const f = b.flow();
  t.equal(f.uuid, f.uuid);
  t.not(new Bench().flow().uuid.slice(0, 23), f.uuid.slice(0, 23), 'two agents');
});

t.test('before anything is known', async (t) => {
  const f = new Enricher({ nodeName: 'node-a' }).enrich(event({ rule: 5 }));
  t.match(f, { source: { kind: 'world', ip: '10.0.0.1' }, destination: { kind: 'world' }, nodeName: 'node-a' });
  t.equal(f.rule, undefined);
});

t.test('fast enough for a flood: 200,000 events a second', async (t) => {
  const pods = Array.from({ length: 5000 }, (_, i) => pod('ns', `p${i}`, `10.${i >> 8}.${i & 255}.1`));
  const b = new Bench(snapshot_(pods), endpoints([1, 'ns/p1', pods[1]?.uid as string]));
  b.update({ rules: new Map([[4, rule()]]) });
  const hub = new FlowHub({ nodeName: 'node-a' });
  const events = Array.from({ length: 20_000 }, (_, i) =>
    event({
      timeNs: 100e9 + i * 5000,
      rule: 4,
      remote: i % 2 ? `10.${(i >> 8) % 19}.${i & 255}.1` : `192.0.2.${i & 255}`,
    }),
  );
  let best = 0;
  for (let round = 0; round < 10; round++) {
    const started = process.hrtime.bigint();
    for (const e of events) hub.publish(b.enricher.enrich(e));
    best = Math.max(best, (events.length / Number(process.hrtime.bigint() - started)) * 1e9);
  }
  t.ok(best >= 200_000, `${Math.round(best)} events a second`);
});

t.test('the name by which an address was known is at the remote side', async (t) => {
  const b = new Bench();
  const names = (f: Flow) => [f.sourceNames, f.destinationNames];
  t.same(names(b.flow()), [undefined, undefined]);
  t.same(names(b.flow({ name: 5, nameIncarnation: 3 })), [undefined, ['name-5.example']]);
  t.same(names(b.flow({ name: 0, nameIncarnation: 3 })), [undefined, ['name-0.example']]);
  t.same(names(b.flow({ name: 5, nameIncarnation: 3, isReply: true })), [['name-5.example'], undefined]);
  t.same(names(b.flow({ name: 5, nameIncarnation: 3, inbound: true })), [['name-5.example'], undefined]);
  t.same(names(b.flow({ name: 5, nameIncarnation: 4 })), [undefined, undefined], 'it is not known any more');
  t.same(names(b.flow({ remote: '192.0.2.77' })), [undefined, ['a.example', 'b.example']], 'no rule asked for names');
});
