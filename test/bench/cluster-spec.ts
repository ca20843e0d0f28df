/**
 * A large cluster as figures: who is where, with which labels. Pure functions of an index, so that the server that
 * serves it and the benchmark that watches one address agree without a word.
 */
export const PODS = 50_000;
export const NAMESPACES = 5000;
export const NODES = 500;
export const POLICIES = 2000;
export const SERVICES = 2000;
/** Pods with an interface on the node of the agent: kubelet's default maximum. */
export const LOCAL_PODS = 110;
/** Namespaces that these are in; each has three policies or more. */
export const LOCAL_NAMESPACES = 55;
/** Pods of a Deployment, on as many nodes. */
const REPLICAS = 5;
/** Of a node's pods so many are in its own network: kube-proxy, CNI, exporters. */
const HOST_NETWORK = 4;
const PODS_A_NODE = 100;
const TEAMS = 50;

export const TIERS = ['frontend', 'backend', 'cache', 'database'] as const;
/** In namespaces with `env: prod` policies tell these from others. */
export const WATCHED_TIER = 'backend';

export interface PodSpec {
  readonly index: number;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** The Deployment, or DaemonSet, that it belongs to. */
  readonly workload: string;
  readonly tier: string;
  readonly node: number;
  readonly ip: string;
  readonly hostNetwork: boolean;
}

export function nodeName(node: number): string {
  return `node-${String(node).padStart(3, '0')}`;
}

export function nodeIp(node: number): string {
  return `172.20.${1 + (node >> 8)}.${node & 255}`;
}

export function namespaceName(n: number): string {
  return n === NAMESPACES - 1 ? 'kube-system' : `team-${n % TEAMS}-project-${n}`;
}

export function namespaceLabels(n: number): Record<string, string> {
  const name = namespaceName(n);
  return {
    'kubernetes.io/metadata.name': name,
    team: `team-${n % TEAMS}`,
    env: ['prod', 'staging', 'dev'][n % 3] as string,
    'cost-center': `cc-${n % 211}`,
    'pod-security.kubernetes.io/enforce': 'baseline',
  };
}

/** Deployments are numbered; the first ones have a pod or two on the agent's node. */
const DEPLOYMENTS = Math.ceil(PODS / REPLICAS);

export function deploymentNamespace(deployment: number): number {
  return deployment % (NAMESPACES - 1);
}

export function deploymentName(deployment: number): string {
  return `app-${Math.floor(deployment / (NAMESPACES - 1))}`;
}

/** Which tier a Deployment's pods say they are. */
export function tierOf(deployment: number): string {
  return TIERS[(deployment * 7 + (deployment >> 3)) % TIERS.length] as string;
}

/** The port that a Deployment's containers call `http`. */
export function httpPort(deployment: number): number {
  return [8080, 8080, 8080, 3000, 80][deployment % 5] as number;
}

/** @param generation counts up when the pod is deleted and its Deployment makes another one */
export function podSpec(index: number, generation = 0): PodSpec {
  const local = LOCAL_PODS + HOST_NETWORK;
  const node = index < local ? 0 : 1 + ((index - local) % (NODES - 1));
  const slot = index < local ? index : Math.floor((index - local) / (NODES - 1));
  const hostNetwork = index < local ? index >= LOCAL_PODS : slot >= PODS_A_NODE - HOST_NETWORK;
  const uid = `${hex(index, 8)}-${hex(generation, 4)}-4000-8000-${hex(index * 7919, 12)}`;
  if (hostNetwork) {
    const workload = `daemon-${slot % HOST_NETWORK}`;
    const name = `${workload}-${suffix(index, generation)}`;
    const where = { node, ip: nodeIp(node), hostNetwork };
    return { index, namespace: 'kube-system', name, uid, workload, tier: 'node', ...where };
  }
  const deployment = index < local ? index % LOCAL_NAMESPACES : index % DEPLOYMENTS;
  return {
    index,
    namespace: namespaceName(deploymentNamespace(deployment)),
    name: `${deploymentName(deployment)}-${templateHash(deployment)}-${suffix(index, generation)}`,
    uid,
    workload: deploymentName(deployment),
    tier: tierOf(deployment),
    node,
    ip: `10.${128 + (node >> 8)}.${node & 255}.${slot + 2}`,
    hostNetwork,
  };
}

/** The Deployment that a pod is of; undefined for pods of DaemonSets. */
export function deploymentOf(index: number): number | undefined {
  const local = LOCAL_PODS + HOST_NETWORK;
  if (podSpec(index).hostNetwork) return undefined;
  return index < local ? index % LOCAL_NAMESPACES : index % DEPLOYMENTS;
}

export function templateHash(deployment: number): string {
  return hex(Math.imul(deployment + 1, 2654435761) >>> 0, 8);
}

function suffix(index: number, generation: number): string {
  return ((index * 31 + generation * 7 + 60_466_176) % 60_466_176).toString(36).padStart(5, '0');
}

function hex(n: number, digits: number): string {
  return n.toString(16).padStart(digits, '0').slice(-digits);
}
