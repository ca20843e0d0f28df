/**
 * Torn: packets are judged on both CPUs while the maps go from one set of policies to another and back, thousands of
 * times. Each verdict, and the rule it names, must be one of the two that the sets give.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { KernelMapStore } from '../../agent/maps/store.js';
import { Compiler } from '../../src/compile/index.js';
import { simulate } from '../../src/image/simulate.js';
import type { Image } from '../../src/image/types.js';
import type { Packet, Verdict } from '../../src/ir/packet.js';
import { senderOf } from '../../src/ir/sender.js';
import { parseAddr } from '../../src/net/addr.js';
import { loadForTest, localPods, type World } from '../engines/engine.js';
import { Random } from '../fuzz/random.js';
import { randomPacket, randomWorld } from '../fuzz/worlds.js';
import { cProgram, eachLine, Hammer, repeatLine } from './hammer.js';
import { parseArgs, Progress, type Report } from './report.js';
import { pairs as traps } from './torn-pairs.js';

const PACKETS = 48;
const REPEAT = 500;
const FLIPS_A_PAIR = 400;
/** Of the loopback device, in whose name BPF_PROG_TEST_RUN sends. */
const IFINDEX = 1;

export interface Pair {
  name: string;
  worlds: readonly [World, World];
  packets: readonly Packet[];
}

export interface Torn {
  flips: number;
  packets: number;
  told: number;
  complaints: string[];
}

/** Flips between two worlds while packets are judged. All packets are those of one pod. */
export async function hammerPair(binary: string, pair: Pair, flips: number): Promise<Torn> {
  const from = pair.packets[0]?.from ?? '';
  const programs = loadForTest();
  const store = new KernelMapStore(programs.maps);
  try {
    const compiler = new Compiler();
    const images = pair.worlds.map((w) => compiler.compile(w.ir, w.snapshot, localPods(w.snapshot)));
    const ips = senderOf((pair.worlds[0] as World).snapshot, from)?.ips ?? [];
    const ends = { uid: from, ifindex: IFINDEX, ifname: 'lo', id: 7, mac: '', l3: false } as const;
    const bindings = [{ ...ends, key: from, ips, kind: 'pod' as const }];
    store.apply(images[0] as Image, bindings);
    store.tidy();
    const { each, repeat } = lines(pair.packets, images, ips);
    const hammers = [
      await Hammer.start(binary, 1, programs, [...each, ...repeat], true),
      await Hammer.start(binary, 0, programs, repeat.length > 0 ? repeat : each, false),
    ];
    const when = new Random(flips);
    for (let i = 1; i <= flips; i++) {
      store.apply(images[i % 2] as Image, bindings);
      // The next one comes when this one has settled, or while it is about to, or several come at once.
      const settled = store.tidyLater();
      const pause = when.below(4);
      if (pause === 0) await settled;
      else if (pause === 1) await sleep(when.below(30));
      else await new Promise((resolve) => setImmediate(resolve));
    }
    await store.tidyLater();
    const ended = await Promise.all(hammers.map((h) => h.stop()));
    const differences = store.verify(false).map((d) => `a map differs afterwards: ${d}`);
    return {
      flips,
      packets: ended.reduce((n, e) => n + e.packets, 0),
      told: ended.reduce((n, e) => n + e.told, 0),
      complaints: [...ended.flatMap((e) => e.complaints), ...differences].map((c) => `${pair.name}: ${c}`),
    };
  } finally {
    store.close();
    programs.close();
  }
}

function lines(packets: readonly Packet[], images: readonly Image[], ips: readonly string[]) {
  const each: string[] = [];
  const repeat: string[] = [];
  const seen = new Set<string>();
  for (const [n, packet] of packets.entries()) {
    const name = `${packet.to} ${packet.protocol} ${packet.port} ${packet.fragment}`;
    const src = ips.find((ip) => parseAddr(ip).family === parseAddr(packet.to).family);
    if (src === undefined || seen.has(name)) continue;
    seen.add(name);
    const may = images.map((image): Verdict => simulate(image, packet, ips));
    // A Service that comes or goes together with a change of policy is left to the post-DNAT check for a moment.
    const entries = images.map((i) => i.services.get(`${packet.to}|${packet.port}|${packet.protocol}`));
    if (entries.some((e) => e === undefined) && entries.some((e) => e !== undefined))
      may.push({ verdict: 'partial', rule: 0, logged: [] });
    const one = eachLine(packet, src, may);
    if (one !== undefined) each.push(one);
    const many = repeatLine(packet, src, 30000 + n, may, REPEAT);
    if (many !== undefined) repeat.push(many);
  }
  return { each, repeat };
}

/** Two random sets of policies for one random cluster, and packets of the pod that most policies select. */
export function randomPair(seed: number): Pair {
  const r = new Random(seed);
  for (;;) {
    const [a, b] = [randomWorld(r), randomWorld(r)];
    const { snapshot } = a;
    const from = [...snapshot.pods.keys()].find((key) => !snapshot.pods.get(key)?.hostNetwork);
    if (from === undefined) continue;
    const packets = Array.from({ length: PACKETS }, () => ({ ...randomPacket(r, snapshot), from }));
    return { name: `seed ${seed}`, worlds: [a, { snapshot, ir: b.ir }], packets: packets.filter(isFlow) };
  }
}

/** Errors belong to other flows. */
function isFlow({ protocol, port }: Packet): boolean {
  return !(protocol === 1 && port >> 8 !== 8) && !(protocol === 58 && port >> 8 !== 128);
}

/** `--count`: flips in all; by turns between worlds that are traps, and random ones. */
export async function prove(args: readonly string[]): Promise<Report> {
  const { count, seed } = parseArgs(args, { count: 20_000 });
  const binary = await cProgram('hammer');
  const violations: string[] = [];
  let [flips, packets, told, pairs] = [0, 0, 0, 0];
  const progress = new Progress();
  while (flips < count) {
    const trap = traps[pairs % (2 * traps.length)];
    const pair = trap?.() ?? randomPair(seed + pairs);
    const torn = await hammerPair(binary, pair, Math.min(FLIPS_A_PAIR, Math.ceil(count / 10), count - flips));
    pairs++;
    flips += torn.flips;
    packets += torn.packets;
    told += torn.told;
    violations.push(...torn.complaints);
    progress.tell(`${flips} flips of ${count}, ${packets} packets, ${violations.length} wrong`);
  }
  return {
    figures: `torn: ${pairs} pairs of policies from seed ${seed}, ${flips} flips, ${packets} packets, ${told} events compared, ${violations.length} wrong`,
    violations,
  };
}
