/** What a policy in an editor would change, as the page is told it. */
import { AgentError } from '../../errors.js';
import { edgeOf, millisOf } from '../../edges/wire.js';
import { isRecord } from '../../identity/fields.js';
import type { EdgeChangeMessage, PreviewRequest, PreviewResponse } from '../../proto/edges.js';
import { situationText } from '../../tools/names/changes.js';
import { mayUse, type Scope, type Viewer } from '../access/viewer.js';
import { HttpError } from '../http/answers.js';
import type { FlowChange, PreviewAnswer, ReachChange } from '../wire/policies.js';
import { isSeenWorkload, problemOf } from './board.js';
import { Reader } from './reader.js';

/** The part of a client that is used. */
export interface PreviewSource {
  preview(request: PreviewRequest, deadlineMs?: number, signal?: AbortSignal): Promise<PreviewResponse>;
}

/** Bytes of a text at most. */
const MOST_BYTES = 1 << 20;
/** The agent gives up earlier. */
const DEADLINE_MS = 70_000;
/** Pods and destinations of a change that are told. */
const LISTED = 50;
/** Flows that are asked for where not all may be told. */
const MOST_FLOWS = 2000;
/** Previews of one user that wait at most. */
const MOST_WAITING = 4;

/** One preview of a user at a time: another one waits, and one whose page has left is taken back. */
export class Previews {
  readonly #source: PreviewSource;
  readonly #reader: Reader;
  readonly #waiting = new Map<string, number>();
  readonly #last = new Map<string, Promise<unknown>>();

  constructor(source: PreviewSource, reader: Reader = new Reader()) {
    this.#source = source;
    this.#reader = reader;
  }

