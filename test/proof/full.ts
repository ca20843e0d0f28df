/**
 * Full: every map filled to its limit and beyond; what bpf/maps.h promises of each holds, and the status names it. And a
 * flood of SYNs from one pod costs another no connection.
 */
import type { AgentError } from '../../src/errors.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { join } from 'node:path';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { cidr } from '../bench/worlds.js';
import { Kernel, loadForTest, type World as Policies } from '../engines/engine.js';
import { frame } from '../engines/packets.js';
import { egressPolicy, toHosts, toServer } from '../netns/policies.js';
import { until } from '../netns/shell.js';
import { servers, World } from '../netns/world.js';
import { AgentProcess } from './agent-process.js';
import { parseArgs, type Report } from './report.js';
import { toIr } from '../../src/dialects/index.js';
import { pod, policy, snapshotOf } from '../policy/world.js';

const POD = '10.244.0.1';
const [SYN, ACK] = [2, 16];
const SMALL = { flows: 4096, drop_notes: 64, events: 1 << 16 };

type Say = (problem: string) => void;

/** Egress of one pod: so many rules, each with so many blocks. And what it takes to fill each map with them. */
function policies(rules: number, blocks: number, six = false): Policies {
  const egress = Array.from({ length: rules }, (_, r) => ({
    to: Array.from({ length: blocks }, (_, b) => ({
      ipBlock: { cidr: six ? `2001:db8:${r.toString(16)}:${b.toString(16)}::/64` : cidr(r * blocks + b) },
    })),
    ports: [{ protocol: 'TCP', port: 1000 + r }],
  }));
  egress.push({ to: [{ ipBlock: { cidr: '192.0.2.0/24' } }], ports: [{ protocol: 'TCP', port: 443 }] });
  const text = pod('default/web', [POD, 'fd00::1'], { app: 'web' });
  const snapshot = snapshotOf(text + policy('default/p', { podSelector: {}, policyTypes: ['Egress'], egress }));
  return { snapshot, ir: toIr(snapshot).ir };
}

function withServices(count: number): Policies {
  const base = policies(1, 1);
  const ports = [{ protocol: 6, port: 80, backends: [{ ip: '192.0.2.1', port: 80 }] }];
  const services = Array.from({ length: count }, (_, n) => {
    const name = `s${n}`;
    return [
      `default/${name}`,
      { namespace: 'default', name, labels: {}, vips: [`10.96.${n >> 8}.${n & 255}`], ports },
    ] as const;
  });
  return { ...base, snapshot: { ...base.snapshot, services: new Map(services) } };
}

/** Map → a size, and policies that do not fit into it. */
const TOO_LARGE: readonly (readonly [map: string, size: number, policies: () => Policies])[] = [
  ['destinations4', 100, () => policies(2, 100)],
  ['destinations6', 100, () => policies(2, 100, true)],
  ['class_rules', 40, () => policies(60, 1)],
  ['class_rules_large', 600, () => policies(700, 1)],
  ['port_rules', 40, () => policies(60, 1)],
  ['port_rules_large', 600, () => policies(700, 1)],
  ['rules', 40, () => policies(60, 1)],
  ['services', 40, () => withServices(60)],
];

