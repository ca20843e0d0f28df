/** Queries that go to every agent, and how the answers are combined. */
import { AgentError } from '../../errors.js';
import { parseSender } from '../../ir/sender.js';
import { UnreachableError } from '../../rpc/transport/client.js';
import type {
  ExplainRequest,
  ExplainResponse,
  GetNamespacesResponse,
  GetNodesResponse,
  NamesRequest,
  NamesResponse,
  ServerStatusResponse,
} from '../../proto/messages.js';
import type { ClusterNode, PoliciesResponse } from '../../proto/status.js';
import { AGENT_SERVER_NAME } from '../../rpc/transport/tls.js';
import type { AgentNode, Agents } from './agents.js';

/** Time limit of a node's answer in milliseconds, since the answers of the other nodes wait for it. */
const ANSWER_MS = 3000;
/** Names in an answer about the whole cluster, if the query has no limit. */
const MOST_NAMES = 5000;

export interface Answer<A> {
  node: AgentNode;
  answer?: A;
  fault?: Error;
}

/** Asks every agent; those that do not answer have a fault. By the nodes' names. */
export async function askAll<A>(agents: Agents, question: (node: AgentNode) => Promise<A>): Promise<Answer<A>[]> {
  const ask = async (node: AgentNode): Promise<Answer<A>> => {
    try {
      return { node, answer: await question(node) };
    } catch (fault) {
      return { node, fault: fault as Error };
    }
  };
  return (await Promise.all(agents.list().map(ask))).sort((a, b) => (a.node.name < b.node.name ? -1 : 1));
}

function stateOf({ fault }: Answer<unknown>): string {
  if (!fault) return 'NODE_CONNECTED';
  return fault instanceof UnreachableError ? 'NODE_UNAVAILABLE' : 'NODE_ERROR';
}

/** The status of each node, sorted by name. */
export async function clusterStatus(agents: Agents): Promise<ClusterNode[]> {
  const answers = await askAll(agents, async (node) => {
    const status = await node.ask((c) => c.status(ANSWER_MS));
    // For a node that was given by address, the answer contains its name.
    node.name = status.node_name;
    return status;
  });
  return answers.map((a) => ({
    name: a.node.name,
    address: a.node.address,
    state: stateOf(a),
    ...(a.fault ? { message: a.fault.message } : {}),
    ...(a.answer ? { status: a.answer } : {}),
  }));
}

function sum(values: readonly (string | number | undefined)[]): number {
  return values.reduce((n: number, v) => n + Number(v ?? 0), 0);
}

/** The status of all nodes as one server, for Hubble's clients. */
export async function serverStatus(agents: Agents, version: string, uptimeNs: number): Promise<ServerStatusResponse> {
  const answers = await askAll(agents, (node) => node.ask((c) => c.serverStatus(ANSWER_MS)));
  const got = answers.flatMap((a) => (a.answer ? [a.answer] : []));
  const missing = answers.filter((a) => a.fault).map((a) => a.node.name);
  return {
    num_flows: sum(got.map((s) => s.num_flows)),
    max_flows: sum(got.map((s) => s.max_flows)),
    seen_flows: sum(got.map((s) => s.seen_flows)),
    uptime_ns: uptimeNs,
    num_connected_nodes: { value: got.length },
    num_unavailable_nodes: { value: missing.length },
    unavailable_nodes: missing,
    version,
    flows_rate: sum(got.map((s) => s.flows_rate)),
  };
}

/** The nodes in the form of observer.GetNodes. */
export async function clusterNodes(agents: Agents, tls: boolean): Promise<GetNodesResponse> {
  const answers = await askAll(agents, async (node) => {
    const own = (await node.ask((c) => c.nodes(ANSWER_MS))).nodes?.[0];
    if (own?.name) node.name = own.name;
    return own;
  });
  return {
    nodes: answers.map((a) => ({
      ...a.answer,
      name: a.node.name,
      address: a.node.address,
      state: stateOf(a),
      tls: tls ? { enabled: true, server_name: AGENT_SERVER_NAME } : { enabled: false },
    })),
  };
}

/** The namespaces with recent flows on any node. */
export async function clusterNamespaces(agents: Agents): Promise<GetNamespacesResponse> {
  const answers = await askAll(agents, (node) => node.ask((c) => c.namespaces(ANSWER_MS)));
  const names = new Set(answers.flatMap((a) => (a.answer?.namespaces ?? []).map((n) => n.namespace)));
  return { namespaces: [...names].sort().map((namespace) => ({ namespace })) };
}

/** All policies. Every node has all policies of the cluster; one that any node refuses counts as refused. */
export async function clusterPolicies(agents: Agents): Promise<PoliciesResponse> {
  type Policy = NonNullable<PoliciesResponse['policies']>[number];
  const answers = await askAll(agents, (node) => node.ask((c) => c.policies(ANSWER_MS)));
  const all = new Map<string, Policy>();
  for (const policy of answers.flatMap((a) => a.answer?.policies ?? [])) {
    const key = JSON.stringify([policy.kind, policy.namespace, policy.name]);
    if (!all.has(key) || policy.state === 'refused') all.set(key, policy);
  }
  return { policies: [...all.values()] };
}

/**
 * The learned names of all nodes, at most as many as of one.
 * @throws AgentError USAGE if every node that answers refuses the query: it is wrong, or no node has the pod
 */
export async function clusterNames(agents: Agents, request: NamesRequest): Promise<NamesResponse> {
  const answers = await askAll(agents, (node) => node.ask((c) => c.names(request, ANSWER_MS)));
  const isRefusal = ({ fault }: Answer<NamesResponse>) => fault instanceof AgentError && fault.code === 'USAGE';
  const refusal = answers.find(isRefusal)?.fault;
  if (refusal && answers.every((a) => a.fault)) throw refusal;
  const all = answers.flatMap((a) => a.answer?.names ?? []);
  const names = all.slice(0, request.limit || MOST_NAMES);
  const more = names.length < all.length || answers.some((a) => a.answer?.more);
  const missing = answers.filter((a) => a.fault && !isRefusal(a)).map((a) => a.node.name);
  return { names, ...(more ? { more } : {}), ...(missing.length > 0 ? { unavailable_nodes: missing } : {}) };
}

/**
 * Asks the node on which the sender runs, or that is the sender: `@node/NAME`.
 * @param nodes the result of clusterStatus
 * @throws AgentError USAGE if no node has the sender, AGENT
 */
export async function clusterExplain(
  agents: Agents,
  nodes: readonly ClusterNode[],
  request: ExplainRequest,
): Promise<ExplainResponse> {
  const sender = parseSender(request.from);
  if (sender.node !== undefined) {
    const own = agents.list().find((a) => a.name === sender.node);
    if (!own) throw new AgentError('USAGE', `there is no node ${sender.node}`);
    return own.ask((c) => c.explain({ ...request, from: sender.from }));
  }
  const has = nodes.find((n) => n.status?.endpoints?.some((e) => e.pod === request.from));
  const node = agents.list().find((a) => a.name === has?.name);
  if (!node) {
    const missing = nodes.filter((n) => !n.status).map((n) => n.name);
    throw new AgentError('USAGE', `no node has a pod ${request.from}`, {
      ...(missing.length === 0 ? {} : { hint: `cannot be reached: ${missing.join(', ')}` }),
    });
  }
  return node.ask((c) => c.explain(request));
}
