/** What is decided about a destination is remembered for the next flow to it: time is saved by that, and nothing else changes. */
import t from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import type { Pod } from '../../src/identity/snapshot.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import type { Rule } from '../../src/ir/types.js';
import { snapshot } from '../bench/worlds.js';
import { boundIps, Kernel, type World } from './engine.js';
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
const { EA_STATE_NO_CACHE } = ENUMS.ea_state_flags;

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
  flags[1] = EA_STATE_NO_CACHE;
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

t.test('addresses of one class are classified once, whichever is called', async (t) => {
  const net: Rule['peers'] = [{ kind: 'cidr', cidr: '192.0.2.0/24', except: [] }];
  policy('web', { peers: net });
  const all = Array.from({ length: MANY }, (_, i) => `192.0.2.${i + 1}`);
  const costOfAll = () => {
    const before = classified();
    for (const to of all) t.equal(syn(to).verdict, 'allow');
    return classified() - before;
  };
  t.ok(costOfAll() < MANY / 2);
  flags[1] = EA_STATE_NO_CACHE;
  t.equal(costOfAll(), MANY, 'unless a benchmark asks for it');
  flags[1] = 0;
  // The rules change, and then the class of one address.
  for (let i = 0; i < 3; i++) {
    policy('web', { peers: net });
    t.same(
      all.slice(0, 3).map((to) => syn(to).verdict),
      ['allow', 'allow', 'allow'],
    );
    policy('web', { peers: [{ kind: 'cidr', cidr: '192.0.2.0/24', except: [`${PEER}/32`] }] });
    t.same(
      all.slice(0, 3).map((to) => syn(to).verdict),
      ['deny', 'allow', 'allow'],
    );
    policy('web', { peers: net, action: 'deny' }, {});
    t.same(
      [...all.slice(0, 2), '198.51.100.1'].map((to) => syn(to).verdict),
      ['deny', 'deny', 'allow'],
    );
  }
});

t.test('a class that changes while it is remembered, before and after the update is settled', async (t) => {
  const db = (cidr: string) => world({ peers: [{ kind: 'cidr', cidr, except: [] }] });
  policy('web', { peers: [{ kind: 'cidr', cidr: `${DB}/32`, except: [] }] });
  const binding = kernel.binding('default/web');
  const [to, other] = [DB, '10.244.0.3'];
  for (const at of [`${other}/32`, `${to}/32`, '10.244.0.2/31', `${other}/32`]) {
    const expected = [to, other].map((ip) => (at.startsWith(ip) || at.endsWith('/31') ? 'allow' : 'deny'));
    t.same([syn(to), syn(other)].length, 2, 'both are remembered');
    kernel.use(db(at));
    kernel.store.apply(kernel.image, [binding]);
    t.same([syn(to).verdict, syn(other).verdict], expected, 'with the epoch');
    kernel.store.tidy();
    t.same([syn(to).verdict, syn(other).verdict], expected, 'and the last phase');
  }
});

t.test('an IPv6 destination, too', async (t) => {
  const src = boundIps([WEB]).find((ip) => ip.includes(':')) as string;
  const to = '2001:db8::1';
  const first = (ip: string) =>
    kernel.run(frame({ to: ip, protocol: 6, port: 443 }, { src, sport: ++sport, tcpFlags: 2 })).verdict;
  for (let i = 0; i < 3; i++) {
    policy('web', { peers: [{ kind: 'cidr', cidr: `${to}/128`, except: [] }] });
    t.same([first(to), first(to), first('2001:db8::2'), first('::')], ['allow', 'allow', 'deny', 'deny']);
    policy('web', { peers: [{ kind: 'cidr', cidr: '2001:db8::2/128', except: [] }] });
    t.same([first(to), first(to), first('2001:db8::2')], ['deny', 'deny', 'allow']);
  }
});

t.test('what a staged policy would say of a second address is what it says of the first', async (t) => {
  const at = world({ peers: [{ kind: 'cidr', cidr: '192.0.2.0/24', except: [] }] });
  const [tier] = at.ir.tiers;
  const [live] = tier?.policies ?? [];
  if (!tier || !live) throw new Error('no policy');
  const stagedRef = { ...live.ref, name: 'staged' };
  const staged = {
    ...live,
    ref: stagedRef,
    staged: true,
    rules: live.rules.map((r) => ({
      ...r,
      action: 'deny' as const,
      ref: { ...r.ref, policy: stagedRef, staged: true, action: 'deny' as const },
    })),
  };
  kernel.use({ ...at, ir: { tiers: [{ ...tier, policies: [staged, live] }] } });
  kernel.become('default/web');
  const told = Array.from({ length: 5 }, (_, i) => syn(`192.0.2.${i + 1}`).events[0]);
  for (const event of told) {
    t.match(event, { verdict: 'allow', auditVerdict: 'deny', rule: told[0]?.rule, auditRule: told[0]?.auditRule });
    t.not(event?.rule, event?.auditRule);
  }
});

t.test('the backends of a Service are judged once for many connections, and anew when they change', async (t) => {
  policy('web', { peers: [{ kind: 'cidr', cidr: '192.0.2.0/24', except: [] }] });
  const binding = kernel.binding('default/web');
  const at = '10.96.0.10';
  const to = (...ips: string[]) => {
    const backends = ips.map((ip) => ({ ip, port: 8080 }));
    const services = new Map([[`${at}|443|6`, { ip: at, port: 443, protocol: 6, backends, many: false }]]);
    kernel.store.apply({ ...kernel.image, services: ips.length > 0 ? services : new Map() }, [binding]);
    kernel.store.tidy();
  };
  for (let i = 0; i < 3; i++) {
    to('192.0.2.1', '192.0.2.2', '192.0.2.3');
    const before = classified();
    for (let n = 0; n < MANY; n++) t.equal(syn(at).verdict, 'allow');
    t.ok(classified() - before < MANY);
    to('198.51.100.1');
    t.same([syn(at).verdict, syn(at).verdict], ['deny', 'deny']);
    to();
    t.same([syn(at).verdict, syn(at).verdict], ['deny', 'deny'], 'an address like others');
  }
});
