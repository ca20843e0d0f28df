/** Finds a pod that stands for a workload: explanations are about pods, edges about workloads. */
import { eitherSignal } from '../../either-signal.js';
import type { FlowFilter, FlowRecord, GetFlowsRequest, GetRecordsResponse } from '../../proto/messages.js';
import type { ClusterStatusResponse } from '../../proto/status.js';
import type { WhyEnd } from '../wire/why.js';

/** The part of a client that is used. */
export interface PodSource {
  getRecords(request: GetFlowsRequest, signal?: AbortSignal): AsyncIterable<GetRecordsResponse>;
  clusterStatus(): Promise<ClusterStatusResponse>;
}

export interface FoundPod {
  /** `namespace/name` */
  readonly key: string;
  /** How it was found, for people; empty: it was asked for. */
  readonly how: string;
  /** As its last flow has them; undefined: none was found. */
  readonly labels: Readonly<Record<string, string>> | undefined;
}

type Side = 'source' | 'destination';

/** Flows that are looked through. */
const LAST = 50;
/** Without an answer in this time, the flows are taken as they are. */
const PATIENCE_MS = 4000;

/**
 * A pod of a workload that runs now: the very one that is asked for, else the one that was seen last, else one that has
 * the name of a pod of it.
 * @param running `namespace/name` of all pods that run
 */
export async function findPod(
  source: PodSource,
  side: Side,
  end: WhyEnd,
  running: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<FoundPod | undefined> {
  const { namespace, workloadKind, name, pod } = end;
  const own = pod || (workloadKind === 'Pod' ? name : '');
  const seen = await lastPods(source, side, end, signal);
  const labelsOf = (key: string) => seen.get(key);
  const exact = `${namespace}/${own}`;
  if (own !== '' && running.has(exact)) return { key: exact, how: '', labels: labelsOf(exact) };
  const gone = own === '' ? '' : `${exact} is gone; `;
  const workload = `${workloadKind} ${namespace}/${name}`;
  if (workloadKind === 'Pod') return undefined;
  for (const [key, labels] of seen)
    if (running.has(key)) return { key, how: `${gone}the pod of ${workload} that was seen last`, labels };
  const pattern = podNames(workloadKind, name);
  for (const key of running) {
    if (!key.startsWith(`${namespace}/`) || !pattern.test(key.slice(namespace.length + 1))) continue;
    return { key, how: `${gone}by its name a pod of ${workload}`, labels: undefined };
  }
  return undefined;
}

/** The pods of all nodes that answer. */
export async function runningPods(source: PodSource): Promise<ReadonlySet<string>> {
  const { nodes = [] } = await source.clusterStatus();
  return new Set(nodes.flatMap(({ status }) => (status?.endpoints ?? []).map(({ pod }) => pod)));
}

/** The pods of a workload in the last flows, the newest first, with their labels. */
async function lastPods(
  source: PodSource,
  side: Side,
  end: WhyEnd,
  signal: AbortSignal,
): Promise<Map<string, Record<string, string>>> {
  const { namespace, workloadKind, name } = end;
  const filter =
    workloadKind === 'Pod'
      ? { [`${side}_pod`]: [`${namespace}/${name}`] }
      : { [`${side}_pod`]: [`${namespace}/`], [`${side}_workload`]: [{ kind: workloadKind, name }] };
  const found: [string, Record<string, string>][] = [];
  const enough = eitherSignal([signal], PATIENCE_MS);
  try {
    for await (const { record } of source.getRecords(
      { whitelist: [filter as FlowFilter], number: LAST },
      enough.signal,
    )) {
      const who = record?.flow[side];
      if (record && who?.pod_name && who.namespace === namespace && belongs(record, side, end))
        found.push([`${namespace}/${who.pod_name}`, labelsOf(who.labels ?? [])]);
    }
  } catch (e) {
    if (signal.aborted || !enough.signal.aborted) throw e;
  } finally {
    enough.end();
  }
  return new Map(found.reverse());
}

/** Filters for pods are for the beginnings of names. */
function belongs({ flow }: FlowRecord, side: Side, { workloadKind, name }: WhyEnd): boolean {
  const who = flow[side];
  if (workloadKind === 'Pod') return who?.pod_name === name;
  return who?.workloads?.some((w) => w.kind === workloadKind && w.name === name) ?? false;
}

/** `k8s:app=web` → app: web, without what is no label of the pod. */
function labelsOf(texts: readonly string[]): Record<string, string> {
  const labels: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const text of texts) {
    const [, key = '', value = ''] = /^k8s:([^=]+)=(.*)$/s.exec(text) ?? [];
    if (key !== '' && !key.startsWith('io.kubernetes.pod.') && !key.startsWith('io.cilium.')) labels[key] = value;
  }
  return labels;
}

/** The names that a controller gives to its pods. */
function podNames(kind: string, name: string): RegExp {
  const own = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  switch (kind) {
    case 'StatefulSet':
      return new RegExp(`^${own}-\\d+$`);
    case 'Deployment':
      return new RegExp(`^${own}-[a-z0-9]{1,10}-[a-z0-9]{5}$`);
    case 'CronJob':
      return new RegExp(`^${own}-\\d+-[a-z0-9]{5}$`);
    default:
      return new RegExp(`^${own}-[a-z0-9]{5}$`);
  }
}
