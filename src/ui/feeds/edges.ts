/**
 * The edges of one window and some namespaces, as they change: read once from the agent or relay, however many pages
 * look at them.
 */
import { DAY_MS, type Edge, edgeRuleText, edgeText, type EdgeRule } from '../../edges/edge.js';
import { edgeOf, millisOf, timestampOf } from '../../edges/wire.js';
import type { EdgesRequest, EdgesResponse } from '../../proto/edges.js';
import type { EdgeInfo, EdgeRow, RuleName, Window } from '../wire/messages.js';

/** The part of a client that is used. */
export interface EdgeSource {
  edges(request: EdgesRequest, signal?: AbortSignal): AsyncIterable<EdgesResponse>;
}

const WINDOW_MS: Readonly<Record<Window, number>> = {
  live: 15 * 60_000,
  '24h': DAY_MS,
  '7d': 7 * DAY_MS,
  '35d': 35 * DAY_MS,
};

/** Rows that are asked for at most: an edge has one for each ledger and day. */
const MOST_ROWS = 400_000;
/** Edges that are kept; those that were seen last. */
const MOST_EDGES = 20_000;
/** Edges that are remembered, of all ledgers: with more, the stream is to begin anew. */
export const MOST_REMEMBERED = 200_000;

/** What a ledger saw of an edge on one day. */
interface Day {
  /** Days since 1970. */
  readonly day: number;
  first: number;
  last: number;
  connections: number;
  bytes: number;
  drops: number;
  hours: number;
}

/** An edge of all ledgers. */
export interface KnownEdge {
  readonly info: EdgeInfo;
  /** By ledger and day: `ledger/day`. */
  readonly parts: Map<string, Day>;
  /** Number of the last change, ascending. */
  changed: number;
  lastMs: number;
}

/** Milliseconds since 1970 at which a window begins. */
export function windowStart(window: Window, nowMs: number): number {
  return nowMs - WINDOW_MS[window];
}

/** The edges of a window, put together of the rows of all ledgers. */
export class EdgeTable {
  readonly window: Window;
  /** By all that makes an edge what it is. */
  readonly #byText = new Map<string, KnownEdge>();
  readonly #byId = new Map<number, KnownEdge>();
  /** By ledger, by the edge's id there. */
  readonly #ledgers = new Map<number, Map<number, KnownEdge>>();
  readonly #overflow = new Map<number, number>();
  readonly #began = new Map<number, number>();
  #next = 1;
  #change = 0;
  more = false;
  caughtUp = false;
  unavailable: readonly string[] = [];

  constructor(window: Window) {
    this.window = window;
  }

