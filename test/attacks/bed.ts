/**
 * The world that attacks share: one node with pods on both kinds of interfaces, a second node, an internet; in each place
 * somebody who sees all that arrives.
 *
 *   attacker-*  app=attacker: may talk to server one (udp/53, tcp/80, sctp/99), to `open` (everything), to app=good (8080)
 *   colluder-*  app=colluder: may talk to app=attacker, and obeys the attacker
 *   good-*      whom the attacker may talk to;   bad-*  whom it may not.   Each: ptp, bridge, far (on node b)
 */
import { join } from 'node:path';
import { Agent } from '../netns/agent.js';
import { Host, type Reply } from '../netns/host.js';
import { egressPolicy, toApp, toHosts, toServer } from '../netns/policies.js';
import type { ServiceSpec } from '../netns/kube-proxy.js';
import { root } from '../netns/shell.js';
import { nodes, type Pod, type PodSpec, servers, World } from '../netns/world.js';
import type { Arrival, Family, Hook, Style } from './attack.js';
import { eth, familyOf, IPV4, IPV6, type Link } from './craft.js';

const HANDS = join(root, 'test/attacks/hands.py');

/** Both answers to what is denied are seen, on one kind of hook each. */
const DENY = { tcx: 'drop', tc: 'reject' } as const;

/** A server whom the attacker may send whatever it likes. */
export const OPEN = { 4: '203.0.113.30', 6: '2001:db8:100::30' } as const;

/** The resolver whose answers count. Nobody is there: attacks answer in its place. */
export const RESOLVER = { 4: '203.0.113.53', 6: '2001:db8:100::53' } as const;

/** Services: port 80, TCP and UDP, to 8080. */
export const SERVICES = {
  all: { 4: '10.96.0.1', 6: 'fd00:96::1' },
  none: { 4: '10.96.0.2', 6: 'fd00:96::2' },
  some: { 4: '10.96.0.3', 6: 'fd00:96::3' },
  /** The attackers themselves, and one whom they may not talk to. */
  own: { 4: '10.96.0.4', 6: 'fd00:96::4' },
} as const;

const ROLES: Record<string, PodSpec> = Object.fromEntries(
  ['attacker', 'colluder', 'good', 'bad'].flatMap((app) =>
    (app === 'good' || app === 'bad' ? ['ptp', 'bridge', 'far'] : ['ptp', 'bridge']).map((where) => {
      const place: PodSpec = where === 'far' ? { node: 'b' } : { style: where as Style };
      return [`${app}-${where}`, { ...place, labels: { app } }];
    }),
  ),
);

/** Of another namespace, for whom its users write policies. */
ROLES['other-ptp'] = { namespace: 'other', labels: { app: 'other' } };

/** In force where an attack does not say otherwise. */
export const STANDARD: readonly object[] = [
  egressPolicy('attacker', 'attacker', [
    toServer('one', 'udp/53', 'tcp/80', 'sctp/99'),
    toHosts([OPEN[4], OPEN[6]]),
    toApp('good', 'tcp/8080', 'udp/8080', 'sctp/8080'),
  ]),
  egressPolicy('colluder', 'colluder', [toApp('attacker')]),
];

/** Somebody who acts in a namespace: an attacker, or who helps it. */
export class Actor {
  readonly hands: Host;
  constructor(
    readonly pod: Pod,
    /** From its interface to the host's. */
    readonly link: Link,
  ) {
    this.hands = handsIn(pod.host.netns);
  }

  address(family: Family): string {
    return family === 4 ? this.pod.ip4 : this.pod.ip6;
  }

  /** A program of its own in its namespace, in Python; what it leaves in `result`. */
  async program(code: string, values: Record<string, unknown> = {}): Promise<unknown> {
    return (await this.hands.call('program', { code, ...values })).value;
  }

  async sentBytes(): Promise<number> {
    const { stdout } = await this.pod.host.run('ip', ['-s', '-j', 'link', 'show', 'eth0'], { check: false });
    const stats = (JSON.parse(stdout || '[{}]') as { stats64?: { tx: { bytes: number } } }[])[0]?.stats64;
    return stats?.tx.bytes ?? 0;
  }
}

function handsIn(netns: string): Host {
  return new Host(netns, ['nsenter', `--net=/run/netns/${netns}`, 'python3', '-B', HANDS]);
}

export class Bed {
  readonly actors = new Map<string, Actor>();
  readonly #places = new Map<string, Host>();
  readonly #services: ServiceSpec[] = [];
  #policies = JSON.stringify(STANDARD);
  #epochs = 0;
  #node: Host | undefined;
  agent!: Agent;

  private constructor(
    readonly world: World,
    readonly hook: Hook,
  ) {}

