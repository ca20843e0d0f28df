/** Random steps for the fuzzer of flows: policies, Services, packets that begin something, and more of those that go on. */
import {
  ACK,
  type Actor,
  FIN,
  GRE,
  hasPorts,
  ICMP,
  ICMPV6,
  isV6,
  type Memory,
  RST,
  SCTP,
  type Segment,
  type Step,
  SYN,
  TCP,
  turned,
  type Tuple,
  UDP,
  type WorldSpec,
} from './flow-types.js';
import { actorOf, BACKENDS, HOST_PORT, IPS, NODE_PORT, OUTSIDE, PODS, SERVICE_PORTS, VIPS } from './flow-world.js';
import type { Random } from './random.js';

const BLOCKS = [
  ...['10.1.0.0/24', '10.1.0.2/32', '10.0.0.0/8', '2001:db8::/33', '2001:db8::/32', '0.0.0.0/0', '::/0'],
  ...['10.244.0.2/32', '10.244.0.3/32', '10.244.0.0/24', 'fd00::2/128', 'fd00::/64', '10.96.0.0/16'],
];
const PORTS = [53, 80, 443];
const LOCAL = [80, 40000, 40001];
const FLAGS = [
  SYN,
  SYN,
  SYN,
  SYN | ACK,
  SYN | ACK,
  ACK,
  ACK,
  ACK,
  ACK,
  FIN | ACK,
  FIN | ACK,
  RST,
  RST | ACK,
  SYN | FIN,
  0,
];
const OFFSETS = [8, 16, 24, 1480];
const MEMORIES: readonly Memory[] = ['flows', 'flows', 'flows', 'pending', 'pending', 'fragments', 'conntrack'];
const UNREACHABLE = { 4: 3 * 256 + 3, 6: 1 * 256 + 4 } as const;

/** What went before: a packet, and how it ended up. */
export interface Before {
  readonly segment: Segment;
  readonly final: Tuple;
}

function randomRules(r: Random): object[] {
  return Array.from({ length: r.below(4) }, () => {
    const to = r.chance(85) ? { to: [{ ipBlock: { cidr: r.pick(BLOCKS) } }] } : {};
    const port = {
      protocol: r.pick(['TCP', 'TCP', 'UDP', 'UDP', 'SCTP']),
      ...(r.chance(70) ? { port: r.pick(PORTS) } : {}),
    };
    return { ...to, ...(r.chance(55) ? { ports: [port] } : {}) };
  });
}

export function randomWorld(r: Random): WorldSpec {
  const backends = () =>
    Array.from({ length: r.below(4) }, () => r.pick(BACKENDS)).filter((ip, i, all) => all.indexOf(ip) === i);
  return {
    web: randomRules(r),
    ...(r.chance(30) ? { api: randomRules(r) } : {}),
    ...(r.chance(30)
      ? { node: r.some(['10.1.0.0/24', '10.1.0.2/32', '2001:db8::/33', '10.2.0.1/32'], 3).concat('10.3.0.0/16') }
      : {}),
    backends: [backends(), backends()],
    masquerade: { services: r.chance(35), outside: r.chance(35) },
  };
}

/** A part of it is another one. */
function changed(r: Random, world: WorldSpec): WorldSpec {
  const other = randomWorld(r);
  const n = r.below(100);
  if (n < 45) return { ...world, web: other.web };
  if (n < 75) return { ...world, backends: other.backends };
  const { api: _, node: __, ...rest } = world;
  if (n < 88) return { ...rest, ...(world.node ? { node: world.node } : {}), ...(other.api ? { api: other.api } : {}) };
  return { ...rest, ...(world.api ? { api: world.api } : {}), ...(other.node ? { node: other.node } : {}) };
}

export function randomStep(r: Random, before: Before | undefined, world: WorldSpec): Step {
  const n = r.below(1000);
  if (n < 8) return { do: 'world', world: changed(r, world) };
  if (n < 20) return { do: 'forget', what: r.pick(MEMORIES) };
  if (n < 70 && before) {
    const error = randomError(r, before);
    if (error) return { do: 'send', segment: error };
  }
  return { do: 'send', segment: before && r.chance(65) ? onward(r, before) : opening(r) };
}

