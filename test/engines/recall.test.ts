/** What is decided about a destination is remembered for the next flow to it: time is saved by that, and nothing else changes. */
import t from 'tap';
import type { BpfMap } from '../../agent/libbpf/map.js';
import type { Pod } from '../../src/identity/snapshot.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import type { Rule } from '../../src/ir/types.js';
import { snapshot } from '../bench/worlds.js';
import { Kernel, type World } from './engine.js';
import { frame } from './packets.js';

const WEB = '10.244.0.1';
const DB = '10.244.0.2';
const PEER = '192.0.2.1';
const MANY = 50;

/** Two pods. What they send is denied, but for these. */
function world(...rules: Partial<Rule>[]): World {
  const ref = { dialect: 'test', kind: 'Test', name: 'p' };
  const policy = {
    ref,
    staged: false,
    subject: { namespaces: { names: ['default'] }, pods: { op: 'true' } as const },
    rules: rules.map((r, index): Rule => {
      const action = r.action ?? 'allow';
      return { ref: { policy: ref, index, tier: 't', staged: false, action }, action, peers: null, ports: null, ...r };
    }),
  };
  const one = snapshot();
  const web = one.pods.get('default/web') as Pod;
  const pods = new Map([...one.pods, ['default/db', { ...web, uid: 'd', name: 'db', ips: [DB] }]]);
  return {
    snapshot: { ...one, pods },
    ir: { tiers: [{ name: 't', order: 0, defaultAction: 'deny', policies: [policy] }] },
  };
}

const kernel = new Kernel();
t.teardown(() => kernel.close());
const state = (kernel.programs.maps.state as BpfMap).mmap();
const flags = new Int32Array(state.buffer, state.byteOffset);
const { EA_STATE_AFRESH } = ENUMS.ea_state_flags;

let sport = 1024;
/** A SYN of a new connection. */
const syn = (to: string, src = WEB, port = 443) =>
  kernel.run(frame({ to, protocol: 6, port }, { src, sport: ++sport, tcpFlags: 2 }));

/** How often packets were classified so far. */
function classified(): number {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(ENUMS.ea_counter.EA_COUNT_CLASSIFIED);
  const counters = kernel.programs.maps.counters as BpfMap;
  return counters.lookupPerCpu(key).reduce((n, v) => n + Number(v.readBigUInt64LE(0)), 0);
}

/** As often as this, a SYN to the peer; how often one was classified. */
function cost(times: number): number {
  const before = classified();
  for (let i = 0; i < times; i++) syn(PEER);
  return classified() - before;
}

function policy(pod: string, ...rules: Partial<Rule>[]): void {
  kernel.use(world(...rules));
  kernel.become(`default/${pod}`);
}

t.test('connections to one destination are not classified one by one', async (t) => {
  policy('web', {});
  t.ok(cost(MANY) < MANY);
  flags[1] = EA_STATE_AFRESH;
  t.equal(cost(MANY), MANY, 'unless a benchmark asks for it');
  flags[1] = 0;
});

t.test('each is told of, with verdict and rule, as the first was', async (t) => {
  policy('web', { peers: [{ kind: 'cidr', cidr: `${PEER}/32`, except: [] }] });
  for (const [to, verdict] of [
    [PEER, 'allow'],
    ['192.0.2.2', 'deny'],
  ] as const) {
    const told = Array.from({ length: 5 }, () => syn(to));
    for (const { verdict: got, events } of told) {
      t.equal(got, verdict);
      t.match(events, [{ type: 'verdict', verdict, reason: 'rule', rule: told[0]?.events[0]?.rule }]);
      t.equal(events.length, 1);
    }
  }
});

t.test('another port, another protocol, another destination is another matter', async (t) => {
  policy('web', {
    peers: [{ kind: 'cidr', cidr: `${PEER}/32`, except: [] }],
    ports: [{ protocol: 6, ports: [[443, 443]] }],
  });
  for (let i = 0; i < 3; i++) {
    t.equal(syn(PEER).verdict, 'allow');
    t.equal(syn(PEER, WEB, 444).verdict, 'deny');
    t.equal(syn('192.0.2.3').verdict, 'deny');
    const udp = frame({ to: PEER, protocol: 17, port: 443 }, { src: WEB, sport: ++sport });
    t.equal(kernel.run(udp).verdict, 'deny');
  }
});

t.test('a change of policy is seen by the very next connection', async (t) => {
  for (let i = 0; i < 3; i++) {
    policy('web', {});
    t.equal(syn(PEER).verdict, 'allow');
    t.equal(syn(PEER).verdict, 'allow');
    policy('web');
    t.equal(syn(PEER).verdict, 'deny');
    t.equal(syn(PEER).verdict, 'deny');
  }
});

t.test('a destination that changes its class, too, although the set of rules stays', async (t) => {
  const to = (app: string) => ({
    kind: 'pods' as const,
    namespaces: { names: ['default'] },
    pods: { op: 'in' as const, key: 'app', values: [app] },
  });
  const at = world({ peers: [to('db')] });
  const binding = kernel.binding('default/web');
  const label = (app: string) => {
    const db = { ...(at.snapshot.pods.get('default/db') as Pod), labels: { app } };
    kernel.use({ ...at, snapshot: { ...at.snapshot, pods: new Map([...at.snapshot.pods, ['default/db', db]]) } });
    kernel.store.apply(kernel.image, [binding]);
    kernel.store.tidy();
  };
  for (const app of ['db', 'web', 'db', 'web']) {
    label(app);
    for (let i = 0; i < 3; i++) t.equal(syn(DB).verdict, app === 'db' ? 'allow' : 'deny', app);
  }
});

t.test('a Log rule tells of each connection', async (t) => {
  policy('web', { action: 'log' }, {});
  const before = classified();
  for (let i = 0; i < MANY; i++)
    t.same(
      syn(PEER).events.map((e) => e.type),
      ['log', 'verdict'],
    );
  t.equal(classified() - before, MANY);
});

t.test('pods that share a set are themselves to themselves only', async (t) => {
  policy('web', { peers: [{ kind: 'self' }] });
  const [web, db] = [kernel.binding('default/web'), kernel.binding('default/db')];
  for (let i = 0; i < 3; i++) {
    kernel.store.apply(kernel.image, [web]);
    t.same(
      [WEB, DB].map((to) => syn(to, WEB).verdict),
      ['allow', 'deny'],
    );
    kernel.store.apply(kernel.image, [db]);
    t.same(
      [WEB, DB].map((to) => syn(to, DB).verdict),
      ['deny', 'allow'],
    );
  }
});
