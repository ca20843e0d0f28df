/** The screen flows: single flows as they come, or what they sum up to. */
import { useEffect, useMemo } from 'preact/hooks';
import { type Key, useKeys } from '../frame/keys.js';
import { param, set } from '../state/url.js';
import { isSums } from './columns.js';
import { lineOfEdge, lineOfFlow, offers, whyOf } from './lines.js';
import { ChipMenu, offerChips } from './menu.js';
import { NoFlows } from './none.js';
import {
  followRows,
  lineCount,
  pause,
  paused,
  resume,
  rowAt,
  select,
  selected,
  selectedAt,
  selectedRow,
} from './rows.js';
import { Table } from './table.js';
import { Tools } from './tools.js';

const PAGE = 20;

export function FlowsScreen() {
  useEffect(followRows, []);
  useKeys(useMemo(keys, []));
  const isEmpty = lineCount() === 0;
  return (
    <div class="flows">
      <Tools />
      {isEmpty ? <NoFlows /> : <Table open={openWhy} />}
      <ChipMenu />
    </div>
  );
}

/** Shows why the selected line is as it is; of none, the first. */
function openWhy(): void {
  if (!selectedRow()) select(rowAt(0));
  const row = selectedRow();
  if (row) set({ why: whyOf(row) });
}

/** The drawer shows what is selected. */
function follow(): void {
  const row = selectedRow();
  if (row && param('why') !== null) set({ why: whyOf(row) }, true);
}

function move(steps: number): void {
  const at = selectedAt();
  const last = lineCount() - 1;
  if (last < 0) return;
  // Of what moves, the newest is selected first.
  select(rowAt(at < 0 ? (steps > 1 ? last : 0) : Math.max(0, Math.min(last, at + steps))));
  follow();
}

function keys(): Key[] {
  const offer = (not: boolean) => {
    const row = selectedRow();
    if (row) offerChips(not, offers('info' in row ? lineOfEdge(row) : lineOfFlow(row)));
  };
  const byArrows: Key[] = [
    { keys: 'ArrowDown', about: 'the next line', run: () => move(1) },
    { keys: 'ArrowUp', about: 'the line before', run: () => move(-1) },
    { keys: 'PageDown', about: `${PAGE} lines on`, run: () => move(PAGE) },
    { keys: 'PageUp', about: `${PAGE} lines back`, run: () => move(-PAGE) },
    { keys: 'Home', about: 'the first line', run: () => move(-Number.MAX_SAFE_INTEGER) },
    { keys: 'End', about: 'the last line', run: () => move(Number.MAX_SAFE_INTEGER) },
  ];
  return [
    { keys: 'j', about: 'the next line', run: () => move(1) },
    { keys: 'k', about: 'the line before', run: () => move(-1) },
    { keys: 'Enter', about: 'why is it so?', run: openWhy },
    { keys: 'x', about: 'leave out what is like the selected line', run: () => offer(true) },
    { keys: 'f', about: 'show only what is like the selected line', run: () => offer(false) },
    { keys: ' ', about: 'pause, and go on', run: () => (paused.peek() ? resume() : pause()) },
    { keys: 'm', about: 'single flows, or sums', run: () => set({ mode: isSums.peek() ? undefined : 'sums' }) },
    { keys: 'u', about: 'select nothing', run: () => void (selected.value = undefined) },
    ...byArrows,
  ];
}
