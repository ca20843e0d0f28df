/** Following several nodes: streams that never end, nodes that come, go and come back. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentError } from '../errors.js';
import { timestamp } from '../flow/hubble.js';
import type { GetFlowsRequest, GetRecordsResponse } from '../rpc/messages.js';
import { type FlowNode, type FlowNodes, faultEvent, isRefusal, nodeEvent } from './nodes.js';
import { nanosOf, Pump } from './pump.js';

export interface LiveOptions {
  holdBackMs: number;
  most: number;
  retryMs: number;
}

/** Milliseconds that the start waits for nodes; later ones join when they answer. */
const OPEN_MS = 3000;
const LONGEST_RETRY_MS = 15_000;
/** Nanoseconds that a node's flows may be out of order: so much is read again after an interruption. */
const AGAIN_NS = 10_000_000n;

interface Following {
  node: FlowNode;
  end: AbortController;
  state: 'opening' | 'open' | 'lost' | 'ended';
  /** The latest flow's time of the past: what is older was told, or was not asked for. Until the first new one. */
  floor: bigint | undefined;
  /** The latest flow's time, and uuids of those shortly before it. */
  latest: bigint | undefined;
  recent: Map<string, bigint>;
}

export class Live {
  readonly #nodes: FlowNodes;
  readonly #request: GetFlowsRequest;
  readonly #signal: AbortSignal;
  readonly #opts: LiveOptions;
  readonly #pump: Pump;
  readonly #following = new Map<string, Following>();
  readonly #startedNs = BigInt(Date.now()) * 1_000_000n;
  /** Until the start is over, states are told together. */
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
    // What was before this is asked for apart.
    const { number: _, since: __, ...rest } = request;
    this.#request = rest;
    this.#pump = new Pump({ ...opts, mostOfEach: opts.most, stallMs: Number.POSITIVE_INFINITY, onStall: () => {} });
  }

  /** Starts with the nodes there are. @returns those whose stream is open */
  async open(): Promise<FlowNode[]> {
    this.#look();
    const stop = this.#nodes.onChange(() => this.#look());
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
      this.#pump.tell(nodeEvent('NODE_CONNECTED', names));
    }
    return open;
  }

  /** A flow of the past: what is to come may begin with it, and with others that are older. */
  told(id: string, flow: GetRecordsResponse): void {
    const f = this.#following.get(id);
    if (!f) return;
    note(f, flow.record?.flow.uuid ?? '', nanosOf(flow.time));
    f.floor = f.latest;
  }

  /** What comes, once the past is told. */
  async *items(): AsyncGenerator<GetRecordsResponse> {
    this.#tellPast();
    const ended = () =>
      this.#refused !== undefined ||
      (this.#request.until !== undefined && [...this.#following.values()].every((f) => f.state === 'ended'));
    yield* this.#pump.items(ended, this.#signal);
    if (this.#refused) throw this.#refused;
  }

  /** Follows the nodes that are new, and those that are gone no longer. */
  #look(): void {
    if (this.#signal.aborted) return;
    const now = new Map(this.#nodes.list().map((node) => [node.id, node]));
    for (const [id, f] of this.#following) {
      if (now.has(id)) continue;
      this.#following.delete(id);
      f.end.abort();
      this.#pump.leave(id);
      this.#pump.nudge();
      this.#pump.tell(nodeEvent('NODE_GONE', [f.node.name]));
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
    // A node that joins later is asked for all since the start: its first flows are older than the news of it.
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
      // Many readers lose a node at the same moment: they come back one after the other.
      await sleep(retryMs * (0.5 + Math.random()), undefined, { signal: end.signal }).catch(() => {});
      retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
    }
  }

  /** What is to come waits, in the agent's hub, until the past is told. */
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
    if (this.#started) this.#pump.tell(nodeEvent('NODE_CONNECTED', [f.node.name]));
    this.#changed();
  }

  /** Told once for each time that it is lost, however often it is tried again. */
  #lost(f: Following, event: GetRecordsResponse): void {
    this.#pump.leave(f.node.id);
    if (f.state !== 'lost') this.#pump.tell(event);
    f.state = 'lost';
    this.#changed();
  }

  #tellLate(f: Following): void {
    f.state = 'lost';
    this.#pump.tell(nodeEvent('NODE_UNAVAILABLE', [f.node.name], `${f.node.name} has not answered yet`));
  }

  /** A stream with an end ends by itself when that has come. */
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
