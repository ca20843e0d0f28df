/**
 * One pod makes two million flows, in each way that it can alone, while twenty others keep connections that peers opened to them
 * and that they opened, idle and busy, and open new ones. Real packets; the neighbours' own sockets are asked.
 */
import { Agent } from '../netns/agent.js';
import { flood as send } from '../netns/flood.js';
import { Caller, Neighbour, neighbourRule } from '../netns/neighbour.js';
import { egressPolicy, toServer } from '../netns/policies.js';
import { type Pod, servers, World } from '../netns/world.js';
import { AT4, PORTS } from '../attacks/flood-bed.js';
import { eth, IPV4, ip, udp } from '../attacks/craft.js';
import { atMost, progress, type Result } from './result.js';

const NEIGHBOURS = 20;
/** Of each neighbour: inbound and outbound, idle TCP, UDP, busy TCP, and the new ones. */
const KINDS = 7;
const DENIED = 1_000_000;
const ALLOWED = 800_000;
/** Each asked and answered. */
const WITH_ITSELF = 200_000;
const STEP = 20_000;

export async function flood(): Promise<Result[]> {
  const world = await World.create();
  try {
    const bad = await world.pod('bad');
    const pods: Pod[] = [];
    for (let i = 0; i < NEIGHBOURS; i++) pods.push(await world.pod(`n${i}`, { labels: { app: 'neighbour' } }));
    world.write('policies.yaml', [
      egressPolicy('bad', 'bad', [toServer('one')]),
      egressPolicy('neighbour', 'neighbour', [neighbourRule(servers.one.ip4)]),
    ]);
    // Its events are not read here: a reader is one process too many.
    await Agent.start(world, { follow: false });
    const caller = await Caller.create(world.internet, servers.one.ip4);
    const neighbours: Neighbour[] = [];
    for (const pod of pods) neighbours.push(await Neighbour.create(pod, caller));
    const began = performance.now();
    const sent = await everyWay(world, bad);
    const seconds = (performance.now() - began) / 1000;
    const checks = await Promise.all(neighbours.map((n) => n.check()));
    const wrong = checks.flatMap((c) => c.wrong);
    for (const line of wrong.slice(0, 20)) progress(line);
    const slowest = Math.max(...checks.map((c) => c.slowest));
    const what = `${sent} packets in ${seconds.toFixed(0)} s; ${NEIGHBOURS} pods with ${KINDS} connections each; the slowest answer after ${Math.round(slowest * 1000)} ms`;
    return [atMost('flood of 2 M tuples: connections of others cut, or judged late', wrong.length, '', what, 0)];
  } finally {
    await world.close();
  }
}

/** @returns packets sent */
async function everyWay(world: World, bad: Pod): Promise<number> {
  const { macSource, macDestination } = await world.macs(bad);
  const frame = (dst: string) => {
    const packet = ip({ src: bad.ip4, dst }, udp(1, 1, Buffer.alloc(8)));
    return eth({ src: macSource, dst: macDestination }, IPV4, packet);
  };
  let sent = 0;
  const out = async (to: string, fields: Parameters<typeof send>[2], count: number) => {
    sent += (await send(bad.host.netns, frame(to), fields, { count })).sent;
  };
  const sums = [AT4.udpSum];
  const ports = [
    { at: AT4.sport, ...PORTS, sums },
    { at: AT4.dport, first: 20_000, many: 1000, sums },
  ];
  // Twice each: what was asked for again is not the first to go.
  await out(servers.two.ip4, [{ at: AT4.id, many: 2, sums: [AT4.sum] }, ...ports], 2 * DENIED);
  for (let n = 0; n < WITH_ITSELF; n += STEP) {
    const first = PORTS.first + (n % PORTS.many);
    const there = 62_000 + Math.floor(n / PORTS.many);
    for (const [asks, asked] of [
      [AT4.sport, AT4.dport],
      [AT4.dport, AT4.sport],
    ] as const)
      await out(
        bad.ip4,
        [
          { at: asks, first, many: STEP, sums },
          { at: asked, first: there, many: 1, sums },
        ],
        STEP,
      );
  }
  await out(servers.one.ip4, ports, ALLOWED);
  return sent;
}
