/** Hubs with numbered flows, and what readers of them get. */
import { FlowHub, type HubItem, type Records } from '../../src/flow/hub/hub.js';
import type { GetFlowsRequest, Timestamp } from '../../src/proto/messages.js';
import { LEAD, numbered, SECOND } from './flows.js';

export const STEP = 1e6;

export function never(): AbortSignal {
  return new AbortController().signal;
}

/** When the n-th flow was, and so many milliseconds later. */
export function at(n: number, laterMs = 0): Timestamp {
  const ns = LEAD + BigInt(100e9 + n * STEP + laterMs * 1e6);
  return { seconds: String(ns / SECOND), nanos: Number(ns % SECOND) };
}

/** What the kernel would have sent: the number of the flow, and its time. */
export const records: Records = {
  size: 16,
  timeNs: (buf, at) => buf.readDoubleLE(at),
  flow: (buf, at) => numbered(buf.readInt32LE(at + 8), buf.readInt32LE(at + 12)),
};
const record = Buffer.from(new ArrayBuffer(24));

/** Flow n: two of three as records, which nobody may tell from flows. */
export function put(hub: FlowHub, n: number, step = 1e6): void {
  const flow = numbered(n, step);
  if (n % 3 === 0) {
    hub.publish(flow);
    return;
  }
  record.writeDoubleLE(flow.event.timeNs, 8);
  record.writeInt32LE(n, 16);
  record.writeInt32LE(step, 20);
  hub.note(record, 8);
  record.fill(0);
}

export function hubWith(count: number, capacity = 15): { hub: FlowHub; clock: { now: bigint } } {
  const clock = { now: LEAD + BigInt(100e9 + count * STEP) };
  const hub = new FlowHub({ nodeName: 'node-a', records, capacity, now: () => clock.now });
  for (let i = 0; i < count; i++) put(hub, i, STEP);
  return { hub, clock };
}

/** Numbers of flows; losses as `-count`, those of the kernel as text. */
export function brief(item: HubItem): number | string {
  if ('flow' in item) return item.flow.source.port;
  return item.lost.source === 'HUBBLE_RING_BUFFER' ? -item.lost.count : `kernel ${item.lost.count}`;
}

export async function all(hub: FlowHub, req: GetFlowsRequest, signal = never()): Promise<(number | string)[]> {
  const out: (number | string)[] = [];
  for await (const item of hub.read(req, signal)) out.push(brief(item));
  return out;
}

/** Lets waiting readers run. */
export async function idle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Reads in the background. */
export function follow(hub: FlowHub, req: GetFlowsRequest): { got: (number | string)[]; stop: () => Promise<void> } {
  const abort = new AbortController();
  const got: (number | string)[] = [];
  const done = (async () => {
    for await (const item of hub.read({ follow: true, ...req }, abort.signal)) got.push(brief(item));
  })();
  return {
    got,
    stop: async () => {
      abort.abort();
      await done;
    },
  };
}
