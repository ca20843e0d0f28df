/** POST /api/stream: what a page looks at, as it changes. */
import { isAskedAway, seenEdge, seenFlow, seenNode, seenTrouble } from '../access/mask.js';
import { isAsking, narrowed } from '../access/narrow.js';
import { askedOf, type Scope, type Viewer } from '../access/viewer.js';
import { ScopeWatch } from '../access/watch.js';
import { compileFilter } from '../../flow/filter/filter.js';
import type { Filters } from '../../flow/filter/options.js';
import { filtersOf } from '../feeds/chips.js';
import { rowOf, windowStart } from '../feeds/edges.js';
import { EdgeFeed } from '../feeds/edge-feed.js';
import { FlowFeed, type RecordSource, type Sample } from '../feeds/flows.js';
import { briefOf, NodesFeed } from '../feeds/nodes.js';
import type { NodeSource } from '../feeds/nodes.js';
import { policiesKey } from '../feeds/policies.js';
import type { EdgeSource } from '../feeds/edges.js';
import { Shared } from '../feeds/shared.js';
import { Signal } from '../feeds/signal.js';
import type { EdgeInfo, EdgeRow, FlowRow, StreamMessage, View, Window } from '../wire/messages.js';

/** Rows in one message: what a page draws in one frame. */
const ROWS_A_MESSAGE = 2000;
/** Flows of the past in one message: all of it is parsed by a page at once. */
const PAST_A_MESSAGE = 500;
/**
 * Until all edges have come, so many milliseconds of them are one message: sources send thousands of rows as dozens of
 * small messages, and each costs the page a frame.
 */
const GATHER_MS = 150;
/** Samples that wait for a page that is slow. */
const MOST_SAMPLES = 10;

/** Where a stream's messages go. */
export interface Outlet {
  /** @returns whether more may be sent at once */
  send(message: StreamMessage): boolean;
  /** Resolves when more may be sent. */
  drained(): Promise<void>;
  readonly signal: AbortSignal;
}

/** What all pages share. */
export class Feeds {
  readonly #edges: Shared<EdgeFeed>;
  readonly #nodes: Shared<NodesFeed>;
  readonly #flows: Shared<FlowFeed>;

