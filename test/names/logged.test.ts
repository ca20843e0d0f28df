/** Log rules that ask for names: each is told of once for each flow and query. */
import t from 'tap';
import { DnsServers } from '../../agent/maps/tables/dns-servers.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { PLAIN_IDS } from '../../src/ids.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Action, Ir, Rule } from '../../src/ir/types.js';
import { Evaluate, Kernel, loadForTest, Simulate } from '../engines/engine.js';
import { pod, snapshotOf } from '../policy/world.js';
import { TcpBed, withLength } from './bed.js';
import { encodeMessage, TYPES, udpFrame } from './wire.js';

const [WEB, POD, SERVER, PEER] = ['default/web', '10.1.0.1', '10.1.0.53', '192.0.2.1'];
const snapshot = snapshotOf(pod(WEB, POD, { app: 'web' }));
const kernel = new Kernel(loadForTest({ flows: 8192, events: 1 << 20, names: 1024, name_pages: 1024 }), PLAIN_IDS);
t.teardown(() => kernel.close());
new DnsServers(kernel.programs.maps as Record<string, BpfMap>).set([{ ip: SERVER, port: 53 }]);

type Body = Partial<Pick<Rule, 'peers' | 'ports' | 'queries'>> & { action: Action };

function irOf(...bodies: readonly Body[]): Ir {
  const policy = { dialect: 'test', kind: 'Test', name: 'p' };
  const rules = bodies.map(
    ({ action, peers = null, ports = null, ...body }, index): Rule => ({
      ...body,
      action,
      peers,
      ports,
      ref: { policy, index, tier: 't', staged: false, action },
    }),
  );
  const subject = { namespaces: { names: ['default'] }, pods: { op: 'true' as const } };
  const policies = [{ ref: policy, subject, rules, staged: false }];
  return { tiers: [{ name: 't', order: 1, defaultAction: 'deny', policies }] };
}

const net: Peer = { kind: 'cidr', cidr: '192.0.2.0/24', except: [] };
const named: Peer = { kind: 'names', patterns: ['**.example'] };
const dns = [{ protocol: 17 }, { protocol: 6 }];
const query = (name: string, id = 1) => encodeMessage({ id, flags: 0x0100, questions: [{ name, type: TYPES.A }] });
let port = 2000;

/** How many events of each type a packet causes. */
function told(frame: Buffer): string[] {
  return kernel.run(frame).events.map((e) => e.type);
}

t.test('a rule with blocks and names', async (t) => {
  const learned = new Map([[WEB, new Map([[PEER, [{ name: 'a.example' }]]])]]);
  const world = { ir: irOf({ action: 'log', peers: [net, named] }, { action: 'allow' }), snapshot, learned };
  const engines = [new Evaluate(), new Simulate(), kernel];
  for (const protocol of [6, 17]) {
    const packet = { from: WEB, to: PEER, protocol, port: 80 };
    const verdicts = engines.map((engine) => {
      engine.use(world);
      return engine.judge(packet);
    });
    t.equal(verdicts[0]?.logged.length, 1);
    for (const verdict of verdicts) t.same(verdict, verdicts[0]);
  }
  kernel.use({ ...world, ir: irOf({ action: 'log', peers: [net, named] }, { action: 'log' }, { action: 'allow' }) });
  kernel.become(WEB);
  t.equal(kernel.judge({ from: WEB, to: PEER, protocol: 6, port: 80 }).logged.length, 2, 'two rules are two');
});

t.test('rules about queries', async (t) => {
  kernel.use({
    ir: irOf(
      { action: 'log', ports: dns },
      { action: 'log', queries: ['**.log'] },
      { action: 'allow', queries: ['**.ok', '**.log'] },
    ),
    snapshot,
  });
  kernel.become(WEB);
  const e = { src: POD, sport: ++port, dst: SERVER, dport: 53 };
  t.same(told(udpFrame(e, query('a.ok'))), ['log', 'verdict']);
  t.same(told(udpFrame(e, query('b.log'))), ['log', 'log'], 'each query');
  t.same(told(udpFrame({ ...e, sport: ++port }, query('b.log'))), ['log', 'log', 'verdict']);
  t.same(told(udpFrame({ ...e, sport: ++port }, query('b.bad'))), ['log', 'drop']);

  const c = new TcpBed(kernel, { src: POD, sport: ++port, dst: SERVER, dport: 53 });
  t.same(c.told, ['log', 'log', 'verdict'], 'a connection that may ask for either');
  const one = withLength(query('a.ok'));
  t.ok(c.segment('fromPod', 0, one));
  t.same(c.told.splice(0), ['log', 'log', 'verdict', 'log']);
  t.ok(c.segment('fromPod', 0, Buffer.alloc(0)));
  t.same(c.told, [], 'what asks for nothing');
});

t.test('where no query decides', async (t) => {
  kernel.use({
    ir: irOf({ action: 'log' }, { action: 'allow', ports: [{ protocol: 132 }], queries: ['a'] }, { action: 'allow' }),
    snapshot,
  });
  kernel.become(WEB);
  const e = { src: POD, sport: ++port, dst: PEER, dport: 80 };
  t.same(told(udpFrame(e, Buffer.alloc(8))), ['log', 'verdict']);
  t.same(told(udpFrame(e, Buffer.alloc(8))), [], 'the next packets of the flow');
});
