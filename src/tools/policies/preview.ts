/** What a change of policies would do: to the flows that were seen, and to every other. Pure. */
import type { Hearing } from '../../dialects/hearing.js';
import { DialectRegistry } from '../../dialects/index.js';
import type { Edge, EdgeHistory, EdgeParty } from '../../edges/edge.js';
import { edgeMessage, timestampOf } from '../../edges/wire.js';
import type { Problem } from '../../errors.js';
import type { Snapshot } from '../../identity/snapshot.js';
import type { EdgeChangeMessage, PreviewResponse } from '../../proto/edges.js';
import { problemMessage } from '../../rpc/ask/problem.js';
import { NO_TUNNELS } from '../../net/tunnels.js';
import { diff } from '../diff.js';
import type { World } from '../packets.js';
import { changedSnapshot, objectTitle, type PolicyChange } from './change.js';
import { changeObject, namesOf } from './difference.js';
import { type Judgement, Replay } from './replay.js';

/** Most edges that are judged. Those that were seen last are. */
const MAX_EVIDENCE = 20_000;
const USUAL_LIMIT = 200;
const MOST = 5000;
/**
 * Most senders that are compared for everything that a change opens or closes. A change that concerns more is told by
 * the flows that were seen, and by as many senders.
 */
const MAX_SENDERS = 500;

/** Plain data and maps, which can be sent to another thread. */
export interface PreviewInput {
  readonly snapshot: Snapshot;
  /** What the agent's options say. */
  readonly hearing: Partial<Hearing>;
  readonly change: PolicyChange;
  readonly evidence: readonly EdgeHistory[];
  /** Most changes in the answer; 0: 200. */
  readonly limit: number;
}

/** @throws AgentError USAGE if the change is too large */
export function preview({ snapshot, hearing, change, evidence, limit }: PreviewInput): PreviewResponse {
  const after = changedSnapshot(snapshot, change);
  // One registry for both: policies that stay the same are the same objects, and one that becomes invalid keeps its
  // last valid content, as in the agent.
  const registry = new DialectRegistry(hearing);
  const was: World = { ir: registry.toIr(snapshot).ir, snapshot };
  const known = new Set(snapshot.policies);
  const translated = registry.toIr(after.snapshot);
  const is: World = { ir: translated.ir, snapshot: after.snapshot };
  const fresh = new Set(after.snapshot.policies.filter((raw) => !known.has(raw)).map(objectTitle));
  const problems = [...after.problems, ...translated.problems.filter((p) => fresh.has(p.where.object ?? ''))];

  const replay = new Replay(was, is);
  const most = Math.min(limit === 0 ? USUAL_LIMIT : limit, MOST);
  const told = judgeAll(replay, evidence);
  const { text, isCut } = differenceOf(was, is, replay.changedSenders(), most);
  if (isCut) problems.push(tooMany());
  return {
    edges: told.changes.slice(0, most),
    judged: told.judged,
    opened: told.opened,
    closed: told.closed,
    unknown: told.unknown,
    diff: text,
    problems: problems.slice(0, MOST).map(problemMessage),
    ...(told.changes.length > most ? { more: true } : {}),
  };
}

/** Edges that differ only in what was said about them count as one: the same flow, under several policies. */
interface Flow {
  edge: Edge;
  connections: number;
  lastMs: number;
}

function flowsOf(evidence: readonly EdgeHistory[]): Flow[] {
  const flows = new Map<string, Flow>();
  for (const { edge, days } of evidence) {
    // What others open is not judged by policies for egress.
    if (edge.inbound || days.length === 0) continue;
    let [connections, lastMs] = [0, 0];
    for (const day of days) {
      connections += day.connections;
      if (day.lastMs > lastMs) lastMs = day.lastMs;
    }
    const key = flowKey(edge);
    const flow = flows.get(key);
    if (!flow) flows.set(key, { edge, connections, lastMs });
    else {
      flow.connections += connections;
      if (lastMs > flow.lastMs) Object.assign(flow, { edge, lastMs });
    }
  }
  const all = [...flows.values()];
  return all.length > MAX_EVIDENCE ? all.sort((a, b) => b.lastMs - a.lastMs).slice(0, MAX_EVIDENCE) : all;
}

function flowKey({ source, destination, service, servicePort, port, protocol }: Edge): string {
  return `${partyKey(source)}\0${partyKey(destination)}\0${service}\0${servicePort}\0${port}\0${protocol}`;
}

function partyKey({ kind, namespace, workloadKind, name }: EdgeParty): string {
  return `${kind}\0${namespace}\0${workloadKind}\0${name}`;
}

const RANK: Readonly<Record<Judgement['verdict'], number>> = { unknown: 0, deny: 0, partial: 1, allow: 2 };

function judgeAll(replay: Replay, evidence: readonly EdgeHistory[]) {
  let [judged, opened, closed, unknown] = [0, 0, 0, 0];
  const found: { flow: Flow; was: Judgement; is: Judgement }[] = [];
  for (const flow of flowsOf(evidence)) {
    const outcome = replay.judge(flow.edge);
    if (outcome?.[0].verdict === 'unknown') {
      unknown++;
      continue;
    }
    judged++;
    if (!outcome || outcome[0].verdict === outcome[1].verdict) continue;
    const [was, is] = outcome;
    if (RANK[is.verdict] > RANK[was.verdict]) opened++;
    else closed++;
    found.push({ flow, was, is });
  }
  // What is closed comes first: it is what hurts.
  const closes = ({ was, is }: (typeof found)[number]) => (RANK[is.verdict] < RANK[was.verdict] ? 0 : 1);
  found.sort(
    (a, b) => closes(a) - closes(b) || b.flow.connections - a.flow.connections || a.flow.edge.id - b.flow.edge.id,
  );
  return { judged, opened, closed, unknown, changes: found.map(changeMessage) };
}

function changeMessage({ flow, was, is }: { flow: Flow; was: Judgement; is: Judgement }): EdgeChangeMessage {
  return {
    edge: edgeMessage(flow.edge),
    connections: flow.connections,
    last_at: timestampOf(flow.lastMs),
    was: was.verdict,
    is: is.verdict,
    ...(was.rule === '' ? {} : { was_rule: was.rule }),
    ...(is.rule === '' ? {} : { is_rule: is.rule }),
  };
}

/** As `egressctl diff -o json` has it. */
function differenceOf(was: World, is: World, senders: ReadonlySet<string>, limit: number) {
  const compared = new Set([...senders].slice(0, MAX_SENDERS));
  const worlds = [was, is].map(({ ir, snapshot }): World => ({ ir, snapshot: { ...snapshot, tunnels: NO_TUNNELS } }));
  const [before, after] = worlds as [World, World];
  const { changes, pods } = compared.size > 0 ? diff(before, after, compared) : { changes: [], pods: 0 };
  const names = namesOf(worlds);
  const listed = changes.slice(0, limit).map((c) => changeObject(c, names));
  const text = JSON.stringify({ changes: listed, leftOut: changes.length - listed.length, pods });
  return { text, isCut: senders.size > compared.size };
}

function tooMany(): Problem {
  const message = `the change concerns more than ${MAX_SENDERS} pods: for the others, only the flows that were seen are told`;
  return { severity: 'warning', where: {}, message, hint: 'egressctl diff compares all of them' };
}
