/**
 * A small world of network namespaces: a node with pods on it, a second node with pods that our agent does not see,
 * and an internet with two servers. Everything is named after this process, so that worlds stand side by side, and
 * the next one sweeps up what a killed one left.
 *
 * ```
 *   pod ── veth (ptp)   ─┐
 *   pod ── veth ─ bridge ┴ node a ── eth0 ─┬─ internet: 203.0.113.10, 203.0.113.20
 *   pod ── veth (ptp) ──── node b ── eth0 ─┘
 * ```
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Ends } from './frames.js';
import { Host } from './host.js';
import { type ServiceSpec, serviceManifests, translationRules } from './kube-proxy.js';
import { run } from './shell.js';

export const servers = {
  one: { ip4: '203.0.113.10', ip6: '2001:db8:100::10' },
  two: { ip4: '203.0.113.20', ip6: '2001:db8:100::20' },
} as const;

export const nodes = {
  a: { name: 'node-a', ip4: '10.0.0.10', ip6: 'fd00::10', ptp: 1, bridge: 2 },
  b: { name: 'node-b', ip4: '10.0.0.11', ip6: 'fd00::11', ptp: 3, bridge: 4 },
} as const;

export interface PodSpec {
  namespace?: string;
  labels?: Record<string, string>;
  /** How the host side is made: `ptp`, a routed veth; `bridge`, a veth in a bridge. */
  style?: 'ptp' | 'bridge';
  node?: 'a' | 'b';
  ports?: readonly { name: string; containerPort: number; protocol?: string }[];
  /** Its controller; none: a pod by itself. */
  owner?: { kind: string; name: string };
  /** A namespace that is there already: a container's. The pod then has no annotation to find it by. */
  host?: Host;
}

export interface Pod {
  name: string;
  namespace: string;
  host: Host;
  ip4: string;
  ip6: string;
  /** The host side of its veth, in the node's namespace. */
  device: string;
  /** The bridge that it is in, if any. */
  bridge: string | undefined;
  manifest: object;
}

type Json = Record<string, unknown>;

export class World {
  readonly dir: string;
  /** What the agent reads. */
  readonly manifests: string;
  readonly pods = new Map<string, Pod>();
  readonly #services: ServiceSpec[] = [];
  readonly #closers: (() => Promise<void>)[] = [];
  /** Of pods that are gone, the longest ago first: addresses are few. */
  readonly #freeNumbers: number[] = [];
  #podNumber = 1;
  #podsMade = 0;

  private constructor(
    readonly prefix: string,
    readonly node: Host,
    readonly nodeB: Host,
    readonly internet: Host,
    readonly namespaces: Record<string, Record<string, string>>,
    public masquerade: boolean,
  ) {
    this.dir = mkdtempSync(join(tmpdir(), `${prefix}-`));
    this.manifests = join(this.dir, 'manifests');
    mkdirSync(this.manifests);
  }

  /**
   * @param namespaces Kubernetes namespaces with their labels; `default` is always there
   * @param masquerade whether pods reach the internet under the node's address, as most CNIs have it
   * @param tracked whether the node tracks connections, as each does where kube-proxy or a masquerading CNI has its rules
   */
  static async create(
    opts: { namespaces?: Record<string, Record<string, string>>; masquerade?: boolean; tracked?: boolean } = {},
  ): Promise<World> {
    await run('sh', ['-c', 'mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf']);
    await sweep();
    const prefix = `eaw${process.pid}-${worldNumber++}`;
    const [node, nodeB, internet] = await Promise.all([
      Host.create(`${prefix}-node`),
      Host.create(`${prefix}-nodeb`),
      Host.create(`${prefix}-inet`),
    ]);
    await buildCore(node, nodeB, internet);
    const masquerade = opts.masquerade ?? false;
    const world = new World(prefix, node, nodeB, internet, { default: {}, ...opts.namespaces }, masquerade);
    if (masquerade || opts.tracked) await world.#translate();
    world.writeCluster();
    return world;
  }

  /** Where this world's agent pins its maps. */
  get pinDir(): string {
    return join('/sys/fs/bpf', this.prefix);
  }

  /** A pod: its namespace, its veth, its manifest. */
  async pod(name: string, spec: PodSpec = {}): Promise<Pod> {
    const pod = await this.podNamespace(name, spec);
    this.pods.set(`${pod.namespace}/${name}`, pod);
    this.writeCluster();
    return pod;
  }

