/** Where `egressctl ui` reads from: an agent on this machine, or a cluster. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeLogger } from '../../log.js';
import { RelayServer } from '../../relay/server.js';
import { AgentClient } from '../../rpc/transport/client.js';
import { VERSION } from '../../version.js';
import type { KubeClient } from '../../kube/client/client.js';
import { type Globals, isCluster } from '../common/globals.js';
import { safe } from '../common/output.js';

/** One server that answers for all that is to be seen. */
export interface UiSource {
  readonly client: AgentClient;
  /** For people: `node n1`, `cluster kind-kind, by its relay`. */
  readonly name: string;
  /** Of a cluster: writes with the rights of the user's kubeconfig. */
  readonly kube: KubeClient | undefined;
  /** Why policies cannot be written; undefined: they can. */
  readonly readOnly: string | undefined;
  close(): Promise<void>;
}

/** @throws AgentError AGENT if nobody answers, USAGE */
export async function openSource(flags: Globals): Promise<UiSource> {
  return (await isCluster(flags)) ? ofCluster(flags) : ofAgent(flags);
}

async function ofAgent({ socket }: Globals): Promise<UiSource> {
  const client = new AgentClient(socket);
  const close = async () => client.close();
  try {
    const { node_name, mode } = await client.status();
    const readOnly =
      mode === 'cluster'
        ? 'this agent is asked on its own: with --kubeconfig, policies can be written'
        : 'this agent reads its policies from files: change those';
    return { client, name: `node ${node_name}`, kube: undefined, readOnly, close };
  } catch (e) {
    client.close();
    throw e;
  }
}

async function ofCluster(flags: Globals): Promise<UiSource> {
  // The client of the Kubernetes API takes longer to load than everything else, so it is loaded only here.
  const { Cluster } = await import('../cluster/cluster.js');
  const cluster = await Cluster.open(flags);
  try {
    cluster.keepRefreshing();
    const shared = { kube: cluster.kube, readOnly: undefined };
    const relay = await answering(await cluster.relayClient());
    if (relay) {
      const close = async () => {
        relay.close();
        cluster.close();
      };
      return { ...shared, client: relay, name: `${cluster.name}, by its relay`, close };
    }
    // Without a relay in the cluster, one of our own asks the agents: on a socket that nobody else can open.
    const dir = mkdtempSync(join(tmpdir(), 'egressctl-ui-'));
    const server = new RelayServer({ agents: cluster.agents, version: VERSION, tls: true, log: makeLogger('error') });
    const path = join(dir, 'relay.sock');
    await server.listen(path);
    const client = new AgentClient(path);
    const name = flags.node === undefined ? cluster.name : `node ${flags.node} of ${cluster.name}`;
    const close = async () => {
      client.close();
      await server.close();
      cluster.close();
      rmSync(dir, { recursive: true, force: true });
    };
    return { ...shared, client, name, close };
  } catch (e) {
    cluster.close();
    throw e;
  }
}

/** @returns undefined, and says why, if the relay does not answer: then the agents are asked */
async function answering(relay: AgentClient | undefined): Promise<AgentClient | undefined> {
  try {
    await relay?.clusterStatus();
    return relay;
  } catch (e) {
    relay?.close();
    process.stderr.write(`egressctl: the relay does not answer: ${safe((e as Error).message)}; the agents are asked\n`);
    return undefined;
  }
}
