/** Asks for a recommendation: here, with manifests, or an agent, with the evidence of all nodes. */
import { readRecommendation } from '../../recommend/read.js';
import { DAY_MS, type EdgeHistory, partyName } from '../../edges/edge.js';
import { edgeRowsMessage, timestampOf } from '../../edges/wire.js';
import { AgentError } from '../../errors.js';
import type { EdgeRowsMessage, EdgesRequest, RecommendRequest, RecommendResponse } from '../../proto/edges.js';
import type { RecommendOptions, Recommendation } from '../../recommend/base/types.js';
import { compare } from '../../recommend/base/cluster.js';
import { windowOf } from '../../recommend/base/needs.js';
import { recommend } from '../../recommend/index.js';
import { type MoreOptions, overflowWarnings, USUAL, withoutFuture } from '../../recommend/request.js';
import { localResolvers } from '../../recommend/rules/dns.js';
import { evidenceOf } from '../../recommend/saved.js';
import { AgentClient } from '../../rpc/transport/client.js';
import { loadWorld, readText } from '../../tools/world.js';
import { Cluster } from '../cluster/cluster.js';
import { readEdges } from '../cluster/edges.js';
import { isCluster } from '../common/globals.js';
import { safe } from '../common/output.js';
import type { RecommendFlags } from './flags.js';

/** A request has 1 MiB at most. */
const MOST_BYTES = 900_000;
/** Bytes of a row of a day, and of an edge without its texts, at most. */
const ROW_BYTES = 48;
const EDGE_BYTES = 400;
const DEADLINE_MS = 120_000;

interface Answer {
  readonly result: Recommendation;
  /** Nodes that did not answer. */
  readonly unavailable: readonly string[];
}

/** @throws AgentError */
export async function ask(flags: RecommendFlags, workloads: readonly string[]): Promise<Answer> {
  const more = moreOptions(flags);
  const scope = {
    ...(workloads.length > 0 ? { workloads } : {}),
    ...(flags.namespace ? { namespaces: flags.namespace } : {}),
  };
  const saved = flags.edges === undefined ? undefined : withoutFuture(evidenceOf(readText(flags.edges)));
  if (flags.manifests) {
    const evidence = saved ? { histories: saved, unavailable: [], began: {} } : await readAll(flags);
    const { given: _, ...own } = more;
    const options: RecommendOptions = { ...USUAL, ...own, ...evidence.began, ...scope, language: flags.to };
    const { snapshot } = loadWorld(flags.manifests);
    return { result: recommend(evidence.histories, snapshot, options), unavailable: evidence.unavailable };
  }
  const request = { dialect: flags.to, ...mutable(scope) };
  if (!(await isCluster(flags))) {
    const client = new AgentClient(flags.socket);
    try {
      const send = (one: RecommendRequest) => client.recommend(one, DEADLINE_MS);
      if (saved) return { result: await inParts(send, request, more, saved), unavailable: [] };
      return { result: readRecommendation(await send({ ...request, options: JSON.stringify(more) })), unavailable: [] };
    } finally {
      client.close();
    }
  }
  const evidence = saved ? { histories: saved, unavailable: [], began: {} } : await readAll(flags);
  const cluster = await Cluster.open(flags);
  try {
    const [agent] = cluster.agents.list();
    if (!agent) throw new AgentError('AGENT', 'no agent runs in this cluster');
    const send = (one: RecommendRequest) => agent.ask((client) => client.recommend(one, DEADLINE_MS));
    const result = await inParts(send, request, { ...more, ...evidence.began }, evidence.histories);
    return { result, unavailable: evidence.unavailable };
  } finally {
    cluster.close();
  }
}

function moreOptions(flags: RecommendFlags): MoreOptions {
  return {
    minDays: flags.minDays,
    ...(flags.since === undefined ? {} : { sinceMs: flags.since }),
    ...(flags.until === undefined ? {} : { untilMs: flags.until }),
    ...(flags.network ? { networks: flags.network } : {}),
    ...(flags.range ? { ranges: flags.range } : {}),
    ...(flags.clusterCidr ? { clusterCidrs: flags.clusterCidr } : {}),
    ...(flags.dns ? { resolvers: flags.dns } : {}),
    ...(flags.withDenied ? { withDenied: true } : {}),
  };
}

async function readAll(flags: RecommendFlags) {
  const request: EdgesRequest = {
    ...(flags.since === undefined ? {} : { since: timestampOf(flags.since) }),
    ...(flags.until === undefined ? {} : { until: timestampOf(flags.until) }),
  };
  const book = await readEdges(flags, request);
  for (const text of overflowWarnings(book.overflow)) process.stderr.write(`egressctl: ${text}\n`);
  const began = book.beganMs === undefined ? {} : { beganMs: book.beganMs };
  return { histories: withoutFuture(book.histories()), unavailable: book.unavailable, began };
}

