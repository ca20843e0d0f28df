/** DNS queries a second against no filter at all, by turns with a bed that nobody filters. */
import { atLeast, median, progress, type Result } from '../result.js';
import { PINNED } from '../versus/bed.js';
import { ASK, NameBed, RESOLVER, ZONES } from './bed.js';

const NAMES = 200;
const ROUNDS = 3;
const ROUND_S = 4;
const SLICE_MS = 20;
const LEAST = 0.95;

interface Asked {
  readonly name: string;
  readonly zone: keyof typeof ZONES;
  /** Each query comes from a socket of its own: a flow's first packet. */
  readonly fresh: boolean;
}

const ASKED: readonly Asked[] = [
  { name: 'DNS queries', zone: 'one', fresh: false },
  { name: 'DNS queries, an alias and 8 addresses in each answer', zone: 'cdn', fresh: false },
  { name: 'DNS queries, each from another port', zone: 'one', fresh: true },
];

/** Answers a second in both, pair by pair. */
export async function turns(filtered: NameBed, bare: NameBed, { zone, fresh }: Asked, seconds: number) {
  const namespaces = [filtered, bare].map((bed) => `/run/netns/${bed.pods[0]?.host.netns}`);
  const [pod] = filtered.pods;
  const args = ['turns', RESOLVER, '53', String(seconds), ...namespaces, String(SLICE_MS), ZONES[zone], String(NAMES)];
  const command = [...PINNED, ASK, ...args, fresh ? '1' : '0'];
  const { stdout } = (await pod?.host.run('timeout', ['60', ...command])) ?? { stdout: '' };
  return stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' ').map(Number) as [number, number]);
}

/** @param effort rounds, and seconds of each */
export async function queries(effort = { rounds: ROUNDS, seconds: ROUND_S }): Promise<Result[]> {
  const bare = await NameBed.create(1, NAMES);
  try {
    const filtered = await NameBed.create(1, NAMES);
    try {
      const agent = await filtered.filter();
      for (const bed of [bare, filtered])
        for (const zone of ['one', 'cdn'] as const)
          if ((await bed.ask(0, zone, NAMES)) !== NAMES) throw new Error(`not all names of ${zone} are answered`);
      const pairs = new Map(ASKED.map((asked) => [asked, [] as [number, number][]]));
      for (let round = 1; round <= effort.rounds; round++)
        for (const [asked, all] of pairs) {
          const some = await turns(filtered, bare, asked, effort.seconds);
          all.push(...some);
          progress(`round ${round}, ${asked.name}: ${median(some.map(([a, b]) => a / b)).toFixed(3)} of no filter`);
        }
      await agent.stop();
      await agent.detach();
      return ASKED.map((asked) => {
        const all = pairs.get(asked) ?? [];
        const [ours, none] = [0, 1].map((k) => Math.round(median(all.map((pair) => pair[k] as number))));
        const text = `${ours}/s against ${none}/s of unbound, 8 queries in flight; ${all.length} pairs`;
        return atLeast(`${asked.name}, against no filter`, median(all.map(([a, b]) => a / b)), 'x', text, LEAST);
      });
    } finally {
      await filtered.close();
    }
  } finally {
    await bare.close();
  }
}
