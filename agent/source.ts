/** The source of Snapshots: a directory of manifests, or a cluster. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { ManifestSource } from '../src/identity/files/manifests.js';
import type { Snapshot } from '../src/identity/snapshot.js';
import type { KubeClient } from '../src/kube/client/client.js';
import type { ClusterSource } from '../src/kube/source.js';
import type { Logger } from '../src/log.js';
import type { AgentOptions } from './options.js';

export interface PolicySource {
  readonly mode: 'manifests' | 'cluster';
  /** The directory, or the API server's address; for display. */
  readonly name: string;
  /** Whether load() returns a complete Snapshot. */
  readonly synced: boolean;
  load(): Snapshot;
  /** Calls back when load() would return something new. */
  watch(onChange: () => void): void;
  close(): void;
  /** Only where the source is a cluster. */
  readonly cluster?: ClusterSource;
  readonly client?: KubeClient;
}

/** Bytes of manifests above which the agent saves memory at the price of CPU time. */
const LARGE_MANIFESTS = 8 << 20;
/**
 * Percent by which the heap may outgrow its live objects. V8's default is more, and V8 does not give that memory back.
 */
const CLUSTER_GROWTH = 30;

/**
 * @param ownNodeIps the node's addresses, read at each load
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
  // Memory that the agent saves is memory for the node's pods: with a million CIDRs the heap may exceed its live
  // objects by a third, not by their whole size. A small heap is better off with fewer collections.
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

/** Imports the Kubernetes client here only: the library is large, and manifests do not need it. */
async function openCluster(
  { kubeconfig, context, nodeName }: AgentOptions,
  ownNodeIps: () => readonly string[],
  log: Logger,
): Promise<PolicySource> {
  setFlagsFromString(`--heap-growing-percent=${CLUSTER_GROWTH}`);
  const { KubeClient, loadKubeConfig } = await import('../src/kube/client/client.js');
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
    return 0; // load() reports the cause
  }
}
