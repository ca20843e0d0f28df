/** A world whose node is a cluster's: an API server tells its pods and policies, and libcni's cache which pod is where. */
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import type { KubeObject } from '../../src/kube/client/client.js';
import { FakeCluster } from '../kube/fake-cluster.js';
import { Agent, type AgentOptions } from './agent.js';
import { cniResult } from './cni-result.js';
import { nodes, type Pod, type World } from './world.js';

/** linux/sched.h */
const CLONE_NEWNET = 0x40000000;
const POLICY = 'networking.k8s.io/v1 NetworkPolicy';

export class ClusterWorld {
  private constructor(
    readonly world: World,
    readonly server: FakeCluster,
  ) {}

  /** From here on this process is in the node's network namespace: there its API server listens. */
  static async create(world: World): Promise<ClusterWorld> {
    const fd = openSync(`/run/netns/${world.node.netns}`, 'r');
    sys.setns(fd, CLONE_NEWNET);
    closeSync(fd);
    await world.node.run('ip', ['addr', 'show', 'lo']);
    const cluster = new ClusterWorld(world, await new FakeCluster().start());
    world.onClose(() => cluster.server.stop());
    for (const { name, ip4 } of Object.values(nodes)) {
      cluster.server.put('v1 Node', {
        metadata: { name },
        status: { addresses: [{ type: 'InternalIP', address: ip4 }] },
      } as KubeObject);
    }
    cluster.server.put('v1 Namespace', { metadata: { name: 'default' } });
    mkdirSync(join(cluster.cniCacheDir, 'results'), { recursive: true });
    writeFileSync(
      cluster.kubeconfig,
      JSON.stringify({
        clusters: [{ name: 'c', cluster: { server: cluster.server.url } }],
        users: [{ name: 'u', user: {} }],
        contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
        'current-context': 'x',
      }),
    );
    return cluster;
  }

  get cniCacheDir(): string {
    return join(this.world.dir, 'cni');
  }

  get kubeconfig(): string {
    return join(this.world.dir, 'kubeconfig');
  }

  agent(opts: AgentOptions = {}): Promise<Agent> {
    const source = ['--kubeconfig', this.kubeconfig, '--cni-cache-dir', this.cniCacheDir];
    return Agent.start(this.world, { ...opts, source });
  }

  /** What a container runtime writes when the CNI has made the interface. */
  tellCni(pod: Pod): void {
    const { name, namespace } = pod;
    const { uid } = (pod.manifest as { metadata: { uid: string } }).metadata;
    const netns = `/run/netns/${pod.host.netns}`;
    const text = JSON.stringify(cniResult({ namespace, name, uid, netns, ips: [`${pod.ip4}/32`, `${pod.ip6}/128`] }));
    writeFileSync(this.#resultOf(pod), text);
  }

  untellCni(pod: Pod): void {
    rmSync(this.#resultOf(pod), { force: true });
  }

  #resultOf({ namespace, name }: Pod): string {
    return join(this.cniCacheDir, 'results', `net-${namespace}.${name}-eth0`);
  }

  tellPod(pod: Pod): void {
    this.server.put('v1 Pod', pod.manifest as KubeObject);
  }

  apply(...policies: readonly object[]): void {
    for (const policy of policies) this.server.put(POLICY, policy as KubeObject);
  }
}
