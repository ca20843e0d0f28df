/**
 * Converts Kubernetes objects to the Snapshot's values. An invalid field is a Problem; the rest of the object is used.
 */
import { tryCanonicalAddr } from '../net/addr.js';
import { parseProtocol, TCP } from '../net/protocol.js';
import type { Field } from './fields.js';
import type { ContainerPort, Namespace, Node, Pod } from './snapshot.js';

/** The canonical address in a field. A Problem if it is invalid; undefined if it is empty. */
export function readAddress(field: Field): string | undefined {
  const text = field.string();
  if (text === undefined || text === '') return undefined;
  return tryCanonicalAddr(text) ?? field.problem(`${JSON.stringify(text)} is not an IP address`);
}

/** The protocol of a port of a container, Service or slice. Default: TCP. */
export function readProtocol(field: Field): number | undefined {
  const text = field.string();
  if (text === undefined) return field.present ? undefined : TCP;
  return parseProtocol(text) ?? field.problem(`${JSON.stringify(text)} is not a protocol`, 'use TCP, UDP or SCTP');
}

function unique(values: Iterable<string | undefined>): string[] {
  const out = new Set<string>();
  for (const v of values) if (v !== undefined) out.add(v);
  return [...out];
}

/** Reads a Namespace object. */
export function readNamespace(root: Field, name: string): Namespace {
  const metadata = root.at('metadata');
  return {
    name,
    // The API server adds this label to every namespace; a manifest need not contain it.
    labels: { ...metadata.at('labels').stringMap(), 'kubernetes.io/metadata.name': name },
    annotations: metadata.at('annotations').stringMap(),
    terminating: metadata.at('deletionTimestamp').present || root.at('status').at('phase').string() === 'Terminating',
  };
}

/** Reads a Node object. @param name of the node */
export function readNode(root: Field, name: string): Node {
  const ips: (string | undefined)[] = [];
  for (const address of root.at('status').at('addresses').items()) {
    const type = address.at('type').string();
    if (type === 'InternalIP' || type === 'ExternalIP') ips.push(readAddress(address.at('address')));
  }
  return { name, labels: root.at('metadata').at('labels').stringMap(), ips: unique(ips) };
}

/** Reads a Pod object. */
export function readPod(root: Field, namespace: string, name: string): Pod {
  const metadata = root.at('metadata');
  const spec = root.at('spec');
  const status = root.at('status');
  const phase = status.at('phase').string();
  const ended = phase === 'Succeeded' || phase === 'Failed';
  const labels = metadata.at('labels').stringMap();
  const ips = unique([
    readAddress(status.at('podIP')),
    ...status
      .at('podIPs')
      .items()
      .map((entry) => readAddress(entry.at('ip'))),
  ]);
  return {
    // A manifest without a cluster has no UID, so the name identifies the pod.
    uid: metadata.at('uid').string() ?? `${namespace}/${name}`,
    namespace,
    name,
    labels,
    annotations: metadata.at('annotations').stringMap(),
    ips: ended ? [] : ips,
    nodeName: spec.at('nodeName').string() ?? '',
    serviceAccount: spec.at('serviceAccountName').string() ?? spec.at('serviceAccount').string() ?? 'default',
    hostNetwork: spec.at('hostNetwork').boolean() ?? false,
    ended,
    ...(metadata.at('deletionTimestamp').present ? { terminating: true as const } : {}),
    ports: readContainerPorts(spec),
    workload: readWorkload(metadata.at('ownerReferences'), labels),
  };
}

/** Whether the endpoints controller would list the pod. A pod without a status counts as ready. */
export function isReady(root: Field): boolean {
  if (root.at('metadata').at('deletionTimestamp').present) return false;
  const conditions = root.at('status').at('conditions').items();
  const ready = conditions.find((c) => c.at('type').string() === 'Ready');
  return ready === undefined || ready.at('status').string() === 'True';
}

/**
 * Ports of the containers that run at the same time, including init containers that keep running (`restartPolicy:
 * Always`).
 */
function readContainerPorts(spec: Field): ContainerPort[] {
  const sidecars = spec
    .at('initContainers')
    .items()
    .filter((c) => c.at('restartPolicy').string() === 'Always');
  const ports: ContainerPort[] = [];
  for (const container of [...spec.at('containers').items(), ...sidecars]) {
    for (const entry of container.at('ports').items()) {
      const port = entry.at('containerPort').integer(1, 65535);
      const protocol = readProtocol(entry.at('protocol'));
      if (port !== undefined && protocol !== undefined) ports.push({ name: entry.at('name').string(), protocol, port });
    }
  }
  return ports;
}

/**
 * What objects are called. The API server takes any text of any length for the owner of a pod, and whoever may write pods
 * could fill the memory and the files of all that name workloads. A pod with another owner has none.
 */
const OWNER_KIND = /^[A-Za-z][-A-Za-z0-9]{0,62}$/;
const OWNER_NAME = /^(?!\.{1,2}$)[A-Za-z0-9._:-]{1,253}$/;

/**
 * The controller that a user knows. A ReplicaSet `web-<pod-template-hash>` belongs to the Deployment web; a Job
 * `backup-28391040` (minutes since 1970, 8 digits until 2160) belongs to the CronJob backup.
 */
function readWorkload(owners: Field, labels: Readonly<Record<string, string>>): Pod['workload'] {
  const items = owners.items();
  const owner = items.find((o) => o.at('controller').boolean() === true) ?? items[0];
  const kind = owner?.at('kind').string();
  const name = owner?.at('name').string();
  if (!kind || !name || !OWNER_KIND.test(kind) || !OWNER_NAME.test(name)) return undefined;
  const hash = labels['pod-template-hash'];
  if (kind === 'ReplicaSet' && hash && name.endsWith(`-${hash}`) && name.length > hash.length + 1) {
    return { kind: 'Deployment', name: name.slice(0, -hash.length - 1) };
  }
  const cron = kind === 'Job' ? /^(.+)-\d{8}$/.exec(name) : null;
  return cron?.[1] ? { kind: 'CronJob', name: cron[1] } : { kind, name };
}
