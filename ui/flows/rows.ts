/** Which flows or edges the table shows, and which is selected. */
import { computed, effect, signal, untracked } from '@preact/signals';
import type { FlowRow } from '../../src/ui/wire/messages.js';
import { edgeFilter } from '../state/match.js';
import { edges, type EdgeState, edgesTick, flowCounts, flows, flowsTick } from '../state/store.js';
import { chips, namespaces, param, set, window_ } from '../state/url.js';
import { isSums } from './columns.js';

type Row = FlowRow | EdgeState;

/** Edges are sorted anew at most so often, milliseconds. */
const SORT_MS = 500;

export const SORTS = ['last', 'count', 'bytes'] as const;
type Sort = (typeof SORTS)[number];
export const sort = computed<Sort>(() => SORTS.find((s) => s === param('sort')) ?? 'last');

const keys: Readonly<Record<Sort, (e: EdgeState) => number>> = {
  last: (e) => e.lastMs,
  count: (e) => e.connections,
  bytes: (e) => e.bytes,
};

export function setSort(next: Sort): void {
  set({ sort: next === 'last' ? undefined : next }, true);
  const rows = paused.peek();
  if (rows && isSums.peek()) paused.value = sorted(rows as readonly EdgeState[]);
}

function sorted(rows: readonly EdgeState[]): EdgeState[] {
  const key = keys[sort.peek()];
  return rows.toSorted((a, b) => key(b) - key(a) || a.info.id - b.info.id);
}

/** What was shown when the table was paused; undefined: it goes on. */
export const paused = signal<readonly Row[] | undefined>(undefined);
/** Flows that had come by then. */
let shownBefore = 0;
let knownBefore: ReadonlySet<number> = new Set();
/** Id of the line that is selected; undefined: none. */
export const selected = signal<number | undefined>(undefined);

const sums = signal<readonly EdgeState[]>([]);
let sortedAt = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Follows the store while the screen is shown. @returns what ends it */
export function followRows(): () => void {
  let before = '';
  const stopSums = effect(() => {
    void edgesTick.value;
    if (!isSums.value) return;
    const wanted = JSON.stringify([sort.value, chips.value, namespaces.value, window_.value]);
    const wait = wanted === before ? sortedAt + SORT_MS - performance.now() : 0;
    before = wanted;
    clearTimeout(timer);
    if (wait > 0) timer = setTimeout(sortEdges, wait);
    else untracked(sortEdges);
  });
  let last = '';
  const stopPause = effect(() => {
    // What is paused is of what was asked for then.
    const now = JSON.stringify([isSums.value, chips.value, namespaces.value, window_.value]);
    if (last !== '' && now !== last) {
      untracked(resume);
    }
    last = now;
  });
  return () => {
    stopSums();
    stopPause();
    clearTimeout(timer);
    resume();
  };
}

function sortEdges(): void {
  sortedAt = performance.now();
  const fits = edgeFilter(chips.peek());
  const found: EdgeState[] = [];
  for (const edge of edges.values()) if (edge.lastMs > 0 && fits(edge.info)) found.push(edge);
  sums.value = sorted(found);
}

/** Number of lines. Read in a component: it is drawn anew when they change. */
export function lineCount(): number {
  if (paused.value) return paused.value.length;
  if (isSums.value) return sums.value.length;
  void flowsTick.value;
  return flows.length;
}

/** The newest first. */
export function rowAt(n: number): Row | undefined {
  if (paused.peek()) return paused.peek()?.[n];
  return isSums.peek() ? sums.peek()[n] : flows[flows.length - 1 - n];
}

function idOf(row: Row): number {
  return 'info' in row ? row.info.id : row.id;
}

/** All that is shown. */
export function shownRows(): readonly Row[] {
  return paused.peek() ?? (isSums.peek() ? sums.peek() : flows.toReversed());
}

/** Keeps what is shown as it is. */
export function pause(): void {
  if (paused.peek()) return;
  // Of edges, the numbers go on in place: those that are shown now are kept, in their order.
  const rows = isSums.peek() ? sorted(sums.peek().map((edge) => ({ ...edge }))) : shownRows();
  shownBefore = flowCounts.shown;
  knownBefore = isSums.peek() ? new Set(edges.keys()) : new Set();
  paused.value = rows;
}

export function resume(): void {
  paused.value = undefined;
  selected.value = undefined;
}

/** What has come since the pause: flows, or edges that were not there. */
export function newCount(): number {
  if (!paused.value) return 0;
  if (!isSums.value) {
    void flowsTick.value;
    return Math.max(0, flowCounts.shown - shownBefore);
  }
  void edgesTick.value;
  let n = 0;
  for (const id of edges.keys()) if (!knownBefore.has(id)) n++;
  return n;
}

/** Selects a line, and pauses. */
export function select(row: Row | undefined): void {
  if (!row) return;
  pause();
  selected.value = idOf(row);
}

/** Place of the selected line; -1: none. */
export function selectedAt(): number {
  const id = selected.value;
  if (id === undefined) return -1;
  return paused.value?.findIndex((row) => idOf(row) === id) ?? -1;
}

/** The selected flow or edge. */
export function selectedRow(): Row | undefined {
  const at = selectedAt();
  return at < 0 ? undefined : rowAt(at);
}
