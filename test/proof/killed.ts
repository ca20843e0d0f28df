/**
 * Killed anywhere: the agent gets SIGKILL at random moments, start-up included, while policies change and pods talk;
 * now and then it comes back without its key.
 * What is always allowed is never dropped, what is always denied never passes, and after each start the maps are what
 * the manifests say, with nothing left over.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Random } from '../fuzz/random.js';
import { cidr } from '../bench/worlds.js';
import { egressPolicy, toHosts, toServer } from '../netns/policies.js';
import type { Connection, Host, Load } from '../netns/host.js';
import { type Pod, servers, World } from '../netns/world.js';
import { AgentProcess } from './agent-process.js';
import { leftOver } from './left-over.js';
import { parseArgs, Progress, type Report } from './report.js';

const CIDRS = 10_000;
/** Seconds. A busy machine may need them: that nothing was dropped is counted, not timed. */
const PATIENCE = 10;
const HURRY = 0.03;
/** Percent of the kills after which the key is gone. */
const LOST = 25;
/** Percent of the kills that come before the agent says that it is ready. */
const EARLY = 35;
/** Milliseconds from being ready within which the others come. */
const READY_MS = 250;

/** Policies of the pod `flip`: both allow server one, both deny server two, each by rules and blocks of its own. */
function flipPolicy(b: boolean): object {
  const list = Array.from({ length: CIDRS }, (_, n) => cidr((b ? CIDRS / 2 : 0) + n).slice(0, -3));
  const own = b
    ? { to: [{ ipBlock: { cidr: '203.0.113.8/29', except: ['203.0.113.12/32'] } }], ports: portsUpTo(b ? 443 : 80) }
    : toServer('one');
  return egressPolicy('flip', 'flip', [toHosts(list, b ? 'tcp/443' : 'tcp/80'), own]);
}

function portsUpTo(last: number): object[] {
  return [
    { protocol: 'TCP', port: 1, endPort: last },
    { protocol: 'UDP', port: 1, endPort: last },
  ];
}

/** Changes what is on disk, from one to the other and back, until stopped. */
class Changer {
  #running = true;
  #done: Promise<void>;
  changes = 0;
  constructor(
    private readonly world: World,
    private readonly random: Random,
  ) {
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    while (this.#running) {
      const b = ++this.changes % 2 === 1;
      if (this.random.chance(40)) this.world.write('flip.yaml', [flipPolicy(b)]);
      else
        this.world.write('noise.yaml', [
          egressPolicy('noise', 'noise', [toHosts([`198.51.100.${this.changes % 250}`])]),
        ]);
      await sleep(this.random.below(25));
    }
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#done;
  }
}

/** Long-lived connections: each must answer as long as the test lasts. */
class Talk {
  readonly problems: string[] = [];
  said = 0;
  #running = true;
  #done: Promise<void>;
  constructor(
    private readonly name: string,
    private readonly connection: Connection,
  ) {
    this.#done = this.#run();
  }
  async #run(): Promise<void> {
    while (this.#running) {
      const reply = await this.connection.say('on', PATIENCE).catch((e: Error) => ({ result: e.message }));
      this.said++;
      if (reply.result !== 'ok') {
        this.problems.push(`${this.name}: an open connection ended: ${reply.result}`);
        return;
      }
      await sleep(20);
    }
  }
  async stop(): Promise<void> {
    this.#running = false;
    await this.#done;
  }
}

/** Packets that a namespace sent to an address, or heard from it, by rules that only count. */
class Counter {
  constructor(
    readonly host: Host,
    readonly chain: 'INPUT' | 'OUTPUT',
    readonly source: string,
    readonly destination: string,
  ) {}

  async begin(): Promise<this> {
    await this.host.run('iptables', [
      '-w',
      '-A',
      this.chain,
      '-s',
      this.source,
      '-d',
      this.destination,
      '-j',
      'ACCEPT',
    ]);
    return this;
  }

  async packets(): Promise<number> {
    const { stdout } = await this.host.run('iptables', ['-w', '-nvxL', this.chain]);
    const words = stdout.split('\n').map((l) => l.trim().split(/\s+/));
    return Number(words.find((w) => w.at(7) === this.source && w.at(8) === this.destination)?.[0] ?? -1);
  }
}

/** All that a pod and a server send each other: what leaves the one must arrive at the other. */
async function bothWays(world: World, pod: Pod): Promise<{ name: string; sent: Counter; heard: Counter }[]> {
  const { internet } = world;
  const [p, s] = [pod.ip4, servers.one.ip4];
  const make = (host: Host, chain: 'INPUT' | 'OUTPUT', from: string, to: string) =>
    new Counter(host, chain, from, to).begin();
  return [
    {
      name: `${pod.name} → one`,
      sent: await make(pod.host, 'OUTPUT', p, s),
      heard: await make(internet, 'INPUT', p, s),
    },
    {
      name: `one → ${pod.name}`,
      sent: await make(internet, 'OUTPUT', s, p),
      heard: await make(pod.host, 'INPUT', s, p),
    },
  ];
}

export interface KilledOptions {
  count: number;
  seed: number;
}

