/** The labels by which a policy selects a workload: those that its pods keep, and nobody else has. */
import type { EdgeParty } from '../../edges/edge.js';
import type { Pod } from '../../identity/snapshot.js';
import { type Cluster, compare, keyOf } from './cluster.js';

export interface Selected {
  /** In the order in which they were chosen; never empty. */
  readonly labels: Readonly<Record<string, string>>;
  /** Pods of other workloads that they select too: `namespace/name`. */
  readonly others: readonly string[];
}

/** Labels that name one pod, or one revision of many. */
const PASSING =
  /(^|\/)(pod-template-hash|controller-revision-hash|pod-template-generation|pod-name|pod-index|controller-uid|job-name|job-completion-index|rollouts-pod-template-hash|pod-ordinal|restartedAt|generation|revision|hash)$/i;
const PASSING_PREFIXES = ['batch.kubernetes.io/', 'statefulset.kubernetes.io/', 'apps.kubernetes.io/'];
/** Labels that change with a release, and say what a workload is only by chance: the last choice. */
const RELEASE = /(^|\/)(version|chart|managed-by|heritage|release-version|track|commit|build|image)$/i;

const PREFERRED = [
  'app.kubernetes.io/name',
  'app',
  'k8s-app',
  'name',
  'app.kubernetes.io/instance',
  'app.kubernetes.io/component',
  'component',
  'role',
  'tier',
];

const VALUE = /^([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?$/;
const KEY = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?$/;

/** Finds selectors, each once. */
export class Selectors {
  readonly #cluster: Cluster;
  readonly #known = new Map<string, Selected | undefined>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** The fewest labels, best known first, that select the workload alone; undefined: its pods share none. */
  of(party: EdgeParty): Selected | undefined {
    const id = `${party.namespace}/${party.workloadKind}/${party.name}`;
    if (!this.#known.has(id)) this.#known.set(id, this.#find(party));
    return this.#known.get(id);
  }

  #find(party: EdgeParty): Selected | undefined {
    const pods = this.#cluster.podsOf(party).filter((pod) => !pod.hostNetwork);
    // While a rollout is under way, and of Jobs, those that ended may have other labels than those that run.
    const running = pods.filter((pod) => !pod.ended);
    const common = commonLabels(running.length > 0 ? running : pods);
    const labels: Record<string, string> = {};
    let others = this.#cluster.podsIn(party.namespace).filter((pod) => !pod.hostNetwork && !pods.includes(pod));
    for (const [key, value] of common) {
      const less = others.filter((pod) => Object.hasOwn(pod.labels, key) && pod.labels[key] === value);
      if (Object.keys(labels).length > 0 && less.length === others.length) continue;
      labels[key] = value;
      others = less;
      if (others.length === 0) break;
    }
    if (Object.keys(labels).length === 0) return undefined;
    return { labels, others: others.map(keyOf) };
  }
}

function commonLabels(pods: readonly Pod[]): [string, string][] {
  const [first, ...rest] = pods;
  if (!first) return [];
  return lastingLabels(first.labels).filter(([key, value]) =>
    rest.every((pod) => Object.hasOwn(pod.labels, key) && pod.labels[key] === value),
  );
}

/** The labels that all pods of a workload have, and keep: the best known first. */
export function lastingLabels(labels: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(labels)
    .filter(([key, value]) => KEY.test(key) && VALUE.test(value) && value !== '' && !isPassing(key))
    .sort(([a], [b]) => rank(a) - rank(b) || compare(a, b));
}

function isPassing(key: string): boolean {
  return PASSING.test(key) || PASSING_PREFIXES.some((prefix) => key.startsWith(prefix));
}

function rank(key: string): number {
  const at = PREFERRED.indexOf(key);
  if (at >= 0) return at;
  return RELEASE.test(key) ? PREFERRED.length + 1 : PREFERRED.length;
}
