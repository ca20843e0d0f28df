/** Connects egressctl to the agents of a cluster: finds their pods through the API and forwards a port to each. */
import type { KubeConfig } from '@kubernetes/client-node';
import { AgentError } from '../../errors.js';
import { KubeClient, KubeError, type KubeObject, loadKubeConfig } from '../../kube/client/client.js';
import { AgentNode, type AgentPlace, Agents } from '../../relay/nodes/agents.js';
import { type AgentPod, podsPath, readAgentPod } from '../../relay/nodes/discovery.js';
import { AGENT_PORT, AGENT_SELECTOR, RELAY_SELECTOR, RELAY_SERVER_NAME } from '../../relay/nodes/names.js';
import { readSecret, SECRETS } from '../../relay/certs/secrets.js';
import { AgentClient } from '../../rpc/transport/client.js';
import type { TlsFiles } from '../../rpc/transport/tls.js';
import { Forward } from './forward.js';
import { safe } from '../common/output.js';
import type { ClusterFlags } from '../common/target.js';

/** Interval at which the list of agents is refreshed while flows are followed, in milliseconds. */
const REFRESH_MS = 10_000;
/** Limit of the pods that are listed: more than any cluster has nodes, so a longer list is wrong. */
const MAX_PODS = 20_000;
const PAGE_SIZE = 500;
/** In place of a pod's UID. */
const RELAY = 'relay';

/** The agents of a cluster with their forwarded ports. close() releases them. */
export class Cluster {
  readonly agents: Agents;
  readonly #config: KubeConfig;
  readonly #client: KubeClient;
  readonly #namespace: string;
  readonly #only: string | undefined;
  readonly #tls: TlsFiles;
  #relay: AgentNode | undefined;
  readonly #forwards = new Map<string, Forward>();
  /** The nodes whose agents do not run, with the reasons. */
  #absent: { node: string; why: string }[] = [];
  #timer: NodeJS.Timeout | undefined;

  /**
   * Lists the agents and opens a port to each that runs.
   * @throws AgentError USAGE if the given node has no agent, AGENT if the API cannot be used or there are no agents
   */
  static async open(flags: ClusterFlags): Promise<Cluster> {
    const config = loadKubeConfig({ kubeconfig: flags.kubeconfig, context: flags.context });
    const client = new KubeClient(config, { userAgent: 'egressctl' });
    try {
      const tls = await clientTls(client, flags.namespaceOfAgents);
      const cluster = new Cluster(config, client, tls, flags);
      await cluster.#refresh();
      if (flags.node !== undefined && cluster.#count === 0) {
        cluster.close();
        throw new AgentError('USAGE', `there is no agent on a node ${flags.node}`, {
          hint: 'egressctl status lists the nodes',
        });
      }
      if (cluster.#count === 0) {
        cluster.close();
        throw new AgentError('AGENT', `there are no agents in namespace ${flags.namespaceOfAgents}`, {
          hint: 'they are pods with the label app.kubernetes.io/name=egress-agent; see --namespace-of-agents',
        });
      }
      return cluster;
    } catch (e) {
      client.close();
      throw e;
    }
  }

  private constructor(config: KubeConfig, client: KubeClient, tls: TlsFiles, flags: ClusterFlags) {
    this.#config = config;
    this.#client = client;
    this.#namespace = flags.namespaceOfAgents;
    this.#only = flags.node;
    this.#tls = tls;
    this.agents = new Agents(() => tls);
  }

  /** The nodes whose agents do not run, with the reasons. */
  get absent(): readonly { node: string; why: string }[] {
    return this.#absent;
  }