  static async create(hook: Hook): Promise<Bed> {
    const world = await World.create({ namespaces: { other: {} } });
    const bed = new Bed(world, hook);
    world.onClose(async () => bed.#end());
    try {
      await bed.#furnish();
    } catch (error) {
      await world.close();
      throw error;
    }
    return bed;
  }

  async #furnish(): Promise<void> {
    const { world } = this;
    for (const [name, spec] of Object.entries(ROLES)) await world.pod(name, spec);
    const pods = [...world.pods.values()];
    for (const pod of pods) {
      const app = pod.name.split('-')[0] as string;
      if (app === 'attacker' || app === 'colluder') this.actors.set(pod.name, await this.actor(pod));
      if (app === 'attacker') continue;
      await this.place(pod.name, this.actors.get(pod.name)?.hands ?? handsIn(pod.host.netns), ['eth0']);
      if (app === 'good' || app === 'bad')
        for (const proto of ['tcp', 'udp'] as const) await pod.host.listen('::', 8080, proto, pod.name);
    }
    await this.place('wire', handsIn(world.internet.netns), ['to-a']);
    for (const [name, vips] of Object.entries(SERVICES)) {
      const apps =
        { all: ['good'], none: ['bad'], some: ['good-far', 'bad'], own: ['attacker', 'bad-far'] }[name] ?? [];
      const behind = pods.filter((p) => apps.some((app) => p.name.startsWith(app)));
      const spec: ServiceSpec = {
        name,
        vips: [vips[4], vips[6]],
        ports: (['TCP', 'UDP'] as const).map((protocol) => ({
          name: protocol.toLowerCase(),
          port: 80,
          protocol,
          targetPort: 8080,
        })),
        backends: behind.flatMap((p) => [p.ip4, p.ip6]),
      };
      this.#services.push(spec);
      await world.service(spec);
    }
    // Neighbours are known, as they are among pods that talk: an attack's first packet is not lost in waiting for one.
    for (const pod of pods) await pod.host.request(nodes.a.ip4, 0, { proto: 'icmp', timeout: 1 });
    world.write('policy.yaml', STANDARD);
    this.agent = await this.#startAgent();
    for (const name of this.actors.keys()) await this.agent.enforced(`default/${name}`);
  }