/** Updates that do not fit are refused before their first write; the last policy stays, and a smaller one goes in again. */
function policyMaps(say: Say): number {
  for (const [map, size, large] of TOO_LARGE) {
    const kernel = new Kernel(loadForTest({ ...SMALL, [map]: size }));
    const say1 = (what: string) => say(`${map} full: ${what}`);
    try {
      const use = (world: Policies) => {
        kernel.use(world);
        kernel.store.apply(kernel.image, [binding]);
        kernel.store.tidy();
      };
      kernel.use(policies(1, 1));
      const binding = kernel.binding('default/web');
      use(policies(1, 1));
      const { epoch } = kernel.store;
      let error: AgentError | undefined;
      try {
        use(large());
      } catch (e) {
        error = e as AgentError;
      }
      if (error?.code !== 'TOO_LARGE' || !error.message.includes(`map ${map} `)) say1(`not refused: ${error?.message}`);
      if (!error?.hint?.includes(`--map-size ${map}=`)) say1(`no word of what to do: ${error?.hint}`);
      if (kernel.store.epoch !== epoch) say1('the epoch changed');
      say1s(kernel.store.verify(false), say1);
      for (const [port, expected] of [
        [443, 'allow'],
        [444, 'deny'],
      ] as const) {
        const { verdict } = kernel.run(frame({ to: '192.0.2.1', protocol: 6, port }, { src: POD, sport: 5000 }));
        if (verdict !== expected) say1(`port ${port}: ${verdict}`);
      }
      use(policies(2, 1));
      say1s(kernel.store.verify(false), say1);
    } catch (e) {
      say1(String(e));
    } finally {
      kernel.close();
    }
  }
  return TOO_LARGE.length;
}

function say1s(lines: readonly string[], say: Say): void {
  for (const line of lines) say(line);
}

/** Endpoints whose slot is taken, and sources of endpoints with many addresses: refused before the first write. */
function endpointMaps(say: Say): number {
  const kernel = new Kernel(loadForTest({ ...SMALL, endpoints_more: 2, sources: 8 }));
  try {
    kernel.use(policies(1, 1));
    kernel.become('default/web');
    const one = kernel.binding('default/web');
    const more = (n: number) => ({ ...one, key: `default/m${n}`, uid: `m${n}`, ifindex: 1 + n * 65536, id: 100 + n });
    const many = (n: number) => ({ ...more(n), ifindex: 10 + n, ips: [1, 2, 3, 4, 5].map((i) => `10.1.${n}.${i}`) });
    for (const [map, bindings] of [
      ['endpoints_more', [one, more(1), more(2), more(3)]],
      ['sources', [one, many(1), many(2)]],
    ] as const) {
      let error: AgentError | undefined;
      const { epoch } = kernel.store;
      const before = kernel.image;
      kernel.use(policies(3, 1));
      try {
        kernel.store.apply(kernel.image, bindings);
      } catch (e) {
        error = e as AgentError;
      }
      if (error?.code !== 'TOO_LARGE' || !error.message.includes(map)) say(`${map} full: ${error?.message}`);
      if (kernel.store.epoch !== epoch) say(`${map} full: refused after its first write`);
      say1s(kernel.store.verify(false), (what) => say(`${map} full, as before: ${what}`));
      kernel.store.apply(before, [one]);
      kernel.store.tidy();
      say1s(kernel.store.verify(false), (what) => say(`${map} full: ${what}`));
    }
  } catch (e) {
    say(`endpoints: ${String(e)}`);
  } finally {
    kernel.close();
  }
  return 2;
}

