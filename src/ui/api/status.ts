/** The state of the nodes: all of them as rows, and each with all that it says. */
import type { ClusterNode, ClusterStatusResponse, ProblemMessage, StatusResponse } from '../../proto/status.js';
import type { HistoryResponse } from '../../proto/edges.js';
import type { Timestamp, Uint64 } from '../../proto/messages.js';
import { mayUse, type Scope } from '../access/viewer.js';
import { HttpError } from '../http/answers.js';
import { textOf } from '../http/read.js';
import type { ClusterFacts, HistoryFacts, NodeRow, NodeWord, ProblemRow } from '../wire/status.js';
import type { Handler } from './handler.js';

/** The part of a client that is used. */
export interface StatusSource {
  clusterStatus(): Promise<ClusterStatusResponse>;
  history(deadlineMs?: number): Promise<HistoryResponse>;
}

/** All pages share an answer for so long, milliseconds. */
const KEPT_MS = 2000;
const HISTORY_MS = 5000;
/** Problems in one answer. */
const MOST_PROBLEMS = 500;
const LONGEST_NAME = 300;
/** Share of a map's entries from which it is said to be nearly full. */
const NEARLY_FULL = 0.8;

/** The handlers `status` and `node`. */
export function statusHandlers(source: StatusSource): Readonly<Record<string, Handler>> {
  let kept: Promise<readonly ClusterNode[]> | undefined;
  let keptAt = 0;
  const nodes = () => {
    if (!kept || Date.now() - keptAt > KEPT_MS) {
      keptAt = Date.now();
      const asked = source.clusterStatus().then((answer) => answer.nodes ?? []);
      kept = asked;
      asked.catch(() => {
        if (kept === asked) kept = undefined;
      });
    }
    return kept;
  };
  return {
    status: async (_, viewer): Promise<ClusterFacts> => {
      const [all, scope, history] = await Promise.all([nodes(), viewer.scope(), historyOf(source)]);
      const seen = all.map((node) => seenNode(node, scope));
      const { problems, more } = problemsOf(seen);
      return {
        nowMs: Date.now(),
        nodes: seen.map((node) => rowOf(node, scope)),
        problems,
        moreProblems: more,
        ...(history && scope === undefined ? { history } : {}),
      };
    },
    node: async (body, viewer): Promise<ClusterNode & { row: NodeRow }> => {
      const name = textOf(body, 'name', LONGEST_NAME);
      const scope = await viewer.scope();
      const found = (await nodes()).find((node) => node.name === name);
      if (!found) throw new HttpError(404, `there is no node ${name}`, { field: 'name' });
      const seen = seenNode(found, scope);
      return { ...seen, row: rowOf(seen, scope) };
    },
  };
}

/** Only a relay keeps one: an agent says that it does not know the question, and nothing is shown. */
async function historyOf(source: StatusSource): Promise<HistoryFacts | undefined> {
  try {
    const h = await source.history(HISTORY_MS);
    if (!h.place) return undefined;
    return {
      place: h.place,
      days: h.days ?? 0,
      edges: Number(h.edges ?? 0),
      bytes: Number(h.bytes ?? 0),
      rowsLost: Number(h.rows_lost ?? 0),
      failingSinceMs: millisOf(h.failing_since),
      error: h.error ?? '',
    };
  } catch {
    return undefined;
  }
}

/**
 * What of a node whoever may not see the whole cluster is told: that it is there, how it is, and what is wrong in words.
 * What else an agent says has names of all namespaces in it, or counts what all of them do, so what is not named here is
 * not told.
 */
function seenNode(node: ClusterNode, scope: Scope): ClusterNode {
  if (scope === undefined) return node;
  const { name, state, status: s } = node;
  if (!s) return { name, state };
  const { version, node_name, mode, pid, started_at, uptime_ns, attach_mode, deny_response } = s;
  const { endpoints = [], problems = [] } = s;
  const status: StatusResponse = {
    ...{ version, node_name, mode, source: '', pid, started_at, uptime_ns, attach_mode, deny_response },
    endpoints: endpoints.filter(({ pod }) => !pod.startsWith('node/') && mayUse(scope, pod.slice(0, pod.indexOf('/')))),
    problems: problems.filter((problem) => isSeen(problem, scope)),
    ...(s.failing_since === undefined
      ? {}
      : { failing_since: s.failing_since, last_error: 'who may see the whole cluster is told why' }),
  };
  return { name, state, status };
}

/** `NetworkPolicy shop/web`; what is in no namespace is of the whole cluster, and what cannot be read nobody's. */
function isSeen({ object = '' }: ProblemMessage, scope: Scope): boolean {
  const [, namespace] = /^\S+ ([^/\s]+)\/\S+$/.exec(object) ?? [];
  return namespace !== undefined && mayUse(scope, namespace);
}

