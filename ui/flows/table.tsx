// biome-ignore-all lint/a11y/useKeyWithClickEvents: the screen has the keys
// biome-ignore-all lint/a11y/useSemanticElements: rows that are placed one by one, of which most are not there, are no table of HTML
// biome-ignore-all lint/a11y/useFocusableInteractive: the grid has the focus, and names the selected row
/** The table: rows of one height, of which only those are there that are seen. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { parseChip } from '../../src/ui/wire/chips.js';
import { edgesHead } from '../state/store.js';
import { addChip } from '../state/url.js';
import { columns, isSums } from './columns.js';
import { followFit, measure, tracks } from './fit.js';
import { type Line, lineOfEdge, lineOfFlow } from './lines.js';
import { lineCount, pause, paused, rowAt, select, selectedAt, setSort, sort, SORTS } from './rows.js';

/** Pixels. */
const ROW = 28;
/** Rows above and below what is seen. */
const BEYOND = 6;

/** @param open shows why the selected line is as it is */
export function Table({ open }: { open: () => void }) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(800);
  const n = lineCount();
  const at = selectedAt();

  useEffect(followFit, []);
  useLayoutEffect(() => {
    const element = box.current as HTMLDivElement;
    const observer = new ResizeObserver(() => setHeight(element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    // Whoever resumes wants to see the newest.
    if (paused.value === undefined && box.current && box.current.scrollTop > 0) box.current.scrollTop = 0;
  }, [paused.value === undefined, isSums.value]);
  useEffect(() => {
    const element = box.current;
    if (at < 0 || !element) return;
    const [above, below] = [at * ROW, (at + 1) * ROW - (element.clientHeight - ROW)];
    if (element.scrollTop > above) element.scrollTop = above;
    else if (element.scrollTop < below) element.scrollTop = below;
  }, [at]);

  const first = Math.max(0, Math.min(Math.floor(top / ROW) - BEYOND, n - 1));
  const end = Math.min(n, Math.ceil((top + height) / ROW) + BEYOND);
  const lines: Line[] = [];
  const rows = [];
  for (let i = first; i < end; i++) {
    const row = rowAt(i);
    if (!row) continue;
    const line = 'info' in row ? lineOfEdge(row) : lineOfFlow(row);
    lines.push(line);
    // Elements are used again: the key is the place in what is seen.
    rows.push(<Row key={i % (end - first)} at={i} line={line} isSelected={i === at} />);
  }
  useLayoutEffect(() => measure(lines));
  return (
    <div
      class="grid"
      role="grid"
      aria-label={isSums.value ? 'Connections, summed up' : 'Flows'}
      aria-rowcount={n + 1}
      aria-colcount={columns.value.length}
      aria-activedescendant={at >= first && at < end ? `line-${at}` : undefined}
      tabIndex={0}
      ref={box}
      style={{ '--tracks': tracks.value }}
      onScroll={(e) => {
        const { scrollTop } = e.currentTarget;
        setTop(scrollTop);
        // What is read does not move away.
        if (scrollTop > ROW && n > 0) pause();
      }}
      onClick={(e) => {
        const target = e.target as HTMLElement;
        const chip = parseChip(target.closest<HTMLElement>('[data-chip]')?.dataset['chip'] ?? '');
        const row = target.closest<HTMLElement>('[data-at]');
        if (chip) addChip(e.shiftKey ? { ...chip, not: true } : chip);
        else if (row) select(rowAt(Number(row.dataset['at'])));
      }}
      onDblClick={(e) => {
        if ((e.target as HTMLElement).closest('[data-at]')) open();
      }}
    >
      <div role="rowgroup" class="head">
        <div role="row" class="line" aria-rowindex={1}>
          {columns.value.map((column) => (
            <Header key={column.id} id={column.id} title={column.title} isNumber={column.isNumber} />
          ))}
        </div>
      </div>
      <div role="rowgroup" class="body" style={{ height: `${n * ROW}px` }}>
        {rows}
      </div>
    </div>
  );
}

function Header({ id, title, isNumber }: { id: string; title: string; isNumber: boolean | undefined }) {
  const by = isSums.value ? SORTS.find((s) => s === (id === 'time' ? 'last' : id)) : undefined;
  const isSorted = by !== undefined && sort.value === by;
  return (
    <div role="columnheader" class={isNumber ? 'number' : ''} aria-sort={isSorted ? 'descending' : undefined}>
      {by === undefined ? (
        title
      ) : (
        <button type="button" onClick={() => setSort(by)}>
          {title}
          <span aria-hidden="true">{isSorted ? ' ↓' : ''}</span>
        </button>
      )}
    </div>
  );
}

function Row({ at, line, isSelected }: { at: number; line: Line; isSelected: boolean }) {
  const nowMs = Date.now() + edgesHead.peek().skewMs;
  return (
    <div
      role="row"
      id={`line-${at}`}
      class={`line ${line.shown}`}
      aria-rowindex={at + 2}
      aria-selected={isSelected}
      data-at={at}
      style={{ transform: `translateY(${at * ROW}px)` }}
    >
      {columns.value.map(({ id, isNumber, cell }) => (
        <div role="gridcell" key={id} class={isNumber ? 'number' : id}>
          {cell(line, nowMs)}
        </div>
      ))}
    </div>
  );
}