/** Tables that forget: what they forget is judged again, told again, or still remembered elsewhere. */
function tables(say: Say): number {
  const kernel = new Kernel(loadForTest(SMALL));
  try {
    kernel.use(policies(1, 1));
    kernel.become('default/web');
    const tcp = (port: number, sport: number, tcpFlags: number) =>
      kernel.run(frame({ to: '192.0.2.1', protocol: 6, port }, { src: POD, sport, tcpFlags }));
    const inbound = (sport: number, tcpFlags: number) =>
      kernel.run(frame({ to: POD, protocol: 6, port: 80 }, { src: '198.51.100.7', sport, tcpFlags }), 'toPod');
    const reply = (port: number, tcpFlags: number) =>
      kernel.run(frame({ to: '198.51.100.7', protocol: 6, port }, { src: POD, sport: 80, tcpFlags }));
    tcp(443, 5000, SYN);
    tcp(444, 5001, SYN);
    inbound(6000, SYN);
    reply(6000, SYN | ACK);
    inbound(6000, ACK);
    // Flows of denied and allowed ports, and connections opened to the pod that never go on.
    for (let n = 0; n < 3 * SMALL.flows; n++) {
      tcp(n % 2 === 0 ? 443 : 444, 10_000 + n, SYN);
      inbound(7000 + n, SYN);
      reply(7000 + n, SYN | ACK);
    }
    if (tcp(443, 5000, ACK).verdict !== 'allow') say('flows full: an open connection was cut');
    if (tcp(444, 5001, ACK).verdict !== 'deny') say('flows full: a denied connection passes');
    if (reply(6000, ACK).verdict !== 'allow')
      say('flows full: a flood pushed out a connection that was opened to the pod');
    const FRAGMENTS = 2 * SMALL.flows;
    // First fragments of many datagrams; the last ones are followed, the forgotten ones judged without ports.
    const fragment = (id: number, port: number, first: boolean) =>
      kernel.run(
        frame(
          { to: '192.0.2.1', protocol: 17, port },
          { src: POD, sport: 9000, fragment: { id, offset: first ? 0 : 1480, more: first } },
        ),
      ).verdict;
    for (let id = 1; id <= FRAGMENTS; id++) fragment(id, 9, true);
    for (const id of [1, FRAGMENTS]) if (fragment(id, 9, false) !== 'deny') say(`fragments full: ${id} passes`);
    return 3;
  } catch (e) {
    say(`tables: ${String(e)}`);
    return 0;
  } finally {
    kernel.close();
  }
}

/** What does not fit into the ring is counted, to the last event. */
function ring(say: Say): number {
  const programs = loadForTest({ ...SMALL, events: 4096, flows: 65536 });
  const kernel = new Kernel(programs);
  try {
    kernel.use(policies(1, 1));
    kernel.become('default/web');
    const flows = 5000;
    const frames = Array.from({ length: flows }, (_, n) =>
      frame({ to: '192.0.2.1', protocol: 6, port: 443 }, { src: POD, sport: 1024 + n, tcpFlags: SYN }),
    );
    const ctx = Buffer.alloc(192);
    ctx.writeUInt32LE(1, 40);
    for (const f of frames) programs.programs.fromPod.testRun(f, { ctx });
    const key = Buffer.alloc(4);
    const counter = (n: number) => {
      key.writeUInt32LE(n);
      return (programs.maps.counters as BpfMap)
        .lookupPerCpu(key)
        .reduce((sum, v) => sum + Number(v.readBigUInt64LE(0)), 0);
    };
    const [told, lost] = [counter(1), counter(2)];
    if (told + lost !== flows || lost === 0) say(`events full: ${told} told and ${lost} lost of ${flows}`);
    return 1;
  } catch (e) {
    say(`ring: ${String(e)}`);
    return 0;
  } finally {
    kernel.close();
  }
}

/** An agent whose map is too small says so, names it, and goes on with what it had. */
async function status(world: World, agent: AgentProcess, say: Say): Promise<void> {
  const pod = await world.pod('stale');
  world.write('stale.yaml', [egressPolicy('stale', 'stale', [toServer('one')])]);
  await agent.settled();
  const list = Array.from({ length: 500 }, (_, n) => cidr(n).slice(0, -3));
  world.write('stale.yaml', [egressPolicy('stale', 'stale', [toServer('two'), toHosts(list)])]);
  const client = new AgentClient(join(world.dir, 'run/agent.sock'));
  try {
    const found = await until('the agent says what does not fit', async () => {
      const s = await client.status();
      return s.problems?.some((p) => p.text?.includes('map destinations4 holds 300 entries')) ? s : undefined;
    });
    if (found.failing_since) say(`status: one set that does not fit holds all back: ${found.last_error}`);
    if (!found.problems?.some((p) => p.text?.includes('np/default/stale'))) say('status: does not say whose set it is');
    const fill = found.maps?.find((m) => m.name === 'destinations4');
    if (Number(fill?.max) !== 300) say(`status: destinations4 has room for ${fill?.max}`);
    if ((await pod.host.request(servers.one.ip4, 80)).result !== 'ok') say('stale: what was allowed is cut');
    if ((await pod.host.request(servers.two.ip4, 80, { timeout: 0.3 })).result !== 'timeout')
      say('stale: half a policy');
  } finally {
    client.close();
  }
  world.write('stale.yaml', [egressPolicy('stale', 'stale', [toServer('two')])]);
  await agent.settled();
  if ((await pod.host.request(servers.two.ip4, 80)).result !== 'ok') say('stale: what fits is not applied again');
}

