/** Where Snapshots come from: a directory of manifests, or a cluster. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { ManifestSource } from '../src/identity/manifests.js';
import type { Snapshot } from '../src/identity/snapshot.js';
import type { KubeClient } from '../src/kube/client.js';
import type { ClusterSource } from '../src/kube/source.js';
import type { Logger } from '../src/log.js';
import type { AgentOptions } from './options.js';

export interface PolicySource {
  readonly mode: 'manifests' | 'cluster';
  /** For people: the directory, or the API server. */
  readonly name: string;
  /** Whether load() has a complete answer. */
  readonly synced: boolean;
  load(): Snapshot;
  /** Calls back when load() would say something new. */
  watch(onChange: () => void): void;
  close(): void;
  /** Of a cluster. */
  readonly cluster?: ClusterSource;
  readonly client?: KubeClient;
}

/** Bytes of manifests from which on memory is worth time. */
const LARGE_MANIFESTS = 8 << 20;
/** Percent by which the heap may be larger than what lives in it: V8's own choice is more, and what was once had is not given back. */
const CLUSTER_GROWTH = 30;

/**
 * @param ownNodeIps asked for at each load
 * @throws AgentError MANIFEST, USAGE; a cluster that does not answer is no error here
 */
export async function openSource(
  options: AgentOptions,
  ownNodeIps: () => readonly string[],
  log: Logger,
): Promise<PolicySource> {
  return options.manifests === undefined
    ? openCluster(options, ownNodeIps, log)
    : openManifests(options.manifests, options.nodeName, ownNodeIps);
}

function openManifests(dir: string, nodeName: string, ownNodeIps: () => readonly string[]): PolicySource {
  const source = new ManifestSource(dir, { nodeName, ownNodeIps });
  // A node's memory is its pods': with a million CIDRs the heap may be a third larger than what lives in it, not
  // twice. A small heap is better off with fewer collections.
  if (bytesIn(dir) > LARGE_MANIFESTS) setFlagsFromString('--heap-growing-percent=30');
  source.load();
  return {
    mode: 'manifests',
    name: dir,
    synced: true,
    load: () => source.load(),
    watch: (onChange) => source.watch(onChange),
    close: () => source.close(),
  };
}

/** The client's library is large, and nothing for who has manifests: loaded only here. */
async function openCluster(
  { kubeconfig, context, nodeName }: AgentOptions,
  ownNodeIps: () => readonly string[],
  log: Logger,
): Promise<PolicySource> {
  setFlagsFromString(`--heap-growing-percent=${CLUSTER_GROWTH}`);
  const { KubeClient, loadKubeConfig } = await import('../src/kube/client.js');
  const { ClusterSource } = await import('../src/kube/source.js');
  const config = loadKubeConfig({
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(context === undefined ? {} : { context }),
  });
  const client = new KubeClient(config);
  const cluster = new ClusterSource({ client, nodeName, ownNodeIps, log });
  return {
    mode: 'cluster',
    name: config.getCurrentCluster()?.server ?? '',
    get synced() {
      return cluster.synced;
    },
    load: () => cluster.load(),
    watch: (onChange) => cluster.watch(onChange),
    close: () => {
      cluster.close();
      client.close();
    },
    cluster,
    client,
  };
}

function bytesIn(dir: string): number {
  try {
    const entries = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((e) => e.isFile());
    return entries.reduce((n, e) => n + statSync(join(e.parentPath, e.name)).size, 0);
  } catch {
    return 0; // load() says what is wrong with it
  }
}