  /** As `pod`, without the manifest: for tests of what comes first. */
  async podNamespace(name: string, spec: PodSpec = {}): Promise<Pod> {
    const where = nodes[spec.node ?? 'a'];
    const style = spec.style ?? 'ptp';
    const number = this.#podNumber < 250 ? ++this.#podNumber : this.#freeNumbers.shift();
    if (number === undefined) throw new Error('more pods at a time than there are addresses');
    const network = where[style];
    const pod: Pod = {
      name,
      namespace: spec.namespace ?? 'default',
      host: spec.host ?? (await Host.create(`${this.prefix}-p${number}`)),
      ip4: `10.244.${network}.${number}`,
      ip6: `fd00:244:${network}::${number}`,
      device: `veth${number}`,
      bridge: style === 'bridge' ? `br${network}` : undefined,
      manifest: {},
    };
    pod.manifest = podManifest(pod, spec, where.name, `uid-${++this.#podsMade}`);
    await wire(spec.node === 'b' ? this.nodeB : this.node, pod, network);
    return pod;
  }

  /** What a frame from the pod to its gateway carries. */
  async macs(pod: Pod): Promise<Ends> {
    const gateway = (await this.node.run('ip', ['-j', 'link', 'show', pod.bridge ?? pod.device])).stdout;
    const own = (await pod.host.run('ip', ['-j', 'link', 'show', 'eth0'])).stdout;
    const address = (json: string): string => (JSON.parse(json) as { address: string }[])[0]?.address ?? '';
    return { macSource: address(own), macDestination: address(gateway) };
  }

  /** Removes a pod: its manifest, then its namespace, as a kubelet would. */
  async removePod(pod: Pod): Promise<void> {
    this.pods.delete(`${pod.namespace}/${pod.name}`);
    this.writeCluster();
    await pod.host.close();
    this.#freeNumbers.push(Number(pod.device.slice('veth'.length)));
  }

  /** A Service, with the rules that translate its address on node a, and its manifests. */
  async service(spec: ServiceSpec): Promise<void> {
    const at = this.#services.findIndex((s) => s.name === spec.name && s.namespace === spec.namespace);
    if (at >= 0) this.#services[at] = spec;
    else this.#services.push(spec);
    await this.#translate();
    this.writeCluster();
  }

  /** From now on pods reach the outside under the node's address, or under their own. */
  async setMasquerade(masquerade: boolean): Promise<void> {
    this.masquerade = masquerade;
    await this.#translate();
  }

  async #translate(): Promise<void> {
    const { v4, v6 } = translationRules(this.#services, this.masquerade);
    await this.node.run('iptables-restore', ['-w'], { input: v4 });
    await this.node.run('ip6tables-restore', ['-w'], { input: v6 });
  }

  /** Writes one manifest file whole; a rename makes it visible at once. */
  write(file: string, documents: readonly object[] | string): void {
    const text =
      typeof documents === 'string' ? documents : documents.map((d) => JSON.stringify(d, null, 1)).join('\n---\n');
    const path = join(this.manifests, file);
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
  }

  remove(file: string): void {
    unlinkSync(join(this.manifests, file));
  }

  writeCluster(): void {
    this.write('cluster.yaml', [
      ...Object.values(nodes).map((n) => ({
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name: n.name },
        status: {
          addresses: [
            { type: 'InternalIP', address: n.ip4 },
            { type: 'InternalIP', address: n.ip6 },
          ],
        },
      })),
      ...Object.entries(this.namespaces).map(([name, labels]) => ({
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name, labels: { 'kubernetes.io/metadata.name': name, ...labels } },
      })),
      ...[...this.pods.values()].map((pod) => pod.manifest),
      ...this.#services.flatMap(serviceManifests),
    ]);
  }

  /** Makes a pod's namespace appear under a second name, in the two steps that `ip netns add` takes. */
  async mountNetns(netns: string, name: string): Promise<void> {
    writeFileSync(`/run/netns/${name}`, '');
    await run('mount', ['--bind', `/run/netns/${netns}`, `/run/netns/${name}`]);
  }

  async unmountNetns(name: string): Promise<void> {
    await run('umount', [`/run/netns/${name}`]);
    unlinkSync(`/run/netns/${name}`);
  }

  /** Registers what must end before the namespaces go (agents). */
  onClose(closer: () => Promise<void>): void {
    this.#closers.push(closer);
  }

  async close(): Promise<void> {
    for (const closer of this.#closers.reverse()) await closer();
    const names = readdirSync('/run/netns').filter((n) => n.startsWith(`${this.prefix}-`));
    await Promise.all([...this.pods.values()].map((p) => p.host.close()));
    await Promise.all([this.node.close(), this.nodeB.close(), this.internet.close()]);
    for (const name of names) await run('ip', ['netns', 'del', name], { check: false });
    rmSync(this.dir, { recursive: true, force: true });
    rmSync(this.pinDir, { recursive: true, force: true });
  }
}

let worldNumber = 0;