/** SYNs from random ports, past the pod's own kernel, while another pod talks. */
async function flood(world: World, count: number, say: Say): Promise<string> {
  const [bad, good] = [await world.pod('bad'), await world.pod('good')];
  world.write('flood.yaml', [
    egressPolicy('good', 'good', [toServer('one')]),
    egressPolicy('bad', 'bad', [toServer('one')]),
  ]);
  await until(
    'the pods are known',
    async () => (await bad.host.request(servers.two.ip4, 80, { timeout: 0.1 })).result === 'timeout',
  );
  await until(
    'the pods are known',
    async () => (await good.host.request(servers.two.ip4, 80, { timeout: 0.1 })).result === 'timeout',
  );
  const open = await good.host.open(servers.one.ip4, 80);
  await good.host.listen('0.0.0.0', 8080, 'tcp', 'good');
  const inbound = await world.internet.open(good.ip4, 8080);
  const answered = await inbound.say('before');
  if (answered.result !== 'ok') say('flood: not even before it');
  const load = await good.host.load(servers.one.ip4, 80, { timeout: 10 });
  const macs = await world.macs(bad);
  const ethernet = Buffer.from(`${macs.macDestination}${macs.macSource}`.replaceAll(':', ''), 'hex');
  let sent = 0;
  while (sent < count) {
    const frames = Array.from({ length: 5000 }, () => {
      const n = sent++;
      const to = n % 2 === 0 ? servers.one.ip4 : servers.two.ip4;
      const f = frame({ to, protocol: 6, port: 81 + (n >> 16) }, { src: bad.ip4, sport: n & 0xffff, tcpFlags: SYN });
      ethernet.copy(f, 0);
      return f.toString('hex');
    });
    await bad.host.call('frames', { frames });
  }
  for (const [name, reply] of [
    ['an open connection', await open.say('after', 10)],
    ['a connection opened to the pod', await inbound.say('after', 10)],
  ] as const)
    if (reply.result !== 'ok') say(`flood: ${name}: ${reply.result}`);
  const results = await load.stop();
  if (Object.keys(results).join() !== 'ok') say(`flood: ${JSON.stringify(results)}`);
  return `${sent} SYNs beside ${results.ok} connections`;
}

/** @param count SYNs of the flood */
export async function full(count: number): Promise<Report> {
  const violations: string[] = [];
  const say = (problem: string) => violations.push(problem);
  const maps = policyMaps(say) + endpointMaps(say) + tables(say) + ring(say);
  const world = await World.create();
  try {
    for (const which of ['one', 'two'] as const) await world.internet.listen(servers[which].ip4, 80, 'tcp', which);
    const sizes = ['destinations4=300', 'flows=8192'].flatMap((s) => ['--map-size', s]);
    const agent = await AgentProcess.start(world, sizes);
    await agent.ready();
    await status(world, agent, say);
    const flooded = await flood(world, count, say);
    return { figures: `full: ${maps} maps filled, ${flooded}, ${violations.length} wrong`, violations };
  } finally {
    await world.close();
  }
}

/** `--count`: SYNs of the flood. */
export async function prove(args: readonly string[]): Promise<Report> {
  return full(parseArgs(args, { count: 300_000 }).count);
}
