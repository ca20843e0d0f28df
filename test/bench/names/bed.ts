/** A node with pods, and behind it a resolver as they are: unbound, which has asked an authority for what it is asked. */
import { join } from 'node:path';
import { Agent } from '../../netns/agent.js';
import { cnpNames } from '../../netns/policies.js';
import { Resolver } from '../../netns/resolver.js';
import { compiled, run } from '../../netns/shell.js';
import { type Pod, servers, World } from '../../netns/world.js';
import { PINNED } from '../versus/bed.js';

export const ASK = join(compiled, 'bench-ask');
const AUTHORITY = servers.two.ip4;
export const RESOLVER = '203.0.113.53';
/** Names with an address each: n0.one.test, …; and, as content networks have them, with an alias and eight addresses. */
export const ZONES = { one: 'one.test', cdn: 'cdn.test' } as const;
const TTL = 86_400;

function zone(names: number): string[] {
  const ip = (n: number) => `198.51.${100 + (n >> 8)}.${n & 255}`;
  return Array.from({ length: names }, (_, n) => [
    `n${n}.${ZONES.one}. ${TTL} IN A ${ip(n)}`,
    `n${n}.${ZONES.cdn}. ${TTL} IN CNAME e${n}.edge.test.`,
    ...Array.from({ length: 8 }, (_, i) => `e${n}.edge.test. ${TTL} IN A 198.18.${n & 255}.${i}`),
  ]).flat();
}

/** The resolver, and so many pods. */
export class NameBed {
  private constructor(
    readonly world: World,
    readonly pods: readonly Pod[],
  ) {}

  /** @param names of each zone */
  static async create(pods: number, names: number): Promise<NameBed> {
    const world = await World.create();
    try {
      await world.internet.ip([`addr add ${RESOLVER}/32 dev lo`]);
      await Resolver.authority(world, [AUTHORITY], zone(names));
      const unbound = await Resolver.forwarder(world, 'unbound', [RESOLVER], AUTHORITY);
      // As the client: see PINNED.
      await run('taskset', ['-apc', PINNED.at(-1) as string, String(unbound.pid)]);
      const made: Pod[] = [];
      for (let i = 0; i < pods; i++) made.push(await world.pod(`web-${i}`, { labels: { app: 'web' } }));
      return new NameBed(world, made);
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  /** An agent whose policy lets the pods ask for everything, and talk to the names. */
  async filter(args: readonly string[] = []): Promise<Agent> {
    this.world.write('names.yaml', [
      cnpNames(
        'web',
        'web',
        Object.values(ZONES).map((z) => `*.${z}`),
        [RESOLVER],
      ),
    ]);
    const own = ['--dns-servers', RESOLVER, '--name-seed', 'off'];
    return Agent.start(this.world, { args: [...own, ...args], follow: false });
  }

  /** Has a pod ask for n0, n1, …; @returns how many were answered. @param rate a second; 0: as fast as they are answered */
  async ask(pod: number, where: keyof typeof ZONES, names: number, rate = 0, count = names): Promise<number> {
    const seconds = rate === 0 ? 30 : count / rate + 5;
    const args = ['count', RESOLVER, '53', String(seconds), String(rate), ZONES[where], String(names), String(count)];
    const { stdout } = await (this.pods[pod] as Pod).host.run('timeout', ['120', ...PINNED, ASK, ...args]);
    return Number(stdout);
  }

  close(): Promise<void> {
    return this.world.close();
  }
}
