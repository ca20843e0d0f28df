/**
 * What the stream has brought. Messages are put together at once, and screens are told once a frame: read `edgesTick`
 * (or `flowsTick`) in a component, and the maps beside it.
 */
import { signal } from '@preact/signals';
import type {
  EdgeInfo,
  EdgeRow,
  EdgesMessage,
  FlowRow,
  NodeBrief,
  StreamMessage,
  View,
} from '../../src/ui/wire/messages.js';

/** Flows that are kept. */
export const MOST_FLOWS = 5000;

/** An edge with its numbers in the window. */
export interface EdgeState {
  readonly info: EdgeInfo;
  firstMs: number;
  lastMs: number;
  connections: number;
  bytes: number;
  drops: number;
  /** Bit n: seen n days ago. */
  days: number;
  /** Bit n: seen in hour n, UTC. */
  hours: number;
}

/** What is said of the edges as a whole. */
export interface EdgesHead {
  readonly caughtUp: boolean;
  readonly beganMs: number | undefined;
  /** 0 too where it is not told. */
  readonly overflow: number;
  readonly more: boolean;
  readonly unavailable: readonly string[];
  /** The server's clock minus this one's. */
  readonly skewMs: number;
}

const NOTHING: EdgesHead = {
  caughtUp: false,
  beganMs: undefined,
  overflow: 0,
  more: false,
  unavailable: [],
  skewMs: 0,
};

const LEAST_SKEW_MS = 1000;

/** By id. Not to be changed by screens. */
export const edges = new Map<number, EdgeState>();
/** Another number after each frame in which edges have changed. */
export const edgesTick = signal(0);
export const edgesHead = signal<EdgesHead>(NOTHING);

/** The newest at the end. */
export const flows: FlowRow[] = [];
export const flowsTick = signal(0);
/** Whether the stream has said yet which flows there are. */
export const flowsKnown = signal(false);
/** Since the stream began: flows that matched, those shown, those lost. */
export const flowCounts = { seen: 0, shown: 0, lost: 0 };

export const nodes = signal<readonly NodeBrief[] | undefined>(undefined);
/** Another number: what was asked about policies is to be asked again. */
export const policiesTick = signal(0);
/** By what it is about; no entry: no trouble. */
export const troubles = signal<Readonly<Record<string, string>>>({});

let due = false;
const dirty = { edges: false, flows: false };

/** A stream has been opened: what was shown of another is dropped when the first of the new has come. */
let isFresh = { edges: false, flows: false };
export function begin(_: View): void {
  isFresh = { edges: true, flows: true };
  flowsKnown.value = false;
}

/** Takes a message. */
export function receive(message: StreamMessage): void {
  switch (message.type) {
    case 'edges':
      takeEdges(message);
      dirty.edges = true;
      break;
    case 'flows':
      if (isFresh.flows) {
        flows.length = 0;
        Object.assign(flowCounts, { seen: 0, shown: 0, lost: 0 });
        isFresh.flows = false;
        flowsKnown.value = true;
      }
      flows.push(...message.flows);
      if (flows.length > MOST_FLOWS) flows.splice(0, flows.length - MOST_FLOWS);
      flowCounts.seen += message.seen;
      flowCounts.shown += message.flows.length;
      flowCounts.lost += message.lost ?? 0;
      dirty.flows = true;
      break;
    case 'nodes':
      nodes.value = message.nodes;
      note('nodes', '');
      break;
    case 'changed':
      policiesTick.value++;
      break;
    case 'trouble':
      note(message.about, message.message);
      break;
    default:
      message satisfies never;
  }
  if (due) return;
  due = true;
  requestAnimationFrame(tell);
}

function tell(): void {
  due = false;
  if (dirty.edges) edgesTick.value++;
  if (dirty.flows) flowsTick.value++;
  dirty.edges = dirty.flows = false;
}

function takeEdges(m: EdgesMessage): void {
  if (isFresh.edges) {
    edges.clear();
    isFresh.edges = false;
  }
  for (const id of m.gone ?? []) edges.delete(id);
  for (const info of m.edges)
    edges.set(info.id, { info, firstMs: 0, lastMs: 0, connections: 0, bytes: 0, drops: 0, days: 0, hours: 0 });
  for (const row of m.rows) takeRow(row);
  const head = {
    caughtUp: m.caughtUp,
    beganMs: m.beganMs,
    overflow: m.overflow ?? 0,
    more: m.more,
    unavailable: m.unavailable,
    skewMs: m.nowMs - Date.now(),
  };
  // A message takes some time on its way, each another: that is no other clock, and nothing is to be shown anew for it.
  const before = edgesHead.peek();
  if (Math.abs(head.skewMs - before.skewMs) < LEAST_SKEW_MS) head.skewMs = before.skewMs;
  if (JSON.stringify(head) !== JSON.stringify(before)) edgesHead.value = head;
}

function takeRow([id, firstMs, lastMs, connections, bytes, drops, days, hours]: EdgeRow): void {
  const edge = edges.get(id);
  if (edge) Object.assign(edge, { firstMs, lastMs, connections, bytes, drops, days, hours });
}

function note(about: string, message: string): void {
  if ((troubles.value[about] ?? '') === message) return;
  const { [about]: _, ...rest } = troubles.value;
  troubles.value = message === '' ? rest : { ...rest, [about]: message };
}