function problemsOf(nodes: readonly ClusterNode[]): { problems: ProblemRow[]; more: number } {
  const found = new Map<string, { row: Omit<ProblemRow, 'nodes'>; nodes: number }>();
  for (const { name, status } of nodes) {
    for (const { severity, object = '', field = '', message, hint = '', file = '' } of status?.problems ?? []) {
      // Every node refuses the same policy for the same reason.
      const key = JSON.stringify([severity, object, field, message]);
      const known = found.get(key);
      if (known) known.nodes++;
      else found.set(key, { row: { severity, object, field, message, hint, file, node: name }, nodes: 1 });
    }
  }
  const rank = (severity: string) => (severity === 'error' ? 0 : 1);
  const all = [...found.values()]
    .map(({ row, nodes: count }) => ({ ...row, nodes: count }))
    .sort((a, b) => rank(a.severity) - rank(b.severity) || (a.object < b.object ? -1 : 1));
  return { problems: all.slice(0, MOST_PROBLEMS), more: Math.max(0, all.length - MOST_PROBLEMS) };
}

function wordOf({ state, status }: ClusterNode): NodeWord {
  if (!status) return state === 'NODE_ERROR' ? 'error' : 'silent';
  if (status.failing_since || status.api?.stale_since) return 'stale';
  return state === 'NODE_CONNECTED' ? 'connected' : 'error';
}

/** @param node as it may be seen */
function rowOf(node: ClusterNode, scope: Scope): NodeRow {
  const { name, message = '', status: s } = node;
  const pods = (s?.endpoints ?? []).filter(({ pod }) => !pod.startsWith('node/'));
  const lost = sum(s?.lost_in_ring) + Number(s?.lost_in_queues ?? 0);
  const [fullestMap, fullest] = (s?.maps ?? []).reduce<[string, number]>(
    (most, { name: map, entries = 0, max }) => {
      const share = Number(max) > 0 ? Number(entries) / Number(max) : 0;
      return share > most[1] ? [map, share] : most;
    },
    ['', 0],
  );
  const numbers = {
    ...{ lost, inForce: s?.policies_in_force ?? 0, staged: s?.policies_staged ?? 0, refused: s?.policies_refused ?? 0 },
    ...{ hooks: s?.hooks_attached ?? 0, hooksExpected: s?.hooks_expected ?? 0 },
    flowsPerSecond: s?.flows_per_second ?? 0,
  };
  const row: Omit<NodeRow, 'troubles'> = {
    ...{ name, message, fullest, fullestMap },
    ...(scope === undefined ? numbers : {}),
    word: wordOf(node),
    version: s?.version ?? '',
    pods: pods.length,
    enforced: pods.filter(({ state }) => state === 'enforced').length,
  };
  return { ...row, troubles: troublesOf(row, s) };
}

/** What somebody should look at, the worst first. */
function troublesOf(row: Omit<NodeRow, 'troubles'>, s: StatusResponse | undefined): string[] {
  if (!s) return [row.message || 'does not answer'];
  const { hooks = 0, hooksExpected = 0, refused = 0, lost = 0 } = row;
  const missing = (s.endpoints ?? []).filter(({ state }) => state === 'missing').length;
  const failing = (s.exports ?? []).filter((one) => one.failing_since).length;
  return [
    ...(s.failing_since ? [`policies cannot be applied: ${s.last_error ?? ''}`] : []),
    ...(s.api?.stale_since ? [`the API server is not followed${s.api.error ? `: ${s.api.error}` : ''}`] : []),
    ...(s.api && !s.api.synced && !s.api.stale_since ? ['the objects of the API server are not known yet'] : []),
    ...(hooks < hooksExpected ? [`${are(hooksExpected - hooks, 'hook')} not attached`] : []),
    ...(missing > 0 ? [`${are(missing, 'interface')} missing`] : []),
    ...(s.gate?.error ? [`the CNI gate: ${s.gate.error}`] : []),
    ...(refused > 0 ? [`${are(refused, 'policy', 'policies')} refused`] : []),
    ...(row.fullest > NEARLY_FULL ? [`${row.fullestMap} is ${Math.round(row.fullest * 100)} % full`] : []),
    ...(failing > 0 ? [`${failing} ${failing === 1 ? 'export fails' : 'exports fail'}`] : []),
    ...(lost > 0 ? [`${lost} events lost`] : []),
  ];
}

/** `1 hook is`, `2 hooks are` */
function are(n: number, one: string, many = `${one}s`): string {
  return n === 1 ? `1 ${one} is` : `${n} ${many} are`;
}

function sum(list: readonly Uint64[] | undefined): number {
  return (list ?? []).reduce<number>((n, v) => n + Number(v), 0);
}

function millisOf(time: Timestamp | undefined): number {
  return time ? Number(time.seconds ?? 0) * 1000 + Math.floor((time.nanos ?? 0) / 1e6) : 0;
}
