/** Follows several nodes: endless streams, and nodes that are added, deleted, lost and found again. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentError } from '../../errors.js';
import { timestamp } from '../../flow/hubble.js';
import type { GetFlowsRequest, GetRecordsResponse } from '../../proto/messages.js';
import { type FlowNode, type FlowNodes, faultEvent, isRefusal, nodeEvent } from '../nodes/nodes.js';
import { nanosOf, Pump } from './pump.js';

export interface LiveOptions {
  holdBackMs: number;
  most: number;
  mostBytes: () => number;
  retryMs: number;
}

/** Time that the start waits for nodes, in milliseconds. Later nodes join when they answer. */
const OPEN_MS = 3000;
const LONGEST_RETRY_MS = 15_000;
/** Maximum disorder of a node's flows in nanoseconds. This period is read again after an interruption. */
const AGAIN_NS = 10_000_000n;

interface Following {
  node: FlowNode;
  end: AbortController;
  state: 'opening' | 'open' | 'lost' | 'ended';
  /** Time of the latest past flow: older flows were sent already, or not requested. Used until the first new flow. */
  floor: bigint | undefined;
  /** Time of the latest flow, and the UUIDs of flows shortly before it. */
  latest: bigint | undefined;
  recent: Map<string, bigint>;
}

/** The streams of all nodes for one reader. */
export class Live {
  readonly #nodes: FlowNodes;
  readonly #request: GetFlowsRequest;
  readonly #signal: AbortSignal;
  readonly #opts: LiveOptions;
  readonly #pump: Pump;
  readonly #following = new Map<string, Following>();
  readonly #startedNs = BigInt(Date.now()) * 1_000_000n;
  /** Whether the start is over. Until then, changes of nodes are collected and reported together. */
  #started = false;
  #refused: AgentError | undefined;
  #changed: () => void = () => {};
  #tellPast: () => void = () => {};
  readonly #pastTold = new Promise<void>((resolve) => {
    this.#tellPast = resolve;
  });

  constructor(nodes: FlowNodes, request: GetFlowsRequest, signal: AbortSignal, opts: LiveOptions) {
    this.#nodes = nodes;
    this.#signal = signal;
    this.#opts = opts;
    // Past flows are requested separately.
    const { number: _, since: __, ...rest } = request;
    this.#request = rest;
    this.#pump = new Pump({ ...opts, mostOfEach: opts.most, stallMs: Number.POSITIVE_INFINITY, onStall: () => {} });
  }

  /** Starts with the present nodes. @returns those whose stream is open */
  async open(): Promise<FlowNode[]> {
    this.#updateNodes();
    const stop = this.#nodes.onChange(() => this.#updateNodes());
    this.#signal.addEventListener('abort', () => {
      stop();
      this.#tellPast();
      for (const f of this.#following.values()) f.end.abort();
      this.#pump.nudge();
      this.#changed();
    });
    const waited = AbortSignal.timeout(OPEN_MS);
    const late = () => this.#changed();
    waited.addEventListener('abort', late);
    while (!this.#signal.aborted && !waited.aborted && [...this.#following.values()].some((f) => f.state === 'opening'))
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    waited.removeEventListener('abort', late);
    this.#started = true;
    const open = [...this.#following.values()].filter((f) => f.state === 'open').map((f) => f.node);
    for (const f of this.#following.values()) if (f.state === 'opening') this.#tellLate(f);
    if (open.length > 0) {
      const names = open.map((n) => n.name).sort();
      this.#pump.sendNow(nodeEvent('NODE_CONNECTED', names));
    }
    return open;
  }

  /** Records a past flow, because the stream of new flows may begin with it, and with older ones. */
  notePast(id: string, flow: GetRecordsResponse): void {
    const f = this.#following.get(id);
    if (!f) return;
    note(f, flow.record?.flow.uuid ?? '', nanosOf(flow.time));
    f.floor = f.latest;
  }

  /** The new flows, to be read after the past flows. */
  async *items(): AsyncGenerator<GetRecordsResponse> {
    this.#tellPast();
    const ended = () =>
      this.#refused !== undefined ||
      (this.#request.until !== undefined && [...this.#following.values()].every((f) => f.state === 'ended'));
    yield* this.#pump.items(ended, this.#signal);
    if (this.#refused) throw this.#refused;
  }

  /** Starts to follow added nodes, and stops to follow deleted ones. */
  #updateNodes(): void {
    if (this.#signal.aborted) return;
    const now = new Map(this.#nodes.list().map((node) => [node.id, node]));
    for (const [id, f] of this.#following) {
      if (now.has(id)) continue;
      this.#following.delete(id);
      f.end.abort();
      this.#pump.leave(id);
      this.#pump.nudge();
      this.#pump.sendNow(nodeEvent('NODE_GONE', [f.node.name]));
    }
    for (const [id, node] of now) {
      if (this.#following.has(id)) continue;
      const f: Following = {
        node,
        end: new AbortController(),
        state: 'opening',
        floor: undefined,
        latest: undefined,
        recent: new Map(),
      };
      this.#following.set(id, f);
      void this.#follow(f);
    }
    this.#changed();
  }

  async #follow(f: Following): Promise<void> {
    const { node, end } = f;
    // A node that joins later is asked for all flows since the start, since its first flows are older than its
    // discovery.
    let since = this.#started ? this.#startedNs : undefined;
    let retryMs = this.#opts.retryMs;
    while (!end.signal.aborted) {
      const request = { ...this.#request, ...(since === undefined ? {} : { since: timestamp(since) }) };
      const opened = () => {
        retryMs = this.#opts.retryMs;
        this.#opened(f);
      };
      try {
        const stream = node.getRecords(request, end.signal, opened);
        await this.#pump.feed(node.id, this.#afterPast(stream), end.signal, (response) => this.#isNew(f, response));
        if (end.signal.aborted) return;
        if (this.#isOver()) {
          f.state = 'ended';
          this.#pump.leave(node.id);
          this.#changed();
          return;
        }
        this.#lost(f, nodeEvent('NODE_UNAVAILABLE', [node.name], `${node.name} has ended its stream`));
      } catch (e) {
        if (end.signal.aborted) return;
        if (isRefusal(e)) {
          this.#refused = e;
          f.state = 'lost';
          this.#changed();
          this.#pump.leave(node.id);
          return;
        }
        this.#lost(f, faultEvent(node, e));
      }
      since = f.latest === undefined ? this.#startedNs : f.latest - AGAIN_NS;
      // Many readers lose a node at the same moment. A random delay spreads their attempts.
      await sleep(retryMs * (0.5 + Math.random()), undefined, { signal: end.signal }).catch(() => {});
      retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
    }
  }

  /** New flows wait in the agent's hub until the past flows have been sent. */
  async *#afterPast(stream: AsyncIterable<GetRecordsResponse>): AsyncGenerator<GetRecordsResponse> {
    for await (const response of stream) {
      await this.#pastTold;
      yield response;
    }
  }

  #opened(f: Following): void {
    if (f.end.signal.aborted) return;
    f.state = 'open';
    this.#pump.join(f.node.id);
    if (this.#started) this.#pump.sendNow(nodeEvent('NODE_CONNECTED', [f.node.name]));
    this.#changed();
  }

  /** Reports each loss of a node once, however many attempts fail. */
  #lost(f: Following, event: GetRecordsResponse): void {
    this.#pump.leave(f.node.id);
    if (f.state !== 'lost') this.#pump.sendNow(event);
    f.state = 'lost';
    this.#changed();
  }

  #tellLate(f: Following): void {
    f.state = 'lost';
    this.#pump.sendNow(nodeEvent('NODE_UNAVAILABLE', [f.node.name], `${f.node.name} has not answered yet`));
  }

  /** Whether the end of the requested period is over, so that the stream ended regularly. */
  #isOver(): boolean {
    const { until } = this.#request;
    return until !== undefined && nanosOf(until) <= BigInt(Date.now()) * 1_000_000n + AGAIN_NS;
  }

  #isNew(f: Following, response: GetRecordsResponse): boolean {
    const uuid = response.record?.flow.uuid;
    if (uuid === undefined) return true;
    const time = nanosOf(response.time);
    if (f.recent.has(uuid) || (f.floor !== undefined && time < f.floor)) return false;
    f.floor = undefined;
    note(f, uuid, time);
    return true;
  }
}

function note(f: Following, uuid: string, time: bigint): void {
  if (f.latest === undefined || time > f.latest) f.latest = time;
  f.recent.set(uuid, time);
  for (const [old, at] of f.recent) {
    if (at >= f.latest - AGAIN_NS) break;
    f.recent.delete(old);
  }
}