  constructor(source: EdgeSource & RecordSource & NodeSource) {
    this.#edges = new Shared((key) => {
      const [window, ...namespaces] = JSON.parse(key) as [Window, ...string[]];
      return new EdgeFeed(source, window, namespaces);
    });
    this.#nodes = new Shared(() => new NodesFeed(source));
    this.#flows = new Shared((key) => new FlowFeed(source, JSON.parse(key) as Filters));
  }

  close(): void {
    this.#edges.close();
    this.#nodes.close();
    this.#flows.close();
  }

  /**
   * Serves one page until it goes.
   * @throws AgentError USAGE before the first message, if a chip cannot be used
   */
  async serve(view: View, viewer: Viewer, begin: () => Outlet): Promise<void> {
    // What cannot be used is said before the first message.
    await filtersOf(view.chips, view.namespaces);
    const ending = new AbortController();
    const end = () => ending.abort();
    const watch = await ScopeWatch.start(viewer, ending.signal);
    let page: Outlet;
    try {
      const own = askedOf(view.namespaces, watch.scope);
      if (view.flows && own) await ownFilters(view, own, watch.scope);
      page = begin();
    } catch (e) {
      end();
      throw e;
    }
    // A stream ends with its page, and with its viewer's session.
    for (const signal of [page.signal, watch.over]) signal.addEventListener('abort', end, { once: true });
    if (page.signal.aborted) end();
    const outlet = until(page, ending.signal);
    let last = view.flows?.last ?? 0;
    const ids = { next: 1 };
    try {
      await Promise.all([
        view.edges ? whileScoped(watch, outlet, (scope, to) => this.#serveEdges(view, scope, to)) : undefined,
        view.flows
          ? whileScoped(watch, outlet, async (scope, to) => {
              const past = last;
              // With other rights, what was sent is not sent again.
              last = 0;
              await this.#serveFlows({ view, last: past, ids }, scope, to);
            })
          : undefined,
        this.#serveNodes(watch, outlet),
      ]);
    } catch (e) {
      if (!ending.signal.aborted) throw e;
    } finally {
      end();
      page.signal.removeEventListener('abort', end);
    }
  }

  async #serveEdges(view: View, scope: Scope, outlet: Outlet): Promise<void> {
    const namespaces = askedOf(view.namespaces, scope);
    if (!namespaces) {
      outlet.send({ ...EMPTY, nowMs: Date.now() });
      await over(outlet.signal);
      return;
    }
    const { value: feed, leave } = this.#edges.take(this.#keyOf(view.window, namespaces));
    const own = new Set(namespaces);
    const isAsked = ({ source, destination }: EdgeInfo) =>
      own.size === 0 || own.has(source.namespace) || own.has(destination.namespace);
    const changes = new Signal(outlet.signal);
    let gone: number[] = [];
    let told = new Set<number>();
    const stop = feed.onChange((ids) => {
      gone.push(...ids);
      changes.ring();
    });
    try {
      let [epoch, change, trouble] = [-1, 0, ''];
      let said = '';
      while (!outlet.signal.aborted) {
        if (feed.trouble !== trouble) {
          trouble = feed.trouble;
          outlet.send({ type: 'trouble', about: 'edges', message: seenTrouble(trouble, scope) });
        }
        if (feed.epoch !== epoch) {
          // The ids of a new table are others.
          if (epoch >= 0) outlet.send({ ...headOf(feed, scope), gone: [...told], edges: [], rows: [] });
          [epoch, change, told, gone, said] = [feed.epoch, 0, new Set(), [], ''];
        }
        const { table } = feed;
        const nowMs = Date.now();
        const due = [...table.since(change)];
        change = table.changes;
        const left = gone.filter((id) => told.delete(id));
        gone = [];
        for (let at = 0; at < due.length || at === 0; at += ROWS_A_MESSAGE) {
          const edges: EdgeInfo[] = [];
          const rows: EdgeRow[] = [];
          for (const edge of due.slice(at, at + ROWS_A_MESSAGE)) {
            const seen = isAsked(edge.info) ? seenEdge(edge.info, scope) : undefined;
            if (!seen) continue;
            const row = rowOf(edge, table.window, nowMs);
            // Ledgers answer in whole days.
            if (row[2] < windowStart(table.window, nowMs)) continue;
            rows.push(row);
            if (!told.has(seen.id)) edges.push(seen);
            told.add(seen.id);
          }
          const isLast = at + ROWS_A_MESSAGE >= due.length;
          const head = headOf(feed, scope);
          const message = {
            ...head,
            caughtUp: head.caughtUp && isLast,
            edges,
            rows,
            ...(at === 0 && left.length > 0 ? { gone: left } : {}),
          };
          const now = JSON.stringify([head.caughtUp, head.overflow, head.more, head.unavailable]);
          if (edges.length + rows.length + left.length === 0 && now === said) continue;
          if (isLast) said = now;
          if (!outlet.send(message)) await outlet.drained();
        }
        await changes.wait();
        const until = performance.now() + GATHER_MS;
        while (!feed.table.caughtUp && feed.trouble === trouble && feed.epoch === epoch && !outlet.signal.aborted) {
          const left = until - performance.now();
          if (left <= 0) break;
          await changes.wait(left);
        }
      }
    } finally {
      stop();
      leave();
      if (told.size > 0) outlet.send({ ...EMPTY, gone: [...told], nowMs: Date.now() });
    }
  }

  /** A source serves some streams at once. Where there are many, those of all namespaces are shared, and looked through. */
  #keyOf(window: Window, namespaces: readonly string[]): string {
    const own = JSON.stringify([window, ...namespaces]);
    return this.#edges.size < MOST_FEEDS || this.#edges.has(own) ? own : JSON.stringify([window]);
  }

  async #serveFlows({ view, last, ids }: FlowsAsked, scope: Scope, outlet: Outlet): Promise<void> {
    const { chips } = view;
    const own = askedOf(view.namespaces, scope);
    if (!own) return over(outlet.signal);
    const filters = await ownFilters(view, own, scope);
    if (!filters) {
      outlet.send({ type: 'flows', flows: [], seen: 0, past: true });
      return over(outlet.signal);
    }
    const { value: feed, leave } = this.#flows.take(JSON.stringify(filters));
    const changes = new Signal(outlet.signal);
    let samples: Sample[] = [];
    let [seen, lost, trouble] = [0, 0, ''];
    const stop = feed.onSample((sample) => {
      if (sample) samples.push(sample);
      // A page that does not keep up gets the newest, and the numbers of all.
      for (const old of samples.splice(0, Math.max(0, samples.length - MOST_SAMPLES))) {
        seen += old.seen;
        lost += old.lost;
      }
      changes.ring();
    });
    const send = async (flows: readonly FlowRow[], past: boolean) => {
      // Gaps between the numbers would tell how many there were of others, and so would messages without flows.
      const shown = flows
        .flatMap((flow) => (isAskedAway(flow, chips, scope) ? [] : (seenFlow(flow, scope) ?? [])))
        .map((flow) => ({ ...flow, id: ids.next++ }));
      if (scope && !past && shown.length === 0) return;
      // How many there were of others is theirs.
      const numbers = scope ? { seen: shown.length } : { seen, lost };
      const message = { type: 'flows' as const, flows: shown, ...numbers, past };
      [seen, lost] = [0, 0];
      if (!outlet.send(message)) await outlet.drained();
    };
    try {
      const past = await feed.past(last, outlet.signal).catch((e: unknown) => {
        const message = seenTrouble((e as Error).message, scope);
        if (!outlet.signal.aborted) outlet.send({ type: 'trouble', about: 'flows', message });
        return [];
      });
      seen += past.length;
      for (let at = 0; at === 0 || at < past.length; at += PAST_A_MESSAGE)
        await send(past.slice(at, at + PAST_A_MESSAGE), true);
      const since = past.at(-1)?.timeMs ?? 0;
      while (!outlet.signal.aborted) {
        if (feed.trouble !== trouble) {
          trouble = feed.trouble;
          outlet.send({ type: 'trouble', about: 'flows', message: seenTrouble(trouble, scope) });
        }
        const due = samples;
        samples = [];
        for (const sample of due) {
          seen += sample.seen;
          lost += sample.lost;
          // The past and the first samples overlap.
          const flows =
            sample.flows[0] && sample.flows[0].timeMs > since
              ? sample.flows
              : sample.flows.filter(({ timeMs }) => timeMs > since);
          if (flows.length + sample.seen + sample.lost > 0) await send(flows, false);
        }
        await changes.wait();
      }
    } finally {
      stop();
      leave();
    }
  }

  async #serveNodes(watch: ScopeWatch, outlet: Outlet): Promise<void> {
    const { value: feed, leave } = this.#nodes.take('');
    const changes = new Signal(outlet.signal);
    const stop = feed.onChange(() => changes.ring());
    let said = '';
    let policies: string | undefined;
    try {
      while (!outlet.signal.aborted) {
        if (feed.nodes.length > 0) {
          const key = policiesKey(feed.nodes);
          if (policies !== undefined && key !== policies) outlet.send({ type: 'changed' });
          policies = key;
        }
        const message: StreamMessage = feed.trouble
          ? { type: 'trouble', about: 'nodes', message: seenTrouble(feed.trouble, watch.scope) }
          : { type: 'nodes', nodes: feed.nodes.map((node) => seenNode(briefOf(node), watch.scope)) };
        const now = JSON.stringify(message);
        // A page that reads nothing is sent nothing: it would all wait here.
        if (now !== said && (feed.trouble !== '' || feed.isAnswered) && !outlet.send(message)) await outlet.drained();
        said = now;
        await changes.wait();
      }
    } finally {
      stop();
      leave();
    }
  }
}

