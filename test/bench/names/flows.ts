/** Packets to addresses that the pod learned against packets to networks of a rule, by BPF_PROG_TEST_RUN. */
import type { BpfMap } from '../../../agent/kernel/libbpf/map.js';
import type { LearnedName } from '../../../src/ir/packet.js';
import { Kernel, loadForTest, type World } from '../../engines/engine.js';
import { frame } from '../../engines/packets.js';
import { leastOf, passes, quiet, tenths, timeOf } from '../packet.js';
import { atMost, progress, type Result } from '../result.js';
import { cidr, POD_IP } from '../worlds.js';
import { listed, NAME, named, PORT } from './worlds.js';

const PATTERNS = 1000;
/** Policies that so many patterns are in, and as many without names. */
const POLICIES = 11;
const SPREAD = 64;
const REPEAT = 20_000;
/** No rule allows it. */
const DENIED_PORT = 7;
const TCP = 6;
const [SYN, ACK] = [2, 16];
const KNOWN_MOST = 1.03;
const FIRST_MOST = 1.2;

const ips = Array.from({ length: SPREAD }, (_, n) => cidr(n).slice(0, -3));

/** A kernel with the pod in it, for which these addresses are learned, or listed. */
function kernelOf(kind: 'named' | 'listed', afresh: boolean): Kernel {
  const kernel = new Kernel(loadForTest({ flows: 8192, events: 1 << 20, names: 1024, name_pages: 2048 }));
  quiet(kernel.programs.maps.state as BpfMap, afresh);
  const learned = new Map<string, LearnedName[]>(ips.map((ip) => [ip, [{ name: NAME }]]));
  const world: World =
    kind === 'named' ? { ...named(PATTERNS), learned: new Map([['default/web', learned]]) } : listed(ips, POLICIES);
  kernel.use(world);
  kernel.become('default/web');
  return kernel;
}

/** A packet of a flow that was judged. */
export function known(kind: 'named' | 'listed'): { passes: () => boolean; time: () => number; close: () => void } {
  const kernel = kernelOf(kind, false);
  const packet = (tcpFlags: number) =>
    frame({ to: ips[0] as string, protocol: TCP, port: PORT }, { src: POD_IP, sport: 4000, tcpFlags });
  const { fromPod, toPod } = kernel.programs.programs;
  if (kernel.run(packet(SYN)).verdict !== 'allow') throw new Error(`${kind}: the flow is denied`);
  const answer = frame(
    { to: POD_IP, protocol: TCP, port: 4000 },
    { src: ips[0] as string, sport: PORT, tcpFlags: ACK },
  );
  passes(toPod, answer);
  return {
    passes: () => passes(fromPod, packet(ACK)),
    time: () => timeOf(fromPod, packet(ACK)),
    close: () => kernel.close(),
  };
}

/**
 * A first packet over and over, as firstPacketTime(): against the direction of a connection that a peer opened, to a port that no rule
 * allows. Each is classified anew, and so are the names of its address.
 */
export function first(kind: 'named' | 'listed'): { time: (repeat?: number) => number; close: () => void } {
  const kernel = kernelOf(kind, true);
  const frames = ips.map((to, i) => {
    const sport = 5000 + i;
    const open = frame({ to: POD_IP, protocol: TCP, port: sport }, { src: to, sport: DENIED_PORT, tcpFlags: SYN });
    kernel.run(open, 'toPod');
    const bytes = frame({ to, protocol: TCP, port: DENIED_PORT }, { src: POD_IP, sport, tcpFlags: SYN });
    for (let n = 0; n < 2; n++)
      if (kernel.run(bytes).verdict !== 'deny') throw new Error(`${kind}: a first packet that was to be denied passes`);
    return bytes;
  });
  const { fromPod } = kernel.programs.programs;
  return {
    time: (repeat = REPEAT) => frames.reduce((sum, f) => sum + timeOf(fromPod, f, repeat), 0) / frames.length,
    close: () => kernel.close(),
  };
}

export async function flows(): Promise<Result[]> {
  const [knownFlows, firstPackets] = [
    [known('named'), known('listed')],
    [first('named'), first('listed')],
  ];
  const measured = [...knownFlows.map((k) => k.time), ...firstPackets.map((f) => () => f.time())];
  try {
    const [a = Number.NaN, b = Number.NaN, c = Number.NaN, d = Number.NaN] = leastOf(measured);
    const texts = [
      `${tenths(a)} ns against ${tenths(b)} ns of a flow under networks alone`,
      `${Math.round(c)} ns against ${Math.round(d)} ns to a network of a rule, each classified anew`,
    ] as const;
    progress(`known flow to a learned address: ${texts[0]}`);
    progress(`first packet to a learned address: ${texts[1]}`);
    return [
      atMost('packet of a known flow to a learned address', a / b, 'x', texts[0], KNOWN_MOST),
      atMost('first packet to a learned address', c / d, 'x', texts[1], FIRST_MOST),
    ];
  } finally {
    for (const one of [...knownFlows, ...firstPackets]) one.close();
  }
}
