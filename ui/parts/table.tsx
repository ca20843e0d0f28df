/** Tables of thousands of rows: only those in sight are drawn. */
import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

export interface Column {
  readonly title: string;
  /** Any width of CSS; absent: an equal part of what is left. */
  readonly width?: string;
  /** Numbers stand at the right. */
  readonly isNumber?: boolean;
  /** The column is left out where the page is narrow. */
  readonly isExtra?: boolean;
}

interface TableProps {
  /** What the rows are. */
  readonly label: string;
  readonly columns: readonly Column[];
  readonly total: number;
  /** Pixels of a row. */
  readonly rowHeight?: number;
  /** The same for the same row; the place, if there is none. */
  readonly keyOf?: (n: number) => string | number;
  /** The cells of a row: as many as there are columns. */
  readonly cells: (n: number) => readonly ComponentChildren[];
  /** Classes of a row. */
  readonly rowClass?: (n: number) => string;
  /** A row that is marked, and brought into sight when it changes. */
  readonly active?: number;
  readonly onRow?: (n: number) => void;
  readonly class?: string;
}

/** Rows beyond those in sight, so that a quick scroll finds something. */
const BEYOND = 8;

/** Give it a place with a height: it scrolls in itself. */
export function Table(props: TableProps) {
  const { label, columns, total, rowHeight = 30, keyOf, cells, rowClass, active, onRow, class: extra = '' } = props;
  const box = useRef<HTMLDivElement>(null);
  const [seen, see] = useState({ top: 0, height: 600 });
  useLayoutEffect(() => {
    const own = box.current;
    if (!own) return;
    const look = () => see({ top: own.scrollTop, height: own.clientHeight });
    look();
    const observer = new ResizeObserver(look);
    observer.observe(own);
    own.addEventListener('scroll', look, { passive: true });
    return () => {
      observer.disconnect();
      own.removeEventListener('scroll', look);
    };
  }, []);
  useEffect(() => {
    const own = box.current;
    if (!own || active === undefined || active < 0) return;
    const [above, below] = [active * rowHeight, (active + 1) * rowHeight];
    // The head covers one row.
    if (above < own.scrollTop) own.scrollTop = above;
    else if (below + rowHeight > own.scrollTop + own.clientHeight) own.scrollTop = below + rowHeight - own.clientHeight;
  }, [active]);
  const first = Math.max(0, Math.min(Math.floor(seen.top / rowHeight) - BEYOND, total - 1));
  const end = Math.min(total, Math.ceil((seen.top + seen.height) / rowHeight) + BEYOND);
  const rows = Array.from({ length: Math.max(0, end - first) }, (_, n) => first + n);
  const classOf = (n: number) => `${columns[n]?.isNumber ? 'number ' : ''}${columns[n]?.isExtra ? 'extra' : ''}`.trim();
  return (
    // A region that scrolls can be reached by Tab, or nobody scrolls it by keys.
    // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls
    <section class={`table-box ${extra}`} ref={box} tabIndex={0} aria-label={label}>
      <table class="table" aria-rowcount={total + 1}>
        <thead>
          <tr aria-rowindex={1}>
            {columns.map(({ title, width }, n) => (
              <th key={title} scope="col" class={classOf(n)} style={width === undefined ? undefined : { width }}>
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {first > 0 && <tr style={{ height: `${first * rowHeight}px` }} />}
          {rows.map((n) => (
            <tr
              key={keyOf?.(n) ?? n}
              aria-rowindex={n + 2}
              class={`${rowClass?.(n) ?? ''}${n === active ? ' active' : ''}${onRow ? ' clickable' : ''}`}
              style={{ height: `${rowHeight}px` }}
              onClick={onRow ? (event) => isOwnClick(event) && onRow(n) : undefined}
            >
              {cells(n).map((cell, column) => (
                <td key={columns[column]?.title ?? column} class={classOf(column)}>
                  {cell}
                </td>
              ))}
            </tr>
          ))}
          {end < total && <tr style={{ height: `${(total - end) * rowHeight}px` }} />}
        </tbody>
      </table>
    </section>
  );
}

/** A click of a row, and not of a link or a button in it. */
function isOwnClick({ target }: MouseEvent): boolean {
  return target instanceof Element && target.closest('a, button, input, label, select') === null;
}