function destination(r: Random, from: Actor): string {
  if (from === 'out') return r.pick([...IPS.web, ...IPS.web, ...IPS.web, ...IPS.api, ...IPS.node]);
  const n = r.below(100);
  if (n < 35) return r.pick(VIPS.flat());
  if (n < 70) return r.pick(OUTSIDE);
  if (n < 85) return r.pick(PODS.filter((p) => p !== from).flatMap((p) => IPS[p]));
  return r.pick(from === 'node' ? IPS.web : IPS.node);
}

function opening(r: Random): Segment {
  const from = r.pick<Actor>(['web', 'web', 'web', 'web', 'web', 'api', 'db', 'node', 'out', 'out']);
  const to = destination(r, from);
  const v6 = isV6(to);
  const same = (ips: readonly string[]) => ips.filter((ip) => isV6(ip) === v6);
  const own = r.pick(same(from === 'out' ? OUTSIDE : IPS[from]));
  const spoofed = from !== 'out' && from !== 'node' && r.chance(3);
  const src = spoofed ? r.pick(same([...OUTSIDE, ...IPS.web, ...IPS.api, ...IPS.node])) : own;
  const base = { from, src, to, pick: r.below(6) };
  const vip = VIPS.flat().some((ip) => ip === to);
  const protocol = r.pick([TCP, TCP, TCP, TCP, TCP, UDP, UDP, UDP, SCTP, GRE, ICMP, ICMP]);
  if (protocol === GRE) return { ...base, protocol, sport: 0, dport: 0 };
  if (protocol === ICMP) {
    const type = r.chance(60) ? (v6 ? 128 : 8) : v6 ? 129 : 0;
    return { ...base, protocol: v6 ? ICMPV6 : ICMP, sport: r.pick(LOCAL), dport: type * 256 };
  }
  const service = SERVICE_PORTS.find((p) => p.protocol === protocol)?.port ?? 80;
  const mapped = IPS.node.includes(to) && r.chance(60) ? r.pick([NODE_PORT, HOST_PORT]) : r.pick(PORTS);
  // A client's port in one direction is a server's in the other: what is allowed must not become what answers.
  const [sport, dport] =
    from === 'out' ? [r.pick(PORTS), r.pick(LOCAL)] : [r.pick(LOCAL), vip && r.chance(85) ? service : mapped];
  return { ...base, protocol, sport, dport, ...state(r, protocol), ...pieces(r) };
}

function state(r: Random, protocol: number): Partial<Segment> {
  if (protocol === TCP) return { flags: r.pick(FLAGS) };
  return protocol === SCTP ? { init: r.chance(50) } : {};
}

function pieces(r: Random): Partial<Segment> {
  return r.chance(15) ? { fragment: { id: 1 + r.below(4), offset: r.chance(45) ? 0 : r.pick(OFFSETS) } } : {};
}

/** Who gets it answers, or who sent it sends more. */
function onward(r: Random, { segment, final }: Before): Segment {
  const receiver = actorOf(final.to);
  const back = r.chance(50) && receiver !== undefined;
  const { from, protocol } = segment;
  const tuple = back ? turned(final) : segment;
  const { src, sport, to, dport } = tuple;
  const base = { from: back ? receiver : from, src, to, protocol, pick: r.below(6) };
  if (protocol === ICMP || protocol === ICMPV6) {
    const [asks, answers] = protocol === ICMP ? [8 * 256, 0] : [128 * 256, 129 * 256];
    const id = back ? final.sport : sport;
    return { ...base, sport: id, dport: (final.dport === asks) === back ? answers : asks };
  }
  return { ...base, sport, dport, ...(hasPorts(protocol) ? { ...state(r, protocol), ...pieces(r) } : {}) };
}

/** The receiver sends an error about it; seldom to somebody else than its sender. */
function randomError(r: Random, { segment, final }: Before): Segment | undefined {
  const from = actorOf(final.to);
  if (from === undefined || from === 'node' || segment.about || final.src === final.to) return undefined;
  const family = isV6(final.to) ? 6 : 4;
  const to = r.chance(85)
    ? final.src
    : r.pick([...OUTSIDE, ...IPS.api, ...IPS.db].filter((ip) => isV6(ip) === (family === 6)));
  const spoofed = r.chance(6) && from !== 'out';
  const src = spoofed ? r.pick(OUTSIDE.filter((ip) => isV6(ip) === (family === 6))) : final.to;
  const protocol = family === 4 ? ICMP : ICMPV6;
  return { from, src, to, protocol, sport: 0, dport: UNREACHABLE[family], about: final, pick: 0 };
}
