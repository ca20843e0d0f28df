/** What a policy in an editor would change, as the page is told it. */
import { AgentError } from '../../errors.js';
import { edgeOf, millisOf } from '../../edges/wire.js';
import { parseManifest } from '../../identity/files/yaml.js';
import { isRecord } from '../../identity/fields.js';
import type { EdgeChangeMessage, PreviewRequest, PreviewResponse } from '../../proto/edges.js';
import { enforcedForm, isStaged } from '../../staging/forms.js';
import { situationText } from '../../tools/names/changes.js';
import { mayUse, type Scope } from '../access/viewer.js';
import { HttpError } from '../http/answers.js';
import type { FlowChange, PreviewAnswer, ReachChange } from '../wire/policies.js';
import { isSeenWorkload, problemOf } from './board.js';
import { located } from './positions.js';

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
/** Previews of one user that wait at most. */
const MOST_WAITING = 4;

/** One preview of a user at a time: another one waits, and one whose page has left is taken back. */
export class Previews {
  readonly #source: PreviewSource;
  readonly #waiting = new Map<string, number>();
  readonly #last = new Map<string, Promise<unknown>>();

  constructor(source: PreviewSource) {
    this.#source = source;
  }

  /** @throws HttpError 413, 429; AgentError */
  async ask(user: string, text: string, scope: Scope, limit: number, signal: AbortSignal): Promise<PreviewAnswer> {
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
    const own = before.then(() => this.#make(text, scope, limit, signal));
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

  async #make(text: string, scope: Scope, limit: number, signal: AbortSignal): Promise<PreviewAnswer> {
    if (signal.aborted) throw new AgentError('AGENT', 'the page has left');
    const enforced = asEnforced(text);
    const response = await this.#source.preview({ manifests: enforced ?? text, limit }, DEADLINE_MS, signal);
    return previewAnswer(text, response, scope, enforced !== undefined);
  }
}

/**
 * The text with its staged policies as they would be in force: what they change is what one wants to know.
 * @returns undefined: none is staged, or the text is broken
 */
function asEnforced(text: string): string | undefined {
  const documents = parseManifest('', text);
  if (documents.some((d) => d.broken)) return undefined;
  const objects = documents.flatMap((d) => d.objects.map(({ object }) => object));
  if (!objects.some(isStaged)) return undefined;
  try {
    return objects.map((object) => JSON.stringify(enforcedForm(object))).join('\n---\n');
  } catch {
    return undefined; // a number that JSON does not have
  }
}

/** @param text as it is in the editor: problems are found in it */
export function previewAnswer(
  text: string,
  response: PreviewResponse,
  scope: Scope,
  isAsEnforced: boolean,
): PreviewAnswer {
  const { edges = [], judged = 0, unknown = 0, opened = 0, closed = 0, more = false, problems = [] } = response;
  const flows = edges.map(flowChange).filter((flow) => isSeenFlow(flow, scope));
  const { changes, leftOut, pods } = reachOf(response.diff ?? '');
  const whole = scope === undefined;
  return {
    judged: whole ? judged : flows.length,
    unknown: whole ? unknown : 0,
    opened: whole ? opened : flows.filter(isOpened).length,
    closed: whole ? closed : flows.filter((f) => !isOpened(f)).length,
    more,
    flows,
    reach: changes.flatMap((change) => seenReach(change, scope)),
    reachLeftOut: leftOut,
    pods: whole ? pods : 0,
    problems: located(text, problems.map(problemOf)),
    asEnforced: isAsEnforced,
  };
}

const RANK: Readonly<Record<string, number>> = { unknown: 0, deny: 0, partial: 1, allow: 2 };

function isOpened({ was, is }: FlowChange): boolean {
  return (RANK[is] ?? 0) > (RANK[was] ?? 0);
}

function isSeenFlow({ source, destination }: FlowChange, scope: Scope): boolean {
  return scope === undefined || mayUse(scope, source.namespace) || mayUse(scope, destination.namespace);
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
function reachOf(json: string): { changes: ReachChange[]; leftOut: number; pods: number } {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    value = undefined;
  }
  const { changes, leftOut, pods } = isRecord(value) ? value : {};
  const list = Array.isArray(changes) ? changes.filter(isRecord) : [];
  return { changes: list.map(reachChange), leftOut: Number(leftOut ?? 0), pods: Number(pods ?? 0) };
}

function reachChange(change: Readonly<Record<string, unknown>>): ReachChange {
  const { senders, text, was, is } = change;
  const { to, ports } = isRecord(text) ? text : {};
  const outcome = (value: unknown) => (isRecord(value) ? value : {});
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

function listed(value: unknown): string[] {
  const all = Array.isArray(value) ? value.map(String) : [];
  return all.length > LISTED ? [...all.slice(0, LISTED), `${all.length - LISTED} more`] : all;
}

function seenReach(change: ReachChange, scope: Scope): ReachChange[] {
  if (scope === undefined) return [change];
  const senders = change.senders.filter((sender) => isSeenWorkload(sender, scope));
  return senders.length === 0 ? [] : [{ ...change, senders }];
}