/** Removes what test processes that are no more have left. */
async function sweep(): Promise<void> {
  if (worldNumber > 0 || !existsSync('/run/netns')) return;
  for (const name of readdirSync('/run/netns')) {
    const pid = /^eaw(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) await run('ip', ['netns', 'del', name], { check: false });
  }
  for (const name of readdirSync('/sys/fs/bpf')) {
    const pid = /^eaw(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join('/sys/fs/bpf', name), { recursive: true });
  }
}

async function buildCore(node: Host, nodeB: Host, internet: Host): Promise<void> {
  const all = ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1', 'net.ipv6.conf.default.accept_dad=0'];
  const quick = ['net.ipv4.conf.all.rp_filter=0'];
  await Promise.all([node, nodeB, internet].map((h) => h.run('sysctl', ['-qw', ...all, ...quick])));
  await internet.ip([
    'link add lan type bridge',
    'link set lan up',
    'addr add 10.0.0.1/24 dev lan',
    'addr add fd00::1/64 dev lan nodad',
    ...Object.values(servers).flatMap((s) => [`addr add ${s.ip4}/32 dev lo`, `addr add ${s.ip6}/128 dev lo nodad`]),
    `link add to-a type veth peer name eth0 netns ${node.netns}`,
    `link add to-b type veth peer name eth0 netns ${nodeB.netns}`,
    ...['to-a', 'to-b'].map((link) => `link set ${link} master lan up`),
  ]);
  for (const [host, self, other] of [
    [node, nodes.a, nodes.b],
    [nodeB, nodes.b, nodes.a],
  ] as const) {
    await host.ip([
      `addr add ${self.ip4}/24 dev eth0`,
      `addr add ${self.ip6}/64 dev eth0 nodad`,
      'link set eth0 up',
      'route add default via 10.0.0.1',
      'route add ::/0 via fd00::1',
      ...[other.ptp, other.bridge].flatMap((n) => [
        `route add 10.244.${n}.0/24 via ${other.ip4}`,
        `route add fd00:244:${n}::/64 via ${other.ip6}`,
      ]),
    ]);
  }
  await internet.ip(
    [nodes.a, nodes.b].flatMap((n) =>
      [n.ptp, n.bridge].flatMap((net) => [
        `route add 10.244.${net}.0/24 via ${n.ip4}`,
        `route add fd00:244:${net}::/64 via ${n.ip6}`,
      ]),
    ),
  );
}

async function wire(node: Host, pod: Pod, network: number): Promise<void> {
  const { bridge } = pod;
  const gateway = { v4: `10.244.${network}.1`, v6: `fd00:244:${network}::1` };
  const made = bridge !== undefined && (await node.run('ip', ['link', 'show', bridge], { check: false })).status === 0;
  await node.ip([
    `link add ${pod.device} type veth peer name eth0 netns ${pod.host.netns}`,
    ...(bridge && !made
      ? [
          // With an address of its own, as CNI's plugin makes it: a bridge without one takes that of one of its ports.
          `link add ${bridge} address 0a:58:0a:f4:0${network}:01 type bridge`,
          `addr add ${gateway.v4}/24 dev ${bridge}`,
          `addr add ${gateway.v6}/64 dev ${bridge} nodad`,
          `link set ${bridge} up`,
        ]
      : []),
    ...(bridge
      ? [`link set ${pod.device} master ${bridge} up`]
      : [
          `addr add ${gateway.v4}/32 dev ${pod.device}`,
          `addr add ${gateway.v6}/128 dev ${pod.device} nodad`,
          `link set ${pod.device} up`,
          `route add ${pod.ip4}/32 dev ${pod.device}`,
          `route add ${pod.ip6}/128 dev ${pod.device}`,
        ]),
  ]);
  const width = bridge ? { v4: 24, v6: 64 } : { v4: 32, v6: 128 };
  await pod.host.ip([
    `addr add ${pod.ip4}/${width.v4} dev eth0`,
    `addr add ${pod.ip6}/${width.v6} dev eth0 nodad`,
    'link set eth0 up',
    ...(!bridge ? [`route add ${gateway.v4} dev eth0`, `route add ${gateway.v6} dev eth0`] : []),
    `route add default via ${gateway.v4}`,
    `route add ::/0 via ${gateway.v6}`,
  ]);
}

function podManifest(pod: Pod, spec: PodSpec, nodeName: string, uid: string): Json {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: pod.name,
      namespace: pod.namespace,
      uid,
      labels: spec.labels ?? { app: pod.name },
      ...(spec.owner ? { ownerReferences: [{ ...spec.owner, controller: true }] } : {}),
      annotations: spec.node === 'b' || spec.host ? {} : { 'egress-agent.io/netns': pod.host.netns },
    },
    spec: { nodeName, containers: [{ name: 'main', image: 'none', ports: spec.ports ?? [] }] },
    status: { phase: 'Running', podIP: pod.ip4, podIPs: [{ ip: pod.ip4 }, { ip: pod.ip6 }] },
  };
}