  get #count(): number {
    return this.agents.list().length + this.#absent.length;
  }

  /** Refreshes the list of agents periodically, since agents start and stop while their flows are followed. */
  keepRefreshing(): void {
    this.#timer ??= setInterval(() => void this.#refresh().catch(() => {}), REFRESH_MS);
    this.#timer.unref();
  }

  /**
   * The agent of the node on which a pod runs.
   * @param pod `namespace/name`
   * @throws AgentError USAGE if the pod does not exist or is not scheduled, AGENT if its node has no running agent
   */
  async agentOf(pod: string): Promise<AgentNode> {
    const [namespace = '', name = ''] = pod.split('/');
    const path = `${podsPath(namespace)}/${encodeURIComponent(name)}`;
    let node: string;
    try {
      node = readAgentPod(await this.#client.request<KubeObject>('GET', path)).node;
    } catch (e) {
      if (e instanceof KubeError && e.status === 404) throw new AgentError('USAGE', `there is no pod ${pod}`);
      throw apiError(e);
    }
    if (node === '') throw new AgentError('USAGE', `pod ${pod} runs on no node yet`);
    return this.agentOn(node, `pod ${pod} runs on node ${node}`);
  }

  /** The agent of a node. @param subject start of the error message @throws AgentError AGENT if it does not run */
  agentOn(node: string, subject = `node ${node}`): AgentNode {
    const agent = this.agents.list().find((a) => a.name === node);
    if (agent) return agent;
    const why = this.#absent.find((a) => a.node === node)?.why ?? 'there is no agent on it';
    throw new AgentError('AGENT', `${subject}: ${why}`);
  }

  /**
   * The relay, which answers for all nodes and has their history.
   * @returns undefined: none runs, or a single node was asked for
   */
  async relay(): Promise<AgentNode | undefined> {
    if (this.#relay || this.#only !== undefined) return this.#relay;
    const pod = (await this.#pods(RELAY_SELECTOR)).find((p) => p.phase === 'Running');
    if (!pod) return undefined;
    const forward = await Forward.open(this.#config, pod, AGENT_PORT);
    this.#forwards.set(RELAY, forward);
    const place = {
      ...{ id: pod.uid, name: 'the relay', address: forward.address, serverName: RELAY_SERVER_NAME },
      ...{ label: `pod ${pod.namespace}/${pod.name}`, why: () => forward.lastError },
    };
    this.#relay = new AgentNode(place, () => this.#tls);
    return this.#relay;
  }

  /**
   * A client of the relay that stays with it when its pod is replaced, once keepRefreshing() was called. The caller
   * closes it.
   * @returns undefined: none runs, or a single node was asked for
   */
  async relayClient(): Promise<AgentClient | undefined> {
    if ((await this.relay()) === undefined) return undefined;
    const { address } = this.#forwards.get(RELAY) as Forward;
    return new AgentClient({ address, name: 'the relay', tls: this.#tls, serverName: RELAY_SERVER_NAME });
  }

  /** For people: `cluster kind-kind`, by the context of the kubeconfig. */
  get name(): string {
    return `cluster ${this.#config.getCurrentContext()}`;
  }

  /** The API with the rights of the user's kubeconfig. */
  get kube(): KubeClient {
    return this.#client;
  }

  /** Reports the nodes whose agents do not run on standard error. */
  reportAbsent(): void {
    for (const { node, why } of this.#absent) process.stderr.write(`egressctl: ${safe(node)}: ${safe(why)}\n`);
  }

  close(): void {
    clearInterval(this.#timer);
    this.agents.close();
    this.#relay?.close();
    for (const forward of this.#forwards.values()) forward.close();
    this.#client.close();
  }

  async #refresh(): Promise<void> {
    const toRelay = this.#forwards.get(RELAY);
    const relay = toRelay && (await this.#pods(RELAY_SELECTOR)).find((p) => p.phase === 'Running');
    if (relay) toRelay.leadTo(relay);
    const places: AgentPlace[] = [];
    const absent: { node: string; why: string }[] = [];
    for (const pod of await this.#pods(AGENT_SELECTOR)) {
      const node = pod.node || pod.name;
      if (this.#only !== undefined && node !== this.#only) continue;
      if (pod.phase !== 'Running') {
        absent.push({ node, why: `its agent, pod ${pod.namespace}/${pod.name}, is ${pod.phase || 'not running'}` });
        continue;
      }
      const forward = this.#forwards.get(pod.uid) ?? (await Forward.open(this.#config, pod, AGENT_PORT));
      this.#forwards.set(pod.uid, forward);
      places.push({
        id: pod.uid,
        name: node,
        address: forward.address,
        label: `pod ${pod.namespace}/${pod.name}`,
        why: () => forward.lastError,
      });
    }
    this.#absent = absent;
    this.agents.set(places);
    for (const [uid, forward] of this.#forwards) {
      if (uid === RELAY || places.some((p) => p.id === uid)) continue;
      forward.close();
      this.#forwards.delete(uid);
    }
  }

  async #pods(labelSelector: string): Promise<AgentPod[]> {
    const pods: AgentPod[] = [];
    let continueToken = '';
    do {
      const query = {
        labelSelector,
        limit: String(PAGE_SIZE),
        ...(continueToken === '' ? {} : { continue: continueToken }),
      };
      try {
        const list = await this.#client.request<{ items?: unknown; metadata?: { continue?: unknown } }>(
          'GET',
          podsPath(this.#namespace),
          { query },
        );
        const items = Array.isArray(list.items) ? (list.items as KubeObject[]) : [];
        pods.push(...items.map(readAgentPod));
        continueToken = typeof list.metadata?.continue === 'string' ? list.metadata.continue : '';
      } catch (e) {
        throw apiError(e);
      }
    } while (continueToken !== '' && pods.length < MAX_PODS);
    return pods;
  }
}

async function clientTls(client: KubeClient, namespace: string): Promise<TlsFiles> {
  try {
    return await readSecret(client, namespace, SECRETS.client);
  } catch (e) {
    if (!(e instanceof KubeError) || (e.status !== 404 && e.status !== 403)) throw apiError(e);
    const what = `Secret ${namespace}/${SECRETS.client}, the client certificate for agents, ${e.status === 404 ? 'is not there' : 'may not be read'}`;
    throw new AgentError('AGENT', what, {
      hint:
        e.status === 404
          ? 'is egress-agent installed here? Its Job egress-certs makes it; see --namespace-of-agents too'
          : `get on it and on pods/portforward in ${namespace} is what egressctl needs`,
    });
  }
}

function apiError(e: unknown): Error {
  if (!(e instanceof KubeError)) return e as Error;
  return new AgentError('AGENT', `the API server: ${e.message}`, {
    ...(e.status === 0 ? { hint: 'see --kubeconfig and --context' } : {}),
    cause: e,
  });
}