interface FlowsAsked {
  readonly view: View;
  /** Flows of the past. */
  readonly last: number;
  /** Numbers of flows, of one stream. */
  readonly ids: { next: number };
}

/** Streams of edges that a source is asked for; beyond, one more for each window. A relay serves 32. */
const MOST_FEEDS = 20;

/** Namespaces that a source is asked for by name. Of more, all flows are read. */
const MOST_ASKED = 100;

/**
 * The filters for a viewer.
 * @param own the namespaces to ask for, as askedOf() has them
 * @returns undefined: nothing can match
 * @throws AgentError USAGE
 */
async function ownFilters(
  { chips, namespaces }: View,
  own: readonly string[],
  scope: Scope,
): Promise<Filters | undefined> {
  const filters = await filtersOf(chips, namespaces.length > 0 ? own : []);
  if (scope === undefined || (own.length > MOST_ASKED && !isAsking(filters))) return filters;
  const found = narrowed(filters, own);
  if (found) compileFilter(found.whitelist, found.blacklist);
  return found;
}

/** There is nothing, and nothing is to come. */
const EMPTY = {
  type: 'edges' as const,
  edges: [],
  rows: [],
  caughtUp: true,
  more: false,
  unavailable: [],
};

/** @param left nobody waits for it any more */
async function over(signal: AbortSignal, left?: AbortSignal): Promise<void> {
  const options = { once: true, ...(left ? { signal: left } : {}) };
  if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), options));
}

/** The outlet with another end. */
function until(outlet: Outlet, signal: AbortSignal): Outlet {
  return {
    send: (message) => outlet.send(message),
    // A slow page is waited for thousands of times: each time takes its listener with it.
    drained: async () => {
      const left = new AbortController();
      await Promise.race([outlet.drained(), over(signal, left.signal)]);
      left.abort();
    },
    signal,
  };
}

/** Serves, and begins anew whenever the viewer's rights have changed. */
async function whileScoped(
  watch: ScopeWatch,
  outlet: Outlet,
  serve: (scope: Scope, outlet: Outlet) => Promise<void>,
): Promise<void> {
  while (!outlet.signal.aborted) {
    const round = new AbortController();
    const end = () => round.abort();
    const stop = watch.onChange(end);
    outlet.signal.addEventListener('abort', end, { once: true });
    try {
      await serve(watch.scope, until(outlet, round.signal));
    } finally {
      stop();
      outlet.signal.removeEventListener('abort', end);
    }
  }
}

/** What is said of all edges. How many there are of others is theirs. */
function headOf({ table }: EdgeFeed, scope: Scope) {
  return {
    type: 'edges' as const,
    caughtUp: table.caughtUp,
    ...(table.beganMs === undefined ? {} : { beganMs: table.beganMs }),
    ...(scope === undefined ? { overflow: table.overflow } : {}),
    more: table.more,
    unavailable: table.unavailable,
    nowMs: Date.now(),
  };
}
