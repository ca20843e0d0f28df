/** GetFlows over several nodes, with the same semantics as on one agent. */
import { AgentError } from '../../errors.js';
import { compileFilter } from '../../flow/filter/filter.js';
import type { GetFlowsRequest, GetRecordsResponse } from '../../proto/messages.js';
import { Live } from './live.js';
import { HELD_BYTES, sizeOf, TAIL_BYTES } from './memory.js';
import { type FlowNode, type FlowNodes, faultEvent, isRefusal, nodeEvent } from '../nodes/nodes.js';
import { Pump } from './pump.js';

export interface MergedFlowsOptions {
  /** Time that a flow waits for earlier flows of other nodes when following, in milliseconds. */
  holdBackMs?: number;
  /** Time that an answer waits for a silent node, in milliseconds. */
  stallMs?: number;
  /** First delay before a lost node is tried again, in milliseconds. */
  retryMs?: number;
}

const DEFAULTS = { holdBackMs: 500, stallMs: 5000, retryMs: 1000 };
/** Maximum number of buffered responses of all nodes; about 2 KiB each. Larger ones are limited by HELD_BYTES. */
const MOST_HELD = 16_384;
/** Maximum of `number` for the last flows of the cluster, which must be buffered until the last node has ended. */
const LARGEST_TAIL = 50_000;
/** From here on, a number means all flows. */
const ALL = 2 ** 32;

/**
 * Flows of all nodes in time order. Unreachable nodes are reported as NodeStatusEvents and never delay the others.
 * `number` counts the cluster's flows, not those of each node. Field masks are not applied.
 * @throws AgentError USAGE, before the first item
 */
export function mergedFlows(
  nodes: FlowNodes,
  request: GetFlowsRequest,
  signal: AbortSignal,
  options: MergedFlowsOptions = {},
): AsyncIterable<GetRecordsResponse> {
  const { first, follow, since } = request;
  if (first && follow) {
    throw new AgentError('USAGE', 'first and follow exclude each other', { where: { field: 'first' } });
  }
  compileFilter(request.whitelist, request.blacklist);
  const number = limit(request.number);
  if (number > LARGEST_TAIL && number < ALL && !first && !since) {
    throw new AgentError('USAGE', `number: ${number} are more flows than can be sorted at once`, {
      hint: `at most ${LARGEST_TAIL} of several nodes; or all of them, or those since a time`,
    });
  }
  return read(nodes, { ...request, field_mask: { paths: [] } }, number, signal, { ...DEFAULTS, ...options });
}

async function* read(
  nodes: FlowNodes,
  request: GetFlowsRequest,
  number: number,
  signal: AbortSignal,
  opts: Required<MergedFlowsOptions>,
): AsyncGenerator<GetRecordsResponse> {
  const ending = new AbortController();
  const end = () => ending.abort();
  signal.addEventListener('abort', end);
  if (signal.aborted) end();
  HELD_BYTES.enter();
  const counted = number > 0 && number < ALL;
  try {
    if (!request.follow) {
      const past = history(nodes.list(), request, ending.signal, opts);
      if (!counted || (request.since && !request.first)) yield* past;
      else yield* request.first ? head(past, number) : tail(past, number);
      return;
    }
    // The streams of future flows are opened before past flows are requested, so that none is missed in between.
    const live = new Live(nodes, request, ending.signal, {
      ...opts,
      most: MOST_HELD,
      mostBytes: () => HELD_BYTES.share,
    });
    const opened = await live.open();
    if (request.since || number > 0) {
      const { follow: _, ...past } = request;
      const pastFlows = history(opened, past, ending.signal, opts, (node, flow) => live.notePast(node, flow));
      yield* counted && !request.since ? tail(pastFlows, number) : pastFlows;
    }
    yield* live.items();
  } finally {
    signal.removeEventListener('abort', end);
    ending.abort();
    HELD_BYTES.leave();
  }
}

