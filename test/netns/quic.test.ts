/**
 * QUIC under an agent that comes, dies and comes back, by IPv4 and IPv6: a browser's connections to a real server, and
 * datagrams by hand, also those that the kernel cuts (UDP_SEGMENT). What arrives is the judge.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { QUIET } from '../said/live/browser.js';
import { type Certificates, makeCertificates } from '../said/live/certificates.js';
import { type Arrived, caddy } from '../said/live/servers.js';
import { encodeHello, makeHello, serverName } from '../said/make.js';
import { Agent } from './agent.js';
import { root, until } from './shell.js';
import { type Pod, servers, World } from './world.js';

const FRONT = { 4: '203.0.113.30', 6: '2001:db8:100::30' } as const;
const SINK = { 4: servers.two.ip4, 6: servers.two.ip6 } as const;
const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
const [GOOD, EVIL] = ['www.good.test', 'www.evil.test'] as const;
/** A page that asks for something else again and again. */
const PAGE = `<script>let n = 0; setInterval(() => fetch('/tick/' + ++n).catch(() => 0), 100)</script>`;
/** How long a browser may take on a slow machine. */
const BROWSER_MS = 60_000;
/** Of ticks, before a connection counts as one that goes on. */
const SOME = 8;

const policy = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name: 'names', namespace: 'default' },
  spec: {
    endpointSelector: { matchLabels: { app: 'web' } },
    egress: [
      {
        toCIDR: ['203.0.113.0/24', '2001:db8:100::/64'],
        toPorts: [{ ports: [{ port: '443', protocol: 'ANY' }], serverNames: ['*.good.test'] }],
      },
    ],
  },
};

/** A hello of this name in so many datagrams. */
function said(name: string, parts = 1): Buffer[] {
  const hello = makeHello({ extensions: [serverName(name), [21, Buffer.alloc(700 * parts)]] });
  const size = Math.ceil(hello.length / parts);
  const cuts = Array.from({ length: parts }, (_, i) => [[i * size, Math.min((i + 1) * size, hello.length)]] as const);
  return encodeHello(hello, randomBytes(8), cuts);
}
/** A datagram of a connection that is open, and one of the size of those with a hello. */
const short = (size = 100): Buffer => Buffer.concat([Buffer.from([0x40]), randomBytes(size - 1)]);
const HELLO_BYTES = 1200;

function start(netns: string, command: readonly string[], world: World): ChildProcess {
  const child = spawn('nsenter', [`--net=/run/netns/${netns}`, ...command], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: { ...process.env, HOME: world.dir },
    detached: true,
  });
  world.onClose(async () => end(child));
  return child;
}
/** With all that it started. */
function end(child: ChildProcess): void {
  if (child.exitCode === null && child.signalCode === null && child.pid) process.kill(-child.pid, 'SIGKILL');
}

/** A program whose lines are kept. */
class Talker {
  readonly lines: string[] = [];
  readonly child: ChildProcess;

  private constructor(netns: string, args: readonly string[], world: World) {
    this.child = start(netns, ['python3', join(root, 'test/netns/quic.py'), ...args], world);
    let rest = '';
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() as string;
      this.lines.push(...lines);
    });
  }

  static async start(netns: string, args: readonly string[], world: World): Promise<Talker> {
    const talker = new Talker(netns, args, world);
    await until(`${args[0]} runs`, () => talker.lines.length > 0);
    return talker;
  }

  async say(line: string): Promise<string> {
    const n = this.lines.length;
    this.child.stdin?.write(`${line}\n`);
    await until('it is sent', () => this.lines.length > n);
    return this.lines[n] as string;
  }
}

/** A socket of the pod's, and what of it comes to the sink. */
class Socket {
  private constructor(
    readonly talker: Talker,
    readonly sink: Talker,
    readonly port: string,
  ) {}