  get overflow(): number {
    let sum = 0;
    for (const n of this.#overflow.values()) sum += n;
    return sum;
  }

  /** Since when the oldest ledger counts, milliseconds since 1970; undefined: nothing came. */
  get beganMs(): number | undefined {
    let oldest: number | undefined;
    for (const ms of this.#began.values()) oldest = Math.min(oldest ?? ms, ms);
    return oldest;
  }

  /** Number of the last change. */
  get changes(): number {
    return this.#change;
  }

  /**
   * Edges that are known, those that have left the window too: ledgers describe an edge once, and may say more of it at
   * any time.
   */
  get remembered(): number {
    let sum = 0;
    for (const own of this.#ledgers.values()) sum += own.size;
    return sum;
  }

  /** The edges that have changed since a number of `changes`. */
  *since(change: number): Iterable<KnownEdge> {
    for (const edge of this.#byId.values()) if (edge.changed > change) yield edge;
  }

  /** Takes one message of the stream. */
  add(m: EdgesResponse): void {
    for (const part of m.parts ?? []) this.#take(part);
    this.#take(m);
  }

  #take(m: EdgesResponse): void {
    const change = ++this.#change;
    const ledger = Number(m.ledger ?? 0);
    for (const gone of m.gone_ledgers ?? []) this.#forget(Number(gone), change);
    let own = this.#ledgers.get(ledger);
    if (!own) this.#ledgers.set(ledger, (own = new Map()));
    for (const message of m.edges ?? []) {
      const edge = edgeOf(message);
      own.set(edge.id, this.#known(edge, change));
    }
    const ids = m.id ?? [];
    // One text for each day, not for each row: there are hundred thousands of rows.
    const keys = new Map<number, string>();
    for (let n = 0; n < ids.length; n++) {
      const known = own.get(Number(ids[n]));
      // A row without its edge cannot be shown.
      if (!known) continue;
      this.#back(known);
      const last = Number(m.last_ms?.[n] ?? 0);
      const day = m.day?.[n] ?? 0;
      let key = keys.get(day);
      if (key === undefined) keys.set(day, (key = `${ledger}/${day}`));
      known.parts.set(key, {
        day,
        first: Number(m.first_ms?.[n] ?? 0),
        last,
        connections: Number(m.connections?.[n] ?? 0),
        bytes: Number(m.bytes?.[n] ?? 0),
        drops: Number(m.drops?.[n] ?? 0),
        hours: m.hours?.[n] ?? 0,
      });
      known.changed = change;
      known.lastMs = Math.max(known.lastMs, last);
    }
    const began = millisOf(m.began_at);
    if (began !== undefined) this.#began.set(ledger, Math.min(this.#began.get(ledger) ?? began, began));
    if (m.overflow !== undefined) this.#overflow.set(ledger, Number(m.overflow));
    // Who has caught up names all of them: none, if all are back.
    if (m.unavailable_nodes || m.caught_up) this.unavailable = [...(m.unavailable_nodes ?? [])];
    this.more ||= m.more ?? false;
    this.caughtUp ||= m.caught_up ?? false;
  }

  /** Takes back what a ledger has said. Edges that no other has seen leave with the next expire(). */
  #forget(ledger: number, change: number): void {
    const own = this.#ledgers.get(ledger);
    if (!own) return;
    this.#ledgers.delete(ledger);
    this.#overflow.delete(ledger);
    this.#began.delete(ledger);
    for (const edge of own.values()) {
      for (const key of edge.parts.keys()) if (key.startsWith(`${ledger}/`)) edge.parts.delete(key);
      edge.lastMs = [...edge.parts.values()].reduce((last, part) => Math.max(last, part.last), 0);
      edge.changed = change;
    }
  }

  /** Forgets the edges that have left the window, and of too many those that were seen first. @returns their ids */
  expire(nowMs: number): number[] {
    const start = windowStart(this.window, nowMs);
    const gone = [...this.#byId.values()].filter(({ lastMs }) => lastMs < start);
    const left = this.#byId.size - gone.length;
    if (left > MOST_EDGES) {
      const kept = [...this.#byId.values()].filter(({ lastMs }) => lastMs >= start);
      gone.push(...kept.sort((a, b) => a.lastMs - b.lastMs).slice(0, left - MOST_EDGES));
      this.more = true;
    }
    for (const edge of gone) {
      this.#byId.delete(edge.info.id);
      this.#byText.delete(textOf(edge.info));
    }
    if (gone.length > 0) {
      const ids = new Set(gone.map(({ info }) => info.id));
      for (const own of this.#ledgers.values())
        for (const edge of own.values()) if (ids.has(edge.info.id)) edge.parts.clear();
    }
    return gone.map(({ info }) => info.id);
  }

  /** An edge that had left the window, and is seen again. */
  #back(edge: KnownEdge): void {
    if (this.#byId.has(edge.info.id)) return;
    this.#byId.set(edge.info.id, edge);
    this.#byText.set(textOf(edge.info), edge);
  }

  #known(edge: Edge, change: number): KnownEdge {
    const text = edgeText(edge);
    const known = this.#byText.get(text);
    if (known) return known;
    const made: KnownEdge = { info: infoOf(edge, this.#next++), parts: new Map(), changed: change, lastMs: 0 };
    texts.set(made.info, text);
    this.#byText.set(text, made);
    this.#byId.set(made.info.id, made);
    return made;
  }
}

const texts = new WeakMap<EdgeInfo, string>();

function textOf(info: EdgeInfo): string {
  return texts.get(info) ?? '';
}

/** The sum of an edge's rows. */
export function rowOf({ info, parts }: KnownEdge, window: Window, nowMs: number): EdgeRow {
  const today = Math.floor(nowMs / DAY_MS);
  const firstDay = Math.floor(windowStart(window, nowMs) / DAY_MS);
  let [first, last, connections, bytes, drops, days, hours] = [Number.MAX_SAFE_INTEGER, 0, 0, 0, 0, 0, 0];
  for (const part of parts.values()) {
    const { day } = part;
    if (day < firstDay) continue;
    first = Math.min(first, part.first);
    last = Math.max(last, part.last);
    connections += part.connections;
    bytes += part.bytes;
    drops += part.drops;
    const ago = Math.max(0, today - day);
    // 35 days do not fit into the 32 bits of JavaScript's operators.
    if (ago < 35 && Math.floor(days / 2 ** ago) % 2 === 0) days += 2 ** ago;
    hours |= part.hours;
  }
  return [info.id, last === 0 ? 0 : first, last, connections, bytes, drops, days, hours >>> 0];
}

/**
 * The request for a window.
 * @param live whether a relay that keeps a history, which it asks its agents for once a minute, is to pass on what they
 * say now
 */
export function requestOf(window: Window, namespaces: readonly string[], nowMs: number, live: boolean): EdgesRequest {
  return {
    follow: true,
    interval_ms: 1000,
    since: timestampOf(windowStart(window, nowMs)),
    ...(namespaces.length > 0 ? { namespaces: [...namespaces] } : {}),
    limit: MOST_ROWS,
    ...(live ? { live } : {}),
  };
}

function infoOf(edge: Edge, id: number): EdgeInfo {
  const { id: _, rule, auditRule, ...rest } = edge;
  return {
    ...rest,
    id,
    ...(rule ? { rule: ruleOf(rule) } : {}),
    ...(auditRule ? { auditRule: ruleOf(auditRule) } : {}),
  };
}

function ruleOf(rule: EdgeRule): RuleName {
  const { policy, index, staged, tier, action } = rule.ref;
  return {
    text: edgeRuleText(rule),
    kind: policy.kind,
    namespace: policy.namespace ?? '',
    name: policy.name,
    index,
    staged,
    dialect: policy.dialect,
    tier,
    action,
  };
}