  #startAgent(): Promise<Agent> {
    const options = ['--name-seed', 'off', '--ech', 'deny-known'];
    const args = [...options, ...Object.values(RESOLVER).flatMap((address) => ['--dns-servers', address])];
    return Agent.start(this.world, { mode: this.hook, deny: DENY[this.hook], args });
  }

  /** Hands for a pod of the world. */
  async actor(pod: Pod): Promise<Actor> {
    const { macSource, macDestination } = await this.world.macs(pod);
    return new Actor(pod, { src: macSource, dst: macDestination });
  }

  /** Somebody sees what arrives there. */
  async place(
    name: string,
    hands: Host,
    devices: readonly string[],
    more: Record<string, unknown> = {},
  ): Promise<void> {
    await hands.call('watch', { devices, ...more });
    this.#places.set(name, hands);
  }

  /** Watches inside the node: what its own stack takes for itself, of these IP protocols and UDP ports. */
  async watchNode(place: string, protocols: readonly number[], ports: readonly number[]): Promise<void> {
    if (!this.has(place)) await this.place(place, handsIn(this.world.node.netns), [], { protocols, ports });
  }

  has(place: string): boolean {
    return this.#places.has(place);
  }

  /** Somebody sees what arrives at these devices. */
  async watch(place: string, netns: string, devices: readonly string[]): Promise<void> {
    await this.place(place, handsIn(netns), devices);
  }

  pod(name: string): Pod {
    const pod = this.world.pods.get(`default/${name}`) ?? this.world.pods.get(`other/${name}`);
    if (!pod) throw new Error(`no pod ${name} in this bed`);
    return pod;
  }

  /** The MAC of a pod's own interface. */
  async macOf(name: string): Promise<string> {
    const { stdout } = await this.pod(name).host.run('ip', ['-j', 'link', 'show', 'eth0']);
    return (JSON.parse(stdout) as { address: string }[])[0]?.address ?? '';
  }

  /** The link-local address of the node's side of a pod's link. */
  async linkLocalOfGateway(pod: Pod): Promise<string> {
    const { stdout } = await this.world.node.run('ip', ['-6', '-j', 'addr', 'show', pod.bridge ?? pod.device]);
    const [link] = JSON.parse(stdout) as { addr_info: { scope: string; local: string }[] }[];
    return link?.addr_info.find((a) => a.scope === 'link')?.local ?? 'fe80::1';
  }

  /** Of a pod, a Service, a server (one, two, open) or a node (a, b). */
  address(name: string, family: Family): string {
    const six = family === 6;
    if (name in SERVICES) return SERVICES[name as keyof typeof SERVICES][family];
    if (name === 'open') return OPEN[family];
    if (name in servers) return servers[name as keyof typeof servers][six ? 'ip6' : 'ip4'];
    if (name in nodes) return nodes[name as keyof typeof nodes][six ? 'ip6' : 'ip4'];
    return this.pod(name)[six ? 'ip6' : 'ip4'];
  }

  /** Puts these manifests in force, if they are not. */
  async policies(documents: readonly object[] = STANDARD): Promise<void> {
    const text = JSON.stringify(documents);
    if (text === this.#policies) return;
    await this.agent.apply('policy.yaml', documents);
    this.#policies = text;
  }

  /** The same policies, judged afresh: something of no importance has changed. */
  async newEpoch(): Promise<void> {
    await this.agent.apply('epoch.yaml', [
      egressPolicy(`epoch-${++this.#epochs}`, 'bystander', [toHosts([`192.0.2.${this.#epochs % 250}`])]),
    ]);
  }

  /** Whether Services masquerade whatever is sent to them. */
  async masqueradeServices(masquerade: boolean): Promise<void> {
    for (const spec of this.#services) await this.world.service({ ...spec, masquerade });
  }

  /** Whether what leaves for the outside carries the node's address, and what goes to Services too. */
  async masquerade(on: boolean): Promise<void> {
    await this.world.setMasquerade(on);
    await this.masqueradeServices(on);
  }

  /** A program in the node's namespace: what the node's administrator has set up. */
  async nodeProgram(code: string, values: Record<string, unknown> = {}): Promise<void> {
    this.#node ??= handsIn(this.world.node.netns);
    await this.#node.call('program', { code, ...values });
  }

  /** The node sends what comes for an address and port to another one. @returns what ends it */
  async translate(
    family: Family,
    to: string,
    proto: string,
    port: number,
    really: string,
    portThere: number,
    node = this.world.node,
  ): Promise<() => Promise<void>> {
    const tables = family === 4 ? 'iptables' : 'ip6tables';
    const target = family === 4 ? `${really}:${portThere}` : `[${really}]:${portThere}`;
    const rule = ['-d', to, '-p', proto, '--dport', String(port), '-j', 'DNAT', '--to-destination', target];
    await node.run(tables, ['-w', '-t', 'nat', '-I', 'PREROUTING', ...rule]);
    return async () => {
      await node.run(tables, ['-w', '-t', 'nat', '-D', 'PREROUTING', ...rule], { check: false });
    };
  }

  /** A packet comes in from the internet, whoever it says it is from, for a pod of node a. */
  async fromInternet(to: string, packet: Buffer): Promise<void> {
    const frame = await this.outsideFrame(packet, familyOf(to));
    await this.world.internet.call('frames', { frames: [frame.toString('hex')], device: 'to-a' });
  }

  /** A packet as it comes to node a, sent by the internet at its device `to-a`. */
  async outsideFrame(packet: Buffer, family: Family = 4): Promise<Buffer> {
    return eth(await this.#ends(), family === 4 ? IPV4 : IPV6, packet);
  }

  /** From the internet's side of node a's uplink to the node's. */
  async #ends(): Promise<Link> {
    const mac = async (host: Host, device: string) => {
      const { stdout } = await host.run('ip', ['-j', 'link', 'show', device]);
      return (JSON.parse(stdout) as { address: string }[])[0]?.address ?? '';
    };
    return { src: await mac(this.world.internet, 'lan'), dst: await mac(this.world.node, 'eth0') };
  }

  /** A frame from a pod, hex, to its gateway. */
  async frameOf(name: string, packet: Buffer, type: number): Promise<string> {
    const { host, bridge, device } = this.pod(name);
    const node = name.endsWith('-far') ? this.world.nodeB : this.world.node;
    const address = (text: string) => (JSON.parse(text) as { address: string }[])[0]?.address ?? '';
    const own = address((await host.run('ip', ['-j', 'link', 'show', 'eth0'])).stdout);
    const gateway = address((await node.run('ip', ['-j', 'link', 'show', bridge ?? device])).stdout);
    return eth({ src: own, dst: gateway }, type, packet).toString('hex');
  }

  /** SIGKILL, and another one. */
  async restart(meanwhile?: () => Promise<unknown>): Promise<void> {
    await this.agent.kill();
    await meanwhile?.();
    this.agent = await this.#startAgent();
  }

  /** Where markers have arrived. */
  async find(markers: readonly Buffer[]): Promise<(Arrival & { marker: string })[]> {
    const texts = markers.map((m) => m.toString('hex'));
    const all = await Promise.all(
      [...this.#places].map(async ([place, hands]) => {
        const { found } = (await hands.call('find', { markers: texts })) as Reply & {
          found: { marker: string; device: string; bytes: number; frames: string[] }[];
        };
        return found.flatMap(({ frames, ...f }) =>
          frames.map((hex) => ({ ...f, place, frame: Buffer.from(hex, 'hex') })),
        );
      }),
    );
    return all.flat();
  }

  async forget(): Promise<void> {
    await Promise.all([...this.#places.values()].map((hands) => hands.call('forget')));
  }

  async #end(): Promise<void> {
    for (const hands of [...this.#places.values(), ...[...this.actors.values()].map((a) => a.hands)])
      await hands.close();
    await this.#node?.close();
  }

  close(): Promise<void> {
    return this.world.close();
  }
}