  /** @throws HttpError 413, 429; AgentError */
  async ask(viewer: Viewer, text: string, limit: number, signal: AbortSignal): Promise<PreviewAnswer> {
    const user = viewer.id;
    const size = Buffer.byteLength(text);
    if (size > MOST_BYTES)
      throw new HttpError(413, `the text has ${size} bytes, of ${MOST_BYTES} at most`, {
        hint: 'a policy of this size is better split',
      });
    const waiting = this.#waiting.get(user) ?? 0;
    if (waiting >= MOST_WAITING)
      throw new HttpError(429, 'other previews of yours are still being made', { hint: 'try again in a moment' });
    this.#waiting.set(user, waiting + 1);
    const before = this.#last.get(user) ?? Promise.resolve();
    const own = before.then(() => this.#make(text, viewer, limit, signal));
    const settled = own.catch(() => {});
    this.#last.set(user, settled);
    try {
      return await own;
    } finally {
      const left = (this.#waiting.get(user) ?? 1) - 1;
      if (left > 0) this.#waiting.set(user, left);
      else this.#waiting.delete(user);
      if (this.#last.get(user) === settled) this.#last.delete(user);
    }
  }

  async #make(text: string, viewer: Viewer, limit: number, signal: AbortSignal): Promise<PreviewAnswer> {
    if (signal.aborted) throw new AgentError('AGENT', 'the page has left');
    const { namespaces, enforced, isTooLarge } = await this.#reader.read(text);
    const rights = await rightsOf(namespaces, viewer);
    if (isTooLarge)
      throw new HttpError(413, 'the text is too large with its aliases written out', { field: 'manifests' });
    // Of a list that was cut, what is missing would tell of flows that may not be seen: that is cut here.
    const asked = { manifests: enforced ?? text, limit: rights.writes ? limit : MOST_FLOWS };
    const response = await this.#source.preview(asked, DEADLINE_MS, signal);
    const made = previewAnswer(response, rights, enforced !== undefined);
    const answer = { ...made, problems: await this.#reader.locate(text, made.problems) };
    const { flows } = answer;
    return rights.writes ? answer : { ...answer, flows: flows.slice(0, limit), more: flows.length > limit };
  }
}

/** The answer; its problems have no places yet. */
export function previewAnswer(response: PreviewResponse, rights: PreviewRights, isAsEnforced: boolean): PreviewAnswer {
  const { edges = [], judged = 0, unknown = 0, opened = 0, closed = 0, more = false, problems = [] } = response;
  const flows = edges.map(flowChange).filter((flow) => isSeenFlow(flow, rights));
  const { scope } = rights;
  const { changes, leftOut, pods } = reachOf(rights.writes ? (response.diff ?? '') : '', scope);
  const whole = scope === undefined;
  return {
    judged: whole ? judged : flows.length,
    unknown: whole ? unknown : 0,
    opened: whole ? opened : flows.filter(isOpened).length,
    closed: whole ? closed : flows.filter((f) => !isOpened(f)).length,
    // What is not told is not counted either: with a limit of one flow, it would tell whether there is one.
    more: rights.writes && more,
    flows,
    reach: changes.flatMap((change) => seenReach(change, scope)),
    reachLeftOut: leftOut,
    pods: whole ? pods : 0,
    problems: problems.map(problemOf),
    asEnforced: isAsEnforced,
  };
}

const RANK: Readonly<Record<string, number>> = { unknown: 0, deny: 0, partial: 1, allow: 2 };

function isOpened({ was, is }: FlowChange): boolean {
  return (RANK[is] ?? 0) > (RANK[was] ?? 0);
}

/**
 * Policies judge what the source sends. Where it goes to is told if that may be seen, is outside of the cluster, or
 * if the viewer may write such policies: else a policy with one label after the other would tell the labels of others.
 */
function isSeenFlow({ source, destination }: FlowChange, { scope, writes }: PreviewRights): boolean {
  if (scope === undefined) return true;
  if (!mayUse(scope, source.namespace)) return false;
  return writes || destination.namespace === '' || mayUse(scope, destination.namespace);
}

/** Whose preview it is. */
export interface PreviewRights {
  readonly scope: Scope;
  /** The viewer may write policies of all namespaces that the text is for. */
  readonly writes: boolean;
}

/**
 * What a viewer of some namespaces may ask for: policies of these, and of no others.
 * @throws HttpError 403
 */
async function rightsOf(namespaces: readonly string[], viewer: Viewer): Promise<PreviewRights> {
  const scope = await viewer.scope();
  if (scope === undefined) return { scope, writes: true };
  for (const namespace of namespaces)
    if (!mayUse(scope, namespace))
      throw new HttpError(403, namespace === '' ? 'an object is of no namespace' : `you may not see ${namespace}`, {
        field: 'metadata.namespace',
        hint: 'a preview here is of policies of namespaces that you may see',
      });
  const rights = await Promise.all(namespaces.map((namespace) => viewer.mayWrite?.(namespace) ?? false));
  return { scope, writes: rights.length > 0 && rights.every(Boolean) };
}

function flowChange({ edge = {}, connections, last_at, was, is, was_rule, is_rule }: EdgeChangeMessage): FlowChange {
  const { source, destination, service, port, protocol } = edgeOf(edge);
  return {
    ...{ source, destination, service, port, protocol },
    connections: Number(connections ?? 0),
    lastMs: millisOf(last_at) ?? 0,
    was: was ?? 'unknown',
    is: is ?? 'unknown',
    wasRule: was_rule ?? '',
    isRule: is_rule ?? '',
  };
}

/** Reads what `egressctl diff -o json` would say. What is not as expected is left out. */
function reachOf(json: string, scope: Scope): { changes: ReachChange[]; leftOut: number; pods: number } {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    value = undefined;
  }
  const { changes, leftOut, pods } = isRecord(value) ? value : {};
  const list = Array.isArray(changes) ? changes.filter(isRecord) : [];
  return {
    changes: list.map((change) => reachChange(change, scope)),
    leftOut: Number(leftOut ?? 0),
    pods: Number(pods ?? 0),
  };
}

function reachChange(change: Readonly<Record<string, unknown>>, scope: Scope): ReachChange {
  const { senders, text, was, is } = change;
  const { to: named, ports } = isRecord(text) ? text : {};
  const outcome = (value: unknown) => (isRecord(value) ? value : {});
  // The text has the names of all pods at the addresses.
  const to = scope === undefined ? named : namelessTexts(change.to, scope);
  return {
    senders: listed(senders),
    to: listed(to),
    ports: String(ports ?? ''),
    when: situationText(change),
    was: String(outcome(was).verdict ?? 'unknown'),
    is: String(outcome(is).verdict ?? 'unknown'),
    wasRule: String(outcome(was).rule ?? ''),
    isRule: String(outcome(is).rule ?? ''),
  };
}

function namelessTexts(to: unknown, scope: Scope): unknown {
  if (!isRecord(to)) return [];
  if (to.kind !== 'service') return to.ranges;
  const service = String(to.service);
  return [isSeenWorkload(service, scope) ? `Service ${service}` : 'a Service of another namespace'];
}

function listed(value: unknown): string[] {
  const all = Array.isArray(value) ? value.map(String) : [];
  return all.length > LISTED ? [...all.slice(0, LISTED), `${all.length - LISTED} more`] : all;
}

function seenReach(change: ReachChange, scope: Scope): ReachChange[] {
  if (scope === undefined) return [change];
  const senders = change.senders.filter((sender) => isSeenWorkload(sender, scope));
  return senders.length === 0 ? [] : [{ ...change, senders }];
}