type Send = (request: RecommendRequest) => Promise<RecommendResponse>;

/**
 * Asks about some workloads after the other, since a request has a limit. What depends on the evidence of all of them
 * is said with each: the window, and the DNS servers of nodes.
 */
async function inParts(
  send: Send,
  request: RecommendRequest,
  more: MoreOptions,
  histories: readonly EdgeHistory[],
): Promise<Recommendation> {
  const days = windowOf(histories, more);
  const window = days
    ? { sinceMs: days.first * DAY_MS, beganMs: days.first * DAY_MS, untilMs: (days.last + 1) * DAY_MS }
    : {};
  const resolvers = [...new Set([...(more.resolvers ?? []), ...localResolvers(histories)])].sort(compare);
  const options: MoreOptions = { ...more, ...window, given: true, resolvers };
  const parts: Recommendation[] = [];
  const asked: string[] = [];
  const isAsked = (name: string) => {
    const [namespace = ''] = name.split('/');
    if (request.workloads) return request.workloads.includes(name);
    return request.namespaces ? request.namespaces.includes(namespace) : !namespace.startsWith('kube-');
  };
  for (const { names, evidence } of portions(histories, isAsked)) {
    asked.push(...names);
    const one = { ...request, workloads: names, evidence, options: JSON.stringify(options) };
    parts.push(readRecommendation(await send(one)));
  }
  // Those that were never seen.
  const rest = { ...request, options: JSON.stringify({ ...options, except: asked }) };
  parts.push(readRecommendation(await send(rest)));
  return joined(parts);
}

function joined(parts: readonly Recommendation[]): Recommendation {
  const [head] = [...parts].sort((a, b) => b.days - a.days) as [Recommendation];
  const workloads = parts
    .flatMap((part) => part.workloads)
    .sort((a, b) => compare(`${a.workload} ${a.kind}`, `${b.workload} ${b.kind}`));
  const warnings = [...new Set(parts.filter((part) => part.days > 0).flatMap((part) => part.warnings))];
  return { ...head, workloads, warnings };
}

interface Portion {
  readonly names: string[];
  readonly evidence: EdgeRowsMessage[];
}

/** The evidence of some workloads, as much as a request takes. */
function* portions(histories: readonly EdgeHistory[], isAsked: (name: string) => boolean): Generator<Portion> {
  const bySource = new Map<string, EdgeHistory[]>();
  for (const one of histories) {
    const { source, inbound } = one.edge;
    if (inbound || source.kind !== 'workload' || !isAsked(`${source.namespace}/${source.name}`)) continue;
    const key = `${source.namespace}/${source.name}`;
    const list = bySource.get(key);
    if (list) list.push(one);
    else bySource.set(key, [one]);
  }
  let portion: Portion = { names: [], evidence: [] };
  let size = 0;
  for (const [name, list] of [...bySource].sort(([a], [b]) => compare(a, b))) {
    const own = list.reduce((sum, one) => sum + bytesOf(one), 0);
    if (size > 0 && size + own > MOST_BYTES) {
      yield portion;
      portion = { names: [], evidence: [] };
      size = 0;
    }
    const taken = own > MOST_BYTES ? mostUsed(list) : list;
    portion.names.push(name);
    portion.evidence.push(...taken.map(edgeRowsMessage));
    size += Math.min(own, MOST_BYTES);
  }
  if (size > 0) yield portion;
}

function bytesOf({ edge, days }: EdgeHistory): number {
  const texts = [edge.source, edge.destination].flatMap(({ namespace, name }) => [namespace, name]);
  const rules = [edge.rule, edge.auditRule].flatMap((rule) => (rule ? [JSON.stringify(rule.ref)] : []));
  return EDGE_BYTES + [...texts, ...rules].reduce((n, text) => n + text.length * 3, 0) + days.length * ROW_BYTES;
}

/** Of what is too much for a request, the edges that were seen on most days. */
function mostUsed(list: readonly EdgeHistory[]): EdgeHistory[] {
  const sorted = [...list].sort((a, b) => b.days.length - a.days.length || a.edge.id - b.edge.id);
  const out: EdgeHistory[] = [];
  let size = 0;
  for (const one of sorted) {
    size += bytesOf(one);
    if (size > MOST_BYTES) break;
    out.push(one);
  }
  const who = safe(partyName((list[0] as EdgeHistory).edge.source));
  process.stderr.write(`egressctl: ${who}: ${list.length - out.length} edges are too many for a request\n`);
  return out;
}

function mutable(scope: { workloads?: readonly string[]; namespaces?: readonly string[] }): RecommendRequest {
  return {
    ...(scope.workloads ? { workloads: [...scope.workloads] } : {}),
    ...(scope.namespaces ? { namespaces: [...scope.namespaces] } : {}),
  };
}
