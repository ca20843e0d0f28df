/** A cluster's source and the server that it follows, and the objects that its tests make. */
import type { Test } from 'tap';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { type ClusterOptions, ClusterSource } from '../../src/kube/source.js';
import { makeLogger } from '../../src/log.js';
import { FakeCluster } from './fake-cluster.js';
import { until } from './viewer.js';

export const PODS = 'v1 Pod';
export const NAMESPACES = 'v1 Namespace';
export const POLICIES = 'networking.k8s.io/v1 NetworkPolicy';
export const SLICES = 'discovery.k8s.io/v1 EndpointSlice';
export const ENDPOINTS = 'v1 Endpoints';
export const SERVICES = 'v1 Service';
export const CILIUM = 'cilium.io/v2 CiliumNetworkPolicy ciliumnetworkpolicies';

export interface Bed {
  readonly server: FakeCluster;
  readonly source: ClusterSource;
  readonly log: string[];
  changes: number;
}

export async function bed(
  t: Test,
  kinds?: readonly string[],
  more: Partial<ClusterOptions> = {},
  watch = true,
): Promise<Bed> {
  const server = await new FakeCluster().start(kinds);
  const log: string[] = [];
  const source = new ClusterSource({
    client: server.client(),
    nodeName: 'n1',
    ownNodeIps: () => ['192.168.0.1'],
    log: makeLogger('debug', (line) => log.push(line)),
    ...more,
  });
  const it = { server, source, log, changes: 0 };
  t.teardown(async () => {
    source.close();
    await server.stop();
  });
  if (watch) source.watch(() => it.changes++);
  return it;
}

export async function synced(b: Bed): Promise<Snapshot> {
  await until(() => b.source.synced);
  return b.source.load();
}

/** Loads until the snapshot is as wanted. */
export async function seen(b: Bed, wanted: (s: Snapshot) => boolean): Promise<Snapshot> {
  let snapshot = b.source.load();
  await until(() => {
    if (b.source.synced) snapshot = b.source.load();
    return wanted(snapshot);
  });
  return snapshot;
}

export function pod(key: string, ip: string, more: { labels?: object; meta?: object; status?: object } = {}) {
  const [namespace, name] = key.split('/') as [string, string];
  return {
    metadata: { namespace, name, labels: more.labels ?? {}, ...more.meta },
    spec: { nodeName: 'n1', containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 80 }] }] },
    status: { phase: 'Running', podIP: ip, podIPs: [{ ip }], ...more.status },
  };
}

export const namespace = (name: string, more: { meta?: object; status?: object } = {}) => ({
  metadata: { name, labels: { env: 'test' }, ...more.meta },
  status: { phase: 'Active', ...more.status },
});

export function policy(key: string, spec: unknown, meta = {}) {
  const [ns, name] = key.split('/') as [string, string];
  return { metadata: { namespace: ns, name, ...meta }, spec };
}

export const CLOSED = { podSelector: {}, policyTypes: ['Egress'], egress: [] };