  static async open(world: World, pod: Pod, family: Family, sink: Talker): Promise<Socket> {
    const talker = await Talker.start(pod.host.netns, ['client', SINK[family]], world);
    return new Socket(talker, sink, (talker.lines[0] as string).split(' ')[1] as string);
  }

  /** Sends them one by one, or in one piece that the kernel cuts. @returns which arrive, by number */
  async arriving(datagrams: readonly Buffer[], cut = false): Promise<number[]> {
    const from = this.sink.lines.length;
    const hex = datagrams.map((one) => one.toString('hex'));
    const lines = cut ? [`${datagrams[0]?.length} ${hex.join('')}`] : hex;
    for (const line of lines) {
      const answer = await this.talker.say(line);
      if (answer !== 'sent') throw new Error(answer);
    }
    await sleep(150);
    const arrived = this.sink.lines.slice(from).filter((line) => line.startsWith(`${this.port} `));
    return arrived.map((line) => hex.indexOf(line.split(' ')[1] as string));
  }
}

t.setTimeout(300_000);
t.test('QUIC', { timeout: 300_000 }, async (t) => {
  const world = await World.create({ tracked: true });
  t.teardown(() => world.close());
  await world.internet.ip([`addr add ${FRONT[4]}/32 dev lo`, `addr add ${FRONT[6]}/128 dev lo`]);
  const pod = await world.pod('web', { labels: { app: 'web' } });
  world.write('policy.yaml', [policy]);
  const c = await makeCertificates(world.dir, [GOOD, EVIL]);
  const server = await caddy(world, Object.values(FRONT), c, { '/page': PAGE });
  const sinks = {
    4: await Talker.start(world.internet.netns, ['sink', SINK[4]], world),
    6: await Talker.start(world.internet.netns, ['sink', SINK[6]], world),
  };
  const socket = (family: Family) => Socket.open(world, pod, family, sinks[family]);
  const ticks = async () => (await server.arrived()).filter(({ url }) => url?.startsWith('/tick/'));
  /** Waits until so many requests came. @returns the ports that they came from, once each */
  const ticking = async (host: string): Promise<number[]> => {
    const found: Arrived[] = [];
    await until(
      `${host} asks`,
      async () => {
        found.push(...(await ticks()).filter((one) => one.host === host));
        return found.length >= SOME && found.every(({ version }) => version === '3.0');
      },
      BROWSER_MS,
    );
    return [...new Set(found.map(({ port }) => port as number))];
  };
  let agent = await Agent.start(world);

  for (const family of FAMILIES) {
    await t.test(`datagrams, IPv${family}`, async (t) => {
      const good = await socket(family);
      const [hello] = said('a.good.test') as [Buffer];
      t.same(await good.arriving([short(), hello, short(), hello]), [1, 2, 1], 'nothing before the hello');
      const parts = said('a.good.test', 3);
      t.same(
        await (await socket(family)).arriving([parts[0] as Buffer, short(), ...parts.slice(1), short()]),
        [0, 2, 3, 4],
      );
      const [evil] = said('a.evil.test') as [Buffer];
      t.same(await (await socket(family)).arriving([evil, short(), evil]), []);
      t.same(await good.arriving([evil, short()]), [], 'another name on an open flow');
    });

    await t.test(`datagrams that the kernel cuts, IPv${family}`, async (t) => {
      const data = () => short(HELLO_BYTES);
      const wire = await pod.host.sniff();
      const [good, evil] = [said('a.good.test', 3), said('a.evil.test', 3)];
      const open = await socket(family);
      t.same(await open.arriving(good, true), [0, 1, 2], 'a hello');
      t.same(await open.arriving([data(), data(), short(77)], true), [0, 1, 2], 'what follows it');
      t.same(
        await (await socket(family)).arriving([...said('b.good.test'), data(), short(9)], true),
        [0, 1, 2],
        'both',
      );
      t.same(await (await socket(family)).arriving(evil, true), [], 'another name');
      t.same(await (await socket(family)).arriving([data(), ...said('a.good.test')], true), [], 'data before it');
      t.same(await (await socket(family)).arriving([...good, ...said('a.evil.test')], true), [], 'another one behind');
      t.same(await open.arriving([data(), ...said('a.evil.test')], true), [], 'behind data of an open flow');
      const half = await socket(family);
      const other = said('a.evil.test', 3);
      t.same(await half.arriving(other.slice(0, 2), true), [0, 1], 'parts name nobody');
      t.same(await half.arriving([other[2] as Buffer, data()], true), [], 'and the last one ends it');
      const large = (await wire.frames()).filter(
        (line) => line.startsWith('out ') && line.length / 2 > 2 * HELLO_BYTES,
      );
      t.ok(large.length >= 8, `${large.length} packets were not cut before they were judged`);
      await wire.close();
    });

    await t.test(`a browser, IPv${family}`, async (t) => {
      await server.arrived();
      const bad = open(world, pod, c, family, EVIL);
      const good = open(world, pod, c, family, GOOD);
      const ports = await ticking(GOOD);
      t.equal(ports.length, 1, 'one connection');
      // It stops trying after a while.
      await agent.flow(
        ({ type, verdict, remote }) => type === 'said' && verdict === 'deny' && remote.ip === FRONT[family],
      );
      const waiting = await socket(family);
      const [first, last] = said('a.good.test', 2) as [Buffer, Buffer];
      const other = await socket(family);
      const [part, rest] = said('a.evil.test', 2) as [Buffer, Buffer];
      const judged = await socket(family);
      t.same(await judged.arriving(said('a.good.test')), [0]);
      for (const one of [waiting, other])
        t.same(await one.arriving([one === waiting ? first : part, short()]), [0], 'it has not said its name');

      await agent.kill();
      t.same(await ticking(GOOD), ports, 'it goes on without an agent');
      t.same(await judged.arriving([short(), short()]), [0, 1]);
      t.same(await waiting.arriving([short()]), [], 'what waits stays closed');
      t.same(await (await socket(family)).arriving([...said('a.evil.test'), short()]), [], 'others are judged');
      t.same(await (await socket(family)).arriving([...said('a.good.test'), short()]), [0, 1]);

      agent = await Agent.start(world);
      t.same(await ticking(GOOD), ports, 'and with the next one');
      t.same(await judged.arriving([short(), ...said('a.evil.test')]), [0]);
      t.same(await waiting.arriving([short(), last, short()]), [1, 2], 'until it has said all of it');
      t.same(await other.arriving([short(), rest, short()]), [], 'which may be another name');

      t.equal(await agent.stop(), 0);
      const without = open(world, pod, c, family, 'new.good.test');
      t.equal((await ticking('new.good.test')).length, 1, 'a new connection, while no agent runs');
      end(without);
      agent = await Agent.start(world);
      t.same(await ticking(GOOD), ports);
      end(good);
      end(bad);
      t.same(
        (await server.arrived()).filter(({ host }) => host === EVIL),
        [],
        'the other name never arrived',
      );
    });
  }
});

let profiles = 0;
/** A browser that stays with the page of a server, by QUIC alone. */
function open(world: World, pod: Pod, c: Certificates, family: Family, name: string): ChildProcess {
  const address = family === 4 ? FRONT[4] : `[${FRONT[6]}]`;
  const command = [
    ...[
      'chromium',
      ...QUIET,
      '--remote-debugging-port=0',
      `--user-data-dir=${join(world.dir, `profile-${++profiles}`)}`,
    ],
    `--ignore-certificate-errors-spki-list=${c.pin}`,
    `--host-resolver-rules=MAP ${name} ${address}`,
    `--origin-to-force-quic-on=${name}:443`,
    `https://${name}/page`,
  ];
  return start(pod.host.netns, command, world);
}
