/** GetFlows over several nodes: what one agent answers for itself, for all of them. */
import { AgentError } from '../errors.js';
import { compileFilter } from '../flow/filter.js';
import type { GetFlowsRequest, GetRecordsResponse } from '../rpc/messages.js';
import { Live } from './live.js';
import { type FlowNode, type FlowNodes, faultEvent, isRefusal, nodeEvent } from './nodes.js';
import { Pump } from './pump.js';

export interface MergedFlowsOptions {
  /** Milliseconds that a flow waits for other nodes' earlier ones, when following. */
  holdBackMs?: number;
  /** Milliseconds that an answer waits for a node that is silent. */
  stallMs?: number;
  /** Milliseconds before a lost node is tried again, the first time. */
  retryMs?: number;
}

const DEFAULTS = { holdBackMs: 500, stallMs: 5000, retryMs: 1000 };
/** Responses held of all nodes; about 2 KiB each. */
const MOST_HELD = 16_384;
/** "The last N of the cluster" must be held until the last node has ended. */
const LARGEST_TAIL = 50_000;
/** From here on a number means all there are. */
const ALL = 2 ** 32;

/**
 * Flows of all nodes in time order, with the nodes that cannot be reached as NodeStatusEvents: they never hold up the
 * others. `number` counts the cluster's flows, not each node's. Field masks are not applied.
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
  const counted = number > 0 && number < ALL;
  try {
    if (!request.follow) {
      const past = history(nodes.list(), request, ending.signal, opts);
      if (!counted || (request.since && !request.first)) yield* past;
      else yield* request.first ? head(past, number) : tail(past, number);
      return;
    }
    // First the streams of what is to come are opened, then the past is asked for: nothing falls between them.
    const live = new Live(nodes, request, ending.signal, { ...opts, most: MOST_HELD });
    const opened = await live.open();
    if (request.since || number > 0) {
      const { follow: _, ...past } = request;
      const told = history(opened, past, ending.signal, opts, (node, flow) => live.told(node, flow));
      yield* counted && !request.since ? tail(told, number) : told;
    }
    yield* live.items();
  } finally {
    signal.removeEventListener('abort', end);
    ending.abort();
  }
}

/** Answers that end, each in order, into one in order. A node that is silent for too long is left out. */
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
      pump.tell(nodeEvent('NODE_UNAVAILABLE', [node.name], `${node.name} did not answer within ${seconds} s`));
    }
  };
  const pump = new Pump({
    holdBackMs: Number.POSITIVE_INFINITY,
    most: Number.POSITIVE_INFINITY,
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
      else if (!end.signal.aborted) pump.tell(faultEvent(node, e));
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

/** The first `number` flows; losses and states of nodes are not counted. */
async function* head(items: AsyncIterable<GetRecordsResponse>, number: number): AsyncGenerator<GetRecordsResponse> {
  let told = 0;
  for await (const item of items) {
    yield item;
    if (item.record && ++told >= number) return;
  }
}

/** The last `number` flows; losses and states of nodes are told as they come. */
async function* tail(items: AsyncIterable<GetRecordsResponse>, number: number): AsyncGenerator<GetRecordsResponse> {
  const ring: GetRecordsResponse[] = [];
  let n = 0;
  for await (const item of items) {
    if (item.record) ring[n++ % number] = item;
    else yield item;
  }
  for (let i = Math.max(n - number, 0); i < n; i++) yield ring[i % number] as GetRecordsResponse;
}

function limit(value: GetFlowsRequest['number']): number {
  const n = Number(value ?? 0);
  if (!(n >= 0)) {
    throw new AgentError('USAGE', `number: "${value}" is not a number of flows`, { where: { field: 'number' } });
  }
  return n;
}