/** Merges finite sorted answers into one. A node that is silent for too long is left out. */
async function* history(
  nodes: readonly FlowNode[],
  request: GetFlowsRequest,
  signal: AbortSignal,
  opts: Required<MergedFlowsOptions>,
  note: (node: string, flow: GetRecordsResponse) => void = () => {},
): AsyncGenerator<GetRecordsResponse> {
  const ends = new Map<string, AbortController>();
  let running = nodes.length;
  let refused: AgentError | undefined;
  const giveUp = (ids: readonly string[]) => {
    for (const node of nodes) {
      if (!ids.includes(node.id)) continue;
      ends.get(node.id)?.abort();
      pump.leave(node.id);
      const seconds = opts.stallMs / 1000;
      pump.sendNow(nodeEvent('NODE_UNAVAILABLE', [node.name], `${node.name} did not answer within ${seconds} s`));
    }
  };
  const pump = new Pump({
    holdBackMs: Number.POSITIVE_INFINITY,
    most: Number.POSITIVE_INFINITY,
    mostBytes: () => HELD_BYTES.share,
    mostOfEach: Math.max(16, Math.min(256, Math.floor(MOST_HELD / Math.max(nodes.length, 1)))),
    stallMs: opts.stallMs,
    onStall: giveUp,
  });
  const readNode = async (node: FlowNode) => {
    const end = new AbortController();
    const abort = () => {
      end.abort();
      pump.nudge();
    };
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    ends.set(node.id, end);
    try {
      await pump.feed(node.id, node.getRecords(request, end.signal), end.signal, (response) => {
        if (response.record) note(node.id, response);
        return true;
      });
    } catch (e) {
      if (isRefusal(e)) refused = e;
      else if (!end.signal.aborted) pump.sendNow(faultEvent(node, e));
    } finally {
      signal.removeEventListener('abort', abort);
      running--;
      pump.leave(node.id);
    }
  };
  for (const node of nodes) pump.join(node.id);
  const reading = nodes.map(readNode);
  try {
    for await (const response of pump.items(() => running === 0, signal)) {
      if (refused) throw refused;
      yield response;
    }
    if (refused) throw refused;
  } finally {
    for (const end of ends.values()) end.abort();
    pump.nudge();
    await Promise.allSettled(reading);
  }
}

/** The first `number` flows. Losses and changes of nodes do not count. */
async function* head(items: AsyncIterable<GetRecordsResponse>, number: number): AsyncGenerator<GetRecordsResponse> {
  let count = 0;
  for await (const item of items) {
    yield item;
    if (item.record && ++count >= number) return;
  }
}

/**
 * The last `number` flows. Losses and changes of nodes are passed on at once. If the flows are too large to be kept, the
 * oldest are dropped and reported as lost.
 */
async function* tail(items: AsyncIterable<GetRecordsResponse>, number: number): AsyncGenerator<GetRecordsResponse> {
  const ring: (GetRecordsResponse | undefined)[] = [];
  const sizes: number[] = [];
  let n = 0;
  /** Number of the oldest kept flow, and the size of all kept ones. */
  let oldest = 0;
  let bytes = 0;
  let dropped: GetRecordsResponse | undefined;
  const drop = () => {
    const at = oldest++ % number;
    dropped = ring[at];
    ring[at] = undefined;
    bytes -= sizes[at] as number;
  };
  TAIL_BYTES.enter();
  try {
    for await (const item of items) {
      if (!item.record) {
        yield item;
        continue;
      }
      if (n - oldest === number) drop();
      ring[n % number] = item;
      bytes += sizes[n % number] = sizeOf(item);
      n++;
      while (bytes > TAIL_BYTES.share && n - oldest > 1) drop();
    }
    const lost = oldest - Math.max(n - number, 0);
    if (lost > 0) {
      const lost_events = { source: 'HUBBLE_RING_BUFFER' as const, num_events_lost: String(lost) };
      yield { lost_events, ...(dropped?.time ? { time: dropped.time } : {}) };
    }
    dropped = undefined;
    for (let i = oldest; i < n; i++) yield ring[i % number] as GetRecordsResponse;
  } finally {
    TAIL_BYTES.leave();
  }
}

function limit(value: GetFlowsRequest['number']): number {
  const n = Number(value ?? 0);
  if (!(n >= 0)) {
    throw new AgentError('USAGE', `number: "${value}" is not a number of flows`, { where: { field: 'number' } });
  }
  return n;
}