export async function killed({ count, seed }: KilledOptions): Promise<Report> {
  const random = new Random(seed);
  const violations: string[] = [];
  const world = await World.create();
  try {
    const [web, locked, free, flip] = [
      await world.pod('web'),
      await world.pod('locked'),
      await world.pod('free'),
      await world.pod('flip'),
    ];
    for (const which of ['one', 'two'] as const) {
      for (const proto of ['tcp', 'udp'] as const) await world.internet.listen(servers[which].ip4, 80, proto, which);
    }
    world.write('fixed.yaml', [egressPolicy('web', 'web', [toServer('one')]), egressPolicy('locked', 'locked', [])]);
    world.write('flip.yaml', [flipPolicy(false)]);
    let agent = await AgentProcess.start(world);
    const began = performance.now();
    await agent.ready();
    const startMs = Math.ceil(performance.now() - began);
    const refused = await Promise.all(
      [web, locked, flip].map((p) => new Counter(world.internet, 'INPUT', p.ip4, servers.two.ip4).begin()),
    );
    const counted = (await Promise.all([web, flip, free].map((pod) => bothWays(world, pod)))).flat();

    const loads: { name: string; expect: 'ok' | 'timeout'; load: Load }[] = [];
    for (const [pod, where, expect] of [
      [web, 'one', 'ok'],
      [flip, 'one', 'ok'],
      [free, 'one', 'ok'],
      [web, 'two', 'timeout'],
      [flip, 'two', 'timeout'],
      [locked, 'two', 'timeout'],
    ] as const) {
      for (const proto of ['tcp', 'udp'] as const) {
        const timeout = expect === 'ok' ? PATIENCE : HURRY;
        const load = await pod.host.load(servers[where].ip4, 80, {
          proto,
          timeout,
          pause: expect === 'ok' ? 0.01 : 0.02,
        });
        loads.push({ name: `${pod.name} → ${where}/${proto}`, expect, load });
      }
    }
    const talks: Talk[] = [];
    for (const pod of [web, flip, free]) talks.push(new Talk(pod.name, await pod.host.open(servers.one.ip4, 80)));
    let early = 0;
    let verified = 0;
    let packets = 0;
    let changes = 0;
    const sizes: string[] = [];
    let kills = 0;
    let enough = false;
    const progress = new Progress();
    // Who has no more time is told what was found so far.
    process.once('SIGINT', () => {
      enough = true;
    });
    for (let kill = 1; kill <= count && !enough; kill++) {
      const changer = new Changer(world, random);
      if (random.chance(EARLY)) {
        early++;
        await sleep(random.below(startMs));
      } else {
        await agent.ready();
        await sleep(random.below(READY_MS));
      }
      if (!agent.running) violations.push(`kill ${kill}: the agent had ended by itself: ${agent.log.slice(-500)}`);
      await agent.kill();
      kills++;
      progress.tell(`${kills} kills of ${count}, ${violations.length} wrong`);
      await changer.stop();
      changes += changer.changes;
      // What stands in the maps outlives the key that it was named with.
      if (random.chance(LOST)) rmSync(join(world.dir, 'run/ids.key'), { force: true });
      agent = await AgentProcess.start(world);
      // Most starts are looked at in peace; some are killed on their way.
      if (kill % 3 === 0 && kill !== count) continue;
      await agent.settled();
      const { differences, size } = await leftOver(world);
      violations.push(...differences.map((d) => `after kill ${kill}: ${d}`));
      sizes.push(size);
      verified++;
    }
    for (const talk of talks) await talk.stop();
    violations.push(...talks.flatMap((t) => t.problems));
    let [passed, denied] = [0, 0];
    for (const { name, expect, load } of loads) {
      const results = await load.stop();
      if (expect === 'ok') passed += results.ok ?? 0;
      else denied += results.timeout ?? 0;
      if (Object.keys(results).some((r) => r !== expect && r !== 'timeout'))
        violations.push(`${name}: ${JSON.stringify(results)}`);
    }
    // What is still under way arrives.
    await sleep(500);
    for (const { name, sent, heard } of counted) {
      const [out, arrived] = [await sent.packets(), await heard.packets()];
      if (out !== arrived || out <= 0) violations.push(`${name}: ${out} packets sent, ${arrived} arrived`);
      packets += arrived;
    }
    for (const counter of refused) {
      const n = await counter.packets();
      if (n !== 0) violations.push(`${n} packets of ${counter.source} reached server two`);
    }
    await agent.kill();
    const said = talks.reduce((n, t) => n + t.said, 0);
    const grown = new Set(sizes.map((s) => s.replace(/destinations=\d+/, '')));
    return {
      figures: `killed: ${kills} times from seed ${seed} (${early} before ready), ${changes} changes, ${packets} packets of ${passed} requests and 3 open connections (${said} answers) arrived, ${denied} requests denied, ${verified} starts verified, sizes ${[...grown].join(' or ')}, ${violations.length} wrong`,
      violations,
    };
  } finally {
    await world.close();
  }
}

/** `--count`: kills. */
export async function prove(args: readonly string[]): Promise<Report> {
  return killed(parseArgs(args, { count: 200 }));
}
