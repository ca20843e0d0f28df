/** A neighbour beside a flood: what it has going on meanwhile, and what is said of it afterwards. */
import type { Field } from '../netns/flood.js';
import { Caller, type Idle, Neighbour, neighbourRule } from '../netns/neighbour.js';
import { egressPolicy } from '../netns/policies.js';
import { until } from '../netns/shell.js';
import { type Pod, servers } from '../netns/world.js';
import type { At } from './at.js';
import { type Bed, STANDARD } from './bed.js';
import { SYN, tcp, udp } from './craft.js';

/** Where fields are in a frame without tags, options and extension headers: bytes from its beginning. */
export const AT4 = {
  id: 18,
  sum: 24,
  src: 26,
  dst: 30,
  sport: 34,
  dport: 36,
  udpSum: 40,
  tcpSum: 50,
  icmpSum: 36,
} as const;
export const AT6 = { sport: 54, dport: 56, udpSum: 60 } as const;
/** Ports that a flood takes. */
export const PORTS = { first: 1024, many: 60_000 } as const;
/** What the node remembers of all pods: flows, and connections that were opened to them and answered. */
const FLOWS = 262_144;
const ANSWERED = 131_072;
/** So many times that, and twice as much in the whole proof. */
export const manyFlows = (at: At, times = 1.2): number => Math.ceil(FLOWS * times * (at.short ? 1 : 2));
export const manyAnswered = (at: At, times = 1.2): number => Math.ceil(ANSWERED * times * (at.short ? 1 : 2));
/** A field that no flow is told by: each packet is sent twice, for what was asked for again is not the first to go. */
export const TWICE = {
  4: { at: 18, first: 1, many: 2, sums: [24] },
  6: { at: 16, first: 1, many: 2 },
} as const;
/** Until the end of a flow is told of, with a flood's events before it. */
const TOLD_MS = 10_000;

const NEIGHBOUR = 'neighbour';
let made = 0;
const callers = new WeakMap<Bed, Caller>();

/** In force during floods. */
export const BESIDE: readonly object[] = [
  ...STANDARD,
  egressPolicy(NEIGHBOUR, NEIGHBOUR, [neighbourRule(servers.one.ip4)]),
];

/** A pod of the node that is governed as neighbours are; gone after the attack. */
export async function neighbourPod(at: At): Promise<Pod> {
  const { world, agent } = at.bed;
  const name = `${NEIGHBOUR}-${++made}`;
  const pod = await world.pod(name, { labels: { app: NEIGHBOUR } });
  at.after(async () => {
    await world.removePod(pod);
    await at.bed.agent.settled();
  });
  await agent.settled();
  await agent.enforced(`default/${name}`);
  return pod;
}

/**
 * Floods while a neighbour lives on.
 * @param then what else is asked when it is over and flows are told of again
 */
export async function beside(
  at: At,
  flood: (neighbour: Pod) => Promise<unknown>,
  then: (neighbour: Pod) => Promise<unknown> = async () => undefined,
): Promise<void> {
  const { bed } = at;
  const pod = await neighbourPod(at);
  const caller = callers.get(bed) ?? (await Caller.create(bed.world.internet, servers.one.ip4));
  callers.set(bed, caller);
  const { agent } = bed;
  agent.ignore = (flow) => flow.local.pod !== `default/${pod.name}`;
  at.after(async () => {
    agent.ignore = () => false;
  });
  const neighbour = await Neighbour.create(pod, caller);
  await agent.unheard(() => flood(pod));
  await then(pod);
  const { wrong } = await neighbour.check();
  for (const line of wrong) at.wrong(line);
  await neighbour.close();
  for (const idle of neighbour.idle) {
    const packets = await remembered(bed, pod, idle);
    if (packets < 2 * idle.words)
      at.wrong(`${pod.name}: an idle ${idle.what} TCP connection was forgotten: its end tells of ${packets} packets`);
  }
  await at.send([at.frame(at.address('one'), udp(at.port(), 53, at.control('a datagram', 'wire')))]);
}

/** Packets both ways that the end of a connection tells of; 0: it is never told of. */
async function remembered(bed: Bed, pod: Pod, { localPort, remotePort }: Idle): Promise<number> {
  const end = () =>
    bed.agent.flows.find(
      ({ type, local, remote }) =>
        type === 'end' && local.pod === `default/${pod.name}` && local.port === localPort && remote.port === remotePort,
    );
  const told = await until('the end of a connection is told of', end, TOLD_MS).catch(() => undefined);
  return told ? told.packetsIn + told.packetsOut : 0;
}

/** Datagrams and openings of connections to a Service, from all ports, each twice. IPv4. */
export function servicePackets(at: At, service: string): { frame: Buffer; fields: Field[] }[] {
  const vip = at.address(service);
  const ports = (sum: number) => [TWICE[4], { at: AT4.sport, ...PORTS, sums: [sum] }];
  return [
    { frame: at.frame(vip, udp(1, 80, Buffer.alloc(8))), fields: ports(AT4.udpSum) },
    { frame: at.frame(vip, tcp(1, 80, Buffer.alloc(0), { flags: SYN })), fields: ports(AT4.tcpSum) },
  ];
}

/** The kernel's connection tracking, which is all pods', forgets at once what got no answer: it is not what is attacked. */
export async function forgetfulTracking(at: At): Promise<void> {
  const { node } = at.bed.world;
  const names = [
    'udp_timeout',
    'udp_timeout_stream',
    'tcp_timeout_syn_sent',
    'tcp_timeout_syn_recv',
    'tcp_timeout_close',
  ];
  const paths = names.map((name) => `net.netfilter.nf_conntrack_${name}`);
  const before = (await node.run('sysctl', ['-n', ...paths])).stdout.trim().split('\n');
  await node.run('sysctl', ['-qw', ...paths.map((path) => `${path}=1`)]);
  at.after(() => node.run('sysctl', ['-qw', ...paths.map((path, i) => `${path}=${before[i]}`)]));
}
